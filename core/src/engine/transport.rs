//! A connected socket: TCP or Unix, without a signal and without blocking.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};
use socket2::{Socket, TcpKeepalive};

/// How long an HTTP stream may be silent before the kernel asks for its client, and between such questions.
const KEEPALIVE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Transport(Socket);

/// Retries what a signal interrupted. The calls are the system's own, without the C library's preparations for the
/// cancelling of threads.
#[inline]
fn uninterrupted<T>(mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
    loop {
        match call() {
            Ok(value) => return Ok(value),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl Transport {
    /// Takes a socket that is in non-blocking mode.
    pub(super) fn new(socket: Socket) -> Self {
        Self(socket)
    }

    /// One receive.
    #[inline]
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        uninterrupted(|| recv(&self.0, &mut *buffer, RecvFlags::empty()).map(|(count, _)| count))
    }

    /// One receive into the room at the end of a buffer.
    pub(super) fn read_more(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        uninterrupted(|| recv(&self.0, spare_capacity(buffer), RecvFlags::empty()).map(|(_, count)| count))
    }

    /// One send. The peer's end being gone is an error here, never a SIGPIPE for the program.
    #[inline]
    pub(super) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        uninterrupted(|| match slices {
            [slice] => send(&self.0, slice, SendFlags::NOSIGNAL),
            slices => sendmsg(&self.0, slices, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL),
        })
    }

    /// Tells the peer that nothing more will come, and goes on reading.
    pub(super) fn end_writing(&self) {
        // It fails where the peer is gone already, which the next read tells.
        let _ = self.0.shutdown(Shutdown::Write);
    }

    /// Has the kernel ask whether a silent peer is still there; a Unix socket needs no such thing.
    pub(super) fn keep_alive(&self) {
        let params = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
        let _ = self.0.set_tcp_keepalive(&params);
    }

    /// What a pending connect, or the network, has to say.
    pub(super) fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.0.take_error()
    }

    pub(super) fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
