//! Messages that are there whole, in one frame of up to 64 KiB, as nearly all are: found at a glance, in a quarter of the
//! instructions of [`frame::parse`](super::frame::parse). Anything else, be it wrong, cut or just less common, is none here,
//! and left to [`Receiver`](super::message::Receiver).

use std::mem;

use crate::event::Message;
use crate::protocol::frame::{Role, SHORT_HEADER, SHORT_HEADER_OF_SERVER};
use crate::protocol::unmask::unmask;

/// Lengths of headers whose length is in two bytes of its own, with a mask and without one.
const MEDIUM_HEADER: usize = 8;
const MEDIUM_HEADER_OF_SERVER: usize = 4;

/// Text that is none. Apart from a violation, which has no room in a register: short messages are many.
#[derive(Clone, Copy, Debug)]
pub struct NotUtf8;

/// A message that is there whole, in one frame with a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Masked {
    is_text: bool,
    mask: [u8; 4],
    /// Where the frame ends, within the input.
    end: usize,
}

/// Takes a message of at most 125 bytes off the input, at a server whose receiver is not in the middle of anything, and whose
/// limits [take](super::message::Limits::take_short) every short message.
#[inline(always)]
pub fn receive_short<'b>(input: &mut &'b mut [u8]) -> Option<Result<Message<'b>, NotUtf8>> {
    let frame = parse_short(input)?;
    let (bytes, rest) = mem::take(input).split_at_mut(frame.end);
    *input = rest;
    Some(take_message(bytes, SHORT_HEADER, frame))
}

/// The same at a client.
#[inline(always)]
pub fn receive_short_of_server<'b>(input: &mut &'b mut [u8]) -> Option<Result<Message<'b>, NotUtf8>> {
    let (is_text, end) = parse_short_of_server(input)?;
    let (bytes, rest) = mem::take(input).split_at_mut(end);
    *input = rest;
    Some(unmasked_message(is_text, &bytes[SHORT_HEADER_OF_SERVER..]))
}

/// The same for a message of 126 bytes to 64 KiB, at either of them; and what is left of the input.
#[inline(always)]
pub fn receive_medium(
    input: &mut [u8],
    role: Role,
    max_message: u64,
) -> (Option<Result<Message<'_>, NotUtf8>>, &mut [u8]) {
    match role {
        Role::Server => match parse_medium(input) {
            Some(frame) if (frame.end - MEDIUM_HEADER) as u64 <= max_message => {
                let (bytes, rest) = input.split_at_mut(frame.end);
                (Some(take_message(bytes, MEDIUM_HEADER, frame)), rest)
            }
            _ => (None, input),
        },
        Role::Client => match parse_medium_of_server(input) {
            Some((is_text, end)) if (end - MEDIUM_HEADER_OF_SERVER) as u64 <= max_message => {
                let (bytes, rest) = input.split_at_mut(end);
                (Some(unmasked_message(is_text, &bytes[MEDIUM_HEADER_OF_SERVER..])), rest)
            }
            _ => (None, input),
        },
    }
}

/// The message of a whole frame, whose payload begins at `start`.
#[inline(always)]
fn take_message(bytes: &mut [u8], start: usize, frame: Masked) -> Result<Message<'_>, NotUtf8> {
    let payload = &mut bytes[start..];
    unmask(payload, frame.mask);
    unmasked_message(frame.is_text, payload)
}

#[inline(always)]
fn unmasked_message(is_text: bool, payload: &[u8]) -> Result<Message<'_>, NotUtf8> {
    if is_text { text(payload) } else { Ok(Message::Binary(payload)) }
}

/// A payload as text.
#[inline]
pub(super) fn text(payload: &[u8]) -> Result<Message<'_>, NotUtf8> {
    simdutf8::basic::from_utf8(payload).map(Message::Text).map_err(|_| NotUtf8)
}

/// Whether a frame with this first byte is a message by itself: the last fragment, nothing reserved, text or binary.
#[inline(always)]
fn is_message(first: u8) -> bool {
    first.wrapping_sub(0x81) < 2
}

#[inline]
fn parse_short(input: &[u8]) -> Option<Masked> {
    let (&[first, second, a, b, c, d], after) = input.split_first_chunk::<SHORT_HEADER>()?;
    // One comparison tells that there is a mask and that the length is short.
    let length = usize::from(second ^ 0x80);
    let frame = Masked { is_text: first == 0x81, mask: [a, b, c, d], end: SHORT_HEADER + length };
    (is_message(first) && length < 126 && length <= after.len()).then_some(frame)
}

