//! The rows of the table of limits that are about time. The options are short where a timeout must run out, and out of
//! reach where it must not: no test measures how long something takes.

mod support;

use std::io::{ErrorKind, Read};
use std::time::Duration;

use support::{BINARY, CLOSE, Ended, Event, MASK, PING, PONG, RawPeer, Script, Server, TEXT, frame_header, upgrade};
use wsx_core::{Connection, FailureKind, Options, Side, Stage};

const SHORT: Duration = Duration::from_millis(60);
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

/// Closed by us as 1006, because this option's time ran out.
#[track_caller]
fn assert_timed_out(ended: &Ended, option: &str, figure: &str) {
    assert_eq!((ended.code, ended.was_clean, ended.by), (1006, false, Side::Us), "{ended:?}");
    assert_eq!(ended.failure.as_ref().unwrap().kind, FailureKind::Timeout);
    assert!(ended.cause().contains(option) && ended.cause().contains(figure), "{}", ended.cause());
}

/// Sends `bytes` again and again until the peer ends the connection; what came until then.
fn send_until_the_end(peer: &mut RawPeer, bytes: &[u8]) -> Vec<u8> {
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    peer.stream.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
    let begun = std::time::Instant::now();
    loop {
        assert!(begun.elapsed() < support::DEADLINE, "the connection does not end");
        peer.try_write(bytes);
        match peer.stream.read(&mut buffer) {
            Ok(0) => return received,
            Ok(count) => received.extend(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return received,
        }
    }
}

#[test]
fn opening_handshake_that_was_begun_gets_408() {
    let mut options = patient();
    options.handshake_timeout = SHORT;
    let server = Server::start(&options, Script::new());
    let answer = server.ask("GET / HTTP/1.1\r\nHost: x\r\n");
    assert_eq!(answer.status, 408);
    assert_eq!(answer.header("Connection"), Some("close"));
    assert!(answer.body.contains("60ms (handshake_timeout)"), "{}", answer.body);
}

#[test]
fn opening_handshake_is_not_extended_by_dripping() {
    let mut options = patient();
    options.handshake_timeout = SHORT;
    options.close_timeout = SHORT;
    let server = Server::start(&options, Script::new());
    let mut peer = RawPeer::connect(server.address());
    peer.write(b"GET / HTTP/1.1\r\nX: ");
    let answer = send_until_the_end(&mut peer, b"x");
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn opening_handshake_that_was_not_begun_is_closed_silently() {
    let mut options = patient();
    options.handshake_timeout = SHORT;
    let server = Server::start(&options, Script::new());
    RawPeer::connect(server.address()).expect_end();
    // The program has heard nothing of it.
    server.open();
}

#[test]
fn opening_handshake_that_is_done_in_time_stays_open() {
    let mut options = patient();
    options.handshake_timeout = SHORT;
    let server = Server::start(&options, Script::echo());
    let (mut peer, _) = server.open();
    // Its timeout runs out for another one, so it has for this one as well.
    RawPeer::connect(server.address()).expect_end();
    peer.send_text("open");
    peer.expect_text("open");
}

#[test]
fn opening_handshake_of_a_client_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", silent.local_addr().unwrap());
    let mut options = patient();
    options.handshake_timeout = SHORT;
    let (recorder, events) = support::Recorder::new(Script::new());
    let (_running, client) =
        support::Running::start(&Default::default(), move |handle| handle.connect(&url, &options, recorder).unwrap());
    let failure = match events.next() {
        Event::Error(connection, failure) if connection == client => failure,
        other => panic!("{other:?}"),
    };
    assert_eq!((failure.stage, failure.kind), (Stage::Http, FailureKind::Timeout));
    let ended = events.closed_of(client);
    assert_timed_out(&ended, "handshake_timeout", "60ms");
    assert_eq!(ended.failure.as_ref(), Some(&failure));
}

#[test]
fn heartbeat_pings_after_silence_and_any_byte_counts_as_life() {
    let mut options = patient();
    options.ping_interval = SHORT;
    let server = Server::start(&options, Script::new());
    let (mut peer, connection) = server.open();
    // The next ping comes only if the last one was answered. A whole pong does, and so does a byte of a message.
    for _ in 0..3 {
        let ping = peer.read_frame();
        assert_eq!(ping.opcode, PING);
        peer.send(PONG, &ping.payload);
    }
    peer.write(&frame_header(0x80 | BINARY, 3, Some(MASK)));
    for _ in 0..3 {
        assert_eq!(peer.read_frame().opcode, PING);
        peer.write(b"x");
    }
    // The answers to the heartbeat's own pings are not told, the message is.
    assert!(matches!(server.events.next(), Event::Binary(c, message) if c == connection && message.len() == 3));
}

#[test]
fn heartbeat_that_is_answered_at_once_is_heard() {
    // The answer comes in the same millisecond as the ping as a rule; it must count.
    let mut options = patient();
    options.ping_interval = Duration::from_millis(5);
    let server = Server::start(&options, Script::new());
    let (mut peer, _) = server.open();
    for _ in 0..20 {
        let ping = peer.read_frame();
        assert_eq!(ping.opcode, PING);
        peer.send(PONG, &ping.payload);
    }
}

#[test]
fn heartbeat_closes_a_silent_peer_as_1006() {
    let mut options = patient();
    options.ping_interval = SHORT;
    options.pong_timeout = SHORT;
    let server = Server::start(&options, Script::new());
    let (mut peer, connection) = server.open();
    assert_eq!(peer.read_frame().opcode, PING);
    peer.expect_end();
    let failure = match server.events.next() {
        Event::Error(c, failure) if c == connection => failure,
        other => panic!("{other:?}"),
    };
    let ended = server.events.closed_of(connection);
    assert_timed_out(&ended, "pong_timeout", "60ms");
    assert_eq!(ended.failure, Some(failure));
}

#[test]
fn heartbeat_rests_while_the_program_does_not_read() {
    let mut options = patient();
    options.ping_interval = SHORT;
    options.pong_timeout = SHORT;
    let server = Server::start(&options, Script::new());
    let (mut paused, connection) = server.open();
    server.on_loop(move || connection.pause().unwrap());
    // Another one that is as silent dies in the same time.
    let (mut other, silent) = server.open();
    other.read_frame();
    other.expect_end();
    server.events.closed_of(silent);
    paused.send_text("still there");
    server.on_loop(move || connection.resume().unwrap());
    assert_eq!(server.events.text(), "still there");
}

#[test]
fn heartbeat_can_be_switched_off() {
    let mut options = patient();
    options.ping_interval = Duration::ZERO;
    options.pong_timeout = Duration::from_millis(1);
    let server = Server::start(&options, Script::echo());
    let (mut peer, _) = server.open();
    let handle = server.handle.clone();
    let (sender, timer) = std::sync::mpsc::channel();
    server.on_loop(move || handle.set_timer(SHORT, move || sender.send(()).unwrap()).unwrap());
    timer.recv_timeout(support::DEADLINE).unwrap();
    peer.send_text("open");
    peer.expect_text("open");
}

#[test]
fn closing_handshake_is_not_extended_by_traffic() {
    let mut options = patient();
    options.close_timeout = Duration::from_millis(150);
    let server = Server::start(&options, Script::new());
    let (mut peer, connection) = server.open();
    server.on_loop(move || connection.close(4000, "done").unwrap());
    peer.expect_close(4000);
    let message = support::frame(0x80 | TEXT, b"I go on", Some(MASK));
    let rest = send_until_the_end(&mut peer, &message);
    assert!(rest.is_empty(), "nothing follows a Close: {rest:?}");
    // Nothing that came after our Close was told.
    assert!(matches!(server.events.next(), Event::Error(c, _) if c == connection));
    let ended = server.events.closed_of(connection);
    assert_timed_out(&ended, "close_timeout", "150ms");
}

#[test]
fn closing_handshake_after_a_violation_is_not_extended_by_traffic() {
    let mut options = patient();
    options.close_timeout = Duration::from_millis(150);
    let server = Server::start(&options, Script::new());
    let (mut peer, connection) = server.open();
    peer.write(b"\xf1\x80");
    let rest = send_until_the_end(&mut peer, &[0; 100]);
    assert_eq!(rest[..1], [0x80 | CLOSE]);
    let ended = server.events.closed_of(connection);
    assert_eq!((ended.code, ended.failure.unwrap().kind), (1002, FailureKind::Protocol));
}

#[test]
fn closing_handshake_of_a_client_waits_for_the_server_to_end() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let mut options = patient();
    options.close_timeout = SHORT;
    let (recorder, events) = support::Recorder::new(Script::new());
    let (running, client) =
        support::Running::start(&Default::default(), move |handle| handle.connect(&url, &options, recorder).unwrap());
    let (mut peer, _) = RawPeer::accept_upgrade(&listener);
    events.opened();
    running.on_loop(move || client.close(1000, "").unwrap());
    peer.expect_close(1000);
    peer.send_close(Some(1000), "");
    // The server does not end TCP; the handshake is complete all the same, and the client ends it.
    peer.expect_end();
    let ended = events.closed_of(client);
    assert_eq!((ended.code, ended.was_clean, ended.failure), (1000, true, None));
}

