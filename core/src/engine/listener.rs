//! Listeners, and what they accept.

mod acceptor;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use mio::{Interest, Token};
use socket2::Socket;

use acceptor::AcceptorSocket;
pub(super) use acceptor::{Acceptor, check_free};

use super::addresses::Admission;
use super::group::{Everywhere, Group, OwnedHandler};
use super::record::{Phase, Record};
use super::shared::{Command, Cost};
use super::state::{News, State};
use super::tcp;
use super::timers::TimerKey;
use super::tls::{ServerSetup, Session};
use super::transport::Transport;
use crate::config::{MAX_TOPIC_NAME, Options};
use crate::error::{Error, Failure, Result, Stage};
use crate::event::{Address, Handler, Listener};
use crate::log::Level;
use crate::protocol::deflate;
use crate::protocol::frame::Role;
use crate::protocol::handshake::check_subprotocols;
use crate::protocol::origin::check_origins;

/// Connections taken beyond the limit, to be told so with a 503; and descriptors left to the program by default.
pub(super) const RESERVE: usize = 32;
/// How long to wait before accepting again when the system has no descriptors left, in milliseconds.
const RETRY: u64 = 100;
/// Most connections accepted in one turn, so that a flood of them does not starve the others.
const ACCEPTS_PER_TURN: usize = 256;

/// How many connections a turn accepts: one, and twice as many where the turn before has found as many as it might.
///
/// To ask for one that is not there costs the kernel as much as a tenth of a handshake, for it makes the socket first. So
/// listening sockets are watched by their level, and what is left waits for the next turn.
#[derive(Debug)]
pub(super) struct Accepting {
    share: usize,
    /// Of which turn that is the share, by their count.
    turn: u64,
    /// The last turn in which a listener had at least as many.
    full_in: u64,
}

impl Default for Accepting {
    fn default() -> Self {
        Self { share: 1, turn: 0, full_in: u64::MAX }
    }
}

impl Accepting {
    /// How many each listener may accept in this turn.
    fn share(&mut self, turn: u64) -> usize {
        if self.turn != turn {
            self.share = if self.full_in.wrapping_add(1) == turn { (2 * self.share).min(ACCEPTS_PER_TURN) } else { 1 };
            self.turn = turn;
        }
        self.share
    }
}

/// The tokens of listeners begin here, above every connection's.
const LISTENER_TOKENS: usize = 1 << 32;

/// The token of a listener's socket.
pub(super) fn token(slot: u32) -> Token {
    Token(LISTENER_TOKENS + slot as usize)
}

/// The listener that a token belongs to.
pub(super) fn slot_of(token: Token) -> Option<u32> {
    token.0.checked_sub(LISTENER_TOKENS).and_then(|slot| u32::try_from(slot).ok())
}

/// What a program can get wrong in the options of a listener or a connection.
pub(super) fn check_options(options: &Options) -> Result<()> {
    check_subprotocols(&options.subprotocols)?;
    check_origins(&options.origins)?;
    if options.path.as_ref().is_some_and(|path| !path.starts_with('/')) {
        return Err(Error::invalid("the option path begins with a slash"));
    }
    if options.max_topic_name > MAX_TOPIC_NAME {
        let longest = options.max_topic_name;
        return Err(Error::invalid(format!("max_topic_name is at most {MAX_TOPIC_NAME}, and this is {longest}")));
    }
    tcp::check(options)?;
    options.compression.as_ref().map_or(Ok(()), deflate::check)
}

impl State {
    /// Listens; takes `handler` only where that succeeds: its own drop may call anything, while this state is borrowed.
    pub(super) fn listen(&mut self, address: &str, options: &Options, handler: &mut OwnedHandler) -> Result<Listener> {
        self.check_alive()?;
        check_options(options)?;
        let tls = server_setup(options)?;
        let socket = AcceptorSocket::listen(address, options)?;
        self.add_listener(socket, options, handler, Everywhere::new(tls).into())
    }

    /// Adopts; takes `handler` as [`listen`](Self::listen) does.
    pub(super) fn adopt(&mut self, fd: OwnedFd, options: &Options, handler: &mut OwnedHandler) -> Result<Listener> {
        self.check_alive()?;
        check_options(options)?;
        let tls = server_setup(options)?;
        let socket = AcceptorSocket::adopt(fd, options)?;
        self.add_listener(socket, options, handler, Everywhere::new(tls).into())
    }

