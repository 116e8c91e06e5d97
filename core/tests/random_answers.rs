//! Messages, control frames and fragments at random, cut at random, to callbacks that do at random whatever a callback may:
//! everything that is sent comes once, in the order of the calls, at whom it was sent to, and is counted once.
//!
//! `SEED` and `ROUNDS` repeat one round, or walk further: a failure tells its seed.

mod support;

use std::cell::RefCell;
use std::env;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use support::{
    BINARY, CLOSE, CONTINUATION, MASK, PING, PONG, RawPeer, Running, Script, Server, TEXT, eventually, frame,
};
use wsx_core::{
    Address, BacklogPolicy, Connection, EventLoop, Handle, Handler, Listener, Message, MessageKind, Options,
};

/// What a callback does about a message, by the message's first letter; the number behind it tells it from others.
const ACTIONS: &[u8] = b"edbxqQopPnNlfsi";
/// The answers are mostly gathered.
const MOSTLY_ECHO: &[u8] = b"eeeeeeeeeeeeeeeeeeeeeeedlq";
static LARGE: [u8; 20_000] = [7; 20_000];

fn act(connection: Connection, message: Message<'_>, (listener, other, handle): &Known) {
    let text = str::from_utf8(message.payload()).unwrap();
    let number = text[1..].split('.').next().unwrap();
    let send = |text: String| connection.send(&*text).unwrap();
    match text.as_bytes()[0] {
        b'e' => connection.send(message).unwrap(),
        b'd' => {
            connection.send(message).unwrap();
            send(format!("d{number}"));
        }
        b'b' => listener.broadcast(&*format!("b{number}"), None).unwrap(),
        b'x' => {
            send(format!("x1.{number}"));
            listener.broadcast(&*format!("x{number}"), None).unwrap();
            send(format!("x2.{number}"));
        }
        // What asks for what waits has the answers put there first.
        b'q' => drop(connection.buffered_amount().unwrap()),
        b'Q' => {
            connection.send(message).unwrap();
            connection.buffered_amount().unwrap();
            send(format!("Q{number}"));
        }
        b'o' => other.send(&*format!("o{number}")).unwrap(),
        b'p' => {
            connection.pause().unwrap();
            // It may have ended meanwhile.
            handle.set_timer(Duration::ZERO, move || drop(connection.resume())).unwrap();
        }
        b'P' => {
            connection.send(message).unwrap();
            connection.pause().unwrap();
            connection.resume().unwrap();
            send(format!("P{number}"));
        }
        // Another loop of this thread turns, and answers a peer of its own: with this connection current, and not.
        b'n' => {
            send(format!("n1.{number}"));
            turn_other_loop();
            send(format!("n{number}"));
        }
        b'N' => {
            connection.buffered_amount().unwrap();
            turn_other_loop();
            send(format!("N{number}"));
        }
        b'l' => connection.send(Message::Binary(&LARGE)).unwrap(),
        b'f' => {
            connection.send_fragment(MessageKind::Text, b"f1", false).unwrap();
            connection.send_fragment(MessageKind::Text, b"f2", true).unwrap();
        }
        b's' => {
            send(format!("s{number}"));
            listener.statistics().unwrap();
        }
        b'i' => connection.ping(b"i").unwrap(),
        b'C' => {
            send(format!("C{number}"));
            connection.close(4000, "").unwrap();
            assert!(connection.send("late").is_err());
        }
        b'!' => {
            send(format!("!{number}"));
            // As a panic, but says nothing.
            resume_unwind(Box::new("on purpose"));
        }
        other => panic!("no action: {other}"),
    }
}

/// The first byte of a frame, and its payload.
type Expected = Vec<(u8, Vec<u8>)>;

