//! What a program hears, and what it answers: the vocabulary between the engine and its callbacks.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::close::Close;
use crate::error::Failure;

mod client;
mod request;

pub use client::{Client, GiveUp, GiveUpKind, Reconnecting};
pub use request::{Headers, Opening, Request, Response, check_header, parse_cookies, parse_query};
pub(crate) use request::{ResponseKind, Secured, is_token};

/// The number of a connection: loop, generation and slot in 64 bits.
///
/// It is a plain number, may be kept and copied anywhere, and never points to another connection: once its connection is
/// gone every call answers [`Error::Closed`](crate::Error::Closed). 0 is never a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Connection(pub(crate) u64);

/// The number of a listener, made like a [`Connection`]'s.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Listener(pub(crate) u64);

/// The number of a program's timer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timer(pub(crate) u64);

macro_rules! number {
    ($name:ident) => {
        impl $name {
            /// The number itself, as other languages carry it.
            pub fn id(self) -> u64 {
                self.0
            }

            /// The handle for a number; any number is allowed, a wrong one is stale.
            pub fn from_id(id: u64) -> Self {
                Self(id)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }
    };
}
number!(Client);
number!(Connection);
number!(Listener);
number!(Timer);

/// Where a listener listens or a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP over IPv4 or IPv6.
    Tcp(SocketAddr),
    /// A Unix socket; peers of one have no path as a rule.
    Unix(Option<PathBuf>),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
            Self::Unix(None) => f.write_str("unix:"),
        }
    }
}

/// `CONNECTING`, `OPEN`, `CLOSING`, `CLOSED`, with the numbers of the WHATWG WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ReadyState {
    /// The opening handshake is under way.
    Connecting = 0,
    /// Messages flow. HTTP streams are in this state as well.
    Open = 1,
    /// A Close was sent or received, or the transport is being ended.
    Closing = 2,
    /// Gone; also what a stale number answers.
    Closed = 3,
}

/// A whole message. The payload is borrowed: in a callback until it returns, in `send` until the call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Text, valid UTF-8.
    Text(&'a str),
    /// Any bytes.
    Binary(&'a [u8]),
}

impl<'a> Message<'a> {
    /// The bytes of either kind.
    pub fn payload(&self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// Whether this is text.
    pub fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }
}

impl<'a> From<&'a str> for Message<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a String> for Message<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a [u8]> for Message<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Binary(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Message<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::Binary(bytes)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Message<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self::Binary(bytes)
    }
}

/// The two kinds of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

/// One frame of a message, where `deliver_fragments` asks for them. The payload is borrowed until the callback returns;
/// text may be cut inside a character, and is checked across fragments all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// The payload of this frame.
    pub payload: &'a [u8],
    /// Whether the message is text.
    pub is_text: bool,
    /// First frame of its message.
    pub is_first: bool,
    /// Last frame of its message.
    pub is_last: bool,
}

/// The callbacks of a listener or of a client connection. Every method has a default that does nothing.
///
/// All are called on the loop's thread, from inside `run` or `turn`, one at a time and never from inside another call;
/// they may call anything but `run` and `turn`. One that panics closes its connection with 1011 and hurts nobody else.
#[allow(unused_variables)]
pub trait Handler: Send + 'static {
    /// Server: an HTTP request has come, after the checks of the options (origin, path). The default accepts every
    /// valid request for a WebSocket, and answers others with 426.
    fn on_request(&mut self, request: &Request<'_>) -> Response {
        Response::accept()
    }

    /// A request whose answer was deferred ([`Response::later`]) waits no more: its answer takes effect now, or it will
    /// have none, for the client left, the timeout ran out or the loop ends. Told exactly once for each, before its
    /// `on_open`. For what is kept for the request meanwhile, as a lookup that can be given up.
    fn after_deferral(&mut self, connection: Connection, is_answered: bool) {}

    /// The connection is open. Exactly one `on_close` will follow.
    fn on_open(&mut self, connection: Connection, opening: &Opening<'_>) {}

    /// A whole message has come.
    fn on_message(&mut self, connection: Connection, message: Message<'_>) {}

    /// A frame of a fragmented message has come, where `deliver_fragments` is set.
    fn on_fragment(&mut self, connection: Connection, fragment: Fragment<'_>) {}

    /// The engine is about to answer this peer by itself: a pong, or the Close that answers a Close or a violation. For a
    /// door that gathers events to deliver many at once: what it delivers, and what the program sends, goes out first.
    fn before_reply(&mut self, connection: Connection) {}

    /// A ping has come; the pong has been queued already.
    fn on_ping(&mut self, connection: Connection, payload: &[u8]) {}

    /// A pong has come, asked for or not; with its latency where it is the answer to a ping of the program's, known by its
    /// payload. Answers to the heartbeat's own pings are not told, only measured: see [`Connection::latency`].
    fn on_pong(&mut self, connection: Connection, payload: &[u8], latency: Option<Duration>) {}

    /// The backlog, having been over half of `backlog_limit` or having cost a message, is below a quarter of it again.
    fn on_drain(&mut self, connection: Connection) {}

    /// The connection failed; its `on_close` is the next and last event. Failed connects are told here as well.
    fn on_error(&mut self, connection: Connection, failure: &Failure) {}

    /// The connection is gone: always the last event of a connection, exactly once.
    fn on_close(&mut self, connection: Connection, close: &Close<'_>) {}

    /// Something failed that belongs to no announced connection: accepting (out of descriptors, say; it is retried), or
    /// an answer of the request hook that could not be sent.
    fn on_listener_error(&mut self, listener: Listener, failure: &Failure) {}

    /// A client that connects again is about to wait, and then to make its next attempt: told after the `on_close` of the
    /// attempt before. Each attempt is a connection of its own, with the events of one.
    fn on_reconnecting(&mut self, client: Client, reconnecting: &Reconnecting<'_>) {}

    /// A client that connects again does so no more: always its last event, exactly once.
    fn on_give_up(&mut self, client: Client, give_up: &GiveUp) {}

    /// A handler for the connections that a further thread serves, asked for when a listener begins on a loop with
    /// several ([`LoopOptions::threads`](crate::LoopOptions::threads)). The default is none: `listen` is an error there.
    fn for_another_thread(&self) -> Option<Box<dyn Handler>> {
        None
    }
}
