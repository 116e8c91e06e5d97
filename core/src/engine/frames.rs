//! The long way of received bytes: frames of every kind, at servers and clients, to callbacks.

use std::cell::RefMut;
use std::mem::take;

use super::callback::guarded;
use super::current::{self, largest_gathered};
use super::handover::tell_owned;
use super::record::{Phase, Record};
use super::send::{HEARTBEAT, WRITE_AT_ONCE};
use super::shared::LoopCell;
use super::state::State;
use super::transport::Transport;
use crate::close::Side;
use crate::event::{Connection, Fragment, Handler, Message, ReadyState};
use crate::protocol::deflate::{Agreement, Inflation};
use crate::protocol::frame::{MAX_CLOSE, Role, begins_with_close, last_of};
use crate::protocol::message::{Assembled, Limits, Received, Receiver, Violation};

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
    if !bytes.is_empty() || lent.receiver.is_ready() {
        bytes = any_messages(cell, slot, &mut lent, &mut flow, bytes);
    }
    let answers = if lent.is_current { current::end(lent.connection) } else { 0 };
    let mut state = cell.state_while_gathering();
    if lent.receiver.is_partial() {
        state.put_back_receiver(slot, lent.receiver);
    }
    let State { latest, groups, .. } = &mut *state;
    latest.take_back(groups, lent.group, lent.handler);
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
    let counters = &state.latest.counters;
    counters.messages_received.add(lent.messages.into());
    counters.bytes_received.add(received as u64);
    counters.messages_sent.add(answers.into());
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
            Some(Err(violation)) => violated(cell, slot, &mut *lent.handler, lent.connection, violation),
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
            violated(cell, slot, &mut *lent.handler, lent.connection, violation);
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
        before_reply(cell, slot, &mut *lent.handler, lent.connection);
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
                Err(violation) => return violated(cell, slot, &mut *lent.handler, lent.connection, violation),
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
pub(super) fn violated(
    cell: &LoopCell,
    slot: u32,
    handler: &mut dyn Handler,
    connection: Connection,
    violation: Violation,
) {
    before_reply(cell, slot, handler, connection);
    cell.state().fail(slot, violation.code, Side::Us, *violation.failure);
}

/// Tells that the engine will answer by itself.
#[cold]
fn before_reply(cell: &LoopCell, slot: u32, handler: &mut dyn Handler, connection: Connection) {
    if let Err(panicked) = guarded(|| handler.before_reply(connection)) {
        cell.state().callback_failed(slot, panicked);
    }
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
        if self.gathers {
            let id = self.connections.id(slot);
            if !current::is(Connection(id)) {
                self.begin_next_part(id);
            }
        }
        let (id, record) = self.connections.get_with_id(slot)?;
        let group = record.group;
        let handler = self.latest.lend(&mut self.groups, group)?;
        let compresses = record.protocol.compression.is_some();
        let largest = if compresses { largest_gathered(&self.groups, group) } else { WRITE_AT_ONCE };
        let (flow, role, may_gather) = (flow_of(record), record.protocol.role(), record.may_gather());
        let receiver = take(&mut record.protocol.receiver);
        // The short way may have begun already, and leaves what room there is.
        let is_current = current::is(Connection(id))
            || flow == Flow::Deliver && self.batch.is_none() && may_gather && self.begin_gathering(id, largest, role);
        let lent = Lent {
            handler,
            receiver,
            group,
            limits: self.latest.limits,
            role,
            inflated: 0,
            connection: Connection(id),
            messages: 0,
            is_current,
        };
        Some((lent, flow))
    }
}
