//! Bytes in: one receive per connection and turn, frames to callbacks.

use std::cell::RefMut;
use std::io;
use std::mem::take;

use super::callback::{guarded, with_handler};
use super::current;
use super::handover::tell_owned;
use super::opening;
use super::record::{Phase, Record};
use super::send::{HEARTBEAT, WRITE_AT_ONCE};
use super::shared::LoopCell;
use super::state::State;
use super::timers::Millis;
use super::transport::Transport;
use crate::close::Side;
use crate::event::{Connection, Fragment, Handler, Message, ReadyState};
use crate::protocol::deflate::{Agreement, Inflation};
use crate::protocol::frame::{MAX_CLOSE, Role, begins_with_close, last_of};
use crate::protocol::message::{Assembled, Limits, Received, Receiver, Violation, receive_medium, receive_short};

/// Receives for one connection, once, and tells the program what came.
#[inline]
pub(super) fn receive(cell: &LoopCell, mut state: RefMut<'_, State>, slot: u32, buffer: &mut [u8]) {
    let Some((count, phase)) = state.read(slot, buffer) else { return };
    let bytes = &mut buffer[..count];
    match phase {
        Phase::WebSocket => frames(cell, state, slot, bytes),
        Phase::Request => {
            drop(state);
            opening::receive_request(cell, slot, bytes);
        }
        Phase::Response => {
            drop(state);
            opening::receive_response(cell, slot, bytes);
        }
        Phase::Ending => {
            state.count_received(slot, count);
            state.heard_while_ending(slot, bytes);
        }
        // Nothing a peer may still send is of use.
        Phase::Resolving
        | Phase::Dialing
        | Phase::Proxying
        | Phase::Securing
        | Phase::Deferred
        | Phase::Stream
        | Phase::Dead => state.count_received(slot, count),
    }
}

/// What may be done with the next frame of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Deliver,
    /// We have closed: only the peer's Close is of interest.
    Swallow,
    /// Reading is paused: the rest is kept.
    Hold,
    Stop,
}

/// How much a connection may have inflated of what one receive brought: a thousandth of it may have come over the wire, and
/// others wait.
const INFLATED_AT_ONCE: usize = 4 * 1024 * 1024;

/// What is taken out of the state while frames are told: the callbacks may use the state.
struct Lent {
    receiver: Receiver,
    handler: Box<dyn Handler>,
    group: u32,
    limits: Limits,
    role: Role,
    /// Bytes that this receive has inflated to, or brought in fragments.
    inflated: usize,
    connection: Connection,
    /// Messages that were told.
    messages: u32,
    /// Its answers are gathered, and nothing has changed since.
    is_current: bool,
}

/// Parses frames and calls the handler for each message, until the bytes or the callbacks end it.
pub(super) fn frames(cell: &LoopCell, mut state: RefMut<'_, State>, slot: u32, mut bytes: &mut [u8]) {
    let Some((mut lent, mut flow)) = state.lend(slot) else { return };
    drop(state);
    let mut received = bytes.len();
    if lent.is_current && !lent.receiver.is_partial() {
        lent.messages = whole_messages(cell, slot, &mut lent, &mut bytes);
        if !current::is(lent.connection) {
            lent.is_current = false;
            flow = cell.state_while_gathering().flow(slot);
        }
    }
    if !bytes.is_empty() || lent.receiver.is_ready() {
        bytes = any_messages(cell, slot, &mut lent, &mut flow, bytes);
    }
    let (writes_early, answers) = if lent.is_current { current::end() } else { (false, 0) };
    let mut state = cell.state_while_gathering();
    if lent.receiver.is_partial() {
        state.put_back_receiver(slot, lent.receiver);
    }
    if let Some(group) = state.groups.get_mut(lent.group) {
        group.handler = Some(lent.handler);
    }
    // Left over is what may not be told, or not now.
    if !bytes.is_empty() {
        match flow {
            Flow::Stop => state.heard_while_ending(slot, bytes),
            Flow::Hold => {
                received -= bytes.len();
                state.carry_over(slot, bytes);
            }
            Flow::Deliver | Flow::Swallow => {
                received -= bytes.len();
                state.carry_over(slot, bytes);
                state.read_again(slot);
            }
        }
    }
    let counters = &state.latest.1;
    counters.messages_received.add(lent.messages.into());
    counters.bytes_received.add(received as u64);
    counters.messages_sent.add(answers.into());
    if writes_early {
        state.write_gathered();
    }
}

