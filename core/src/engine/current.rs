//! The short way of a message to the very connection whose callback runs, which is how most messages are sent.
//!
//! While messages of a connection are told, its number stands here, and a send to it appends to a buffer that the whole
//! turn gathers answers in: without a look at any table, and without a buffer of the connection's own. At the end of the
//! turn each connection's part of it is written in one system call.
//!
//! As long as answers are only gathered, nothing else about their connections changes: whoever does anything with the
//! state that concerns output gets the gathered answers in the outboxes first (`LoopCell::state` and `State::settle`).

use std::cell::{Cell, RefCell};
use std::io;
use std::mem::ManuallyDrop;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::group::Groups;
use super::record::Record;
use super::registry::loop_index;
use super::send::WRITE_AT_ONCE;
use super::state::State;
use crate::event::{Connection, Message};
use crate::protocol::connection::message_opcode;
use crate::protocol::frame::{self, OpCode, Role, SHORT_HEADER, SHORT_HEADER_OF_SERVER};
use crate::protocol::unmask::unmask;

/// How much a turn gathers before it writes: what is more would leave the processor's cache. Measured with 32 messages of
/// 1 KiB in flight on 100 connections.
const GATHERED_AT_MOST: usize = 256 * 1024;

/// Who gathers, and for whom.
struct Current {
    /// The index of the loop that gathers, as long as its state says so, or [`NOBODY`].
    owner: Cell<u32>,
    /// The connection whose callback runs; 0 for none.
    id: Cell<u64>,
    /// How many bytes more it may be sent in this way.
    room: Cell<usize>,
    /// Messages of this size and more go by the state: those of a server, and those of a client. Of the two one is 0.
    largest: Cell<usize>,
    largest_masked: Cell<usize>,
    /// How many messages it was sent in this way.
    messages: Cell<u32>,
    /// How many bytes are gathered.
    gathered: Cell<usize>,
    /// Whose the last of them are, where the part of that connection has ended; 0 for none. Where it is the only one, as
    /// under little load, nothing else needs to be known.
    last: Cell<u64>,
    /// Without a drop of its own, which every access would have to look after: a loop that ends frees it.
    buffers: RefCell<ManuallyDrop<Buffers>>,
}

const NOBODY: u32 = u32::MAX;

#[derive(Default)]
struct Buffers {
    /// Room for whole frames: so a message costs one look at the room, and no other. It has at most [`GATHERED_AT_MOST`] and
    /// what one connection may be sent, rounded up.
    room: Vec<u8>,
    /// Whose the bytes before the last part are, and where each one's part ends.
    parts: Vec<(u64, usize)>,
    /// Where masking keys come from (RFC 6455 section 5.3), as soon as a client gathers.
    keys: Option<Box<StdRng>>,
}

impl Buffers {
    /// Writes the frame of a whole message behind what is gathered.
    #[inline(always)]
    fn append(&mut self, gathered: &Cell<usize>, opcode: OpCode, payload: &[u8]) {
        let begin = gathered.get();
        let end = begin + SHORT_HEADER_OF_SERVER + payload.len();
        match self.room.get_mut(begin..end) {
            Some([first, second, rest @ ..]) if payload.len() < 126 => {
                gathered.set(end);
                (*first, *second) = (0x80 | opcode as u8, payload.len() as u8);
                rest.copy_from_slice(payload);
            }
            _ => self.append_any(gathered, opcode, payload, None),
        }
    }

    /// The same for a client's frame.
    #[inline(always)]
    fn append_masked(&mut self, gathered: &Cell<usize>, opcode: OpCode, payload: &[u8], key: [u8; 4]) {
        let begin = gathered.get();
        let end = begin + SHORT_HEADER + payload.len();
        match self.room.get_mut(begin..end) {
            Some([first, second, a, b, c, d, rest @ ..]) if payload.len() < 126 => {
                gathered.set(end);
                (*first, *second) = (0x80 | opcode as u8, 0x80 | payload.len() as u8);
                [*a, *b, *c, *d] = key;
                rest.copy_from_slice(payload);
                unmask(rest, key);
            }
            _ => self.append_any(gathered, opcode, payload, Some(key)),
        }
    }

