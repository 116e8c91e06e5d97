//! Tests of the receiver: frames in hex, what comes of them.

use super::*;
use crate::protocol::unmask::unmask;

const LIMITS: Limits = Limits { max_message: 1024 * 1024, max_fragments: 1024, deliver_fragments: false };
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// An event that owns everything, to be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Text(String),
    Binary(Vec<u8>),
    Fragment(bool, bool, bool, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Failed(u16, FailureKind),
}

fn own(received: Received<'_>) -> Event {
    match received {
        Received::Message(Message::Text(text)) => Event::Text(text.into()),
        Received::Message(Message::Binary(bytes)) => Event::Binary(bytes.into()),
        Received::Assembled(Assembled::Text(text)) => Event::Text(text),
        Received::Assembled(Assembled::Binary(bytes)) => Event::Binary(bytes),
        Received::Inflated(inflated) => match inflated.message() {
            Ok(Message::Text(text)) => Event::Text(text.into()),
            Ok(Message::Binary(bytes)) => Event::Binary(bytes.into()),
            Err(violation) => Event::Failed(violation.code, violation.failure.kind),
        },
        Received::Fragment { is_text, is_first, is_last, payload } => {
            Event::Fragment(is_text, is_first, is_last, payload.into_owned())
        }
        Received::Ping(payload) => Event::Ping(payload.into_owned()),
        Received::Pong(payload) => Event::Pong(payload.into_owned()),
        Received::Close { code, reason } => Event::Close(code, reason.into_owned()),
    }
}

/// Feeds reads to a receiver, and returns its events, the last one a failure if there was one.
fn feed(receiver: &mut Receiver, reads: &[&[u8]], role: Role, limits: &Limits) -> Vec<Event> {
    let mut events = Vec::new();
    for read in reads {
        let mut buffer = read.to_vec();
        let mut input = &mut buffer[..];
        loop {
            match receiver.receive(input, role, limits, None) {
                Ok((Some(received), rest)) => {
                    events.push(own(received));
                    input = rest;
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
                    events.push(Event::Failed(violation.code, violation.failure.kind));
                    return events;
                }
            }
        }
    }
    events
}

/// What a client makes of these bytes; the same whole and byte by byte.
fn client(bytes: &[u8]) -> Vec<Event> {
    with(bytes, &LIMITS)
}

fn with(bytes: &[u8], limits: &Limits) -> Vec<Event> {
    let whole = feed(&mut Receiver::default(), &[bytes], Role::Client, limits);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(feed(&mut Receiver::default(), &single, Role::Client, limits), whole);
    let mut masked = Vec::new();
    if mask_all(bytes, &mut masked).is_some() {
        assert_eq!(feed(&mut Receiver::default(), &[&masked], Role::Server, limits), whole);
        let single: Vec<&[u8]> = masked.chunks(1).collect();
        assert_eq!(feed(&mut Receiver::default(), &single, Role::Server, limits), whole);
    }
    whole
}

/// The same frames, as a client would send them; `None` where they are not whole frames.
fn mask_all(mut bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    while !bytes.is_empty() {
        let (header, start) = frame::parse(bytes, Role::Client, false).ok()??;
        let end = start + usize::try_from(header.length).ok()?;
        frame::append(out, header.opcode, header.fin, bytes.get(start..end)?, Some(KEY));
        bytes = &bytes[end..];
    }
    Some(())
}

fn protocol_error() -> Event {
    Event::Failed(1002, FailureKind::Protocol)
}

#[test]
fn the_examples_of_rfc_6455_section_5_7() {
    let masked = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_eq!(feed(&mut Receiver::default(), &[masked], Role::Server, &LIMITS), [Event::Text("Hello".into())]);
    assert_eq!(client(b"\x81\x05Hello"), [Event::Text("Hello".into())]);
    assert_eq!(client(b"\x01\x03Hel\x80\x02lo"), [Event::Text("Hello".into())]);
    assert_eq!(client(b"\x89\x05Hello\x8a\x05Hello"), [Event::Ping(b"Hello".into()), Event::Pong(b"Hello".into())]);
    let mut frame = b"\x82\x7f\0\0\0\0\0\x01\0\0".to_vec();
    frame.extend(vec![7; 65536]);
    assert_eq!(client(&frame), [Event::Binary(vec![7; 65536])]);
}

