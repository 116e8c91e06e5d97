//! Messages sent in fragments: `send_fragment`.

mod support;

use std::time::Duration;

use support::{BINARY, CONTINUATION, FIN, PING, PONG, Running, Script, Server, TEXT};
use wsx_core::{BacklogPolicy, Connection, Error, FailureKind, MessageKind, Options, Result};

use MessageKind::{Binary, Text};

/// Sends a fragment on the loop's thread.
fn send(
    running: &Running,
    connection: Connection,
    kind: MessageKind,
    payload: &'static [u8],
    is_last: bool,
) -> Result<()> {
    running.on_loop(move || connection.send_fragment(kind, payload, is_last))
}

#[test]
fn fragments_leave_one_by_one_with_control_frames_between() {
    let server = Server::start(&Options::default(), Script::new());
    let (mut peer, connection) = server.open();
    send(&server, connection, Text, b"one ", false).unwrap();
    peer.expect_frame(TEXT, b"one ");
    connection.ping(b"between").unwrap();
    peer.expect_frame(FIN | PING, b"between");
    peer.send(PING, b"theirs");
    peer.expect_frame(FIN | PONG, b"theirs");
    send(&server, connection, Text, b"", false).unwrap();
    send(&server, connection, Text, b"two", true).unwrap();
    peer.expect_frame(CONTINUATION, b"");
    peer.expect_frame(FIN | CONTINUATION, b"two");
    server.on_loop(move || connection.send("whole").unwrap());
    peer.expect_frame(FIN | TEXT, b"whole");
    send(&server, connection, Binary, b"at once", true).unwrap();
    peer.expect_frame(FIN | BINARY, b"at once");
}

#[test]
fn a_client_masks_each_and_its_server_hears_one_message() {
    let server = Server::start(&Options::default(), Script::new());
    let running = Running::idle();
    let (connection, client) =
        running.connect(&format!("ws://{}/", server.address()), &Options::default(), Script::new());
    client.opened();
    server.events.opened();
    // Cut inside a character.
    send(&running, connection, Text, b"gr\xc3", false).unwrap();
    send(&running, connection, Text, b"\xbc\xc3\x9fe", true).unwrap();
    assert_eq!(server.events.text(), "grüße");
}

#[test]
fn a_whole_message_between_is_refused_wherever_it_comes_from() {
    let server = Server::start(&Options::default(), Script::echo());
    let (mut peer, connection) = server.open();
    send(&server, connection, Binary, b"1", false).unwrap();
    peer.expect_frame(BINARY, b"1");
    let refused = server.on_loop(move || (connection.send("small"), connection.send(&vec![0; 100_000])));
    assert!(matches!(refused, (Err(Error::MessageInProgress), Err(Error::MessageInProgress))), "{refused:?}");
    // Of another thread it is lost, and counted; so is the echo of a callback, which ignores that.
    connection.send("from elsewhere").unwrap();
    peer.send_text("echo me");
    assert_eq!(server.events.text(), "echo me");
    send(&server, connection, Binary, b"2", true).unwrap();
    peer.expect_frame(FIN | CONTINUATION, b"2");
    peer.send_text("and me");
    peer.expect_text("and me");
    peer.send_close(Some(1000), "");
    peer.expect_close(1000);
    assert_eq!(server.events.closed().lost_messages, 1);
}

#[test]
fn text_is_checked_across_fragments_and_kinds_are_not_mixed() {
    let server = Server::start(&Options::default(), Script::new());
    let (mut peer, connection) = server.open();
    let refused =
        |payload, is_last| matches!(send(&server, connection, Text, payload, is_last), Err(Error::InvalidArgument(_)));
    assert!(refused(b"\xff", false) && refused(b"\xff", true) && refused(b"\xc3", true));
    send(&server, connection, Text, b"\xc3", false).unwrap();
    assert!(refused(b"x", false) && refused(b"", true));
    assert!(matches!(send(&server, connection, Binary, b"\xbc", true), Err(Error::InvalidArgument(_))));
    // What was refused was not sent, and the message goes on.
    send(&server, connection, Text, b"\xbc", true).unwrap();
    peer.expect_frame(TEXT, b"\xc3");
    peer.expect_frame(FIN | CONTINUATION, b"\xbc");
}

