//! Statistics: every connection is counted once, every message and byte each way, on all threads.

mod support;

use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use support::{BINARY, DEADLINE, Event, RawPeer, Recorder, Running, Script, Server, TEXT, eventually, frame, upgrade};
use wsx_core::{
    Address, BacklogPolicy, Connection, Error, EventLoop, Handler, LoopOptions, Message, Options, Response, Statistics,
};

/// Every figure that is not 0 as a line; those of bytes, turns and time are left out.
fn figures(statistics: &Statistics) -> Vec<String> {
    let left_out = ["turns", "bytes_received", "bytes_sent", "longest_callback"];
    let figures = statistics.figures().into_iter();
    figures
        .filter(|figure| figure.value != 0 && !left_out.contains(&figure.field))
        .map(|figure| format!("{} {} {}", figure.field, figure.labels.join(" "), figure.value).replace("  ", " "))
        .collect()
}

/// Waits until exactly this is counted.
#[track_caller]
fn expect(counted: impl Fn() -> Statistics, wanted: &[&str]) {
    let end = std::time::Instant::now() + DEADLINE;
    loop {
        let came = figures(&counted());
        if came == wanted {
            return;
        }
        assert!(std::time::Instant::now() < end, "counted was {came:#?}, due was {wanted:#?}");
        thread::yield_now();
    }
}

fn of_listener(server: &Server) -> impl Fn() -> Statistics {
    let listener = server.listener;
    move || listener.statistics().unwrap()
}

#[test]
fn a_conversation_is_counted_to_the_byte() {
    let server = Server::start(&Options::default(), Script::echo());
    let request = upgrade("a", "/", "");
    let mut peer = RawPeer::connect(server.address());
    peer.write(request.as_bytes());
    let head = peer.read_head();
    let mut sent = request.len();
    for payload in [&b"hello"[..], &[7; 300], &[8; 70_000]] {
        peer.send(BINARY, payload);
        let echo = peer.read_frame();
        assert_eq!(echo.payload, payload);
        sent += frame(0x82, payload, Some(support::MASK)).len();
    }
    let received = head.len() + 2 + 5 + 4 + 300 + 10 + 70_000;
    expect(
        of_listener(&server),
        &["connections 1", "accepted 1", "opened 1", "messages_received 3", "messages_sent 3"],
    );
    let counted = server.listener.statistics().unwrap();
    assert_eq!((counted.bytes_received, counted.bytes_sent), (sent as u64, received as u64));
    peer.send_close(Some(1000), "");
    peer.expect_close(1000);
    expect(
        of_listener(&server),
        &["accepted 1", "opened 1", "messages_received 3", "messages_sent 3", "closes 1000 1"],
    );
    let counted = server.listener.statistics().unwrap();
    assert_eq!((counted.bytes_received, counted.bytes_sent), (sent as u64 + 8, received as u64 + 4));
    assert!(server.handle.statistics().unwrap().turns > 0);
}

#[test]
fn every_refusal_is_counted_with_its_cause() {
    let mut options = Options::default();
    options.path = Some("/chat".into());
    options.max_head = 4096;
    options.handshake_timeout = Duration::from_millis(300);
    let script = Script::new().on_request(|request| match request.query() {
        Some("no") => Response::reject(418, "no"),
        Some("page") => Response::page("text/plain", "a page"),
        Some("panic") => std::panic::resume_unwind(Box::new("the hook")),
        _ => Response::accept(),
    });
    let server = Server::start(&options, script);
    let upgrade = |path: &str, more: &str| upgrade("a", path, more);
    let long = "x".repeat(5000);
    for (request, status) in [
        (upgrade("/other", ""), 404),
        (upgrade("/chat", "Origin: https://evil.example\r\n"), 403),
        (upgrade("/chat?no", ""), 418),
        (upgrade("/chat?panic", ""), 500),
        (upgrade("/chat", &format!("X: {long}\r\n")), 431),
        ("POST /chat HTTP/1.1\r\nHost: a\r\n\r\n".into(), 405),
        ("GET /chat HTTP/1.1\r\nHost: a\r\n\r\n".into(), 426),
        ("GET /chat?page HTTP/1.1\r\nHost: a\r\n\r\n".into(), 200),
        ("GET /chat HTTP/1.1\r\n\r\n".into(), 400),
    ] {
        assert_eq!(server.status_of(&request), status, "{request}");
    }
    RawPeer::connect(server.address()).write(b"GET /ch");
    let mut late = RawPeer::connect(server.address());
    let mut silent = RawPeer::connect(server.address());
    late.write(b"GET /chat HTTP/1.1\r\n");
    assert_eq!(support::status(&late.read_head()), 408);
    silent.expect_end();
    drop(late);
    expect(
        of_listener(&server),
        &[
            "accepted 12",
            "answered 1",
            "refused bad_request 1",
            "refused method 1",
            "refused upgrade 1",
            "refused head_too_big 1",
            "refused path 1",
            "refused origin 1",
            "refused hook 1",
            "refused hook_failed 1",
            "refused timeout 2",
            "refused left 1",
            "listener_errors 1",
        ],
    );
}