#[test]
fn a_message_that_is_there_whole_is_lent_and_nothing_is_held() {
    let mut receiver = Receiver::default();
    let mut input = *b"\x82\x03abc\x81\x00\x89\x00\x82\x01";
    let start = input.as_ptr() as usize;
    let (received, rest) = receiver.receive(&mut input, Role::Client, &LIMITS, None).unwrap();
    let Some(Received::Message(Message::Binary(payload))) = received else { panic!("{received:?}") };
    assert_eq!((payload, payload.as_ptr() as usize - start), (&b"abc"[..], 2));
    let (received, rest) = receiver.receive(rest, Role::Client, &LIMITS, None).unwrap();
    assert!(matches!(received, Some(Received::Message(Message::Text("")))));
    let (received, rest) = receiver.receive(rest, Role::Client, &LIMITS, None).unwrap();
    assert!(matches!(received, Some(Received::Ping(Cow::Borrowed(b"")))));
    assert!(!receiver.is_partial());
    let (received, rest) = receiver.receive(rest, Role::Client, &LIMITS, None).unwrap();
    assert!(received.is_none() && rest.is_empty() && receiver.is_partial());
    let mut last = [7];
    let (received, _) = receiver.receive(&mut last, Role::Client, &LIMITS, None).unwrap();
    // Its header was cut, its payload is whole: it is still lent.
    assert!(matches!(received, Some(Received::Message(Message::Binary(&[7])))));
    assert!(!receiver.is_partial());
    assert!(size_of::<Receiver>() <= 16);
}

#[test]
fn nothing_in_is_nothing_out() {
    let mut receiver = Receiver::default();
    assert!(matches!(receiver.receive(&mut [], Role::Server, &LIMITS, None), Ok((None, []))));
    assert!(!receiver.is_partial());
}

#[test]
fn control_frames_come_between_fragments_and_may_be_cut() {
    let events = client(b"\x02\x02ab\x89\x03png\x00\x00\x8a\x00\x80\x01c\x88\x02\x03\xe8");
    let expected = [
        Event::Ping(b"png".into()),
        Event::Pong(vec![]),
        Event::Binary(b"abc".into()),
        Event::Close(Some(1000), String::new()),
    ];
    assert_eq!(events, expected);
}

#[test]
fn fragments_are_delivered_where_asked_for_and_whole_messages_stay_whole() {
    let limits = Limits { deliver_fragments: true, ..LIMITS };
    let events = with(b"\x81\x01a\x01\x02b\xe2\x00\x02\x82\xac\x89\x00\x80\x00\x02\x00\x80\x01z", &limits);
    let expected = [
        Event::Text("a".into()),
        Event::Fragment(true, true, false, b"b\xe2".into()),
        Event::Fragment(true, false, false, b"\x82\xac".into()),
        Event::Ping(vec![]),
        Event::Fragment(true, false, true, vec![]),
        Event::Fragment(false, true, false, vec![]),
        Event::Fragment(false, false, true, b"z".into()),
    ];
    assert_eq!(events, expected);
    let cut = [Event::Fragment(true, true, false, b"\xe2".into()), Event::Failed(1007, FailureKind::Protocol)];
    assert_eq!(with(b"\x01\x01\xe2\x80\x01\x82", &limits), cut);
    assert_eq!(with(b"\x01\x01\xe2\x80\x01\x41", &limits), cut);
    let small = Limits { max_message: 3, ..limits };
    let too_big = [Event::Fragment(false, true, false, b"ab".into()), Event::Failed(1009, FailureKind::Limit)];
    assert_eq!(with(b"\x02\x02ab\x80\x02cd", &small), too_big);
}

#[test]
fn fragments_out_of_order_are_refused() {
    assert_eq!(client(b"\x80\x01a"), [protocol_error()]);
    assert_eq!(client(b"\x00\x01a"), [protocol_error()]);
    assert_eq!(client(b"\x01\x01a\x81\x01b"), [protocol_error()]);
    assert_eq!(client(b"\x01\x01a\x02\x01b"), [protocol_error()]);
    assert_eq!(client(b"\x81\x01a\x80\x01b"), [Event::Text("a".into()), protocol_error()]);
}