#[test]
fn a_broadcast_follows_behind_the_message_that_it_would_cut() {
    let server = Server::start(&Options::default(), Script::new());
    let (mut within, connection) = server.open();
    let (mut other, other_connection) = server.open();
    server.on_loop(move || {
        connection.subscribe("news").unwrap();
        other_connection.subscribe("news").unwrap();
    });
    send(&server, connection, Binary, b"1", false).unwrap();
    for text in ["first", "second"] {
        server.handle.broadcast(text, None).unwrap();
        other.expect_text(text);
    }
    server.handle.publish("news", "third", None).unwrap();
    other.expect_text("third");
    send(&server, connection, Binary, b"2", true).unwrap();
    server.handle.broadcast("fourth", None).unwrap();
    within.expect_frame(BINARY, b"1");
    within.expect_frame(FIN | CONTINUATION, b"2");
    for text in ["first", "second", "third", "fourth"] {
        within.expect_text(text);
    }
    other.expect_text("fourth");
}

#[test]
fn what_is_broadcast_meanwhile_is_kept_within_the_backlogs_limit_and_lost_beyond() {
    let mut options = Options::default();
    options.backlog_limit = 1000;
    let server = Server::start(&options, Script::new());
    let (mut peer, connection) = server.open();
    send(&server, connection, Binary, b"1", false).unwrap();
    peer.expect_frame(BINARY, b"1");
    let handle = server.handle.clone();
    server.on_loop(move || {
        // Each for itself, for a batch counts as one.
        for number in 0..10_u8 {
            handle.broadcast(&[number; 300], None).unwrap();
            let _ = connection.buffered_amount();
        }
    });
    send(&server, connection, Binary, b"2", true).unwrap();
    peer.expect_frame(FIN | CONTINUATION, b"2");
    for number in 0..3 {
        peer.expect_frame(FIN | BINARY, &[number; 300]);
    }
    peer.send_close(Some(1000), "");
    peer.expect_close(1000);
    assert_eq!(server.events.closed().lost_messages, 7);
}

#[test]
fn a_close_leaves_the_message_unfinished_and_what_waited_for_it_is_lost() {
    let server = Server::start(&Options::default(), Script::new());
    let (mut peer, connection) = server.open();
    send(&server, connection, Binary, b"1", false).unwrap();
    peer.expect_frame(BINARY, b"1");
    server.handle.broadcast("never", None).unwrap();
    connection.close(1000, "").unwrap();
    peer.expect_close(1000);
    peer.send_close(Some(1000), "");
    let ended = server.events.closed();
    assert_eq!((ended.lost_messages, ended.was_clean), (1, true));
    // Nothing is left of it for the next connection in its place.
    let (mut next, connection) = server.open();
    server.on_loop(move || connection.send("whole").unwrap());
    next.expect_text("whole");
}

#[test]
fn a_fragment_without_room_is_refused_also_where_messages_are_dropped() {
    for policy in [BacklogPolicy::Refuse, BacklogPolicy::Drop] {
        let mut options = Options::default();
        (options.backlog_limit, options.backlog_policy) = (100_000, policy);
        let server = Server::start(&options, Script::new());
        let (mut peer, connection) = server.open_narrow();
        let taken = server.on_loop(move || {
            (0..).find(|_| match connection.send_fragment(Binary, &[7; 50_000], false) {
                Ok(()) => false,
                Err(Error::BacklogFull { limit: 100_000, .. }) => true,
                Err(error) => panic!("{error}"),
            })
        });
        let taken = taken.unwrap();
        for number in 0..taken {
            peer.expect_frame(if number == 0 { BINARY } else { CONTINUATION }, &[7; 50_000]);
        }
        server.events.drain();
        send(&server, connection, Binary, b"end", true).unwrap();
        peer.expect_frame(FIN | CONTINUATION, b"end");
    }
}

#[test]
fn from_another_thread_fragments_come_in_order_and_one_that_is_refused_ends_the_connection() {
    let server = Server::start(&Options::default(), Script::new());
    let (mut peer, connection) = server.open();
    connection.send_fragment(Text, b"a", false).unwrap();
    connection.send_fragment(Text, b"b", false).unwrap();
    connection.send_fragment(Text, b"c", true).unwrap();
    peer.expect_frame(TEXT, b"a");
    peer.expect_frame(CONTINUATION, b"b");
    peer.expect_frame(FIN | CONTINUATION, b"c");
    connection.send_fragment(Text, b"a", false).unwrap();
    connection.send_fragment(Text, b"\xff", false).unwrap();
    peer.expect_frame(TEXT, b"a");
    peer.expect_close(1011);
    peer.finish();
    let failure = server.events.closed().failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Callback);
    assert!(failure.message.contains("not UTF-8"), "{failure}");
}

