//! A callback that blocks the loop: the time it took is not held against the peers, who answered meanwhile or have not
//! been asked yet.
//!
//! Here callbacks sleep on purpose. The other timeouts are long enough for what a test does between two steps.

mod support;

use std::thread::sleep;
use std::time::{Duration, Instant};

use support::{DEADLINE, Events, PING, PONG, RawPeer, Recorder, Script, Server, upgrade};
use wsx_core::{Address, Connection, EventLoop, Handle, Options, Side};

/// The timeout that a callback outlasts.
const TIMEOUT: Duration = Duration::from_secs(1);
const STALL: Duration = Duration::from_millis(1300);
/// Longer than any test waits.
const NEVER: Duration = Duration::from_secs(3600);

/// Options under which nothing times out.
fn patient() -> Options {
    let mut options = Options::default();
    options.handshake_timeout = NEVER;
    options.ping_interval = NEVER;
    options.pong_timeout = NEVER;
    options.close_timeout = NEVER;
    options.progress_timeout = NEVER;
    options
}

/// Blocks, then makes the loop read its clock: whatever ran out meanwhile is looked at in the same turn.
fn stall(handle: &Handle) {
    sleep(STALL);
    handle.set_timer(Duration::ZERO, || ()).unwrap();
}

/// A loop that is turned by hand, with one connection.
struct Turned {
    event_loop: EventLoop,
    peer: RawPeer,
    connection: Connection,
    events: Events,
}

impl Turned {
    fn new(options: &Options, script: Script) -> Self {
        let mut event_loop = EventLoop::new().unwrap();
        let (recorder, events) = Recorder::new(script);
        let listener = event_loop.listen("127.0.0.1:0", options, recorder).unwrap();
        let Address::Tcp(address) = listener.local_address().unwrap() else { panic!("not TCP") };
        let mut peer = RawPeer::connect(address);
        peer.write(upgrade("a", "/", "").as_bytes());
        let end = Instant::now() + DEADLINE;
        while listener.connection_count().unwrap() == 0 {
            assert!(Instant::now() < end, "it does not open");
            event_loop.turn(Some(Duration::from_millis(20))).unwrap();
        }
        peer.expect_upgrade();
        let connection = events.opened();
        Self { event_loop, peer, connection, events }
    }

    /// Turns without waiting, a few times: whatever is due is done.
    fn turn(&mut self) {
        for _ in 0..3 {
            self.event_loop.turn(Some(Duration::ZERO)).unwrap();
        }
    }
}

#[test]
fn a_callback_that_takes_longer_than_the_closing_timeout_and_closes_leaves_the_peer_the_whole_timeout() {
    let mut options = patient();
    options.close_timeout = TIMEOUT;
    let script = Script::new().on_message(|connection, _| {
        sleep(STALL);
        connection.close(4000, "done").unwrap();
    });
    let mut turned = Turned::new(&options, script);
    turned.peer.send_text("go");
    turned.turn();
    assert_eq!(turned.peer.expect_close(4000), "done");
    turned.peer.send_close(Some(4000), "");
    turned.turn();
    turned.peer.expect_end();
    drop(turned.peer);
    let ended = turned.events.closed_of(turned.connection);
    assert_eq!((ended.code, ended.by, ended.was_clean, ended.failure), (4000, Side::Us, true, None));
}

#[test]
fn a_ping_that_leaves_late_because_a_callback_blocked_leaves_the_peer_the_whole_timeout() {
    let mut options = patient();
    options.ping_interval = Duration::from_millis(20);
    options.pong_timeout = TIMEOUT;
    let mut turned = Turned::new(&options, Script::new());
    let begun = Instant::now();
    while begun.elapsed() < options.ping_interval * 2 {
        std::thread::yield_now();
    }
    // The ping is due in the turn in which the loop is blocked.
    turned.event_loop.post(|| sleep(STALL)).unwrap();
    turned.turn();
    let ping = turned.peer.read_frame();
    assert_eq!(ping.opcode, PING);
    turned.peer.send(PONG, &ping.payload);
    turned.turn();
    assert_eq!(turned.event_loop.connection_count().unwrap(), 1);
}

#[test]
fn pongs_that_came_while_a_callback_blocked_are_heard_before_anybody_is_given_up() {
    let mut options = patient();
    options.ping_interval = Duration::from_millis(50);
    options.pong_timeout = TIMEOUT;
    let server = Server::start(&options, Script::echo());
    let mut peers: Vec<RawPeer> = (0..8).map(|_| server.open().0).collect();
    let pings: Vec<_> = peers.iter_mut().map(RawPeer::read_frame).collect();
    assert!(pings.iter().all(|ping| ping.opcode == PING));
    let handle = server.handle.clone();
    let mut peers = server.on_loop(move || {
        for (peer, ping) in peers.iter_mut().zip(pings) {
            peer.send(PONG, &ping.payload);
        }
        stall(&handle);
        peers
    });
    for peer in &mut peers {
        // Further pings may come before the echo.
        peer.send_text("alive");
        let frame = std::iter::from_fn(|| Some(peer.read_frame())).find(|frame| frame.opcode != PING);
        assert_eq!(frame.unwrap().text(), "alive");
    }
    assert_eq!(server.connection_count(), 8);
}

#[test]
fn requests_that_came_while_a_callback_blocked_are_served() {
    let mut options = patient();
    options.handshake_timeout = TIMEOUT;
    let server = Server::start(&options, Script::new());
    let mut peers: Vec<RawPeer> = (0..4).map(|_| RawPeer::connect(server.address())).collect();
    let (begin, end) = (b"GET / HTTP/1.1\r\nHost: a\r\n", upgrade("a", "/", ""));
    let end = end.split_once("Host: a\r\n").unwrap().1.to_owned();
    // They are accepted by the time this one is, and some have begun.
    peers[0].write(begin);
    peers[1].write(begin);
    server.open();
    let handle = server.handle.clone();
    let mut peers = server.on_loop(move || {
        for (number, peer) in peers.iter_mut().enumerate() {
            if number >= 2 {
                peer.write(begin);
            }
            peer.write(end.as_bytes());
        }
        stall(&handle);
        peers
    });
    for peer in &mut peers {
        peer.expect_upgrade();
    }
}
