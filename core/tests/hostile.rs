//! Hostile inputs, by their numbers in the list of them, over real sockets: the opening handshake.
//!
//! Each test throws its input at a server that serves a well-behaved connection as well. That one must be served on,
//! and in the end nothing of the hostile ones may be left: see [`Siege`].

mod support;

use std::io::Read;
use std::time::Duration;

use support::siege::Siege;
use support::{KEY, MASK, PING, PONG, RawPeer, TEXT, status, upgrade};
use wsx_core::Options;

/// A request that is a valid one but for what is replaced in it.
fn spoilt(line: &str, by: &str) -> String {
    let request = upgrade("example.org", "/", "");
    assert!(request.contains(line), "{line:?} is not in the request");
    request.replace(line, by)
}

#[test]
fn h1_a_header_of_20_mb_in_small_pieces_gets_431() {
    let siege = Siege::begin(&Options::default());
    let mut peer = siege.connect();
    peer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX: ");
    for _ in 0..20_000 {
        // It may have ended before everything is written.
        if !peer.try_write(&[b'x'; 1000]) {
            break;
        }
    }
    assert_eq!(peer.read_answer().status, 431);
    drop(peer);
    siege.end();
}

#[test]
fn h1_a_header_that_drips_byte_by_byte_gets_431() {
    let siege = Siege::begin(&Options::default());
    let mut peer = siege.connect();
    peer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX: ");
    for _ in 0..16 * 1024 {
        peer.try_write(b"x");
    }
    assert_eq!(peer.read_answer().status, 431);
    drop(peer);
    siege.end();
}

#[test]
fn h2_2000_headers_get_431() {
    let siege = Siege::begin(&Options::default());
    let names = b"abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~";
    let pairs = names.iter().flat_map(|a| names.iter().map(move |b| format!("{}{}: x\r\n", *a as char, *b as char)));
    let headers: String = pairs.take(2000).collect();
    assert_eq!(siege.ask(&upgrade("x", "/", &headers)).status, 431);
    siege.end();
}

#[test]
fn h3_a_subprotocol_with_32000_spaces_is_read_in_linear_time() {
    let mut options = Options::default();
    options.max_head = 64 * 1024;
    options.subprotocols = vec!["b".into(), "x".into()];
    let siege = Siege::begin(&options);
    let offer = format!("Sec-WebSocket-Protocol: b{}x\r\n", " ".repeat(32_000));
    for _ in 0..50 {
        let mut peer = siege.connect();
        peer.write(upgrade("x", "/", &offer).as_bytes());
        let head = peer.expect_upgrade();
        assert!(!head.contains("Sec-WebSocket-Protocol"), "one name of that kind was not offered: {head}");
    }
    siege.end();
}

#[test]
fn h4_to_h7_no_strange_extension_is_accepted() {
    let siege = Siege::begin(&Options::default());
    let unclosed = format!("a; b=\"{}", "\\c".repeat(5000));
    for offer in [
        unclosed.as_str(),
        "constructor",
        ",;constructor",
        "x; y=\",permessage-deflate; client_max_window_bits,\"",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=0",
        "permessage-deflate; server_max_window_bits=abc",
        "permessage-deflate; server_max_window_bits=008",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; unknown=1",
    ] {
        let mut peer = siege.connect();
        peer.write(upgrade("x", "/", &format!("Sec-WebSocket-Extensions: {offer}\r\n")).as_bytes());
        let head = peer.expect_upgrade();
        assert!(!head.to_ascii_lowercase().contains("extensions"), "{offer}: {head}");
        peer.send_text("open");
        peer.expect_text("open");
    }
    siege.end();
}

#[test]
fn h8_and_h9_bad_keys_get_400() {
    let siege = Siege::begin(&Options::default());
    let line = format!("Sec-WebSocket-Key: {KEY}\r\n");
    let long = "A".repeat(10_000);
    for key in ["", "A", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZSB0aGF0IGlzIHRvbyBsb25n", "!!!!", &long] {
        let request = spoilt(&line, &format!("Sec-WebSocket-Key: {key}\r\n"));
        assert_eq!(siege.ask(&request).status, 400, "{key}");
    }
    assert_eq!(siege.ask(&spoilt(&line, "")).status, 400);
    assert_eq!(siege.ask(&spoilt(&line, &line.repeat(2))).status, 400);
    let millions = spoilt(&line, &format!("Sec-WebSocket-Key: {}\r\n", "A".repeat(3_000_000)));
    let mut peer = siege.connect();
    peer.try_write(millions.as_bytes());
    assert_eq!(peer.read_answer().status, 431);
    drop(peer);
    siege.end();
}

