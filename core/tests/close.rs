//! Every announced connection hears exactly one `on_close`, as its last event. That it is one, that it is last, and
//! that `on_error` comes once, right before it, and only if something failed, is checked for every test by the
//! harness (`support/history.rs`); here is what it tells.

mod support;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use support::{CLOSE, DEADLINE, Ended, Event, MASK, PING, RawPeer, Running, Script, Server, TEXT, frame};
use wsx_core::{Connection, Error, FailureKind, Options, ReadyState, Side, Stage};

fn options() -> Options {
    Options::default()
}

fn with_close_timeout(millis: u64) -> Options {
    let mut options = Options::default();
    options.close_timeout = Duration::from_millis(millis);
    options
}

/// Closes when a message comes.
fn closer() -> Script {
    Script::new().on_message(|connection, _| connection.close(4000, "done").unwrap())
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

/// A raw server and a client of the engine that is open.
fn client(options: &Options, script: Script) -> (Running, RawPeer, Connection, support::Events) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let running = Running::idle();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let (connection, events) = running.connect(&url, options, script);
    let (peer, _) = RawPeer::accept_upgrade(&listener);
    assert_eq!(events.opened(), connection);
    (running, peer, connection, events)
}

#[test]
fn the_end_of_tcp_comes_with_the_last_close() {
    let server = Server::start(&options(), Script::echo());
    // By chance it could also be there in time in a packet of its own, but not each time.
    for _ in 0..50 {
        let (mut peer, _) = server.open();
        peer.send_close(Some(1000), "");
        peer.expect_close(1000);
        peer.stream.set_nonblocking(true).unwrap();
        peer.expect_end();
    }
}

#[test]
fn a_program_that_closes_hears_its_own_code_when_the_peer_has_answered() {
    let server = Server::start(&options(), closer());
    let (mut peer, _) = server.open();
    peer.send_text("go");
    assert_eq!(peer.expect_close(4000), "done");
    peer.send_close(Some(4000), "");
    peer.expect_end();
    assert_told(&server.events.closed(), 4000, "done", Side::Us);
}

#[test]
fn a_peer_that_closes_is_answered_with_its_code_and_told_with_its_reason() {
    let server = Server::start(&options(), Script::new());
    for (code, reason) in [(1000, ""), (1001, "leaving"), (3000, "é"), (4999, &"x".repeat(123))] {
        let (mut peer, connection) = server.open();
        peer.send_close(Some(code), reason);
        assert_eq!(peer.expect_close(code), "");
        peer.expect_end();
        assert_told(&server.events.closed_of(connection), code, reason, Side::Peer);
    }
}

#[test]
fn a_close_without_code_is_told_as_1005_and_answered_without_code() {
    let server = Server::start(&options(), Script::new());
    let (mut peer, _) = server.open();
    peer.send_close(None, "");
    assert_eq!(peer.read_frame().close(), (None, String::new()));
    peer.expect_end();
    assert_told(&server.events.closed(), 1005, "", Side::Peer);
}

#[test]
fn a_program_may_close_without_code() {
    let server =
        Server::start(&options(), Script::new().on_message(|connection, _| connection.close(1005, "").unwrap()));
    let (mut peer, _) = server.open();
    peer.send_text("go");
    assert_eq!(peer.read_frame().close(), (None, String::new()));
    peer.send_close(None, "");
    assert_told(&server.events.closed(), 1005, "", Side::Us);
}

#[test]
fn when_both_close_at_once_the_program_hears_its_own_code() {
    let server = Server::start(&options(), closer());
    let (mut peer, _) = server.open();
    let mut bytes = frame(0x80 | TEXT, b"go", Some(MASK));
    bytes.extend(frame(0x80 | CLOSE, &1001_u16.to_be_bytes(), Some(MASK)));
    peer.write(&bytes);
    assert_eq!(peer.expect_close(4000), "done");
    peer.expect_end();
    assert_told(&server.events.closed(), 4000, "done", Side::Us);
}

