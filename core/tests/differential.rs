//! Tungstenite as the oracle: over many random streams of frames, `Receiver` hears the same messages in the same order,
//! and fails exactly where tungstenite's `WebSocketContext` does.
//!
//! Deliberate differences, which the comparison allows for:
//! - A Close with a code that must not be sent is a Close of 1002 for tungstenite, and a failure here.
//! - Tungstenite looks at a frame when it is complete, we do when its first wrong byte is there. So every stream ends
//!   with padding that completes whatever frame is open; then both must have failed, or neither.
//! - A control frame whose length is not in its second byte is refused, though the longer form may say less than 126;
//!   the streams have none. For data frames both take a form that is longer than need be.
//! - Tungstenite does not count fragments; here the limit is off, and tested beside `message.rs`.

use std::io::{self, Read, Write};

use tungstenite::Message as Theirs;
use tungstenite::protocol::{Role as TheirRole, WebSocketConfig, WebSocketContext};
use wsx_core::protocol::frame::{self, OpCode, Role};
use wsx_core::protocol::message::{Limits, Received, Receiver};

const STREAMS: u64 = 6_000;
const MAX_MESSAGE: usize = 80_000;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Failed,
}

#[test]
fn random_streams_are_heard_as_tungstenite_hears_them() {
    let (mut failed, mut closed, mut messages) = (0, 0, 0);
    for seed in 0..STREAMS {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let role = if random.below(3) == 0 { Role::Client } else { Role::Server };
        let mut stream = random.stream(role);
        if random.below(4) == 0 {
            let at = random.below(stream.len());
            stream[at] ^= 1 << random.below(8);
        }
        if random.below(2) == 0 {
            // No frame within the limit is longer, so this ends the one that is open; it is then a wrong frame itself.
            stream.resize(stream.len() + MAX_MESSAGE + 64, 0);
        }
        let padded = stream.len() > MAX_MESSAGE;
        let expected = oracle(&stream, role);
        for deliver_fragments in [false, true] {
            for cut in ["whole", "random", "single"] {
                if cut == "single" && stream.len() > 2_000 && seed % 50 != 0 {
                    continue;
                }
                let found = ours(&stream, role, deliver_fragments, cut, &mut random);
                compare(&found, &expected, padded, &format!("seed {seed}, {role:?}, {cut}, {deliver_fragments}"));
            }
        }
        match expected.last() {
            Some(Event::Failed) => failed += 1,
            Some(Event::Close(..)) => closed += 1,
            _ => {}
        }
        messages += expected.iter().filter(|event| matches!(event, Event::Text(_) | Event::Binary(_))).count();
    }
    // The streams are worth comparing only while they show all of it.
    assert!(failed > 500 && closed > 500 && messages > 5_000, "{failed} failed, {closed} closed, {messages} messages");
}

fn compare(found: &[Event], expected: &[Event], padded: bool, context: &str) {
    let mut expected = expected.to_vec();
    if expected.last() == Some(&Event::Close(Some(1002), "Protocol violation".into())) {
        expected.pop();
        expected.push(Event::Failed);
    }
    if !padded && found.last() == Some(&Event::Failed) && expected.last() != Some(&Event::Failed) {
        // The oracle still waits for the end of the frame that is wrong.
        expected.push(Event::Failed);
    }
    // Not `assert_eq`: messages are long.
    let same = found.iter().zip(&expected).take_while(|(found, expected)| found == expected).count();
    let sketch = |events: &[Event]| {
        let event = events.get(same).map(|event| format!("{event:?}"));
        event.map(|event| event.chars().take(200).collect::<String>())
    };
    assert!(
        found.len() == same && expected.len() == same,
        "{context}: event {same} is {:?}, tungstenite has {:?}",
        sketch(found),
        sketch(&expected)
    );
}

