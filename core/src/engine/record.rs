//! What the loop keeps of one connection.

use std::net::{SocketAddr, SocketAddrV6};
use std::path::PathBuf;

use super::connector::Dial;
use super::fragments::Fragments;
use super::outbox::Outbox;
use super::pings::{ANSWERED, Pings};
use super::timers::Millis;
use super::topics::Subscription;
use super::transport::Transport;
use crate::close::Side;
use crate::error::Failure;
use crate::event::{Address, ReadyState};
use crate::protocol::connection::Protocol;
use crate::protocol::deflate::Compressor;
use crate::protocol::frame::Role;

/// Where a connection is on its way; the WebSocket part of it is told in detail by `Record::protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Client: the name is being looked up.
    Resolving,
    /// Client: TCP is being opened, to one address or several.
    Dialing,
    /// Client: the proxy has not opened its tunnel.
    Proxying,
    /// The handshake of TLS is under way.
    Securing,
    /// Server: the request has not come, or not all of it.
    Request,
    /// Server: the program will answer the request later; the peer is not read.
    Deferred,
    /// Client: the answer has not come, or not all of it.
    Response,
    /// Open, or in the closing handshake.
    WebSocket,
    /// An HTTP answer that the program writes to.
    Stream,
    /// What waits is written, then our side is shut, then the peer's end is awaited: closing at once, with bytes unread,
    /// would make the kernel send a reset that destroys what is under way to the peer.
    Ending,
    /// The transport is gone; `on_close` is owed, or has just been told.
    Dead,
}

/// How a connection ends, as far as it is known.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) code: u16,
    pub(super) reason: String,
    pub(super) was_clean: bool,
    pub(super) by: Side,
    pub(super) failure: Option<Failure>,
}

/// What only few connections need, or for a short while.
#[derive(Debug, Default)]
pub(super) struct Extra {
    /// The part of an HTTP head that has come, and how much of it was searched for its end; all of it while its answer is
    /// deferred.
    pub(super) head: Vec<u8>,
    pub(super) scanned: usize,
    /// Bytes that were received and not parsed, because the program paused, closed, or has yet to answer.
    pub(super) carry: Vec<u8>,
    /// The last bytes of what came while the connection was ending: a Close may come in pieces.
    pub(super) tail: Vec<u8>,
    /// The newest ping that waits for the backlog to be drained (RFC 6455 section 5.5.3).
    pub(super) pong: Option<Vec<u8>>,
    /// The program's own pings that were not answered.
    pub(super) pings: Pings,
    /// The message that is being sent in fragments.
    pub(super) fragments: Option<Box<Fragments>>,
    pub(super) dial: Option<Box<Dial>>,
    pub(super) subprotocol: Option<Box<str>>,
    pub(super) unix_path: Option<PathBuf>,
    /// What this connection has sent, for later messages to refer to.
    pub(super) compressor: Option<Compressor>,
    pub(super) ending: Option<Box<Ending>>,
    pub(super) lost_messages: u32,
    /// Messages that were in the outbox when the transport was given up.
    pub(super) unwritten_messages: u64,
    /// Bytes that are counted as waiting.
    pub(super) buffered: u64,
    /// Bytes of messages that the backlog's limit dropped before they were begun.
    pub(super) dropped_bytes: u64,
}

#[derive(Debug)]
pub(super) struct Record {
    pub(super) protocol: Protocol,
    pub(super) outbox: Outbox,
    pub(super) extra: Option<Box<Extra>>,
    #[expect(clippy::box_collection, reason = "rare, and 16 bytes less in every connection")]
    pub(super) subscriptions: Option<Box<Vec<Subscription>>>,
    pub(super) transport: Option<Transport>,
    pub(super) peer: Peer,
    pub(super) user_data: u64,
    /// When the last byte came.
    pub(super) heard_at: Millis,
    /// When this phase, or the closing handshake, began; while OPEN, when the heartbeat's ping was sent (0: none is out).
    pub(super) since: Millis,
    /// Since when no byte of the backlog was taken; 0 where nothing waits for the kernel.
    pub(super) blocked_at: Millis,
    /// The time of this connection's live timer; 0 for none.
    pub(super) timer_at: Millis,
    /// How long the last ping took that was answered, in microseconds; 0 for none.
    pub(super) latency: u32,
    /// The part of a millisecond by which the heartbeat's ping was sent after `since`, or [`ANSWERED`].
    pub(super) heartbeat_micros: u16,
    pub(super) group: u32,
    /// The place among the open connections of the group, or [`NO_MEMBER`].
    pub(super) member: u32,
    pub(super) phase: Phase,
    /// In the list of those to flush.
    pub(super) touched: bool,
    /// In the list of those to read again.
    pub(super) ready: bool,
    /// What is so or not: see `flags!`.
    flags: u8,
}