#[test]
fn those_beyond_the_limit_are_counted_as_refused() {
    let mut options = Options::default();
    options.max_connections = 1;
    let server = Server::start(&options, Script::new());
    let (_peer, _) = server.open();
    assert_eq!(server.status_of(&upgrade("a", "/", "")), 503);
    expect(of_listener(&server), &["connections 1", "accepted 2", "opened 1", "refused full 1"]);
}

#[test]
fn those_beyond_the_limit_of_an_address_are_counted_answered_or_not() {
    let mut options = Options::default();
    options.max_connections_per_address = 1;
    let server = Server::start(&options, Script::new());
    let (_peer, _) = server.open();
    let mut waiting: Vec<_> = (0..4).map(|_| RawPeer::connect(server.address())).collect();
    expect(of_listener(&server), &["connections 1", "handshakes 4", "accepted 5", "opened 1"]);
    RawPeer::connect(server.address()).expect_end();
    for peer in &mut waiting {
        peer.write(upgrade("a", "/", "").as_bytes());
        assert_eq!(support::status(&peer.read_head()), 503);
    }
    drop(waiting);
    expect(of_listener(&server), &["connections 1", "accepted 6", "opened 1", "refused address 5"]);
}

#[test]
fn a_connection_of_a_route_is_the_routes_and_the_listener_keeps_its_own_figures() {
    let server = Server::start(&Options::default(), Script::new());
    let (recorder, events) = Recorder::new(Script::echo());
    let listener = server.listener;
    let handle = server.handle.clone();
    let route = server.on_loop(move || handle.route(listener, "/chat", &Options::default(), recorder).unwrap());
    let mut peer = RawPeer::connect(server.address());
    peer.write(upgrade("a", "/chat", "").as_bytes());
    peer.read_head();
    events.opened();
    expect(move || route.statistics().unwrap(), &["connections 1", "opened 1"]);
    expect(of_listener(&server), &["accepted 1"]);
    peer.send_close(Some(1000), "");
    peer.expect_close(1000);
    events.closed();
    expect(move || route.statistics().unwrap(), &["opened 1", "closes 1000 1"]);
    expect(of_listener(&server), &["accepted 1"]);
}

#[test]
fn streams_are_connections_without_messages() {
    let script = Script::new().on_request(|_| Response::stream("text/plain"));
    let server = Server::start(&Options::default(), script);
    let mut peer = RawPeer::connect(server.address());
    peer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    peer.read_head();
    expect(of_listener(&server), &["connections 1", "accepted 1", "streams 1"]);
    drop(peer);
    expect(of_listener(&server), &["accepted 1", "streams 1", "closes 1001 1"]);
}

#[test]
fn clients_are_counted_by_how_far_they_came() {
    let running = Running::idle();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let (_, events) = running.connect(&url, &Options::default(), Script::new());
    let (mut peer, _) = RawPeer::accept_upgrade(&listener);
    events.opened();
    peer.send_text("hello");
    events.text();
    let handle = running.handle.clone();
    expect(|| handle.statistics().unwrap(), &["connections 1", "connects 1", "opened 1", "messages_received 1"]);
    let (_, refused) = running.connect(&url, &Options::default(), Script::new());
    RawPeer::accept(&listener).write(b"HTTP/1.1 403 No\r\n\r\n");
    assert_eq!(refused.closed().code, 1006);
    drop(listener);
    let (_, nobody) = running.connect(&url, &Options::default(), Script::new());
    assert_eq!(nobody.closed().code, 1006);
    drop(peer);
    assert_eq!(events.closed().code, 1006);
    expect(
        || handle.statistics().unwrap(),
        &[
            "connects 3",
            "opened 1",
            "connects_failed connect 1",
            "connects_failed http 1",
            "messages_received 1",
            "failures connect transport 1",
            "failures http refused 1",
            "failures websocket transport 1",
            "closes 1006 3",
        ],
    );
}

