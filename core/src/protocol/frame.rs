//! Frame headers: parsing, checking and writing (RFC 6455 section 5.2).
//!
//! Tungstenite's `FrameHeader` would do, but reads through a `Cursor`, and costs more of the few hundred instructions
//! that a small message takes altogether; so this is our own. A header that does not end is not an error, a header
//! that is wrong is one as soon as its first byte shows it.

use crate::close;
use crate::config::MAX_CONTROL_PAYLOAD;
use crate::protocol::message::Violation;
use crate::protocol::unmask::unmask;

/// What a frame carries (RFC 6455 section 11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OpCode {
    /// A further fragment of the message begun before.
    Continuation = 0,
    /// Text, or its first fragment.
    Text = 1,
    /// Any bytes, or their first fragment.
    Binary = 2,
    /// The closing handshake.
    Close = 8,
    /// To be answered by a pong.
    Ping = 9,
    /// The answer to a ping, or a heartbeat without one.
    Pong = 10,
}

impl OpCode {
    /// Whether this is a control frame: at most 125 bytes, never fragmented, allowed between fragments.
    #[inline]
    pub fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Masks what it sends.
    Client,
    /// Requires masks.
    Server,
}

/// The first reserved bit of a frame's first byte: the message is compressed (RFC 7692 section 6).
const COMPRESSED: u8 = 0x40;

/// Length of the longest header: two bytes, a 64-bit length, a mask.
pub const MAX_HEADER: usize = 14;

/// A frame's header, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The last frame of its message.
    pub fin: bool,
    /// What the frame carries.
    pub opcode: OpCode,
    /// It begins a message that is compressed (RFC 7692 section 6).
    pub compressed: bool,
    /// The key, in frames from a client.
    pub mask: Option<[u8; 4]>,
    /// Bytes of payload that follow; below 2^63.
    pub length: u64,
}

/// Reads the header at the begin of `input`, and how long it is; `None` where it does not end there.
///
/// `role` is ours: a server requires masks, a client forbids them. `deflates` permits messages that are compressed. A
/// length that is not written in the shortest way is taken, as most implementations do, though RFC 6455 section 5.2 asks
/// senders for the shortest.
#[inline]
pub fn parse(input: &[u8], role: Role, deflates: bool) -> Result<Option<(FrameHeader, usize)>, Violation> {
    let [first, second, rest @ ..] = input else {
        // One byte shows reserved bits and opcodes already.
        return match input.first() {
            Some(&first) if kind_of(first, deflates).is_none() || is_fragmented_control(first) => {
                Err(explain(first, None, role, deflates))
            }
            _ => Ok(None),
        };
    };
    let (first, second) = (*first, *second);
    let is_masked = second & 0x80 != 0;
    let short = second & 0x7f;
    let Some((opcode, compressed)) = kind_of(first, deflates) else {
        return Err(explain(first, Some(second), role, deflates));
    };
    let fin = first & 0x80 != 0;
    if is_masked != (role == Role::Server) || (opcode.is_control() && (!fin || short > 125)) {
        return Err(explain(first, Some(second), role, deflates));
    }
    let (length, after, start) = match short {
        126 => {
            let Some((bytes, after)) = rest.split_first_chunk() else { return Ok(None) };
            (u64::from(u16::from_be_bytes(*bytes)), after, 4)
        }
        127 => {
            let Some((bytes, after)) = rest.split_first_chunk() else {
                // The top bit must be clear (RFC 6455 section 5.2); the first byte of the length shows it.
                return if rest.first().is_some_and(|&byte| byte & 0x80 != 0) { Err(top_bit()) } else { Ok(None) };
            };
            let length = u64::from_be_bytes(*bytes);
            if length >> 63 != 0 {
                return Err(top_bit());
            }
            (length, after, 10)
        }
        _ => (u64::from(short), rest, 2),
    };
    if role == Role::Client {
        return Ok(Some((FrameHeader { fin, opcode, compressed, mask: None, length }, start)));
    }
    match after.first_chunk() {
        Some(mask) => Ok(Some((FrameHeader { fin, opcode, compressed, mask: Some(*mask), length }, start + 4))),
        None => Ok(None),
    }
}

