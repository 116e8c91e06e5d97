//! What the engine answers by itself, and the call before it: what the program sends there leaves first.

mod support;

use support::{CLOSE, Event, MASK, PING, PONG, RawPeer, Script, Server, TEXT, frame};
use wsx_core::{Options, Side};

/// Counts its replies aloud.
fn announcing() -> Script {
    let mut count = 0;
    Script::new().before_reply(move |connection| {
        count += 1;
        connection.send(&format!("reply {count}")).unwrap();
    })
}

#[test]
fn what_is_sent_before_a_pong_leaves_before_it() {
    let server = Server::start(&Options::default(), announcing());
    let (mut peer, connection) = server.open();
    for (number, reply) in [(1_u8, "reply 1"), (2, "reply 2")] {
        peer.send(PING, &[number]);
        peer.expect_text(reply);
        let pong = peer.read_frame();
        assert_eq!((pong.opcode, pong.payload), (PONG, vec![number]));
    }
    // Nothing is answered to a message, or to a pong.
    peer.send_text("no reply");
    peer.send(PONG, b"no reply");
    peer.send(PING, b"3");
    peer.expect_text("reply 3");
    assert_eq!(peer.read_frame().opcode, PONG);
    assert!(matches!(server.events.next(), Event::Ping(pinged, _) if pinged == connection));
}

#[test]
fn what_is_sent_before_the_answer_to_a_close_leaves_before_it() {
    let server = Server::start(&Options::default(), announcing());
    let (mut peer, connection) = server.open();
    peer.send_close(Some(1000), "bye");
    peer.expect_text("reply 1");
    peer.expect_close(1000);
    peer.expect_end();
    let ended = server.events.closed_of(connection);
    assert_eq!((ended.code, ended.by, ended.was_clean), (1000, Side::Peer, true), "{ended:?}");
}

#[test]
fn what_is_sent_before_the_close_that_tells_a_violation_leaves_before_it() {
    let server = Server::start(&Options::default(), announcing());
    let (mut peer, connection) = server.open();
    peer.write(&frame(0x80 | TEXT, b"unmasked", None));
    peer.expect_text("reply 1");
    peer.expect_close(1002);
    peer.expect_end();
    drop(peer);
    assert_eq!(server.events.closed_of(connection).code, 1002);
}

#[test]
fn a_program_that_closes_before_the_reply_has_closed_first() {
    let close = || Script::new().before_reply(|connection| connection.close(4000, "enough").unwrap());
    let server = Server::start(&Options::default(), close());
    let (mut peer, connection) = server.open();
    peer.send(PING, b"a ping is not answered after our close, and not told");
    assert_eq!(peer.expect_close(4000), "enough");
    peer.finish();
    peer.expect_end();
    assert!(matches!(server.events.next(), Event::Error(failed, _) if failed == connection));

    let (mut peer, connection): (RawPeer, _) = server.open();
    peer.write(&frame(0x80 | CLOSE, &1000_u16.to_be_bytes(), Some(MASK)));
    assert_eq!(peer.expect_close(4000), "enough");
    peer.expect_end();
    let ended = server.events.closed_of(connection);
    assert_eq!((ended.code, ended.by, ended.was_clean), (4000, Side::Us, true), "{ended:?}");
}
