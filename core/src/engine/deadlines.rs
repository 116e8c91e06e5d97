//! When a connection must be looked at, and what happens then: every timeout of `config.rs`, by the phase it belongs to.

use std::time::Duration;

use super::group::{Groups, Times};
use super::record::{Ending, Phase, Record};
use super::registry::Registry;
use super::state::State;
use super::timers::{Millis, Next, TimerKey};
use crate::close::{self, Side};
use crate::error::{Failure, Stage};
use crate::event::ReadyState;
use crate::protocol::frame::Role;
use crate::statistics::Refusal;

/// A peer takes nothing.
fn no_progress(stage: Stage, timeout: Duration) -> Failure {
    let message = format!("the peer took no byte for {timeout:?} (progress_timeout) while output waited");
    Failure::timeout(stage, "progress_timeout", timeout, message)
}

impl State {
    /// When a connection that is being opened is given up, and whether that is for `connect_timeout`.
    pub(super) fn opening_deadline(&self, slot: u32) -> Option<(Millis, bool)> {
        let record = self.connections.get(slot)?;
        opening_deadline(record, &self.groups.get(record.group)?.times)
    }

    /// Sees to it that the loop looks at a connection in time. An entry that is early enough is left as it is: what it
    /// finds when it is due decides.
    pub(super) fn schedule(&mut self, slot: u32) {
        let Some((id, record)) = self.connections.get_with_id(slot) else { return };
        let Some(group) = self.groups.get(record.group) else { return };
        let Some(deadline) = deadline(record, &group.times) else { return };
        if record.timer_at == 0 || deadline < record.timer_at {
            record.timer_at = deadline;
            self.timers.push(deadline, TimerKey::Connection(id));
            self.clear_timers();
        }
    }

    /// Drops void timers where they outnumber the live ones.
    pub(super) fn clear_timers(&mut self) {
        if self.timers.len() > 4 * (self.connections.len() + self.groups.len() + self.timers.functions()) + 1024 {
            let (connections, groups, shutting_down) = (&self.connections, &self.groups, self.shutting_down);
            self.timers.retain(|at, key| is_live(connections, groups, shutting_down, at, key));
        }
    }

    /// How long the loop may wait for the next timer, in milliseconds; more than [`FAR`](super::timers::FAR) where there is none.
    #[inline]
    pub(super) fn until_next_timer(&mut self) -> Millis {
        if self.now >= self.timers.known_next().read_clock_from {
            self.look_for_next_timer();
        }
        self.timers.known_next().at.saturating_sub(self.now)
    }

    #[inline(never)]
    fn look_for_next_timer(&mut self) {
        if self.timers.known_next() == Next::UNKNOWN {
            let (connections, groups, shutting_down) = (&self.connections, &self.groups, self.shutting_down);
            self.timers.find_next(|at, key| is_live(connections, groups, shutting_down, at, key));
        }
        if self.now >= self.timers.known_next().read_clock_from {
            self.tick();
        }
    }

    /// Whether what is overdue is something that the peer should have sent.
    pub(super) fn is_waiting_for_peer(&self, slot: u32) -> bool {
        self.connections.get(slot).is_some_and(|record| match record.phase {
            Phase::Proxying | Phase::Securing | Phase::Request | Phase::Response | Phase::Ending => true,
            Phase::WebSocket if record.protocol.state() == ReadyState::Open => record.is_awaited(),
            Phase::WebSocket => true,
            Phase::Resolving | Phase::Dialing | Phase::Deferred | Phase::Stream | Phase::Dead => false,
        })
    }

    /// Whether a connection's deadline is really over, or has moved meanwhile and was scheduled again.
    pub(super) fn is_overdue(&mut self, slot: u32) -> bool {
        let Some(record) = self.connections.get_mut(slot) else { return false };
        let Some(group) = self.groups.get(record.group) else { return false };
        record.timer_at = 0;
        let is_over = deadline(record, &group.times).is_some_and(|deadline| deadline <= self.now);
        if !is_over {
            self.schedule(slot);
        }
        is_over
    }