/// Length of the header of a frame with a mask whose length fits into its second byte.
pub(crate) const SHORT_HEADER: usize = 6;

/// The same of a server's frame, which has no mask.
pub(crate) const SHORT_HEADER_OF_SERVER: usize = 2;

/// The opcode of a first byte without reserved bits; `None` for any other.
#[inline]
fn opcode_of(first: u8) -> Option<OpCode> {
    match first & 0x7f {
        0 => Some(OpCode::Continuation),
        1 => Some(OpCode::Text),
        2 => Some(OpCode::Binary),
        8 => Some(OpCode::Close),
        9 => Some(OpCode::Ping),
        10 => Some(OpCode::Pong),
        _ => None,
    }
}

/// The same, and whether a compressed message begins: the first reserved bit says so (RFC 7692 section 6), in the first
/// frame of a message only, and where that was agreed on.
#[inline]
fn kind_of(first: u8, deflates: bool) -> Option<(OpCode, bool)> {
    match opcode_of(first) {
        Some(opcode) => Some((opcode, false)),
        None if !deflates || first & COMPRESSED == 0 => None,
        None => match opcode_of(first & !COMPRESSED) {
            Some(opcode @ (OpCode::Text | OpCode::Binary)) => Some((opcode, true)),
            _ => None,
        },
    }
}

#[inline]
fn is_fragmented_control(first: u8) -> bool {
    first & 0x88 == 0x08
}

/// What is wrong with the first one or two bytes of a header.
#[cold]
#[inline(never)]
fn explain(first: u8, second: Option<u8>, role: Role, deflates: bool) -> Violation {
    let is_masked = second.is_some_and(|second| second & 0x80 != 0);
    match first & 0x70 {
        COMPRESSED if deflates && kind_of(first, deflates).is_some() => {}
        COMPRESSED if deflates => {
            return violation("RSV1, which says compressed, is set in a frame that begins no message");
        }
        0 => {}
        bits => {
            return violation(format!(
                "reserved bits {bits:#04x} are set in a frame, and no extension that was agreed on has them"
            ));
        }
    }
    match opcode_of(first & !COMPRESSED) {
        None => violation(format!("a frame has the reserved opcode {}", first & 0x0f)),
        Some(_) if is_fragmented_control(first) => violation("a control frame is fragmented"),
        Some(_) if role == Role::Server && !is_masked => violation("a frame from a client is not masked"),
        Some(_) if role == Role::Client && is_masked => violation("a frame from a server is masked"),
        Some(_) => violation(format!("a control frame has more than {MAX_CONTROL_PAYLOAD} bytes of payload")),
    }
}

#[cold]
#[inline(never)]
fn top_bit() -> Violation {
    violation("the top bit of a frame's 64-bit length is set")
}

fn violation(message: impl Into<std::borrow::Cow<'static, str>>) -> Violation {
    Violation::protocol(close::PROTOCOL_ERROR, message)
}

/// Whether the last of these bytes look like a whole Close from the peer. For where frames are not followed any more, so
/// it may be a payload that happens to look so.
pub fn ends_with_close(bytes: &[u8], role: Role) -> bool {
    let (mask_bit, header) = if role == Role::Server { (0x80, SHORT_HEADER) } else { (0, SHORT_HEADER_OF_SERVER) };
    (0..=MAX_CONTROL_PAYLOAD).any(|length| {
        let begin = bytes.len().checked_sub(header + length);
        let frame = begin.map(|begin| &bytes[begin..]).filter(|end| end.starts_with(&[0x88, mask_bit | length as u8]));
        frame.is_some_and(|frame| match (&frame[2..header], &frame[header..]) {
            // By chance a payload looks like a header now and then, and hardly ever like a code behind it as well.
            (&[a, b, ..], &[x, y, ..]) => close::is_valid(u16::from_be_bytes([a ^ x, b ^ y])),
            (_, &[x, y, ..]) => close::is_valid(u16::from_be_bytes([x, y])),
            (_, payload) => payload.is_empty(),
        })
    })
}

