//! Tests of compressed messages: frames in hex, what comes of them, whole and cut at every byte.

use crate::event::Message;
use crate::protocol::deflate::{Compressor, Inflaters, Inflation};
use crate::protocol::frame::{self, Role};
use crate::protocol::message::{Limits, Received, Receiver};

const LIMITS: Limits = Limits { max_message: 1024 * 1024, max_fragments: 1024, deliver_fragments: false };
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Text(String),
    Binary(Vec<u8>),
    /// Text, first, last, payload.
    Fragment(bool, bool, bool, Vec<u8>),
    Ping(Vec<u8>),
    Failed(u16),
}

fn text(text: &str) -> Event {
    Event::Text(text.into())
}

fn own(received: Received<'_>, pool: &mut Inflaters) -> Event {
    let message = |message: Message<'_>| match message {
        Message::Text(text) => Event::Text(text.into()),
        Message::Binary(bytes) => Event::Binary(bytes.into()),
    };
    match received {
        Received::Message(received) => message(received),
        Received::Assembled(assembled) => message(assembled.message()),
        Received::Inflated(inflated) => {
            let event = inflated.message().map_or_else(|violation| Event::Failed(violation.code), message);
            pool.take_back_buffer(inflated.into_payload());
            event
        }
        Received::Fragment { is_text, is_first, is_last, payload } => {
            Event::Fragment(is_text, is_first, is_last, payload.into_owned())
        }
        Received::Ping(payload) => Event::Ping(payload.into_owned()),
        other => panic!("{other:?}"),
    }
}

/// What a receiver makes of these bytes in reads of at most `most`.
fn feed(bytes: &[u8], most: usize, role: Role, limits: &Limits, keeps_context: bool) -> Vec<Event> {
    let (mut receiver, mut pool, mut events) = (Receiver::default(), Inflaters::default(), Vec::new());
    for read in bytes.chunks(most) {
        let mut buffer = read.to_vec();
        let mut input = &mut buffer[..];
        loop {
            let inflation = Inflation { pool: &mut pool, keeps_context };
            match receiver.receive(input, role, limits, Some(inflation)) {
                Ok((Some(received), rest)) => {
                    events.push(own(received, &mut pool));
                    input = rest;
                    if let Some(Event::Failed(_)) = events.last() {
                        return events;
                    }
                }
                Ok((None, rest)) => {
                    assert!(rest.is_empty());
                    break;
                }
                Err(violation) => {
                    assert!(
                        violation.failure.message.len() <= crate::config::MAX_CLOSE_REASON,
                        "{}",
                        violation.failure
                    );
                    events.push(Event::Failed(violation.code));
                    return events;
                }
            }
        }
    }
    assert!(keeps_context || !receiver.is_partial() || bytes.is_empty() || events.is_empty(), "something is held");
    events
}

/// The same for either role, however it is cut.
#[track_caller]
fn of(bytes: &[u8], limits: &Limits, keeps_context: bool) -> Vec<Event> {
    let whole = feed(bytes, usize::MAX, Role::Client, limits, keeps_context);
    let mut masked = Vec::new();
    let mut left = bytes;
    while let Ok(Some((header, start))) = frame::parse(left, Role::Client, true) {
        let Some(payload) = left.get(start..start + header.length as usize) else { break };
        let begin = masked.len();
        frame::append(&mut masked, header.opcode, header.fin, payload, Some(KEY));
        masked[begin] = left[0];
        left = &left[start + payload.len()..];
    }
    for most in [1, 2, 3, 7, 64, 1000] {
        assert_eq!(feed(bytes, most, Role::Client, limits, keeps_context), whole, "in reads of {most}");
        if left.is_empty() {
            assert_eq!(feed(&masked, most, Role::Server, limits, keeps_context), whole, "in reads of {most}");
        }
    }
    whole
}

/// One frame of a server with this first byte.
fn framed(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::append(&mut out, frame::OpCode::Text, true, payload, None);
    out[0] = first;
    out
}

fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(Compressor::new(6, 15).compress_message(payload, &mut out));
    out
}