#[test]
fn h10_other_versions_get_426_that_names_13() {
    let siege = Siege::begin(&Options::default());
    let line = "Sec-WebSocket-Version: 13\r\n";
    for by in ["Sec-WebSocket-Version: 12\r\n", "", "Sec-WebSocket-Version: 13, 8\r\n"] {
        let answer = siege.ask(&spoilt(line, by));
        assert_eq!((answer.status, answer.header("Sec-WebSocket-Version")), (426, Some("13")), "{by}");
        assert!(answer.header("Connection").unwrap().contains("close"), "{by}");
    }
    assert_eq!(siege.ask(&spoilt(line, &line.repeat(2))).status, 400);
    siege.end();
}

#[test]
fn h11_what_is_no_get_of_http_11_with_an_upgrade_is_never_opened() {
    let siege = Siege::begin(&Options::default());
    for (line, by, expected) in [
        ("GET /", "POST /", 405),
        ("HTTP/1.1", "HTTP/1.0", 400),
        ("Connection: Upgrade\r\n", "", 400),
        ("Connection: Upgrade", "Connection: keep-alive", 400),
        ("Upgrade: websocket", "Upgrade: h2c", 400),
    ] {
        assert_eq!(siege.ask(&spoilt(line, by)).status, expected, "{by}");
    }
    siege.end();
}

#[test]
fn h12_and_h13_a_request_with_a_body_gets_400_and_the_body_is_never_read_as_frames() {
    let siege = Siege::begin(&Options::default());
    for announced in [
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 5, 5\r\n",
    ] {
        let mut peer = siege.connect();
        peer.write(upgrade("x", "/", announced).as_bytes());
        peer.try_write(&support::frame(0x80 | TEXT, b"smuggled", Some(MASK)));
        assert_eq!(peer.read_answer().status, 400, "{announced}");
    }
    siege.end();
}

#[test]
fn h14_malformed_heads_get_400() {
    let siege = Siege::begin(&Options::default());
    for (line, by) in [
        ("Upgrade: websocket\r\n", "Upgrade:\r\n websocket\r\n"),
        ("Upgrade: websocket", "Upgrade : websocket"),
        ("Upgrade: websocket\r\n", "Upgrade: websocket\r\nX: a\0b\r\n"),
        ("Upgrade: websocket\r\n", "Upgrade: websocket\r\nX: a\rb\r\n"),
        ("Upgrade: websocket\r\n", "Upgrade: websocket\n"),
        ("Host: example.org\r\n", ""),
        ("Host: example.org\r\n", "Host: example.org\r\nHost: example.org\r\n"),
        ("GET / HTTP", "GET  HTTP"),
        ("GET / HTTP", "GET / / HTTP"),
        ("HTTP/1.1", "HTTP/2.0"),
        ("HTTP/1.1", "HTTX/1.1"),
    ] {
        assert_eq!(siege.ask(&spoilt(line, by)).status, 400, "{by:?}");
    }
    siege.end();
}

#[test]
fn h15_frames_in_the_segment_of_the_request_are_not_lost() {
    let mut options = Options::default();
    options.max_head = 512;
    let siege = Siege::begin(&options);
    let large = "x".repeat(4000);
    let mut bytes = upgrade("x", "/", "").into_bytes();
    bytes.extend(support::frame(0x80 | TEXT, b"first", Some(MASK)));
    bytes.extend(support::frame(0x80 | PING, b"are you there", Some(MASK)));
    // The limit of the head does not count frames.
    bytes.extend(support::frame(0x80 | TEXT, large.as_bytes(), Some(MASK)));
    // Whole; cut inside the head; cut inside a frame.
    for cut in [0, 100, bytes.len() - 2000] {
        let mut peer = siege.connect();
        peer.write(&bytes[..cut]);
        siege.is_served_on();
        peer.write(&bytes[cut..]);
        peer.expect_upgrade();
        peer.expect_text("first");
        let pong = peer.read_frame();
        assert_eq!((pong.opcode, &pong.payload[..]), (PONG, &b"are you there"[..]));
        peer.expect_text(&large);
    }
    siege.end();
}

