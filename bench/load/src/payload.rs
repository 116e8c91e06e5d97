//! What the messages carry: a number in front of bytes that look random or like JSON, so that every echo can be told
//! from every other, and is made and checked without being stored.

use crate::deflate::{STORED_HEADER, deflate, stored_header};
use crate::frame::{self, BINARY, COMPRESSED, TEXT};
use crate::json;

/// Bytes of the number in front.
const TAG: usize = 8;
/// What is behind the number begins at one of so many places, by the number.
const PLACES: usize = 64;
/// Of a compressed message so much is stored, and the rest is compressed: then messages that differ in their number can
/// share the rest, which is compressed once, before the run. With its header it is as long as masking wants a part.
pub const STORED: usize = TAG + 3;
const _: () = assert!((STORED_HEADER + STORED).is_multiple_of(4));

/// What the messages of a run look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Random bytes.
    Noise,
    /// Random printable ASCII.
    Text,
    /// Text that can be compressed.
    Json,
}

/// All messages of one size and kind, by their number.
pub struct Payloads {
    opcode: u8,
    size: usize,
    bytes: Vec<u8>,
    /// From one place to the next.
    stride: usize,
    /// What is behind the stored part, compressed, for each place; empty without compression.
    packed: Vec<Vec<u8>>,
    seed: u64,
}

impl Payloads {
    pub fn new(size: usize, content: Content, compression: bool) -> Self {
        // Noise is the same everywhere, but text that is to be compressed should not be.
        let stride = if content == Content::Json { 4096 } else { 1 };
        let length = size + PLACES * stride;
        let random = |position| mix(position as u64) as u8;
        let bytes: Vec<u8> = match content {
            Content::Noise => (0..length).map(random).collect(),
            Content::Text => (0..length).map(|at| b' ' + random(at) % 95).collect(),
            Content::Json => json::text(length),
        };
        let places = if compression { PLACES } else { 0 };
        let packed = (0..places).map(|place| deflate(&bytes[place * stride..][STORED..size])).collect();
        let opcode = if content == Content::Noise { BINARY } else { TEXT };
        Self { opcode, size, bytes, stride, packed, seed: seed() }
    }

    pub fn opcode(&self) -> u8 {
        self.opcode
    }

    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether they are compressed where they are sent.
    pub fn is_compressed(&self) -> bool {
        !self.packed.is_empty()
    }

    /// Appends message `number` as a masked frame. Each frame has a key of its own, which is never zero: a mask of
    /// zeros would spare the server its work.
    #[inline]
    pub fn write_frame(&self, number: u64, out: &mut Vec<u8>) {
        let key = (mix(number ^ self.seed) as u32).max(1).to_ne_bytes();
        let tag = tag(number);
        if let Some(packed) = self.packed.get(place(number)) {
            frame::write_header(COMPRESSED | self.opcode, STORED_HEADER + STORED + packed.len(), key, out);
            let (header, rest) = (stored_header(STORED as u16), &self.body(number)[TAG..STORED]);
            frame::write_masked(&[&header[..], &tag, rest].concat(), key, out);
            frame::write_masked(packed, key, out);
            return;
        }
        frame::write_header(self.opcode, self.size, key, out);
        let in_front = self.size.min(TAG);
        frame::write_masked(&tag[..in_front], key, out);
        frame::write_masked(&self.body(number)[in_front..], key, out);
    }

    /// How long each such frame is.
    pub fn frame_length(&self) -> usize {
        let mut frame = Vec::new();
        self.write_frame(0, &mut frame);
        frame.len()
    }

    /// Whether `piece` is what message `number` has from byte `offset` on.
    #[inline]
    pub fn matches(&self, number: u64, offset: usize, piece: &[u8]) -> bool {
        let body = self.body(number);
        if offset + piece.len() > body.len() {
            return false;
        }
        let tag = tag(number);
        let tag = &tag[offset.min(TAG)..self.size.min(TAG).max(offset.min(TAG))];
        let (front, rest) = piece.split_at(tag.len().min(piece.len()));
        front == &tag[..front.len()] && rest == &body[offset + front.len()..][..rest.len()]
    }

    #[inline]
    fn body(&self, number: u64) -> &[u8] {
        &self.bytes[place(number) * self.stride..][..self.size]
    }
}

/// Where a message begins. Clients count alike, each from a number of its own, and should not send the same.
#[inline]
fn place(number: u64) -> usize {
    mix(number) as usize % PLACES
}

/// The lower 48 bits of a number as printable ASCII, lowest first, so that short messages differ too.
#[inline]
fn tag(number: u64) -> [u8; TAG] {
    std::array::from_fn(|at| b'0' + (number >> (6 * at) & 63) as u8)
}

/// SplitMix64: a well-mixed word for each number.
#[inline]
pub fn mix(number: u64) -> u64 {
    let word = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// Other masks in every run.
pub fn seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    mix(since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deflate::Inflater;

    /// The payload of message `number`, out of its frame.
    fn payload(payloads: &Payloads, number: u64) -> Vec<u8> {
        let mut frame = Vec::new();
        payloads.write_frame(number, &mut frame);
        assert_eq!(frame.len(), payloads.frame_length());
        let masked = frame.split_off(frame.len() - payloads.size());
        let key = &frame[frame.len() - 4..];
        assert_ne!(key, [0; 4]);
        masked.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect()
    }

    #[test]
    fn a_message_matches_itself_in_any_pieces() {
        for size in [0, 1, 7, 8, 9, 64, 125, 126, 70_000] {
            let payloads = Payloads::new(size, Content::Noise, false);
            let message = payload(&payloads, 77);
            for step in [1, 5, 8, 4096, size.max(1)] {
                for (at, piece) in message.chunks(step).enumerate() {
                    assert!(payloads.matches(77, at * step, piece), "{size} bytes, {step} at a time");
                }
            }
        }
    }

    #[test]
    fn a_compressed_message_is_what_it_was() {
        let (payloads, plain) = (Payloads::new(4096, Content::Json, true), Payloads::new(4096, Content::Json, false));
        let mut inflater = Inflater::new();
        for number in [0, 1, 77, 5 << 28] {
            let mut frame = Vec::new();
            payloads.write_frame(number, &mut frame);
            assert_eq!(frame[..2], [0xc1, 0xfe]);
            let (key, masked) = frame[4..].split_at(4);
            let message: Vec<u8> = masked.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
            assert!(message.len() < 1500, "{} bytes", message.len());
            assert_eq!(inflater.open(&message, 4096).unwrap(), payload(&plain, number));
            assert!(payloads.matches(number, 0, inflater.open(&message, 4096).unwrap()));
        }
        // Not only their numbers differ.
        assert_ne!(payload(&plain, 0)[TAG..], payload(&plain, 1)[TAG..]);
        assert_ne!(payload(&plain, 0)[TAG..], payload(&plain, 1 << 28)[TAG..]);
    }

    #[test]
    fn a_message_matches_nothing_else() {
        let payloads = Payloads::new(64, Content::Text, false);
        let message = payload(&payloads, 5);
        assert!(message.is_ascii());
        assert!(payloads.matches(5, 0, &message));
        assert!(!payloads.matches(6, 0, &message));
        assert!(!payloads.matches(5 + PLACES as u64, 0, &message));
        assert!(!payloads.matches(5, 1, &message));
        assert!(!payloads.matches(5, 0, &[&message[..], b"x"].concat()));
        for at in 0..message.len() {
            let mut wrong = message.clone();
            wrong[at] ^= 1;
            assert!(!payloads.matches(5, 0, &wrong), "byte {at}");
        }
    }
}
