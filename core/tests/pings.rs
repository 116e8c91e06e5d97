//! Pings and how long they take: `latency`, and what `on_pong` tells.

mod support;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use support::{DEADLINE, PING, PONG, RawPeer, Running, Script, Server};
use wsx_core::config::MAX_PINGS;
use wsx_core::{Address, Connection, Error, Handler, LoopOptions, Opening, Options};

/// Tells every pong, with its latency.
struct Listening(Sender<(Vec<u8>, Option<Duration>)>, Sender<Connection>);

impl Handler for Listening {
    fn on_open(&mut self, connection: Connection, _: &Opening<'_>) {
        self.1.send(connection).unwrap();
    }

    fn on_pong(&mut self, connection: Connection, payload: &[u8], latency: Option<Duration>) {
        if latency.is_some() {
            assert_eq!(connection.latency().unwrap(), latency);
        }
        self.0.send((payload.to_vec(), latency)).unwrap();
    }
}

struct Open {
    running: Running,
    peer: RawPeer,
    connection: Connection,
    pongs: Receiver<(Vec<u8>, Option<Duration>)>,
}

impl Open {
    fn new() -> Self {
        let ((pong, pongs), (open, opened)) = (channel(), channel());
        let (running, address) = Running::start(&LoopOptions::default(), move |handle| {
            let listener = handle.listen("127.0.0.1:0", &Options::default(), Listening(pong, open)).unwrap();
            listener.local_address().unwrap()
        });
        let Address::Tcp(address) = address else { panic!("not a TCP address: {address}") };
        let peer = RawPeer::open(address);
        let connection = opened.recv_timeout(DEADLINE).unwrap();
        Self { running, peer, connection, pongs }
    }

    fn expect_ping(&mut self, payload: &[u8]) {
        let frame = self.peer.read_frame();
        assert_eq!((frame.opcode, &*frame.payload), (PING, payload));
    }

    /// The latency that the answer to this tells.
    fn answer(&mut self, payload: &[u8]) -> Option<Duration> {
        self.peer.send(PONG, payload);
        let (told, latency) = self.pongs.recv_timeout(DEADLINE).unwrap();
        assert_eq!(told, payload);
        latency
    }
}

#[test]
fn a_pong_tells_how_long_its_ping_took() {
    let mut open = Open::new();
    let before = Instant::now();
    open.connection.ping(b"one").unwrap();
    open.expect_ping(b"one");
    let least = Duration::from_millis(20);
    let waits = Instant::now();
    while waits.elapsed() < least {
        std::thread::yield_now();
    }
    let latency = open.answer(b"one").unwrap();
    assert!(latency >= least && latency <= before.elapsed(), "{latency:?}");
    // It is answered, and nothing is asked any more.
    assert_eq!(open.answer(b"one"), None);
    let connection = open.connection;
    assert_eq!(open.running.on_loop(move || connection.latency().unwrap()), Some(latency));
}

#[test]
fn a_pong_that_nobody_asked_for_tells_no_latency() {
    let mut open = Open::new();
    assert_eq!(open.answer(b""), None);
    open.connection.ping(b"one").unwrap();
    open.expect_ping(b"one");
    assert_eq!(open.answer(b"two"), None);
    let connection = open.connection;
    assert_eq!(open.running.on_loop(move || connection.latency().unwrap()), None);
    assert!(open.answer(b"one").is_some());
}

#[test]
fn a_pong_answers_the_pings_before_its_own_and_none_behind_it() {
    let mut open = Open::new();
    for payload in [b"1", b"2", b"3"] {
        open.connection.ping(payload).unwrap();
        open.expect_ping(payload);
    }
    assert!(open.answer(b"2").is_some());
    assert_eq!(open.answer(b"1"), None);
    assert!(open.answer(b"3").is_some());
}

#[test]
fn pings_with_the_same_payload_are_answered_one_by_one() {
    let mut open = Open::new();
    for _ in 0..2 {
        open.connection.ping(b"").unwrap();
        open.expect_ping(b"");
    }
    assert!(open.answer(b"").is_some() && open.answer(b"").is_some());
    assert_eq!(open.answer(b""), None);
}

#[test]
fn so_many_pings_are_remembered_and_the_oldest_forgotten() {
    let mut open = Open::new();
    for number in 0..=MAX_PINGS {
        open.connection.ping(number.to_string().as_bytes()).unwrap();
        open.expect_ping(number.to_string().as_bytes());
    }
    assert_eq!(open.answer(b"0"), None);
    assert!(open.answer(b"1").is_some());
    assert!(open.answer(MAX_PINGS.to_string().as_bytes()).is_some());
}

#[test]
fn the_heartbeats_own_pings_are_measured_and_not_told() {
    let mut options = Options::default();
    options.ping_interval = Duration::from_millis(50);
    let server = Server::start(&options, Script::new());
    let before = Instant::now();
    let (mut peer, connection) = server.open();
    assert_eq!(server.on_loop(move || connection.latency().unwrap()), None);
    // One that was not asked for tells nothing.
    peer.send(PONG, b"wsx heartbeat");
    let frame = peer.read_frame();
    assert_eq!((frame.opcode, &*frame.payload), (PING, &b"wsx heartbeat"[..]));
    assert_eq!(server.on_loop(move || connection.latency().unwrap()), None);
    let least = Duration::from_millis(15);
    let waits = Instant::now();
    while waits.elapsed() < least {
        std::thread::yield_now();
    }
    peer.send(PONG, b"wsx heartbeat");
    peer.send_text("and this");
    assert_eq!(server.events.text(), "and this");
    let latency = server.on_loop(move || connection.latency().unwrap()).unwrap();
    assert!(latency >= least && latency <= before.elapsed(), "{latency:?}");
}

#[test]
fn latency_is_known_to_the_end_and_a_stale_number_is_closed() {
    let mut open = Open::new();
    open.connection.ping(b"x").unwrap();
    open.expect_ping(b"x");
    open.answer(b"x");
    open.peer.send_close(Some(1000), "");
    open.peer.expect_close(1000);
    open.peer.expect_end();
    let connection = open.connection;
    support::eventually("it is gone", || {
        open.running.on_loop(move || matches!(connection.latency(), Err(Error::Closed)))
    });
}
