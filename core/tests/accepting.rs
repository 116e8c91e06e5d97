//! How connections are accepted: a few in each turn, all in the end, and none that nobody has room for.

mod support;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use support::{RawPeer, Recorder, Script, eventually, status, upgrade};
use wsx_core::{Address, EventLoop, Listener, Options};

/// More than a turn accepts at first.
const COUNT: usize = 100;

/// A loop that the test turns itself.
struct Turned {
    event_loop: EventLoop,
    listener: Listener,
    address: SocketAddr,
}

impl Turned {
    fn new(options: &Options, begin: impl FnOnce(&EventLoop, &Options, Recorder) -> Listener) -> Self {
        let event_loop = EventLoop::new().unwrap();
        let listener = begin(&event_loop, options, Recorder::new(Script::new()).0);
        let Address::Tcp(address) = listener.local_address().unwrap() else { panic!("not TCP") };
        Self { event_loop, listener, address }
    }

    fn listening(options: &Options) -> Self {
        Self::new(options, |event_loop, options, handler| event_loop.listen("127.0.0.1:0", options, handler).unwrap())
    }

    fn turn(&mut self) {
        assert!(self.event_loop.turn(Some(Duration::ZERO)).unwrap());
    }

    /// Whether a host that watches the loop's descriptor would turn it.
    fn is_due(&self) -> bool {
        let mut watched = libc::pollfd { fd: self.event_loop.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor to look at, which is told.
        unsafe { libc::poll(&mut watched, 1, 0) == 1 }
    }

    #[track_caller]
    fn rest(&mut self) {
        eventually("no turn is due", || {
            self.turn();
            !self.is_due()
        });
    }
}

#[test]
fn all_that_wait_are_accepted_more_of_them_in_each_turn() {
    let mut server = Turned::listening(&Options::default());
    let request = upgrade("a", "/", "");
    let mut peers: Vec<_> = (0..COUNT).map(|_| RawPeer::connect(server.address)).collect();
    peers.iter_mut().for_each(|peer| peer.write(request.as_bytes()));
    let mut turns = 0;
    while server.event_loop.connection_count().unwrap() < COUNT {
        server.turn();
        turns += 1;
        let waits = server.event_loop.next_deadline().unwrap();
        if turns == 1 {
            assert_eq!(waits, Some(Duration::ZERO), "a host that watches edges must not wait for another one");
        }
        // 1, 2, 4 … 64 of them; what was accepted in a turn is served in the next.
        assert!(
            turns <= 9,
            "{} of {COUNT} are open after {turns} turns",
            server.event_loop.connection_count().unwrap()
        );
    }
    server.rest();
    assert_ne!(server.event_loop.next_deadline().unwrap(), Some(Duration::ZERO));
    peers.iter_mut().for_each(|peer| drop(peer.expect_upgrade()));
}

#[test]
fn what_waits_for_room_makes_no_turn_due_and_is_accepted_when_there_is_room() {
    let mut options = Options::default();
    options.max_connections = 1;
    // None of them goes by itself.
    options.handshake_timeout = Duration::ZERO;
    let mut server = Turned::listening(&options);
    // One, and those that would be told to try later.
    let mut peers: Vec<_> = (0..1 + 32).map(|_| RawPeer::connect(server.address)).collect();
    server.rest();
    let mut waiting = RawPeer::connect(server.address);
    waiting.write(upgrade("a", "/", "").as_bytes());
    server.rest();
    peers.pop();
    server.rest();
    assert_eq!(status(&waiting.read_head()), 503);
}

#[test]
fn a_closed_listener_whose_socket_another_process_has_makes_no_turn_due() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let adopted = OwnedFd::from(socket.try_clone().unwrap());
    let mut server = Turned::new(&Options::default(), |event_loop, options, handler| {
        event_loop.adopt(adopted, options, handler).unwrap()
    });
    server.rest();
    server.listener.close().unwrap();
    let _peer = RawPeer::connect(server.address);
    assert!(!server.is_due());
    drop(socket);
}
