//! Calls from other threads and before the first turn; several loops on one thread; many threads at once.

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use support::{DEADLINE, Event, PING, RawPeer, Recorder, Script, Server};
use wsx_core::{Address, Connection, Error, EventLoop, FailureKind, LoopOptions, Message, Options, ReadyState, Side};

fn options() -> Options {
    Options::default()
}

/// Turns a loop until something holds.
#[track_caller]
fn turn_until(event_loop: &mut EventLoop, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "it does not come about");
        event_loop.turn(Some(Duration::from_millis(50))).unwrap();
    }
}

#[test]
fn calls_of_another_thread_arrive_in_their_order() {
    let server = Server::start(&options(), Script::new().on_open(|connection| connection.subscribe("t").unwrap()));
    let (mut peer, connection) = server.open();
    let (handle, listener) = (server.handle.clone(), server.listener);
    thread::spawn(move || {
        connection.send("one").unwrap();
        connection.ping(b"two").unwrap();
        handle.publish("t", "three", None).unwrap();
        handle.broadcast("four", None).unwrap();
        listener.broadcast("five", None).unwrap();
        connection.unsubscribe("t").unwrap();
        handle.publish("t", "nobody hears this", None).unwrap();
        connection.send(&b"six"[..]).unwrap();
        connection.close(4000, "seven").unwrap();
        connection.send("too late").unwrap();
    })
    .join()
    .unwrap();
    peer.expect_text("one");
    assert_eq!(peer.read_frame().opcode, PING);
    for text in ["three", "four", "five"] {
        peer.expect_text(text);
    }
    assert_eq!(peer.read_frame().payload, b"six");
    assert_eq!(peer.expect_close(4000), "seven");
    peer.send_close(Some(4000), "");
    assert_eq!(server.events.closed().lost_messages, 1, "what was accepted and lost is told");
}

#[test]
fn another_thread_may_terminate() {
    let server = Server::start(&options(), Script::new());
    let (mut peer, connection) = server.open();
    thread::spawn(move || connection.terminate().unwrap()).join().unwrap();
    peer.expect_end();
    let ended = server.events.closed();
    assert_eq!((ended.code, ended.failure), (1006, None));
}

#[test]
fn a_posted_function_runs_on_the_loops_thread_and_never_inside_another_call() {
    let server = Server::start(&options(), Script::new());
    let (handle, inside) = (server.handle.clone(), Arc::new(AtomicBool::new(false)));
    let (sender, receiver) = mpsc::channel();
    server.on_loop(move || {
        inside.store(true, Ordering::SeqCst);
        let (flag, here) = (inside.clone(), thread::current().id());
        handle
            .post(move || sender.send((flag.load(Ordering::SeqCst), thread::current().id() == here)).unwrap())
            .unwrap();
        inside.store(false, Ordering::SeqCst);
    });
    assert_eq!(receiver.recv_timeout(DEADLINE).unwrap(), (false, true));
}

#[test]
fn a_posted_function_that_panics_hurts_nobody() {
    let server = Server::start(&options(), Script::echo());
    server.handle.post(|| std::panic::resume_unwind(Box::new("posted"))).unwrap();
    let (mut peer, _) = server.open();
    peer.send_text("served");
    peer.expect_text("served");
}

#[test]
fn wake_ends_a_wait() {
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    let handle = event_loop.handle();
    let waker = thread::spawn(move || handle.wake().unwrap());
    assert!(event_loop.turn(None).unwrap());
    waker.join().unwrap();
}

#[test]
fn stop_ends_run_and_the_loop_may_run_again() {
    let mut event_loop = EventLoop::new().unwrap();
    let (recorder, events) = Recorder::new(Script::echo());
    let listener = event_loop.listen("127.0.0.1:0", &options(), recorder).unwrap();
    let Address::Tcp(address) = listener.local_address().unwrap() else { panic!("not TCP") };
    let client = thread::spawn({
        let handle = event_loop.handle();
        move || {
            let peer = RawPeer::open(address);
            handle.stop().unwrap();
            peer
        }
    });
    event_loop.run().unwrap();
    let mut peer = client.join().unwrap();
    assert_eq!(listener.connection_count().unwrap(), 1);
    let client = thread::spawn({
        let handle = event_loop.handle();
        move || {
            peer.send_text("after a pause");
            peer.expect_text("after a pause");
            handle.stop().unwrap();
            peer
        }
    });
    event_loop.run().unwrap();
    let mut peer = client.join().unwrap();
    drop(event_loop);
    peer.expect_end();
    assert_eq!(events.closed().failure.unwrap().kind, FailureKind::Shutdown);
}

#[test]
fn stop_before_run_makes_it_return_after_a_turn() {
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.stop().unwrap();
    event_loop.run().unwrap();
    // It has been used up.
    assert!(event_loop.turn(Some(Duration::ZERO)).unwrap());
}