#[test]
fn a_stream_that_ends_without_close_is_1006_by_the_peer() {
    let server = Server::start(&options(), Script::new());
    let (peer, connection) = server.open();
    drop(peer);
    assert!(matches!(server.events.next(), Event::Error(failed, _) if failed == connection));
    assert_failed(&server.events.closed(), 1006, Side::Peer, FailureKind::Transport);
}

#[test]
fn a_reset_is_1006_with_the_systems_error() {
    let server = Server::start(&options(), Script::new());
    let (peer, _) = server.open();
    peer.reset();
    let ended = server.events.closed();
    assert_failed(&ended, 1006, Side::Peer, FailureKind::Transport);
    assert_eq!(ended.failure.unwrap().os_error, Some(libc::ECONNRESET));
}

#[test]
fn a_reset_is_noticed_while_the_program_has_paused_reading() {
    let server = Server::start(&options(), Script::new().on_open(|connection| connection.pause().unwrap()));
    let (peer, connection) = server.open();
    peer.reset();
    let ended = server.events.closed_of(connection);
    assert_failed(&ended, 1006, Side::Peer, FailureKind::Transport);
    assert!(ended.failure.unwrap().os_error.is_some());
}

#[test]
fn terminating_what_has_failed_tells_the_failure() {
    let server = Server::start(&options(), Script::new());
    let (mut peer, connection) = server.open();
    peer.send_frame(0x83, b"");
    assert!(!peer.expect_close(1002).is_empty());
    connection.terminate().unwrap();
    assert_failed(&server.events.closed_of(connection), 1002, Side::Us, FailureKind::Protocol);
}

#[test]
fn a_reset_while_we_close_is_told_as_begun_by_us() {
    let server = Server::start(&options(), closer());
    let (mut peer, _) = server.open();
    peer.send_text("go");
    peer.expect_close(4000);
    peer.reset();
    assert_failed(&server.events.closed(), 1006, Side::Us, FailureKind::Transport);
}

#[test]
fn a_peer_that_ends_instead_of_answering_our_close_is_1006_begun_by_us() {
    let server = Server::start(&options(), closer());
    let (mut peer, _) = server.open();
    peer.send_text("go");
    peer.expect_close(4000);
    peer.finish();
    peer.expect_end();
    assert_failed(&server.events.closed(), 1006, Side::Us, FailureKind::Transport);
}

#[test]
fn terminate_ends_at_once_without_a_close_and_without_a_failure() {
    let server = Server::start(
        &options(),
        Script::new().on_message(|connection, _| {
            connection.send("lost").unwrap();
            connection.terminate().unwrap();
            assert_eq!(connection.ready_state().unwrap(), ReadyState::Closed);
            assert!(matches!(connection.send("late"), Err(Error::Closed)));
            assert!(matches!(connection.terminate(), Err(Error::Closed)));
        }),
    );
    let (mut peer, _) = server.open();
    let mut bytes = frame(0x80 | TEXT, b"one", Some(MASK));
    bytes.extend(frame(0x80 | TEXT, b"two", Some(MASK)));
    peer.write(&bytes);
    peer.expect_end();
    assert!(matches!(server.events.next(), Event::Text(_, text) if text == "one"));
    let Event::Closed(_, ended) = server.events.next() else { panic!("no close") };
    assert_eq!((ended.code, ended.by, ended.was_clean, ended.failure), (1006, Side::Us, false, None));
    assert_eq!(ended.unsent_bytes, 6);
}

#[test]
fn a_violation_is_told_to_the_peer_and_to_the_program() {
    let server = Server::start(&options(), Script::new());
    let (mut peer, connection) = server.open();
    peer.write(&frame(0x80 | TEXT, b"unmasked", None));
    let reason = peer.expect_close(1002);
    peer.expect_end();
    drop(peer);
    assert!(matches!(server.events.next(), Event::Error(failed, _) if failed == connection));
    let ended = server.events.closed();
    assert_failed(&ended, 1002, Side::Us, FailureKind::Protocol);
    assert_eq!(ended.reason, reason);
}

