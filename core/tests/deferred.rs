//! Requests that the program answers later: from any thread, within the handshake timeout, and whatever the peer does
//! meanwhile.

mod support;

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use support::{DEADLINE, Event, MASK, RawPeer, Script, Server, TEXT, eventually, frame, status, upgrade};
use wsx_core::{Connection, Error, FailureKind, LoopOptions, Options, ReadyState, Response, Stage};

/// A server whose hook defers every answer, and tells the numbers; the second receiver gets those that wait no more, and whether
/// they were answered.
fn deferring(options: &Options) -> (Server, mpsc::Receiver<Connection>, mpsc::Receiver<(Connection, bool)>) {
    let (asks, asked) = mpsc::channel();
    let (ends, ended) = mpsc::channel();
    let script = Script::echo()
        .on_request(move |request| {
            asks.send(request.connection()).unwrap();
            Response::later()
        })
        .after_deferral(move |connection, is_answered| {
            let _ = ends.send((connection, is_answered));
        });
    (Server::start(options, script), asked, ended)
}

fn short() -> Options {
    let mut options = Options::default();
    options.handshake_timeout = Duration::from_millis(100);
    options
}

/// A raw client that has asked for a WebSocket, and the number of its request.
fn ask(server: &Server, asked: &mpsc::Receiver<Connection>) -> (RawPeer, Connection) {
    let mut peer = RawPeer::connect(server.address());
    peer.write(upgrade("a", "/", "").as_bytes());
    (peer, asked.recv_timeout(DEADLINE).unwrap())
}

/// Waits until the loop has done everything that it was asked before.
fn settle(server: &Server) {
    server.on_loop(|| ());
}

#[test]
fn another_thread_accepts_and_on_open_sees_the_request() {
    let (asks, asked) = mpsc::channel();
    let (shows, shown) = mpsc::channel();
    struct Sees(mpsc::Sender<Connection>, mpsc::Sender<(String, String, Option<String>)>);
    impl wsx_core::Handler for Sees {
        fn on_request(&mut self, request: &wsx_core::Request<'_>) -> Response {
            self.0.send(request.connection()).unwrap();
            Response::later()
        }
        fn on_open(&mut self, _: Connection, opening: &wsx_core::Opening<'_>) {
            let request = opening.request.unwrap();
            let header = request.header("x-token").unwrap().to_owned();
            self.1.send((request.path().to_owned(), header, opening.subprotocol.map(str::to_owned))).unwrap();
        }
    }
    let (running, address) = support::Running::start(&LoopOptions::default(), move |handle| {
        let listener = handle.listen("127.0.0.1:0", &Options::default(), Sees(asks, shows)).unwrap();
        listener.local_address().unwrap()
    });
    let wsx_core::Address::Tcp(address) = address else { panic!() };
    let mut peer = RawPeer::connect(address);
    peer.write(upgrade("a", "/room?x=1", "X-Token: secret\r\nSec-WebSocket-Protocol: a, b\r\n").as_bytes());
    let connection = asked.recv_timeout(DEADLINE).unwrap();
    assert_eq!(running.on_loop(move || connection.ready_state().unwrap()), ReadyState::Connecting);
    connection.respond(Response::accept().subprotocol("b").header("X-Who", "you")).unwrap();
    let head = peer.expect_upgrade();
    assert!(head.contains("\r\nSec-WebSocket-Protocol: b\r\n") && head.contains("\r\nX-Who: you\r\n"), "{head}");
    let opened = shown.recv_timeout(DEADLINE).unwrap();
    assert_eq!(opened, ("/room".to_owned(), "secret".to_owned(), Some("b".to_owned())));
}