#[test]
fn a_broadcast_counts_once_for_each_receiver_and_for_each_listener() {
    let subscribe = || Script::new().on_open(|connection| connection.subscribe("room").unwrap());
    let (one, events) = Recorder::new(subscribe());
    let (other, other_events) = Recorder::new(subscribe());
    let (running, listeners) = Running::start(&LoopOptions::default(), move |handle| {
        let one = handle.listen("127.0.0.1:0", &Options::default(), one).unwrap();
        let other = handle.listen("127.0.0.1:0", &Options::default(), other).unwrap();
        [one, other].map(|listener| (listener, listener.local_address().unwrap()))
    });
    let [(one, first), (other, second)] = listeners;
    let address = |address| match address {
        Address::Tcp(address) => address,
        Address::Unix(_) => panic!("a Unix socket"),
    };
    let (first, second) = (address(first), address(second));
    let mut peers: Vec<_> = [first, first, second].into_iter().map(RawPeer::open).collect();
    let excepted = [events.opened(), events.opened(), other_events.opened()][0];
    running.handle.publish("room", "to all", None).unwrap();
    one.broadcast("to one", None).unwrap();
    running.handle.publish("room", "again", Some(excepted)).unwrap();
    for (peer, count) in peers.iter_mut().zip([2, 3, 2]) {
        (0..count).for_each(|_| drop(peer.read_frame()));
    }
    // Bytes are counted right after they were written, which is when the peers see them.
    running.on_loop(|| ());
    assert_eq!(running.handle.statistics().unwrap().messages_sent, 7);
    let counted = |listener: wsx_core::Listener| listener.statistics().unwrap();
    // Which of the first two is left out is not known: both belong to the first listener.
    assert_eq!((counted(one).messages_sent, counted(other).messages_sent), (5, 2));
    let head = counted(other).bytes_sent - (2 + 6) - (2 + 5);
    assert_eq!(counted(one).bytes_sent, 2 * (head + 2 * (2 + 6)) + (2 + 5));
}

#[test]
fn what_waits_is_told_until_the_peer_reads() {
    let mut options = Options::default();
    options.backlog_limit = 1024 * 1024;
    options.backlog_policy = BacklogPolicy::Drop;
    let server = Server::start(&options, Script::new());
    let (mut peer, connection) = server.open_narrow();
    let taken = 64;
    for _ in 0..taken {
        connection.send(&[0; 64 * 1024]).unwrap();
    }
    let waiting = server.on_loop(move || connection.buffered_amount().unwrap());
    assert!(waiting > 0);
    let counted = || server.listener.statistics().unwrap();
    eventually("what waits is counted", || counted().buffered_bytes == waiting as u64);
    let lost = counted().messages_lost;
    assert!(lost > 0);
    assert_eq!(counted().messages_sent, taken - lost);
    for _ in 0..taken - lost {
        peer.read_frame();
    }
    eventually("nothing waits any more", || counted().buffered_bytes == 0);
    // The same once more, and the peer is gone before it has read.
    for _ in 0..taken {
        connection.send(&[0; 64 * 1024]).unwrap();
    }
    eventually("it waits again", || counted().buffered_bytes != 0);
    drop(peer);
    server.events.closed();
    eventually("nothing waits any more", || counted().buffered_bytes == 0);
}

#[test]
fn what_a_listener_has_counted_stays_in_the_sum_of_its_loop() {
    let server = Server::start(&Options::default(), Script::echo());
    let (mut peer, _) = server.open();
    peer.send_text("hello");
    peer.expect_text("hello");
    server.listener.close().unwrap();
    peer.send_close(Some(4001), "");
    peer.expect_close(4001);
    server.events.closed();
    eventually("the listener is gone", || matches!(server.listener.statistics(), Err(Error::Closed)));
    expect(
        || server.handle.statistics().unwrap(),
        &["accepted 1", "opened 1", "messages_received 1", "messages_sent 1", "closes 4000 1"],
    );
}

#[test]
fn what_prometheus_is_told_of_an_address_does_not_fall_where_another_takes_it_over() {
    let server = Server::start(&Options::default(), Script::new());
    let begin = || {
        let (handle, listener, recorder) = (server.handle.clone(), server.listener, Recorder::new(Script::new()).0);
        server.on_loop(move || handle.route(listener, "/a", &Options::default(), recorder).unwrap())
    };
    let open = || {
        let mut peer = RawPeer::connect(server.address());
        peer.write(upgrade("a", "/a", "").as_bytes());
        peer.expect_upgrade();
        peer
    };
    let first = begin();
    let peer = open();
    server.on_loop(move || first.close().unwrap());
    let second = begin();
    let _other = open();
    let opened = format!("wsx_opened_total{{listener=\"{}/a\"}} 2\n", server.address());
    assert!(server.handle.metrics().unwrap().contains(&opened));
    drop(peer);
    eventually("the first route is gone", || first.statistics().is_err());
    let metrics = server.handle.metrics().unwrap();
    assert!(metrics.contains(&opened), "{metrics}");
    assert_eq!(second.statistics().unwrap().opened, 1);
}

