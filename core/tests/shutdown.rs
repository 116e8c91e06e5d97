//! A graceful shutdown: nothing new is accepted, everybody is told 1001, those that do not answer are cut when the
//! grace is over, each connection hears one close, and `run` returns as soon as all are gone.

mod support;

use std::io::Read;
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use support::{DEADLINE, Event, RawPeer, Recorder, Running, Script, Server};
use wsx_core::{Address, Error, EventLoop, FailureKind, LoopOptions, Options, Response, Side, Stage};

fn options() -> Options {
    Options::default()
}

#[test]
fn everybody_is_told_1001_and_run_returns_when_all_have_answered() {
    let mut server = Server::start(&options(), Script::echo());
    let mut peers: Vec<RawPeer> = (0..5).map(|_| server.open().0).collect();
    let began = Instant::now();
    server.handle.shutdown(DEADLINE * 4).unwrap();
    for peer in &mut peers {
        assert_eq!(peer.expect_close(1001), "shutting down");
        peer.send_close(Some(1001), "");
        peer.expect_end();
    }
    server.running.join();
    assert!(began.elapsed() < DEADLINE, "it waited for the grace");
    for _ in 0..5 {
        let ended = server.events.closed();
        assert_eq!((ended.code, ended.by, ended.was_clean, ended.failure), (1001, Side::Us, true, None));
    }
}

#[test]
fn the_address_is_free_at_once() {
    let mut slow = options();
    slow.close_timeout = DEADLINE * 4;
    let mut server = Server::start(&slow, Script::new());
    let (mut peer, _) = server.open();
    server.handle.shutdown(DEADLINE * 4).unwrap();
    peer.expect_close(1001);
    // The connection lives, its listener does not: a successor can take the place.
    let successor = Running::idle();
    let (handle, address) = (successor.handle.clone(), server.address().to_string());
    let (recorder, _events) = Recorder::new(Script::echo());
    successor.on_loop(move || handle.listen(&address, &options(), recorder).unwrap());
    let mut next = RawPeer::open(server.address());
    next.send_text("successor");
    next.expect_text("successor");
    peer.send_close(Some(1001), "");
    peer.expect_end();
    server.running.join();
    assert!(server.events.closed().was_clean);
}

#[test]
fn a_loop_with_nothing_on_it_ends_at_once() {
    let mut running = Running::idle();
    running.handle.shutdown(DEADLINE * 4).unwrap();
    running.join();

    let mut event_loop = EventLoop::new().unwrap();
    event_loop.shutdown(DEADLINE * 4).unwrap();
    event_loop.run().unwrap();
    // It is done with, and the loop may be used again.
    assert!(event_loop.turn(Some(Duration::ZERO)).unwrap());
    assert_eq!(event_loop.next_deadline().unwrap(), None, "it wakes for the end of the grace");
}

#[test]
fn those_that_do_not_answer_are_cut_when_the_grace_is_over() {
    let mut slow = options();
    slow.close_timeout = DEADLINE * 4;
    let mut server = Server::start(&slow, Script::new());
    let (mut polite, answered) = server.open();
    let (mut silent, unanswered) = server.open();
    let began = Instant::now();
    server.handle.shutdown(Duration::from_millis(150)).unwrap();
    polite.expect_close(1001);
    polite.send_close(Some(1001), "");
    silent.expect_close(1001);
    silent.expect_end();
    server.running.join();
    assert!(began.elapsed() >= Duration::from_millis(150));
    assert!(server.events.closed_of(answered).was_clean);
    let ended = server.events.closed_of(unanswered);
    assert_eq!((ended.code, ended.by, ended.was_clean), (1006, Side::Us, false));
    assert_eq!(ended.failure.as_ref().unwrap().kind, FailureKind::Shutdown);
    assert!(ended.cause().contains("grace"), "{}", ended.cause());
}

