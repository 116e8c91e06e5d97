//! Who is dropped when: handlers, timers, loops; and what may be called from inside `Drop`, or after it.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use support::{DEADLINE, RawPeer, Recorder, Running, Script, Server};
use wsx_core::{
    Address, Close, Connection, Error, EventLoop, FailureKind, Handler, LoopOptions, Opening, Options, ReadyState,
};

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

/// Does something when it is dropped.
struct OnDrop<F: FnMut() + Send + 'static>(F);

impl<F: FnMut() + Send + 'static> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl<F: FnMut() + Send + 'static> Handler for OnDrop<F> {}

#[test]
fn after_a_loop_is_gone_its_door_says_so() {
    let (handle, connection, listener) = {
        let server = Server::start(&options(), Script::new());
        let (_peer, connection) = server.open();
        (server.handle.clone(), connection, server.listener)
    };
    let gone = [
        ("post", handle.post(|| ()).err()),
        ("stop", handle.stop().err()),
        ("shutdown", handle.shutdown(Duration::ZERO).err()),
        ("broadcast", handle.broadcast("x", None).err()),
        ("publish", handle.publish("t", "x", None).err()),
        ("set_timer", handle.set_timer(Duration::ZERO, || ()).err()),
        ("connection_count", handle.connection_count().err()),
        ("listen", handle.listen("127.0.0.1:0", &options(), Recorder::new(Script::new()).0).err()),
        ("connect", handle.connect("ws://127.0.0.1:1/", &options(), Recorder::new(Script::new()).0).err()),
    ];
    for (call, error) in gone {
        assert!(matches!(error, Some(Error::LoopGone)), "{call}: {error:?}");
    }
    // A number is stale, whether a handle is kept or not.
    let mut handle = Some(handle);
    for _ in 0..2 {
        assert!(matches!(connection.send("x"), Err(Error::Closed)));
        assert!(matches!(connection.close(1000, ""), Err(Error::Closed)));
        assert!(matches!(connection.user_data(), Err(Error::Closed)));
        assert!(matches!(listener.close(), Err(Error::Closed)));
        assert!(matches!(listener.broadcast("x", None), Err(Error::Closed)));
        assert_eq!(connection.ready_state().unwrap(), ReadyState::Closed);
        handle.take();
    }
}

#[test]
fn what_was_accepted_and_never_sent_because_the_loop_is_dropped_is_told() {
    let mut event_loop = EventLoop::new().unwrap();
    let (recorder, events) = Recorder::new(Script::new());
    let listener = event_loop.listen("127.0.0.1:0", &options(), recorder).unwrap();
    let Address::Tcp(address) = listener.local_address().unwrap() else { panic!("not TCP") };
    let client = thread::spawn(move || RawPeer::open(address));
    turn_until(&mut event_loop, || listener.connection_count().unwrap_or(0) == 1);
    let connection = listener.connections().unwrap()[0];
    thread::spawn(move || connection.send("accepted").unwrap()).join().unwrap();
    drop(event_loop);
    let ended = events.closed();
    assert!(ended.lost_messages == 1 || ended.unsent_bytes != 0, "{ended:?}");
    client.join().unwrap();
}

#[test]
fn dropped_things_may_call_the_engine() {
    let server = Server::start(&options(), Script::new());
    let (mut peer, connection) = server.open();
    let calls = move |text: &'static str| OnDrop(move || connection.send(text).unwrap());
    let handle = server.handle.clone();
    let captured = calls("a posted function");
    handle.post(move || drop(captured)).unwrap();
    server.on_loop(move || {
        let captured = calls("a cancelled timer");
        let timer = handle
            .set_timer(DEADLINE, move || {
                let _captured = captured;
            })
            .unwrap();
        timer.cancel().unwrap();
        assert!(handle.listen("no address", &options(), calls("a listener that failed")).is_err());
        assert!(handle.connect("no url", &options(), calls("a client that failed")).is_err());
        let mut bad = options();
        bad.subprotocols = vec!["not a token".into()];
        assert!(handle.listen("127.0.0.1:0", &bad, calls("a listener with bad options")).is_err());
        let listener = handle.listen("127.0.0.1:0", &options(), calls("a listener that was closed")).unwrap();
        listener.close().unwrap();
    });
    for text in [
        "a posted function",
        "a cancelled timer",
        "a listener that failed",
        "a client that failed",
        "a listener with bad options",
        "a listener that was closed",
    ] {
        peer.expect_text(text);
    }
}

