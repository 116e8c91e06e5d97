//! TLS in both roles: what works over it as it does without.

#![cfg(feature = "tls")]

mod support;

use std::net::TcpListener;
use std::sync::mpsc;

use support::tls::{Authority, VERSIONS, connect};
use support::{BINARY, DEADLINE, Event, Recorder, Running, Script, Server, TEXT, eventually};
use wsx_core::{Address, BacklogPolicy, LoopOptions, Options, Response};

fn url(server: &Server) -> String {
    format!("wss://127.0.0.1:{}/", server.address().port())
}

/// Bytes that differ from place to place.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).flat_map(|index| (index.wrapping_mul(2_654_435_761)).to_le_bytes()).take(len).collect()
}

#[test]
fn a_server_echoes_over_both_versions_of_tls() {
    let authority = Authority::new("A");
    let server = Server::start(&authority.local().server(), Script::echo());
    for version in VERSIONS {
        let mut peer = connect(server.address(), authority.raw_client(&[version], None), "localhost");
        peer.upgrade(server.address());
        assert_eq!(peer.stream.conn.protocol_version(), Some(version.version));
        peer.send_text("hello");
        peer.expect_text("hello");
        peer.send_close(Some(1000), "");
        peer.expect_close(1000);
        // With a close_notify, without which this panics.
        peer.expect_end();
        assert!(server.events.closed().was_clean);
    }
}

#[test]
fn a_client_echoes_over_both_versions_of_tls() {
    let authority = Authority::new("A");
    let (issued, running) = (authority.local(), Running::idle());
    for version in VERSIONS {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("wss://{}/", listener.local_addr().unwrap());
        let (connection, events) = running.connect(&url, &authority.client(), Script::echo());
        let mut peer = issued.accept_with(&listener, issued.raw_server(&[version]));
        let head = peer.read_head();
        assert!(head.contains(&format!("\r\nHost: {}\r\n", listener.local_addr().unwrap())), "{head}");
        peer.answer_upgrade(&head, "");
        peer.send_text("hello");
        peer.expect_text("hello");
        assert_eq!(peer.stream.conn.protocol_version(), Some(version.version));
        running.on_loop(move || connection.close(1000, "bye").unwrap());
        assert_eq!(peer.expect_close(1000), "bye");
        peer.send_close(Some(1000), "");
        peer.stream.conn.send_close_notify();
        peer.write(b"");
        assert!(events.closed().was_clean);
        peer.expect_end();
    }
}

#[test]
fn both_ends_of_ours_pass_large_messages_both_ways() {
    let authority = Authority::new("A");
    let mut options = authority.local().server();
    options.max_message = 0;
    options.backlog_limit = 0;
    let mut client = authority.client();
    (client.max_message, client.backlog_limit) = (0, 0);
    let server = Server::start(&options, Script::echo().quiet());
    let running = Running::idle();
    let (connection, events) = running.connect(&url(&server), &client, Script::new());
    events.opened();
    for len in [0, 1, 125, 16 * 1024 - 1, 16 * 1024, 65_535, 65_536, 300_000, 5 * 1024 * 1024] {
        let sent = pattern(len);
        let message = sent.clone();
        running.on_loop(move || connection.send(&message).unwrap());
        let received = events.find(|event| match event {
            Event::Binary(_, bytes) => Some(bytes),
            _ => None,
        });
        assert!(received == sent, "{len} bytes came back as {}", received.len());
    }
}

#[test]
fn what_comes_in_one_record_with_the_request_is_not_lost() {
    let authority = Authority::new("A");
    let server = Server::start(&authority.local().server(), Script::echo());
    let mut peer = authority.connect(server.address());
    let mut bytes = support::upgrade("localhost", "/", "").into_bytes();
    bytes.extend(support::frame(0x80 | TEXT, b"early", Some(support::MASK)));
    peer.write(&bytes);
    peer.expect_upgrade();
    peer.expect_text("early");
}

