//! What a peer may send, row by row of the table of limits: what the peer sees, and what the program hears.
//!
//! Time is in `timeouts.rs`, what waits to be sent in `backlog.rs`, descriptors in `descriptors.rs`.

mod support;

use std::io::{ErrorKind, Read};

use support::{
    BINARY, CLOSE, CONTINUATION, Event, MASK, PING, RawPeer, Script, Server, TEXT, frame_header, status, upgrade,
};
use wsx_core::{Error, FailureKind, Options, Origins, Side};

/// The peer gets a Close of this code that says why, and the program hears the same.
#[track_caller]
fn expect_limit(server: &Server, peer: &mut RawPeer, code: u16, words: [&str; 2]) {
    let reason = peer.expect_close(code);
    peer.send_close(Some(code), "");
    peer.expect_end();
    peer.finish();
    let ended = server.events.closed();
    assert_eq!((ended.code, ended.was_clean, ended.by), (code, false, Side::Us));
    assert_eq!(ended.failure.as_ref().unwrap().kind, FailureKind::Limit);
    for word in words {
        assert!(reason.contains(word), "{word:?} is not in the reason {reason:?}");
        assert!(ended.cause().contains(word), "{word:?} is not in the cause {:?}", ended.cause());
    }
}

fn small_messages() -> Options {
    let mut options = Options::default();
    options.max_message = 1000;
    options
}

#[test]
fn message_size_is_refused_by_the_header_alone() {
    let server = Server::start(&small_messages(), Script::new());
    let (mut peer, _) = server.open();
    peer.write(&frame_header(0x80 | BINARY, 1001, Some(MASK)));
    expect_limit(&server, &mut peer, 1009, ["max_message", "(1000)"]);
}

#[test]
fn message_size_is_refused_where_the_frame_is_there_whole() {
    let server = Server::start(&small_messages(), Script::new());
    let (mut peer, _) = server.open();
    peer.send(BINARY, &[7; 1001]);
    expect_limit(&server, &mut peer, 1009, ["max_message", "(1000)"]);
}

#[test]
fn message_size_is_the_sum_of_the_fragments() {
    for deliver_fragments in [false, true] {
        let mut options = small_messages();
        options.deliver_fragments = deliver_fragments;
        let server = Server::start(&options, Script::new());
        let (mut peer, _) = server.open();
        peer.send_frame(BINARY, &[1; 600]);
        peer.write(&frame_header(CONTINUATION, 401, Some(MASK)));
        expect_limit(&server, &mut peer, 1009, ["max_message", "(1000)"]);
    }
}

#[test]
fn message_size_is_allowed_up_to_the_limit() {
    let server = Server::start(&small_messages(), Script::new());
    let (mut peer, connection) = server.open();
    peer.send(BINARY, &[1; 1000]);
    peer.send_frame(BINARY, &[2; 600]);
    peer.send(CONTINUATION, &[2; 400]);
    for byte in [1, 2] {
        assert!(matches!(server.events.next(), Event::Binary(c, m) if c == connection && m == [byte; 1000]));
    }
}

#[test]
fn message_size_is_a_mebibyte_by_default_and_none_is_zero() {
    let server = Server::start(&Options::default(), Script::new());
    let (mut peer, _) = server.open();
    peer.send(BINARY, &vec![1; 1024 * 1024]);
    assert!(matches!(server.events.next(), Event::Binary(_, message) if message.len() == 1024 * 1024));
    peer.write(&frame_header(0x80 | BINARY, 1024 * 1024 + 1, Some(MASK)));
    expect_limit(&server, &mut peer, 1009, ["max_message", "(1048576)"]);

    let mut options = Options::default();
    options.max_message = 0;
    let server = Server::start(&options, Script::new());
    let (mut peer, _) = server.open();
    peer.send(BINARY, &vec![1; 3 * 1024 * 1024]);
    assert!(matches!(server.events.next(), Event::Binary(_, message) if message.len() == 3 * 1024 * 1024));
}