#[test]
fn dropped_things_may_call_a_loop_that_has_not_turned_yet() {
    let (sender, receiver) = mpsc::channel();
    // On a thread of its own, for what could go wrong is that a lock is taken twice.
    thread::spawn(move || {
        let event_loop = EventLoop::new().unwrap();
        let handle = event_loop.handle();
        let calls = || {
            let handle = handle.clone();
            OnDrop(move || handle.broadcast("x", None).unwrap())
        };
        assert!(handle.listen("no address", &options(), calls()).is_err());
        assert!(handle.connect("no url", &options(), calls()).is_err());
        let captured = calls();
        let timer = handle.set_timer(DEADLINE, move || drop(captured)).unwrap();
        timer.cancel().unwrap();
        sender.send(()).unwrap();
    });
    receiver.recv_timeout(DEADLINE).expect("a call waits for itself");
}

/// Counts its own end, and what it hears after it should have been dropped.
struct Counted {
    dropped: Arc<AtomicUsize>,
    closes: Arc<AtomicUsize>,
}

impl Counted {
    fn new() -> (Self, Arc<AtomicUsize>, Arc<AtomicUsize>) {
        let (dropped, closes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        (Self { dropped: dropped.clone(), closes: closes.clone() }, dropped, closes)
    }
}

impl Handler for Counted {
    fn on_open(&mut self, connection: Connection, _: &Opening<'_>) {
        connection.send("welcome").unwrap();
    }

