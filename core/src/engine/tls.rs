//! TLS on one connection, by rustls: what came from the socket becomes plaintext, and what is written records.
//!
//! ```text
//! read    one receive into the thread's scratch, behind the rest of an incomplete record; plaintext to the caller's buffer
//! write   up to 64 KiB of plaintext to records in the scratch, one send; what the kernel leaves of it waits here
//! ```
//!
//! A connection that has nothing under way owns no buffer. Of records that wait for the kernel the plaintext has not been
//! reported as written: the caller still has it, and counts it as waiting. It is committed, for what is encrypted must be
//! sent.

mod config;
mod failure;
mod step;

use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice};
use std::mem::take;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;

use super::transport::{Decrypted, Wire};
use crate::event::Secured;
use crate::protocol::frame::Role;

pub(super) use config::{ClientSetup, ServerSetup};
use step::{Inbound, Next, Outgoing, work};

/// The largest record there can be: header, plaintext, and what encryption may add (RFC 5246 section 6.2.3).
const MAX_RECORD: usize = 5 + 16 * 1024 + 2048;
/// Most bytes that are received, or encrypted, at a time.
const MAX_PIECE: usize = 64 * 1024;
/// Most bytes that wait for the rest of what they belong to: a certificate chain may take several records.
const MAX_REST: usize = 64 * 1024;

/// What a thread works with, for one connection at a time.
#[derive(Default)]
struct Scratch {
    /// Records as they came.
    incoming: Vec<u8>,
    /// Plaintext that lay in several places.
    gathered: Vec<u8>,
    outgoing: Outgoing,
}