/// Tells the messages that the bytes begin with and that are there whole, as long as their answers are only gathered: what
/// nearly all of them are, one behind the other, with nothing else to look at. Returns how many.
#[inline(always)]
fn whole_messages(cell: &LoopCell, slot: u32, lent: &mut Lent, bytes: &mut &mut [u8]) -> u32 {
    let (connection, limits) = (lent.connection, lent.limits);
    let mut told = 0;
    loop {
        while let Some(message) = receive_short(bytes, &limits) {
            told += tell_whole(cell, slot, lent, message);
            if !current::is(connection) {
                return told;
            }
        }
        if bytes.is_empty() {
            return told;
        }
        let (message, rest) = receive_medium(take(bytes), &limits);
        *bytes = rest;
        let Some(message) = message else { return told };
        told += tell_whole(cell, slot, lent, message);
        if !current::is(connection) {
            return told;
        }
    }
}

/// Tells a message; returns how many that was.
#[inline(always)]
fn tell_whole(cell: &LoopCell, slot: u32, lent: &mut Lent, message: Result<Message<'_>, Violation>) -> u32 {
    match message {
        Ok(message) => {
            if let Err(panicked) = guarded(|| lent.handler.on_message(lent.connection, message)) {
                cell.state().callback_failed(slot, panicked);
            }
            1
        }
        Err(violation) => {
            violated(cell, slot, lent, violation);
            0
        }
    }
}

/// Tells what comes behind, whatever it is; returns what may not be told, or not now.
#[inline(never)]
fn any_messages<'b>(
    cell: &LoopCell,
    slot: u32,
    lent: &mut Lent,
    flow: &mut Flow,
    mut bytes: &'b mut [u8],
) -> &'b mut [u8] {
    while matches!(*flow, Flow::Deliver | Flow::Swallow) && (!bytes.is_empty() || lent.receiver.is_ready()) {
        match lent.receiver.receive_short(&mut bytes, lent.role, &lent.limits) {
            Some(Ok(message)) if *flow == Flow::Deliver => {
                lent.messages += 1;
                if let Err(panicked) = guarded(|| lent.handler.on_message(lent.connection, message)) {
                    cell.state().callback_failed(slot, panicked);
                }
            }
            Some(Ok(_)) => {}
            Some(Err(violation)) => violated(cell, slot, lent, violation),
            None => {
                bytes = one_event(cell, slot, lent, bytes, *flow);
                if lent.inflated >= INFLATED_AT_ONCE {
                    *flow = cell.state_while_gathering().flow(slot);
                    break;
                }
            }
        }
        if !(lent.is_current && current::is(lent.connection)) {
            lent.is_current = false;
            *flow = cell.state_while_gathering().flow(slot);
        }
    }
    bytes
}

/// The last bytes of a receive.
struct Tail {
    bytes: [u8; MAX_CLOSE],
    len: usize,
}