#[test]
fn a_shutdown_counts_those_it_cuts_off() {
    let mut server = Server::start(&Options::default(), Script::new());
    let handle = server.handle.clone();
    let _waiting = RawPeer::connect(server.address());
    expect(|| handle.statistics().unwrap(), &["handshakes 1", "accepted 1"]);
    let (sender, receiver) = std::sync::mpsc::channel();
    let listener = server.listener;
    handle.post(move || sender.send(listener.statistics()).unwrap()).unwrap();
    assert_eq!(receiver.recv_timeout(DEADLINE).unwrap().unwrap().accepted, 1);
    handle.shutdown(Duration::from_secs(5)).unwrap();
    server.running.join();
    assert!(matches!(handle.statistics(), Err(Error::LoopGone)));
}

/// Echoes, on every thread.
#[derive(Clone)]
struct Echo;

impl Handler for Echo {
    fn on_message(&mut self, connection: Connection, message: Message<'_>) {
        connection.send(message).unwrap();
    }

    fn for_another_thread(&self) -> Option<Box<dyn Handler>> {
        Some(Box::new(self.clone()))
    }
}

#[test]
fn threads_are_counted_each_and_summed() {
    let mut options = LoopOptions::default();
    options.threads = 3;
    let (running, (listener, address)) = Running::start(&options, |handle| {
        let listener = handle.listen("127.0.0.1:0", &Options::default(), Echo).unwrap();
        (listener, listener.local_address().unwrap())
    });
    let Address::Tcp(address) = address else { panic!("a Unix socket") };
    let mut peers: Vec<_> = (0..30).map(|_| RawPeer::open(address)).collect();
    for peer in &mut peers {
        peer.send(TEXT, b"hello");
        peer.expect_text("hello");
    }
    let wanted = ["connections 30", "accepted 30", "opened 30", "messages_received 30", "messages_sent 30"];
    expect(|| listener.statistics().unwrap(), &wanted);
    expect(|| running.handle.statistics().unwrap(), &wanted);
    let each = running.handle.thread_statistics().unwrap();
    assert_eq!(each.len(), 3);
    assert!(each.iter().all(|one| one.turns > 0), "{each:?}");
    assert_eq!(each.iter().map(|one| one.accepted).sum::<u64>(), 30);
    let metrics = running.handle.metrics().unwrap();
    assert!(metrics.contains(&format!("\nwsx_accepted_total{{listener=\"{address}\"}} 30\n")), "{metrics}");
}

#[test]
fn the_longest_callback_is_measured_where_that_is_asked_for() {
    let slow = || {
        Script::new().on_message(|_, _| {
            let end = std::time::Instant::now() + Duration::from_millis(20);
            while std::time::Instant::now() < end {}
        })
    };
    let mut options = LoopOptions::default();
    for is_measured in [false, true] {
        options.measure_callbacks = is_measured;
        let server = Server::start_with(&options, &Options::default(), slow());
        let (mut peer, _) = server.open();
        peer.send_text("hello");
        server.events.find(|event| matches!(event, Event::Text(..)).then_some(()));
        // The next turn comes after the callback was measured.
        server.on_loop(|| ());
        let longest = server.handle.statistics().unwrap().longest_callback;
        assert_eq!(longest >= 20_000_000, is_measured, "{longest} ns");
        assert_eq!(server.listener.statistics().unwrap().longest_callback, 0);
    }
}

#[test]
fn statistics_can_be_asked_for_before_the_first_turn_and_inside_callbacks() {
    let event_loop = EventLoop::new().unwrap();
    assert_eq!(event_loop.statistics().unwrap(), Statistics::default());
    let handle = event_loop.handle();
    drop(event_loop);
    assert!(matches!(handle.statistics(), Err(Error::LoopGone)));
    assert!(matches!(handle.metrics(), Err(Error::LoopGone)));
    let (sender, receiver) = std::sync::mpsc::channel();
    let server = Server::start(
        &Options::default(),
        Script::new().on_message(move |connection, message| {
            connection.send(message).unwrap();
            connection.send("again").unwrap();
            sender.send(()).unwrap();
        }),
    );
    let (mut peer, _) = server.open();
    let handle = server.handle.clone();
    peer.send_text("hello");
    receiver.recv_timeout(DEADLINE).unwrap();
    let inside = server.on_loop(move || handle.statistics().unwrap());
    assert_eq!((inside.messages_received, inside.messages_sent), (1, 2));
}
