//! What waits to be written to one connection: own bytes, and bytes shared with other connections, in order.
//!
//! Every chunk but [`Chunk::Rest`] begins at the start of a frame, and is kept whole until all of it is written: so the
//! end of the frame in progress can be found again when the frames behind it must be dropped, and what was not written can
//! be counted in messages.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::mem::take;
use std::sync::Arc;

use memchr::memmem;

use super::owned::Buffer;
use super::transport::Transport;
use crate::protocol::frame::{self, FrameHeader, MAX_HEADER, Role};

/// Most slices handed to one system call.
const MAX_SLICES: usize = 64;
/// Most bytes handed to one system call: one write per so much output.
pub(super) const MAX_WRITE: usize = 256 * 1024;
/// Buffers above this size are given back to the system rather than lent again.
const MAX_SPARE: usize = 64 * 1024;
/// How many buffers a loop keeps to lend: as many connections can be answered in a turn without asking for memory.
const MAX_SPARES: usize = 1024;
/// How many bytes they may have altogether.
const MAX_SPARE_BYTES: usize = 4 * 1024 * 1024;

#[derive(Debug)]
pub(super) enum Chunk {
    /// Whole frames of this connection; more may be appended.
    Own(Vec<u8>),
    /// Whole frames that other connections send as well.
    Shared(Arc<Vec<u8>>),
    /// A message's frame, whose payload was given away by the program.
    Frame(Box<Frame>),
    /// The rest of a message's frame that the kernel took in part.
    #[expect(clippy::box_collection, reason = "rare, and 8 bytes less in every connection")]
    Rest(Box<Vec<u8>>),
    /// Such a rest, whose bytes are lent to a callback and come when it returns. Until then nothing is written: it is only
    /// there where the kernel takes no more.
    Promised,
}

/// A frame whose payload is elsewhere.
pub(super) struct Frame {
    header: [u8; MAX_HEADER],
    header_size: usize,
    payload: Box<dyn Buffer>,
}

impl Frame {
    pub(super) fn new(header: &[u8], payload: Box<dyn Buffer>) -> Self {
        let mut frame = Self { header: [0; MAX_HEADER], header_size: header.len(), payload };
        frame.header[..header.len()].copy_from_slice(header);
        frame
    }

    fn parts(&self) -> [&[u8]; 2] {
        [&self.header[..self.header_size], (*self.payload).as_ref()]
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [header, payload] = self.parts();
        write!(f, "Frame({header:?}, {} bytes)", payload.len())
    }
}

impl Chunk {
    /// Its bytes; of a frame in two parts they are the first one.
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
            Self::Frame(frame) => frame.parts()[0],
            Self::Rest(bytes) => bytes,
            Self::Promised => &[],
        }
    }

    fn parts(&self) -> [&[u8]; 2] {
        match self {
            Self::Frame(frame) => frame.parts(),
            other => [other.bytes(), &[]],
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Frame(frame) => frame.parts().iter().map(|part| part.len()).sum(),
            other => other.bytes().len(),
        }
    }
}

/// The buffers a loop lends to its connections.
#[derive(Default)]
pub(super) struct Spares {
    buffers: Vec<Vec<u8>>,
    /// Their capacities in all.
    bytes: usize,
}

impl Spares {
    #[inline]
    fn lend(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    fn give_back(&mut self, chunk: Chunk) {
        if let Chunk::Own(mut bytes) = chunk
            && bytes.capacity() <= MAX_SPARE
            && self.bytes + bytes.capacity() <= MAX_SPARE_BYTES
            && self.buffers.len() < MAX_SPARES
        {
            bytes.clear();
            self.bytes += bytes.capacity();
            self.buffers.push(bytes);
        }
    }
}

/// Nothing while idle: a chunk exists only while bytes wait.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    front: Option<Chunk>,
    /// Written bytes of `front`.
    written: usize,
    /// Chunks behind `front`.
    #[expect(clippy::box_collection, reason = "rare, and 24 bytes less in every connection")]
    more: Option<Box<VecDeque<Chunk>>>,
    /// Bytes that wait in all.
    len: usize,
}