    /// A further socket for the address of a listener: for a sibling of this loop.
    pub(super) fn another_socket(&self, listener: Listener, options: &Options) -> Result<AcceptorSocket> {
        let group = self.groups.get(self.listener_slot(listener)?);
        let acceptor = group.and_then(|group| group.acceptor.as_ref()).ok_or(Error::Closed)?;
        acceptor.another(options).map_err(|source| Error::io("listen on another thread", source))
    }

    /// What a listener counts together with its siblings.
    pub(super) fn counted_everywhere(&self, listener: Listener) -> Result<Arc<Everywhere>> {
        self.groups.get(self.listener_slot(listener)?).map(|group| group.everywhere.clone()).ok_or(Error::Closed)
    }

    /// Takes a share of the connections of a listener that another loop has begun.
    pub(super) fn join_listener(
        &mut self,
        listener: Listener,
        socket: AcceptorSocket,
        options: &Options,
        handler: Box<dyn Handler>,
        everywhere: Arc<Everywhere>,
    ) -> Result<()> {
        if let Err(error) = self.check_alive() {
            // The handler's own drop may call anything: not while this state is borrowed.
            let slot = self.insert_group(Group::new(options, Some(handler), Arc::default()))?;
            self.news.push_back(News::IdleGroup(slot));
            return Err(error);
        }
        let slot = self.add_group(options, &mut Some(handler), everywhere)?;
        if let Some(group) = self.groups.get_mut(slot) {
            group.listener = listener;
        }
        if let Err(source) = self.begin_accepting(slot, socket) {
            // Nobody waits for an answer, and the other threads serve the listener.
            let doing = "a thread cannot watch its listening socket, and serves none of the listener's connections";
            let failure = Failure::transport(Stage::Connect, doing, &source);
            self.news.extend([News::ListenerError(slot, failure), News::IdleGroup(slot)]);
            return Err(Error::io("watch the listening socket", source));
        }
        self.shared_listeners.insert(listener, slot);
        Ok(())
    }

    fn add_listener(
        &mut self,
        socket: AcceptorSocket,
        options: &Options,
        handler: &mut OwnedHandler,
        everywhere: Arc<Everywhere>,
    ) -> Result<Listener> {
        let slot = self.add_group(options, handler, everywhere)?;
        let listener = Listener(self.groups.id(slot));
        if let Some(group) = self.groups.get_mut(slot) {
            group.listener = listener;
        }
        if let Err(source) = self.begin_accepting(slot, socket) {
            self.news.push_back(News::IdleGroup(slot));
            return Err(Error::io("watch the listening socket", source));
        }
        if self.logs(Level::Information)
            && let Ok(address) = self.listener_address(listener)
        {
            let how = if options.tls.is_some() { "with TLS" } else { "plain" };
            self.log_listener(Level::Information, listener, || format!("listens on {address}, {how}"));
        }
        Ok(listener)
    }

    /// The group of a listener, which does not accept yet.
    fn add_group(&mut self, options: &Options, handler: &mut OwnedHandler, everywhere: Arc<Everywhere>) -> Result<u32> {
        let mut group = Group::new(options, handler.take(), Arc::default());
        group.everywhere = everywhere;
        group.max_connections = match options.max_connections {
            0 => descriptor_limit().saturating_sub(RESERVE).max(1),
            limit => limit,
        };
        self.insert_group(group)
    }

    fn begin_accepting(&mut self, slot: u32, socket: AcceptorSocket) -> io::Result<()> {
        let acceptor = Acceptor { socket, resting: false, exhausted: false };
        acceptor.watch(&self.poll, slot)?;
        if let Some(group) = self.groups.get_mut(slot) {
            let address = acceptor.address().map(|address| address.to_string()).unwrap_or_default();
            self.shared.counted.begin(group.listener, address, group.counters.clone());
            self.listeners += 1;
            group.acceptor = Some(acceptor);
        }
        Ok(())
    }