    /// The same for one that is longer, or where there is no room yet.
    #[inline(never)]
    fn append_any(&mut self, gathered: &Cell<usize>, opcode: OpCode, payload: &[u8], key: Option<[u8; 4]>) {
        let begin = gathered.get();
        let (header, size) = frame::encode_header(opcode, true, payload.len(), key);
        let end = begin + size + payload.len();
        if end > self.room.len() {
            self.room.resize(end.next_power_of_two(), 0);
        }
        let (head, body) = self.room[begin..end].split_at_mut(size);
        head.copy_from_slice(&header[..size]);
        body.copy_from_slice(payload);
        if let Some(key) = key {
            unmask(body, key);
        }
        gathered.set(end);
    }
}

thread_local! {
    static CURRENT: Current = const {
        Current {
            owner: Cell::new(NOBODY),
            id: Cell::new(0),
            room: Cell::new(0),
            largest: Cell::new(0),
            largest_masked: Cell::new(0),
            messages: Cell::new(0),
            gathered: Cell::new(0),
            last: Cell::new(0),
            buffers: RefCell::new(ManuallyDrop::new(Buffers { room: Vec::new(), parts: Vec::new(), keys: None })),
        }
    };
}

/// Sends a small message to the current connection. False for any other: it goes by the state. Inlined into a door's one
/// function that sends: a message costs the call of that and little else.
#[inline(always)]
pub(super) fn send(connection: Connection, message: Message<'_>) -> bool {
    let (opcode, payload) = (message_opcode(message), message.payload());
    CURRENT.with(|current| {
        let (room, size) = (current.room.get(), payload.len() + frame::MAX_HEADER);
        // Without room there is no connection either: 0 is a number that a program can send to.
        let fits = current.id.get() == connection.0 && payload.len() < current.largest.get() && size <= room;
        if fits {
            current.room.set(room - size);
            current.messages.set(current.messages.get() + 1);
            current.buffers.borrow_mut().append(&current.gathered, opcode, payload);
        }
        fits
    })
}

/// The same for a client, whose frames are masked: asked where [`send`] has said no.
#[inline]
pub(super) fn send_masked(connection: Connection, message: Message<'_>) -> bool {
    let (opcode, payload) = (message_opcode(message), message.payload());
    CURRENT.with(|current| {
        let (room, size) = (current.room.get(), payload.len() + frame::MAX_HEADER);
        if current.id.get() != connection.0 || payload.len() >= current.largest_masked.get() || size > room {
            return false;
        }
        let mut buffers = current.buffers.borrow_mut();
        let Some(keys) = &mut buffers.keys else { return false };
        let key = keys.next_u32().to_ne_bytes();
        current.room.set(room - size);
        current.messages.set(current.messages.get() + 1);
        buffers.append_masked(&current.gathered, opcode, payload, key);
        true
    })
}

/// Whether a connection is still the current one. From when it became so, its answers are gathered, and nobody has used the
/// state for anything that concerns output.
#[inline(always)]
pub(super) fn is(connection: Connection) -> bool {
    CURRENT.with(|current| current.id.get() == connection.0)
}

/// Makes a connection the current one that [may gather](super::record::Record::may_gather), for messages below `largest` bytes,
/// unless another loop gathers on this thread (one that a callback of this loop turns, or the reverse). No batch may be
/// pending, which would have to go first.
#[inline]
fn begin(id: u64, room: usize, largest: usize) -> bool {
    CURRENT.with(|current| current.begin(id, room, largest, 0))
}

