//! The short way of a message to the very connection whose callback runs, which is how most messages are sent.
//!
//! While messages of a connection are told, the end of its outbox is staged here, outside of the loop's state: a send
//! then appends to it without a look at any table. Whoever looks at the state gets it unstaged first (see
//! `LoopCell::state`), so nothing can overtake what was staged, and as long as it is staged nothing about the
//! connection has changed: it is open, it is read, and `room` bytes more need no look at its backlog.

use std::cell::RefCell;

use super::outbox::MAX_WRITE;
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

impl State {
    /// Stages a server's connection that is open and read, unless much waits for it, or a batch that goes first.
    #[inline]
    pub(super) fn stage(&mut self, slot: u32) {
        let room = self.least_backlog_limit.min(MAX_WRITE);
        let Some((id, record)) = self.connections.get_with_id(slot) else { return };
        if self.batch.is_some() || record.protocol.role() == Role::Client {
            return;
        }
        self.has_staged = CURRENT.try_with(|current| {
            let current = &mut *current.borrow_mut();
            // Another loop may be turned by a callback of this one.
            if current.id != 0 || !record.outbox.lend_end(&mut current.out) {
                return false;
            }
            (current.id, current.slot, current.room) = (id, slot, room);
            true
        }) == Ok(true);
    }

    /// Gives back what is staged.
    pub(super) fn unstage(&mut self) {
        self.has_staged = false;
        let _ = CURRENT.try_with(|current| {
            let current = &mut *current.borrow_mut();
            current.id = 0;
            if current.out.is_empty() {
                return;
            }
            if let Some(record) = self.connections.get_mut(current.slot) {
                record.outbox.take_end(&mut current.out, &mut self.spares);
                if !record.touched {
                    record.touched = true;
                    self.touched.push(current.slot);
                }
            }
        });
    }
}
