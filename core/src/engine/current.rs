//! The short way of a message to the very connection whose callback runs, which is how most messages are sent.
//!
//! While messages of a connection are told, the end of its outbox is staged here, outside of the loop's state: a send
//! then appends to it without a look at any table. Whoever looks at the state gets it unstaged first (see
//! `LoopCell::state`), so nothing can overtake what was staged, and as long as it is staged nothing about the
//! connection has changed: it is open, it is read, and `room` bytes more need no look at its backlog.

use std::cell::RefCell;
use std::io::IoSlice;

use super::outbox::MAX_WRITE;
use super::record::Record;
use super::send::WRITE_AT_ONCE;
use super::state::State;
use crate::event::{Connection, Message};
use crate::protocol::connection::message_opcode;
use crate::protocol::frame::{self, Role};

struct Current {
    /// The connection's number; 0 for none.
    id: u64,
    slot: u32,
    /// Whole frames.
    out: Vec<u8>,
    /// How long `out` may become.
    room: usize,
}

thread_local! {
    static CURRENT: RefCell<Current> = const { RefCell::new(Current { id: 0, slot: 0, out: Vec::new(), room: 0 }) };
}

/// Sends a small message to the connection that is staged. False for any other: it goes by the state.
#[inline(always)]
pub(super) fn send(connection: Connection, message: Message<'_>) -> bool {
    let payload = message.payload();
    let send = |current: &RefCell<Current>| {
        let current = &mut *current.borrow_mut();
        let fits = current.id == connection.0
            && payload.len() < WRITE_AT_ONCE
            && current.out.len() + payload.len() + frame::MAX_HEADER <= current.room;
        if fits {
            frame::append(&mut current.out, message_opcode(message), true, payload, None);
        }
        fits
    };
    CURRENT.try_with(send).unwrap_or(false)
}

/// Stages a server's connection that is open and read, unless much waits for it already: then, or where another is staged
/// (of a loop that a callback of this one turns), false. No batch may be pending, which would have to go first.
#[inline]
pub(super) fn stage(id: u64, slot: u32, record: &mut Record, least_backlog_limit: usize) -> bool {
    if record.protocol.role() == Role::Client {
        return false;
    }
    let stage = |current: &RefCell<Current>| {
        let current = &mut *current.borrow_mut();
        if current.id != 0 || !record.outbox.lend_end(&mut current.out) {
            return false;
        }
        (current.id, current.slot, current.room) = (id, slot, least_backlog_limit.min(MAX_WRITE));
        true
    };
    CURRENT.try_with(stage).unwrap_or(false)
}

impl State {
    /// Gives back what is staged; or, where this turn has nothing else to read that it should wait for, writes it.
    #[inline]
    pub(super) fn unstage(&mut self, writes: bool) {
        self.has_staged = false;
        let _ = CURRENT.try_with(|current| {
            let current = &mut *current.borrow_mut();
            current.id = 0;
            if current.out.is_empty() {
                return;
            }
            let Some(record) = self.connections.get_mut(current.slot) else { return };
            let mut written = 0;
            if writes
                && record.outbox.is_empty()
                && !record.is_blocked()
                && let Some(transport) = &record.transport
            {
                // An error is found again by the flush at the end of the turn.
                written = transport.write(&[IoSlice::new(&current.out)]).unwrap_or(0);
                if written == current.out.len() {
                    return current.out.clear();
                }
            }
            self.gathered += current.out.len();
            record.outbox.take_end(&mut current.out, &mut self.spares);
            record.outbox.advance(written, &mut self.spares);
            if !record.touched {
                record.touched = true;
                self.touched.push(current.slot);
            }
        });
    }
}