/// The same for a client's connection. Its masking keys are of a generator of this thread's, which begins with what nobody
/// can foretell.
#[inline(never)]
fn begin_masked(id: u64, room: usize, largest: usize, random: &mut StdRng) -> bool {
    CURRENT.with(|current| {
        let has_begun = current.begin(id, room, 0, largest);
        if has_begun {
            current.buffers.borrow_mut().keys.get_or_insert_with(|| Box::new(StdRng::from_rng(random)));
        }
        has_begun
    })
}

impl Current {
    /// Not inlined, so that what has to be looked up for a thread is.
    #[inline(never)]
    fn begin(&self, id: u64, room: usize, largest: usize, largest_masked: usize) -> bool {
        let (index, owner) = (u32::from(loop_index(id)), self.owner.get());
        let is_free = self.id.get() == 0 && (owner == NOBODY || owner == index);
        if is_free {
            self.owner.set(index);
            self.id.set(id);
            self.room.set(room);
            self.largest.set(largest);
            self.largest_masked.set(largest_masked);
        }
        is_free
    }

    /// What comes now is another one's part.
    fn keep_last(&self) {
        let last = self.last.take();
        if last != 0 {
            self.buffers.borrow_mut().parts.push((last, self.gathered.get()));
        }
    }

    /// Nobody gathers. Tells whose the last part is, and where it ends.
    #[inline(always)]
    fn clear(&self) -> (u64, usize) {
        self.owner.set(NOBODY);
        (self.last.take(), self.gathered.take())
    }

    /// Ends the part of the current connection; tells how many messages it has.
    #[inline(always)]
    fn end(&self, id: u64) -> u32 {
        self.room.set(0);
        self.id.set(0);
        let messages = self.messages.take();
        if messages != 0 {
            self.last.set(id);
        }
        messages
    }
}

/// Ends the part of a connection that was the current one; tells how many messages it has.
#[inline(always)]
pub(super) fn end(connection: Connection) -> u32 {
    CURRENT.with(|current| current.end(connection.0))
}

/// Ends it whichever connection it is: a panic has ended the turn.
pub(super) fn abandon() {
    CURRENT.with(|current| current.end(current.id.get()));
}

/// Frees what this thread has gathered in, unless another loop uses it: one of its loops ends.
pub(super) fn free(index: u16) {
    CURRENT.with(|current| {
        if [NOBODY, index.into()].contains(&current.owner.get()) {
            current.clear();
            **current.buffers.borrow_mut() = Buffers::default();
        }
    });
}

/// Messages of this size and more are not gathered where a group's connection has agreed on compression: they may be
/// compressed.
pub(super) fn largest_gathered(groups: &Groups, group: u32) -> usize {
    let options = groups.get(group).and_then(|group| group.options.compression.as_ref());
    options.map_or(WRITE_AT_ONCE, |options| options.threshold.min(WRITE_AT_ONCE))
}

impl State {
    /// Makes a connection the current one, as `begin` does, whichever end it is.
    #[inline(always)]
    pub(super) fn begin_gathering(&mut self, id: u64, largest: usize, role: Role) -> bool {
        let has_begun = match role {
            Role::Server => begin(id, self.least_backlog_limit, largest),
            Role::Client => begin_masked(id, self.least_backlog_limit, largest, &mut self.random),
        };
        self.gathers |= has_begun;
        has_begun
    }

    /// Before this connection becomes the current one behind another: writes what was gathered where that is so much already.
    /// Tells whether its answers may still be gathered.
    #[inline(never)]
    pub(super) fn begin_next_part(&mut self, id: u64) -> bool {
        if CURRENT.with(|current| current.gathered.get() <= GATHERED_AT_MOST) {
            CURRENT.with(Current::keep_last);
            return true;
        }
        self.write_gathered();
        // A part of its own may have been among what was written, and not all of it may have left.
        self.record(Connection(id)).is_ok_and(Record::may_gather)
    }