/// Whether it is text, and where the frame ends.
#[inline]
fn parse_short_of_server(input: &[u8]) -> Option<(bool, usize)> {
    let (&[first, second], after) = input.split_first_chunk::<SHORT_HEADER_OF_SERVER>()?;
    // The bit that tells of a mask makes it a length that is too large.
    let length = usize::from(second);
    (is_message(first) && length < 126 && length <= after.len())
        .then_some((first == 0x81, SHORT_HEADER_OF_SERVER + length))
}

#[inline]
fn parse_medium(input: &[u8]) -> Option<Masked> {
    let (&[first, second, high, low, a, b, c, d], after) = input.split_first_chunk::<MEDIUM_HEADER>()?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let frame = Masked { is_text: first == 0x81, mask: [a, b, c, d], end: MEDIUM_HEADER + length };
    (is_message(first) && second == 0x80 | 126 && length <= after.len()).then_some(frame)
}

/// Whether it is text, and where the frame ends.
#[inline]
fn parse_medium_of_server(input: &[u8]) -> Option<(bool, usize)> {
    let (&[first, second, high, low], after) = input.split_first_chunk::<MEDIUM_HEADER_OF_SERVER>()?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let end = MEDIUM_HEADER_OF_SERVER + length;
    (is_message(first) && second == 126 && length <= after.len()).then_some((first == 0x81, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::{OpCode, append, parse};

    /// Takes a message off the input; how many bytes are left of it, and whether it is text.
    fn take(bytes: &[u8], role: Role, max_message: u64) -> Option<(bool, Vec<u8>, usize)> {
        let mut input = &mut bytes.to_vec()[..];
        let short = match role {
            Role::Server => receive_short(&mut input),
            Role::Client => receive_short_of_server(&mut input),
        };
        let (message, rest) = match short {
            Some(message) => (Some(message), input),
            None => receive_medium(input, role, max_message),
        };
        message.map(|message| match message.unwrap() {
            Message::Text(text) => (true, text.as_bytes().to_vec(), rest.len()),
            Message::Binary(payload) => (false, payload.to_vec(), rest.len()),
        })
    }

    #[test]
    fn a_message_that_is_there_whole_is_found_at_once_and_as_by_the_letter() {
        for (role, mask) in [(Role::Server, Some([1, 2, 3, 4])), (Role::Client, None)] {
            for size in [0, 1, 125, 126, 127, 1000, 0xffff] {
                for opcode in [OpCode::Text, OpCode::Binary] {
                    let mut bytes = Vec::new();
                    let payload = vec![b'a'; size];
                    append(&mut bytes, opcode, true, &payload, mask);
                    let (header, start) = parse(&bytes, role, false).unwrap().unwrap();
                    assert_eq!((header.length, start), (size as u64, bytes.len() - size));
                    bytes.extend(b"behind");
                    let found = take(&bytes, role, size as u64);
                    assert_eq!(found, Some((opcode == OpCode::Text, payload, 6)), "{role:?}, {size}");
                    bytes.truncate(bytes.len() - 7);
                    assert_eq!(take(&bytes, role, u64::MAX), None, "{role:?}, {size}, without its last byte");
                    if size > 125 {
                        bytes.push(0);
                        assert_eq!(take(&bytes, role, size as u64 - 1), None, "{role:?}, {size}, above the limit");
                    }
                }
            }
        }
    }

    #[test]
    fn whatever_else_there_is_is_none_here() {
        // A mask too few or too many, not the last fragment, control, compressed, a continuation, a length in eight bytes.
        let of_client = [b"\x82\x7e", b"\x82\x05", b"\x02\xfe", b"\x89\xfe", b"\xc2\xfe", b"\x80\xfe", b"\x82\xff"];
        let of_server = [b"\x82\xfe", b"\x82\x85", b"\x02\x7e", b"\x89\x7e", b"\xc2\x7e", b"\x80\x7e", b"\x82\x7f"];
        for (role, begins) in [(Role::Server, of_client), (Role::Client, of_server)] {
            for begin in begins {
                let mut bytes = begin.to_vec();
                bytes.resize(100_000, 0);
                assert_eq!(take(&bytes, role, u64::MAX), None, "{role:?}, {begin:x?}");
            }
        }
    }

    #[test]
    fn text_that_is_none_is_told_by_both() {
        assert!(receive_short(&mut &mut b"\x81\x81\0\0\0\0\xff".to_vec()[..]).unwrap().is_err());
        assert!(receive_short_of_server(&mut &mut b"\x81\x01\xff".to_vec()[..]).unwrap().is_err());
    }
}