#[test]
fn frames_that_came_behind_the_request_are_heard_after_open() {
    let (server, asked, ended) = deferring(&Options::default());
    let mut peer = RawPeer::connect(server.address());
    let mut bytes = upgrade("a", "/", "").into_bytes();
    bytes.extend(frame(0x80 | TEXT, b"one", Some(MASK)));
    bytes.extend(&frame(0x80 | TEXT, b"two", Some(MASK))[..3]);
    peer.write(&bytes);
    let connection = asked.recv_timeout(DEADLINE).unwrap();
    peer.write(&frame(0x80 | TEXT, b"two", Some(MASK))[3..]);
    settle(&server);
    assert!(server.events.try_next().is_none() && ended.try_recv().is_err());
    server.on_loop(move || connection.respond(Response::accept()).unwrap());
    peer.expect_upgrade();
    peer.expect_text("one");
    peer.expect_text("two");
    assert_eq!(ended.recv_timeout(DEADLINE).unwrap(), (connection, true));
    assert!(matches!(server.events.next(), Event::Opened(opened, None) if opened == connection));
    assert_eq!((server.events.text(), server.events.text()), ("one".into(), "two".into()));
    peer.send_close(Some(1000), "");
    peer.expect_close(1000);
    assert!(server.events.closed().was_clean);
}

#[test]
fn any_answer_can_come_later() {
    let (server, asked, _ended) = deferring(&Options::default());
    let (mut peer, connection) = ask(&server, &asked);
    connection.respond(Response::reject(401, "who are you?").header("WWW-Authenticate", "Bearer")).unwrap();
    let answer = peer.read_answer();
    assert_eq!((answer.status, answer.body.as_str()), (401, "who are you?"));
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));

    for (request, answer, status, body) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Response::page("text/html", "<p>"), 200, "<p>"),
        ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", Response::page("text/html", "<p>"), 200, ""),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Response::accept(), 426, "a WebSocket is served here"),
        (&upgrade("a", "/", ""), Response::accept().subprotocol("x"), 500, "internal server error"),
    ] {
        let mut peer = RawPeer::connect(server.address());
        peer.write(request.as_bytes());
        asked.recv_timeout(DEADLINE).unwrap().respond(answer).unwrap();
        let answer = peer.read_answer();
        assert_eq!(answer.status, status);
        assert!(answer.body.starts_with(body), "{}", answer.body);
    }
    assert!(server.events.listener_error().message.contains("not offered"));

    let mut peer = RawPeer::connect(server.address());
    peer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let stream = asked.recv_timeout(DEADLINE).unwrap();
    stream.respond(Response::stream("text/event-stream")).unwrap();
    peer.read_head();
    stream.write(b"data").unwrap();
    assert_eq!(peer.read_bytes(9), b"4\r\ndata\r\n");
    drop(peer);
    assert_eq!(server.events.closed().reason, "the client left");
}

#[test]
fn what_cannot_be_an_answer_is_refused_and_the_request_waits_on() {
    let (server, asked, _ended) = deferring(&Options::default());
    let (mut peer, connection) = ask(&server, &asked);
    assert!(matches!(connection.respond(Response::later()), Err(Error::InvalidArgument(_))));
    assert!(matches!(connection.respond(Response::reject(99, "")), Err(Error::InvalidArgument(_))));
    let error = connection.respond(Response::accept().header("a b", "")).unwrap_err();
    assert_eq!(error.to_string(), "invalid argument: \"a b\" is not the name of an HTTP header");
    server.on_loop(move || {
        assert!(matches!(connection.send("early"), Err(Error::NotOpen)));
        assert!(matches!(connection.close(1000, ""), Err(Error::NotOpen)));
        assert!(matches!(connection.terminate(), Err(Error::NotOpen)));
    });
    connection.respond(Response::accept()).unwrap();
    peer.expect_upgrade();
}

#[test]
fn a_request_is_answered_once() {
    let (server, asked, _ended) = deferring(&Options::default());
    let (mut peer, connection) = ask(&server, &asked);
    connection.respond(Response::accept()).unwrap();
    // From another thread it is only known that it is too late.
    assert!(matches!(connection.respond(Response::reject(403, "")), Err(Error::Closed)));
    peer.expect_upgrade();
    server.events.opened();
    let second = move || connection.respond(Response::accept());
    assert!(matches!(server.on_loop(second), Err(Error::WrongKind(why)) if why.contains("no answer is awaited")));
    drop(peer);
    server.events.closed();
    eventually("the number is stale", || matches!(server.on_loop(second), Err(Error::Closed)));
    for stale in [0, connection.id() ^ 1, u64::MAX] {
        let stale = Connection::from_id(stale);
        assert!(matches!(stale.respond(Response::accept()), Err(Error::Closed)));
        assert!(matches!(server.on_loop(move || stale.respond(Response::accept())), Err(Error::Closed)));
    }

    let (mut peer, connection) = ask(&server, &asked);
    server.on_loop(move || {
        connection.respond(Response::reject(403, "first")).unwrap();
        assert!(matches!(connection.respond(Response::accept()), Err(Error::WrongKind(_))));
    });
    assert_eq!(peer.read_answer().body, "first");
}

