//! permessage-deflate (RFC 7692): what is agreed on, and payloads compressed and inflated within their limits.
//!
//! ```text
//! negotiation   offers and answers of the opening handshake
//! codec         DEFLATE itself
//! ```
//!
//! Where contexts are not kept, compressors and inflaters belong to nobody between messages: [`Compressors`] and
//! [`Inflaters`] keep some for all connections of a loop.

use std::mem::take;

use crate::protocol::frame::{self, Role};

mod codec;
mod negotiation;

use codec::Step;
pub use codec::{Compressor, Inflater, Malformed};
pub use negotiation::{Agreement, accept, check, check_answer, offer};

/// What a sender leaves away of a message, and a receiver adds: the end of an empty block (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// An empty block that says it is the last one, with three bits of header: it ends a stream between two blocks only.
const LAST_BLOCK: [u8; 2] = [3, 0];
/// An empty block that changes nothing between two blocks, and hardly anywhere else.
const EMPTY_BLOCK: [u8; 5] = [0, 0, 0, 0xff, 0xff];

/// How many inflaters a loop keeps for its connections.
const MAX_INFLATERS: usize = 8;
/// How many compressors: one for each level and window in use.
const MAX_COMPRESSORS: usize = 8;
/// A buffer that has grown beyond this is not kept.
const MAX_KEPT: usize = 256 * 1024;
/// Most room made at once.
const MAX_STEP: usize = 64 * 1024;

/// Why a payload cannot be inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InflateError {
    /// It is no DEFLATE data.
    Malformed,
    /// It has more than the limit allows.
    TooBig,
}

impl From<Malformed> for InflateError {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

impl Inflater {
    /// Inflates all of `input` behind what `out` holds, which may become `most` bytes in all. Memory grows with what
    /// comes out, and stops at the limit.
    ///
    /// # Errors
    /// As soon as there is one byte more, or the data are malformed.
    pub fn inflate_all(&mut self, mut input: &[u8], out: &mut Vec<u8>, most: usize) -> Result<(), InflateError> {
        let mut step = input.len().saturating_mul(4).saturating_add(64);
        // Bytes that are there; the rest of `out` is room.
        let mut held = out.len();
        let done = loop {
            // One byte beyond the limit would show that there is more.
            let mut beyond = [0];
            let room = if held == most {
                &mut beyond[..]
            } else {
                // What a step leaves is the next one's: one that ends with its stream may have used nothing of it.
                if out.len() == held {
                    let size = step.min(MAX_STEP).min(most - held);
                    if out.capacity() - held < size {
                        out.reserve_exact(size.max(held).min(most - held));
                    }
                    out.resize(held + size, 0);
                    step = step.saturating_mul(2);
                }
                &mut out[held..]
            };
            let size = room.len();
            let Step { used, filled } = match self.inflate(input, room) {
                Ok(done) => done,
                Err(malformed) => break Err(malformed.into()),
            };
            if held < most {
                held += filled;
            } else if filled > 0 {
                break Err(InflateError::TooBig);
            }
            input = &input[used..];
            // Input that is used up says nothing: more may come out of it, unless room is left.
            if filled < size {
                if input.is_empty() {
                    break Ok(());
                }
                if used == 0 && filled == 0 {
                    break Err(InflateError::Malformed);
                }
            }
        };
        out.truncate(held);
        done
    }

    /// The end of a message that was not empty: what the sender left away is added, and nothing more may come of it. The
    /// data must end between two blocks (RFC 7692 section 7.2.1): what was cut elsewhere is no message. That is certain
    /// where the context is not kept. Where it is, the stream must go on, and what is cut where a block describes its codes
    /// is not told from the end of the block before.
    pub fn finish_message(&mut self, keeps_context: bool) -> Result<(), Malformed> {
        if self.is_at_start() {
            // The last block said so itself (RFC 7692 section 7.2.3.5).
            return Ok(());
        }
        self.take_end(&TAIL)?;
        if keeps_context {
            return self.take_end(&EMPTY_BLOCK);
        }
        self.take_end(&LAST_BLOCK)?;
        if self.is_at_start() { Ok(()) } else { Err(Malformed) }
    }

    fn take_end(&mut self, end: &[u8]) -> Result<(), Malformed> {
        let step = self.inflate(end, &mut [0])?;
        if step.used == end.len() && step.filled == 0 { Ok(()) } else { Err(Malformed) }
    }
}

/// The inflaters of a loop, and a buffer to inflate into.
#[derive(Debug, Default)]
pub struct Inflaters {
    ready: Vec<Inflater>,
    spare: Vec<u8>,
}

impl Inflaters {
    /// An inflater that knows nothing.
    pub fn lend(&mut self) -> Inflater {
        self.ready.pop().unwrap_or_default()
    }

    /// Takes an inflater back.
    pub fn take_back(&mut self, mut inflater: Inflater) {
        if self.ready.len() < MAX_INFLATERS {
            inflater.reset();
            self.ready.push(inflater);
        }
    }

