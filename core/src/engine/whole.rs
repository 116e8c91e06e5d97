//! The short way of what nearly every event brings: bytes for an open WebSocket, all of them in one receive; at a server
//! whole messages, one behind the other, whose answers are only gathered (see `current`). All other events go the long way
//! (see `receive`), and so do other bytes, and what comes behind them (see `frames`).

use std::cell::RefMut;
use std::io;
use std::mem::take;

use super::callback::guarded;
use super::frames::{frames, violated};
use super::record::Record;
use super::send::WRITE_AT_ONCE;
use super::shared::LoopCell;
use super::state::State;
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

/// A connection whose answers to what it has received may be gathered.
#[derive(Clone, Copy)]
struct Candidate {
    id: u64,
    group: u32,
    compresses: bool,
}

/// What an event has led to.
enum Came {
    /// So many bytes, and nothing else is to be done.
    Bytes(usize, Candidate),
    /// The same for a connection whose answers are not gathered.
    Frames(usize),
    /// A receive with another result.
    Received(io::Result<usize>),
    /// No receive: all about the event is to be looked at.
    Event,
}

/// Does what an event of a connection asks for: as a rule bytes have come, one receive brings all of them, and nothing else is
/// to be done. The state is handed back, so that the next event has it.
#[inline(never)]
pub(super) fn event<'s>(
    cell: &'s LoopCell,
    mut state: RefMut<'s, State>,
    slot: u32,
    event: Event,
    buffer: &mut [u8],
) -> RefMut<'s, State> {
    match state.receive_messages(slot, event, buffer) {
        Came::Bytes(count, candidate) => {
            if let Some(lent) = state.lend_to(candidate) {
                cell.measure();
                let state = tell_lent(cell, state, slot, lent, &mut buffer[..count]);
                cell.measured();
                return state;
            }
            receive::tell_frames(cell, state, slot, &mut buffer[..count]);
        }
        Came::Frames(count) => receive::tell_frames(cell, state, slot, &mut buffer[..count]),
        Came::Received(read) => receive::after_receive(cell, state, slot, read, buffer),
        Came::Event => receive::after_event(cell, state, slot, event, buffer),
    }
    cell.state_while_gathering()
}

/// Tells what a receive has brought by the long way.
pub(super) fn messages(cell: &LoopCell, mut state: RefMut<'_, State>, slot: u32, bytes: &mut [u8]) {
    if let Some(candidate) = state.candidate(slot)
        && let Some(lent) = state.lend_to(candidate)
    {
        drop(tell_lent(cell, state, slot, lent, bytes));
    } else {
        frames(cell, state, slot, bytes);
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
    // Groups are removed between callbacks only, so this one is still there.
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

impl Candidate {
    #[inline(always)]
    fn new(id: u64, record: &Record) -> Self {
        Self { id, group: record.group, compresses: record.protocol.compression.is_some() }
    }
}

impl State {
    /// One receive for an open WebSocket, where new messages are all that is to be looked at.
    #[inline(always)]
    fn receive_messages(&mut self, slot: u32, event: Event, buffer: &mut [u8]) -> Came {
        let Some((id, record)) = self.connections.get_with_id(slot) else { return Came::Event };
        if !event.is_only_readable() || !record.awaits_only_messages() {
            return Came::Event;
        }
        let Some(transport) = record.transport.as_ref().filter(|transport| transport.is_plain()) else {
            return Came::Event;
        };
        match transport.read(buffer) {
            // A full buffer means that there may be more; of a peer that was asked whether it lives a note is to be taken.
            Ok(count) if count != 0 && count < buffer.len() && !record.is_awaited() => {
                record.heard_at = self.now;
                if record.may_gather() && self.batch.is_none() {
                    Came::Bytes(count, Candidate::new(id, record))
                } else {
                    Came::Frames(count)
                }
            }
            read => Came::Received(read),
        }
    }

    /// The connection that has received by the long way, if its answers may be gathered.
    fn candidate(&mut self, slot: u32) -> Option<Candidate> {
        let (id, record) = self.connections.get_with_id(slot)?;
        let gathers = record.may_gather() && !record.protocol.receiver.is_partial() && self.batch.is_none();
        gathers.then(|| Candidate::new(id, record))
    }

    /// Makes a connection the current one and lends its handler.
    #[inline(always)]
    fn lend_to(&mut self, Candidate { id, group: index, compresses }: Candidate) -> Option<Lent> {
        let group = self.groups.get_mut(index)?;
        let largest = if compresses { group.largest_gathered() } else { WRITE_AT_ONCE };
        let handler = group.handler.take()?;
        if !current::begin(id, self.least_backlog_limit, largest) {
            group.take_back(handler);
            return None;
        }
        self.gathers = true;
        if index != self.latest.0 {
            self.latest = (index, group.counters.clone());
        }
        Some(Lent { handler, group: index, limits: group.limits, connection: Connection(id) })
    }
}