impl Tail {
    fn of(received: &[u8]) -> Self {
        let last = last_of(received);
        let mut bytes = [0; MAX_CLOSE];
        bytes[..last.len()].copy_from_slice(last);
        Self { bytes, len: last.len() }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Parses and tells what is not a short message; returns the bytes behind it.
#[inline(never)]
fn one_event<'b>(cell: &LoopCell, slot: u32, lent: &mut Lent, bytes: &'b mut [u8], flow: Flow) -> &'b mut [u8] {
    let (compression, is_plain) = cell.state_while_gathering().ways(slot);
    // A violation is answered with a Close, over TLS with our side kept open: the peer's, or its beginning, may be among
    // these bytes.
    let has_close = !is_plain && begins_with_close(bytes);
    let tail = (!is_plain).then(|| Tail::of(bytes));
    let received = match compression {
        None => lent.receiver.receive(bytes, lent.role, &lent.limits, None),
        Some(agreement) => {
            let pool = &mut *cell.inflaters.borrow_mut();
            let inflation = Inflation { pool, keeps_context: agreement.keeps_received(lent.role) };
            lent.receiver.receive(bytes, lent.role, &lent.limits, Some(inflation))
        }
    };
    match received {
        Ok((received, rest)) => {
            if let Some(received) = received {
                tell(cell, slot, lent, received, flow);
            }
            rest
        }
        Err(violation) => {
            violated(cell, slot, lent, violation);
            if has_close {
                cell.state().close_heard(slot);
            } else if let Some(tail) = tail {
                cell.state().heard_while_ending(slot, tail.bytes());
            }
            &mut []
        }
    }
}

fn tell(cell: &LoopCell, slot: u32, lent: &mut Lent, received: Received<'_>, flow: Flow) {
    let mut deliver = flow == Flow::Deliver;
    // What is not delivered has taken its time as well.
    lent.inflated += match &received {
        Received::Inflated(inflated) => inflated.size(),
        Received::Fragment { payload, .. } => payload.len(),
        _ => 0,
    };
    if matches!(received, Received::Close { .. } | Received::Ping(_)) {
        before_reply(cell, slot, lent);
        // The program may have closed there.
        deliver &= matches!(cell.state().flow(slot), Flow::Deliver | Flow::Hold);
    }
    let (handler, connection) = (&mut lent.handler, lent.connection);
    let told = match received {
        Received::Close { code, reason } => {
            cell.state().close_received(slot, code, &reason);
            return;
        }
        Received::Ping(payload) => {
            cell.state().answer_ping(slot, &payload);
            if !deliver {
                return;
            }
            guarded(|| handler.on_ping(connection, &payload))
        }
        _ if !deliver => return,
        Received::Message(message) => {
            lent.messages += 1;
            guarded(|| handler.on_message(connection, message))
        }
        Received::Assembled(Assembled::Binary(payload)) => {
            lent.messages += 1;
            tell_owned(cell, payload, |payload| guarded(|| handler.on_message(connection, Message::Binary(payload))))
        }
        Received::Assembled(message) => {
            lent.messages += 1;
            guarded(|| handler.on_message(connection, message.message()))
        }
        Received::Inflated(inflated) => {
            let told = match inflated.message() {
                Ok(message) => guarded(|| handler.on_message(connection, message)),
                Err(violation) => return violated(cell, slot, lent, violation),
            };
            lent.messages += 1;
            cell.inflaters.borrow_mut().take_back_buffer(inflated.into_payload());
            told
        }
        Received::Fragment { is_text, is_first, is_last, payload } => {
            lent.messages += u32::from(is_last);
            let fragment = Fragment { payload: &payload, is_text, is_first, is_last };
            guarded(|| handler.on_fragment(connection, fragment))
        }
        Received::Pong(payload) if *payload == *HEARTBEAT => {
            return cell.state_while_gathering().heartbeat_answered(slot);
        }
        Received::Pong(payload) => {
            let latency = cell.state_while_gathering().pong_received(slot, &payload);
            guarded(|| handler.on_pong(connection, &payload, latency))
        }
    };
    if let Err(panicked) = told {
        cell.state().callback_failed(slot, panicked);
    }
}

#[cold]
fn violated(cell: &LoopCell, slot: u32, lent: &mut Lent, violation: Violation) {
    before_reply(cell, slot, lent);
    cell.state().fail(slot, violation.code, Side::Us, *violation.failure);
}

