//! TCP to one of several addresses, in the manner of RFC 8305 ("happy eyeballs"): the families take turns, the next address
//! is tried beside those before it where they are slow, at once where one fails, and the first that answers is taken.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use mio::unix::SourceFd;
use mio::{Interest, Token};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::close::{self, Side};
use crate::config::Options;
use crate::engine::record::Phase;
use crate::engine::state::State;
use crate::engine::tcp;
use crate::engine::timers::Millis;
use crate::engine::transport::Transport;
use crate::error::{Failure, Stage};

/// How long an attempt is alone before the next address is tried beside it: the Connection Attempt Delay that RFC 8305
/// section 5 recommends, in milliseconds.
const ATTEMPT_DELAY: Millis = 250;
/// Most addresses of one name that are tried: each may hold a socket until the handshake's timeout.
const MAX_ADDRESSES: usize = 32;

/// The addresses of a client, up to the first that answers.
#[derive(Debug, Default)]
pub(in crate::engine) struct Attempts {
    waiting: VecDeque<SockAddr>,
    running: Vec<Attempt>,
    /// How many were begun, or could not be.
    tried: usize,
    /// That of the next one. It is used once, also after a redirect.
    next_number: u32,
    /// When to begin with the next address.
    pub(in crate::engine) next_at: Option<Millis>,
    /// What the last one that failed has failed with.
    last: Option<io::Error>,
}

#[derive(Debug)]
struct Attempt {
    number: u32,
    transport: Transport,
    address: SockAddr,
}

impl Attempts {
    /// None yet; `before` are those of an earlier redirect.
    pub(super) fn after(before: &Self) -> Self {
        Self { next_number: before.next_number, ..Self::default() }
    }

    /// A number that tells its events from those of the others. A single attempt has the connection's own token, which
    /// then need not be changed.
    fn number(&mut self) -> u32 {
        if self.tried == 1 && self.waiting.is_empty() {
            return 0;
        }
        // It stands above the slot in the token, where a listener's has a 1.
        self.next_number = self.next_number.max(1) + 1;
        self.next_number
    }
}

/// The addresses of a name in the order they are tried (RFC 8305 section 4): the system's, the families in turns.
pub(super) fn in_turns(found: Vec<SocketAddr>) -> VecDeque<SockAddr> {
    let begins_with_6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = found.into_iter().partition(|address| address.is_ipv6() == begins_with_6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut order = Vec::new();
    loop {
        let turn = [first.next(), second.next()];
        if turn == [None, None] {
            break;
        }
        for address in turn.into_iter().flatten() {
            if !order.contains(&address) {
                order.push(address);
            }
        }
    }
    order.truncate(MAX_ADDRESSES);
    order.into_iter().map(SockAddr::from).collect()
}

/// Begins to connect.
fn open(address: &SockAddr, options: &Options) -> io::Result<Transport> {
    let socket = Socket::new(address.domain(), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if address.domain() != Domain::UNIX {
        tcp::set_options(&socket, options)?;
    }
    match socket.connect(address) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        result => result?,
    }
    Ok(Transport::new(socket))
}

impl State {
    fn attempts(&mut self, slot: u32) -> Option<&mut Attempts> {
        self.dial_mut(slot).map(|dial| &mut dial.attempts)
    }

    /// Tries these addresses.
    pub(super) fn dial(&mut self, slot: u32, addresses: VecDeque<SockAddr>) {
        if let Some(record) = self.connections.get_mut(slot) {
            record.phase = Phase::Dialing;
        }
        if let Some(attempts) = self.attempts(slot) {
            attempts.waiting = addresses;
        }
        self.dial_next(slot);
    }

    /// It is time for the next address. Those that cannot be tried are passed over.
    pub(in crate::engine) fn dial_next(&mut self, slot: u32) {
        loop {
            let now = self.now;
            let Some(attempts) = self.attempts(slot) else { return };
            attempts.next_at = None;
            let Some(address) = attempts.waiting.pop_front() else {
                if attempts.running.is_empty() {
                    self.dialed_in_vain(slot);
                }
                return;
            };
            attempts.tried += 1;
            let number = attempts.number();
            let token = Token(((number as usize) << 32) | slot as usize);
            let Some(group) = self.group_of(slot) else { return };
            let opened = open(&address, &group.options).and_then(|transport| {
                let interest = Interest::READABLE | Interest::WRITABLE;
                self.poll.registry().register(&mut SourceFd(&transport.as_raw_fd()), token, interest)?;
                Ok(transport)
            });
            let Some(attempts) = self.attempts(slot) else { return };
            match opened {
                Ok(transport) => {
                    attempts.running.push(Attempt { number, transport, address });
                    attempts.next_at = (!attempts.waiting.is_empty()).then_some(now + ATTEMPT_DELAY);
                    return self.schedule(slot);
                }
                Err(error) => attempts.last = Some(error),
            }
        }
    }

    /// The system tells something about an attempt: TCP is there, or has failed. What is told of one that has lost already,
    /// or whose client was ended in the same turn, is of no interest.
    pub(in crate::engine) fn dialed(&mut self, slot: u32, number: u32) {
        if self.connections.get(slot).is_none_or(|record| record.phase != Phase::Dialing) {
            return;
        }
        let Some(attempts) = self.attempts(slot) else { return };
        let Some(at) = attempts.running.iter().position(|attempt| attempt.number == number) else { return };
        let Attempt { transport, address, .. } = attempts.running.swap_remove(at);
        match transport.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => {
                attempts.last = Some(error);
                return self.dial_next(slot);
            }
        }
        *attempts = Attempts::after(attempts);
        if number != 0 {
            // From now on it has the connection's token, by which the system tells again what it has told.
            let interest = Interest::READABLE | Interest::WRITABLE;
            let mut source = SourceFd(&transport.as_raw_fd());
            if let Err(error) = self.poll.registry().reregister(&mut source, Token(slot as usize), interest) {
                return self.transport_failed(slot, "cannot watch the socket", &error);
            }
        }
        let Some(record) = self.connections.get_mut(slot) else { return };
        record.transport = Some(transport);
        record.peer = address.as_socket().into();
        self.reached(slot);
    }

    /// No address is left.
    fn dialed_in_vain(&mut self, slot: u32) {
        let Some(dial) = self.dial_mut(slot) else { return };
        let whom = dial.whom();
        let doing = match dial.attempts.tried {
            1 => format!("cannot connect to {whom}"),
            tried => format!("cannot connect to {whom} on any of its {tried} addresses, the last"),
        };
        let last = dial.attempts.last.take().unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into());
        let failure = Failure::transport(Stage::Connect, &doing, &last);
        self.fail(slot, close::ABNORMAL, Side::Peer, failure);
    }
}

#[cfg(test)]
mod tests;