fn ours(stream: &[u8], role: Role, deliver_fragments: bool, cut: &str, random: &mut Random) -> Vec<Event> {
    let limits = Limits { max_message: MAX_MESSAGE as u64, max_fragments: u32::MAX, deliver_fragments };
    let mut receiver = Receiver::default();
    let mut events = Vec::new();
    let mut fragments = Vec::new();
    let mut left = stream;
    while !left.is_empty() {
        let most = match cut {
            "whole" => left.len(),
            "single" => 1,
            _ => match random.below(3) {
                0 => 1 + random.below(4),
                1 => 1 + random.below(200),
                _ => 1 + random.below(50_000),
            },
        };
        let (read, rest) = left.split_at(most.min(left.len()));
        left = rest;
        let mut read = read.to_vec();
        let mut input = &mut read[..];
        loop {
            let Ok((received, rest)) = receiver.receive(input, role, &limits, None) else {
                events.push(Event::Failed);
                return events;
            };
            input = rest;
            let Some(received) = received else {
                assert!(input.is_empty());
                break;
            };
            match received {
                Received::Message(message) => events.push(message_event(message)),
                Received::Assembled(assembled) => events.push(message_event(assembled.message())),
                Received::Inflated(inflated) => unreachable!("none was permitted: {inflated:?}"),
                Received::Fragment { is_text, is_first, is_last, payload } => {
                    assert!(deliver_fragments && is_first == fragments.is_empty());
                    fragments.push(payload.into_owned());
                    if is_last {
                        let payload = std::mem::take(&mut fragments).concat();
                        events.push(match is_text {
                            true => Event::Text(String::from_utf8(payload).expect("text was checked")),
                            false => Event::Binary(payload),
                        });
                    }
                }
                Received::Ping(payload) => events.push(Event::Ping(payload.into_owned())),
                Received::Pong(payload) => events.push(Event::Pong(payload.into_owned())),
                Received::Close { code, reason } => {
                    events.push(Event::Close(code, reason.into_owned()));
                    return events;
                }
            }
        }
    }
    events
}

fn message_event(message: wsx_core::Message<'_>) -> Event {
    match message {
        wsx_core::Message::Text(text) => Event::Text(text.into()),
        wsx_core::Message::Binary(bytes) => Event::Binary(bytes.into()),
    }
}

/// The stream as a transport that has no more for now at its end, and swallows what is written.
struct Transport<'a>(&'a [u8]);

impl Read for Transport<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { self.0.read(buffer) }
    }
}

impl Write for Transport<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn oracle(stream: &[u8], role: Role) -> Vec<Event> {
    let their_role = if role == Role::Client { TheirRole::Client } else { TheirRole::Server };
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let mut context = WebSocketContext::new(their_role, Some(config));
    let mut transport = Transport(stream);
    let mut events = Vec::new();
    loop {
        match context.read(&mut transport) {
            Ok(Theirs::Text(text)) => events.push(Event::Text(text.as_str().into())),
            Ok(Theirs::Binary(bytes)) => events.push(Event::Binary(bytes.into())),
            Ok(Theirs::Ping(payload)) => events.push(Event::Ping(payload.into())),
            Ok(Theirs::Pong(payload)) => events.push(Event::Pong(payload.into())),
            Ok(Theirs::Close(close)) => {
                let (code, reason) = close
                    .map_or((None, String::new()), |close| (Some(close.code.into()), close.reason.as_str().to_owned()));
                events.push(Event::Close(code, reason));
                return events;
            }
            Ok(Theirs::Frame(_)) => unreachable!("raw frames are only written"),
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return events,
            Err(_) => {
                events.push(Event::Failed);
                return events;
            }
        }
    }
}