#[test]
fn fragments_per_message() {
    let mut options = Options::default();
    options.max_fragments = 4;
    let server = Server::start(&options, Script::new());
    let (mut peer, _) = server.open();
    peer.send_frame(TEXT, b"a");
    peer.send_frame(CONTINUATION, b"");
    peer.send_frame(CONTINUATION, b"b");
    peer.send(CONTINUATION, b"c");
    assert_eq!(server.events.text(), "abc");
    peer.send_frame(TEXT, b"a");
    for _ in 0..3 {
        peer.send_frame(CONTINUATION, b"");
    }
    // The program has heard nothing, and the fifth, though it is the last and empty, is one too many.
    peer.send(CONTINUATION, b"");
    expect_limit(&server, &mut peer, 1008, ["max_fragments", "(4)"]);
}

#[test]
fn fragments_are_1024_by_default_and_zero_is_no_limit() {
    for (max_fragments, is_refused) in [(Options::default().max_fragments, true), (0, false)] {
        let mut options = Options::default();
        options.max_fragments = max_fragments;
        let server = Server::start(&options, Script::new());
        let (mut peer, _) = server.open();
        let mut bytes = support::frame(TEXT, b"x", Some(MASK));
        for _ in 0..1023 {
            bytes.extend(support::frame(CONTINUATION, b"x", Some(MASK)));
        }
        peer.write(&bytes);
        peer.send(CONTINUATION, b"x");
        if is_refused {
            expect_limit(&server, &mut peer, 1008, ["max_fragments", "(1024)"]);
        } else {
            assert_eq!(server.events.text(), "x".repeat(1025));
        }
    }
}

#[test]
fn request_head_size() {
    let mut options = Options::default();
    options.max_head = 512;
    let server = Server::start(&options, Script::new());
    let address = server.address().to_string();
    let padded = |size: usize| {
        let bare = upgrade(&address, "/", "X-Padding: \r\n").len();
        upgrade(&address, "/", &format!("X-Padding: {}\r\n", "x".repeat(size - bare)))
    };
    assert_eq!(server.status_of(&padded(512)), 101);
    let answer = server.ask(&padded(513));
    assert_eq!(answer.status, 431);
    assert_eq!(answer.header("Connection"), Some("close"));
    assert!(answer.body.contains("max_head (512 bytes)"), "{}", answer.body);
    // It is refused as soon as it is too long, without its end.
    let answer = server.ask(&padded(600)[..560]);
    assert_eq!(answer.status, 431);
}

#[test]
fn request_head_headers() {
    let mut options = Options::default();
    options.max_headers = 10;
    let server = Server::start(&options, Script::new());
    let address = server.address().to_string();
    let headers = |count: usize| (0..count).map(|n| format!("X-{n}: {n}\r\n")).collect::<String>();
    // Five are there anyway.
    assert_eq!(server.status_of(&upgrade(&address, "/", &headers(5))), 101);
    let answer = server.ask(&upgrade(&address, "/", &headers(6)));
    assert_eq!(answer.status, 431);
    assert!(answer.body.contains("10"), "the figure is not told: {}", answer.body);
    assert!(answer.body.contains("max_headers"), "the option is not named: {}", answer.body);
}

#[test]
fn request_head_is_16_kib_and_100_headers_by_default() {
    let server = Server::start(&Options::default(), Script::new());
    let address = server.address().to_string();
    let headers = |count: usize| (0..count).map(|n| format!("X-{n}: {n}\r\n")).collect::<String>();
    assert_eq!(server.status_of(&upgrade(&address, "/", &headers(95))), 101);
    assert_eq!(server.status_of(&upgrade(&address, "/", &headers(96))), 431);
    let long = |size: usize| upgrade(&address, "/", &format!("X-Long: {}\r\n", "x".repeat(size)));
    assert_eq!(server.status_of(&long(16_000)), 101);
    assert_eq!(server.status_of(&long(16_384)), 431);
}