#[test]
fn a_backlog_that_is_full_ends_a_connection_between_two_fragments_of_a_message() {
    let mut options = Options::default();
    options.backlog_limit = 100_000;
    options.close_timeout = Duration::from_secs(20);
    let server = Server::start(&options, Script::new());
    let (mut peer, connection) = server.open_narrow();
    server.on_loop(move || while connection.send_fragment(Binary, &[7; 50_000], false).is_ok() {});
    // What has begun ends, and the Close follows it.
    loop {
        let frame = peer.read_frame();
        if frame.opcode == support::CLOSE {
            assert_eq!(frame.close().0, Some(1013));
            break;
        }
    }
    drop(peer);
    assert_eq!(server.events.closed().code, 1013);
}

#[test]
fn where_what_has_waited_for_the_last_fragment_is_too_much_nothing_follows_the_close() {
    let mut options = Options::default();
    (options.backlog_limit, options.backlog_policy) = (100_000, BacklogPolicy::Close);
    options.close_timeout = Duration::from_secs(20);
    let server = Server::start(&options, Script::new());
    let (mut peer, connection) = server.open_narrow();
    let waits = || server.on_loop(move || connection.buffered_amount().unwrap());
    // At the end of each turn the kernel has taken what it can.
    while waits() < 50_000 {
        send(&server, connection, Binary, &[7; 10_000], false).unwrap();
    }
    for _ in 0..3 {
        server.handle.broadcast("b".repeat(10_000).as_str(), None).unwrap();
        server.on_loop(|| ());
    }
    while waits() < 89_000 {
        send(&server, connection, Binary, &[7; 1000], false).unwrap();
    }
    send(&server, connection, Binary, &[7; 1000], true).unwrap();
    loop {
        let frame = peer.read_frame();
        if frame.opcode == support::CLOSE {
            assert_eq!(frame.close().0, Some(1013));
            break;
        }
    }
    peer.expect_end();
    drop(peer);
    let ended = server.events.closed();
    assert_eq!((ended.code, ended.lost_messages), (1013, 4), "{ended:?}");
}

#[cfg(feature = "deflate")]
#[test]
fn fragments_are_compressed_as_one_stream_with_and_without_context() {
    for mut options in [support::deflate::compressing(), support::deflate::keeping()] {
        options.compression.as_mut().unwrap().threshold = 4;
        let server = Server::start(&options, Script::new());
        let running = Running::idle();
        let url = format!("ws://{}/", server.address());
        let (client, events) = running.connect(&url, &options, Script::new());
        events.opened();
        let connection = server.events.opened();
        for _ in 0..2 {
            for (from, running, heard, ours) in
                [(connection, &*server, &events, "server"), (client, &running, &server.events, "client")]
            {
                // Whole and empty ones, at the beginning, between and at the end.
                for pieces in [&["abcd", "", "efgh"][..], &["abcdabcd", "abcdabcd", ""], &["", "abcdefgh"], &["abcd"]] {
                    for (number, piece) in pieces.iter().enumerate() {
                        let is_last = number + 1 == pieces.len();
                        send(running, from, Text, piece.as_bytes(), is_last).unwrap();
                    }
                    assert_eq!(heard.text(), pieces.concat(), "{ours}");
                    running.on_loop(move || from.send("a whole one between, compressed").unwrap());
                    assert_eq!(heard.text(), "a whole one between, compressed");
                }
            }
        }
        // A broadcast behind a message is compressed in its way as well.
        send(&server, connection, Text, b"begun, ", false).unwrap();
        server.handle.broadcast("a broadcast, a broadcast", None).unwrap();
        send(&server, connection, Text, b"ended", true).unwrap();
        assert_eq!(events.text(), "begun, ended");
        assert_eq!(events.text(), "a broadcast, a broadcast");
        while let Some(event) = events.try_next() {
            assert!(!matches!(event, support::Event::Error(..)), "{event:?}");
        }
    }
}
