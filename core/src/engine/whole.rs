//! The short way of what nearly every receive of a server brings: whole messages, one behind the other, whose answers are
//! only gathered (see `current`). Whatever else comes, and what comes behind it, goes the long way (see `frames`).

use std::cell::RefMut;
use std::mem::take;

use super::callback::guarded;
use super::frames::{frames, violated};
use super::record::Record;
use super::send::WRITE_AT_ONCE;
use super::shared::LoopCell;
use super::state::State;
use super::timers::Millis;
use super::wait::Event;
use super::{current, receive};
use crate::event::{Connection, Handler, Message};
use crate::protocol::message::{Limits, Violation, receive_medium, receive_short};

/// What is taken out of the state while messages are told: the callbacks may use the state.
struct Lent {
    handler: Box<dyn Handler>,
    group: u32,
    limits: Limits,
    connection: Connection,
}

/// Does what an event of a connection asks for: as a rule bytes have come, one receive brings all of them, and nothing else is
/// to be done.
#[inline(always)]
pub(super) fn receive<'s>(
    cell: &'s LoopCell,
    mut state: RefMut<'s, State>,
    slot: u32,
    event: Event,
    buffer: &mut [u8],
) -> RefMut<'s, State> {
    let mut read = None;
    let lent = state.lend_to_gather(slot, |record, now| {
        if !event.is_only_readable() || !record.awaits_only_bytes() {
            return None;
        }
        let transport = record.transport.as_ref().filter(|transport| transport.is_plain())?;
        match read.insert(transport.read(buffer)) {
            // Where the peer was waited for, or there may be more, more is to be done.
            Ok(count) if *count != 0 && *count < buffer.len() && record.heard_at >= record.since => {
                record.heard_at = now;
                Some(*count)
            }
            _ => None,
        }
    });
    match (lent, read) {
        (Some((count, lent)), _) => {
            cell.measure();
            let state = tell_lent(cell, state, slot, lent, &mut buffer[..count]);
            cell.measured();
            return state;
        }
        (None, Some(read)) => receive::after_receive(cell, state, slot, read, buffer),
        (None, None) => receive::after_event(cell, state, slot, event, buffer),
    }
    cell.state_while_gathering()
}

/// Tells what a receive has brought.
pub(super) fn messages(cell: &LoopCell, mut state: RefMut<'_, State>, slot: u32, bytes: &mut [u8]) {
    match state.lend_to_gather(slot, |_, _| Some(())) {
        Some(((), lent)) => drop(tell_lent(cell, state, slot, lent, bytes)),
        None => frames(cell, state, slot, bytes),
    }
}

/// Tells it to the handler that was lent.
#[inline(always)]
fn tell_lent<'s>(
    cell: &'s LoopCell,
    state: RefMut<'s, State>,
    slot: u32,
    mut lent: Lent,
    mut bytes: &mut [u8],
) -> RefMut<'s, State> {
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
        state = cell.state_while_gathering();
    }
    state
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
    /// Makes a connection the current one and lends its handler, after a receive; none where it must go the long way, or the
    /// receive says so.
    #[inline(always)]
    fn lend_to_gather<R>(
        &mut self,
        slot: u32,
        receive: impl FnOnce(&mut Record, Millis) -> Option<R>,
    ) -> Option<(R, Lent)> {
        let (id, record) = self.connections.get_with_id(slot)?;
        if record.protocol.receiver.is_partial() || self.batch.is_some() || !record.delivers() {
            return None;
        }
        let received = receive(record, self.now)?;
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
        Some((received, Lent { handler, group: record.group, limits: group.limits, connection: Connection(id) }))
    }
}