#[test]
fn a_peer_that_never_ends_after_a_violation_is_cut_and_the_violation_is_what_is_told() {
    let server = Server::start(&with_close_timeout(50), Script::new());
    let (mut peer, _) = server.open();
    peer.write(&frame(0x80 | TEXT, b"unmasked", None));
    assert_failed(&server.events.closed(), 1002, Side::Us, FailureKind::Protocol);
    peer.expect_close(1002);
}

#[test]
fn failing_while_we_close_is_a_failure_and_sends_no_second_close() {
    let server = Server::start(&options(), closer());
    let (mut peer, _) = server.open();
    peer.send_text("go");
    peer.expect_close(4000);
    peer.write(&frame(0x80 | TEXT, b"unmasked", None));
    peer.expect_end();
    drop(peer);
    // The code is the one that was sent.
    assert_failed(&server.events.closed(), 4000, Side::Us, FailureKind::Protocol);
}

#[test]
fn a_peer_that_does_not_answer_our_close_is_cut_though_it_goes_on_sending() {
    let server = Server::start(&with_close_timeout(100), closer());
    let (mut peer, _) = server.open();
    peer.send_text("go");
    let began = Instant::now();
    while peer.try_write(&frame(0x80 | PING, b"still here", Some(MASK))) {
        assert!(began.elapsed() < DEADLINE, "traffic extends the closing handshake");
    }
    let ended = server.events.closed();
    assert_failed(&ended, 1006, Side::Us, FailureKind::Timeout);
    assert!(ended.cause().contains("close_timeout"), "{}", ended.cause());
}

#[test]
fn what_comes_after_a_close_is_not_told() {
    let server = Server::start(&options(), Script::new());
    let (mut peer, _) = server.open();
    let mut bytes = frame(0x80 | CLOSE, &1000_u16.to_be_bytes(), Some(MASK));
    bytes.extend(frame(0x80 | TEXT, b"late", Some(MASK)));
    bytes.extend(frame(0x80 | PING, b"late", Some(MASK)));
    peer.write(&bytes);
    peer.expect_close(1000);
    assert!(matches!(server.events.next(), Event::Closed(..)));
}

#[test]
fn messages_that_come_after_our_close_are_not_told() {
    let server = Server::start(&options(), closer());
    let (mut peer, _) = server.open();
    let mut bytes = frame(0x80 | TEXT, b"go", Some(MASK));
    bytes.extend(frame(0x80 | TEXT, b"late", Some(MASK)));
    bytes.extend(frame(0x80 | PING, b"late", Some(MASK)));
    peer.write(&bytes);
    peer.expect_close(4000);
    peer.send_text("later");
    peer.send_close(Some(4000), "");
    peer.expect_end();
    assert!(matches!(server.events.next(), Event::Text(_, text) if text == "go"));
    assert!(matches!(server.events.next(), Event::Closed(..)));
}

#[test]
fn a_message_and_the_end_in_one_segment_are_both_noticed_and_the_answer_leaves() {
    // Nothing but the peer's end can end this connection.
    let mut options = options();
    options.ping_interval = Duration::ZERO;
    let server = Server::start(&options, Script::echo());
    let (mut peer, _) = server.open();
    server.meanwhile(|| {
        peer.send_text("last words");
        peer.finish();
    });
    peer.expect_text("last words");
    peer.expect_end();
    assert!(matches!(server.events.next(), Event::Text(_, text) if text == "last words"));
    assert_failed(&server.events.closed(), 1006, Side::Peer, FailureKind::Transport);
}

#[test]
fn a_close_and_the_end_in_one_segment_are_a_clean_close() {
    let server = Server::start(&options(), Script::echo());
    let (mut peer, _) = server.open();
    server.meanwhile(|| {
        peer.send_text("last words");
        peer.send_close(Some(1000), "bye");
        peer.finish();
    });
    peer.expect_text("last words");
    peer.expect_close(1000);
    peer.expect_end();
    assert_told(&server.events.closed(), 1000, "bye", Side::Peer);
}