#[test]
fn h16_slow_heads_get_408_while_others_are_served() {
    let mut options = Options::default();
    options.handshake_timeout = Duration::from_millis(300);
    let siege = Siege::begin(&options);
    let mut slow: Vec<_> = (0..300).map(|_| siege.connect()).collect();
    for byte in b"GET / HTTP/1.1\r\nHost: x\r\n" {
        slow.iter_mut().for_each(|peer| _ = peer.try_write(&[*byte]));
    }
    siege.is_served_on();
    slow.iter_mut().for_each(|peer| assert_eq!(peer.read_answer().status, 408));
    drop(slow);
    siege.end();
}

#[test]
fn h16_slow_frames_hold_nobody_up() {
    let mut options = Options::default();
    options.ping_interval = Duration::from_millis(100);
    options.pong_timeout = Duration::from_millis(100);
    let siege = Siege::begin(&options);
    let mut slow: Vec<_> = (0..100).map(|_| siege.open()).collect();
    for byte in &support::frame_header(0x80 | TEXT, 1000, Some(MASK)) {
        slow.iter_mut().for_each(|peer| _ = peer.try_write(&[*byte]));
    }
    siege.is_served_on();
    // They fall silent in mid-frame, and are closed for that.
    for mut peer in slow {
        peer.read_to_end();
    }
    siege.end();
}

#[test]
fn h17_silence_is_closed_and_other_protocols_get_400_at_once() {
    let mut options = Options::default();
    options.handshake_timeout = Duration::from_millis(300);
    let siege = Siege::begin(&options);
    siege.connect().expect_end();
    let mut patient = Options::default();
    patient.handshake_timeout = Duration::ZERO;
    siege.end();

    let siege = Siege::begin(&patient);
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice();
    for junk in [hello, b"\x16\x03", b"\x00\x00\x00\x00", b"SSH-2.0-OpenSSH\r\n\r\n", b"\x80\x80", b"\xff\xff\xff\xff"]
    {
        let mut peer = siege.connect();
        peer.write(junk);
        assert_eq!(peer.read_answer().status, 400, "{junk:?}");
    }
    siege.end();
}

#[test]
fn h18_a_foreign_origin_gets_403_before_101() {
    let siege = Siege::begin(&Options::default());
    for origin in ["https://evil.example", "null"] {
        let answer = siege.ask(&upgrade("example.org", "/", &format!("Cookie: a=b\r\nOrigin: {origin}\r\n")));
        assert_eq!(answer.status, 403);
        assert!(answer.body.contains("origins"), "{}", answer.body);
    }
    siege.end();
}

#[test]
fn h19_a_reset_during_the_opening_handshake_hurts_nobody() {
    let siege = Siege::begin(&Options::default());
    let request = upgrade("x", "/", "");
    for cut in [0, 1, 50, request.len()] {
        for _ in 0..50 {
            let mut peer = siege.connect();
            peer.write(&request.as_bytes()[..cut]);
            peer.reset();
        }
    }
    // And after the answer has begun to come.
    for _ in 0..50 {
        let mut peer = siege.connect();
        peer.write(request.as_bytes());
        peer.stream.read_exact(&mut [0; 1]).unwrap();
        peer.reset();
    }
    siege.end();
}

#[test]
fn h38_drafts_of_the_protocol_are_not_spoken() {
    let siege = Siege::begin(&Options::default());
    let draft = "GET / HTTP/1.1\r\nHost: example.org\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\
                 Sec-WebSocket-Key1: 4 @1  46546xW%0l 1 5\r\nSec-WebSocket-Key2: 12998 5 Y3 1  .P00\r\n\
                 Origin: http://example.org\r\n\r\n^n:ds[4U";
    let mut peer = siege.connect();
    peer.write(draft.as_bytes());
    peer.try_write(&[0x80; 1000]);
    let answer = peer.read_answer();
    assert!(matches!(answer.status, 400 | 426), "{}", answer.status);
    drop(peer);
    siege.end();
}

#[test]
fn a_request_cut_anywhere_is_understood() {
    let siege = Siege::begin(&Options::default());
    let request = upgrade("x", "/", "");
    for cut in 1..request.len() {
        let mut peer = siege.connect();
        peer.write(&request.as_bytes()[..cut]);
        if cut % 16 == 0 {
            siege.is_served_on();
        }
        peer.write(&request.as_bytes()[cut..]);
        assert_eq!(status(&peer.read_head()), 101, "cut at {cut}");
    }
    siege.end();
}

#[test]
fn a_client_that_half_closes_behind_its_request_gets_its_answer() {
    let siege = Siege::begin(&Options::default());
    let mut peer: RawPeer = siege.connect();
    peer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    peer.finish();
    assert_eq!(peer.read_answer().status, 426);
    drop(peer);
    siege.end();
}
