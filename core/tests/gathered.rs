//! Answers that are gathered for the current connection: nobody else's, nothing lost, all accounted for.

mod support;

use std::cell::RefCell;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use support::{DEADLINE, MASK, PONG, RawPeer, Script, Server, TEXT, eventually, frame};
use wsx_core::{Address, BacklogPolicy, Connection, EventLoop, Handler, Message, Options};

#[test]
fn what_is_sent_to_the_number_zero_reaches_nobody() {
    let server = Server::start(&Options::default(), Script::echo());
    let (mut peer, _) = server.open();
    peer.send_text("before");
    peer.expect_text("before");
    // It is refused, or goes to a loop that knows no such number.
    server.on_loop(|| drop(Connection::from_id(0).send("for nobody")));
    peer.send_text("after");
    peer.expect_text("after");
}

#[test]
fn answers_that_a_reset_overtakes_are_told_as_unsent() {
    let script = Script::new().on_message(|connection, _| connection.send(Message::Binary(&[7; 1000])).unwrap());
    let server = Server::start(&Options::default(), script);
    let (mut peer, connection) = server.open();
    server.meanwhile(|| {
        peer.send_text("answer me");
        peer.reset();
    });
    let ended = server.events.closed_of(connection);
    assert_eq!((ended.code, ended.unsent_bytes, ended.undelivered_messages), (1006, 1004, 1), "{ended:?}");
}

/// Has a peer that does not read send the same again and again, turn by turn, until the kernel takes only a part of what one
/// turn has answered; how much waits then.
fn first_backlog(server: &Server, peer: &mut RawPeer, connection: Connection, bytes: &[u8]) -> usize {
    loop {
        server.meanwhile(|| peer.write(bytes));
        // In a turn of its own: the one that answered has been written by then.
        server.on_loop(|| ());
        let waiting = server.on_loop(move || connection.buffered_amount().unwrap());
        if waiting != 0 {
            return waiting;
        }
    }
}

/// Messages are told by a short way, what else comes by a long one: both have the same room.
#[test]
fn answers_stay_within_the_backlog_limit_where_a_pong_is_between_the_messages() {
    const LIMIT: usize = 10_000;
    const ANSWER: [u8; 900] = [7; 900];
    let mut options = Options::default();
    (options.backlog_limit, options.backlog_policy) = (LIMIT, BacklogPolicy::Refuse);
    // What the backlog refuses is not of interest here.
    let script = Script::new().quiet().on_message(|connection, _| drop(connection.send(Message::Binary(&ANSWER))));
    let server = Server::start(&options, script);
    let (mut peer, connection) = server.open_narrow();
    let messages = frame(0x80 | TEXT, b"answer", Some(MASK)).repeat(LIMIT / ANSWER.len() - 1);
    let bytes = [&messages[..], &frame(0x80 | PONG, b"", Some(MASK)), &messages].concat();
    let waiting = first_backlog(&server, &mut peer, connection, &bytes);
    assert!(waiting <= LIMIT, "{waiting} bytes wait, backlog_limit is {LIMIT}");
}

#[test]
fn a_broadcast_that_a_reset_overtakes_is_told_as_unsent() {
    let server = Server::start(&Options::default(), Script::new());
    let (peer, connection) = server.open();
    let (listener, handle) = (server.listener, server.handle.clone());
    // Both in the same turn: the loop has not heard of the reset when it writes.
    let (begin, begun) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    handle
        .post(move || {
            begin.send(()).unwrap();
            let _ = released.recv_timeout(DEADLINE);
            listener.broadcast(Message::Binary(&[7; 1000]), None).unwrap();
        })
        .unwrap();
    begun.recv_timeout(DEADLINE).unwrap();
    peer.reset();
    drop(release);
    let ended = server.events.closed_of(connection);
    assert_eq!((ended.code, ended.unsent_bytes, ended.undelivered_messages), (1006, 1004, 1), "{ended:?}");
}

thread_local! {
    /// The loop that a callback of the other one turns.
    static INNER: RefCell<Option<EventLoop>> = const { RefCell::new(None) };
    static OUTER_CONNECTION: RefCell<Option<Connection>> = const { RefCell::new(None) };
}

/// The outer loop's server, which says nothing.
struct Silent;
impl Handler for Silent {
    fn on_message(&mut self, connection: Connection, _: Message<'_>) {
        OUTER_CONNECTION.set(Some(connection));
    }
}

/// The outer loop's client, whose callback turns the inner loop.
struct Turns;
impl Handler for Turns {
    fn on_message(&mut self, _: Connection, _: Message<'_>) {
        INNER.with_borrow_mut(|inner| inner.as_mut().unwrap().turn(Some(Duration::ZERO)).unwrap());
    }
}

/// The inner loop's server: between its two answers it asks something of the outer loop.
struct Asks;
impl Handler for Asks {
    fn on_message(&mut self, connection: Connection, message: Message<'_>) {
        connection.send(message).unwrap();
        OUTER_CONNECTION.with_borrow(|outer| outer.unwrap().buffered_amount().unwrap());
        connection.send("second").unwrap();
    }
}

