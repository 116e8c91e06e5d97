//! The order on one connection is the order of the calls, whatever the calls are and wherever they are made from.

mod support;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use support::{BINARY, CLOSE, DEADLINE, PING, RawPeer, Recorder, Script, Server, TEXT, frame, upgrade};
use wsx_core::{Address, BacklogPolicy, Connection, EventLoop, Listener, Options};

/// A small generator of random numbers: a failing test names its seed.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % end
    }
}

fn unlimited() -> Options {
    let mut options = Options::default();
    options.backlog_limit = 0;
    options.progress_timeout = Duration::ZERO;
    options.ping_interval = Duration::ZERO;
    options
}

#[test]
fn calls_of_all_kinds_inside_one_callback_keep_their_order() {
    let others = Arc::new(Mutex::new(None::<(wsx_core::Handle, Listener)>));
    let known = others.clone();
    let script = Script::new()
        .on_open(|connection| {
            connection.subscribe("a").unwrap();
            connection.subscribe("b").unwrap();
        })
        .on_message(move |me, _| {
            let (handle, listener) = known.lock().unwrap().clone().unwrap();
            me.send("1").unwrap();
            listener.broadcast("2", None).unwrap();
            me.ping(b"3").unwrap();
            handle.broadcast("4", Some(me)).unwrap();
            handle.broadcast("5", None).unwrap();
            handle.publish("a", "6", None).unwrap();
            handle.publish("b", "7", None).unwrap();
            me.unsubscribe("b").unwrap();
            handle.publish("b", "8", None).unwrap();
            me.subscribe("b").unwrap();
            handle.publish("b", "9", None).unwrap();
            handle.publish("a", "10", Some(me)).unwrap();
            me.send("11").unwrap();
            handle.publish("a", "12", None).unwrap();
            me.close(1000, "13").unwrap();
            handle.publish("a", "14", None).unwrap();
            listener.broadcast("15", None).unwrap();
        });
    let server = Server::start(&Options::default(), script);
    *others.lock().unwrap() = Some((server.handle.clone(), server.listener));
    let ((mut me, _), (mut other, _)) = (server.open(), server.open());
    me.send_text("go");
    for expected in ["1", "2", "3", "5", "6", "7", "9", "11", "12"] {
        let frame = me.read_frame();
        assert_eq!(frame.opcode, if expected == "3" { PING } else { TEXT });
        assert_eq!(String::from_utf8(frame.payload).unwrap(), expected);
    }
    assert_eq!(me.expect_close(1000), "13");
    for expected in ["2", "4", "5", "6", "7", "8", "9", "10", "12", "14", "15"] {
        other.expect_text(expected);
    }
}

#[test]
fn a_broadcast_does_not_reach_what_opens_after_it() {
    let door = Arc::new(Mutex::new(None::<wsx_core::Handle>));
    let (in_request, in_open) = (door.clone(), door.clone());
    let script = Script::new()
        .on_request(move |request| {
            let handle = in_request.lock().unwrap().clone().unwrap();
            handle.broadcast(&format!("{} asks", request.path()), None).unwrap();
            wsx_core::Response::accept()
        })
        .on_open(move |_| {
            let handle = in_open.lock().unwrap().clone().unwrap();
            handle.broadcast("somebody came", None).unwrap();
        });
    let server = Server::start(&Options::default(), script);
    *door.lock().unwrap() = Some(server.handle.clone());
    let (mut first, _) = server.open();
    first.expect_text("somebody came");
    let mut second = RawPeer::connect(server.address());
    second.write(upgrade("a", "/second", "").as_bytes());
    second.expect_upgrade();
    first.expect_text("/second asks");
    first.expect_text("somebody came");
    second.expect_text("somebody came");
}

/// What a connection must receive, in order; what begins with `!` is a ping.
#[derive(Default)]
struct Model {
    listener: usize,
    topics: BTreeSet<usize>,
    expected: Vec<String>,
}

