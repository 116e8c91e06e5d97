//! The short way of what nearly every event brings: bytes for an open WebSocket, all of them in one receive; whole messages,
//! one behind the other, whose answers are only gathered (see `current`). All other events go the long way (see `receive`),
//! and so do other bytes, and what comes behind them (see `frames`).
//!
//! A server's connection for which this is the way is marked (see `registry`): nothing about it is asked again until
//! somebody has had it to change it.

use std::cell::RefMut;
use std::mem::take;

use super::callback::guarded;
use super::current::{self, largest_gathered};
use super::frames::{frames, violated};
use super::receive;
use super::record::Phase;
use super::send::WRITE_AT_ONCE;
use super::shared::LoopCell;
use super::state::State;
use super::transport::Transport;
use super::wait::Event;
use crate::event::{Connection, Handler, Message};
use crate::protocol::frame::Role;
use crate::protocol::short::{NotUtf8, receive_medium, receive_short, receive_short_of_server};

/// What is taken out of the state while messages are told: the callbacks may use the state.
struct Lent {
    handler: Box<dyn Handler>,
    group: u32,
    connection: Connection,
}

/// Does what an event of a connection asks for: as a rule bytes have come, one receive brings all of them, and nothing else is
/// to be done.
#[inline(always)]
pub(super) fn event(cell: &LoopCell, slot: u32, event: Event, buffer: &mut [u8]) {
    if !event.is_only_readable() {
        return receive::event(cell, slot, event, buffer);
    }
    let mut borrow = cell.state_while_gathering();
    let state = &mut *borrow;
    let Some((id, record)) = state.connections.get_marked(slot) else {
        return event_of_unmarked(cell, borrow, slot, event, buffer);
    };
    let Some(transport) = &record.transport else { return };
    match transport.read(buffer) {
        // The end has come.
        Ok(0) => receive::after_receive(cell, borrow, slot, Ok(0), buffer),
        // A full buffer means that there may be more.
        Ok(count) if count < buffer.len() => {
            record.heard_at = state.now;
            let group = record.group;
            if let Some(lent) = state.lend_gathering(id, group, WRITE_AT_ONCE, Role::Server) {
                drop(borrow);
                tell_lent(cell, slot, lent, &mut buffer[..count], Role::Server);
            } else {
                receive::tell_frames(cell, borrow, slot, &mut buffer[..count]);
            }
        }
        read => receive::after_receive(cell, borrow, slot, read, buffer),
    }
}

/// The same for a connection that is not marked: it is looked at, and marked if it is as most are.
#[inline(never)]
fn event_of_unmarked(cell: &LoopCell, mut borrow: RefMut<'_, State>, slot: u32, event: Event, buffer: &mut [u8]) {
    let state = &mut *borrow;
    let record = state.connections.get_mut(slot).filter(|record| record.awaits_only_messages() && !record.is_awaited());
    let Some(record) = record.filter(|record| record.transport.as_ref().is_some_and(Transport::is_plain)) else {
        drop(borrow);
        return receive::event(cell, slot, event, buffer);
    };
    let Some(transport) = &record.transport else { return };
    match transport.read(buffer) {
        Ok(count) if count != 0 && count < buffer.len() => {
            let bytes = &mut buffer[..count];
            record.heard_at = state.now;
            if !record.may_gather() {
                return receive::tell_frames(cell, borrow, slot, bytes);
            }
            let group = record.group;
            // The marked are told as a server's, without another question: see `event`.
            let is_usual = record.protocol.compression.is_none() && record.protocol.role() == Role::Server;
            if is_usual && !cell.measures() && state.takes_short(group) {
                state.connections.mark(slot);
            }
            receive::tell(cell, borrow, slot, Phase::WebSocket, bytes);
        }
        read => receive::after_receive(cell, borrow, slot, read, buffer),
    }
}

/// Tells what a receive has brought of a connection that is not marked, or in another way.
pub(super) fn messages(cell: &LoopCell, mut state: RefMut<'_, State>, slot: u32, bytes: &mut [u8]) {
    if let Some((lent, role)) = state.lend_for(slot) {
        drop(state);
        tell_lent(cell, slot, lent, bytes, role);
    } else {
        frames(cell, state, slot, bytes);
    }
}