    fn on_close(&mut self, _: Connection, _: &Close<'_>) {
        assert_eq!(self.dropped.load(Ordering::SeqCst), 0);
        self.closes.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_listeners_handler_is_dropped_once_after_the_listener_and_its_last_connection() {
    let running = Running::idle();
    let (counted, dropped, closes) = Counted::new();
    let handle = running.handle.clone();
    let (listener, address) = running.on_loop(move || {
        let listener = handle.listen("127.0.0.1:0", &options(), counted).unwrap();
        (listener, listener.local_address().unwrap())
    });
    let Address::Tcp(address) = address else { panic!("not TCP") };
    let (mut one, mut two) = (RawPeer::open(address), RawPeer::open(address));
    one.expect_text("welcome");
    two.expect_text("welcome");
    running.on_loop(move || listener.close().unwrap());
    // The open connections stay, and can still be told something.
    running.on_loop(move || {
        assert_eq!(listener.connection_count().unwrap(), 2);
        listener.broadcast("closing soon", None).unwrap();
        assert!(matches!(listener.close(), Err(Error::Closed)));
        assert!(matches!(listener.local_address(), Err(Error::Closed)));
    });
    for peer in [&mut one, &mut two] {
        assert_eq!(dropped.load(Ordering::SeqCst), 0);
        peer.expect_text("closing soon");
        peer.send_close(None, "");
        peer.read_to_end();
    }
    let end = Instant::now() + DEADLINE;
    while dropped.load(Ordering::SeqCst) == 0 {
        assert!(Instant::now() < end, "the handler is not dropped");
        thread::yield_now();
    }
    assert_eq!(closes.load(Ordering::SeqCst), 2);
    assert!(running.on_loop(move || matches!(listener.connection_count(), Err(Error::Closed))));
    drop(running);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
}

#[test]
fn a_clients_handler_is_dropped_once_after_its_close() {
    let server = Server::start(&options(), Script::new());
    let (counted, dropped, closes) = Counted::new();
    let (handle, url) = (server.handle.clone(), format!("ws://{}/", server.address()));
    server.on_loop(move || handle.connect(&url, &options(), counted).unwrap());
    assert_eq!(server.events.text(), "welcome");
    assert_eq!(dropped.load(Ordering::SeqCst), 0);
    let listener = server.listener;
    server.on_loop(move || listener.connections().unwrap()[0].close(1000, "").unwrap());
    let end = Instant::now() + DEADLINE;
    while dropped.load(Ordering::SeqCst) == 0 {
        assert!(Instant::now() < end, "the handler is not dropped");
        thread::yield_now();
    }
    drop(server);
    assert_eq!((dropped.load(Ordering::SeqCst), closes.load(Ordering::SeqCst)), (1, 1));
}

#[test]
fn a_loop_that_is_dropped_tells_every_connection_and_then_drops_its_handlers() {
    let mut event_loop = EventLoop::new().unwrap();
    let (counted, dropped, closes) = Counted::new();
    let listener = event_loop.listen("127.0.0.1:0", &options(), counted).unwrap();
    let url = format!("ws://{}/", listener.local_address().unwrap());
    let (client, client_dropped, client_closes) = Counted::new();
    event_loop.connect(&url, &options(), client).unwrap();
    turn_until(&mut event_loop, || listener.connection_count().unwrap_or(0) == 1);
    drop(event_loop);
    for (dropped, closes) in [(dropped, closes), (client_dropped, client_closes)] {
        assert_eq!((dropped.load(Ordering::SeqCst), closes.load(Ordering::SeqCst)), (1, 1));
    }
}

#[test]
fn what_is_begun_while_a_loop_is_dropped_is_refused() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle();
    let (recorder, events) = Recorder::new(Script::new());
    let listener = event_loop.listen("127.0.0.1:0", &options(), recorder).unwrap();
    let url = format!("ws://{}/", listener.local_address().unwrap());
    let (again, refused) = (url.clone(), Arc::new(AtomicUsize::new(0)));
    let (late, late_events) = Recorder::new(Script::new());
    let (counted, mut late) = (refused.clone(), Some(late));
    let (recorder, client) = Recorder::new(Script::new().on_close(move |_, _| {
        // As a client that reconnects does.
        let late = late.take().unwrap();
        counted.fetch_add(usize::from(handle.connect(&again, &options(), late).is_err()), Ordering::SeqCst);
        let listener = handle.listen("127.0.0.1:0", &options(), Recorder::new(Script::new()).0);
        counted.fetch_add(usize::from(listener.is_err()), Ordering::SeqCst);
    }));
    event_loop.connect(&url, &options(), recorder).unwrap();
    turn_until(&mut event_loop, || listener.connection_count().unwrap_or(0) == 1);
    drop(event_loop);
    assert_eq!(client.closed().failure.unwrap().kind, FailureKind::Shutdown);
    assert_eq!(refused.load(Ordering::SeqCst), 2);
    assert!(late_events.try_next().is_none());
    events.closed();
}

#[test]
fn numbers_of_a_loop_that_was_dropped_elsewhere_are_not_its_successors() {
    let (stale, event_loop) = thread::spawn(|| {
        let mut event_loop = EventLoop::new().unwrap();
        let stale = event_loop.connect("ws://127.0.0.1:9/", &options(), Recorder::new(Script::new()).0).unwrap();
        event_loop.turn(Some(Duration::ZERO)).unwrap();
        (stale, event_loop)
    })
    .join()
    .unwrap();
    // Not its thread: it is freed with that.
    drop(event_loop);
    // Among so many loops is one of the same index.
    const LOOP: u32 = 52;
    let mut others = Vec::new();
    for _ in 0..200 {
        let other = EventLoop::with_options(&LoopOptions::default()).unwrap();
        let number = other.connect("ws://127.0.0.1:9/", &options(), Recorder::new(Script::new()).0).unwrap();
        assert_ne!(number, stale, "a stale number belongs to a new connection");
        let found = number.id() >> LOOP == stale.id() >> LOOP;
        others.push(other);
        if found {
            assert_eq!(stale.ready_state().unwrap(), ReadyState::Closed);
            return;
        }
    }
    panic!("the index is never used again");
}