#[test]
fn the_examples_of_rfc_7692_section_7_2_3() {
    for (bytes, keeps_context, expected) in [
        (&b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"[..], false, vec![text("Hello")]),
        (b"\x41\x03\xf2\x48\xcd\x80\x04\xc9\xc9\x07\x00", false, vec![text("Hello")]),
        (b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x05\xf2\x00\x11\x00\x00", true, vec![text("Hello"), text("Hello")]),
        (b"\xc1\x0b\x00\x05\x00\xfa\xffHello\x00", false, vec![text("Hello")]),
        (b"\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00", false, vec![text("Hello")]),
        (b"\xc1\x0d\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", false, vec![text("Hello")]),
        (b"\xc1\x01\x00", false, vec![text("")]),
    ] {
        assert_eq!(of(bytes, &LIMITS, keeps_context), expected, "{bytes:x?}");
        if !keeps_context {
            assert_eq!(of(bytes, &LIMITS, true), expected, "{bytes:x?}");
        }
    }
    // Without a context there is nothing that the second message may refer to.
    let shared = b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x05\xf2\x00\x11\x00\x00";
    assert_eq!(of(shared, &LIMITS, false), [text("Hello"), Event::Failed(1007)]);
}

#[test]
fn hostile_29_an_empty_compressed_message_is_empty_and_leaves_the_context_alone() {
    for keeps_context in [false, true] {
        assert_eq!(of(b"\xc1\x00\x42\x00\x00\x00\x80\x00", &LIMITS, keeps_context), [text(""), Event::Binary(vec![])]);
    }
    let between = b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc2\x00\x81\x01x\xc1\x05\xf2\x00\x11\x00\x00";
    assert_eq!(of(between, &LIMITS, true), [text("Hello"), Event::Binary(vec![]), text("x"), text("Hello")]);
}

#[test]
fn hostile_29_the_last_block_may_be_anywhere() {
    let last = b"\xf3\x48\xcd\xc9\xc9\x07\x00";
    // At the end of the message, with and without the empty block behind it; and before more.
    for keeps_context in [false, true] {
        assert_eq!(of(&framed(0xc1, last), &LIMITS, keeps_context), [text("Hello")]);
        let twice = [&last[..], b"\xf2\x48\xcd\xc9\xc9\x07\x00"].concat();
        let both = [framed(0xc1, &twice), framed(0xc1, &twice)].concat();
        assert_eq!(of(&both, &LIMITS, keeps_context), [text("HelloHello"), text("HelloHello")]);
    }
}

#[test]
fn hostile_29_what_is_no_deflate_data_is_1007() {
    for payload in
        [&b"\xff"[..], b"\x07\x00", b"Hello", b"\x00\x05\x00\xff\xffHello", b"\xf2\x48\xcd\xc9\xc9\x07\x00\xff"]
    {
        for keeps_context in [false, true] {
            assert_eq!(of(&framed(0xc1, payload), &LIMITS, keeps_context), [Event::Failed(1007)], "{payload:x?}");
        }
    }
}

#[test]
fn a_message_that_was_cut_is_1007_and_never_a_shorter_message() {
    let payload: Vec<u8> = (0..2000u32).flat_map(|n| format!("{{\"n\":{}}}", n * n % 977).into_bytes()).collect();
    let stored: Vec<u8> = [&b"\x00\x05\x00\xfa\xffHello"[..], b"\x00"].concat();
    // The first byte of a stored block alone is what an empty message looks like.
    for (compressed, first) in [(deflated(&payload), 1), (deflated(b"Hello"), 1), (stored, 2)] {
        for end in first..compressed.len() {
            let events = feed(&framed(0xc2, &compressed[..end]), usize::MAX, Role::Client, &LIMITS, false);
            assert_eq!(events, [Event::Failed(1007)], "cut at {end} of {}", compressed.len());
            // With a context it is told as well, except where the block describes its codes: there nothing has come out.
            let events = feed(&framed(0xc2, &compressed[..end]), usize::MAX, Role::Client, &LIMITS, true);
            let is_described = end < 30 && events == [Event::Binary(vec![])];
            assert!(events == [Event::Failed(1007)] || is_described, "cut at {end} of {}", compressed.len());
        }
        let events = feed(&framed(0xc2, &compressed), usize::MAX, Role::Client, &LIMITS, false);
        assert!(matches!(&events[..], [Event::Binary(_)]));
    }
}

#[test]
fn text_is_validated_over_what_it_inflates_to() {
    assert_eq!(of(&framed(0xc1, &deflated("é€😀".as_bytes())), &LIMITS, false), [text("é€😀")]);
    for invalid in [&b"\xff"[..], b"a\xc3", b"\xed\xa0\x80"] {
        assert_eq!(of(&framed(0xc1, &deflated(invalid)), &LIMITS, false), [Event::Failed(1007)]);
        assert_eq!(of(&framed(0xc2, &deflated(invalid)), &LIMITS, false), [Event::Binary(invalid.into())]);
    }
}

#[test]
fn hostile_26_and_27_the_limit_is_that_of_what_comes_out() {
    for (size, max_message) in
        [(1000, 1000), (1001, 1000), (70_000, 70_000), (70_001, 70_000), (5_000_000, 1000), (1, 1)]
    {
        let limits = Limits { max_message, ..LIMITS };
        let payload = vec![b'x'; size];
        let events = of(&framed(0xc2, &deflated(&payload)), &limits, false);
        if size as u64 <= max_message {
            assert!(events == [Event::Binary(payload)], "{size} of {max_message}");
        } else {
            assert_eq!(events, [Event::Failed(1009)], "{size} of {max_message}");
        }
    }
    // Fragments count together, delivered or not.
    let compressed = deflated(&[b'x'; 3000]);
    let (begin, end) = compressed.split_at(compressed.len() / 2);
    let frames = [framed(0x42, begin), framed(0x80, end)].concat();
    for deliver_fragments in [false, true] {
        let limits = Limits { max_message: 2999, deliver_fragments, ..LIMITS };
        assert_eq!(of(&frames, &limits, false).last(), Some(&Event::Failed(1009)));
        let limits = Limits { max_message: 3000, ..limits };
        assert_ne!(of(&frames, &limits, false).last(), Some(&Event::Failed(1009)));
    }
}

#[test]
fn hostile_26_more_compressed_bytes_than_any_message_has_are_1009_on_the_header() {
    let limits = Limits { max_message: 1000, ..LIMITS };
    assert_eq!(of(b"\xc2\x7e\x08\xe3", &limits, false), [Event::Failed(1009)]);
    assert_eq!(of(b"\xc2\x7e\x08\xe2", &limits, false), []);
    assert_eq!(of(b"\xc2\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", &LIMITS, false), [Event::Failed(1009)]);
    let unlimited = Limits { max_message: u64::MAX, ..LIMITS };
    assert_eq!(of(b"\xc2\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", &unlimited, false), []);
    // What does not compress is a little longer than the message: as long as any sender makes it, it is taken.
    let stored = b"\x00\x01\x00\xfe\xffx".repeat(200);
    let events = of(&framed(0xc2, &[&stored[..], b"\x00"].concat()), &limits, false);
    assert_eq!(events, [Event::Binary(vec![b'x'; 200])]);
}

#[test]
fn hostile_24_fragments_of_compressed_messages_count() {
    let limits = Limits { max_fragments: 3, ..LIMITS };
    assert_eq!(of(b"\x41\0\0\0\x80\0", &limits, false), [text("")]);
    assert_eq!(of(b"\x41\0\0\0\0\0\0\0", &limits, false), [Event::Failed(1008)]);
}

#[test]
fn hostile_28_the_bit_belongs_to_the_first_frame_of_a_message() {
    for bytes in [&b"\x41\x00\xc0\x00"[..], b"\x01\x01a\xc0\x00", b"\xc9\x00", b"\xc8\x00", b"\xe1\x00", b"\xd1\x00"] {
        assert_eq!(of(bytes, &LIMITS, false), [Event::Failed(1002)], "{bytes:x?}");
    }
}

#[test]
fn fragments_are_inflated_as_they_come_and_pings_come_between() {
    let payload = "Wäre es möglich, könnt' ich nicht mehr zurück? ".repeat(400);
    let compressed = deflated(payload.as_bytes());
    let mut frames = Vec::new();
    for (index, part) in compressed.chunks(compressed.len() / 5).enumerate() {
        frames.extend(framed(if index == 0 { 0x41 } else { 0 }, part));
        frames.extend(framed(0x89, b"?"));
    }
    frames.extend(framed(0x80, b""));
    let mut events = of(&frames, &LIMITS, false);
    assert_eq!(events.pop(), Some(text(&payload)));
    assert!(events.len() >= 5 && events.iter().all(|event| *event == Event::Ping(b"?".into())));

    let limits = Limits { deliver_fragments: true, ..LIMITS };
    let events = of(&frames, &limits, false);
    let mut collected: Vec<u8> = Vec::new();
    let fragments = events.iter().filter(|event| !matches!(event, Event::Ping(_)));
    let count = fragments.clone().count();
    for (index, event) in fragments.enumerate() {
        let Event::Fragment(true, is_first, is_last, part) = event else { panic!("{event:?}") };
        assert_eq!((*is_first, *is_last), (index == 0, index == count - 1));
        collected.extend(part);
    }
    assert!(collected == payload.as_bytes());
    // A message in one frame is no fragment; text is checked across fragments.
    assert_eq!(of(&framed(0xc1, &deflated(b"one")), &limits, false), [text("one")]);
    let cut = deflated(b"\xe2\x82");
    assert_eq!(
        of(&[framed(0x41, &cut), framed(0x80, b"")].concat(), &limits, false).last(),
        Some(&Event::Failed(1007))
    );
}

#[test]
fn a_context_is_kept_across_messages_of_every_kind() {
    let mut compressor = Compressor::new(6, 15);
    let (mut frames, mut expected) = (Vec::new(), Vec::new());
    for index in 0..30 {
        let payload = format!("{{\"price\":{},\"symbol\":\"ABC\",\"text\":\"{}\"}}", index * 37, "é".repeat(index));
        let mut compressed = Vec::new();
        assert!(compressor.compress_message(payload.as_bytes(), &mut compressed));
        match index % 3 {
            0 => frames.extend(framed(0xc1, &compressed)),
            1 => {
                let (begin, end) = compressed.split_at(compressed.len() / 3);
                frames.extend([framed(0x41, begin), framed(0x80, end)].concat());
            }
            _ => frames.extend([framed(0x81, b"plain"), framed(0xc1, &compressed)].concat()),
        }
        expected.extend((index % 3 == 2).then(|| text("plain")));
        expected.push(text(&payload));
    }
    assert_eq!(of(&frames, &LIMITS, true), expected);
    // A large binary message that is received directly leaves the context where it was.
    let (mut receiver, mut pool) = (Receiver::default(), Inflaters::default());
    let mut heard = Vec::new();
    let mut feed = |receiver: &mut Receiver, bytes: &[u8]| {
        let mut buffer = bytes.to_vec();
        let mut input = &mut buffer[..];
        loop {
            let inflation = Inflation { pool: &mut pool, keeps_context: true };
            let (received, rest) = receiver.receive(input, Role::Client, &LIMITS, Some(inflation)).unwrap();
            let Some(received) = received else { break };
            heard.push(own(received, &mut Inflaters::default()));
            input = rest;
        }
    };
    feed(&mut receiver, b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\x82\x7f\0\0\0\0\0\x01\0\0");
    feed(&mut receiver, b"z");
    let room = receiver.direct(&LIMITS).expect("a large binary message is received directly");
    let held = room.len();
    room.resize(65_536, b'z');
    receiver.received_directly(held, &mut []);
    feed(&mut receiver, b"");
    feed(&mut receiver, b"\xc1\x05\xf2\x00\x11\x00\x00");
    assert_eq!(heard, [text("Hello"), Event::Binary(vec![b'z'; 65_536]), text("Hello")]);
}

#[test]
fn a_compressed_message_is_never_received_directly() {
    let (mut receiver, mut pool) = (Receiver::default(), Inflaters::default());
    let mut header = *b"\xc2\x7f\0\0\0\0\0\x01\0\0\x00";
    let inflation = Inflation { pool: &mut pool, keeps_context: false };
    assert!(matches!(receiver.receive(&mut header, Role::Client, &LIMITS, Some(inflation)), Ok((None, []))));
    assert!(receiver.direct(&LIMITS).is_none());
}

#[test]
fn hostile_25_byte_by_byte_the_same_comes_out_in_bounded_memory() {
    let payload: Vec<u8> = (0..60_000u32).map(|n| ((n * n) >> 7) as u8).collect();
    let frame = framed(0xc2, &deflated(&payload));
    assert!(feed(&frame, 1, Role::Client, &LIMITS, false) == [Event::Binary(payload)]);
}