    /// A deadline is over.
    pub(super) fn timed_out(&mut self, slot: u32) {
        let Some(group) = self.group_of(slot) else { return };
        let (handshake, connect) = (group.options.handshake_timeout, group.options.connect_timeout);
        let close = Duration::from_millis(group.times.close);
        let (pong, progress) = (group.options.pong_timeout, group.options.progress_timeout);
        let opening = self.opening_deadline(slot);
        let stuck = self.is_stuck(slot);
        if stuck && self.gets_on(slot) {
            // What is due now is something else.
            return self.schedule(slot);
        }
        let Some(record) = self.connections.get_mut(slot) else { return };
        match record.phase {
            Phase::Dead => {}
            Phase::Dialing if opening.is_none_or(|(at, _)| self.now < at) => self.dial_next(slot),
            Phase::Request => self.request_timed_out(slot, handshake),
            Phase::Deferred => self.answer_timed_out(slot, handshake),
            Phase::Securing if record.protocol.role() == Role::Server => {
                self.count_refused(slot, Refusal::Timeout);
                self.finish(slot);
            }
            Phase::Resolving | Phase::Dialing | Phase::Proxying | Phase::Securing | Phase::Response => {
                let what = match record.phase {
                    Phase::Resolving => "the host name was not resolved",
                    Phase::Dialing => "no TCP connection came about",
                    Phase::Proxying => "the proxy did not open its tunnel",
                    Phase::Securing => "the TLS handshake was not done",
                    _ => "the server did not answer the opening handshake",
                };
                let (timeout, option) = match opening {
                    Some((_, true)) => (connect, "connect_timeout"),
                    _ => (handshake, "handshake_timeout"),
                };
                let message = format!("{what} within {timeout:?} ({option})");
                let failure = Failure::timeout(record.phase.stage(), option, timeout, message);
                self.fail(slot, close::ABNORMAL, Side::Us, failure);
            }
            Phase::WebSocket if record.protocol.state() == ReadyState::Open => {
                if stuck {
                    self.fail(slot, close::ABNORMAL, Side::Us, no_progress(Stage::WebSocket, progress));
                } else if record.is_awaited() {
                    let message = format!("the peer was silent for {pong:?} (pong_timeout) after a ping");
                    let failure = Failure::timeout(Stage::WebSocket, "pong_timeout", pong, message);
                    self.fail(slot, close::ABNORMAL, Side::Us, failure);
                } else {
                    self.heartbeat(slot);
                }
            }
            Phase::Stream => self.fail(slot, close::ABNORMAL, Side::Us, no_progress(Stage::Http, progress)),
            Phase::WebSocket | Phase::Ending => {
                // A client whose server is slow to end TCP has closed in order; so has an HTTP answer that was written.
                let unanswered = !record.protocol.is_close_complete() && record.phase == Phase::WebSocket;
                let unwritten = !record.outbox.is_empty();
                let is_http = record.protocol.state() == ReadyState::Connecting;
                if let Some(ending) = record.extra().ending.as_mut()
                    && ending.failure.is_none()
                    && (unanswered || unwritten)
                {
                    let failure = if is_http {
                        no_progress(Stage::Http, progress)
                    } else {
                        let what = if unanswered { "answer our Close" } else { "read" };
                        let message = format!("the peer did not {what} within {close:?} (close_timeout)");
                        Failure::timeout(Stage::WebSocket, "close_timeout", close, message)
                    };
                    **ending = Ending::failed(close::ABNORMAL, ending.by, failure);
                }
                self.finish_in_order(slot);
            }
        }
    }

    /// Whether output has waited for the progress timeout, where that is what counts.
    fn is_stuck(&self, slot: u32) -> bool {
        let Some(record) = self.connections.get(slot) else { return false };
        let Some(group) = self.groups.get(record.group) else { return false };
        let counts = match record.phase {
            Phase::WebSocket => record.protocol.state() == ReadyState::Open,
            Phase::Stream => true,
            // An HTTP answer; a WebSocket that ends has the closing timeout.
            Phase::Ending => record.protocol.state() == ReadyState::Connecting,
            _ => false,
        };
        let timeout = group.times.progress;
        counts && timeout != 0 && record.is_blocked() && self.now >= record.blocked_at + timeout
    }