#[test]
fn an_answer_may_come_before_the_hook_has_deferred_it() {
    let script = Script::new().on_request(|request| {
        let connection = request.connection();
        let answer = move |body: &str| connection.respond(Response::reject(403, body));
        if request.query() == Some("thread") {
            thread::spawn(move || {
                answer("fast").unwrap();
                assert!(matches!(answer("again"), Err(Error::Closed)));
            })
            .join()
            .unwrap();
        } else {
            answer("fast").unwrap();
            assert!(matches!(answer("again"), Err(Error::WrongKind(_))));
        }
        if request.path() == "/later" { Response::later() } else { Response::accept() }
    });
    let server = Server::start(&Options::default(), script);
    for by in ["thread", "hook"] {
        let later = upgrade("a", &format!("/later?{by}"), "");
        let answer = server.ask(&later);
        assert_eq!((answer.status, answer.body.as_str()), (403, "fast"), "{by}");
        // A hook that has not deferred its answer means what it says.
        assert_eq!(server.status_of(&upgrade("a", &format!("/now?{by}"), "")), 101, "{by}");
        assert_eq!(server.status_of(&later), 403, "{by}");
    }
}

#[test]
fn an_answer_that_does_not_come_in_time_is_a_503_and_the_listener_hears_why() {
    let (server, asked, ended) = deferring(&short());
    let (mut peer, connection) = ask(&server, &asked);
    let answer = peer.read_answer();
    assert_eq!((answer.status, answer.body.as_str()), (503, "the server has not answered in time: try again later\n"));
    let failure = server.events.listener_error();
    assert_eq!((failure.stage, failure.kind), (Stage::Http, FailureKind::Timeout));
    assert!(failure.message.contains("did not come within 100ms (handshake_timeout)"), "{failure}");
    assert_eq!(ended.recv_timeout(DEADLINE).unwrap(), (connection, false));
    assert!(matches!(connection.respond(Response::accept()), Err(Error::Closed)));
    assert!(matches!(server.on_loop(move || connection.respond(Response::accept())), Err(Error::Closed)));
    peer.expect_end();
    assert!(server.events.try_next().is_none());
}

#[test]
fn a_thousand_requests_that_nobody_answers_are_all_given_up() {
    let mut options = short();
    options.max_connections = 2000;
    let (server, asked, ended) = deferring(&options);
    for _ in 0..4 {
        let mut peers: Vec<_> = (0..250).map(|_| ask(&server, &asked).0).collect();
        for peer in &mut peers {
            assert_eq!(peer.read_answer().status, 503);
            server.events.listener_error();
            ended.recv_timeout(DEADLINE).unwrap();
        }
    }
    assert_eq!(server.connection_count(), 0);
}

#[test]
fn a_client_that_leaves_or_resets_frees_everything() {
    let (server, asked, ended) = deferring(&Options::default());
    for how in 0..4 {
        let (mut peer, connection) = ask(&server, &asked);
        match how {
            0 => drop(peer),
            1 => peer.reset(),
            2 => peer.finish(),
            _ => {
                // Unread bytes lie before the end.
                peer.send_text("hello");
                drop(peer);
            }
        }
        assert_eq!(ended.recv_timeout(DEADLINE).unwrap(), (connection, false), "{how}");
        assert!(matches!(connection.respond(Response::accept()), Err(Error::Closed)));
    }
    // It may have left before the hook was asked.
    let mut peer = RawPeer::connect(server.address());
    server.meanwhile(|| {
        peer.write(upgrade("a", "/", "").as_bytes());
        peer.reset();
    });
    let mut peer = RawPeer::connect(server.address());
    server.meanwhile(|| {
        peer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        peer.finish();
    });
    let connection = asked.recv_timeout(DEADLINE).unwrap();
    assert_eq!(ended.recv_timeout(DEADLINE).unwrap(), (connection, false));
    peer.expect_end();
    assert!(server.events.try_next().is_none(), "nothing was announced");
}

