//! Connections to the server, and waiting for many of them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrStorage, bind, setsockopt, socket, sockopt,
};

use crate::Result;
use crate::frame::{self, CLOSE};
use crate::http::{Opening, end_of_head};
use crate::settings::Settings;
use crate::stream::Stream;
use crate::tls;

/// Where nothing arrives for so long, the run has failed.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// An address and a server have some 28,000 ports between them. Linux looks through half of them first, and connecting
/// becomes slow when that half is taken.
const CONNECTIONS_PER_ADDRESS: u64 = 10_000;

/// Which address a connection comes from.
#[derive(Clone, Copy)]
pub enum Source {
    /// The system's choice.
    Any,
    /// A further address of the loopback network for each 10,000 connections, by the connection's number.
    Spread(u64),
    /// Another address for every connection: ports that are in TIME_WAIT after many short ones come back late.
    Rotate(u64),
}

impl Source {
    fn address(self, server: SocketAddr) -> Option<Ipv4Addr> {
        let IpAddr::V4(host) = server.ip() else { return None };
        let further = match self {
            Self::Any => 0,
            Self::Spread(number) => number / CONNECTIONS_PER_ADDRESS,
            Self::Rotate(number) => number % 250,
        };
        (further > 0 && host.is_loopback()).then(|| Ipv4Addr::new(127, 0, 0, 1 + (further % 250) as u8))
    }
}

/// Connects a blocking socket, whose reads and writes take `TIMEOUT` at most.
pub fn connect(settings: &Settings, source: Source, receive_buffer: Option<usize>) -> Result<Stream> {
    let server = settings.server;
    let prepare = || {
        let family = if server.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        if let Some(bytes) = receive_buffer {
            setsockopt(&socket, sockopt::RcvBuf, &bytes)?;
        }
        if let Some(address) = source.address(server) {
            // The port is chosen while connecting: by `bind` it would have to be free towards all servers.
            setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
            bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(address, 0)))?;
        }
        let stream = TcpStream::from(socket);
        // The timeout for writes is the one for connecting as well.
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        nix::sys::socket::connect(stream.as_raw_fd(), &SockaddrStorage::from(server))?;
        Ok(stream)
    };
    let tcp = prepare().map_err(|error: io::Error| format!("cannot connect to {server}: {error}"))?;
    Stream::new(tcp, settings.tls.as_ref())
}

/// Opens one connection of a scenario, with the opening handshake, which a raw server does without; it blocks.
pub fn open(settings: &Settings, number: u64, source: Source, receive_buffer: Option<usize>) -> Result<Stream> {
    let mut stream = connect(settings, source, receive_buffer)?;
    if settings.raw {
        return Ok(stream);
    }
    let opening = Opening::new(settings, number);
    let fail = |error: io::Error| match error.kind() {
        ErrorKind::WouldBlock => format!("no answer to the handshake within {} s", TIMEOUT.as_secs()),
        _ => format!("the handshake failed: {error}"),
    };
    stream.write_all(&opening.request).and_then(|()| stream.flush()).map_err(fail)?;
    let (mut head, mut part) = (Vec::new(), [0; 4096]);
    let end = loop {
        match stream.read(&mut part).map_err(fail)? {
            0 => return Err("the server ended a connection inside the handshake".into()),
            length => head.extend_from_slice(&part[..length]),
        }
        if let Some(end) = end_of_head(&head) {
            break end;
        }
    };
    opening.check(&head[..end], false)?;
    if end < head.len() {
        return Err(format!("the server sent {} bytes before anything was sent to it", head.len() - end));
    }
    Ok(stream)
}

/// Opens `count` connections, one after the other.
pub fn open_all(settings: &Settings, count: usize) -> Result<Vec<Stream>> {
    let open = |number| {
        open(settings, number, Source::Spread(number), None)
            .map_err(|error| format!("connection {} of {count}: {error}", number + 1))
    };
    (0..count as u64).map(open).collect()
}

/// Ends connections in order: the server gets a Close on each, and has done with all of them before the next run.
pub fn close_all(streams: impl IntoIterator<Item = Stream>, raw: bool) {
    if raw {
        return;
    }
    let mut close = Vec::new();
    frame::write_control(CLOSE, &1000u16.to_be_bytes(), [0x5a, 0xc3, 0x17, 0x9e], &mut close);
    let mut streams: Vec<Stream> = streams.into_iter().collect();
    for stream in &mut streams {
        let _ = stream.write_all(&close);
    }
    // All of them together have so long; what is measured is measured, so failures are none.
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut rest = [0; 4096];
    for stream in &mut streams {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let _ = stream.tcp.set_nonblocking(false).and_then(|()| stream.tcp.set_read_timeout(Some(left)));
        while stream.read(&mut rest).is_ok_and(|length| length > 0) {}
    }
}

/// Raises the limit of descriptors, the hard one too where we may.
pub fn allow_descriptors(count: u64) -> Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(soft, hard)| match count > soft {
            true => setrlimit(Resource::RLIMIT_NOFILE, count, hard.max(count)),
            false => Ok(()),
        })
        .map_err(|error| format!("{count} descriptors are needed, and the limit cannot be raised to them: {error}"))
}

