//! The short way of a message to the very connection whose callback runs, which is how most messages are sent.
//!
//! While messages of a connection are told, its number stands here, and a send to it appends to a buffer that the whole
//! turn gathers answers in: without a look at any table, and without a buffer of the connection's own. At the end of the
//! turn each connection's part of it is written in one system call.
//!
//! As long as answers are only gathered, nothing else about their connections changes: whoever does anything with the
//! state that concerns output gets the gathered answers in the outboxes first (`LoopCell::state` and `State::settle`).

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::mem::take;

use super::outbox::MAX_WRITE;
use super::record::Record;
use super::registry::loop_index;
use super::state::State;
use crate::event::{Connection, Message};
use crate::protocol::connection::message_opcode;
use crate::protocol::frame::{self, OpCode, Role};

/// How much a turn gathers before it writes: what is more would leave the processor's cache. Measured with 32 messages of
/// 1 KiB in flight on 100 connections.
const GATHERED_AT_MOST: usize = 256 * 1024;
/// A buffer that has grown beyond this is not kept.
const MAX_KEPT: usize = 1024 * 1024;

struct Gathered {
    /// The loop that gathers, as long as its state says so.
    owner: Option<u16>,
    /// The connection whose callback runs; 0 for none.
    current: u64,
    /// How long `bytes` may become.
    room: usize,
    /// Messages of this size and more go by the state.
    largest: usize,
    /// Whole frames.
    bytes: Vec<u8>,
    /// Whose they are, and where each one's part ends.
    parts: Vec<(u64, usize)>,
}

thread_local! {
    static GATHERED: RefCell<Gathered> = const { RefCell::new(Gathered::NOTHING) };
}

/// Sends a small message to the current connection. False for any other: it goes by the state.
#[inline(always)]
pub(super) fn send(connection: Connection, message: Message<'_>) -> bool {
    let (opcode, payload) = (message_opcode(message), message.payload());
    GATHERED.try_with(|gathered| gather(gathered, connection, opcode, payload)).unwrap_or(false)
}

/// Not inlined, with arguments that fit registers: a send is a call of this and little else.
#[inline(never)]
fn gather(gathered: &RefCell<Gathered>, connection: Connection, opcode: OpCode, payload: &[u8]) -> bool {
    let gathered = &mut *gathered.borrow_mut();
    let fits = gathered.current == connection.0
        && payload.len() < gathered.largest
        && gathered.bytes.len() + payload.len() + frame::MAX_HEADER <= gathered.room;
    if fits {
        frame::append(&mut gathered.bytes, opcode, true, payload, None);
    }
    fits
}

/// Makes a server's connection that is open and read the current one, for messages below `largest` bytes, unless
/// something waits for it already, or another loop gathers on this thread (one that a callback of this loop turns, or the
/// reverse). No batch may be pending, which would have to go first.
#[inline]
pub(super) fn begin(id: u64, record: &Record, least_backlog_limit: usize, largest: usize) -> bool {
    if record.protocol.role() == Role::Client || !record.outbox.is_empty() {
        return false;
    }
    let begin = |gathered: &RefCell<Gathered>| {
        let gathered = &mut *gathered.borrow_mut();
        let index = loop_index(id);
        let is_free = gathered.current == 0 && gathered.owner.is_none_or(|owner| owner == index);
        if is_free {
            (gathered.owner, gathered.current) = (Some(index), id);
            gathered.room = gathered.bytes.len() + least_backlog_limit.min(MAX_WRITE);
            gathered.largest = largest;
        }
        is_free
    };
    GATHERED.try_with(begin).unwrap_or(false)
}

/// Ends the part of the current connection. Tells whether so much was gathered that it should be written now.
#[inline]
pub(super) fn end() -> bool {
    GATHERED.try_with(|gathered| gathered.borrow_mut().end_part()).unwrap_or(false)
}

impl Gathered {
    const NOTHING: Self = Self { owner: None, current: 0, room: 0, largest: 0, bytes: Vec::new(), parts: Vec::new() };

    #[inline]
    fn end_part(&mut self) -> bool {
        let (current, end) = (take(&mut self.current), self.bytes.len());
        // 0 is a number that a program can send to.
        self.room = 0;
        if current != 0 && end > self.parts.last().map_or(0, |(_, end)| *end) {
            self.parts.push((current, end));
        }
        end > GATHERED_AT_MOST
    }
}

impl State {
    /// Does something with each connection's part of what was gathered. Meanwhile nothing more can be.
    #[inline]
    fn with_gathered(&mut self, mut with: impl FnMut(&mut Self, u32, &[u8])) {
        self.gathers = false;
        let _ = GATHERED.try_with(|gathered| {
            let gathered = &mut *gathered.borrow_mut();
            gathered.end_part();
            let mut begin = 0;
            for &(id, end) in &gathered.parts {
                if let Some(slot) = self.connections.slot(id) {
                    with(self, slot, &gathered.bytes[begin..end]);
                }
                begin = end;
            }
            gathered.owner = None;
            gathered.parts.clear();
            gathered.bytes.clear();
            if gathered.bytes.capacity() > MAX_KEPT {
                gathered.bytes = Vec::new();
            }
        });
    }

    /// Writes what was gathered; what the kernel does not take goes to the outboxes.
    pub(super) fn write_gathered(&mut self) {
        self.with_gathered(|state, slot, bytes| {
            let Some(record) = state.connections.get_mut(slot) else { return };
            let Some(transport) = &mut record.transport else { return };
            let written = transport.write(&[IoSlice::new(bytes)]);
            if written.as_ref().is_ok_and(|count| *count == bytes.len()) {
                return;
            }
            debug_assert!(record.outbox.is_empty(), "what waits already goes first, by the state");
            record.outbox.append(&mut state.spares, |out| out.extend_from_slice(bytes));
            match written {
                Ok(count) => record.outbox.advance(count, &mut state.spares),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return state.transport_failed(slot, "cannot write to the peer", &error),
            }
            state.blocked(slot);
        });
    }

    /// Puts what was gathered into the outboxes.
    #[cold]
    pub(super) fn spread_gathered(&mut self) {
        self.with_gathered(|state, slot, bytes| {
            if let Some(record) = state.connections.get_mut(slot) {
                record.outbox.append(&mut state.spares, |out| out.extend_from_slice(bytes));
                state.touch(slot);
            }
        });
    }
}