#[test]
fn stop_is_accepted_from_another_thread_though_the_queue_of_calls_is_full() {
    let mut narrow = LoopOptions::default();
    narrow.max_commands = 1;
    let mut event_loop = EventLoop::with_options(&narrow).unwrap();
    // Now it belongs to this thread, and does not turn.
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    let (handle, ran) = (event_loop.handle(), Arc::new(AtomicBool::new(false)));
    let flag = ran.clone();
    thread::spawn(move || {
        handle.post(move || flag.store(true, Ordering::SeqCst)).unwrap();
        assert!(matches!(handle.post(|| ()), Err(Error::Full(_))));
        handle.stop().unwrap();
    })
    .join()
    .unwrap();
    event_loop.run().unwrap();
    assert!(ran.load(Ordering::SeqCst), "what was accepted before is done before");
}

#[test]
fn calls_that_belong_to_the_loops_thread_are_refused_elsewhere() {
    let server = Server::start(&options(), Script::new());
    let (_peer, connection) = server.open();
    let handle = server.handle.clone();
    let timer_handle = handle.clone();
    let timer = server.on_loop(move || timer_handle.set_timer(DEADLINE, || ()).unwrap());
    let refusals = [
        ("buffered_amount", connection.buffered_amount().err()),
        ("ready_state", connection.ready_state().err()),
        ("subprotocol", connection.subprotocol().err()),
        ("peer_address", connection.peer_address().err()),
        ("user_data", connection.user_data().err()),
        ("set_user_data", connection.set_user_data(1).err()),
        ("local_address", server.listener.local_address().err()),
        ("listener.connection_count", server.listener.connection_count().err()),
        ("listener.connections", server.listener.connections().err()),
        ("connection_count", handle.connection_count().err()),
        ("connections", handle.connections().err()),
        ("subscriber_count", handle.subscriber_count("t").err()),
        ("listen", handle.listen("127.0.0.1:0", &options(), Recorder::new(Script::new()).0).err()),
        ("connect", handle.connect("ws://127.0.0.1:1/", &options(), Recorder::new(Script::new()).0).err()),
        ("set_timer", handle.set_timer(Duration::ZERO, || ()).err()),
        ("cancel", timer.cancel().err()),
    ];
    for (call, error) in refusals {
        assert!(matches!(error, Some(Error::WrongThread)), "{call}: {error:?}");
    }
}

#[test]
fn a_loop_is_turned_by_one_thread_only() {
    let mut event_loop = EventLoop::new().unwrap();
    let mut event_loop = thread::spawn(move || {
        event_loop.turn(Some(Duration::ZERO)).unwrap();
        let (sender, receiver) = mpsc::channel();
        // The thread outlives the loop, which is handed over.
        sender.send(event_loop).unwrap();
        receiver.recv().unwrap()
    })
    .join()
    .unwrap();
    assert!(matches!(event_loop.turn(None), Err(Error::WrongThread)));
    assert!(matches!(event_loop.run(), Err(Error::WrongThread)));
    assert!(matches!(event_loop.flush(), Err(Error::WrongThread)));
    assert!(matches!(event_loop.next_deadline(), Err(Error::WrongThread)));
}