/// One call, made now.
#[derive(Clone, Debug)]
enum Call {
    Send(Connection, String),
    Ping(Connection, String),
    Broadcast(Option<Listener>, String, Option<Connection>),
    Publish(usize, String, Option<Connection>),
    Subscribe(Connection, usize),
    Unsubscribe(Connection, usize),
    Close(Connection),
}

fn topic(number: usize) -> String {
    format!("topic {number}")
}

fn make(handle: &wsx_core::Handle, call: Call) {
    match call {
        Call::Send(to, text) => to.send(&text),
        Call::Ping(to, text) => to.ping(text.as_bytes()),
        Call::Broadcast(Some(to), text, except) => to.broadcast(&text, except),
        Call::Broadcast(None, text, except) => handle.broadcast(&text, except),
        Call::Publish(number, text, except) => handle.publish(&topic(number), &text, except),
        Call::Subscribe(who, number) => who.subscribe(&topic(number)),
        Call::Unsubscribe(who, number) => who.unsubscribe(&topic(number)),
        Call::Close(who) => who.close(1000, ""),
    }
    .unwrap();
}

#[test]
fn random_calls_are_received_as_a_model_says() {
    for seed in 0..40 {
        random_calls(seed);
    }
}

fn random_calls(seed: u64) {
    const TOPICS: usize = 4;
    let mut random = Random::new(seed);
    let mut event_loop = EventLoop::new().unwrap();
    let opened = Arc::new(Mutex::new(Vec::new()));
    let mut listeners = Vec::new();
    let mut recorded = Vec::new();
    for _ in 0..2 {
        let list = opened.clone();
        let (recorder, events) = Recorder::new(Script::new().on_open(move |it| list.lock().unwrap().push(it)));
        let listener = event_loop.listen("127.0.0.1:0", &unlimited(), recorder).unwrap();
        let Address::Tcp(address) = listener.local_address().unwrap() else { panic!("not TCP") };
        listeners.push((listener, address));
        recorded.push(events);
    }
    let mut models: HashMap<Connection, Model> = HashMap::new();
    let mut peers: Vec<(Connection, RawPeer)> = Vec::new();
    let mut open: Vec<Connection> = Vec::new();
    let mut number = 0;
    for _ in 0..60 {
        if open.len() < 2 || (open.len() < 7 && random.below(5) == 0) {
            let listener = random.below(2);
            let peer = come(&mut event_loop, listeners[listener].1, &opened);
            let connection = opened.lock().unwrap().pop().unwrap();
            models.insert(connection, Model { listener, ..Model::default() });
            peers.push((connection, peer));
            open.push(connection);
        }
        let mut calls = Vec::new();
        for _ in 0..random.below(12) {
            if open.is_empty() {
                break;
            }
            let who = open[random.below(open.len())];
            let except = (random.below(3) == 0).then_some(who);
            number += 1;
            let text = format!("{number}{}", "x".repeat(random.below(4) * random.below(200)));
            let to = random.below(TOPICS);
            let call = match random.below(20) {
                0..=5 => Call::Send(who, text),
                6 => Call::Ping(who, number.to_string()),
                7..=8 => Call::Broadcast(None, text, except),
                9..=10 => Call::Broadcast(Some(listeners[random.below(2)].0), text, except),
                11..=14 => Call::Publish(to, text, except),
                15..=17 => Call::Subscribe(who, to),
                18 => Call::Unsubscribe(who, to),
                _ if open.len() > 2 && random.below(3) == 0 => Call::Close(who),
                _ => continue,
            };
            expect(&mut models, &mut open, &listeners, &call);
            calls.push(call);
        }
        let handle = event_loop.handle();
        if random.below(2) == 0 {
            // Between turns.
            calls.into_iter().for_each(|call| make(&handle, call));
            if random.below(2) == 0 {
                event_loop.flush().unwrap();
            }
        } else {
            // Inside a callback.
            let done = Arc::new(AtomicBool::new(false));
            let was_done = done.clone();
            let call = move || {
                calls.into_iter().for_each(|call| make(&handle, call));
                was_done.store(true, Ordering::SeqCst);
            };
            event_loop.post(call).unwrap();
            while !done.load(Ordering::SeqCst) {
                event_loop.turn(Some(Duration::from_millis(50))).unwrap();
            }
        }
        if random.below(3) != 0 {
            event_loop.turn(Some(Duration::ZERO)).unwrap();
        }
    }
    for connection in open {
        connection.close(1000, "").unwrap();
    }
    event_loop.flush().unwrap();
    for (connection, mut peer) in peers {
        let mut received = Vec::new();
        loop {
            let frame = peer.read_frame();
            let text = String::from_utf8_lossy(&frame.payload).into_owned();
            match frame.opcode {
                TEXT => received.push(text),
                PING => received.push(format!("!{text}")),
                CLOSE => break,
                _ => panic!("{frame:?}"),
            }
        }
        assert_eq!(received, models[&connection].expected, "seed {seed}");
    }
    drop(event_loop);
}

