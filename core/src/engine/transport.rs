//! A connected socket: TCP or Unix, without a signal and without blocking.

use std::io::{self, IoSlice, Read};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use socket2::{Socket, TcpKeepalive};

/// How long an HTTP stream may be silent before the kernel asks for its client, and between such questions.
const KEEPALIVE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Transport(Socket);

/// Retries what a signal interrupted.
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl Transport {
    /// Takes a socket that is in non-blocking mode.
    pub(super) fn new(socket: Socket) -> Self {
        Self(socket)
    }

    /// One receive.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        uninterrupted(|| (&self.0).read(buffer))
    }

    /// One send. The peer's end being gone is an error here, never a SIGPIPE for the program.
    pub(super) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        uninterrupted(|| match slices {
            [slice] => self.0.send_with_flags(slice, libc::MSG_NOSIGNAL),
            slices => self.0.send_vectored_with_flags(slices, libc::MSG_NOSIGNAL),
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