#[test]
fn the_closing_timeout_ends_it_before_a_longer_grace() {
    let mut hasty = options();
    hasty.close_timeout = Duration::from_millis(50);
    let mut server = Server::start(&hasty, Script::new());
    let (_peer, _) = server.open();
    let began = Instant::now();
    server.handle.shutdown(DEADLINE * 4).unwrap();
    server.running.join();
    assert!(began.elapsed() < DEADLINE);
    assert_eq!(server.events.closed().failure.unwrap().kind, FailureKind::Timeout);
}

#[test]
fn messages_that_were_sent_before_leave_first() {
    let mut server = Server::start(&options(), Script::new());
    let (mut peer, connection) = server.open_narrow();
    let handle = server.handle.clone();
    server.on_loop(move || {
        for number in 0..9_u8 {
            connection.send(&vec![number; 100_000]).unwrap();
        }
        handle.broadcast("the end is near", None).unwrap();
        handle.shutdown(DEADLINE * 4).unwrap();
    });
    for number in 0..9 {
        assert_eq!(peer.read_frame().payload, vec![number; 100_000]);
    }
    peer.expect_text("the end is near");
    peer.expect_close(1001);
    peer.send_close(Some(1001), "");
    server.running.join();
    assert_eq!(server.events.closed().unsent_bytes, 0);
}