    /// Has new connections begin TLS with this.
    pub(super) fn reload_tls(&mut self, listener: Listener, setup: ServerSetup) -> Result<()> {
        let group = self.groups.get(self.listener_slot(listener)?).ok_or(Error::Closed)?;
        if group.within.is_some() {
            return Err(Error::invalid("a route has no TLS of its own: give the listener that it belongs to"));
        }
        if group.everywhere.reload_tls(setup) {
            Ok(())
        } else {
            Err(Error::invalid("the listener is plain: it was begun without the option tls"))
        }
    }

    pub(super) fn listener_address(&self, listener: Listener) -> Result<Address> {
        let group = self.groups.get(self.accepting_slot(self.listener_slot(listener)?));
        let acceptor = group.and_then(|group| group.acceptor.as_ref()).ok_or(Error::Closed)?;
        acceptor.address().map_err(|source| Error::io("read the listener's address", source))
    }

    pub(super) fn close_listener(&mut self, listener: Listener) -> Result<()> {
        let slot = self.listener_slot(listener)?;
        if self.is_route(slot) {
            self.close_route(slot);
        } else {
            self.close_acceptor(slot);
        }
        for sibling in self.shared.siblings().filter(|_| !self.shared_listeners.contains_key(&listener)) {
            let close = move |state: &mut State| drop(state.close_listener(listener));
            // A loop that is gone listens no more.
            let _ = sibling.command(Command::Engine(Box::new(close)), Cost::Granted(0));
        }
        Ok(())
    }

    pub(super) fn close_acceptor(&mut self, slot: u32) {
        let Some(group) = self.groups.get_mut(slot) else { return };
        let Some(acceptor) = group.acceptor.take() else { return };
        acceptor.ignore(&self.poll);
        let (listener, is_idle) = (group.listener, group.records == 0);
        self.log_listener(Level::Information, listener, || match acceptor.address() {
            Ok(address) => format!("listens no more on {address}"),
            Err(_) => "listens no more".into(),
        });
        if is_idle {
            self.news.push_back(News::IdleGroup(slot));
        }
    }

    /// Accepts what waits, up to a turn's share.
    #[inline(never)]
    pub(super) fn accept(&mut self, slot: u32) {
        let turn = self.shared.counted.turns.read();
        for _ in 0..self.accepting.share(turn) {
            let Some(group) = self.groups.get_mut(slot) else { return };
            let is_full = group.records >= group.max_connections.saturating_add(RESERVE);
            let Some(acceptor) = group.acceptor.as_mut() else { return };
            // What does not fit into the reserve waits in the kernel's queue until a connection has gone.
            if is_full {
                acceptor.resting = true;
                return acceptor.ignore(&self.poll);
            }
            match acceptor.accept() {
                Ok((socket, peer)) => {
                    acceptor.exhausted = false;
                    self.accepted(slot, socket, peer);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_exhaustion(&error) => {
                    acceptor.resting = true;
                    acceptor.ignore(&self.poll);
                    // Told once, however long it lasts.
                    if !std::mem::replace(&mut acceptor.exhausted, true) {
                        let doing = "cannot accept connections, which wait until it can: raise the descriptor limit";
                        let failure = Failure::transport(Stage::Connect, doing, &error);
                        self.news.push_back(News::ListenerError(slot, failure));
                    }
                    self.timers.push(self.now + RETRY, TimerKey::Accept(slot));
                    return;
                }
                // The peer has given up meanwhile, or its network reported an error: try the next one.
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    let failure = Failure::transport(Stage::Connect, "cannot accept: the listener is closed", &error);
                    self.news.push_back(News::ListenerError(slot, failure));
                    return self.close_acceptor(slot);
                }
            }
        }
        self.accepting.full_in = turn;
    }

    /// Whether the last turn has accepted as much as it might.
    pub(super) fn may_accept_more(&self) -> bool {
        self.accepting.full_in == self.shared.counted.turns.read()
    }

    /// The system may have descriptors again, or a full listener has room.
    pub(super) fn accept_again(&mut self, slot: u32) {
        let Some(acceptor) = self.groups.get_mut(slot).and_then(|group| group.acceptor.as_mut()) else { return };
        acceptor.resting = acceptor.resting && acceptor.watch(&self.poll, slot).is_err();
        if acceptor.resting {
            self.timers.push(self.now + RETRY, TimerKey::Accept(slot));
        }
    }