#[test]
fn records_larger_than_the_receive_buffer_come_in_parts() {
    let authority = Authority::new("A");
    let mut loop_options = LoopOptions::default();
    loop_options.receive_buffer = 4096;
    let mut options = authority.local().server();
    options.max_message = 0;
    let server = Server::start_with(&loop_options, &options, Script::echo().quiet());
    let mut peer = authority.open(server.address());
    // Short messages in long records, and a long one in many.
    let short: Vec<u8> =
        (0..4000).flat_map(|_| support::frame(0x80 | TEXT, b"0123456789", Some(support::MASK))).collect();
    peer.write(&short);
    for _ in 0..4000 {
        peer.expect_text("0123456789");
    }
    let long = pattern(200_000);
    peer.send(BINARY, &long);
    assert!(peer.read_frame().payload == long);
}

#[test]
fn a_record_may_come_byte_by_byte() {
    let authority = Authority::new("A");
    let server = Server::start(&authority.local().server(), Script::echo());
    let mut peer = authority.open(server.address());
    let frame = support::frame(0x80 | TEXT, b"slow", Some(support::MASK));
    let mut record = Vec::new();
    std::io::Write::write_all(&mut peer.stream.conn.writer(), &frame).unwrap();
    peer.stream.conn.write_tls(&mut record).unwrap();
    for byte in record {
        std::io::Write::write_all(&mut peer.stream.sock, &[byte]).unwrap();
    }
    peer.expect_text("slow");
}

#[test]
fn many_connections_speak_at_once() {
    let authority = Authority::new("A");
    let server = Server::start(&authority.local().server(), Script::echo().quiet());
    let mut peers: Vec<_> = (0..64).map(|_| authority.open(server.address())).collect();
    for round in 0..5 {
        for (index, peer) in peers.iter_mut().enumerate() {
            peer.send_text(&format!("{index} {round}"));
        }
        for (index, peer) in peers.iter_mut().enumerate() {
            peer.expect_text(&format!("{index} {round}"));
        }
    }
}

#[test]
fn an_update_of_keys_goes_unnoticed() {
    let authority = Authority::new("A");
    let server = Server::start(&authority.local().server(), Script::echo());
    let mut peer = authority.open(server.address());
    for round in 0..100 {
        peer.stream.conn.refresh_traffic_keys().unwrap();
        peer.send_text(&format!("round {round}"));
        peer.expect_text(&format!("round {round}"));
    }
}

#[test]
fn a_certificate_is_chosen_by_the_name_that_is_asked_for() {
    let authority = Authority::new("A");
    let (first, second, third) =
        (authority.issue(&["localhost"]), authority.issue(&["two.test"]), authority.issue(&["*.three.test"]));
    let mut options = first.server();
    let tls = options.tls.as_mut().unwrap();
    tls.certificates.extend([second.certificate(), third.certificate()]);
    let (names, asked) = mpsc::channel();
    let script = Script::echo().on_request(move |request| {
        assert!(request.is_secure());
        names.send(request.server_name().map(str::to_owned)).unwrap();
        Response::accept()
    });
    let server = Server::start(&options, script);
    for (name, issued) in [("localhost", &first), ("two.test", &second), ("a.three.test", &third)] {
        let mut peer = connect(server.address(), authority.raw_client(&VERSIONS, None), name);
        peer.upgrade(server.address());
        assert!(peer.shown() == issued.der, "{name}");
        assert_eq!(asked.recv_timeout(DEADLINE).unwrap().as_deref(), Some(name));
    }
    // What is nobody's name, and no name at all, gets the first: whose name the client then misses.
    for name in ["four.test", "127.0.0.1"] {
        let mut peer = connect(server.address(), authority.raw_client(&VERSIONS, None), name);
        let error = std::io::Read::read(&mut peer.stream, &mut [0]).unwrap_err().to_string();
        assert!(error.contains("localhost"), "{error}");
    }
}

#[test]
fn an_address_is_no_server_name() {
    let authority = Authority::new("A");
    let (names, asked) = mpsc::channel();
    let script = Script::new().on_request(move |request| {
        names.send(request.server_name().map(str::to_owned)).unwrap();
        Response::accept()
    });
    let server = Server::start(&authority.local().server(), script);
    let (_, events) = server.running.connect(&url(&server), &authority.client(), Script::new());
    events.opened();
    assert_eq!(asked.recv_timeout(DEADLINE).unwrap(), None);
}