/// A socket that does not block, with what it could not take yet.
///
/// `TcpStream` writes with MSG_NOSIGNAL, so a connection that is gone is an error, not a signal.
pub struct Connection {
    stream: Stream,
    /// What is left over without TLS; a session keeps it itself.
    out: Vec<u8>,
    written: usize,
    /// Something may be there to be read.
    readable: bool,
    ended: bool,
    /// The server has ended the session of TLS.
    session_ended: bool,
}

impl Connection {
    /// Takes over an open connection; its events come with `token`.
    pub fn new(stream: Stream, poller: &Poller, token: usize) -> Result<Self> {
        stream.tcp.set_nonblocking(true).map_err(|error| error.to_string())?;
        poller.add(&stream.tcp, token)?;
        Ok(Self { stream, out: Vec::new(), written: 0, readable: false, ended: false, session_ended: false })
    }

    /// Sends all of `frames` with one write, and leaves it empty. What the socket does not take stays here, without a
    /// copy: the two buffers change places.
    #[inline]
    pub fn send(&mut self, frames: &mut Vec<u8>) -> Result<()> {
        if let Some(session) = &mut self.stream.tls {
            session.writer().write_all(frames).map_err(|error| format!("a write failed: {error}"))?;
            frames.clear();
            self.flush()?;
        } else if self.out.is_empty() {
            std::mem::swap(&mut self.out, frames);
            self.flush()?;
            if self.out.is_empty() {
                std::mem::swap(&mut self.out, frames);
            }
        } else {
            self.out.append(frames);
        }
        Ok(())
    }

    pub fn into_stream(self) -> Stream {
        self.stream
    }

    /// Takes note of an event, and goes on with what is left over where the socket is writable again.
    #[inline]
    pub fn wake(&mut self, event: Event) -> Result<()> {
        self.readable |= event.readable;
        self.ended |= event.ended;
        if event.writable { self.flush() } else { Ok(()) }
    }

    #[inline]
    fn flush(&mut self) -> Result<()> {
        loop {
            let Stream { tcp, tls } = &mut self.stream;
            let written = match tls {
                Some(session) if session.wants_write() => session.write_tls(tcp).map(drop),
                None if self.written < self.out.len() => {
                    tcp.write(&self.out[self.written..]).map(|length| self.written += length)
                }
                _ => break,
            };
            match written {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("a write failed: {error}")),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// What has arrived; `None` where nothing more has, 0 where the server has ended the connection. To be called until
    /// it is either.
    #[inline]
    pub fn receive(&mut self, buffer: &mut [u8]) -> Result<Option<usize>> {
        if self.stream.tls.is_some() { self.receive_records(buffer) } else { self.read(buffer) }
    }

    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>> {
        while self.readable {
            match self.stream.tcp.read(buffer) {
                Ok(length) => {
                    // A short read has emptied the socket, unless its end is there as well.
                    self.readable = length == buffer.len() || self.ended;
                    return Ok(Some(length));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("a read failed: {error}")),
            }
        }
        Ok(None)
    }

    fn receive_records(&mut self, buffer: &mut [u8]) -> Result<Option<usize>> {
        // They are read into the last quarter: what is in them finds room in front of it.
        let (plain, wire) = buffer.split_at_mut(buffer.len() / 4 * 3);
        while !self.session_ended {
            let length = match self.read(wire)? {
                Some(length @ 1..) => length,
                none_or_end => return Ok(none_or_end),
            };
            let Some(session) = &mut self.stream.tls else { break };
            let (length, ended) = tls::open_records(session, &wire[..length], plain)
                .map_err(|error| format!("a read failed: {error}"))?;
            if ended {
                // Some servers wait for this before they end the connection.
                session.send_close_notify();
                self.session_ended = true;
            }
            // What a session says by itself, as in the handshake. Where that fails, the next read does.
            let _ = self.flush();
            if length > 0 {
                return Ok(Some(length));
            }
        }
        Ok(Some(0))
    }
}

/// Which sockets have news. Edge-triggered, for both directions from the begin: nothing is to be changed later.
pub struct Poller {
    epoll: Epoll,
    events: Vec<EpollEvent>,
}

/// News about one socket.
#[derive(Clone, Copy)]
pub struct Event {
    pub token: usize,
    pub readable: bool,
    pub writable: bool,
    /// The server has ended the connection, or it failed: read to the end.
    pub ended: bool,
}

impl Poller {
    pub fn new() -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|error| format!("epoll: {error}"))?;
        Ok(Self { epoll, events: vec![EpollEvent::empty(); 1024] })
    }

    pub fn add(&self, stream: &TcpStream, token: usize) -> Result<()> {
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        self.epoll.add(stream, EpollEvent::new(flags, token as u64)).map_err(|error| format!("epoll: {error}"))
    }

    /// Waits for news, up to `timeout`; how many are there for `event`.
    pub fn wait(&mut self, timeout: Duration) -> Result<usize> {
        let timeout = EpollTimeout::try_from(timeout).unwrap_or(EpollTimeout::MAX);
        loop {
            match self.epoll.wait(&mut self.events, timeout) {
                Err(Errno::EINTR) => {}
                result => return result.map_err(|error| format!("epoll: {error}")),
            }
        }
    }

    #[inline]
    pub fn event(&self, index: usize) -> Event {
        let event = self.events[index];
        let flags = event.events();
        let ended = flags.intersects(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
        Event {
            token: event.data() as usize,
            readable: ended || flags.contains(EpollFlags::EPOLLIN),
            writable: flags.contains(EpollFlags::EPOLLOUT),
            ended,
        }
    }
}
