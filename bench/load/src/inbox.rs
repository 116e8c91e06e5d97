//! What a connection waits for, and whether it is what comes.

use crate::Result;
use crate::frame::{self, CLOSE, PING, Piece, Reader};
use crate::payload::Payloads;

/// The messages that one connection has still to get, in order.
#[derive(Default)]
pub struct Inbox {
    reader: Reader,
    /// The message that comes next, and how much of it has come.
    next: u64,
    offset: usize,
    /// The one behind the last.
    end: u64,
    /// Pongs that are due.
    pub replies: Vec<u8>,
}

impl Inbox {
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
    pub fn take(&mut self, mut input: &[u8], payloads: &Payloads) -> Result<u64> {
        let first = self.next;
        while let Some(piece) = self.reader.next(&mut input)? {
            match piece {
                Piece::Data { opcode, bytes, ends } => {
                    if self.is_complete() {
                        return Err("the server sent a message that nobody asked for".into());
                    }
                    if opcode != payloads.opcode() || !payloads.matches(self.next, self.offset, bytes) {
                        return Err(format!("message {:#x} came back changed, or out of order", self.next));
                    }
                    self.offset += bytes.len();
                    if ends {
                        if self.offset != payloads.size() {
                            return Err(format!("message {:#x} came back with {} bytes", self.next, self.offset));
                        }
                        self.next += 1;
                        self.offset = 0;
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

    /// An unmasked server's frame with the payload of a message.
    fn echoed(payloads: &Payloads, number: u64) -> Vec<u8> {
        let mut frame = Vec::new();
        payloads.write_frame(number, &mut frame);
        let masked = frame.split_off(6);
        let key = frame.split_off(2);
        frame[1] &= 0x7f;
        frame.extend(masked.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        frame
    }

    #[test]
    fn echoes_are_counted_however_they_are_cut() {
        let payloads = Payloads::new(100, false);
        let input = [echoed(&payloads, 7), vec![0x89, 1, b'x'], echoed(&payloads, 8)].concat();
        for step in [1, 2, 50, input.len()] {
            let mut inbox = Inbox::default();
            inbox.expect(7, 9);
            let taken: u64 = input.chunks(step).map(|part| inbox.take(part, &payloads).unwrap()).sum();
            assert_eq!(taken, 2);
            assert!(inbox.is_complete());
            assert_eq!(inbox.replies[..2], [0x8a, 0x81]);
        }
    }

    #[test]
    fn the_wrong_message_is_an_error() {
        let payloads = Payloads::new(100, false);
        let mut inbox = Inbox::default();
        inbox.expect(7, 9);
        assert!(inbox.take(&echoed(&payloads, 8), &payloads).unwrap_err().contains("0x7"));
        let mut inbox = Inbox::default();
        assert!(inbox.take(&echoed(&payloads, 0), &payloads).unwrap_err().contains("nobody"));
        inbox.expect(0, 1);
        let text = Payloads::new(100, true);
        assert!(inbox.take(&echoed(&text, 0), &payloads).is_err());
        let mut inbox = Inbox::default();
        inbox.expect(0, 1);
        assert!(inbox.take(&[0x82, 0], &payloads).unwrap_err().contains("0 bytes"));
        let close = [&[0x88, 6, 0x03, 0xf5][..], b"slow"].concat();
        assert!(Inbox::default().take(&close, &payloads).unwrap_err().contains("1013 and reason 'slow'"));
    }

    #[test]
    fn raw_bytes_are_counted_by_length() {
        let payloads = Payloads::new(10, false);
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