    /// Tries to write once more: the system tells that there is room only when there is much of it, and a peer that
    /// reads slowly may have made some.
    fn gets_on(&mut self, slot: u32) -> bool {
        let Some(record) = self.connections.get_mut(slot) else { return false };
        // With TLS what waits is reported as written in pieces, and the peer may have taken less than one.
        let waiting = |record: &Record| {
            let unsent = record.transport.as_ref().map_or(0, |transport| transport.unsent());
            (record.outbox.len(), unsent)
        };
        let (before, unsent_before) = waiting(record);
        record.blocked_at = 0;
        self.flush_connection(slot);
        self.connections.get(slot).map(waiting).is_none_or(|(now, unsent)| now < before || unsent < unsent_before)
    }
}

/// When a connection must be looked at; none if nothing can run out.
fn deadline(record: &Record, times: &Times) -> Option<Millis> {
    let after = |since: Millis, timeout: Millis| (timeout != 0).then_some(since + timeout);
    match record.phase {
        Phase::Resolving | Phase::Proxying | Phase::Securing | Phase::Request | Phase::Deferred | Phase::Response => {
            opening_deadline(record, times).map(|(at, _)| at)
        }
        Phase::Dialing => {
            let next = record.extra.as_ref().and_then(|extra| extra.dial.as_ref()?.attempts.next_at);
            earliest(opening_deadline(record, times).map(|(at, _)| at), next)
        }
        Phase::WebSocket if record.protocol.state() == ReadyState::Open => {
            let progress = if record.is_blocked() { after(record.blocked_at, times.progress) } else { None };
            let heartbeat = match times.ping {
                // Nothing can be heard while we do not read; output that waits has its own timeout.
                _ if !record.is_reading() => None,
                0 => None,
                interval if record.is_awaited() => Some(together(record.since + times.pong, interval)),
                interval => Some(together(record.heard_at + interval, interval)),
            };
            earliest(progress, heartbeat)
        }
        // A body may be long: it may take its time as long as the peer takes some of it.
        Phase::Stream if !record.is_blocked() => None,
        Phase::Stream => after(record.blocked_at, times.progress),
        // So may a whole one, and what TLS has to say behind it.
        Phase::Ending if is_http(record) && record.is_blocked() && times.progress != 0 => {
            Some(record.blocked_at + times.progress)
        }
        // Where it is not blocked it is about to be written, in this turn.
        Phase::Ending if is_http(record) && !record.outbox.is_empty() => None,
        Phase::WebSocket | Phase::Ending => Some(record.since + times.close),
        Phase::Dead => None,
    }
}

fn opening_deadline(record: &Record, times: &Times) -> Option<(Millis, bool)> {
    let handshake = (times.handshake != 0).then_some((record.since + times.handshake, false));
    let dial = record.extra.as_ref().and_then(|extra| extra.dial.as_ref());
    let connect = dial.filter(|_| times.connect != 0 && record.phase != Phase::Response);
    let connect = connect.map(|dial| (dial.began + times.connect, true));
    earliest(handshake, connect)
}

/// Whether there is no WebSocket.
fn is_http(record: &Record) -> bool {
    record.protocol.state() == ReadyState::Connecting
}

#[inline]
fn is_live(
    connections: &Registry<Record>,
    groups: &Groups,
    shutting_down: Option<Millis>,
    at: Millis,
    key: TimerKey,
) -> bool {
    match key {
        TimerKey::Connection(id) => {
            connections.slot(id).and_then(|slot| connections.get(slot)).is_some_and(|record| record.timer_at == at)
        }
        TimerKey::Client(id) => State::attempt_due(groups, id) == at,
        TimerKey::Shutdown => shutting_down == Some(at),
        TimerKey::Program(_) | TimerKey::Accept(_) => true,
    }
}

/// Moves the deadline of a heartbeat back a little, to one that it shares with others: ten thousand connections do not wake
/// the loop ten thousand times.
fn together(at: Millis, interval: Millis) -> Millis {
    at.next_multiple_of((interval / 32).clamp(1, 256))
}

fn earliest<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_together_is_never_early_and_hardly_late() {
        for interval in [1, 31, 32, 1_000, 25_000, u64::MAX / 4] {
            for at in [1, 2, 255, 256, 257, 1_000_003, u64::MAX / 4 + 20_000] {
                let put = together(at, interval);
                assert!(put >= at && put - at < (interval / 32).clamp(1, 256), "{at} {interval}: {put}");
            }
        }
    }
}
