//! Closing from inside callbacks, and callbacks that panic: one `on_close` each, and nobody else is hurt. The harness
//! checks the order of the events (`support/history.rs`).

mod support;

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use support::{Ended, Event, MASK, RawPeer, Script, Server, TEXT, frame, upgrade};
use wsx_core::{Address, Error, FailureKind, Options, ReadyState, Response, Side, Stage};

fn options() -> Options {
    Options::default()
}

fn with_close_timeout(millis: u64) -> Options {
    let mut options = Options::default();
    options.close_timeout = Duration::from_millis(millis);
    options
}

/// A panic without the noise of the panic hook.
fn panics() {
    resume_unwind(Box::new("a secret of the program"));
}

#[track_caller]
fn assert_told(ended: &Ended, code: u16, reason: &str, by: Side) {
    assert_eq!((ended.code, ended.reason.as_str(), ended.by, ended.was_clean), (code, reason, by, true), "{ended:?}");
    assert_eq!((&ended.failure, ended.lost_messages, ended.unsent_bytes), (&None, 0, 0));
}

#[track_caller]
fn assert_failed(ended: &Ended, code: u16, by: Side, kind: FailureKind) {
    assert_eq!((ended.code, ended.by, ended.was_clean), (code, by, false), "{ended:?}");
    let failure = ended.failure.as_ref().expect("nothing failed");
    assert_eq!((failure.kind, failure.stage), (kind, Stage::WebSocket), "{failure:?}");
    assert!(!failure.message.is_empty());
}

#[test]
fn close_inside_on_open_follows_what_was_sent_there() {
    let server = Server::start(
        &options(),
        Script::new().on_open(|connection| {
            connection.send("welcome").unwrap();
            connection.close(1013, "full").unwrap();
            assert_eq!(connection.ready_state().unwrap(), ReadyState::Closing);
            assert!(matches!(connection.send("late"), Err(Error::Closed)));
            assert!(matches!(connection.ping(b""), Err(Error::Closed)));
            assert!(matches!(connection.close(1000, ""), Err(Error::Closed)));
        }),
    );
    let mut peer = RawPeer::connect(server.address());
    // Its first message comes with the handshake, and is not told any more.
    let mut bytes = upgrade("a", "/", "").into_bytes();
    bytes.extend(frame(0x80 | TEXT, b"early", Some(MASK)));
    peer.write(&bytes);
    peer.expect_upgrade();
    peer.expect_text("welcome");
    assert_eq!(peer.expect_close(1013), "full");
    peer.send_close(Some(1013), "");
    peer.expect_end();
    assert!(matches!(server.events.next(), Event::Opened(..)));
    let Event::Closed(_, ended) = server.events.next() else { panic!("a message came after our close") };
    assert_told(&ended, 1013, "full", Side::Us);
}

#[test]
fn terminate_inside_on_open_is_one_close() {
    let server = Server::start(&options(), Script::new().on_open(|connection| connection.terminate().unwrap()));
    let mut peer = RawPeer::connect(server.address());
    peer.write(upgrade("a", "/", "").as_bytes());
    peer.read_to_end();
    assert!(matches!(server.events.next(), Event::Opened(..)));
    let Event::Closed(_, ended) = server.events.next() else { panic!("no close") };
    assert_eq!((ended.code, ended.failure), (1006, None));
}

#[test]
fn calls_inside_on_close_are_refused_and_the_connection_is_still_known() {
    let server = Server::start(
        &options(),
        Script::new().on_open(|connection| connection.set_user_data(77).unwrap()).on_close(|connection, _| {
            assert_eq!(connection.user_data().unwrap(), 77);
            assert!(matches!(connection.peer_address(), Ok(Address::Tcp(peer)) if peer.ip().is_loopback()));
            assert_eq!(connection.ready_state().unwrap(), ReadyState::Closed);
            assert!(matches!(connection.send("late"), Err(Error::Closed)));
            assert!(matches!(connection.ping(b""), Err(Error::Closed)));
            assert!(matches!(connection.subscribe("topic"), Err(Error::Closed)));
            assert!(matches!(connection.close(1000, ""), Err(Error::Closed)));
            assert!(matches!(connection.terminate(), Err(Error::Closed)));
            connection.set_user_data(78).unwrap();
            // A mark that all of it was done: a panic would be caught.
            assert_eq!(connection.user_data().unwrap(), 78);
            DONE.fetch_add(1, Ordering::SeqCst);
        }),
    );
    static DONE: AtomicU64 = AtomicU64::new(0);
    let (mut peer, _) = server.open();
    peer.send_close(None, "");
    server.events.closed();
    assert_eq!(DONE.load(Ordering::SeqCst), 1);
}