#[test]
fn hostile_21_a_length_near_2_to_the_63_is_1009_on_the_header() {
    let too_big = [Event::Failed(1009, FailureKind::Limit)];
    assert_eq!(client(b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"), too_big);
    assert_eq!(client(b"\x82\x7f\0\x20\0\0\0\0\0\x01"), too_big);
    let unlimited = Limits { max_message: u64::MAX, max_fragments: u32::MAX, deliver_fragments: false };
    // Nobody can hold two of them, and the sum does not overflow.
    let twice = b"\x02\x01a\x00\x7f\x7f\xff\xff\xff\xff\xff\xff\xff";
    assert_eq!(with(twice, &unlimited), too_big);
}

#[test]
fn hostile_22_memory_grows_with_what_has_come_not_with_what_was_announced() {
    let limits = Limits { max_message: u64::MAX, ..LIMITS };
    for first in [0x82, 0x81, 0x01, 0x02] {
        for deliver_fragments in [false, true] {
            let limits = Limits { deliver_fragments, ..limits };
            let mut receiver = Receiver::default();
            let header = [first, 0x7f, 0, 0, 0x10, 0, 0, 0, 0, 0];
            assert_eq!(feed(&mut receiver, &[&header], Role::Client, &limits), []);
            assert!(held_by(&receiver) < 100);
            for count in 1..=10_000 {
                assert_eq!(feed(&mut receiver, &[b"x"], Role::Client, &limits), []);
                let bound = 4 * count + 100 + BEHIND;
                assert!(held_by(&receiver) <= bound, "{} for {count} bytes", held_by(&receiver));
            }
        }
    }
}

fn held_by(receiver: &Receiver) -> usize {
    let Some(partial) = &receiver.partial else { return 0 };
    let assembled = partial.message.as_ref().map_or(0, |message| {
        let assembled = match &message.assembled {
            Assembled::Text(text) => text.capacity(),
            Assembled::Binary(bytes) => bytes.capacity(),
        };
        assembled + message.fragment.capacity()
    });
    partial.control.capacity() + assembled
}

#[test]
fn a_large_frame_in_two_reads_is_reserved_once_and_exactly() {
    let mut receiver = Receiver::default();
    let mut frame = b"\x82\x7f\0\0\0\0\0\x10\0\0".to_vec();
    frame.extend(vec![1; 600_000]);
    feed(&mut receiver, &[&frame], Role::Client, &LIMITS);
    assert_eq!(held_by(&receiver), (1 << 20) + BEHIND);
}

/// Feeds bytes as an engine does that has them in a socket: directly where the receiver takes them so, at most `most` at
/// a time. Tells the events, and how many receives were direct.
fn feed_directly(mut bytes: &[u8], most: usize, limits: &Limits) -> (Vec<Event>, usize) {
    let (mut receiver, mut events, mut direct) = (Receiver::default(), Vec::new(), 0);
    while !bytes.is_empty() {
        let mut buffer = vec![0; most.max(BEHIND)];
        let fresh = if let Some(payload) = receiver.direct(limits) {
            let held = payload.len();
            let count = (payload.capacity() - held).min(bytes.len()).min(most);
            payload.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            direct += 1;
            receiver.received_directly(held, &mut buffer)
        } else {
            let count = most.min(bytes.len());
            buffer[..count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            count
        };
        events.extend(feed(&mut receiver, &[&buffer[..fresh]], Role::Server, limits));
    }
    (events, direct)
}

#[test]
fn what_is_received_directly_makes_the_same_messages() {
    let mut bytes = Vec::new();
    for (opcode, fin, size) in [
        (OpCode::Binary, true, 300_001),
        (OpCode::Text, true, 5),
        (OpCode::Text, true, 70_000),
        (OpCode::Binary, false, 50_003),
        (OpCode::Ping, true, 100),
        (OpCode::Continuation, false, 0),
        (OpCode::Continuation, true, 65_537),
        (OpCode::Binary, true, 16_384),
        (OpCode::Binary, true, 1),
    ] {
        let payload: Vec<u8> = (0..size).map(|n: u32| (n % 127) as u8).collect();
        frame::append(&mut bytes, opcode, fin, &payload, Some(KEY));
    }
    for deliver_fragments in [false, true] {
        let limits = Limits { deliver_fragments, ..LIMITS };
        let mut expected = Receiver::default();
        let expected = feed(&mut expected, &[&bytes], Role::Server, &limits);
        assert_eq!(expected.len(), if deliver_fragments { 9 } else { 7 });
        for most in [700, 4096, 30_001, 65_536, 500_000] {
            let (events, direct) = feed_directly(&bytes, most, &limits);
            assert!(events == expected, "in receives of {most} bytes");
            assert!(direct > 0 || most == 500_000, "in receives of {most} bytes");
        }
    }
}

#[test]
fn hostile_23_the_limit_counts_all_fragments_and_their_headers_alone() {
    let limits = Limits { max_message: 5, ..LIMITS };
    let too_big = [Event::Failed(1009, FailureKind::Limit)];
    assert_eq!(with(b"\x82\x05abcde", &limits), [Event::Binary(b"abcde".into())]);
    assert_eq!(with(b"\x02\x03abc\x80\x02de", &limits), [Event::Binary(b"abcde".into())]);
    assert_eq!(with(b"\x82\x06", &limits), too_big);
    assert_eq!(with(b"\x82\x06abcdef", &limits), too_big);
    assert_eq!(
        with(b"\x02\x05abcde\x89\x01p\x80\x01", &limits),
        [Event::Ping(b"p".into()), Event::Failed(1009, FailureKind::Limit)]
    );
    assert_eq!(with(b"\x02\x05abcde\x80\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", &limits), too_big);
    // A control frame is no part of the message.
    assert_eq!(with(b"\x89\x06abcdef", &limits), [Event::Ping(b"abcdef".into())]);
}

#[test]
fn hostile_24_empty_fragments_count() {
    let limits = Limits { max_fragments: 3, ..LIMITS };
    let too_many = || Event::Failed(1008, FailureKind::Limit);
    assert_eq!(with(b"\x01\0\0\0\x80\0", &limits), [Event::Text(String::new())]);
    assert_eq!(with(b"\x01\0\0\0\0\0\0\0", &limits), [too_many()]);
    assert_eq!(with(b"\x02\x01a\0\x01b\x89\0\0\x01c\x80\x01d", &limits), [Event::Ping(vec![]), too_many()]);
}

#[test]
fn hostile_25_byte_by_byte_costs_bounded_bookkeeping() {
    let mut frame = b"\x81\xff\0\0\0\0\0\x08\0\0\x37\xfa\x21\x3d".to_vec();
    let text = "é".repeat(1 << 18);
    frame.extend_from_slice(text.as_bytes());
    unmask(&mut frame[14..], KEY);
    let mut receiver = Receiver::default();
    let (last, all) = frame.split_last().unwrap();
    for byte in all {
        assert!(matches!(receiver.receive(&mut [*byte], Role::Server, &LIMITS, None), Ok((None, []))));
    }
    assert!(held_by(&receiver) <= text.len());
    assert_eq!(feed(&mut receiver, &[&[*last]], Role::Server, &LIMITS), [Event::Text(text)]);
    assert!(!receiver.is_partial());
}

#[test]
fn hostile_34_malformed_closes_are_refused() {
    assert_eq!(client(b"\x88\x00"), [Event::Close(None, String::new())]);
    assert_eq!(client(b"\x88\x05\x0b\xb8bye"), [Event::Close(Some(3000), "bye".into())]);
    assert_eq!(client(b"\x88\x01\x03"), [protocol_error()]);
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        let [high, low] = u16::to_be_bytes(code);
        assert_eq!(client(&[0x88, 2, high, low]), [protocol_error()], "{code}");
    }
    for code in [1000, 1001, 1003, 1007, 1011, 1012, 1014, 3000, 4999] {
        let [high, low] = u16::to_be_bytes(code);
        assert_eq!(client(&[0x88, 2, high, low]), [Event::Close(Some(code), String::new())]);
    }
    assert_eq!(client(b"\x88\x04\x03\xe8\xc3\x28"), [Event::Failed(1007, FailureKind::Protocol)]);
}

#[test]
fn hostile_35_a_close_inside_a_fragmented_message_is_heard() {
    assert_eq!(client(b"\x01\x01a\x88\x02\x03\xe8"), [Event::Close(Some(1000), String::new())]);
}

#[test]
fn hostile_37_text_fails_at_the_first_impossible_byte_inside_an_unfinished_frame() {
    let invalid = [Event::Failed(1007, FailureKind::Protocol)];
    assert_eq!(client(b"\x81\x7e\x10\0abc\xed\xa0"), invalid);
    assert_eq!(client(b"\x01\x0a\xf4\x90"), invalid);
    assert_eq!(client(b"\x81\x02\xc3\x28"), invalid);
    assert_eq!(client(b"\x81\x01\xc3"), invalid);
    assert_eq!(client(b"\x01\x01\xc3\x80\x00"), invalid);
    let events = client(b"\x01\x01\xe2\x89\x00\x00\x01\x82\x80\x01\xac");
    assert_eq!(events, [Event::Ping(vec![]), Event::Text("€".into())]);
}

#[test]
fn limits_of_zero_are_none() {
    let options = Options { max_message: 0, max_fragments: 0, ..Options::default() };
    let limits = Limits::from(&options);
    assert_eq!((limits.max_message, limits.max_fragments), (u64::MAX, u32::MAX));
    let mut bytes = b"\x02\0".to_vec();
    bytes.extend(b"\0\0".repeat(3000));
    bytes.extend(b"\x80\x01z");
    assert_eq!(with(&bytes, &limits), [Event::Binary(b"z".into())]);
}