impl Scratch {
    /// Sees to it that so many bytes can come in.
    fn make_room(&mut self, size: usize) {
        if self.incoming.len() < size {
            self.incoming.resize(size, 0);
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

fn with_scratch<R>(call: impl FnOnce(&mut Scratch) -> io::Result<R>) -> io::Result<R> {
    let with = |scratch: &RefCell<Scratch>| call(&mut scratch.borrow_mut());
    // A thread that ends writes no more.
    SCRATCH.try_with(with).unwrap_or_else(|_| Err(io::ErrorKind::NotConnected.into()))
}

/// One end of rustls.
enum End {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// TLS on one connection.
pub(super) struct Session {
    end: End,
    /// What came of a record, or of a message of the handshake, that is not whole.
    rest: Vec<u8>,
    /// What was decrypted and did not fit into the buffer it was read to.
    overflow: Vec<u8>,
    /// Records that the kernel has not taken, and how much of them it has.
    waiting: Vec<u8>,
    sent: usize,
    /// Bytes of plaintext in what is waiting.
    committed: usize,
    /// The name that the client asked for.
    server_name: Option<Box<str>>,
    /// Where TLS has failed: to be told when everything before it was read.
    failure: Option<io::Error>,
    is_broken: bool,
    /// Something that was TLS has come.
    heard: bool,
    heard_http: bool,
    peer_closed: bool,
    /// The peer was told that nothing more will come.
    has_closed: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("is_handshaking", &self.is_handshaking()).finish_non_exhaustive()
    }
}

impl Session {
    /// A server's, which waits for the client to begin.
    pub(super) fn server(setup: &ServerSetup) -> io::Result<Self> {
        let end = UnbufferedServerConnection::new(setup.0.clone()).map_err(io::Error::other)?;
        Ok(Self::new(End::Server(end)))
    }

    /// A client's, which has its first message to [flush](Self::flush).
    pub(super) fn client(setup: ClientSetup) -> io::Result<Self> {
        let end = UnbufferedClientConnection::new(setup.config, setup.name).map_err(io::Error::other)?;
        let mut this = Self::new(End::Client(end));
        with_scratch(|scratch| {
            let worked = this.work(&mut [], Next::Nothing, &mut [], &mut scratch.outgoing);
            worked.result.map_err(io::Error::other)?;
            this.waiting.extend_from_slice(scratch.outgoing.records());
            Ok(())
        })?;
        Ok(this)
    }

    fn new(end: End) -> Self {
        Self {
            end,
            rest: Vec::new(),
            overflow: Vec::new(),
            waiting: Vec::new(),
            sent: 0,
            committed: 0,
            server_name: None,
            failure: None,
            is_broken: false,
            heard: false,
            heard_http: false,
            peer_closed: false,
            has_closed: false,
        }
    }

    /// Whether the handshake is under way.
    pub(super) fn is_handshaking(&self) -> bool {
        match &self.end {
            End::Client(end) => end.is_handshaking(),
            End::Server(end) => end.is_handshaking(),
        }
    }

    /// Whether the client has begun with HTTP instead of TLS.
    pub(super) fn heard_http(&self) -> bool {
        self.heard_http
    }

    /// What the handshake has told of the client.
    pub(super) fn secured(&self) -> Secured {
        let certificates = match &self.end {
            End::Client(end) => end.peer_certificates(),
            End::Server(end) => end.peer_certificates(),
        };
        Secured {
            certificates: certificates.unwrap_or_default().iter().map(|certificate| certificate.to_vec()).collect(),
            server_name: self.server_name.as_deref().map(str::to_owned),
        }
    }

    /// Bytes of plaintext that are encrypted and not reported as written.
    pub(super) fn committed(&self) -> usize {
        self.committed
    }

    /// Encrypted bytes that wait for the kernel.
    pub(super) fn unsent(&self) -> usize {
        self.waiting.len() - self.sent
    }

    /// One receive. What it brings may be less than a record: then nothing is in the buffer, and nothing has ended.
    pub(super) fn read(&mut self, wire: &Wire, buffer: &mut [u8]) -> io::Result<Decrypted> {
        if !self.overflow.is_empty() {
            let count = self.overflow.len().min(buffer.len());
            buffer[..count].copy_from_slice(&self.overflow[..count]);
            self.overflow.drain(..count);
            if self.overflow.is_empty() {
                self.overflow = Vec::new();
            }
            return Ok(Decrypted { count, more: true, ended: false, is_blocked: false });
        }
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if self.peer_closed {
            return Ok(Decrypted { count: 0, more: false, ended: true, is_blocked: false });
        }
        with_scratch(|scratch| self.receive(wire, buffer, scratch))
    }

    fn receive(&mut self, wire: &Wire, buffer: &mut [u8], scratch: &mut Scratch) -> io::Result<Decrypted> {
        // With a small buffer little is received, so that little overflows.
        let (kept, room) = (self.rest.len(), buffer.len().clamp(MAX_RECORD, MAX_PIECE));
        scratch.make_room(kept + room);
        scratch.incoming[..kept].copy_from_slice(&self.rest);
        let received = wire.read(&mut scratch.incoming[kept..kept + room])?;
        let mut read = Decrypted { count: 0, more: received == room, ended: received == 0, is_blocked: false };
        // Of what comes behind a failure, or behind our own last word, nothing is of use but that it ends. Nor may rustls
        // look at it: it has said its last, and would have to say what is wrong.
        if read.ended || self.is_broken || self.has_closed {
            return Ok(read);
        }
        let incoming = &mut scratch.incoming[..kept + received];
        let worked = self.work(incoming, Next::Nothing, buffer, &mut scratch.outgoing);
        let is_too_large = worked.result.is_ok() && incoming.len() - worked.used > MAX_REST;
        if is_too_large && scratch.outgoing.records().is_empty() {
            self.refuse_rest(worked.used, kept + received, scratch);
        }
        let rest = &scratch.incoming[worked.used..kept + received];
        self.rest.clear();
        if rest.is_empty() || self.peer_closed {
            self.rest = Vec::new();
        } else {
            self.rest.extend_from_slice(&rest[..rest.len().min(MAX_REST)]);
        }
        let failed = match worked.result {
            Ok(()) if is_too_large => Some(failure::too_large()),
            Ok(()) => None,
            Err(error) => Some(self.explain(&error)),
        };
        self.heard |= worked.used != 0;
        read.count = worked.count;
        read.more |= self.peer_closed || !self.overflow.is_empty() || failed.is_some();
        if let Some(failure) = failed {
            self.failure = Some(failure);
            self.is_broken = true;
            self.rest = Vec::new();
        }
        if !(self.heard_http || scratch.outgoing.records().is_empty()) {
            match self.send(wire, scratch.outgoing.records()) {
                Ok(is_sent) => read.is_blocked = !is_sent,
                // What TLS has failed with says more than that the peer does not take the alert.
                Err(_) if self.is_broken => {}
                Err(error) => return Err(error),
            }
        }
        // What came before a failure is told first.
        match self.failure.take_if(|_| read.count == 0 && self.overflow.is_empty()) {
            Some(failure) => Err(failure),
            None => Ok(read),
        }
    }

    /// Has rustls fail, with an alert, where it would wait for more than may be kept: behind what came it finds what can
    /// be neither the rest of a record nor the next one.
    #[cold]
    fn refuse_rest(&mut self, begin: usize, end: usize, scratch: &mut Scratch) {
        scratch.make_room(end + MAX_RECORD);
        let incoming = &mut scratch.incoming[begin..end + MAX_RECORD];
        incoming[end - begin..].fill(0);
        self.work(incoming, Next::Nothing, &mut [], &mut scratch.outgoing);
    }

    fn explain(&mut self, error: &rustls::Error) -> io::Error {
        let role = match &self.end {
            End::Client(_) => Role::Client,
            End::Server(_) => Role::Server,
        };
        self.heard_http = role == Role::Server && !self.heard && is_http(&self.rest);
        failure::explain(error, role, self.heard)
    }

    /// Writes, in one send for each 64 KiB, and tells how much plaintext has left.
    // Not inlined, nor is `flush`: whoever writes without TLS should not carry them.
    #[inline(never)]
    pub(super) fn write(&mut self, wire: &Wire, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_broken {
            return Err(self.failure.take().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()));
        }
        if !self.send_waiting(wire)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut written = take(&mut self.committed);
        with_scratch(|Scratch { gathered, outgoing, .. }| {
            loop {
                let plaintext = piece(slices, written, gathered);
                if plaintext.is_empty() {
                    return Ok(written);
                }
                let worked = self.work_on_rest(Next::Plaintext(plaintext), outgoing);
                worked.map_err(|error| self.explain(&error))?;
                if !self.send(wire, outgoing.records())? {
                    self.committed = plaintext.len();
                    return if written == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(written) };
                }
                written += plaintext.len();
            }
        })
    }

    /// Sends what waits; with `last`, the peer is told behind it that nothing more will come.
    #[inline(never)]
    pub(super) fn flush(&mut self, wire: &Wire, last: bool) -> io::Result<bool> {
        // Where TLS has failed, its alert was the last there is to say.
        if last && !self.has_closed && !self.is_broken {
            self.has_closed = true;
            with_scratch(|scratch| {
                if self.work_on_rest(Next::CloseNotify, &mut scratch.outgoing).is_ok() {
                    self.waiting.extend_from_slice(scratch.outgoing.records());
                }
                Ok(())
            })?;
        }
        self.send_waiting(wire)
    }

    /// Sends once, behind what waits already; false if not all of it was taken.
    fn send(&mut self, wire: &Wire, records: &[u8]) -> io::Result<bool> {
        if self.waiting.is_empty() {
            let sent = try_send(wire, records)?;
            if sent == records.len() {
                return Ok(true);
            }
            self.waiting.extend_from_slice(&records[sent..]);
            return Ok(false);
        }
        // The kernel has refused what waits, or is about to be asked again.
        self.waiting.extend_from_slice(records);
        Ok(true)
    }

    fn send_waiting(&mut self, wire: &Wire) -> io::Result<bool> {
        if self.waiting.is_empty() {
            return Ok(true);
        }
        self.sent += try_send(wire, &self.waiting[self.sent..])?;
        let is_sent = self.sent == self.waiting.len();
        if is_sent {
            (self.waiting, self.sent) = (Vec::new(), 0);
        }
        Ok(is_sent)
    }

    /// Has rustls write what is `next`. The rest of what came lies where rustls knows it to be, but it is not used up.
    fn work_on_rest(&mut self, next: Next<'_>, outgoing: &mut Outgoing) -> Result<(), rustls::Error> {
        let mut rest = take(&mut self.rest);
        let worked = self.work(&mut rest, next, &mut [], outgoing);
        rest.drain(..worked.used);
        self.rest = rest;
        worked.result
    }

    fn work(&mut self, incoming: &mut [u8], next: Next<'_>, buffer: &mut [u8], outgoing: &mut Outgoing) -> Worked {
        outgoing.clear();
        let mut inbound = Inbound { buffer, count: 0, overflow: &mut self.overflow, peer_closed: self.peer_closed };
        let (used, result) = match &mut self.end {
            End::Client(end) => work(&mut **end, incoming, next, &mut inbound, outgoing),
            End::Server(end) => work(&mut **end, incoming, next, &mut inbound, outgoing),
        };
        let count = inbound.count;
        self.peer_closed = inbound.peer_closed;
        if let Some(name) = config::take_asked_name() {
            self.server_name = Some(name);
        }
        Worked { used, count, result }
    }
}

/// What became of what came.
struct Worked {
    /// Bytes that are done with.
    used: usize,
    /// Bytes of plaintext in the buffer.
    count: usize,
    result: Result<(), rustls::Error>,
}

/// One send; nothing is sent where the kernel takes nothing.
fn try_send(wire: &Wire, records: &[u8]) -> io::Result<usize> {
    match wire.write(&[IoSlice::new(records)]) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        sent => sent,
    }
}

/// The next piece of plaintext, `written` bytes into the slices: where it is, if it lies in one of them.
fn piece<'a>(slices: &'a [IoSlice<'_>], written: usize, gathered: &'a mut Vec<u8>) -> &'a [u8] {
    if let [one] = slices {
        let rest = &one[written.min(one.len())..];
        return &rest[..rest.len().min(MAX_PIECE)];
    }
    gathered.clear();
    let mut before = written;
    for slice in slices {
        let rest = &slice[before.min(slice.len())..];
        before = before.saturating_sub(slice.len());
        gathered.extend_from_slice(&rest[..rest.len().min(MAX_PIECE - gathered.len())]);
    }
    gathered
}

/// Whether this begins like a request of HTTP: with a method, or the first letter of one, which no record begins with.
fn is_http(bytes: &[u8]) -> bool {
    let letters = bytes.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    letters > 0 && bytes.get(letters).is_none_or(|byte| *byte == b' ')
}