#[test]
fn no_progress_while_output_waits() {
    let mut options = patient();
    options.progress_timeout = Duration::from_millis(150);
    let server = Server::start(&options, Script::new());
    let (mut peer, connection) = server.open_narrow();
    // More than the kernel takes.
    let sent = 16 * 1024 * 1024;
    server.on_loop(move || connection.send(&vec![7; sent]).unwrap());
    let ended = server.events.closed_of(connection);
    assert_timed_out(&ended, "progress_timeout", "150ms");
    assert!(ended.unsent_bytes > 0 && ended.unsent_bytes < sent as u64, "{}", ended.unsent_bytes);
    let received = peer.read_to_end().len() as u64;
    assert!(received + ended.unsent_bytes <= sent as u64 + 10, "{received} and {}", ended.unsent_bytes);
}

#[test]
fn no_progress_timeout_leaves_a_slow_reader_alone() {
    let mut options = patient();
    options.progress_timeout = Duration::from_millis(400);
    let server = Server::start(&options, Script::new());
    let (mut peer, connection) = server.open_narrow();
    let sent = 4 * 1024 * 1024;
    server.on_loop(move || connection.send(&vec![7; sent]).unwrap());
    // Each time some of it is taken, the time begins anew; all of it takes longer than the timeout.
    let begun = std::time::Instant::now();
    let mut received = 0;
    while received < sent + 10 {
        let left = Duration::from_millis(800).saturating_sub(begun.elapsed());
        let step = if left.is_zero() { usize::MAX } else { 32 * 1024 };
        received += peer.read_bytes(step.min(sent + 10 - received)).len();
        if !left.is_zero() {
            peer.stream.set_read_timeout(Some(support::DEADLINE)).unwrap();
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
    assert_eq!(server.connection_count(), 1);
}

/// Sends messages until the kernel takes no more: how many; what waits then is less than one of them.
fn fill_the_kernel(server: &Server, connection: Connection) -> usize {
    for count in 1..5000 {
        server.on_loop(move || connection.send(&[7; STEP]).unwrap());
        // It has been flushed now.
        if server.on_loop(move || connection.buffered_amount().unwrap()) > 0 {
            return count;
        }
    }
    panic!("the kernel takes everything");
}

const STEP: usize = 10_000;

#[test]
fn no_progress_timeout_leaves_a_reader_alone_who_makes_too_little_room_to_be_told_by_the_system() {
    let mut options = patient();
    options.progress_timeout = Duration::from_millis(500);
    options.backlog_limit = 0;
    let server = Server::start(&options, Script::new());
    let (mut slow, slow_connection) = server.open_narrow();
    let (_silent, silent_connection) = server.open_narrow();
    let sent = 16 * 1024 * 1024;
    server.on_loop(move || {
        slow_connection.send(&vec![7; sent]).unwrap();
        silent_connection.send(&vec![7; sent]).unwrap();
    });
    // Slowness is what this test is about: over three times the timeout, less than a third of what the kernel holds.
    let begun = std::time::Instant::now();
    let mut received = 0;
    while begun.elapsed() < options.progress_timeout * 3 {
        received += slow.read_bytes(2048).len();
        std::thread::sleep(Duration::from_millis(10));
    }
    // The one that reads nothing was cut meanwhile, and only that one.
    let ended = server.events.closed_of(silent_connection);
    assert_timed_out(&ended, "progress_timeout", "500ms");
    received += slow.read_bytes(sent + 10 - received).len();
    assert_eq!((received, server.connection_count()), (sent + 10, 1));
}

#[test]
fn no_progress_timeout_that_finds_progress_does_not_end_the_heartbeat() {
    let mut options = patient();
    options.progress_timeout = Duration::from_millis(300);
    // Later than the look that finds progress.
    options.ping_interval = Duration::from_millis(1500);
    let server = Server::start(&options, Script::new());
    let (mut peer, connection) = server.open_narrow();
    let count = fill_the_kernel(&server, connection);
    // So much that all of the rest can be written, and too little for the system to say so.
    let mut received = peer.read_bytes(20 * STEP).len();
    support::eventually("the rest is written", || server.on_loop(move || connection.buffered_amount().unwrap()) == 0);
    received += peer.read_bytes(count * (STEP + 4) - received).len();
    assert_eq!(received, count * (STEP + 4));
    assert_eq!(peer.read_frame().opcode, PING);
}

#[test]
fn timeouts_of_zero_are_off() {
    let mut options = patient();
    options.handshake_timeout = Duration::ZERO;
    options.progress_timeout = Duration::ZERO;
    let server = Server::start(&options, Script::echo());
    let mut slow = RawPeer::connect(server.address());
    let request = upgrade("x", "/", "");
    let (begin, end) = request.split_at(20);
    slow.write(begin.as_bytes());
    let (mut peer, connection) = server.open_narrow();
    server.on_loop(move || connection.send(&vec![7; 8 * 1024 * 1024]).unwrap());
    let handle = server.handle.clone();
    let (sender, timer) = std::sync::mpsc::channel();
    server.on_loop(move || handle.set_timer(SHORT, move || sender.send(()).unwrap()).unwrap());
    timer.recv_timeout(support::DEADLINE).unwrap();
    slow.write(end.as_bytes());
    slow.expect_upgrade();
    assert_eq!(peer.read_frame().payload.len(), 8 * 1024 * 1024);
}

#[test]
fn closing_timeout_does_not_cut_an_http_answer_that_is_still_being_read() {
    const SIZE: usize = 24 * 1024 * 1024;
    let mut options = patient();
    options.close_timeout = Duration::from_millis(20);
    let page = "x".repeat(SIZE);
    let script = Script::new().on_request(move |_| wsx_core::Response::page("text/plain", page.as_str()));
    let (recorder, _events) = support::Recorder::new(script);
    // Turned by hand: the timeout is over in the very turn in which the socket can be written again.
    let mut event_loop = wsx_core::EventLoop::new().unwrap();
    let listener = event_loop.listen("127.0.0.1:0", &options, recorder).unwrap();
    let wsx_core::Address::Tcp(address) = listener.local_address().unwrap() else { panic!("not TCP") };
    let mut peer = RawPeer::connect(address);
    peer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    peer.stream.set_nonblocking(true).unwrap();
    let begun = std::time::Instant::now();
    let (mut received, mut buffer) = (0, vec![0; 256 * 1024]);
    loop {
        assert!(begun.elapsed() < support::DEADLINE, "{received} bytes came");
        event_loop.turn(Some(Duration::from_millis(1))).unwrap();
        match peer.stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                received += count;
                // All that is there, so that there is room again, and not before the time is over.
                while let Ok(count @ 1..) = peer.stream.read(&mut buffer) {
                    received += count;
                }
                while begun.elapsed() < options.close_timeout {
                    std::thread::yield_now();
                }
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    assert!(received > SIZE, "{received} bytes came, then the end");
}
