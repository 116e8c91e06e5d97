//! Events, and bytes in, but for what nearly all are (see `whole`): one receive for each connection and turn.

use std::cell::RefMut;
use std::io;
use std::mem::take;

use super::callback::with_handler;
use super::frames::frames;
use super::opening;
use super::record::{Phase, Record};
use super::shared::LoopCell;
use super::state::State;
use super::timers::Millis;
use super::wait::Event;
use super::whole;
use crate::event::Handler;
use crate::protocol::message::Limits;
use crate::statistics::Refusal;

/// Does what an event asks for that is not as nearly all are (see `whole`).
#[inline(never)]
pub(super) fn event(cell: &LoopCell, slot: u32, event: Event, buffer: &mut [u8]) {
    let mut state = cell.state_while_gathering();
    if state.take_event(slot, event) {
        receive(cell, state, slot, buffer);
    }
}

/// Does what a receive asks for that has brought more, or less, than it does as a rule.
#[inline(never)]
pub(super) fn after_receive(
    cell: &LoopCell,
    mut state: RefMut<'_, State>,
    slot: u32,
    read: io::Result<usize>,
    buffer: &mut [u8],
) {
    let read = read.map(|count| Read::all_fresh(count, buffer));
    if let Some(count) = state.received(slot, read) {
        // The phase is another one only where nothing is to be told.
        tell(cell, state, slot, Phase::WebSocket, &mut buffer[..count]);
    }
}

/// Tells frames that a receive has brought of a connection whose answers are not gathered.
#[inline(never)]
pub(super) fn tell_frames(cell: &LoopCell, state: RefMut<'_, State>, slot: u32, bytes: &mut [u8]) {
    cell.measure();
    frames(cell, state, slot, bytes);
    cell.measured();
}

/// Receives for one connection, once, and tells the program what came.
pub(super) fn receive(cell: &LoopCell, mut state: RefMut<'_, State>, slot: u32, buffer: &mut [u8]) {
    if let Some((count, phase)) = state.read(slot, buffer) {
        tell(cell, state, slot, phase, &mut buffer[..count]);
    }
}

pub(super) fn tell(cell: &LoopCell, state: RefMut<'_, State>, slot: u32, phase: Phase, bytes: &mut [u8]) {
    cell.measure();
    if phase == Phase::WebSocket {
        whole::messages(cell, state, slot, bytes);
    } else {
        receive_otherwise(cell, state, slot, phase, bytes);
    }
    cell.measured();
}

/// Tells what has come before a WebSocket is open, or after.
fn receive_otherwise(cell: &LoopCell, mut state: RefMut<'_, State>, slot: u32, phase: Phase, bytes: &mut [u8]) {
    match phase {
        Phase::Request => {
            drop(state);
            opening::receive_request(cell, slot, bytes);
        }
        Phase::Response => {
            drop(state);
            opening::receive_response(cell, slot, bytes);
        }
        Phase::Ending => {
            state.count_received(slot, bytes.len());
            state.heard_while_ending(slot, bytes);
        }
        // Nothing a peer may still send is of use.
        Phase::Resolving
        | Phase::Dialing
        | Phase::Proxying
        | Phase::Securing
        | Phase::Deferred
        | Phase::WebSocket
        | Phase::Stream
        | Phase::Dead => state.count_received(slot, bytes.len()),
    }
}

/// Tells that a connection is open.
pub(super) fn opened(cell: &LoopCell, slot: u32, group: u32, call: impl FnOnce(&mut dyn Handler)) {
    if let Some(Err(panicked)) = with_handler(cell, group, call) {
        cell.state().callback_failed(slot, panicked);
    }
}

/// What one receive has brought.
struct Read {
    count: usize,
    /// How much of it is in the loop's buffer.
    fresh: usize,
    /// There may be more.
    is_full: bool,
}

impl Read {
    fn all_fresh(count: usize, buffer: &[u8]) -> Self {
        Self { count, fresh: count, is_full: count == buffer.len() }
    }
}

/// One receive for a connection that is in the middle of a message: if possible to where its payload belongs.
fn receive_partial(record: &mut Record, limits: &Limits, buffer: &mut [u8]) -> io::Result<Read> {
    let Some(transport) = &record.transport else { return Err(io::ErrorKind::NotConnected.into()) };
    let Some(payload) = record.protocol.receiver.direct(limits) else {
        return transport.read(buffer).map(|count| Read::all_fresh(count, buffer));
    };
    let held = payload.len();
    let count = transport.read_more(payload)?;
    let is_full = payload.len() == payload.capacity();
    Ok(Read { count, fresh: record.protocol.receiver.received_directly(held, buffer), is_full })
}