/// What comes of it, at the peer that sent the message and at the other one.
fn expect(action: u8, number: usize, payload: &str, mine: &mut Expected, others: &mut Expected) {
    let text = |text: String| (0x80 | TEXT, text.into_bytes());
    let named = |prefix: &str| text(format!("{prefix}{number}"));
    match action {
        b'e' => mine.push(text(payload.into())),
        b'd' | b'Q' | b'P' => mine.extend([text(payload.into()), text(format!("{}{number}", char::from(action)))]),
        b'b' => {
            mine.push(named("b"));
            others.push(named("b"));
        }
        b'x' => {
            mine.extend([named("x1."), named("x"), named("x2.")]);
            others.push(named("x"));
        }
        b'q' | b'p' => {}
        b'o' => others.push(named("o")),
        b'n' => mine.extend([named("n1."), named("n")]),
        b'N' => mine.push(named("N")),
        b'l' => mine.push((0x80 | BINARY, LARGE.into())),
        b'f' => mine.extend([(TEXT, b"f1".to_vec()), (0x80 | CONTINUATION, b"f2".to_vec())]),
        b's' => mine.push(named("s")),
        b'i' => mine.push((0x80 | PING, b"i".to_vec())),
        b'C' => mine.extend([named("C"), close(4000)]),
        b'!' => mine.extend([named("!"), close(1011)]),
        other => panic!("no action: {other}"),
    }
}

fn close(code: u16) -> (u8, Vec<u8>) {
    (0x80 | CLOSE, code.to_be_bytes().into())
}

/// What a callback acts on.
type Known = (Listener, Connection, Handle);

// --- Another loop on the thread of the first, with a peer that talks to it all the time

thread_local! {
    static OTHER_LOOP: RefCell<Option<EventLoop>> = const { RefCell::new(None) };
}

fn turn_other_loop() {
    OTHER_LOOP.with(|other| {
        // Not from inside one of its own callbacks.
        if let Ok(mut other) = other.try_borrow_mut()
            && let Some(other) = other.as_mut()
        {
            other.turn(Some(Duration::ZERO)).unwrap();
        }
    });
}

fn keep_turning(handle: Handle) {
    turn_other_loop();
    let again = handle.clone();
    // Refused where the loop ends.
    let _ = handle.set_timer(Duration::from_millis(1), move || keep_turning(again));
}

struct EchoTwice;

impl Handler for EchoTwice {
    fn on_message(&mut self, connection: Connection, message: Message<'_>) {
        connection.send(message).unwrap();
        connection.buffered_amount().unwrap();
        connection.send("and").unwrap();
    }
}

struct OtherLoop {
    ends: Arc<AtomicBool>,
    talk: JoinHandle<()>,
}

impl OtherLoop {
    fn start(running: &Running) -> Self {
        let address: SocketAddr = running.on_loop(|| {
            let other = EventLoop::new().unwrap();
            let listener = other.listen("127.0.0.1:0", &Options::default(), EchoTwice).unwrap();
            OTHER_LOOP.set(Some(other));
            let Address::Tcp(address) = listener.local_address().unwrap() else { panic!("not over TCP") };
            address
        });
        let handle = running.handle.clone();
        running.on_loop(move || keep_turning(handle));
        let ends = Arc::new(AtomicBool::new(false));
        let is_over = ends.clone();
        let talk = thread::spawn(move || {
            let mut peer = RawPeer::open(address);
            while !is_over.load(Ordering::SeqCst) {
                peer.write(&frame(0x80 | TEXT, b"hello", Some(MASK)).repeat(3));
                for _ in 0..3 {
                    peer.expect_text("hello");
                    peer.expect_text("and");
                }
            }
        });
        Self { ends, talk }
    }

    fn end(self, running: &Running) {
        self.ends.store(true, Ordering::SeqCst);
        self.talk.join().unwrap();
        running.on_loop(|| OTHER_LOOP.take());
    }
}

// --- One round