    fn accepted(&mut self, group: u32, socket: Socket, peer: Option<SocketAddr>) {
        let mut record = Record::new(group, Role::Server, Phase::Request, self.now);
        record.peer = peer.into();
        let mut transport = Transport::new(socket);
        let Some(listening) = self.groups.get(group) else { return };
        let setup = listening.everywhere.tls();
        match listening.admit(peer, setup.is_none()) {
            Admission::Served => {}
            Admission::Surplus => {
                record.set_surplus(true);
            }
            Admission::Closed => return self.count_turned_away(group, peer),
        }
        let session = setup.as_ref().map(Session::server).transpose();
        let begun = session.map(|session| {
            if let Some(session) = session {
                transport.secure(session);
                record.phase = Phase::Securing;
            }
        });
        record.transport = Some(transport);
        let Ok(slot) = self.insert(record) else {
            return self.groups.get(group).map_or((), |group| group.has_left(peer));
        };
        self.count_begun(slot);
        match begun.and_then(|()| self.watch(slot)) {
            Ok(()) => self.schedule(slot),
            Err(error) => {
                let failure = Failure::transport(Stage::Connect, "cannot watch an accepted connection", &error);
                self.news.push_back(News::ListenerError(group, failure));
                self.finish(slot);
            }
        }
    }

    /// Has the system tell when a connection can be read and written: once, by edges, so that backpressure costs no
    /// further system call.
    pub(super) fn watch(&mut self, slot: u32) -> io::Result<()> {
        let Some(transport) = self.connections.get(slot).and_then(|record| record.transport.as_ref()) else {
            return Ok(());
        };
        let mut source = mio::unix::SourceFd(&transport.as_raw_fd());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut source, Token(slot as usize), interest)
    }
}

/// What the connections of a listener with these options begin TLS with, if they do.
fn server_setup(options: &Options) -> Result<Option<ServerSetup>> {
    options.tls.as_ref().map(ServerSetup::new).transpose()
}

/// Errors that Linux passes on from the connection that is accepted (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    const PASSED_ON: [i32; 10] = [
        libc::ECONNABORTED,
        libc::EHOSTDOWN,
        libc::EHOSTUNREACH,
        libc::EINTR,
        libc::ENETDOWN,
        libc::ENETUNREACH,
        libc::ENOPROTOOPT,
        libc::EOPNOTSUPP,
        libc::EPERM,
        libc::EPROTO,
    ];
    error.raw_os_error().is_some_and(|code| PASSED_ON.contains(&code))
}

fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// How many descriptors this process may have.
fn descriptor_limit() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::super::event_loop::EventLoop;
    use super::super::shared::now;
    use super::*;

    struct Hears(mpsc::Sender<(Listener, Failure)>);

    impl Handler for Hears {
        fn on_listener_error(&mut self, listener: Listener, failure: &Failure) {
            self.0.send((listener, failure.clone())).unwrap();
        }
    }

    #[test]
    fn a_thread_that_cannot_watch_its_socket_says_so_by_the_number_that_the_program_knows() {
        let (told, hears) = mpsc::channel();
        let mut event_loop = EventLoop::new().unwrap();
        // A file cannot be watched, whatever it is taken for.
        let file = OwnedFd::from(std::fs::File::open("/proc/self/exe").unwrap());
        let socket = AcceptorSocket::Tcp(mio::net::TcpListener::from_std(file.into()));
        let joined = now(event_loop.handle().shared.index, |state| {
            state.join_listener(Listener(7), socket, &Options::default(), Box::new(Hears(told)), Arc::default())
        });
        assert!(matches!(joined, Err(Error::Io { .. })), "{joined:?}");
        event_loop.turn(Some(Duration::ZERO)).unwrap();
        let (listener, failure) = hears.recv().unwrap();
        assert_eq!((listener, failure.stage, failure.os_error), (Listener(7), Stage::Connect, Some(libc::EPERM)));
        assert!(failure.message.starts_with("a thread cannot watch its listening socket"), "{failure}");
        // The handler is gone, and nothing is left of the listener.
        assert!(hears.recv().is_err());
    }
}