#[test]
fn a_peer_that_closes_and_ends_while_a_large_backlog_waits_gets_all_of_it_and_our_close() {
    const HUGE: usize = 12 * 1024 * 1024;
    let mut patient = options();
    patient.close_timeout = DEADLINE * 4;
    let server = Server::start(&patient, Script::new());
    let (mut peer, connection) = server.open_narrow();
    server.on_loop(move || connection.send(&vec![7; HUGE]).unwrap());
    peer.send_close(Some(1000), "bye");
    peer.finish();
    let state = || server.on_loop(move || connection.ready_state().unwrap());
    support::eventually("the Close is heard", || state() == ReadyState::Closing);
    // The end is heard in this turn at the latest.
    assert_eq!(state(), ReadyState::Closing);
    assert!(peer.read_frame().payload == vec![7; HUGE]);
    peer.expect_close(1000);
    peer.expect_end();
    assert_told(&server.events.closed_of(connection), 1000, "bye", Side::Peer);
}

#[test]
fn a_peer_that_closes_and_does_not_read_what_waits_is_cut_after_the_closing_timeout() {
    let mut options = with_close_timeout(100);
    (options.progress_timeout, options.ping_interval) = (Duration::ZERO, Duration::ZERO);
    let server = Server::start(&options, Script::new());
    let (mut peer, connection) = server.open_narrow();
    server.on_loop(move || connection.send(&vec![7; 12 * 1024 * 1024]).unwrap());
    peer.send_close(Some(1000), "bye");
    let ended = server.events.closed_of(connection);
    assert_failed(&ended, 1006, Side::Peer, FailureKind::Timeout);
    assert!(ended.cause().contains("did not read within 100ms (close_timeout)"), "{}", ended.cause());
}

#[test]
fn a_client_that_ends_tcp_late_does_not_delay_the_close() {
    let server = Server::start(&options(), Script::new());
    let (mut peer, _) = server.open();
    peer.send_close(Some(1000), "");
    assert_told(&server.events.closed(), 1000, "", Side::Peer);
    peer.expect_close(1000);
    peer.expect_end();
}

#[test]
fn a_code_that_cannot_be_sent_is_refused_and_the_connection_stays_open() {
    let server = Server::start(&options(), Script::echo());
    let (mut peer, connection) = server.open();
    server.on_loop(move || {
        for code in [0, 999, 1004, 1006, 1015, 2999, 5000] {
            assert!(matches!(connection.close(code, ""), Err(Error::InvalidArgument(_))), "{code}");
        }
        assert!(matches!(connection.close(1000, &"x".repeat(124)), Err(Error::InvalidArgument(_))));
        assert_eq!(connection.ready_state().unwrap(), ReadyState::Open);
    });
    peer.send_text("still here");
    peer.expect_text("still here");
}

#[test]
fn a_stale_number_is_closed_and_never_reaches_its_successor() {
    let server = Server::start(&options(), Script::echo());
    let (mut peer, stale) = server.open();
    peer.send_close(None, "");
    server.events.closed_of(stale);
    let (mut peer, successor) = server.open();
    const SLOT: u64 = 0xff_ffff;
    assert_eq!(successor.id() & SLOT, stale.id() & SLOT, "this test is about one slot");
    assert_ne!(successor, stale);
    server.on_loop(move || {
        let refusals = [
            ("send", stale.send("x").err()),
            ("ping", stale.ping(b"").err()),
            ("pong", stale.pong(b"").err()),
            ("close", stale.close(1000, "").err()),
            ("terminate", stale.terminate().err()),
            ("write", stale.write(b"x").err()),
            ("subscribe", stale.subscribe("t").err()),
            ("unsubscribe", stale.unsubscribe("t").err()),
            ("pause", stale.pause().err()),
            ("resume", stale.resume().err()),
            ("buffered_amount", stale.buffered_amount().err()),
            ("subprotocol", stale.subprotocol().err()),
            ("peer_address", stale.peer_address().err()),
            ("user_data", stale.user_data().err()),
            ("set_user_data", stale.set_user_data(9).err()),
        ];
        for (call, error) in refusals {
            assert!(matches!(error, Some(Error::Closed)), "{call}: {error:?}");
        }
        assert_eq!(stale.ready_state().unwrap(), ReadyState::Closed);
        assert_eq!(successor.user_data().unwrap(), 0);
    });
    // From another thread the loop finds out, and drops them.
    let handle = server.handle.clone();
    stale.send("x").unwrap();
    stale.terminate().unwrap();
    handle.broadcast("to all but a stale number", Some(stale)).unwrap();
    peer.expect_text("to all but a stale number");
    assert_eq!(server.connection_count(), 1);
}