/// Reads until all of it has come; tells how many bytes that were, and how many messages. Answers to pings are only counted.
fn read_all(stream: TcpStream, expected: &Expected, who: &str) -> (u64, u64) {
    let mut peer = RawPeer::new(stream, true);
    let (mut bytes, mut messages, mut index) = (0, 0, 0);
    while let Some((first, payload)) = expected.get(index) {
        let found = peer.read_frame();
        let header = match found.payload.len() {
            0..=125 => 2,
            126..=0xffff => 4,
            _ => 10,
        };
        bytes += (header + found.payload.len()) as u64;
        if found.opcode == PONG {
            continue;
        }
        // The reason of a Close is for other tests.
        let compared = if found.opcode == CLOSE { found.payload.len().min(2) } else { found.payload.len() };
        let found_first = u8::from(found.fin) << 7 | found.opcode;
        assert!(
            found_first == *first && found.payload[..compared] == payload[..],
            "{who}, frame {index}: {found_first:x} {:?} instead of {first:x} {:?}",
            String::from_utf8_lossy(&found.payload[..compared.min(20)]),
            String::from_utf8_lossy(&payload[..payload.len().min(20)])
        );
        messages += u64::from(found.fin && found.opcode < CLOSE);
        index += 1;
    }
    (bytes, messages)
}

/// What a peer sends in one round, and what is to come of it.
#[derive(Default)]
struct Plan {
    wire: Vec<u8>,
    messages: u64,
    mine: Expected,
    others: Expected,
    /// Something ended the connection; else the peer closes it in order.
    is_ended: bool,
}

impl Plan {
    fn new(random: &mut StdRng) -> Self {
        let mut plan = Self::default();
        let count = random.random_range(30..180);
        let actions = if random.random() { ACTIONS } else { MOSTLY_ECHO };
        for number in 0..count {
            plan.control(random);
            let action = *actions.choose(random).unwrap();
            plan.message(random, action, number);
        }
        plan.is_ended = true;
        match random.random_range(0..5) {
            0 => plan.message(random, b'C', count),
            1 => plan.message(random, b'!', count),
            2 => {
                // In a short message, and in one whose length has bytes of its own.
                let not_utf8 = vec![0xff; *[3, 300].choose(random).unwrap()];
                plan.frame(0x80 | TEXT, &not_utf8);
                plan.mine.push(close(1007));
            }
            3 => {
                let reserved = 3;
                plan.frame(0x80 | reserved, b"");
                plan.mine.push(close(1002));
            }
            _ => plan.is_ended = false,
        }
        plan
    }

    fn frame(&mut self, first: u8, payload: &[u8]) {
        self.wire.extend(frame(first, payload, Some(MASK)));
    }

    fn control(&mut self, random: &mut StdRng) {
        match random.random_range(0..24) {
            0 => self.frame(0x80 | PING, b"p"),
            1 => self.frame(0x80 | PONG, b"p"),
            2 => self.frame(0x80 | PING, &[b'p'; 125]),
            _ => {}
        }
    }

    fn message(&mut self, random: &mut StdRng, action: u8, number: usize) {
        let size = match random.random_range(0..20) {
            0..=12 => random.random_range(0..100),
            13..=17 => random.random_range(0..3000),
            18 => random.random_range(0..20_000),
            _ => random.random_range(60_000..90_000),
        };
        let payload = format!("{}{number}.{}", char::from(action), ".".repeat(size));
        if random.random_range(0..12) == 0 {
            let at = random.random_range(1..payload.len());
            self.frame(TEXT, &payload.as_bytes()[..at]);
            self.control(random);
            self.frame(0x80 | CONTINUATION, &payload.as_bytes()[at..]);
        } else {
            self.frame(0x80 | TEXT, payload.as_bytes());
        }
        self.messages += 1;
        expect(action, number, &payload, &mut self.mine, &mut self.others);
    }
}