    /// An empty buffer that may have room.
    pub fn lend_buffer(&mut self) -> Vec<u8> {
        take(&mut self.spare)
    }

    /// Takes the buffer of a message back that was told.
    pub fn take_back_buffer(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= MAX_KEPT && buffer.capacity() > self.spare.capacity() {
            buffer.clear();
            self.spare = buffer;
        }
    }
}

/// What a receiver needs for a connection with compression.
#[derive(Debug)]
pub struct Inflation<'a> {
    /// Where inflaters come from.
    pub pool: &'a mut Inflaters,
    /// Messages may refer to earlier ones.
    pub keeps_context: bool,
}

/// How one end compresses its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sending {
    /// 1 to 9.
    pub level: u8,
    /// 9 to 15.
    pub window_bits: u8,
    /// Smaller messages are sent as they are.
    pub threshold: usize,
    /// Messages refer to earlier ones: what was compressed must be sent.
    pub keeps_context: bool,
}

impl Sending {
    /// Whether a message of this size is compressed. An empty one never is: there is nothing to win.
    pub fn applies_to(&self, size: usize) -> bool {
        size >= self.threshold.max(1)
    }

    /// A compressor for this.
    pub fn compressor(&self) -> Compressor {
        Compressor::new(self.level, self.window_bits)
    }
}

impl Compressor {
    /// Compresses a message of some bytes into `out`, which is cleared before. It is never given up halfway: zlib-rs 0.6
    /// cannot be reset there. False where it cannot be done, and then the compressor is of no use any more.
    #[must_use]
    pub fn compress_message(&mut self, mut payload: &[u8], out: &mut Vec<u8>) -> bool {
        let size = payload.len() / 2 + 64;
        out.clear();
        loop {
            let held = out.len();
            out.resize(held + size, 0);
            let Some(step) = self.compress(payload, &mut out[held..]) else { return false };
            out.truncate(held + step.filled);
            payload = &payload[step.used..];
            if step.filled < size {
                // All has found room, and ends in an empty block.
                let is_whole = payload.is_empty() && out.ends_with(&TAIL);
                debug_assert!(is_whole);
                out.truncate(out.len().saturating_sub(TAIL.len()));
                return is_whole;
            }
        }
    }
}

impl Compressor {
    /// Compresses one of several fragments of a message into `out`, which is cleared before. False as of
    /// [`compress_message`](Self::compress_message).
    #[must_use]
    pub fn compress_fragment(&mut self, payload: &[u8], is_last: bool, out: &mut Vec<u8>) -> bool {
        if payload.is_empty() {
            out.clear();
            if is_last {
                // What came before has ended with a block: an empty one, without its end (RFC 7692 section 7.2.3.6).
                out.push(0);
            }
            return true;
        }
        let is_whole = self.compress_message(payload, out);
        if !is_last {
            // Only the end of the message is left away.
            out.extend(TAIL);
        }
        is_whole
    }
}

/// The compressors of a loop for messages without context, and what the last one made.
#[derive(Debug, Default)]
pub struct Compressors {
    ready: Vec<(u8, u8, Compressor)>,
    /// What was compressed last.
    pub compressed: Vec<u8>,
}

impl Compressors {
    /// Compresses a message that refers to no other into `compressed`. False where that would not make it smaller.
    #[must_use]
    pub fn compress(&mut self, sending: &Sending, payload: &[u8]) -> bool {
        let Sending { level, window_bits, .. } = *sending;
        let place = self.ready.iter().position(|(one, bits, _)| (*one, *bits) == (level, window_bits));
        let place = place.unwrap_or_else(|| {
            if self.ready.len() == MAX_COMPRESSORS {
                self.ready.remove(0);
            }
            self.ready.push((level, window_bits, sending.compressor()));
            self.ready.len() - 1
        });
        let compressor = &mut self.ready[place].2;
        if !compressor.compress_message(payload, &mut self.compressed) {
            self.ready.clear();
            return false;
        }
        compressor.reset();
        self.compressed.len() < payload.len()
    }

    /// Gives up a buffer that a large message has made.
    pub fn tidy(&mut self) {
        if self.compressed.capacity() > MAX_KEPT {
            self.compressed = Vec::new();
        }
    }

    /// The same frames of a server, with those messages compressed that this applies to.
    pub fn compress_frames(&mut self, frames: &[u8], sending: &Sending) -> Vec<u8> {
        let mut out = Vec::with_capacity(frames.len() / 2);
        for (header, start, frame) in frame::whole_frames(frames, Role::Client) {
            let payload = &frame[start..];
            if sending.applies_to(payload.len()) && self.compress(sending, payload) {
                frame::append_compressed(&mut out, header.opcode, &self.compressed, None);
            } else {
                out.extend_from_slice(frame);
            }
        }
        self.tidy();
        out
    }
}