#[test]
fn a_connection_that_ends_before_its_handshake_is_not_announced() {
    let server = Server::start(&options(), Script::new());
    RawPeer::connect(server.address()).reset();
    let mut peer = RawPeer::connect(server.address());
    peer.write(b"GET / HTTP/1.1\r\nHost: a\r\n");
    peer.finish();
    peer.expect_end();
    let (_peer, _) = server.open();
    assert!(server.events.try_next().is_none());
}

#[test]
fn a_client_that_closes_waits_for_the_server_to_end() {
    let (running, mut peer, connection, events) = client(&options(), Script::new());
    running.on_loop(move || connection.close(4001, "enough").unwrap());
    let close = peer.read_frame();
    assert!(close.masked);
    assert_eq!(close.close(), (Some(4001), "enough".into()));
    peer.send_close(Some(4001), "");
    // The server has not ended TCP: the client is still there.
    assert_eq!(running.on_loop(move || connection.ready_state().unwrap()), ReadyState::Closing);
    drop(peer);
    assert_told(&events.closed_of(connection), 4001, "enough", Side::Us);
}

#[test]
fn a_client_whose_server_never_ends_tcp_has_closed_in_order_all_the_same() {
    let (_running, mut peer, connection, events) = client(&with_close_timeout(50), Script::new());
    peer.send_close(Some(1001), "restart");
    assert_eq!(peer.expect_close(1001), "");
    assert_told(&events.closed_of(connection), 1001, "restart", Side::Peer);
    peer.expect_end();
}

#[test]
fn a_client_hears_its_server_vanish_fail_and_fall_silent() {
    let (_running, peer, connection, events) = client(&options(), Script::new());
    drop(peer);
    assert_failed(&events.closed_of(connection), 1006, Side::Peer, FailureKind::Transport);

    let (_running, mut peer, connection, events) = client(&options(), Script::new());
    peer.write(&[0xf1, 0x00]);
    peer.expect_close(1002);
    drop(peer);
    assert_failed(&events.closed_of(connection), 1002, Side::Us, FailureKind::Protocol);

    let (running, _peer, connection, events) = client(&with_close_timeout(50), Script::new());
    running.on_loop(move || connection.close(1000, "").unwrap());
    assert_failed(&events.closed_of(connection), 1006, Side::Us, FailureKind::Timeout);
}

#[test]
fn a_client_hears_the_last_message_and_the_close_of_one_segment() {
    let (running, mut peer, connection, events) = client(&options(), Script::echo());
    running.meanwhile(|| {
        peer.send_text("last words");
        peer.send_close(Some(1000), "bye");
        peer.finish();
    });
    peer.expect_text("last words");
    peer.expect_close(1000);
    assert!(matches!(events.next(), Event::Text(_, text) if text == "last words"));
    assert_told(&events.closed_of(connection), 1000, "bye", Side::Peer);
}

#[test]
fn closing_or_terminating_a_client_that_still_connects_gives_it_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let running = Running::idle();
    for terminate in [false, true] {
        let (connection, events) = running.connect(&url, &options(), Script::new());
        let mut peer = RawPeer::accept(&listener);
        peer.read_head();
        let end = move || if terminate { connection.terminate() } else { connection.close(1000, "never mind") };
        running.on_loop(move || end().unwrap());
        peer.expect_end();
        let Event::Closed(closed, ended) = events.next() else { panic!("not closed") };
        assert_eq!(closed, connection);
        assert_eq!((ended.code, ended.by, ended.was_clean, ended.failure), (1006, Side::Us, false, None));
    }
}