fn listen(event_loop: &EventLoop, handler: impl Handler) -> SocketAddr {
    let listener = event_loop.listen("127.0.0.1:0", &Options::default(), handler).unwrap();
    let Address::Tcp(address) = listener.local_address().unwrap() else { panic!("no TCP address") };
    address
}

/// A peer that opens while the loop is turned here.
fn open(event_loop: &mut EventLoop, address: SocketAddr) -> RawPeer {
    let opening = std::thread::spawn(move || RawPeer::open(address));
    while !opening.is_finished() {
        event_loop.turn(Some(Duration::from_millis(1))).unwrap();
    }
    opening.join().unwrap()
}

#[test]
fn a_loop_that_is_turned_inside_a_callback_of_another_loses_no_answer() {
    let (mut outer, mut inner) = (EventLoop::new().unwrap(), EventLoop::new().unwrap());
    let (outer_address, inner_address) = (listen(&outer, Silent), listen(&inner, Asks));
    let mut silent = open(&mut outer, outer_address);
    let mut asks = open(&mut inner, inner_address);
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    outer.connect(&format!("ws://{}/", server.local_addr().unwrap()), &Options::default(), Turns).unwrap();
    let accepting = std::thread::spawn(move || RawPeer::accept_upgrade(&server).0);
    while !accepting.is_finished() {
        outer.turn(Some(Duration::from_millis(1))).unwrap();
    }
    let mut turns = accepting.join().unwrap();
    outer.turn(Some(Duration::from_millis(20))).unwrap();
    INNER.set(Some(inner));

    asks.write(&frame(0x80 | TEXT, b"first", Some(MASK)));
    // One turn of the outer loop hears both, in this order.
    silent.send_text("nothing to say");
    turns.send_text("turn");
    outer.turn(Some(DEADLINE)).unwrap();
    asks.stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    asks.expect_text("first");
    asks.expect_text("second");
}

#[test]
fn answers_that_the_kernel_takes_in_part_come_once_and_in_order() {
    let mut options = Options::default();
    options.backlog_limit = 0;
    let heard = Arc::new(AtomicUsize::new(0));
    let hears = heard.clone();
    let script = Script::new().quiet().on_message(move |connection, message| {
        connection.send(message).unwrap();
        connection.send(Message::Binary(&[7; 1000])).unwrap();
        hears.fetch_add(1, Ordering::SeqCst);
    });
    let server = Server::start(&options, script);
    let (mut peer, connection) = server.open_narrow();
    // Turn by turn, until the kernel takes only a part of what one turn has gathered; nobody reads meanwhile.
    let mut count = 0;
    let mut waiting = 0;
    while waiting == 0 {
        let bytes: Vec<u8> =
            (count..count + 240).flat_map(|n| frame(0x80 | TEXT, n.to_string().as_bytes(), Some(MASK))).collect();
        peer.write(&bytes);
        count += 240;
        // Nothing else happens in these turns: a command would put what was gathered into the outboxes.
        eventually("all are heard", || heard.load(Ordering::SeqCst) == count);
        std::thread::sleep(Duration::from_millis(5));
        waiting = server.on_loop(move || connection.buffered_amount().unwrap());
    }
    for n in 0..count {
        peer.expect_text(&n.to_string());
        assert!(peer.read_frame().payload == [7; 1000], "behind message {n}");
    }
    peer.send_close(None, "");
    assert_eq!(peer.read_frame().close().0, None);
}

#[test]
fn what_another_connection_published_before_comes_before_an_answer() {
    let listener = Arc::new(std::sync::Mutex::new(None::<wsx_core::Listener>));
    let known = listener.clone();
    let script = Script::new().on_message(move |connection, message| match message {
        Message::Text("publish") => known.lock().unwrap().unwrap().broadcast("published", None).unwrap(),
        message => connection.send(message).unwrap(),
    });
    let server = Server::start(&Options::default(), script);
    *listener.lock().unwrap() = Some(server.listener);
    let (mut publisher, _) = server.open();
    let (mut peer, _) = server.open();
    // Both are heard in one turn, in this order.
    server.meanwhile(|| {
        publisher.send_text("publish");
        peer.send_text("answer");
    });
    publisher.expect_text("published");
    peer.expect_text("published");
    peer.expect_text("answer");
}

#[test]
fn gathered_answers_stay_within_backlog_limit() {
    const LIMIT: usize = 10_000;
    let mut options = Options::default();
    (options.backlog_limit, options.backlog_policy) = (LIMIT, BacklogPolicy::Refuse);
    let script = Script::new().quiet().on_message(|connection, _| {
        let _ = connection.send(Message::Binary(&[7; 1000]));
    });
    let server = Server::start(&options, script);
    let (mut peer, connection) = server.open_narrow();
    let bytes = frame(0x80 | TEXT, b"answer", Some(MASK)).repeat(60);
    let waiting = first_backlog(&server, &mut peer, connection, &bytes);
    assert!(waiting <= LIMIT, "{waiting} bytes wait, backlog_limit is {LIMIT}");
}
