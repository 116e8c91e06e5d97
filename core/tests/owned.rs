//! Messages whose bytes are given away, or encoded once for many: `send_owned` and `send_shared`.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::{BINARY, FIN, Running, Script, Server, TEXT, eventually};
use wsx_core::{BacklogPolicy, Error, MessageKind, Options, OwnedMessage, SharedMessage};

/// Memory that tells when it is dropped.
struct Told(Vec<u8>, Arc<AtomicUsize>);

impl AsRef<[u8]> for Told {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for Told {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

/// How often something was dropped.
#[derive(Clone, Default)]
struct Drops(Arc<AtomicUsize>);

impl Drops {
    fn of(&self, payload: Vec<u8>) -> OwnedMessage {
        OwnedMessage::new(MessageKind::Binary, Told(payload, self.0.clone())).unwrap()
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 7 + at / 251) as u8).collect()
}

#[test]
fn what_is_given_away_comes_as_it_was_in_the_order_of_the_calls() {
    let server = Server::start(&Options::default(), Script::new());
    let (mut peer, connection) = server.open();
    server.on_loop(move || {
        for size in [0, 1, 16_383, 16_384, 70_000, 300_000] {
            connection.send_owned(bytes(size)).unwrap();
            connection.send("between").unwrap();
            connection.send_owned("ä".repeat(size / 2)).unwrap();
        }
    });
    for size in [0, 1, 16_383, 16_384, 70_000, 300_000] {
        peer.expect_frame(FIN | BINARY, &bytes(size));
        peer.expect_frame(FIN | TEXT, b"between");
        peer.expect_frame(FIN | TEXT, "ä".repeat(size / 2).as_bytes());
    }
    // Of another thread.
    connection.send_owned(bytes(100_000)).unwrap();
    peer.expect_frame(FIN | BINARY, &bytes(100_000));
}

#[test]
fn a_client_masks_it_where_it_lies() {
    let server = Server::start(&Options::default(), Script::new());
    let running = Running::idle();
    let url = format!("ws://{}/", server.address());
    let (connection, client) = running.connect(&url, &Options::default(), Script::new());
    client.opened();
    server.events.opened();
    let drops = Drops::default();
    let message = drops.of(bytes(100_000));
    running.on_loop(move || connection.send_owned(message).unwrap());
    let heard = server.events.find(|event| match event {
        support::Event::Binary(_, payload) => Some(payload),
        _ => None,
    });
    assert!(heard == bytes(100_000));
    eventually("it is dropped", || drops.count() == 1);
}

#[test]
fn it_is_kept_and_not_copied_until_it_has_left_and_is_dropped_once() {
    let server = Server::start(&Options::default(), Script::new());
    let (mut peer, connection) = server.open_narrow();
    let drops = Drops::default();
    let message = drops.of(bytes(10_000_000));
    server.on_loop(move || connection.send_owned(message).unwrap());
    let waits = server.on_loop(move || connection.buffered_amount().unwrap());
    assert!(waits > 0 && drops.count() == 0);
    peer.expect_frame(FIN | BINARY, &bytes(10_000_000));
    eventually("it is dropped", || drops.count() == 1);
}

#[test]
fn it_is_dropped_once_wherever_it_cannot_be_sent() {
    let mut options = Options::default();
    (options.backlog_limit, options.backlog_policy) = (100_000, BacklogPolicy::Drop);
    let server = Server::start(&options, Script::new());
    let (peer, connection) = server.open_narrow();
    let drops = Drops::default();
    let text = OwnedMessage::new(MessageKind::Text, Told(b"\xff".to_vec(), drops.0.clone()));
    assert!(matches!(text, Err(Error::InvalidArgument(_))) && drops.count() == 1);
    drop(drops.of(bytes(1)));
    assert_eq!(drops.count(), 2);
    // One waits, the next is dropped by the policy.
    let (first, second) = (drops.of(bytes(10_000_000)), drops.of(bytes(20_000)));
    server.on_loop(move || {
        connection.send_owned(first).unwrap();
        connection.send_owned(second).unwrap();
    });
    assert_eq!(drops.count(), 3);
    connection.terminate().unwrap();
    server.events.closed();
    assert_eq!(drops.count(), 4);
    let late = drops.of(bytes(20_000));
    assert!(server.on_loop(move || matches!(connection.send_owned(late), Err(Error::Closed))));
    assert_eq!(drops.count(), 5);
    // A command that is never done.
    let (_next, connection) = server.open();
    let handle = server.handle.clone();
    drop((peer, server));
    assert!(connection.send_owned(drops.of(bytes(20_000))).is_err());
    assert_eq!(drops.count(), 6);
    drop(handle);
}

#[test]
fn a_backlog_over_its_limit_drops_what_has_not_begun_and_keeps_the_frame_in_progress() {
    let mut options = Options::default();
    options.backlog_limit = 1_000_000;
    let server = Server::start(&options, Script::new());
    let (mut peer, connection) = server.open_narrow();
    let drops = Drops::default();
    let messages = [drops.of(bytes(8_000_000)), drops.of(bytes(20_000)), drops.of(bytes(1_000_000))];
    let refused =
        server.on_loop(move || messages.into_iter().map(|one| connection.send_owned(one).is_err()).collect::<Vec<_>>());
    assert_eq!(refused, [false, true, true]);
    assert_eq!(drops.count(), 2);
    peer.expect_frame(FIN | BINARY, &bytes(8_000_000));
    peer.expect_close(1013);
    eventually("it is dropped", || drops.count() == 3);
}

#[test]
fn a_shared_message_comes_to_everybody_and_outlives_its_owner() {
    let server = Server::start(&Options::default(), Script::new());
    let mut peers: Vec<_> = (0..3).map(|_| server.open_narrow()).collect();
    for size in [0, 5, 2_000, 500_000] {
        let (text, binary) = ("x".repeat(size), bytes(size));
        let shared = [SharedMessage::new(&text), SharedMessage::new(&binary)];
        let connections: Vec<_> = peers.iter().map(|(_, connection)| *connection).collect();
        server.on_loop(move || {
            for message in &shared {
                for connection in &connections {
                    connection.send_shared(message).unwrap();
                    connection.send("between").unwrap();
                }
            }
        });
        for (peer, _) in &mut peers {
            peer.expect_frame(FIN | TEXT, text.as_bytes());
            peer.expect_frame(FIN | TEXT, b"between");
            peer.expect_frame(FIN | BINARY, &binary);
            peer.expect_frame(FIN | TEXT, b"between");
        }
    }
    // Of another thread, and gone before it is sent.
    for (peer, connection) in &mut peers {
        connection.send_shared(&SharedMessage::new("from elsewhere")).unwrap();
        peer.expect_frame(FIN | TEXT, b"from elsewhere");
    }
}

#[test]
fn a_client_sends_a_shared_message_with_a_mask_of_its_own_each_time() {
    let server = Server::start(&Options::default(), Script::new());
    let running = Running::idle();
    let url = format!("ws://{}/", server.address());
    let (connection, client) = running.connect(&url, &Options::default(), Script::new());
    client.opened();
    let shared = SharedMessage::new("shared");
    for _ in 0..2 {
        let message = shared.clone();
        running.on_loop(move || connection.send_shared(&message).unwrap());
        assert_eq!(server.events.text(), "shared");
    }
    assert_eq!(shared.message(), "shared".into());
}

#[test]
fn each_way_counts_as_one_message() {
    let server = Server::start(&Options::default(), Script::new());
    let (mut peer, connection) = server.open();
    server.on_loop(move || {
        for size in [10, 100_000] {
            connection.send_owned(bytes(size)).unwrap();
            connection.send_shared(&SharedMessage::new(&bytes(size))).unwrap();
            connection.send_fragment(MessageKind::Binary, &bytes(size), false).unwrap();
            connection.send_fragment(MessageKind::Binary, b"", true).unwrap();
        }
    });
    for _ in 0..8 {
        peer.read_frame();
    }
    server.on_loop(|| ());
    assert_eq!(server.handle.statistics().unwrap().messages_sent, 6);
}

#[test]
fn neither_comes_between_the_fragments_of_a_message() {
    let server = Server::start(&Options::default(), Script::new());
    let (_peer, connection) = server.open();
    let drops = Drops::default();
    let owned = drops.of(bytes(20_000));
    let refused = server.on_loop(move || {
        connection.send_fragment(MessageKind::Binary, b"1", false).unwrap();
        (connection.send_owned(owned), connection.send_shared(&SharedMessage::new("x")))
    });
    assert!(matches!(refused, (Err(Error::MessageInProgress), Err(Error::MessageInProgress))), "{refused:?}");
    assert_eq!(drops.count(), 1);
}

#[cfg(feature = "deflate")]
#[test]
fn both_are_compressed_where_that_was_agreed_on() {
    for options in [support::deflate::compressing(), support::deflate::keeping()] {
        let server = Server::start(&options, Script::new());
        let running = Running::idle();
        let url = format!("ws://{}/", server.address());
        let shared = SharedMessage::new(&"shared and again ".repeat(10_000));
        for _ in 0..2 {
            let (client, events) = running.connect(&url, &options, Script::new());
            events.opened();
            let connection = server.events.opened();
            for _ in 0..2 {
                let message = shared.clone();
                let waits = server.on_loop(move || {
                    connection.send_shared(&message).unwrap();
                    connection.buffered_amount().unwrap()
                });
                assert!(waits < 10_000, "{waits}");
                assert_eq!(events.text(), "shared and again ".repeat(10_000));
                server.on_loop(move || connection.send_owned("given ".repeat(10_000)).unwrap());
                assert_eq!(events.text(), "given ".repeat(10_000));
                let message = shared.clone();
                running.on_loop(move || client.send_shared(&message).unwrap());
                assert_eq!(server.events.text(), "shared and again ".repeat(10_000));
            }
        }
    }
}