/// Most bytes of a Close.
pub const MAX_CLOSE: usize = SHORT_HEADER + MAX_CONTROL_PAYLOAD;

/// The last of these bytes, as many as a Close has at most.
pub fn last_of(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.len().saturating_sub(MAX_CLOSE)..]
}

/// Whether these bytes, of which the first begins a frame, begin with a Close, be it malformed.
pub fn begins_with_close(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| first & 0x0f == OpCode::Close as u8)
}

/// Writes a header into an array, for a vectored write, and returns the array and how much of it is used.
pub fn encode_header(opcode: OpCode, fin: bool, length: usize, mask: Option<[u8; 4]>) -> ([u8; MAX_HEADER], usize) {
    let mut header = [0; MAX_HEADER];
    let mask_bit = if mask.is_some() { 0x80 } else { 0 };
    header[0] = opcode as u8 | if fin { 0x80 } else { 0 };
    let mut end = match length {
        0..=125 => {
            header[1] = length as u8 | mask_bit;
            2
        }
        126..=0xffff => {
            header[1] = 126 | mask_bit;
            header[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            4
        }
        _ => {
            header[1] = 127 | mask_bit;
            header[2..10].copy_from_slice(&(length as u64).to_be_bytes());
            10
        }
    };
    if let Some(key) = mask {
        header[end..end + 4].copy_from_slice(&key);
        end += 4;
    }
    (header, end)
}

/// Appends a whole frame to `out`, masking the copy where there is a `mask`.
#[inline]
pub fn append(out: &mut Vec<u8>, opcode: OpCode, fin: bool, payload: &[u8], mask: Option<[u8; 4]>) {
    match mask {
        // The short frames of a server are written here: an array of a fixed size, where a slice of `encode_header`'s
        // would be a call of memcpy.
        None if payload.len() < 126 => {
            out.extend_from_slice(&[opcode as u8 | if fin { 0x80 } else { 0 }, payload.len() as u8]);
            out.extend_from_slice(payload);
        }
        _ => append_any(out, opcode, fin, payload, mask),
    }
}

#[inline(never)]
fn append_any(out: &mut Vec<u8>, opcode: OpCode, fin: bool, payload: &[u8], mask: Option<[u8; 4]>) {
    let (header, end) = encode_header(opcode, fin, payload.len(), mask);
    out.reserve(end + payload.len());
    out.extend_from_slice(&header[..end]);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = mask {
        unmask(&mut out[start..], key);
    }
}

/// Appends a whole message whose payload is compressed.
pub fn append_compressed(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8], mask: Option<[u8; 4]>) {
    append_fragment(out, opcode, true, true, payload, mask);
}

/// Appends a frame of a message; `compressed` is for the first one of a message that is compressed.
pub fn append_fragment(
    out: &mut Vec<u8>,
    opcode: OpCode,
    fin: bool,
    compressed: bool,
    payload: &[u8],
    mask: Option<[u8; 4]>,
) {
    let start = out.len();
    append(out, opcode, fin, payload, mask);
    if compressed {
        out[start] |= COMPRESSED;
    }
}