#[test]
fn control_frames() {
    let server = Server::start(&Options::default(), Script::new());
    let (mut peer, connection) = server.open();
    peer.send(PING, &[b'x'; 125]);
    let pong = peer.read_frame();
    assert_eq!((pong.opcode, pong.payload.len()), (support::PONG, 125));
    let answers = server.on_loop(move || {
        [connection.ping(&[0; 125]), connection.ping(&[0; 126]), connection.pong(&[0; 126])]
            .map(|answer| matches!(answer, Err(Error::InvalidArgument(_))))
    });
    assert_eq!(answers, [false, true, true]);
    assert_eq!(peer.read_frame().payload.len(), 125);
    let refused = server.on_loop(move || connection.close(1000, &"x".repeat(124)));
    assert!(matches!(refused, Err(Error::InvalidArgument(_))));

    peer.write(&frame_header(0x80 | PING, 126, Some(MASK)));
    let reason = peer.expect_close(1002);
    peer.finish();
    let ended = server.events.closed();
    assert_eq!((ended.code, ended.was_clean, ended.by), (1002, false, Side::Us));
    assert_eq!(ended.failure.as_ref().unwrap().kind, FailureKind::Protocol);
    assert_eq!(ended.cause(), reason);
}

#[test]
fn connections_beyond_the_limit_get_503() {
    let mut options = Options::default();
    options.max_connections = 2;
    let server = Server::start(&options, Script::echo());
    let request = upgrade(&server.address().to_string(), "/", "");
    let (first, _) = server.open();
    let (mut second, _) = server.open();
    let answer = server.ask(&request);
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("Connection"), Some("close"));
    assert!(answer.body.contains("max_connections"), "{}", answer.body);
    second.send_text("served");
    second.expect_text("served");

    drop(first);
    server.events.closed();
    // The refused one may not have gone yet, so the first to ask again may still be one too many.
    support::eventually("there is room again", || server.status_of(&request) == 101);
}

#[test]
fn connections_beyond_the_reserve_wait_in_the_queue_of_the_kernel() {
    let mut options = Options::default();
    options.max_connections = 1;
    let server = Server::start(&options, Script::echo());
    let (mut open, _) = server.open();
    let mut reserve: Vec<_> = (0..32).map(|_| RawPeer::connect(server.address())).collect();
    let mut waiting = RawPeer::connect(server.address());
    waiting.write(upgrade(&server.address().to_string(), "/", "").as_bytes());
    for _ in 0..3 {
        open.send_text("served");
        open.expect_text("served");
    }
    waiting.stream.set_nonblocking(true).unwrap();
    let nothing = waiting.stream.read(&mut [0; 1]).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    waiting.stream.set_nonblocking(false).unwrap();
    reserve.pop();
    assert_eq!(status(&waiting.read_head()), 503);
}

#[test]
fn topics_per_connection() {
    let mut options = Options::default();
    options.max_topics = 2;
    let server = Server::start(&options, Script::new());
    let (mut peer, connection) = server.open();
    server.on_loop(move || {
        connection.subscribe("one").unwrap();
        connection.subscribe("two").unwrap();
        connection.subscribe("two").unwrap();
        match connection.subscribe("three") {
            Err(Error::InvalidArgument(why)) => assert!(why.contains("max_topics") && why.contains('2'), "{why}"),
            other => panic!("{other:?}"),
        }
        connection.unsubscribe("one").unwrap();
        connection.subscribe("three").unwrap();
    });
    let handle = server.handle.clone();
    server.on_loop(move || {
        for topic in ["one", "two", "three"] {
            handle.publish(topic, topic, None).unwrap();
        }
    });
    peer.expect_text("two");
    peer.expect_text("three");
}

#[test]
fn topics_have_names_of_1_to_255_bytes() {
    let server = Server::start(&Options::default(), Script::new());
    let (_peer, connection) = server.open();
    let handle = server.handle.clone();
    server.on_loop(move || {
        connection.subscribe(&"x".repeat(255)).unwrap();
        for name in [String::new(), "x".repeat(256)] {
            for refused in [connection.subscribe(&name), connection.unsubscribe(&name)] {
                assert!(matches!(refused, Err(Error::InvalidArgument(_))));
            }
            assert!(matches!(handle.publish(&name, "x", None), Err(Error::InvalidArgument(_))));
        }
        // 128 by default.
        (1..128).for_each(|n| connection.subscribe(&n.to_string()).unwrap());
        assert!(matches!(connection.subscribe("one more"), Err(Error::InvalidArgument(_))));
    });
}