/// xorshift64*: the same streams on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        ((self.next() >> 33) % limit as u64) as usize
    }

    /// Frames for `role`, most of them right.
    fn stream(&mut self, role: Role) -> Vec<u8> {
        let mut out = Vec::new();
        for _ in 0..=self.below(8) {
            match self.below(20) {
                0..=2 => self.control(&mut out, role),
                3 => self.wrong_frame(&mut out, role),
                _ => self.message(&mut out, role),
            }
        }
        if self.below(3) == 0 {
            self.close(&mut out, role);
        }
        out
    }

    fn message(&mut self, out: &mut Vec<u8>, role: Role) {
        let is_text = self.below(2) == 0;
        let payload = if is_text { self.text() } else { self.bytes() };
        let mut opcode = if is_text { OpCode::Text } else { OpCode::Binary };
        let mut left = &payload[..];
        for _ in 0..self.below(5) * self.below(2) {
            let at = self.below(left.len() + 1);
            self.frame(out, role, opcode, false, &left[..at]);
            left = &left[at..];
            opcode = OpCode::Continuation;
            if self.below(4) == 0 {
                self.control(out, role);
            }
        }
        self.frame(out, role, opcode, true, left);
    }

    fn control(&mut self, out: &mut Vec<u8>, role: Role) {
        let opcode = if self.below(2) == 0 { OpCode::Ping } else { OpCode::Pong };
        let length = [0, 1, 4, 125][self.below(4)];
        let payload: Vec<u8> = (0..length).map(|_| self.next() as u8).collect();
        self.frame(out, role, opcode, true, &payload);
    }

    fn close(&mut self, out: &mut Vec<u8>, role: Role) {
        let code = [1000, 1001, 1003, 1007, 1011, 3000, 4999, 1005, 999, 2000][self.below(10)];
        let reasons: [&[u8]; 4] = [b"", b"bye", "schön".as_bytes(), b"\xc3\x28"];
        let payload = [&u16::to_be_bytes(code)[..], reasons[self.below(4)]].concat();
        let length = [0, 1, payload.len(), payload.len()][self.below(4)];
        self.frame(out, role, OpCode::Close, true, &payload[..length]);
    }

    fn wrong_frame(&mut self, out: &mut Vec<u8>, role: Role) {
        let other = if role == Role::Client { Role::Server } else { Role::Client };
        let start = out.len();
        match self.below(6) {
            0 => self.frame(out, other, OpCode::Text, true, b"mask"),
            1 => self.frame(out, role, OpCode::Continuation, true, b"nothing to continue"),
            2 => self.frame(out, role, OpCode::Ping, false, b"fragmented"),
            3 => self.frame(out, role, OpCode::Pong, true, &[0; 126]),
            4 => {
                self.frame(out, role, OpCode::Binary, true, b"reserved");
                out[start] ^= [0x40, 0x20, 0x10, 0x04, 0x08 | 0x04][self.below(5)];
            }
            _ => {
                self.frame(out, role, OpCode::Text, false, b"begun");
                self.frame(out, role, OpCode::Text, true, b"and begun again");
            }
        }
    }

    fn frame(&mut self, out: &mut Vec<u8>, role: Role, opcode: OpCode, fin: bool, payload: &[u8]) {
        let mask = (role == Role::Server).then(|| (self.next() as u32).to_be_bytes());
        let start = out.len();
        frame::append(out, opcode, fin, payload, mask);
        if payload.len() < 126 && !opcode.is_control() && self.below(16) == 0 {
            // The same length, written longer than need be.
            let masked = out[start + 1] & 0x80;
            let long: &[u8] = &[127, 0, 0, 0, 0, 0, 0, 0, payload.len() as u8];
            let medium: &[u8] = &[126, 0, payload.len() as u8];
            let length = if self.below(2) == 0 { long } else { medium };
            out.splice(start + 1..start + 2, length.iter().copied());
            out[start + 1] |= masked;
        }
    }

    fn length(&mut self) -> usize {
        match self.below(40) {
            0 => [125, 126, 127, 255, 256, 257][self.below(6)],
            1 => [65_535, 65_536, 65_537, MAX_MESSAGE - 1, MAX_MESSAGE, MAX_MESSAGE + 1][self.below(6)],
            2..=9 => self.below(5_000),
            _ => self.below(150),
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = self.length();
        (0..length).map(|_| self.next() as u8).collect()
    }

    /// Text of every length of character, sometimes with a wrong byte or a cut.
    fn text(&mut self) -> Vec<u8> {
        let length = self.length();
        let is_ascii = self.below(3) == 0;
        let mut text = String::new();
        while text.len() < length {
            let bound = if is_ascii { 0x80 } else { [0x80, 0x800, 0x1_0000, 0x11_0000][self.below(4)] };
            text.extend(char::from_u32(self.below(bound) as u32));
        }
        let mut bytes = text.into_bytes();
        if !bytes.is_empty() && self.below(12) == 0 {
            let at = self.below(bytes.len());
            match self.below(3) {
                0 => bytes[at] = self.next() as u8,
                1 => bytes.truncate(at),
                _ => bytes.insert(at, self.next() as u8),
            }
        }
        bytes
    }
}
