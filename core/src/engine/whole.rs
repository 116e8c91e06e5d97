//! The short way of what nearly every receive of a server brings: whole messages, one behind the other, whose answers are
//! only gathered (see `current`). Whatever else comes, and what comes behind it, goes the long way (see `frames`).

use std::cell::RefMut;
use std::mem::take;

use super::callback::guarded;
use super::current;
use super::frames::{frames, violated};
use super::send::WRITE_AT_ONCE;
use super::shared::LoopCell;
use super::state::State;
use crate::event::{Connection, Handler, Message};
use crate::protocol::message::{Limits, Violation, receive_medium, receive_short};

/// What is taken out of the state while messages are told: the callbacks may use the state.
struct Lent {
    handler: Box<dyn Handler>,
    group: u32,
    limits: Limits,
    connection: Connection,
}

/// Tells what a receive has brought.
#[inline(always)]
pub(super) fn messages(cell: &LoopCell, mut state: RefMut<'_, State>, slot: u32, mut bytes: &mut [u8]) {
    let Some(mut lent) = state.lend_to_gather(slot) else { return frames(cell, state, slot, bytes) };
    drop(state);
    let received = bytes.len();
    let told = tell_whole(cell, slot, &mut lent, &mut bytes);
    // The long way goes on with the same part of the answers, and with what room is left.
    let goes_on = !bytes.is_empty() && current::is(lent.connection);
    let (writes_early, answers) = if goes_on { (false, 0) } else { current::end() };
    let mut state = cell.state_while_gathering();
    if let Some(group) = state.groups.get_mut(lent.group) {
        group.take_back(lent.handler);
    }
    let counters = &*state.latest.1;
    counters.messages_received.add(told);
    counters.bytes_received.add((received - bytes.len()) as u64);
    counters.messages_sent.add(answers.into());
    if writes_early {
        state.write_gathered();
    }
    if !bytes.is_empty() {
        frames(cell, state, slot, bytes);
    }
}

/// Tells the messages that the bytes begin with and that are there whole, as long as their answers are only gathered.
/// Returns how many.
#[inline(always)]
fn tell_whole(cell: &LoopCell, slot: u32, lent: &mut Lent, bytes: &mut &mut [u8]) -> u64 {
    let mut told = 0;
    loop {
        while let Some(message) = receive_short(bytes, &lent.limits) {
            told += tell(cell, slot, lent, message);
            if !current::is(lent.connection) {
                return told;
            }
        }
        if bytes.is_empty() {
            return told;
        }
        let (message, rest) = receive_medium(take(bytes), &lent.limits);
        *bytes = rest;
        let Some(message) = message else { return told };
        told += tell(cell, slot, lent, message);
        if !current::is(lent.connection) {
            return told;
        }
    }
}

/// Tells a message; returns how many that was.
#[inline(always)]
fn tell(cell: &LoopCell, slot: u32, lent: &mut Lent, message: Result<Message<'_>, Violation>) -> u64 {
    match message {
        Ok(message) => {
            if let Err(panicked) = guarded(|| lent.handler.on_message(lent.connection, message)) {
                cell.state().callback_failed(slot, panicked);
            }
            1
        }
        Err(violation) => {
            violated(cell, slot, &mut *lent.handler, lent.connection, violation);
            0
        }
    }
}

impl State {
    /// Makes a connection the current one and lends its handler; none where it must go the long way.
    #[inline(always)]
    fn lend_to_gather(&mut self, slot: u32) -> Option<Lent> {
        let (id, record) = self.connections.get_with_id(slot)?;
        if record.protocol.receiver.is_partial() || self.batch.is_some() || !record.delivers() {
            return None;
        }
        let group = self.groups.get_mut(record.group)?;
        let largest = if record.protocol.compression.is_none() { WRITE_AT_ONCE } else { group.largest_gathered() };
        let handler = group.handler.take()?;
        if !current::begin(id, record, self.least_backlog_limit, largest) {
            group.take_back(handler);
            return None;
        }
        self.gathers = true;
        if record.group != self.latest.0 {
            self.latest = (record.group, group.counters.clone());
        }
        Some(Lent { handler, group: record.group, limits: group.limits, connection: Connection(id) })
    }
}