/// Opens one more connection while the loop is turned.
fn come(event_loop: &mut EventLoop, address: SocketAddr, opened: &Mutex<Vec<Connection>>) -> RawPeer {
    let mut peer = RawPeer::connect(address);
    peer.write(upgrade("a", "/", "").as_bytes());
    let end = Instant::now() + DEADLINE;
    while opened.lock().unwrap().is_empty() {
        assert!(Instant::now() < end);
        event_loop.turn(Some(Duration::from_millis(50))).unwrap();
    }
    peer.expect_upgrade();
    peer
}

/// What a call means.
fn expect(
    models: &mut HashMap<Connection, Model>,
    open: &mut Vec<Connection>,
    listeners: &[(Listener, SocketAddr)],
    call: &Call,
) {
    let mut reach = |text: &String, except: &Option<Connection>, is_meant: &dyn Fn(&Model) -> bool| {
        for connection in open.iter().filter(|connection| Some(**connection) != *except) {
            let model = models.get_mut(connection).unwrap();
            if is_meant(model) {
                model.expected.push(text.clone());
            }
        }
    };
    match call {
        Call::Send(to, text) => models.get_mut(to).unwrap().expected.push(text.clone()),
        Call::Ping(to, text) => models.get_mut(to).unwrap().expected.push(format!("!{text}")),
        Call::Broadcast(None, text, except) => reach(text, except, &|_| true),
        Call::Broadcast(Some(to), text, except) => {
            reach(text, except, &|model| listeners[model.listener].0 == *to);
        }
        Call::Publish(topic, text, except) => reach(text, except, &|model| model.topics.contains(topic)),
        Call::Subscribe(who, topic) => {
            models.get_mut(who).unwrap().topics.insert(*topic);
        }
        Call::Unsubscribe(who, topic) => {
            models.get_mut(who).unwrap().topics.remove(topic);
        }
        Call::Close(who) => open.retain(|connection| connection != who),
    }
}

/// A payload that is known by its seed.
fn payload(seed: usize, size: usize) -> Vec<u8> {
    (0..size).map(|index| ((index * 31 + seed * 7) % 251) as u8).collect()
}