#[test]
fn a_client_that_sends_without_end_is_not_read_until_it_is_answered() {
    let (server, asked, _ended) = deferring(&Options::default());
    let (mut peer, connection) = ask(&server, &asked);
    // What the kernel's buffers hold between the two, and not one byte in the engine.
    let message = frame(0x80 | TEXT, &[b'x'; 50_000], Some(MASK));
    peer.stream.set_nonblocking(true).unwrap();
    let (mut sent, mut stuck) = (0, 0);
    while stuck < 20 {
        match peer.stream.write(&message[sent % message.len()..]) {
            Ok(count) => (sent, stuck) = (sent + count, 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                stuck += 1;
                settle(&server);
            }
            Err(error) => panic!("{error}"),
        }
        assert!(sent < 64 * 1024 * 1024, "somebody takes all of it");
    }
    peer.stream.set_nonblocking(false).unwrap();
    connection.respond(Response::accept()).unwrap();
    let rest = message[sent % message.len()..].to_vec();
    let mut writer = RawPeer::new(peer.stream.try_clone().unwrap(), true);
    let writer = thread::spawn(move || writer.write(&rest));
    peer.expect_upgrade();
    for _ in 0..sent.div_ceil(message.len()) {
        peer.expect_text(&"x".repeat(50_000));
    }
    writer.join().unwrap();
}

#[test]
fn more_behind_a_request_than_a_head_may_have_is_refused() {
    let mut options = Options::default();
    options.max_head = 512;
    let (server, asked, ended) = deferring(&options);
    for (behind, status) in [(512, 101), (513, 400)] {
        let mut peer = RawPeer::connect(server.address());
        let mut bytes = upgrade("a", "/", "").into_bytes();
        bytes.extend(vec![0; behind]);
        server.meanwhile(|| peer.write(&bytes));
        let connection = asked.recv_timeout(DEADLINE).unwrap();
        settle(&server);
        let answered = connection.respond(Response::accept());
        assert_eq!(support::status(&peer.read_head()), status, "{behind}");
        assert_eq!(answered.is_ok(), status == 101);
        assert_eq!(ended.recv_timeout(DEADLINE).unwrap(), (connection, status == 101));
    }
}

#[test]
fn whoever_is_first_of_an_answer_and_the_timeout_is_heard_and_the_other_knows() {
    let mut options = Options::default();
    options.handshake_timeout = Duration::from_millis(3);
    let (server, asked, _ended) = deferring(&options);
    let accepted = Arc::new(AtomicUsize::new(0));
    let in_time = accepted.clone();
    let answering = thread::spawn(move || {
        // As the loop's timer does, so that the two meet.
        for (number, connection) in asked.into_iter().take(300).enumerate() {
            let end = std::time::Instant::now() + Duration::from_micros(2500 + number as u64 % 10 * 200);
            while std::time::Instant::now() < end {
                std::hint::spin_loop();
            }
            match connection.respond(Response::accept()) {
                Ok(()) => in_time.fetch_add(1, Ordering::Relaxed),
                Err(Error::Closed) => 0,
                Err(error) => panic!("{error}"),
            };
        }
    });
    let mut opened = 0;
    for _ in 0..300 {
        let mut peer = RawPeer::connect(server.address());
        if !peer.try_write(upgrade("a", "/", "").as_bytes()) {
            continue;
        }
        match status(&peer.read_head()) {
            101 => opened += 1,
            503 => {}
            other => panic!("{other}"),
        }
    }
    answering.join().unwrap();
    assert_eq!(opened, accepted.load(Ordering::Relaxed));
}