#[test]
fn before_the_first_turn_any_thread_may_do_anything() {
    let event_loop = EventLoop::new().unwrap();
    let (recorder, events) = Recorder::new(Script::echo());
    let (posted, timed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let handle = event_loop.handle();
    let (was_posted, was_timed) = (posted.clone(), timed.clone());
    let (client, client_events) = thread::spawn(move || {
        let listener = handle.listen("127.0.0.1:0", &options(), recorder).unwrap();
        let url = format!("ws://{}/", listener.local_address().unwrap());
        let (recorder, client_events) = Recorder::new(Script::new().on_open(|client| client.send("hello").unwrap()));
        let client = handle.connect(&url, &options(), recorder).unwrap();
        assert_eq!(client.ready_state().unwrap(), ReadyState::Connecting);
        client.set_user_data(5).unwrap();
        assert!(matches!(client.send("early"), Err(Error::NotOpen)));
        assert!(matches!(client.subscribe("t"), Err(Error::WrongKind(_))));
        assert_eq!(handle.connection_count().unwrap(), 0);
        handle.post(move || was_posted.store(true, Ordering::SeqCst)).unwrap();
        handle.set_timer(Duration::ZERO, move || was_timed.store(true, Ordering::SeqCst)).unwrap();
        handle.broadcast("nobody", None).unwrap();
        (client, client_events)
    })
    .join()
    .unwrap();
    assert_eq!(client.user_data().unwrap(), 5);
    let handle = event_loop.handle();
    let mut moved = event_loop;
    let runner = thread::spawn(move || moved.run().unwrap());
    assert_eq!(client_events.text(), "hello");
    assert_eq!(events.text(), "hello");
    assert!(posted.load(Ordering::SeqCst) && timed.load(Ordering::SeqCst));
    handle.stop().unwrap();
    runner.join().unwrap();
}

#[test]
fn a_message_of_another_thread_that_a_close_overtakes_is_told_as_lost() {
    let server = Server::start(&options(), Script::new());
    let (mut peer, connection) = server.open();
    server.meanwhile(|| {
        connection.close(1000, "").unwrap();
        connection.send("lost").unwrap();
        connection.send("lost as well").unwrap();
    });
    peer.expect_close(1000);
    peer.send_close(Some(1000), "");
    assert_eq!(server.events.closed().lost_messages, 2);
}

#[test]
fn two_loops_on_one_thread_talk_to_each_other() {
    let mut serving = EventLoop::new().unwrap();
    let mut calling = EventLoop::new().unwrap();
    let (recorder, server) = Recorder::new(Script::echo());
    let listener = serving.listen("127.0.0.1:0", &options(), recorder).unwrap();
    let url = format!("ws://{}/", listener.local_address().unwrap());
    let (recorder, client) =
        Recorder::new(Script::new().on_open(|client| client.send("1").unwrap()).on_message(|client, message| {
            let Message::Text(text) = message else { panic!("binary") };
            let number: u32 = text.parse().unwrap();
            if number < 100 {
                client.send(&(number + 1).to_string()).unwrap();
            } else {
                client.close(1000, "enough").unwrap();
            }
        }));
    calling.connect(&url, &options(), recorder).unwrap();
    let mut heard = 0;
    let ended = loop {
        serving.turn(Some(Duration::ZERO)).unwrap();
        calling.turn(Some(Duration::from_millis(1))).unwrap();
        match client.try_next() {
            Some(Event::Text(..)) => heard += 1,
            Some(Event::Closed(_, ended)) => break ended,
            _ => {}
        }
    };
    assert_eq!((heard, ended.code, ended.by, ended.was_clean), (100, 1000, Side::Us, true));
    assert_eq!(server.closed().by, Side::Peer);
}

#[test]
fn a_callback_of_one_loop_may_use_another_loop_of_its_thread() {
    let mut one = EventLoop::new().unwrap();
    let mut other = EventLoop::new().unwrap();
    let (recorder, events) = Recorder::new(Script::echo());
    let listener = other.listen("127.0.0.1:0", &options(), recorder).unwrap();
    let Address::Tcp(address) = listener.local_address().unwrap() else { panic!("not TCP") };
    let client = thread::spawn(move || RawPeer::open(address));
    turn_until(&mut other, || listener.connection_count().unwrap_or(0) == 1);
    let mut peer = client.join().unwrap();
    let connection = events.opened();
    one.set_timer(Duration::ZERO, move || connection.send("across").unwrap()).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let was_done = done.clone();
    one.set_timer(Duration::from_millis(1), move || was_done.store(true, Ordering::SeqCst)).unwrap();
    turn_until(&mut one, || done.load(Ordering::SeqCst));
    other.flush().unwrap();
    peer.expect_text("across");
}

#[test]
fn many_threads_send_while_connections_come_and_go() {
    const CLIENTS: usize = 60;
    let open = Arc::new(Mutex::new(Vec::<Connection>::new()));
    let (opens, closes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let script = {
        let (known, opened, closed) = (open.clone(), opens.clone(), closes.clone());
        Script::new()
            .on_open(move |connection| {
                connection.subscribe("t").unwrap();
                opened.fetch_add(1, Ordering::SeqCst);
                known.lock().unwrap().push(connection);
            })
            .on_message(|connection, message| {
                let _ = connection.send(message);
            })
            .on_close(move |_, _| {
                closed.fetch_add(1, Ordering::SeqCst);
            })
    };
    let server = Server::start(&options(), script);
    let done = AtomicBool::new(false);
    let (address, handle) = (server.address(), server.handle.clone());
    thread::scope(|scope| {
        for number in 0..4 {
            let (open, done, handle) = (&open, &done, handle.clone());
            scope.spawn(move || {
                let mut random = number as u64 + 1;
                while !done.load(Ordering::SeqCst) {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let known = open.lock().unwrap().clone();
                    let Some(connection) = known.get((random >> 33) as usize % known.len().max(1)) else { continue };
                    // Anything but a panic will do: numbers go stale all the time.
                    let _ = match random >> 60 {
                        0 => connection.ping(b"x"),
                        1 => handle.publish("t", "published", Some(*connection)),
                        2 => handle.broadcast("broadcast", None),
                        3 => connection.unsubscribe("t"),
                        4 if number == 0 => connection.close(1000, ""),
                        5 if number == 1 && random >> 56 & 7 == 0 => connection.terminate(),
                        _ => connection.send("sent"),
                    };
                    thread::yield_now();
                }
            });
        }
        let clients: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(move || {
                    for round in 0..CLIENTS / 3 {
                        let mut peer = RawPeer::open(address);
                        peer.try_write(&support::frame(0x81, b"hello", Some(support::MASK)));
                        match round % 3 {
                            0 => peer.reset(),
                            1 => drop(peer),
                            _ => {
                                peer.try_write(&support::frame(0x88, b"", Some(support::MASK)));
                                peer.read_to_end();
                            }
                        }
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        done.store(true, Ordering::SeqCst);
    });
    drop(server);
    assert_eq!(closes.load(Ordering::SeqCst), opens.load(Ordering::SeqCst));
    assert!(opens.load(Ordering::SeqCst) > 0);
}