/// Tells that the engine will answer by itself.
#[cold]
fn before_reply(cell: &LoopCell, slot: u32, lent: &mut Lent) {
    if let Err(panicked) = guarded(|| lent.handler.before_reply(lent.connection)) {
        cell.state().callback_failed(slot, panicked);
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

/// One receive for a connection that is in the middle of a message: if possible to where its payload belongs.
fn receive_partial(record: &mut Record, limits: &Limits, buffer: &mut [u8]) -> io::Result<Read> {
    let Some(transport) = &record.transport else { return Err(io::ErrorKind::NotConnected.into()) };
    let Some(payload) = record.protocol.receiver.direct(limits) else {
        return transport.read(buffer).map(|count| Read { count, fresh: count, is_full: count == buffer.len() });
    };
    let held = payload.len();
    let count = transport.read_more(payload)?;
    let is_full = payload.len() == payload.capacity();
    Ok(Read { count, fresh: record.protocol.receiver.received_directly(held, buffer), is_full })
}

/// Takes note of a receive after which there may be more; tells whether to read again, and whether the peer was waited for.
#[inline(always)]
pub(super) fn heard(record: &mut Record, now: Millis, more: bool) -> (bool, bool) {
    let was_awaited = record.heard_at < record.since;
    record.heard_at = now;
    // A short receive means there is no more. Where the peer has ended, no further event will come.
    (more || record.peer_ended(), was_awaited)
}

#[inline]
fn flow_of(record: &Record) -> Flow {
    if record.phase != Phase::WebSocket || !record.protocol.is_receiving() {
        Flow::Stop
    } else if !record.is_reading() {
        Flow::Hold
    } else if record.protocol.state() == ReadyState::Open {
        Flow::Deliver
    } else {
        Flow::Swallow
    }
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
            transport.read(buffer).map(|count| Read { count, fresh: count, is_full: count == buffer.len() })
        };
        match received {
            Ok(Read { count: 0, .. }) => {
                self.peer_ended(slot);
                None
            }
            Ok(Read { fresh, is_full, .. }) => {
                let (reads_again, was_awaited) = heard(record, self.now, is_full);
                if reads_again {
                    self.read_again(slot);
                }
                if was_awaited {
                    // The peer lives: the next ping may be due before the answer to this one would have been.
                    self.schedule(slot);
                }
                Some((fresh, phase))
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

    /// What may be done with the next frame.
    fn flow(&self, slot: u32) -> Flow {
        self.connections.get(slot).map_or(Flow::Stop, flow_of)
    }

    /// What was agreed on for a connection, and whether it is without TLS.
    fn ways(&self, slot: u32) -> (Option<Agreement>, bool) {
        self.connections.get(slot).map_or((None, true), |record| {
            (record.protocol.compression, record.transport.as_ref().is_none_or(Transport::is_plain))
        })
    }

    #[inline(never)]
    fn put_back_receiver(&mut self, slot: u32, receiver: Receiver) {
        if let Some(record) = self.connections.get_mut(slot) {
            record.protocol.receiver = receiver;
        }
    }

    /// Keeps what was received and may not be told now.
    #[inline(never)]
    fn carry_over(&mut self, slot: u32, bytes: &[u8]) {
        if let Some(record) = self.connections.get_mut(slot) {
            record.extra().carry = bytes.to_vec();
        }
    }

    #[inline]
    fn lend(&mut self, slot: u32) -> Option<(Lent, Flow)> {
        let (id, record) = self.connections.get_with_id(slot)?;
        let group = self.groups.get_mut(record.group)?;
        if record.group != self.latest.0 {
            self.latest = (record.group, group.counters.clone());
        }
        let flow = flow_of(record);
        let largest = if record.protocol.compression.is_none() { WRITE_AT_ONCE } else { group.largest_gathered() };
        let lent = Lent {
            handler: group.handler.take()?,
            receiver: take(&mut record.protocol.receiver),
            group: record.group,
            limits: group.limits,
            role: record.protocol.role(),
            inflated: 0,
            connection: Connection(id),
            messages: 0,
            is_current: flow == Flow::Deliver
                && self.batch.is_none()
                && current::begin(id, record, self.least_backlog_limit, largest),
        };
        self.gathers |= lent.is_current;
        Some((lent, flow))
    }
}
