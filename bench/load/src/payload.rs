//! What the messages carry: a number in front of bytes that look random, so that every echo can be told from every
//! other, and is made and checked without being stored.

use crate::frame::{self, BINARY, TEXT};

/// Bytes of the number in front.
const TAG: usize = 8;
/// The noise of a message begins at one of so many places, by its number.
const SHIFTS: usize = 64;

/// All messages of one size and kind, by their number.
pub struct Payloads {
    opcode: u8,
    size: usize,
    noise: Vec<u8>,
    seed: u64,
}

impl Payloads {
    pub fn new(size: usize, text: bool) -> Self {
        let random = |position| mix(position as u64) as u8;
        let noise = (0..size + SHIFTS).map(|at| if text { b' ' + random(at) % 95 } else { random(at) }).collect();
        Self { opcode: if text { TEXT } else { BINARY }, size, noise, seed: seed() }
    }

    pub fn opcode(&self) -> u8 {
        self.opcode
    }

    pub fn size(&self) -> usize {
        self.size
    }

    /// Appends message `number` as a masked frame. Each frame has a key of its own, which is never zero: a mask of
    /// zeros would spare the server its work.
    #[inline]
    pub fn write_frame(&self, number: u64, out: &mut Vec<u8>) {
        let key = (mix(number ^ self.seed) as u32).max(1).to_ne_bytes();
        frame::write_header(self.opcode, self.size, key, out);
        let tag = tag(number);
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
        &self.noise[number as usize % SHIFTS..][..self.size]
    }
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
            let payloads = Payloads::new(size, false);
            let message = payload(&payloads, 77);
            for step in [1, 5, 8, 4096, size.max(1)] {
                for (at, piece) in message.chunks(step).enumerate() {
                    assert!(payloads.matches(77, at * step, piece), "{size} bytes, {step} at a time");
                }
            }
        }
    }

    #[test]
    fn a_message_matches_nothing_else() {
        let payloads = Payloads::new(64, true);
        let message = payload(&payloads, 5);
        assert!(message.is_ascii());
        assert!(payloads.matches(5, 0, &message));
        assert!(!payloads.matches(6, 0, &message));
        assert!(!payloads.matches(5 + SHIFTS as u64, 0, &message));
        assert!(!payloads.matches(5, 1, &message));
        assert!(!payloads.matches(5, 0, &[&message[..], b"x"].concat()));
        for at in 0..message.len() {
            let mut wrong = message.clone();
            wrong[at] ^= 1;
            assert!(!payloads.matches(5, 0, &wrong), "byte {at}");
        }
    }
}