/// Frames of our own that are there whole: each one's header, how long that is, and the frame. `role` is that of their
/// receiver.
pub fn whole_frames(mut frames: &[u8], role: Role) -> impl Iterator<Item = (FrameHeader, usize, &[u8])> {
    std::iter::from_fn(move || {
        let (header, start) = parse(frames, role, true).ok()??;
        let (frame, rest) = frames.split_at_checked(start + header.length as usize)?;
        frames = rest;
        Some((header, start, frame))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(input: &[u8], role: Role) -> String {
        let violation = parse(input, role, false).expect_err("must be refused");
        assert_eq!(violation.code, 1002);
        violation.failure.message.into_owned()
    }

    #[test]
    fn the_examples_of_rfc_6455_section_5_7_are_read() {
        let (header, start) =
            parse(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", Role::Server, false).unwrap().unwrap();
        let mask = Some([0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(header, FrameHeader { fin: true, opcode: OpCode::Text, compressed: false, mask, length: 5 });
        assert_eq!(start, 6);
        let (header, start) = parse(b"\x01\x03Hel", Role::Client, false).unwrap().unwrap();
        assert_eq!((header.fin, header.opcode, header.length, start), (false, OpCode::Text, 3, 2));
        let (header, start) = parse(b"\x82\x7e\x01\x00", Role::Client, false).unwrap().unwrap();
        assert_eq!((header.opcode, header.length, start), (OpCode::Binary, 256, 4));
        let (header, start) = parse(b"\x82\x7f\0\0\0\0\0\x01\0\0", Role::Client, false).unwrap().unwrap();
        assert_eq!((header.length, start), (65536, 10));
    }

    #[test]
    fn a_header_that_does_not_end_is_no_error_at_any_cut() {
        for header in
            [&b"\x81\x85\x01\x02\x03\x04"[..], b"\x82\xfe\x01\0\x01\x02\x03\x04", b"\x82\xff\0\0\0\0\0\x01\0\0abcd"]
        {
            for cut in 0..header.len() {
                assert_eq!(parse(&header[..cut], Role::Server, false).unwrap(), None);
            }
            assert_eq!(parse(header, Role::Server, false).unwrap().unwrap().1, header.len());
        }
    }

    #[test]
    fn what_is_encoded_is_parsed_again() {
        for length in [0, 1, 125, 126, 127, 65535, 65536, 1 << 20] {
            for (mask, role) in [(None, Role::Client), (Some([1, 2, 3, 4]), Role::Server)] {
                let (header, end) = encode_header(OpCode::Binary, false, length, mask);
                let (parsed, start) = parse(&header[..end], role, false).unwrap().unwrap();
                assert_eq!(
                    parsed,
                    FrameHeader { fin: false, opcode: OpCode::Binary, compressed: false, mask, length: length as u64 }
                );
                assert_eq!(start, end);
                let payload = vec![b'x'; length];
                let mut frame = b"before".to_vec();
                append(&mut frame, OpCode::Binary, false, &payload, mask);
                assert_eq!(&frame[6..6 + end], &header[..end]);
                if let Some(key) = mask {
                    unmask(&mut frame[6 + end..], key);
                }
                assert_eq!(&frame[6 + end..], payload);
            }
        }
    }

    #[test]
    fn hostile_20_a_length_with_the_top_bit_is_refused_at_its_first_byte() {
        assert!(message(b"\x82\xff\x80", Role::Server).contains("top bit"));
        assert!(message(b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff", Role::Server).contains("top bit"));
        assert!(message(b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", Role::Server).contains("top bit"));
    }

    #[test]
    fn hostile_28_reserved_bits_are_refused_at_the_first_byte() {
        for first in [0xc1, 0xa1, 0x91, 0xc0, 0xc9, 0xb8, 0xf2] {
            assert!(message(&[first], Role::Server).contains("reserved bits"));
            assert!(message(&[first, 0x80, 0, 0, 0, 0], Role::Server).contains("reserved bits"));
        }
    }

    #[test]
    fn hostile_28_rsv1_begins_a_compressed_message_where_that_was_agreed_on_and_nothing_else() {
        for (first, opcode) in [(0xc1, OpCode::Text), (0xc2, OpCode::Binary), (0x41, OpCode::Text)] {
            let (header, _) = parse(&[first, 0], Role::Client, true).unwrap().unwrap();
            assert_eq!((header.opcode, header.compressed, header.fin), (opcode, true, first & 0x80 != 0));
            assert!(parse(&[first], Role::Client, true).unwrap().is_none());
        }
        assert!(!parse(b"\x81\x00", Role::Client, true).unwrap().unwrap().0.compressed);
        for first in [0xc0, 0x40, 0xc8, 0xc9, 0xca, 0xc3, 0xcb] {
            for bytes in [&[first][..], &[first, 0]] {
                assert!(parse(bytes, Role::Client, true).unwrap_err().failure.message.contains("RSV1"), "{first:x}");
            }
        }
        for first in [0xa1, 0x91, 0xe1, 0xd2, 0xf1] {
            assert!(
                parse(&[first, 0], Role::Client, true).unwrap_err().failure.message.contains("reserved bits"),
                "{first:x}"
            );
        }
        assert!(parse(b"\xc1\x80", Role::Client, true).unwrap_err().failure.message.contains("is masked"));
    }

    #[test]
    fn whole_frames_are_walked() {
        let mut out = Vec::new();
        append(&mut out, OpCode::Text, true, b"abc", None);
        append_compressed(&mut out, OpCode::Binary, &[7; 300], None);
        append(&mut out, OpCode::Ping, true, b"", None);
        let end = out.len();
        out.extend(b"\x82\x05cut");
        let found: Vec<_> = whole_frames(&out, Role::Client).collect();
        let kinds: Vec<_> = found.iter().map(|(header, ..)| (header.opcode, header.compressed)).collect();
        assert_eq!(kinds, [(OpCode::Text, false), (OpCode::Binary, true), (OpCode::Ping, false)]);
        assert_eq!(found[1].2[found[1].1..], [7; 300]);
        assert_eq!(found.iter().map(|(.., frame)| frame.len()).sum::<usize>(), end);
    }

    #[test]
    fn a_close_is_seen_at_the_end_of_what_is_not_followed() {
        // 1000, masked; and what would be 37,514.
        assert!(ends_with_close(b"\x88\x82abcd\x62\x8a", Role::Server));
        assert!(!ends_with_close(b"\x88\x82abcd\xf3\xe8", Role::Server));
        assert!(ends_with_close(b"rest of a payload\x88\x80abcd", Role::Server));
        assert!(ends_with_close(b"\x88\x02\x03\xe8", Role::Client));
        assert!(!ends_with_close(b"\x88\x02\x03\xe8", Role::Server));
        assert!(!ends_with_close(b"\x88\x82abcd\x62\x8a and more", Role::Server));
        assert!(!ends_with_close(b"\x88", Role::Client) && !ends_with_close(b"", Role::Server));
        assert!(begins_with_close(b"\x88\xfe\0\x7e") && !begins_with_close(b"\x82") && !begins_with_close(b""));
    }

    #[test]
    fn reserved_opcodes_are_refused_at_the_first_byte() {
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            assert!(message(&[0x80 | opcode], Role::Client).contains("reserved opcode"));
            assert!(message(&[opcode, 0], Role::Client).contains("reserved opcode"));
        }
    }

    #[test]
    fn hostile_31_an_unmasked_frame_from_a_client_and_a_masked_one_from_a_server_are_refused() {
        assert!(message(b"\x81\x05", Role::Server).contains("not masked"));
        assert!(message(b"\x88\x80", Role::Client).contains("is masked"));
    }

    #[test]
    fn hostile_34_fragmented_and_long_control_frames_are_refused() {
        assert!(message(b"\x09", Role::Client).contains("fragmented"));
        assert!(message(b"\x09\x00", Role::Client).contains("fragmented"));
        assert!(message(b"\x89\x7e", Role::Client).contains("125"));
        assert!(message(b"\x88\xff", Role::Server).contains("125"));
        assert!(parse(b"\x89\x7d", Role::Client, false).is_ok());
    }

    #[test]
    fn a_length_that_is_not_the_shortest_is_taken() {
        assert_eq!(parse(b"\x82\x7e\0\x05", Role::Client, false).unwrap().unwrap().0.length, 5);
        assert_eq!(parse(b"\x82\x7f\0\0\0\0\0\0\0\x05", Role::Client, false).unwrap().unwrap().0.length, 5);
    }
}