#[test]
fn clients_close_streams_end_and_what_only_connects_is_given_up() {
    let remote = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", remote.local_addr().unwrap());
    let script = Script::new().on_request(|request| match request.path() {
        "/stream" => {
            request.connection().set_user_data(7).unwrap();
            Response::stream("text/plain")
        }
        _ => Response::accept(),
    });
    let mut server = Server::start(&options(), script);
    let (open, open_events) = server.connect(&url, &options(), Script::new());
    let (mut remote_peer, _) = RawPeer::accept_upgrade(&remote);
    assert_eq!(open_events.opened(), open);
    let (begun, begun_events) = server.connect(&url, &options(), Script::new());
    let mut unanswered = RawPeer::accept(&remote);
    unanswered.read_head();
    let mut stream = RawPeer::connect(server.address());
    stream.write(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
    stream.read_head();
    let mut idle = RawPeer::connect(server.address());

    server.handle.shutdown(DEADLINE * 4).unwrap();
    let close = remote_peer.read_frame();
    assert_eq!(close.close(), (Some(1001), "shutting down".into()));
    remote_peer.send_close(Some(1001), "");
    drop(remote_peer);
    let ended = open_events.closed_of(open);
    assert_eq!((ended.code, ended.was_clean), (1001, true));

    unanswered.expect_end();
    let failure = begun_events.closed_of(begun).failure.unwrap();
    assert_eq!((failure.kind, failure.stage), (FailureKind::Shutdown, Stage::Http));

    assert_eq!(stream.read_bytes(5), b"0\r\n\r\n", "the body ends in order");
    stream.expect_end();
    drop(stream);
    let ended = server.events.closed();
    assert_eq!((ended.code, ended.was_clean, ended.failure), (1001, true, None));

    idle.expect_end();
    server.running.join();
}

#[test]
fn a_second_shutdown_has_a_grace_of_its_own() {
    const GRACE: Duration = Duration::from_millis(300);
    let mut event_loop = EventLoop::with_options(&LoopOptions::default()).unwrap();
    // Something that is due before, so that the first one's grace is still in the heap.
    event_loop.set_timer(GRACE - Duration::from_millis(20), || ()).unwrap();
    event_loop.shutdown(GRACE).unwrap();
    event_loop.run().unwrap();
    let first = Instant::now();

    let mut slow = options();
    slow.close_timeout = DEADLINE * 4;
    let (recorder, events) = Recorder::new(Script::new());
    let listener = event_loop.listen("127.0.0.1:0", &slow, recorder).unwrap();
    let Address::Tcp(address) = listener.local_address().unwrap() else { panic!("not TCP") };
    let handle = event_loop.handle();
    let client = thread::spawn(move || {
        let mut peer = RawPeer::open(address);
        handle.shutdown(DEADLINE * 4).unwrap();
        peer.expect_close(1001);
        // Until the first one's grace has run out.
        peer.stream.set_read_timeout(Some(GRACE * 2)).unwrap();
        let mut byte = [0];
        while first.elapsed() < GRACE * 2 {
            assert!(peer.stream.read(&mut byte).is_err(), "it was cut");
        }
        peer.stream.set_read_timeout(Some(DEADLINE)).unwrap();
        peer.send_close(Some(1001), "");
        peer.expect_end();
    });
    event_loop.run().unwrap();
    client.join().unwrap();
    let ended = events.closed();
    assert!(ended.was_clean, "{ended:?}");
}

#[test]
fn a_shutdown_from_inside_a_callback_lets_the_callback_finish() {
    let door = std::sync::Arc::new(std::sync::Mutex::new(None::<wsx_core::Handle>));
    let inside = door.clone();
    let script = Script::new().on_message(move |connection, message| {
        let handle = inside.lock().unwrap().clone().unwrap();
        handle.shutdown(DEADLINE * 4).unwrap();
        assert!(connection.send(message).is_err(), "the connection is closing");
    });
    let mut server = Server::start(&options(), script);
    *door.lock().unwrap() = Some(server.handle.clone());
    let (mut peer, _) = server.open();
    peer.send_text("stop");
    peer.expect_close(1001);
    peer.send_close(Some(1001), "");
    peer.expect_end();
    server.running.join();
    assert!(matches!(server.events.next(), Event::Text(..)));
    assert!(matches!(server.events.next(), Event::Closed(..)));
}

#[test]
fn a_program_that_begins_anew_in_every_on_close_does_not_keep_the_loop_alive() {
    let remote = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", remote.local_addr().unwrap());
    let mut running = Running::idle();
    let (handle, again) = (running.handle.clone(), url.clone());
    let (answers, answered) = mpsc::channel();
    let reconnects = Script::new().on_close(move |_, _| {
        let handler = || Recorder::new(Script::new()).0;
        let listening = TcpListener::bind("127.0.0.1:0").unwrap();
        answers.send(handle.connect(&again, &options(), handler()).err()).unwrap();
        answers.send(handle.listen("127.0.0.1:0", &options(), handler()).err()).unwrap();
        answers.send(handle.adopt(listening.into(), &options(), handler()).err()).unwrap();
    });
    let (client, events) = running.connect(&url, &options(), reconnects);
    let (mut peer, _) = RawPeer::accept_upgrade(&remote);
    assert_eq!(events.opened(), client);
    running.handle.shutdown(DEADLINE * 4).unwrap();
    peer.expect_close(1001);
    peer.send_close(Some(1001), "");
    drop(peer);
    assert!(events.closed_of(client).was_clean);
    for call in ["connect", "listen", "adopt"] {
        let answer = answered.recv_timeout(DEADLINE).unwrap();
        assert!(matches!(answer, Some(Error::LoopGone)), "{call}: {answer:?}");
    }
    running.join();
}

#[test]
fn it_is_accepted_from_another_thread_while_the_loop_is_blocked_and_its_queue_full() {
    let mut narrow = LoopOptions::default();
    narrow.max_commands = 1;
    let mut server = Server::start_with(&narrow, &options(), Script::new());
    let (mut peer, connection) = server.open();
    server.meanwhile(|| {
        connection.send("waits").unwrap();
        assert!(matches!(connection.send("too many"), Err(Error::Full(_))));
        server.handle.shutdown(DEADLINE * 4).unwrap();
    });
    peer.expect_text("waits");
    peer.expect_close(1001);
    peer.send_close(Some(1001), "");
    server.running.join();
    assert!(server.events.closed().was_clean);
}
