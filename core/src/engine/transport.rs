//! A connected socket, TCP or Unix, without a signal and without blocking: plain, or with TLS on it. Whoever uses it need
//! not know which: what is read and written is counted in bytes of plaintext.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};
use socket2::Socket;

use super::tcp;
use super::tls::Session;
use crate::config::Options;
use crate::event::Secured;

#[derive(Debug)]
pub(super) struct Transport {
    socket: Wire,
    tls: Option<Box<Session>>,
}

/// The socket itself.
#[derive(Debug)]
pub(super) struct Wire(Socket);

/// What one receive over TLS has brought.
#[derive(Debug)]
pub(super) struct Decrypted {
    /// Bytes of plaintext that are in the buffer.
    pub(super) count: usize,
    /// There may be more to read.
    pub(super) more: bool,
    /// The peer has ended its side.
    pub(super) ended: bool,
    /// TLS had something to send, which the kernel has not taken.
    pub(super) is_blocked: bool,
}

/// Retries what a signal interrupted. The calls are the system's own, without the C library's preparations for the
/// cancelling of threads.
#[inline(always)]
fn uninterrupted<T>(mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
    loop {
        match call() {
            Ok(value) => return Ok(value),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl Wire {
    /// One receive; 0 bytes are the end.
    #[inline]
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        uninterrupted(|| recv(&self.0, &mut *buffer, RecvFlags::empty()).map(|(count, _)| count))
    }

    /// One send. The peer's end being gone is an error here, never a SIGPIPE for the program.
    #[inline(always)]
    fn write_bytes(&self, bytes: &[u8]) -> io::Result<usize> {
        uninterrupted(|| send(&self.0, bytes, SendFlags::NOSIGNAL))
    }

    /// The same for several parts.
    #[inline]
    pub(super) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_with(slices, SendFlags::NOSIGNAL)
    }

    #[inline]
    fn write_with(&self, slices: &[IoSlice<'_>], flags: SendFlags) -> io::Result<usize> {
        uninterrupted(|| match slices {
            [slice] => send(&self.0, slice, flags),
            slices => sendmsg(&self.0, slices, &mut SendAncillaryBuffer::default(), flags),
        })
    }
}

impl Transport {
    /// Takes a socket that is in non-blocking mode.
    pub(super) fn new(socket: Socket) -> Self {
        Self { socket: Wire(socket), tls: None }
    }

    /// Begins TLS.
    pub(super) fn secure(&mut self, session: Session) {
        self.tls = Some(Box::new(session));
    }

    /// Gives TLS up: what is written from now on is plain.
    pub(super) fn become_plain(&mut self) {
        self.tls = None;
    }

    /// Whether there is no TLS.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.tls.is_none()
    }

    /// Whether the handshake of TLS is under way.
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|session| session.is_handshaking())
    }

    /// Whether the client of a TLS server speaks plain HTTP.
    pub(super) fn heard_http(&self) -> bool {
        self.tls.as_ref().is_some_and(|session| session.heard_http())
    }

    /// What the handshake has told of the client; none where there was no TLS.
    pub(super) fn secured(&self) -> Option<Secured> {
        self.tls.as_ref().map(|session| session.secured())
    }

    /// One receive; not for TLS. 0 bytes are the end.
    #[inline]
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        debug_assert!(self.is_plain());
        self.socket.read(buffer)
    }

    /// What one receive would bring, which stays to be received; not for TLS. 0 bytes are the end.
    pub(super) fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        debug_assert!(self.is_plain());
        uninterrupted(|| recv(&self.socket.0, &mut *buffer, RecvFlags::PEEK).map(|(count, _)| count))
    }

    /// One receive, decrypted; only for TLS.
    pub(super) fn read_secured(&mut self, buffer: &mut [u8]) -> io::Result<Decrypted> {
        match &mut self.tls {
            Some(session) => session.read(&self.socket, buffer),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// One receive into the room at the end of a buffer; not for TLS. 0 bytes are the end.
    pub(super) fn read_more(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        debug_assert!(self.is_plain());
        uninterrupted(|| recv(&self.socket.0, spare_capacity(buffer), RecvFlags::empty()).map(|(_, count)| count))
    }

    /// Writes, and tells how many bytes have left; fewer than were offered only where the kernel takes no more. The rest
    /// must be offered again, before anything else: TLS may have encrypted the beginning of it.
    #[inline]
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.write(slices),
            Some(session) => session.write(&self.socket, slices),
        }
    }

    /// The same for bytes that lie behind one another.
    #[inline(always)]
    pub(super) fn write_bytes(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_plain() { self.socket.write_bytes(bytes) } else { self.write(&[IoSlice::new(bytes)]) }
    }

    /// The same for the last bytes, right behind which our side is shut or the socket closed: TCP sends them together with
    /// the end, a packet less for both.
    pub(super) fn write_last(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.write_with(slices, SendFlags::NOSIGNAL | SendFlags::MORE),
            Some(session) => session.write(&self.socket, slices),
        }
    }

    /// Sends what TLS itself has to send; with `last`, nothing more will be written, which TLS tells the peer. False where
    /// the kernel does not take all of it.
    #[inline]
    pub(super) fn flush(&mut self, last: bool) -> io::Result<bool> {
        match &mut self.tls {
            None => Ok(true),
            Some(session) => session.flush(&self.socket, last),
        }
    }

    /// How many of the bytes that must be offered again TLS has encrypted already.
    pub(super) fn committed(&self) -> usize {
        self.tls.as_ref().map_or(0, |session| session.committed())
    }

    /// How many encrypted bytes wait for the kernel.
    pub(super) fn unsent(&self) -> usize {
        self.tls.as_ref().map_or(0, |session| session.unsent())
    }

    /// Tells the peer that nothing more will come, and goes on reading.
    pub(super) fn end_writing(&self) {
        // It fails where the peer is gone already, which the next read tells.
        let _ = self.socket.0.shutdown(Shutdown::Write);
    }

    /// Has the kernel ask whether the silent client of an HTTP stream is still there.
    pub(super) fn keep_stream_alive(&self, options: &Options) {
        tcp::keep_stream_alive(&self.socket.0, options);
    }

    /// What a pending connect, or the network, has to say.
    pub(super) fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.socket.0.take_error()
    }

    pub(super) fn as_raw_fd(&self) -> RawFd {
        self.socket.0.as_raw_fd()
    }
}