#[test]
fn large_and_small_messages_to_a_peer_that_reads_late_keep_order_and_content() {
    for seed in 0..4 {
        let mut random = Random::new(seed);
        let server = Server::start(&unlimited(), Script::new().on_open(|it| it.subscribe("t").unwrap()));
        let (mut peer, connection) = server.open();
        let mut plan = Vec::new();
        for number in 0..100 {
            let size = match random.below(4) {
                0 => random.below(100),
                1 => 16 * 1024 - 20 + random.below(40),
                2 => random.below(20_000),
                _ => random.below(1_000_000),
            };
            plan.push((number, size, random.below(5), number == 99 || random.below(4) == 0));
        }
        // Several calls in one turn, and several turns.
        let mut batch = Vec::new();
        for step in plan.clone() {
            batch.push(step);
            if step.3 {
                let (calls, handle, listener) = (std::mem::take(&mut batch), server.handle.clone(), server.listener);
                server.on_loop(move || {
                    for (number, size, kind, _) in calls {
                        let bytes = payload(number, size);
                        match kind {
                            0 => handle.publish("t", &bytes, None).unwrap(),
                            1 => listener.broadcast(&bytes, None).unwrap(),
                            2 => connection.ping(&bytes[..size.min(125)]).unwrap(),
                            _ => connection.send(&bytes).unwrap(),
                        }
                    }
                });
            }
        }
        let waiting = server.on_loop(move || connection.buffered_amount().unwrap());
        assert!(
            waiting > 0,
            "nothing was blocked: seed {seed}, {} bytes",
            plan.iter().map(|step| step.1).sum::<usize>()
        );
        for (number, size, kind, _) in plan {
            let expected = payload(number, size);
            let frame = peer.read_frame();
            if kind == 2 {
                assert_eq!((frame.opcode, frame.payload == expected[..size.min(125)]), (PING, true));
            } else {
                assert_eq!((frame.opcode, frame.payload.len()), (BINARY, size), "message {number} of seed {seed}");
                assert!(frame.payload == expected, "message {number} of seed {seed}");
            }
        }
        server.on_loop(move || {
            assert_eq!(connection.buffered_amount().unwrap(), 0);
            connection.close(1000, "all of it").unwrap();
        });
        assert_eq!(peer.expect_close(1000), "all of it");
    }
}

#[test]
fn a_close_behind_a_blocked_backlog_comes_after_all_of_it() {
    let server = Server::start(&unlimited(), Script::new());
    let (mut peer, connection) = server.open();
    server.on_loop(move || {
        for number in 0..120 {
            connection.send(&payload(number, 100_000)).unwrap();
        }
        connection.close(1000, "").unwrap();
    });
    for number in 0..120 {
        assert!(peer.read_frame().payload == payload(number, 100_000), "{number}");
    }
    peer.expect_close(1000);
    peer.send_close(Some(1000), "");
    let ended = server.events.closed();
    assert!(ended.was_clean && ended.unsent_bytes == 0, "{ended:?}");
}

#[test]
fn a_deep_pipeline_of_large_messages_comes_back_in_order() {
    const DEPTH: usize = 32;
    const ROUNDS: usize = 8;
    let mut options = Options::default();
    options.backlog_policy = BacklogPolicy::Pause;
    let server = Server::start(&options, Script::echo().quiet());
    let (mut peer, _) = server.open();
    let mut writer = RawPeer::new(peer.stream.try_clone().unwrap(), true);
    let sender = thread::spawn(move || {
        for round in 0..ROUNDS {
            let messages = (0..DEPTH).flat_map(|number| {
                frame(0x80 | BINARY, &payload(round * DEPTH + number, 64 * 1024), Some(support::MASK))
            });
            writer.write(&messages.collect::<Vec<u8>>());
        }
    });
    for number in 0..ROUNDS * DEPTH {
        let frame = peer.read_frame();
        assert!(frame.payload == payload(number, 64 * 1024), "message {number}");
    }
    sender.join().unwrap();
}

#[test]
fn a_client_keeps_its_order_and_content_as_well() {
    let server = Server::start(&unlimited(), Script::echo().quiet());
    let sizes = [0, 1, 125, 126, 65_535, 65_536, 300_000, 16 * 1024, 5];
    let (client, events) = server.connect(
        &format!("ws://{}/", server.address()),
        &unlimited(),
        Script::new().on_open(move |client| {
            for (number, size) in sizes.into_iter().enumerate() {
                client.send(&payload(number, size)).unwrap();
                client.ping(&[number as u8]).unwrap();
            }
        }),
    );
    assert_eq!(events.opened(), client);
    for (number, size) in sizes.into_iter().enumerate() {
        let bytes = events.find(|event| match event {
            support::Event::Binary(_, bytes) => Some(bytes),
            _ => None,
        });
        assert!(bytes == payload(number, size), "message {number}");
        let pong = events.next();
        assert!(matches!(pong, support::Event::Pong(_, ref payload) if *payload == [number as u8]), "{pong:?}");
    }
}