/// The status of the answer to a request with this Host and Origin.
fn status_for(server: &Server, host: &str, origin: &str) -> u16 {
    server.status_of(&upgrade(host, "/", &format!("Origin: {origin}\r\n")))
}

#[test]
fn origin_must_be_of_the_same_host_by_default() {
    let server = Server::start(&Options::default(), Script::new());
    for (host, origin, expected) in [
        ("example.org:9001", "http://example.org:9001", 101),
        ("EXAMPLE.org:9001", "http://example.ORG:9001", 101),
        ("example.org", "http://example.org", 101),
        ("example.org", "http://example.org:80", 101),
        ("example.org:80", "http://example.org", 101),
        ("example.org", "https://example.org", 101),
        ("example.org:443", "https://example.org", 101),
        ("[::1]:9001", "http://[::1]:9001", 101),
        ("example.org", "http://example.org:9001", 403),
        ("example.org:9001", "http://example.org", 403),
        ("example.org:80", "https://example.org", 403),
        ("example.org", "http://evil.example", 403),
        ("example.org", "http://example.org.evil.example", 403),
        ("example.org", "http://sub.example.org", 403),
        ("example.org", "null", 403),
        ("example.org", "example.org", 403),
        ("example.org", "file://", 403),
        ("example.org", "", 403),
    ] {
        assert_eq!(status_for(&server, host, origin), expected, "{host} {origin}");
    }
    // A program's request has no Origin.
    assert_eq!(server.status_of(&upgrade("example.org", "/", "")), 101);
    let twice = "Origin: http://example.org\r\nOrigin: http://example.org\r\n";
    assert_eq!(server.status_of(&upgrade("example.org", "/", twice)), 400);
    let answer = server.ask(&upgrade("example.org", "/", "Origin: http://evil.example\r\n"));
    assert!(answer.body.contains("origins") && answer.body.contains("http://evil.example"), "{}", answer.body);
}

#[test]
fn origin_may_be_one_of_a_list() {
    let mut options = Options::default();
    options.origins = Origins::List(vec!["https://example.org".into(), "null".into(), "http://a:8080".into()]);
    let server = Server::start(&options, Script::new());
    for (origin, expected) in [
        ("https://example.org", 101),
        ("https://Example.org:443", 101),
        ("null", 101),
        ("http://a:8080", 101),
        ("http://example.org", 403),
        ("http://a", 403),
        // The host of the request is not on the list.
        ("http://127.0.0.1:1", 403),
    ] {
        assert_eq!(status_for(&server, "127.0.0.1:1", origin), expected, "{origin}");
    }
    let answer = server.ask(&upgrade("a", "/", "Origin: http://evil.example\r\n"));
    assert!(answer.body.contains("origins"), "{}", answer.body);
}

#[test]
fn origin_may_be_any() {
    let mut options = Options::default();
    options.origins = Origins::Any;
    let server = Server::start(&options, Script::new());
    for origin in ["http://evil.example", "null", ""] {
        assert_eq!(status_for(&server, "example.org", origin), 101, "{origin}");
    }
}

#[test]
fn path_other_than_the_one_served_gets_404() {
    let mut options = Options::default();
    options.path = Some("/chat".into());
    let server = Server::start(&options, Script::new());
    for (path, expected) in [("/chat", 101), ("/chat?name=x", 101), ("/", 404), ("/chat/", 404), ("/CHAT", 404)] {
        assert_eq!(server.status_of(&upgrade("example.org", path, "")), expected, "{path}");
    }
    let answer = server.ask(&upgrade("example.org", "/other", ""));
    assert_eq!(answer.header("Connection"), Some("close"));
}

#[test]
fn a_close_frame_is_a_control_frame_too() {
    let server = Server::start(&Options::default(), Script::new());
    let (mut peer, _) = server.open();
    peer.write(&frame_header(0x80 | CLOSE, 126, Some(MASK)));
    peer.expect_close(1002);
}