#[test]
fn a_plain_request_is_not_secure() {
    let (answers, asked) = mpsc::channel();
    let script = Script::new().on_request(move |request| {
        let is_bare = request.peer_certificates().is_empty() && request.server_name().is_none();
        answers.send((request.is_secure(), is_bare)).unwrap();
        Response::accept()
    });
    let server = Server::start(&Options::default(), script);
    let _peer = server.open();
    assert_eq!(asked.recv_timeout(DEADLINE).unwrap(), (false, true));
}

#[test]
fn a_page_of_the_same_host_may_connect() {
    let authority = Authority::new("A");
    let server = Server::start(&authority.local().server(), Script::new());
    for (origin, status) in [("https://example.org", 101), ("http://example.org", 403)] {
        let mut peer = authority.connect(server.address());
        peer.write(support::upgrade("example.org", "/", &format!("Origin: {origin}\r\n")).as_bytes());
        assert_eq!(support::status(&peer.read_head()), status, "{origin}");
    }
}

#[test]
fn a_plain_answer_of_http_is_whole_and_ends_in_order() {
    let authority = Authority::new("A");
    let body = "x".repeat(1_000_000);
    let page = body.clone();
    let script = Script::new().on_request(move |_| Response::page("text/plain", page.clone()));
    let server = Server::start(&authority.local().server(), script);
    let mut peer = authority.connect(server.address());
    peer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = peer.read_answer();
    assert_eq!(answer.status, 200);
    assert!(answer.body == body);
}

#[test]
fn new_handshakes_get_the_new_certificate_and_no_message_is_lost() {
    let authority = Authority::new("A");
    let server = Server::start(&authority.local().server(), Script::echo().quiet());
    let mut old = authority.open(server.address());
    let begun = authority.connect(server.address());
    let mut renewed = Vec::new();
    for round in 0..10 {
        let issued = authority.local();
        let (handle, listener, tls) = (server.handle.clone(), server.listener, issued.tls());
        old.send_text(&format!("before {round}"));
        match round % 2 {
            0 => server.on_loop(move || handle.reload_tls(listener, &tls).unwrap()),
            // From another thread it takes effect in the loop's next turn.
            _ => {
                handle.reload_tls(listener, &tls).unwrap();
                server.on_loop(|| ());
            }
        }
        old.send_text(&format!("after {round}"));
        let mut new = authority.open(server.address());
        assert!(new.shown() == issued.der, "round {round}");
        new.send_text("new");
        renewed.push(new);
    }
    for round in 0..10 {
        old.expect_text(&format!("before {round}"));
        old.expect_text(&format!("after {round}"));
    }
    for new in &mut renewed {
        new.expect_text("new");
    }
    let mut begun = begun;
    begun.upgrade(server.address());
}

#[test]
fn a_bad_reload_changes_nothing() {
    let authority = Authority::new("A");
    let issued = authority.local();
    let server = Server::start(&issued.server(), Script::new());
    let (handle, listener) = (server.handle.clone(), server.listener);
    let mut bad = issued.tls();
    bad.certificates[0].key = b"no key".to_vec().into();
    let error = handle.reload_tls(listener, &bad).unwrap_err().to_string();
    assert!(error.contains("no private key"), "{error}");
    assert!(authority.open(server.address()).shown() == issued.der);

    let plain = Server::start(&Options::default(), Script::new());
    let (listener, tls) = (plain.listener, issued.tls());
    let error = plain.on_loop(move || listener.reload_tls(&tls)).unwrap_err().to_string();
    assert!(error.contains("the listener is plain"), "{error}");
}

#[test]
fn all_threads_reload() {
    let authority = Authority::new("A");
    let mut loop_options = LoopOptions::default();
    loop_options.threads = 3;
    let options = authority.local().server();
    let (running, (listener, address)) = Running::start(&loop_options, move |handle| {
        let listener = handle.listen("127.0.0.1:0", &options, Threaded).unwrap();
        (listener, listener.local_address().unwrap())
    });
    let Address::Tcp(address) = address else { panic!("not TCP") };
    let mut old: Vec<_> = (0..12).map(|_| authority.open(address)).collect();
    let renewed = authority.local();
    let tls = renewed.tls();
    running.on_loop(move || listener.reload_tls(&tls).unwrap());
    for _ in 0..12 {
        let mut new = authority.open(address);
        assert!(new.shown() == renewed.der);
        new.send_text("new");
        new.expect_text("new");
    }
    for peer in &mut old {
        peer.send_text("old");
        peer.expect_text("old");
    }
}