    /// Does something with each connection's part of what was gathered, and with the last one, which often is the only one.
    /// Meanwhile nothing more can be gathered.
    #[inline(always)]
    fn with_gathered(&mut self, each: fn(&mut Self, u64, &[u8]), last: impl FnOnce(&mut Self, u64, &[u8])) {
        self.gathers = false;
        CURRENT.with(|current| {
            let Buffers { room, parts, .. } = &mut **current.buffers.borrow_mut();
            let (id, end) = current.clear();
            let begin = if parts.is_empty() { 0 } else { self.with_parts(room, parts, each) };
            last(self, id, &room[begin..end]);
        });
    }

    /// Does it with all parts but the last; tells where that begins.
    #[inline(never)]
    fn with_parts(&mut self, room: &[u8], parts: &mut Vec<(u64, usize)>, each: fn(&mut Self, u64, &[u8])) -> usize {
        let mut begin = 0;
        for (id, end) in parts.drain(..) {
            each(self, id, &room[begin..end]);
            begin = end;
        }
        begin
    }

    /// Writes what was gathered, between the parts of two connections; what the kernel does not take goes to the outboxes.
    pub(super) fn write_gathered(&mut self) {
        self.with_gathered(Self::write_one_of_many, Self::write_one_of_many);
    }

    /// The same at the end of a turn, as a part of it: often one answer is all that was gathered.
    #[inline(always)]
    pub(super) fn write_gathered_last(&mut self) {
        self.with_gathered(Self::write_one_of_many, Self::write_part);
    }

    #[inline(never)]
    fn write_one_of_many(&mut self, id: u64, bytes: &[u8]) {
        self.write_part(id, bytes);
    }

    #[inline(always)]
    fn write_part(&mut self, id: u64, bytes: &[u8]) {
        // What may be gathered stays so where all of it is taken.
        let Some((slot, record)) = self.connections.find_keeping_mark(id) else { return };
        let Some(transport) = &mut record.transport else { return };
        let written = transport.write_bytes(bytes);
        if written.as_ref().is_ok_and(|count| *count == bytes.len()) && record.group == self.latest.slot {
            self.latest.counters.bytes_sent.add(bytes.len() as u64);
        } else {
            self.gathered_in_part(slot, bytes, written);
        }
    }

    /// The kernel has not taken all of it, or it is not of the group that was read last.
    #[inline(never)]
    fn gathered_in_part(&mut self, slot: u32, bytes: &[u8], written: io::Result<usize>) {
        if let Ok(count) = written {
            self.count_sent_bytes(slot, count);
            if count == bytes.len() {
                return;
            }
        }
        // What is put into the outbox and does not leave is told as unsent.
        self.put_gathered(slot, bytes);
        match written {
            Ok(count) => {
                if let Some(record) = self.connections.get_mut(slot) {
                    record.outbox.advance(count, &mut self.spares);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return self.transport_failed(slot, "cannot write to the peer", &error),
        }
        self.blocked(slot);
    }

    fn put_gathered(&mut self, slot: u32, bytes: &[u8]) {
        if let Some(record) = self.connections.get_mut(slot) {
            debug_assert!(record.outbox.is_empty(), "what waits already goes first, by the state");
            record.outbox.append(&mut self.spares, |out| out.extend_from_slice(bytes));
        }
    }

    /// Puts what was gathered into the outboxes.
    #[cold]
    pub(super) fn spread_gathered(&mut self) {
        self.cut_off();
        self.with_gathered(Self::spread_part, Self::spread_part);
    }

    fn spread_part(&mut self, id: u64, bytes: &[u8]) {
        if let Some(slot) = self.connections.slot(id) {
            self.put_gathered(slot, bytes);
            self.touch(slot);
        }
    }

    /// The current connection's part ends before what came for it is told. What comes now is counted by itself.
    fn cut_off(&mut self) {
        let (id, messages) = CURRENT.with(|current| {
            let id = current.id.get();
            (id, current.end(id))
        });
        if let Some(slot) = self.connections.slot(id) {
            self.count_sent_messages(slot, messages);
        }
    }
}
