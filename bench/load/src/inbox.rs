//! What a connection waits for, and whether it is what comes.

use crate::Result;
use crate::deflate::Inflater;
use crate::frame::{self, CLOSE, PING, Piece, Reader};
use crate::payload::Payloads;

/// What is shorter than this need not be compressed.
const THRESHOLD: usize = 1024;

/// The messages that one connection has still to get, in order.
#[derive(Default)]
pub struct Inbox {
    reader: Reader,
    /// What has come of a compressed message that did not come at once.
    compressed: Vec<u8>,
    /// The message that comes next, and how much of it has come.
    next: u64,
    offset: usize,
    /// The one behind the last.
    end: u64,
    /// Pongs that are due.
    pub replies: Vec<u8>,
}

impl Inbox {
    pub fn new(payloads: &Payloads) -> Self {
        Self { reader: Reader::new(payloads.is_compressed()), ..Self::default() }
    }

    /// Waits for messages `first` to `end`, the latter excluded.
    #[inline]
    pub fn expect(&mut self, first: u64, end: u64) {
        (self.next, self.end) = (first, end);
    }

    /// Whether all has come.
    #[inline]
    pub fn is_complete(&self) -> bool {
        self.next == self.end
    }

    /// Checks what has arrived; how many messages ended in it.
    #[inline]
    pub fn take(&mut self, mut input: &[u8], payloads: &Payloads, inflater: &mut Inflater) -> Result<u64> {
        let first = self.next;
        while let Some(piece) = self.reader.next(&mut input)? {
            match piece {
                Piece::Data { opcode, compressed, bytes, ends } => {
                    if self.is_complete() {
                        return Err("the server sent a message that nobody asked for".into());
                    }
                    if compressed {
                        self.take_compressed(opcode, bytes, ends, payloads, inflater)?;
                    } else {
                        self.take_bytes(opcode, bytes, ends, payloads)?;
                    }
                }
                Piece::Control { opcode: PING, payload } => {
                    frame::write_control(frame::PONG, &payload, [1, 2, 3, 4], &mut self.replies);
                }
                Piece::Control { opcode: CLOSE, payload } => return Err(describe_close(&payload)),
                Piece::Control { .. } => {}
            }
        }
        Ok(self.next - first)
    }

    #[inline]
    fn take_bytes(&mut self, opcode: u8, bytes: &[u8], ends: bool, payloads: &Payloads) -> Result<()> {
        if opcode != payloads.opcode() || !payloads.matches(self.next, self.offset, bytes) {
            return Err(format!("message {:#x} came back changed, or out of order", self.next));
        }
        self.offset += bytes.len();
        if ends {
            if self.offset != payloads.size() {
                return Err(format!("message {:#x} came back with {} bytes", self.next, self.offset));
            }
            if payloads.is_compressed() && self.offset >= THRESHOLD {
                return Err(format!("message {:#x} came back uncompressed", self.next));
            }
            self.next += 1;
            self.offset = 0;
        }
        Ok(())
    }

    fn take_compressed(
        &mut self,
        opcode: u8,
        bytes: &[u8],
        ends: bool,
        payloads: &Payloads,
        inflater: &mut Inflater,
    ) -> Result<()> {
        if !ends || !self.compressed.is_empty() {
            self.compressed.extend_from_slice(bytes);
        }
        if !ends {
            return Ok(());
        }
        let message = if self.compressed.is_empty() { bytes } else { &self.compressed };
        let payload = inflater.open(message, payloads.size())?;
        if opcode != payloads.opcode() || !payloads.matches(self.next, 0, payload) {
            return Err(format!("message {:#x} came back changed, or out of order", self.next));
        }
        self.compressed.clear();
        self.next += 1;
        Ok(())
    }

    /// The same for a raw server, from which the frames in `sent` come as they were sent.
    #[inline]
    pub fn take_raw(&mut self, input: &[u8], sent: &[u8], frame_length: usize) -> Result<u64> {
        if sent.get(self.offset..self.offset + input.len()) != Some(input) || self.is_complete() {
            return Err("bytes came back changed, or out of order".into());
        }
        let ended = (self.offset + input.len()) / frame_length - self.offset / frame_length;
        self.offset += input.len();
        self.next += ended as u64;
        if self.is_complete() {
            self.offset = 0;
        }
        Ok(ended as u64)
    }
}

/// The code and the reason of a Close frame; 1005 stands for none (RFC 6455 section 7.1.5).
pub fn close_of(payload: &[u8]) -> (u16, String) {
    match payload.split_first_chunk() {
        Some((code, reason)) => (u16::from_be_bytes(*code), String::from_utf8_lossy(reason).into_owned()),
        None => (1005, String::new()),
    }
}