#[test]
fn a_panicking_callback_closes_its_connection_with_1011_and_keeps_its_secrets() {
    let server = Server::start(
        &options(),
        Script::new().on_message(|connection, message| {
            if message.payload() == b"panic" {
                panics();
            }
            connection.send(message).unwrap();
        }),
    );
    let (mut other, _) = server.open();
    let (mut peer, connection) = server.open();
    peer.send_text("panic");
    assert_eq!(peer.expect_close(1011), "");
    peer.expect_end();
    drop(peer);
    let ended = server.events.closed_of(connection);
    assert_failed(&ended, 1011, Side::Us, FailureKind::Callback);
    assert!(ended.cause().contains("a secret of the program"));
    assert_eq!(ended.reason, "");
    other.send_text("served");
    other.expect_text("served");
    server.open();
}

/// What a panic carries, and panics again when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        resume_unwind(Box::new("the payload of a panic was dropped"));
    }
}

#[test]
fn a_panic_whose_payload_panics_when_it_is_dropped_closes_its_connection_with_1011_and_hurts_nobody() {
    let server = Server::start(
        &options(),
        Script::new().on_message(|connection, message| {
            if message.payload() == b"panic" {
                resume_unwind(Box::new(Bomb));
            }
            connection.send(message).unwrap();
        }),
    );
    let (mut other, _) = server.open();
    let (mut peer, connection) = server.open();
    server.handle.post(|| resume_unwind(Box::new(Bomb))).unwrap();
    peer.send_text("panic");
    peer.expect_close(1011);
    peer.expect_end();
    drop(peer);
    assert_failed(&server.events.closed_of(connection), 1011, Side::Us, FailureKind::Callback);
    other.send_text("served");
    other.expect_text("served");
    server.open();
}

#[test]
fn a_panic_in_on_open_is_1011_after_the_handshake() {
    let server = Server::start(&options(), Script::new().on_open(|_| panics()));
    let mut peer = RawPeer::open(server.address());
    peer.expect_close(1011);
    drop(peer);
    assert_failed(&server.events.closed(), 1011, Side::Us, FailureKind::Callback);
}

#[test]
fn a_panic_in_the_request_hook_is_a_500_and_told_to_the_listener() {
    let server = Server::start(
        &options(),
        Script::new().on_request(|request| {
            if request.path() == "/panic" {
                panics();
            }
            Response::accept()
        }),
    );
    let answer = server.ask(&upgrade("a", "/panic", ""));
    assert_eq!(answer.status, 500);
    assert!(!answer.body.contains("secret"), "{}", answer.body);
    let failure = server.events.listener_error();
    assert_eq!((failure.kind, failure.stage), (FailureKind::Callback, Stage::Http));
    assert!(failure.message.contains("a secret of the program"));
    server.open();
}

#[test]
fn a_panic_in_on_close_hurts_nobody() {
    let server = Server::start(
        &options(),
        Script::new().on_close(|_, _| panics()).on_open(|connection| {
            connection.subscribe("all").unwrap();
        }),
    );
    for _ in 0..3 {
        let (mut peer, _) = server.open();
        peer.send_close(Some(1000), "");
        peer.expect_close(1000);
        peer.expect_end();
    }
    let (mut peer, _) = server.open();
    server.handle.publish("all", "served", None).unwrap();
    peer.expect_text("served");
    assert_eq!(server.connection_count(), 1);
}

#[test]
fn a_panic_after_a_callback_has_closed_is_told_as_a_failure() {
    let server = Server::start(
        &options(),
        Script::new().on_message(|connection, _| {
            connection.close(4000, "done").unwrap();
            panics();
        }),
    );
    let (mut peer, _) = server.open();
    peer.send_text("go");
    assert_eq!(peer.expect_close(4000), "done");
    peer.expect_end();
    drop(peer);
    assert_failed(&server.events.closed(), 4000, Side::Us, FailureKind::Callback);
}

#[test]
fn the_number_of_closes_is_the_number_of_opens_however_they_end() {
    let closes = Arc::new(AtomicU64::new(0));
    let counted = closes.clone();
    let server = Server::start(
        &with_close_timeout(200),
        Script::new()
            .on_message(|connection, message| match message.payload() {
                b"close" => connection.close(1000, "").unwrap(),
                b"terminate" => connection.terminate().unwrap(),
                _ => panics(),
            })
            .on_close(move |_, _| {
                counted.fetch_add(1, Ordering::SeqCst);
            }),
    );
    let mut peers = Vec::new();
    for round in 0..70 {
        let mut peer = RawPeer::open(server.address());
        match round % 7 {
            0 => peer.send_text("close"),
            1 => peer.send_text("terminate"),
            2 => peer.send_text("panic"),
            3 => peer.send_close(None, ""),
            4 => peer.write(&[0xff, 0xff]),
            5 => peer.finish(),
            _ => {
                peer.reset();
                continue;
            }
        }
        peers.push(peer);
    }
    for _ in 0..70 {
        server.events.closed();
    }
    assert_eq!(server.connection_count(), 0);
    assert_eq!(closes.load(Ordering::SeqCst), 70);
    drop(peers);
}