/// Tells it to the handler that was lent.
#[inline(always)]
fn tell_lent(cell: &LoopCell, slot: u32, mut lent: Lent, mut bytes: &mut [u8], role: Role) {
    let received = bytes.len();
    let told = tell_whole(cell, slot, &mut lent, &mut bytes, role);
    // The long way goes on with the same part of the answers, and with what room is left.
    let goes_on = !bytes.is_empty() && current::is(lent.connection);
    let answers = if goes_on { 0 } else { current::end(lent.connection) };
    let mut state = cell.state_while_gathering();
    let State { latest, groups, .. } = &mut *state;
    latest.take_back(groups, lent.group, lent.handler);
    let counters = &*state.latest.counters;
    counters.messages_received.add(told);
    counters.bytes_received.add((received - bytes.len()) as u64);
    counters.messages_sent.add(answers.into());
    if !bytes.is_empty() {
        frames(cell, state, slot, bytes);
    }
}

/// Tells the messages that the bytes begin with and that are there whole, as long as their answers are only gathered.
/// Returns how many.
#[inline(always)]
fn tell_whole(cell: &LoopCell, slot: u32, lent: &mut Lent, bytes: &mut &mut [u8], role: Role) -> u64 {
    let mut told = 0;
    loop {
        while let Some(message) = short(bytes, role) {
            told += tell(cell, slot, lent, message);
            if !current::is(lent.connection) {
                return told;
            }
        }
        if bytes.is_empty() {
            return told;
        }
        let (message, rest) = medium(cell, take(bytes), role);
        *bytes = rest;
        let Some(message) = message else { return told };
        told += tell(cell, slot, lent, message);
        if !current::is(lent.connection) {
            return told;
        }
    }
}

#[inline(always)]
fn short<'b>(bytes: &mut &'b mut [u8], role: Role) -> Option<Result<Message<'b>, NotUtf8>> {
    match role {
        Role::Server => receive_short(bytes),
        Role::Client => receive_short_of_server(bytes),
    }
}

#[inline(never)]
fn medium<'b>(
    cell: &LoopCell,
    bytes: &'b mut [u8],
    role: Role,
) -> (Option<Result<Message<'b>, NotUtf8>>, &'b mut [u8]) {
    receive_medium(bytes, role, cell.state_while_gathering().latest.limits.max_message)
}

/// Tells a message; returns how many that was.
#[inline(always)]
fn tell(cell: &LoopCell, slot: u32, lent: &mut Lent, message: Result<Message<'_>, NotUtf8>) -> u64 {
    match message {
        Ok(message) => {
            if let Err(panicked) = guarded(|| lent.handler.on_message(lent.connection, message)) {
                cell.state().callback_failed(slot, panicked);
            }
            1
        }
        Err(not_utf8) => {
            violated(cell, slot, &mut *lent.handler, lent.connection, not_utf8.into());
            0
        }
    }
}

impl State {
    /// Whether a group's limits take every short message.
    fn takes_short(&self, group: u32) -> bool {
        self.groups.get(group).is_some_and(|group| group.limits.take_short())
    }

    /// Makes a connection the current one whose answers may be gathered, and lends its handler.
    #[inline(always)]
    fn lend_gathering(&mut self, id: u64, group: u32, largest: usize, role: Role) -> Option<Lent> {
        if self.batch.is_some() {
            return None;
        }
        let handler = self.latest.lend(&mut self.groups, group)?;
        let goes_on = !self.gathers || self.begin_next_part(id);
        if !goes_on || !self.begin_gathering(id, largest, role) {
            self.latest.take_back(&mut self.groups, group, handler);
            return None;
        }
        Some(Lent { handler, group, connection: Connection(id) })
    }

    /// The same for a connection that has received by the long way, if its answers may be gathered.
    fn lend_for(&mut self, slot: u32) -> Option<(Lent, Role)> {
        let (id, record) = (self.connections.id(slot), self.connections.get(slot)?);
        if !record.may_gather() || record.protocol.receiver.is_partial() {
            return None;
        }
        let (group, role, compresses) = (record.group, record.protocol.role(), record.protocol.compression.is_some());
        if !self.takes_short(group) {
            return None;
        }
        let largest = if compresses { largest_gathered(&self.groups, group) } else { WRITE_AT_ONCE };
        self.lend_gathering(id, group, largest, role).map(|lent| (lent, role))
    }
}
