//! Large messages: received where they stay, passed on without a copy, in order with everything else.

mod support;

use std::io::Write;
use std::sync::{Arc, Mutex, mpsc};

use support::{BINARY, CONTINUATION, MASK, RawPeer, Script, Server, TEXT, frame};
use wsx_core::{BacklogPolicy, LoopOptions, Message, Options};

const LARGE: usize = 12 * 1024 * 1024;

fn options(backlog_policy: BacklogPolicy) -> Options {
    let mut options = Options::default();
    (options.max_message, options.backlog_policy) = (0, backlog_policy);
    options
}

fn payload(seed: usize, size: usize) -> Vec<u8> {
    (0..size).map(|n| (n * 31 + n / 251 + seed) as u8).collect()
}

/// Sends from a thread of its own: nobody reads yet what comes back.
fn send_meanwhile(peer: &RawPeer, bytes: Vec<u8>) -> std::thread::JoinHandle<()> {
    let mut stream = peer.stream.try_clone().unwrap();
    std::thread::spawn(move || stream.write_all(&bytes).unwrap())
}

#[test]
fn large_and_small_messages_come_back_in_order_and_unchanged() {
    let server = Server::start(&options(BacklogPolicy::Pause), Script::echo());
    let (mut peer, _) = server.open();
    let sizes = [LARGE, 3, 600_000, 0, 1 << 20, 65_536, 70, 2_000_000, 16_384];
    let bytes =
        sizes.iter().enumerate().flat_map(|(seed, size)| frame(0x80 | BINARY, &payload(seed, *size), Some(MASK)));
    let sending = send_meanwhile(&peer, bytes.collect());
    for (seed, size) in sizes.into_iter().enumerate() {
        let echo = peer.read_frame();
        assert!(echo.opcode == BINARY && echo.payload == payload(seed, size), "message {seed} of {size} bytes");
    }
    sending.join().unwrap();
}

#[test]
fn what_is_sent_behind_a_large_message_in_the_same_callback_stays_behind_it() {
    let script = Script::new().on_message(|connection, message| {
        connection.send(message).unwrap();
        connection.send("behind").unwrap();
        connection.send(message).unwrap();
        connection.send("at the end").unwrap();
    });
    let mut options = options(BacklogPolicy::Pause);
    options.backlog_limit = 0;
    let server = Server::start(&options, script);
    let (mut peer, _) = server.open();
    let sending = send_meanwhile(&peer, frame(0x80 | BINARY, &payload(1, LARGE), Some(MASK)));
    for text in ["behind", "at the end"] {
        assert!(peer.read_frame().payload == payload(1, LARGE));
        peer.expect_text(text);
    }
    sending.join().unwrap();
}

#[test]
fn a_large_message_is_relayed_to_others() {
    let others = Arc::new(Mutex::new(Vec::new()));
    let receivers = others.clone();
    let script = Script::new().on_message(move |_, message| {
        for other in &*receivers.lock().unwrap() {
            wsx_core::Connection::send(*other, message).unwrap();
        }
    });
    let server = Server::start(&options(BacklogPolicy::Pause), script);
    let mut peers: Vec<_> = (0..3).map(|_| server.open()).collect();
    others.lock().unwrap().extend(peers[1..].iter().map(|(_, connection)| *connection));
    let sending = send_meanwhile(&peers[0].0, frame(0x80 | BINARY, &payload(7, LARGE), Some(MASK)));
    for (peer, _) in &mut peers[1..] {
        assert!(peer.read_frame().payload == payload(7, LARGE));
    }
    sending.join().unwrap();
}

#[test]
fn a_large_message_that_is_under_way_is_whole_before_the_close_for_its_backlog() {
    let (told, was_told) = mpsc::channel();
    let script = Script::new().on_message(move |connection, message| {
        connection.send(message).unwrap();
        // Too much: the second one must not come, and the first must not be cut.
        told.send(connection.send(Message::Binary(&[0; 4096])).is_err()).unwrap();
    });
    let server = Server::start(&options(BacklogPolicy::Close), script);
    let (mut peer, connection) = server.open();
    let sending = send_meanwhile(&peer, frame(0x80 | BINARY, &payload(9, LARGE), Some(MASK)));
    // Nothing was read until here, so much of the message is still in the server.
    assert!(was_told.recv().unwrap());
    assert!(peer.read_frame().payload == payload(9, LARGE));
    peer.expect_close(1013);
    sending.join().unwrap();
    drop(peer);
    assert_eq!(server.events.closed_of(connection).code, 1013);
}

#[test]
fn a_connection_that_ends_in_the_callback_waits_for_nothing() {
    let script = Script::new().on_message(|connection, message| {
        connection.send(message).unwrap();
        connection.terminate().unwrap();
    });
    let server = Server::start(&options(BacklogPolicy::Pause), script);
    let (mut peer, connection) = server.open();
    peer.write(&frame(0x80 | BINARY, &payload(2, LARGE), Some(MASK)));
    assert_eq!(server.events.closed_of(connection).code, 1006);
    server.expect_connections(0);
}

#[test]
fn what_comes_behind_a_large_last_fragment_is_told_whatever_the_receive_buffer_is() {
    let mut loop_options = LoopOptions::default();
    loop_options.receive_buffer = 4096;
    let server = Server::start_with(&loop_options, &Options::default(), Script::echo());
    let (mut peer, _) = server.open();
    // The fragments before leave more room in the message's buffer than the last one needs.
    let mut bytes = frame(BINARY, &[0; 3000], Some(MASK));
    (1..5).for_each(|_| bytes.extend(frame(CONTINUATION, &[1; 3000], Some(MASK))));
    bytes.extend(frame(0x80 | CONTINUATION, &[2; 22_000], Some(MASK)));
    let behind = |n| format!("behind {n} {}", "x".repeat(50));
    (0..400).for_each(|n| bytes.extend(frame(0x80 | TEXT, behind(n).as_bytes(), Some(MASK))));
    server.meanwhile(|| peer.write(&bytes));
    assert_eq!(peer.read_frame().payload.len(), 5 * 3000 + 22_000);
    (0..400).for_each(|n| peer.expect_text(&behind(n)));
}