impl Outbox {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Lets `encode` append whole frames.
    #[inline]
    pub(super) fn append<R>(&mut self, spares: &mut Spares, encode: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let last = match &mut self.more {
            Some(more) if !more.is_empty() => more.back_mut(),
            _ => self.front.as_mut(),
        };
        let bytes = match last {
            Some(Chunk::Own(bytes)) => bytes,
            _ => {
                self.push(Chunk::Own(spares.lend()));
                match self.more.as_mut().and_then(|more| more.back_mut()).or(self.front.as_mut()) {
                    Some(Chunk::Own(bytes)) => bytes,
                    _ => unreachable!("an own chunk was pushed just now"),
                }
            }
        };
        let before = bytes.len();
        let result = encode(bytes);
        self.len += bytes.len() - before;
        result
    }

    /// Appends whole frames that are shared with other connections.
    pub(super) fn push_shared(&mut self, frames: &Arc<Vec<u8>>) {
        self.len += frames.len();
        self.push(Chunk::Shared(frames.clone()));
    }

    /// Appends a frame whose payload was given away.
    pub(super) fn push_frame(&mut self, frame: Frame) {
        let chunk = Chunk::Frame(Box::new(frame));
        self.len += chunk.len();
        self.push(chunk);
    }

    /// Appends the rest of a frame, of which the kernel took the beginning. Only for an empty outbox.
    pub(super) fn push_rest(&mut self, rest: Vec<u8>) {
        self.len += rest.len();
        self.push(Chunk::Rest(Box::new(rest)));
    }

    /// Makes room for a rest of `len` bytes that is to be [redeemed](Self::redeem). Only for an empty outbox.
    pub(super) fn push_promised(&mut self, len: usize) {
        self.len += len;
        self.push(Chunk::Promised);
    }

    /// Puts a frame's payload, of which `written` bytes have left, where it was promised.
    pub(super) fn redeem(&mut self, payload: Vec<u8>, written: usize) {
        if let Some(promised @ Chunk::Promised) = &mut self.front {
            *promised = Chunk::Rest(Box::new(payload));
            self.written = written;
        }
    }

    fn push(&mut self, chunk: Chunk) {
        if self.front.is_none() {
            self.front = Some(chunk);
        } else {
            self.more.get_or_insert_default().push_back(chunk);
        }
    }

    /// Writes once, and forgets what the kernel took: false if that is less than was offered. With `is_last`, what waits is
    /// all that there will be, and the end follows at once.
    pub(super) fn write(&mut self, transport: &mut Transport, spares: &mut Spares, is_last: bool) -> io::Result<bool> {
        let (offered, count) = self.with_slices(|slices| {
            let offered = slices.iter().map(|slice| slice.len()).sum::<usize>();
            let is_all = is_last && offered == self.len;
            (offered, if is_all { transport.write_last(slices) } else { transport.write(slices) })
        });
        let count = count?;
        self.advance(count, spares);
        Ok(count == offered)
    }

    /// The next bytes to write, in at most one system call's worth of slices.
    #[inline]
    fn with_slices<R>(&self, write: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        let is_alone = self.more.as_ref().is_none_or(|more| more.is_empty());
        match &self.front {
            Some(chunk) if is_alone && !matches!(chunk, Chunk::Frame(_)) => {
                let front = &chunk.bytes()[self.written..];
                write(&[IoSlice::new(&front[..front.len().min(MAX_WRITE)])])
            }
            _ => self.with_many_slices(write),
        }
    }

    fn with_many_slices<R>(&self, write: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let (mut count, mut room, mut written) = (0, MAX_WRITE, self.written);
        let behind = self.more.iter().flat_map(|more| more.iter());
        for part in self.front.iter().chain(behind).flat_map(Chunk::parts) {
            // Only the first chunk can be written in part.
            let skipped = written.min(part.len());
            written -= skipped;
            let take = (part.len() - skipped).min(room);
            if take == 0 {
                continue;
            }
            slices[count] = IoSlice::new(&part[skipped..skipped + take]);
            room -= take;
            count += 1;
            if count == MAX_SLICES || room == 0 {
                break;
            }
        }
        write(&slices[..count])
    }

    /// Forgets `count` bytes that the kernel took.
    pub(super) fn advance(&mut self, count: usize, spares: &mut Spares) {
        self.len -= count;
        self.written += count;
        while let Some(chunk) = &self.front {
            let size = chunk.len();
            if self.written < size {
                break;
            }
            self.written -= size;
            if let Some(done) = self.front.take() {
                spares.give_back(done);
            }
            self.front = self.more.as_mut().and_then(|more| more.pop_front());
        }
        if self.front.is_none() {
            self.more = None;
        }
    }

