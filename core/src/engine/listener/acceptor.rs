//! The sockets of listeners: made, adopted, shared with a sibling, and accepted from.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::event::epoll;
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, SockAddr, Socket, Type};

use super::super::tcp;
use super::token;
use crate::config::Options;
use crate::error::{Error, Result};
use crate::event::Address;

/// A socket that accepts.
#[derive(Debug)]
pub(in crate::engine) struct Acceptor {
    pub(super) socket: AcceptorSocket,
    /// Accepting waits, and is not watched: for the timer after it failed, or for a connection to go.
    pub(super) resting: bool,
    /// The system had no descriptors left, and no connection was accepted since.
    pub(super) exhausted: bool,
}

#[derive(Debug)]
pub(in crate::engine) enum AcceptorSocket {
    Tcp(mio::net::TcpListener),
    /// With the path to remove, where we made it.
    Unix(mio::net::UnixListener, Option<PathBuf>),
}

impl AsFd for Acceptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            AcceptorSocket::Tcp(listener) => listener.as_fd(),
            AcceptorSocket::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl Acceptor {
    /// Has the system tell, at each wait, whether connections are there to be accepted.
    pub(super) fn watch(&self, poll: &mio::Poll, slot: u32) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token(slot).0 as u64);
        Ok(epoll::add(poll.registry(), self, data, epoll::EventFlags::IN)?)
    }

    /// Nothing is accepted for now: else what waits would end each wait. Closing alone would not do either, where siblings
    /// or other processes have the same socket.
    pub(super) fn ignore(&self, poll: &mio::Poll) {
        // It fails where it has been done.
        let _ = epoll::delete(poll.registry(), self);
    }

    /// The next connection, non-blocking and close-on-exec.
    pub(super) fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        let (socket, peer) = acceptfrom_with(self, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
        Ok((socket.into(), peer.and_then(|peer| peer.try_into().ok())))
    }

    /// A further socket that listens on the same address: the kernel spreads connections among those of TCP; a Unix socket
    /// is the same one again.
    pub(super) fn another(&self, options: &Options) -> io::Result<AcceptorSocket> {
        match &self.socket {
            AcceptorSocket::Tcp(listener) => {
                let socket = match bind_tcp(listener.local_addr()?, options) {
                    Ok(socket) => socket,
                    // An adopted socket that was not made to be shared.
                    Err(_) => listener.as_fd().try_clone_to_owned()?.into(),
                };
                non_blocking_tcp(socket, options).map(AcceptorSocket::Tcp)
            }
            AcceptorSocket::Unix(listener, _) => {
                let socket = Socket::from(listener.as_fd().try_clone_to_owned()?);
                non_blocking_unix(socket).map(|socket| AcceptorSocket::Unix(socket, None))
            }
        }
    }

    pub(in crate::engine) fn address(&self) -> io::Result<Address> {
        match &self.socket {
            AcceptorSocket::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            AcceptorSocket::Unix(listener, _) => {
                listener.local_addr().map(|address| Address::Unix(address.as_pathname().map(Path::to_owned)))
            }
        }
    }
}

impl AcceptorSocket {
    /// Listens on `HOST:PORT` or `unix:PATH`.
    pub(super) fn listen(address: &str, options: &Options) -> Result<Self> {
        let failed = |source| Error::io(format!("listen on {address}"), source);
        Ok(match unix_path(address) {
            Some(path) => Self::Unix(
                listen_unix(path, options).and_then(non_blocking_unix).map_err(failed)?,
                Some(path.to_owned()),
            ),
            None if !address.contains(':') => {
                return Err(Error::invalid(format!("the address {address:?} is not HOST:PORT or unix:PATH")));
            }
            None => Self::Tcp(listen_tcp(address, options).map_err(failed)?),
        })
    }

    /// Adopts a socket that is bound, and listening or not.
    pub(super) fn adopt(fd: OwnedFd, options: &Options) -> Result<Self> {
        let failed = |source| Error::io("adopt the socket", source);
        let socket = Socket::from(fd);
        let address = socket.local_addr().map_err(failed)?;
        if !socket.is_listener().map_err(failed)? {
            // Listening would bind a socket that is not bound, to an address that nobody knows.
            if address.as_socket().is_some_and(|address| address.port() == 0) || address.is_unnamed() {
                return Err(Error::invalid("the socket to adopt is not bound"));
            }
            socket.listen(backlog(options)).map_err(failed)?;
        }
        socket.set_cloexec(true).map_err(failed)?;
        Ok(if address.domain() == Domain::UNIX {
            Self::Unix(non_blocking_unix(socket).map_err(failed)?, None)
        } else {
            Self::Tcp(non_blocking_tcp(socket, options).map_err(failed)?)
        })
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        if let AcceptorSocket::Unix(_, Some(path)) = &self.socket {
            // Somebody may have removed it already.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The path of `unix:PATH`.
fn unix_path(address: &str) -> Option<&Path> {
    address.strip_prefix("unix:").map(Path::new)
}

fn listen_tcp(address: &str, options: &Options) -> io::Result<mio::net::TcpListener> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in address.to_socket_addrs()? {
        match bind_tcp(address, options).and_then(|socket| non_blocking_tcp(socket, options)) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Whether an address can be listened on. The sockets of several threads share theirs, and would share it with those of
/// another program as well, which is rarely meant: so it is tried without sharing first.
pub(in crate::engine) fn check_free(address: &str, options: &Options) -> Result<()> {
    if unix_path(address).is_some() || !address.contains(':') {
        return Ok(());
    }
    listen_tcp(address, options).map(drop).map_err(|source| Error::io(format!("listen on {address}"), source))
}

fn bind_tcp(address: SocketAddr, options: &Options) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // The unspecified address takes IPv4 as well, whatever the system's setting is.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    socket.listen(backlog(options))?;
    Ok(socket)
}

fn backlog(options: &Options) -> i32 {
    i32::try_from(options.listen_backlog).unwrap_or(i32::MAX)
}

fn non_blocking_tcp(socket: Socket, options: &Options) -> io::Result<mio::net::TcpListener> {
    // Accepted connections inherit them.
    tcp::set_options(&socket, options)?;
    socket.set_nonblocking(true)?;
    Ok(mio::net::TcpListener::from_std(socket.into()))
}

fn non_blocking_unix(socket: Socket) -> io::Result<mio::net::UnixListener> {
    socket.set_nonblocking(true)?;
    Ok(mio::net::UnixListener::from_std(OwnedFd::from(socket).into()))
}

fn listen_unix(path: &Path, options: &Options) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let address = SockAddr::unix(path)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_abandoned(path) => {
            std::fs::remove_file(path)?;
            socket.bind(&address)?;
        }
        result => result?,
    }
    socket.listen(backlog(options))?;
    Ok(socket)
}

/// Whether this is a Unix socket and nobody listens on it any more, as after a crash. Connecting to any other file is
/// refused as well, and such a file is not ours to remove.
fn is_abandoned(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    is_socket && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}