/// What is so of a connection or not: a bit each, which is 7 bytes less in every connection. A setter answers what it was.
macro_rules! flags {
    ($($(#[$doc:meta])+ $flag:ident $set:ident $bit:literal;)+) => {
        impl Record {
            $(
                $(#[$doc])+
                #[inline(always)]
                pub(super) fn $flag(&self) -> bool {
                    self.flags & 1 << $bit != 0
                }

                #[inline(always)]
                pub(super) fn $set(&mut self, yes: bool) -> bool {
                    let was = self.$flag();
                    self.flags = self.flags & !(1 << $bit) | u8::from(yes) << $bit;
                    was
                }
            )+
        }
    };
}

flags! {
    /// The program knows the number: `on_close` is owed.
    announced set_announced 0;
    /// The peer will send no more, or the transport failed: read on to the end.
    peer_ended set_peer_ended 1;
    /// The program does not want to read.
    paused set_paused 2;
    /// The policy `Pause` does not want to read.
    held set_held 3;
    /// Above the high mark: `on_drain` is owed.
    pressed set_pressed 4;
    /// Ending: finish as soon as everything is written.
    quick set_quick 5;
    /// Stream: the body goes out in chunks.
    chunked set_chunked 6;
    /// Its address has more connections than it may: its request is answered with that.
    is_surplus set_surplus 7;
}

/// The place of a connection that broadcasts do not reach.
pub(super) const NO_MEMBER: u32 = u32::MAX;

// 10,000 idle connections are 10,000 of these.
const _: () = assert!(size_of::<Record>() <= 176);

impl Record {
    pub(super) fn new(group: u32, role: Role, phase: Phase, now: Millis) -> Self {
        Self {
            protocol: Protocol::new(role),
            outbox: Outbox::default(),
            extra: None,
            subscriptions: None,
            transport: None,
            peer: Peer::default(),
            user_data: 0,
            heard_at: now,
            since: now,
            blocked_at: 0,
            timer_at: 0,
            latency: 0,
            heartbeat_micros: ANSWERED,
            group,
            member: NO_MEMBER,
            phase,
            touched: false,
            ready: false,
            flags: 0,
        }
    }

    pub(super) fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// Whether the peer is read: only an open WebSocket can be paused, for handshakes must go on, as far as they can.
    pub(super) fn is_reading(&self) -> bool {
        match self.phase {
            Phase::WebSocket => !(self.paused() || self.held()) || self.protocol.state() != ReadyState::Open,
            phase => phase != Phase::Deferred,
        }
    }

    /// Whether what comes over a WebSocket is told: it is open, and nobody has paused it.
    #[inline]
    pub(super) fn delivers(&self) -> bool {
        self.protocol.state() == ReadyState::Open && !(self.paused() || self.held())
    }

    /// Whether answers may be gathered: a connection that delivers, is not sending a message in fragments, and to which
    /// nothing waits to be written.
    #[inline]
    pub(super) fn may_gather(&self) -> bool {
        self.delivers() && !self.protocol.is_in_message() && self.outbox.is_empty()
    }

    /// Whether the peer has sent nothing since it was asked whether it lives.
    #[inline]
    pub(super) fn is_awaited(&self) -> bool {
        self.heard_at < self.since
    }

    /// Whether nothing but new messages of an open WebSocket is to be looked at when an event tells of bytes.
    #[inline]
    pub(super) fn awaits_only_messages(&self) -> bool {
        self.phase == Phase::WebSocket
            && self.delivers()
            && !self.protocol.receiver.is_partial()
            && !(self.ready || self.is_blocked() || self.peer_ended())
            && self.extra.as_ref().is_none_or(|extra| extra.carry.is_empty())
    }

    /// Whether our side is kept open though all is written: over TLS, after a Close that tells of a failure. Programs whose
    /// TLS cannot be closed by one side alone (asyncio's) would lose the Close with the other side, or answer in vain.
    pub(super) fn holds_its_side(&self) -> bool {
        let is_plain = self.transport.as_ref().is_none_or(Transport::is_plain);
        self.phase == Phase::Ending
            && !(is_plain || self.quick() || self.peer_ended())
            && self.protocol.state() == ReadyState::Closing
    }

    /// Whether what waits is frames of a WebSocket.
    pub(super) fn has_frames(&self) -> bool {
        match self.phase {
            Phase::WebSocket => true,
            // An HTTP answer ends without having been open.
            Phase::Ending => self.protocol.state() != ReadyState::Connecting,
            _ => false,
        }
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked_at != 0
    }

    pub(super) fn peer_address(&self) -> Address {
        match self.peer.address() {
            Some(address) => Address::Tcp(address),
            None => Address::Unix(self.extra.as_ref().and_then(|extra| extra.unix_path.clone())),
        }
    }
}

/// A peer's address over TCP, if it has one: in 22 bytes instead of 32.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Peer {
    /// Of IPv4 the first four.
    ip: [u8; 16],
    /// The network interface that an address of IPv6 is on, if that belongs to it; [`IPV4`] for one of IPv4.
    scope_id: [u8; 4],
    /// 0 where there is no address: nobody has this port.
    port: u16,
}

/// No network interface has this number.
const IPV4: [u8; 4] = [0xff; 4];

impl From<Option<SocketAddr>> for Peer {
    fn from(address: Option<SocketAddr>) -> Self {
        match address {
            None => Self::default(),
            Some(SocketAddr::V4(address)) => {
                let mut ip = [0; 16];
                ip[..4].copy_from_slice(&address.ip().octets());
                Self { ip, scope_id: IPV4, port: address.port() }
            }
            Some(SocketAddr::V6(address)) => {
                let scope_id = address.scope_id().to_ne_bytes();
                Self { ip: address.ip().octets(), scope_id, port: address.port() }
            }
        }
    }
}

impl Peer {
    pub(super) fn address(self) -> Option<SocketAddr> {
        match (self.port, self.scope_id, self.ip) {
            (0, ..) => None,
            (port, IPV4, [a, b, c, d, ..]) => Some(([a, b, c, d], port).into()),
            (port, scope_id, ip) => Some(SocketAddrV6::new(ip.into(), port, 0, u32::from_ne_bytes(scope_id)).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_address_stays_what_it_was() {
        for address in ["127.0.0.1:80", "[::1]:65535", "[::ffff:10.0.0.1]:1", "[fe80::1%3]:9001"] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(Peer::from(Some(address)).address(), Some(address));
        }
        assert_eq!(Peer::from(None).address(), None);
    }
}