/// An echo on several threads.
#[derive(Clone)]
struct Threaded;

impl wsx_core::Handler for Threaded {
    fn on_message(&mut self, connection: wsx_core::Connection, message: wsx_core::Message<'_>) {
        connection.send(message).unwrap();
    }

    fn for_another_thread(&self) -> Option<Box<dyn wsx_core::Handler>> {
        Some(Box::new(self.clone()))
    }
}

#[test]
fn broadcasts_and_topics_reach_plain_and_secure_connections_of_one_loop() {
    let authority = Authority::new("A");
    let secure = authority.local().server();
    let subscribing = || Script::new().on_open(|connection| connection.subscribe("all").unwrap()).quiet();
    let (first, plain_events) = Recorder::new(subscribing());
    let (second, secure_events) = Recorder::new(subscribing());
    let (running, (plain_at, secure_at)) = Running::start(&LoopOptions::default(), move |handle| {
        let plain = handle.listen("127.0.0.1:0", &Options::default(), first).unwrap();
        let secure = handle.listen("127.0.0.1:0", &secure, second).unwrap();
        let port = |listener: wsx_core::Listener| match listener.local_address().unwrap() {
            Address::Tcp(address) => address,
            other => panic!("not TCP: {other}"),
        };
        (port(plain), port(secure))
    });
    let mut plain: Vec<_> = (0..3).map(|_| support::RawPeer::open(plain_at)).collect();
    let mut secured: Vec<_> = (0..3).map(|_| authority.open(secure_at)).collect();
    for _ in 0..3 {
        plain_events.opened();
        secure_events.opened();
    }
    let handle = running.handle.clone();
    let large = pattern(300_000);
    let message = large.clone();
    running.on_loop(move || {
        handle.broadcast("to all", None).unwrap();
        handle.publish("all", "to subscribers", None).unwrap();
        handle.publish("all", &message, None).unwrap();
        handle.broadcast("last", None).unwrap();
    });
    for peer in &mut plain {
        peer.expect_text("to all");
        peer.expect_text("to subscribers");
        assert!(peer.read_frame().payload == large);
        peer.expect_text("last");
    }
    for peer in &mut secured {
        peer.expect_text("to all");
        peer.expect_text("to subscribers");
        assert!(peer.read_frame().payload == large);
        peer.expect_text("last");
    }
}

#[test]
fn many_sessions_are_resumed() {
    let authority = Authority::new("A");
    let server = Server::start(&authority.local().server(), Script::echo().quiet());
    for version in VERSIONS {
        let config = authority.raw_client(&[version], None);
        for round in 0..3 {
            let mut peer = connect(server.address(), config.clone(), "localhost");
            peer.upgrade(server.address());
            peer.send_text("x");
            peer.expect_text("x");
            let resumed = peer.stream.conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
            assert_eq!(resumed, round > 0, "{:?} round {round}", version.version);
        }
    }
}

#[test]
fn an_echo_that_pauses_passes_everything_to_a_slow_reader() {
    let authority = Authority::new("A");
    let mut options = authority.local().server();
    options.backlog_policy = BacklogPolicy::Pause;
    options.backlog_limit = 64 * 1024;
    let server = Server::start(&options, Script::echo().quiet());
    let mut peer = authority.open(server.address());
    let writer = peer.stream.sock.try_clone().unwrap();
    drop(writer);
    // Writing blocks once everything between is full, so messages go and come in turns that do not fit each other.
    let (mut sent, mut received) = (0_u32, 0_u32);
    while received < 2000 {
        while sent < 2000 && sent - received < 40 {
            let mut payload = pattern(10_000);
            payload[..4].copy_from_slice(&sent.to_be_bytes());
            peer.send(BINARY, &payload);
            sent += 1;
        }
        let payload = peer.read_frame().payload;
        assert_eq!((payload.len(), &payload[..4]), (10_000, &received.to_be_bytes()[..]));
        received += 1;
    }
    eventually("nothing is lost", || server.connection_count() == 1);
}