#[test]
fn several_threads_defer_and_any_thread_answers() {
    #[derive(Clone)]
    struct Defers(mpsc::Sender<Connection>);
    impl wsx_core::Handler for Defers {
        fn on_request(&mut self, request: &wsx_core::Request<'_>) -> Response {
            self.0.send(request.connection()).unwrap();
            Response::later()
        }
        fn for_another_thread(&self) -> Option<Box<dyn wsx_core::Handler>> {
            Some(Box::new(self.clone()))
        }
    }
    let (asks, asked) = mpsc::channel();
    let mut options = LoopOptions::default();
    options.threads = 3;
    let (_running, address) = support::Running::start(&options, move |handle| {
        let listener = handle.listen("127.0.0.1:0", &Options::default(), Defers(asks)).unwrap();
        listener.local_address().unwrap()
    });
    let wsx_core::Address::Tcp(address) = address else { panic!() };
    let mut peers: Vec<_> = (0..20).map(|_| RawPeer::connect(address)).collect();
    for peer in &mut peers {
        peer.write(upgrade("a", "/", "").as_bytes());
    }
    let numbers: Vec<_> = (0..20).map(|_| asked.recv_timeout(DEADLINE).unwrap()).collect();
    for connection in numbers {
        // From a thread that has no loop; the hook may be about to return.
        connection.respond(Response::accept()).unwrap();
    }
    for peer in &mut peers {
        peer.expect_upgrade();
    }
}

#[test]
fn at_a_shutdown_who_waits_for_an_answer_gets_503() {
    let (mut server, asked, ended) = deferring(&Options::default());
    let (mut peer, connection) = ask(&server, &asked);
    let (mut other, answered) = ask(&server, &asked);
    // One is answered in the same turn, too late to be opened.
    let handle = server.handle.clone();
    server.on_loop(move || {
        answered.respond(Response::accept()).unwrap();
        handle.shutdown(DEADLINE).unwrap();
    });
    for peer in [&mut peer, &mut other] {
        let answer = peer.read_answer();
        assert_eq!((answer.status, answer.body.as_str()), (503, "the server shuts down: try again later\n"));
        peer.expect_end();
    }
    drop((peer, other));
    server.running.join();
    let mut waited = [ended.recv_timeout(DEADLINE).unwrap(), ended.recv_timeout(DEADLINE).unwrap()];
    waited.sort();
    assert_eq!(waited, [(connection.min(answered), false), (connection.max(answered), false)]);
    assert!(matches!(connection.respond(Response::accept()), Err(Error::Closed)));
}

#[test]
fn a_loop_that_is_dropped_gives_up_what_waits() {
    let (server, asked, ended) = deferring(&Options::default());
    let (mut peer, connection) = ask(&server, &asked);
    drop(server);
    peer.expect_end();
    assert_eq!(ended.recv_timeout(DEADLINE).unwrap(), (connection, false));
    assert!(matches!(connection.respond(Response::accept()), Err(Error::Closed)));
}

#[cfg(feature = "tls")]
#[test]
fn an_answer_can_come_later_over_tls() {
    use support::tls::{Authority, VERSIONS, connect};
    let authority = Authority::new("A");
    let (server, asked, ended) = deferring(&authority.local().server());
    for version in VERSIONS {
        let mut peer = connect(server.address(), authority.raw_client(&[version], None), "localhost");
        let mut bytes = upgrade("a", "/", "").into_bytes();
        bytes.extend(frame(0x80 | TEXT, b"one", Some(MASK)));
        peer.write(&bytes);
        let connection = asked.recv_timeout(DEADLINE).unwrap();
        peer.send_text("two");
        settle(&server);
        connection.respond(Response::accept()).unwrap();
        peer.expect_upgrade();
        peer.expect_text("one");
        peer.expect_text("two");
        assert_eq!(ended.recv_timeout(DEADLINE).unwrap(), (connection, true));

        let mut peer = connect(server.address(), authority.raw_client(&[version], None), "localhost");
        peer.write(upgrade("a", "/", "").as_bytes());
        let connection = asked.recv_timeout(DEADLINE).unwrap();
        connection.respond(Response::reject(403, "no")).unwrap();
        assert_eq!(peer.read_answer().status, 403);
        assert_eq!(ended.recv_timeout(DEADLINE).unwrap(), (connection, true));

        let mut peer = connect(server.address(), authority.raw_client(&[version], None), "localhost");
        peer.write(upgrade("a", "/", "").as_bytes());
        let connection = asked.recv_timeout(DEADLINE).unwrap();
        drop(peer);
        assert_eq!(ended.recv_timeout(DEADLINE).unwrap(), (connection, false));
    }
}