    /// Drops every frame that has not begun, and keeps the rest of the one in progress. `sender` is our role; `committed`
    /// bytes behind the written ones have begun as well. Tells how many bytes, and how many messages, were dropped.
    pub(super) fn drop_unbegun(&mut self, sender: Role, committed: usize) -> (usize, u32) {
        let behind = self.more.take().into_iter().flat_map(|more| more.into_iter());
        let mut written = take(&mut self.written);
        // What has begun ends so many bytes into the chunk that is looked at.
        let mut begun = written + committed;
        let (mut bytes, mut messages) = (0, 0);
        for chunk in self.front.take().into_iter().chain(behind) {
            // Only the first chunk can be written in part.
            let (frames, size, begin) = (chunk.bytes(), chunk.len(), take(&mut written));
            let end = match chunk {
                Chunk::Promised => {
                    // Its bytes are elsewhere yet, and all that has begun is among them.
                    begun = 0;
                    0
                }
                Chunk::Rest(_) => size,
                _ if begun >= size => size,
                // It is one.
                Chunk::Frame(_) if begun == 0 => 0,
                Chunk::Frame(_) => size,
                _ => frame_end(frames, begun, sender),
            };
            begun = begun.saturating_sub(size);
            bytes += size - end;
            messages += match chunk {
                Chunk::Frame(_) => u32::from(end == 0),
                _ => count_messages(frames, end, sender) as u32,
            };
            if end == size {
                self.written += begin;
                self.push(chunk);
            } else if end > begin {
                let start = frame_start(frames, begin, sender);
                let kept = frames[start..end].to_vec();
                self.written += begin - start;
                self.push(Chunk::Own(kept));
            }
        }
        self.len -= bytes;
        (bytes, messages)
    }

    /// How many messages are not written whole: what waits are frames. `sender` is our role.
    pub(super) fn count_unwritten(&self, sender: Role) -> u64 {
        let mut written = self.written;
        let behind = self.more.iter().flat_map(|more| more.iter());
        let count = |chunk: &Chunk| match chunk {
            Chunk::Own(_) | Chunk::Shared(_) => count_messages(chunk.bytes(), take(&mut written), sender),
            Chunk::Frame(_) => {
                written = 0;
                1
            }
            // Only the first chunk can be one of these.
            Chunk::Rest(_) | Chunk::Promised => {
                written = 0;
                1
            }
        };
        self.front.iter().chain(behind).map(count).sum()
    }
}

/// Our own frames, with where each one ends. The answer that has opened the connection may be before the first one.
fn frames_of(chunk: &[u8], sender: Role) -> impl Iterator<Item = (FrameHeader, usize)> {
    let receiver = match sender {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    };
    // No frame of ours begins like it: that would be a Close in fragments.
    let head = if chunk.starts_with(b"HTTP/") { memmem::find(chunk, b"\r\n\r\n").map_or(0, |at| at + 4) } else { 0 };
    frame::whole_frames(&chunk[head..], receiver).scan(head, |end, (header, _, frame)| {
        *end += frame.len();
        Some((header, *end))
    })
}

/// How many messages end behind `position`.
fn count_messages(chunk: &[u8], position: usize, sender: Role) -> u64 {
    let ends = |(header, end): &(FrameHeader, usize)| *end > position && header.fin && !header.opcode.is_control();
    frames_of(chunk, sender).filter(ends).count() as u64
}

/// Where the frame that `position` is inside of begins; `position` itself where it is between frames.
fn frame_start(chunk: &[u8], position: usize, sender: Role) -> usize {
    frames_of(chunk, sender).map(|(_, end)| end).take_while(|end| *end <= position).last().unwrap_or(0)
}

/// Where the frame that `position` is inside of ends; `position` itself where it is between frames.
fn frame_end(chunk: &[u8], position: usize, sender: Role) -> usize {
    match position {
        0 => 0,
        // These are our own frames, so there is an end; keeping everything is safe.
        _ => frames_of(chunk, sender).map(|(_, end)| end).find(|end| *end >= position).unwrap_or(chunk.len()),
    }
}

#[cfg(test)]
mod tests;
