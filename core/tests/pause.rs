//! A program that stops reading from a peer: from when it counts, and what is heard all the same.

mod support;

use std::net::TcpListener;

use support::{Event, RawPeer, Running, Script, Server, TEXT, frame};
use wsx_core::{Error, Options, ReadyState, Side};

fn options() -> Options {
    Options::default()
}

#[test]
fn pausing_a_client_that_still_connects_counts_from_when_it_is_open() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let running = Running::idle();
    let (client, events) = running.connect(&url, &options(), Script::echo());
    running.on_loop(move || {
        client.pause().unwrap();
        assert_eq!(client.ready_state().unwrap(), ReadyState::Connecting);
    });
    let mut peer = RawPeer::accept(&listener);
    let head = peer.read_head();
    running.meanwhile(|| {
        peer.answer_upgrade(&head, "");
        // In the segment of the answer, as far as the loop can see.
        peer.write(&frame(0x80 | TEXT, b"early", None));
    });
    assert!(matches!(events.next(), Event::Opened(connection, _) if connection == client));
    peer.send_text("late");
    // Whatever these turns find to tell, they tell.
    (0..3).for_each(|_| running.on_loop(|| ()));
    assert!(events.try_next().is_none(), "it is paused");
    running.on_loop(move || client.resume().unwrap());
    assert_eq!(events.text(), "early");
    assert_eq!(events.text(), "late");
    peer.expect_text("early");
    peer.expect_text("late");
}

#[test]
fn pausing_what_closes_is_refused() {
    let server = Server::start(&options(), Script::new());
    let (mut peer, connection) = server.open();
    server.on_loop(move || {
        connection.close(4000, "").unwrap();
        assert!(matches!(connection.pause(), Err(Error::Closed)));
    });
    peer.expect_close(4000);
    peer.send_close(Some(4000), "");
    peer.expect_end();
    assert!(server.events.closed_of(connection).was_clean);
}

#[test]
fn closing_what_is_paused_hears_the_answer() {
    let server = Server::start(&options(), Script::new());
    let (mut peer, connection) = server.open();
    server.on_loop(move || {
        connection.pause().unwrap();
        connection.close(4000, "done").unwrap();
    });
    assert_eq!(peer.expect_close(4000), "done");
    peer.send_close(Some(4000), "");
    peer.expect_end();
    let ended = server.events.closed_of(connection);
    assert_eq!((ended.code, ended.by, ended.was_clean), (4000, Side::Us, true), "{ended:?}");
}

#[test]
fn closing_what_is_paused_hears_a_close_that_has_come_before() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let running = Running::idle();
    // It pauses with the rest of a segment kept, and leaves the rest of the stream to the kernel.
    let script = Script::new().on_message(|client, _| client.pause().unwrap());
    let (client, events) = running.connect(&url, &options(), script);
    let (mut peer, _) = RawPeer::accept_upgrade(&listener);
    running.meanwhile(|| {
        peer.send_text("pause");
        peer.send_text("kept");
    });
    assert_eq!(events.text(), "pause");
    peer.send_text("in the kernel");
    peer.send_close(Some(1000), "bye");
    running.on_loop(|| ());
    assert!(events.try_next().is_none(), "it is paused");
    running.on_loop(move || client.close(4000, "done").unwrap());
    assert_eq!(peer.expect_close(4000), "done");
    drop(peer);
    let Event::Closed(_, ended) = events.next() else { panic!("no message is told after our close") };
    assert_eq!((ended.code, ended.by, ended.was_clean), (4000, Side::Us, true), "{ended:?}");
}
