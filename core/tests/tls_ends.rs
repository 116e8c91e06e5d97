//! How a connection over TLS ends: in order, cut, forged, and after a failure.

#![cfg(feature = "tls")]

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};
use support::tls::{Authority, VERSIONS, connect};
use support::{BINARY, CLOSE, DEADLINE, Recorder, Running, Script, Server};
use wsx_core::{FailureKind, LoopOptions, Response, Side, Stage};

const SHORT: Duration = Duration::from_millis(200);

#[test]
fn a_client_that_ends_tls_without_a_close_is_told_as_on_plain() {
    let authority = Authority::new("A");
    for truncates in [false, true] {
        let server = Server::start(&authority.local().server(), Script::echo());
        let mut peer = authority.open(server.address());
        peer.send_text("last words");
        if !truncates {
            peer.stream.conn.send_close_notify();
            peer.write(b"");
        }
        peer.stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
        let ended = server.events.closed();
        assert_eq!((ended.code, ended.was_clean, ended.by), (1006, false, Side::Peer), "truncated: {truncates}");
        assert_eq!(ended.failure.unwrap().kind, FailureKind::Transport);
    }
}

#[test]
fn what_came_before_the_end_is_answered() {
    let authority = Authority::new("A");
    let server = Server::start(&authority.local().server(), Script::echo());
    let mut peer = authority.open(server.address());
    let mut bytes = support::frame(0x81, b"one", Some(support::MASK));
    bytes.extend(support::frame(0x80 | CLOSE, &[3, 232], Some(support::MASK)));
    // In one segment: data, our Close, and the end of TLS.
    server.meanwhile(|| {
        peer.write(&bytes);
        peer.stream.conn.send_close_notify();
        peer.write(b"");
        peer.stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
    });
    peer.expect_text("one");
    peer.expect_close(1000);
    peer.expect_end();
    assert!(server.events.closed().was_clean);
}

#[test]
fn a_half_closed_client_gets_the_rest_of_a_stream() {
    let authority = Authority::new("A");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("wss://{}/", listener.local_addr().unwrap());
    let running = Running::idle();
    let issued = authority.local();
    let (connection, events) = running.connect(&url, &authority.client(), Script::new());
    let mut peer = issued.accept_upgrade(&listener);
    events.opened();
    running.on_loop(move || connection.close(1000, "").unwrap());
    peer.expect_close(1000);
    // It answers, then says by TLS alone that it is done, and waits.
    peer.send_close(Some(1000), "");
    peer.stream.conn.send_close_notify();
    peer.write(b"");
    peer.expect_end();
    assert!(events.closed().was_clean);
}