fn describe_close(payload: &[u8]) -> String {
    let (code, reason) = close_of(payload);
    format!("the server closed a connection with code {code} and reason '{reason}'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deflate::deflate;
    use crate::json;
    use crate::payload::Content;

    /// An unmasked server's frame with the payload of a message.
    fn echoed(payloads: &Payloads, number: u64) -> Vec<u8> {
        let mut frame = Vec::new();
        payloads.write_frame(number, &mut frame);
        let header = if frame[1] == 0xfe { 4 } else { 2 };
        let masked = frame.split_off(header + 4);
        let key = frame.split_off(header);
        frame[1] &= 0x7f;
        frame.extend(masked.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        frame
    }

    #[test]
    fn echoes_are_counted_however_they_are_cut() {
        let payloads = Payloads::new(100, Content::Noise, false);
        let input = [echoed(&payloads, 7), vec![0x89, 1, b'x'], echoed(&payloads, 8)].concat();
        let mut inflater = Inflater::new();
        for step in [1, 2, 50, input.len()] {
            let mut inbox = Inbox::default();
            inbox.expect(7, 9);
            let taken: u64 = input.chunks(step).map(|part| inbox.take(part, &payloads, &mut inflater).unwrap()).sum();
            assert_eq!(taken, 2);
            assert!(inbox.is_complete());
            assert_eq!(inbox.replies[..2], [0x8a, 0x81]);
        }
    }

    #[test]
    fn compressed_echoes_are_opened_however_they_are_cut() {
        let payloads = Payloads::new(2000, Content::Json, true);
        // In two fragments, with a ping between them, and at once.
        let mut fragments = echoed(&payloads, 7);
        let rest = fragments.split_off(4 + 100);
        fragments[0] &= 0x7f;
        fragments[2..4].copy_from_slice(&100u16.to_be_bytes());
        fragments.extend_from_slice(&[0x89, 0, 0x80, 126]);
        fragments.extend_from_slice(&(rest.len() as u16).to_be_bytes());
        let input = [fragments, rest, echoed(&payloads, 8)].concat();
        for step in [1, 2, 50, input.len()] {
            let (mut inbox, mut inflater) = (Inbox::new(&payloads), Inflater::new());
            inbox.expect(7, 9);
            let taken: u64 = input.chunks(step).map(|part| inbox.take(part, &payloads, &mut inflater).unwrap()).sum();
            assert_eq!(taken, 2, "{step} bytes at a time");
            assert!(inbox.is_complete());
        }
    }

    #[test]
    fn the_wrong_compressed_message_is_an_error() {
        let payloads = Payloads::new(2000, Content::Json, true);
        let other = deflate(&json::text(2000));
        let mut wrong = vec![0xc1, 126];
        wrong.extend_from_slice(&(other.len() as u16).to_be_bytes());
        wrong.extend_from_slice(&other);
        let uncompressed = echoed(&Payloads::new(2000, Content::Json, false), 7);
        for (input, error) in [(echoed(&payloads, 8), "0x7"), (wrong, "changed"), (uncompressed, "uncompressed")] {
            let mut inbox = Inbox::new(&payloads);
            inbox.expect(7, 9);
            let refused = inbox.take(&input, &payloads, &mut Inflater::new()).unwrap_err();
            assert!(refused.contains(error), "{refused}");
        }
    }

    #[test]
    fn the_wrong_message_is_an_error() {
        let payloads = Payloads::new(100, Content::Noise, false);
        let (mut inbox, mut inflater) = (Inbox::default(), Inflater::new());
        inbox.expect(7, 9);
        assert!(inbox.take(&echoed(&payloads, 8), &payloads, &mut inflater).unwrap_err().contains("0x7"));
        let mut inbox = Inbox::default();
        assert!(inbox.take(&echoed(&payloads, 0), &payloads, &mut inflater).unwrap_err().contains("nobody"));
        inbox.expect(0, 1);
        let text = Payloads::new(100, Content::Text, false);
        assert!(inbox.take(&echoed(&text, 0), &payloads, &mut inflater).is_err());
        let mut inbox = Inbox::default();
        inbox.expect(0, 1);
        assert!(inbox.take(&[0x82, 0], &payloads, &mut inflater).unwrap_err().contains("0 bytes"));
        let close = [&[0x88, 6, 0x03, 0xf5][..], b"slow"].concat();
        assert!(
            Inbox::default().take(&close, &payloads, &mut inflater).unwrap_err().contains("1013 and reason 'slow'")
        );
    }

    #[test]
    fn raw_bytes_are_counted_by_length() {
        let payloads = Payloads::new(10, Content::Noise, false);
        let mut sent = Vec::new();
        (3..6).for_each(|number| payloads.write_frame(number, &mut sent));
        let mut inbox = Inbox::default();
        inbox.expect(3, 6);
        let length = payloads.frame_length();
        assert_eq!(inbox.take_raw(&sent[..length + 1], &sent, length).unwrap(), 1);
        assert!(inbox.take_raw(&sent[..1], &sent, length).is_err());
        assert_eq!(inbox.take_raw(&sent[length + 1..], &sent, length).unwrap(), 2);
        assert!(inbox.is_complete());
    }
}