/// Takes note of a receive after which there may be more; tells whether to read again, and whether the peer was waited for.
pub(super) fn heard(record: &mut Record, now: Millis, more: bool) -> (bool, bool) {
    let was_awaited = record.is_awaited();
    record.heard_at = now;
    // A short receive means there is no more. Where the peer has ended, no further event will come.
    (more || record.peer_ended(), was_awaited)
}

impl State {
    /// One receive into the loop's buffer, or what was left over when reading was paused.
    fn read(&mut self, slot: u32, buffer: &mut [u8]) -> Option<(usize, Phase)> {
        let record = self.connections.get_mut(slot)?;
        let phase = record.phase;
        if !record.is_reading() || matches!(phase, Phase::Resolving | Phase::Dialing | Phase::Proxying | Phase::Dead) {
            if phase == Phase::Proxying {
                self.hear_proxy(slot, buffer);
            }
            return None;
        }
        if let Some(extra) = &mut record.extra
            && !extra.carry.is_empty()
        {
            let carry = take(&mut extra.carry);
            buffer[..carry.len()].copy_from_slice(&carry);
            // The peer is not silent, it is we who have not come to what it sends.
            let (_, was_awaited) = heard(record, self.now, true);
            self.read_again(slot);
            if was_awaited {
                self.schedule(slot);
            }
            return Some((carry.len(), phase));
        }
        let transport = record.transport.as_ref()?;
        if !transport.is_plain() {
            return self.read_secured(slot, buffer);
        }
        let received = if record.protocol.receiver.is_partial() {
            let group = self.groups.get(record.group)?;
            let received = receive_partial(record, &group.limits, buffer);
            if let Ok(Read { count, fresh, .. }) = &received {
                // What is in the buffer is counted when it is looked at.
                group.counters.bytes_received.add((count - fresh) as u64);
            }
            received
        } else {
            transport.read(buffer).map(|count| Read::all_fresh(count, buffer))
        };
        self.received(slot, received).map(|count| (count, phase))
    }

    /// Takes note of what a receive has brought; tells how much of it is in the loop's buffer.
    fn received(&mut self, slot: u32, read: io::Result<Read>) -> Option<usize> {
        match read {
            Ok(Read { count: 0, .. }) => {
                self.peer_ended(slot);
                None
            }
            Ok(Read { fresh, is_full, .. }) => {
                let record = self.connections.get_mut(slot)?;
                let (reads_again, was_awaited) = heard(record, self.now, is_full);
                if reads_again {
                    self.read_again(slot);
                }
                if was_awaited {
                    // The peer lives: the next ping may be due before the answer to this one would have been.
                    self.schedule(slot);
                }
                Some(fresh)
            }
            Err(error) => self.read_failed(slot, &error),
        }
    }

    /// A receive has brought an error, or nothing.
    pub(super) fn read_failed<T>(&mut self, slot: u32, error: &io::Error) -> Option<T> {
        if error.kind() != io::ErrorKind::WouldBlock {
            self.transport_failed(slot, "cannot read from the peer", error);
        }
        None
    }

    /// Takes note of what the system says about a connection; true where it should be read now.
    fn take_event(&mut self, slot: u32, event: Event) -> bool {
        let Some(mut record) = self.connections.get_mut(slot) else { return false };
        if record.phase == Phase::Dialing {
            if !(event.is_writable() || event.is_error()) {
                return false;
            }
            self.dialed(slot, 0);
            // A server may have spoken first, or ended, before the request: with edges no further event would tell.
            match self.connections.get_mut(slot) {
                Some(dialed) if dialed.phase != Phase::Dialing => record = dialed,
                _ => return false,
            }
        }
        if event.is_read_closed() || event.is_error() {
            record.set_peer_ended(true);
        }
        if record.phase == Phase::Deferred && record.peer_ended() {
            self.count_refused(slot, Refusal::Left);
            self.finish(slot);
            return false;
        }
        if event.is_error() && !record.is_reading() {
            // Paused or not, the connection is gone.
            let error = record.transport.as_ref().and_then(|transport| transport.take_error().ok().flatten());
            let error = error.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into());
            self.transport_failed(slot, "the connection to the peer was lost", &error);
            return false;
        }
        let reads = event.is_readable() || record.peer_ended();
        // One that is in the list of those to read will be read once, with the others there.
        let reads = reads && !record.ready;
        if event.is_writable() && record.is_blocked() {
            record.blocked_at = 0;
            self.touch(slot);
        }
        reads
    }
}