#[test]
fn a_forged_record_ends_the_connection_as_failed() {
    let authority = Authority::new("A");
    let server = Server::start(&authority.local().server(), Script::echo());
    let mut peer = authority.open(server.address());
    peer.send_text("good");
    peer.expect_text("good");
    peer.stream.sock.write_all(b"\x17\x03\x03\x00\x20AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap();
    let error = peer.stream.read(&mut [0]).unwrap_err().to_string();
    assert!(error.contains("BadRecordMac"), "{error}");
    let ended = server.events.closed();
    let failure = ended.failure.unwrap();
    assert_eq!((ended.code, failure.stage, failure.kind), (1006, Stage::WebSocket, FailureKind::Protocol));
    assert!(failure.message.starts_with("TLS: "), "{failure}");
}

#[test]
fn what_came_before_a_forged_record_is_told() {
    let authority = Authority::new("A");
    let mut options = authority.local().server();
    // Nothing else makes the loop look at the connection again.
    options.ping_interval = Duration::ZERO;
    let server = Server::start(&options, Script::new());
    let mut peer = authority.open(server.address());
    let mut bytes = Vec::new();
    peer.stream.conn.writer().write_all(&support::frame(0x81, b"good", Some(support::MASK))).unwrap();
    peer.stream.conn.write_tls(&mut bytes).unwrap();
    bytes.extend(b"\x17\x03\x03\x00\x20AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    peer.stream.sock.write_all(&bytes).unwrap();
    assert_eq!(server.events.text(), "good");
    assert_eq!(server.events.closed().code, 1006);
}

#[test]
fn after_a_failure_the_servers_side_stays_open_until_the_close_is_answered() {
    // With asyncio's TLS a client cannot answer any more once the server has said that it will send no more.
    let authority = Authority::new("A");
    let mut options = authority.local().server();
    options.close_timeout = DEADLINE;
    let server = Server::start(&options, Script::new());
    let mut peer = authority.open(server.address());
    peer.write(&support::frame_header(BINARY | 0x80, 2 * 1024 * 1024, Some(support::MASK)));
    peer.expect_close(1009);
    peer.write(&[0; 10_000]);
    peer.stream.sock.set_read_timeout(Some(SHORT)).unwrap();
    let silence = peer.stream.read(&mut [0]).unwrap_err();
    assert_eq!(silence.kind(), std::io::ErrorKind::WouldBlock);
    peer.stream.sock.set_read_timeout(Some(DEADLINE)).unwrap();
    peer.send_close(Some(1009), "");
    peer.expect_end();
    assert_eq!(server.events.closed().code, 1009);
}

#[test]
fn after_a_failure_a_close_that_comes_in_pieces_is_the_answer() {
    let authority = Authority::new("A");
    let mut options = authority.local().server();
    options.close_timeout = DEADLINE;
    let server = Server::start(&options, Script::new());
    let close = support::frame(0x88, b"\x03\xeaI see", Some(support::MASK));
    for cut in 1..close.len() {
        for comes_with_the_failure in [true, false] {
            let mut peer = authority.open(server.address());
            let mut bytes = support::frame(0xF1, b"bad", Some(support::MASK));
            if comes_with_the_failure {
                bytes.extend(&close[..cut]);
                peer.write(&bytes);
                peer.expect_close(1002);
            } else {
                peer.write(&bytes);
                peer.expect_close(1002);
                peer.write(&close[..cut]);
                // Each record is a receive of its own where the loop has turned between.
                server.on_loop(|| ());
            }
            peer.write(&close[cut..]);
            peer.expect_end();
            assert_eq!(server.events.closed().code, 1002, "{cut} {comes_with_the_failure}");
        }
    }
}

#[test]
fn after_a_failure_tls_ends_in_order_also_where_the_close_is_not_answered() {
    let authority = Authority::new("A");
    let mut options = authority.local().server();
    for ends in [true, false] {
        options.close_timeout = if ends { DEADLINE } else { SHORT };
        let server = Server::start(&options, Script::new());
        let mut peer = authority.open(server.address());
        peer.write(&support::frame(0xF1, b"bad", Some(support::MASK)));
        peer.expect_close(1002);
        if ends {
            peer.stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
        }
        // An end without TLS saying so is an error.
        assert_eq!(peer.stream.read(&mut [0]).unwrap(), 0, "{ends}");
        assert_eq!(server.events.closed().code, 1002);
    }
}

#[test]
fn what_a_peer_sends_behind_our_last_word_is_not_looked_at() {
    let authority = Authority::new("A");
    let server = Server::start(&authority.local().server(), Script::new());
    for version in VERSIONS {
        let mut peer = connect(server.address(), authority.raw_client(&[version], None), "localhost");
        peer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(peer.read_answer().status, 426);
        // The server has said that it will send no more: there is no alert behind that.
        peer.stream.sock.write_all(b"\x17\x03\x03\x00\x20AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap();
        peer.stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
        // The server lives.
        authority.open(server.address());
        server.events.opened();
    }
}

#[test]
fn a_close_right_behind_what_is_wrong_is_the_answer_that_is_waited_for() {
    let authority = Authority::new("A");
    let mut options = authority.local().server();
    options.close_timeout = DEADLINE;
    let server = Server::start(&options, Script::new());
    let close = support::frame(0x88, &1000_u16.to_be_bytes(), Some(support::MASK));
    // A bit that nobody has agreed on, a text that is not UTF-8, and a Close that is wrong itself.
    for (first, payload, behind, code) in [
        (0xF1, &b"bad"[..], &close[..], 1002),
        (0x81, &b"\xff"[..], &close[..], 1007),
        (0x88, &[0x03; 126][..], &[][..], 1002),
    ] {
        let mut peer = authority.open(server.address());
        let mut bytes = support::frame(first, payload, Some(support::MASK));
        bytes.extend(behind);
        peer.write(&bytes);
        peer.expect_close(code);
        peer.expect_end();
        assert_eq!(server.events.closed().code, code);
    }
}

#[test]
fn a_whole_answer_ends_in_order_however_late_it_is_read() {
    let authority = Authority::new("A");
    let mut options = authority.local().server();
    options.close_timeout = Duration::from_millis(50);
    let path = std::env::temp_dir().join(format!("wsx-late-{}", std::process::id()));
    let address = format!("unix:{}", path.display());
    let script = Script::new()
        .on_request(|request| Response::page("text/plain", "x".repeat(request.path()[1..].parse().unwrap())));
    let (_running, _events) = Running::start(&LoopOptions::default(), move |handle| {
        let (recorder, events) = Recorder::new(script);
        handle.listen(&address, &options, recorder).unwrap();
        events
    });
    // Of one of these sizes the kernel takes all, and not what TLS has to say behind it.
    let sizes = (0..150).map(|n| 300_000 + n * 1_000);
    let peers: Vec<_> = sizes
        .map(|size| {
            let config = Arc::new(authority.raw_client(&VERSIONS, None));
            let session = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
            let mut peer = StreamOwned::new(session, UnixStream::connect(&path).unwrap());
            peer.write_all(format!("GET /{size} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
            (size, peer)
        })
        .collect();
    // Longer than the closing timeout, and less than that of progress.
    std::thread::sleep(SHORT);
    for (size, mut peer) in peers {
        let mut answer = Vec::new();
        // An end without TLS saying so is an error.
        peer.read_to_end(&mut answer).unwrap_or_else(|error| panic!("of {size} bytes {}: {error}", answer.len()));
        assert!(answer.len() > size, "{size}");
    }
}