fn round(seed: u64) {
    let random = &mut StdRng::seed_from_u64(seed);
    let mut plan = Plan::new(random);
    let heard = plan.wire.len() as u64;
    if plan.is_ended {
        // Nobody looks at these.
        (0..random.random_range(0..4)).for_each(|number| plan.frame(0x80 | TEXT, format!("e{number}.").as_bytes()));
    } else {
        plan.frame(0x80 | CLOSE, &1000u16.to_be_bytes());
        plan.mine.push(close(1000));
    }
    let Plan { wire, messages, mine, others, is_ended } = plan;

    let mut options = Options::default();
    options.backlog_limit = 0;
    // A peer that is paused must be read meanwhile.
    let pauses = seed.is_multiple_of(3);
    if pauses {
        (options.backlog_limit, options.backlog_policy) = (64 * 1024, BacklogPolicy::Pause);
    }
    let reads_late = !pauses && random.random();
    let known = Arc::new(Mutex::new(None::<Known>));
    let knows = known.clone();
    let script = Script::new().quiet().on_message(move |connection, message| {
        let known = knows.lock().unwrap().clone().unwrap();
        act(connection, message, &known);
    });
    let server = Server::start(&options, script);
    let (mut peer, connection) = if random.random_range(0..8) == 0 { server.open_narrow() } else { server.open() };
    let (other_peer, other) = server.open();
    let listener = server.listener;
    *known.lock().unwrap() = Some((listener, other, server.handle.clone()));
    let other_loop = (seed.is_multiple_of(4)).then(|| OtherLoop::start(&server));
    // The turn that has answered the handshakes has counted them.
    server.on_loop(|| ());
    server.on_loop(|| ());
    let before = listener.statistics().unwrap();

    let stream = peer.stream.try_clone().unwrap();
    let reading = move || thread::spawn(move || read_all(stream, &mine, &format!("seed {seed}, the peer")));
    let other_stream = other_peer.stream.try_clone().unwrap();
    let others = thread::spawn(move || read_all(other_stream, &others, &format!("seed {seed}, the other peer")));
    let (reader, late) = if reads_late { (None, Some(reading)) } else { (Some(reading()), None) };
    let mut rest = &wire[..];
    let mut is_written = true;
    while !rest.is_empty() && is_written {
        let (now, later) = rest.split_at(random.random_range(1..=60_000.min(rest.len())));
        // While the loop waits, so that it finds all of it; or whenever it comes.
        let at_once = !pauses && random.random_range(0..3) != 0;
        is_written = if at_once { server.meanwhile(|| peer.try_write(now)) } else { peer.try_write(now) };
        rest = later;
    }
    let reader = reader.or_else(|| late.map(|reading| reading())).unwrap();
    let (bytes, told) = reader.join().unwrap_or_else(|panicked| resume_unwind(panicked));
    let (other_bytes, other_told) = others.join().unwrap_or_else(|panicked| resume_unwind(panicked));
    if is_ended {
        // The Close that the server waits for; it may have gone.
        peer.try_write(&frame(0x80 | CLOSE, &1000u16.to_be_bytes(), Some(MASK)));
    }
    let _ = peer.stream.shutdown(Shutdown::Write);
    let closed = server.events.closed_of(connection);
    let after = listener.statistics().unwrap();
    assert_eq!(closed.undelivered_messages, 0, "seed {seed}: {closed:?}");
    assert_eq!(after.messages_received - before.messages_received, messages, "seed {seed}");
    assert_eq!(after.messages_sent - before.messages_sent, told + other_told, "seed {seed}");
    if is_ended {
        assert!(after.bytes_received - before.bytes_received >= heard, "seed {seed}");
    } else {
        assert_eq!(after.bytes_sent - before.bytes_sent, bytes + other_bytes, "seed {seed}");
        assert_eq!(after.bytes_received - before.bytes_received, wire.len() as u64, "seed {seed}");
    }
    if let Some(other_loop) = other_loop {
        other_loop.end(&server);
    }
    eventually("only the other is open", || server.connection_count() == 1);
}

#[test]
fn whatever_callbacks_do_all_of_it_comes_once_and_in_order() {
    let number = |name: &str, default| env::var(name).map_or(default, |number| number.parse().unwrap());
    let first = number("SEED", 1);
    (first..first + number("ROUNDS", 60)).for_each(round);
}
