//! Every way a connection ends: closed by a side, failed, cut; and the one `on_close` that is owed then.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::record::{Ending, NO_MEMBER, Phase};
use super::state::{News, State};
use super::timers::TimerKey;
use crate::close::{self, Side};
use crate::error::{Error, Failure, FailureKind, Limit, Result, Stage};
use crate::event::{Connection, ReadyState};
use crate::protocol::connection::{check_close, fit_reason};
use crate::protocol::frame::{Role, ends_with_close, last_of};
use crate::protocol::http::{HttpError, LAST_CHUNK};
use crate::statistics::Refusal;

impl Ending {
    /// An end that is in order as far as this side is concerned.
    pub(super) fn orderly(code: u16, reason: &str, by: Side, was_clean: bool) -> Self {
        Self { code, reason: reason.to_owned(), was_clean, by, failure: None }
    }

    pub(super) fn failed(code: u16, by: Side, failure: Failure) -> Self {
        // What a program's bug says is not the peer's business.
        let is_told = code != close::ABNORMAL && failure.kind != FailureKind::Callback;
        let reason = if is_told { fit_reason(&failure.message) } else { "" };
        Self { code, reason: reason.to_owned(), was_clean: false, by, failure: Some(failure) }
    }
}

impl Phase {
    /// The stage in which something fails now.
    pub(super) fn stage(self) -> Stage {
        match self {
            Self::Resolving => Stage::Resolve,
            Self::Dialing => Stage::Connect,
            Self::Proxying => Stage::Proxy,
            Self::Securing => Stage::Tls,
            Self::Request | Self::Deferred | Self::Response | Self::Stream => Stage::Http,
            Self::WebSocket | Self::Ending | Self::Dead => Stage::WebSocket,
        }
    }
}

impl State {
    /// The program closes.
    pub(super) fn close(&mut self, connection: Connection, code: u16, reason: &str) -> Result<()> {
        let wire_code = check_close(code, reason)?;
        let slot = self.slot(connection)?;
        self.settle();
        let Some(record) = self.connections.get_mut(slot) else { return Err(Error::Closed) };
        match record.phase {
            Phase::WebSocket => {
                record.protocol.check_open()?;
                record.extra().ending = Some(Box::new(Ending::orderly(code, reason, Side::Us, false)));
                self.begin_closing(slot, wire_code, reason);
            }
            Phase::Stream => {
                if record.chunked() {
                    record.outbox.append(&mut self.spares, |out| out.extend(LAST_CHUNK));
                }
                self.end(slot, Ending::orderly(code, reason, Side::Us, true));
            }
            // Of a server's only the request hook sees such a number, and its answer decides.
            Phase::Request | Phase::Deferred | Phase::Securing if !record.announced() => return Err(Error::NotOpen),
            Phase::Request
            | Phase::Deferred
            | Phase::Resolving
            | Phase::Dialing
            | Phase::Proxying
            | Phase::Securing
            | Phase::Response => {
                self.set_ending(slot, Ending::orderly(close::ABNORMAL, "", Side::Us, false));
                self.finish(slot);
            }
            Phase::Ending | Phase::Dead => return Err(Error::Closed),
        }
        Ok(())
    }

    /// The program cuts.
    pub(super) fn terminate(&mut self, connection: Connection) -> Result<()> {
        let slot = self.slot(connection)?;
        self.settle();
        match self.connections.get(slot).map(|record| (record.phase, record.announced())) {
            None | Some((Phase::Dead, _)) => return Err(Error::Closed),
            Some((Phase::Request | Phase::Deferred | Phase::Securing, false)) => return Err(Error::NotOpen),
            Some(_) => {}
        }
        // What has failed, or was closed by the peer, is told as such.
        let ending = self.connections.get(slot).and_then(|record| record.extra.as_ref()?.ending.as_ref());
        if ending.is_none_or(|ending| ending.failure.is_none() && !ending.was_clean) {
            self.set_ending(slot, Ending::orderly(close::ABNORMAL, "", Side::Us, false));
        }
        self.finish(slot);
        Ok(())
    }

    /// Sends our Close, if it was not sent, and takes the connection out of what broadcasts reach.
    fn begin_closing(&mut self, slot: u32, code: Option<u16>, reason: &str) {
        self.leave_open(slot);
        let Some(role) = self.connections.get(slot).map(|record| record.protocol.role()) else { return };
        let mask = self.mask(role);
        let Some(record) = self.connections.get_mut(slot) else { return };
        let protocol = &mut record.protocol;
        record.outbox.append(&mut self.spares, |out| protocol.send_close(out, code, reason, mask));
        self.begin_timeout(slot);
    }

    /// From now on the closing timeout runs, and whatever stopped the reading, the peer's Close or end must be heard.
    fn begin_timeout(&mut self, slot: u32) {
        // The clock was last read before the callbacks of this turn, which may have taken long.
        self.tick();
        let Some(record) = self.connections.get_mut(slot) else { return };
        record.since = self.now;
        // What ends as soon as it is written needs a timer only where the kernel does not take it, and gets it there.
        let leaves_now = record.quick() && !record.is_blocked();
        if record.set_paused(false) | record.set_held(false) {
            self.read_again(slot);
        }
        self.touch(slot);
        if !leaves_now {
            self.schedule(slot);
        }
    }

    /// The peer's Close has come.
    pub(super) fn close_received(&mut self, slot: u32, code: Option<u16>, reason: &str) {
        self.settle();
        let Some(record) = self.connections.get_mut(slot) else { return };
        if record.phase != Phase::WebSocket {
            return;
        }
        let peer_began = record.protocol.state() == ReadyState::Open;
        record.protocol.receive_close();
        // The server ends TCP (RFC 6455 section 7.1.1); a client waits for that, within the closing timeout.
        if record.protocol.role() == Role::Server {
            record.phase = Phase::Ending;
            record.set_quick(true);
        }
        if peer_began {
            let told = code.unwrap_or(close::NO_STATUS);
            record.extra().ending = Some(Box::new(Ending::orderly(told, reason, Side::Peer, true)));
            self.begin_closing(slot, code, "");
        } else {
            if let Some(ending) = record.extra().ending.as_mut() {
                ending.was_clean = ending.failure.is_none();
            }
            self.touch(slot);
        }
    }

    /// Something failed. An open WebSocket tells the peer why with a Close of `code`, unless that is 1006; then what
    /// waits is written, and the peer's end awaited within the closing timeout. Everything else is cut.
    pub(super) fn fail(&mut self, slot: u32, code: u16, by: Side, failure: Failure) {
        self.settle();
        let Some(record) = self.connections.get_mut(slot) else { return };
        match record.phase {
            Phase::Dead => {}
            // What is told is the first failure, or the order in which both sides had closed.
            Phase::Ending => self.finish(slot),
            Phase::WebSocket if code != close::ABNORMAL && record.protocol.state() == ReadyState::Closing => {
                // A code that was sent is told as it was sent.
                if let Some(ending) = record.extra().ending.as_mut() {
                    ending.was_clean = false;
                    ending.failure = Some(failure);
                }
                self.await_end(slot);
            }
            Phase::WebSocket if code != close::ABNORMAL => {
                let ending = Ending::failed(code, by, failure);
                let reason = ending.reason.clone();
                record.extra().ending = Some(Box::new(ending));
                self.begin_closing(slot, Some(code), &reason);
                self.await_end(slot);
            }
            _ => {
                self.count_refused(slot, Refusal::Left);
                self.set_ending(slot, Ending::failed(close::ABNORMAL, by, failure));
                self.finish(slot);
            }
        }
    }

    /// The backlog is over its limit: messages not begun are dropped, and Close 1013 follows the frame in progress.
    pub(super) fn fail_backlog(&mut self, slot: u32, backlog: usize, limit: usize) {
        let Some(record) = self.connections.get_mut(slot) else { return };
        let stage = record.phase.stage();
        if record.phase == Phase::WebSocket {
            let committed = record.transport.as_ref().map_or(0, |transport| transport.committed());
            let (bytes, messages) = record.outbox.drop_unbegun(record.protocol.role(), committed);
            let extra = record.extra();
            extra.pong = None;
            extra.dropped_bytes += bytes as u64;
            self.lose(slot, messages);
        }
        let message = format!("{backlog} bytes waited for a peer that does not read, backlog_limit is {limit}");
        let limit = Limit::new("backlog_limit", limit).reached(backlog as u64);
        self.fail(slot, close::TRY_AGAIN_LATER, Side::Us, Failure::limit(stage, limit, message));
    }

    /// Writes what waits, then ends; what is told is `ending`.
    pub(super) fn end(&mut self, slot: u32, ending: Ending) {
        self.set_ending(slot, ending);
        self.await_end(slot);
    }

    fn await_end(&mut self, slot: u32) {
        if let Some(record) = self.connections.get_mut(slot) {
            record.phase = Phase::Ending;
            self.begin_timeout(slot);
        }
    }

    /// Something came for a connection that is ending: only an answer to our Close is of use, where we wait for it.
    pub(super) fn heard_while_ending(&mut self, slot: u32, bytes: &[u8]) {
        let Some(record) = self.connections.get_mut(slot).filter(|record| record.holds_its_side()) else { return };
        let role = record.protocol.role();
        let tail = &mut record.extra().tail;
        tail.extend(last_of(bytes));
        tail.drain(..tail.len() - last_of(tail).len());
        if ends_with_close(tail, role) {
            self.close_heard(slot);
        }
    }

    /// The peer's Close came for a connection that is ending.
    pub(super) fn close_heard(&mut self, slot: u32) {
        if let Some(record) = self.connections.get_mut(slot)
            && record.holds_its_side()
        {
            record.set_quick(true);
            self.touch(slot);
        }
    }

    /// Everything that an ending connection had to write is written.
    pub(super) fn ending_is_written(&mut self, slot: u32) {
        let Some(record) = self.connections.get_mut(slot) else { return };
        if record.holds_its_side() {
            return;
        }
        if record.quick() || record.peer_ended() {
            self.finish(slot);
        } else if let Some(transport) = &record.transport {
            transport.end_writing();
            record.since = self.now;
            self.schedule(slot);
        }
    }

    /// The peer sends no more.
    pub(super) fn peer_ended(&mut self, slot: u32) {
        // Answers to what came in the same segment leave if they can.
        self.settle();
        self.flush_connection(slot);
        let Some(record) = self.connections.get_mut(slot) else { return };
        record.set_peer_ended(true);
        let (stage, kind) = (record.phase.stage(), FailureKind::Transport);
        match record.phase {
            Phase::Dead => {}
            Phase::Stream => {
                self.set_ending(slot, Ending::orderly(close::GOING_AWAY, "the client left", Side::Peer, true));
                self.finish(slot);
            }
            // Answers may still be under way to a peer that has only shut its own side.
            Phase::Ending if !record.outbox.is_empty() => {}
            Phase::Ending => self.finish_in_order(slot),
            Phase::WebSocket if record.protocol.is_close_complete() => {
                // Output may still be under way here as well, our Close behind it.
                record.phase = Phase::Ending;
                record.set_quick(true);
                self.flush_connection(slot);
            }
            Phase::WebSocket if record.protocol.state() == ReadyState::Closing => {
                let failure =
                    Failure::new(stage, kind, "the peer ended the TCP connection without answering our Close");
                self.fail(slot, close::ABNORMAL, Side::Us, failure);
            }
            Phase::Securing if record.protocol.role() == Role::Client => {
                let failure = Failure::new(stage, kind, "the server ended the TCP connection in the TLS handshake");
                self.fail(slot, close::ABNORMAL, Side::Peer, failure);
            }
            Phase::Proxying => {
                let failure =
                    Failure::new(stage, kind, "the proxy ended the TCP connection before its tunnel was open");
                self.fail(slot, close::ABNORMAL, Side::Peer, failure);
            }
            Phase::Response => {
                let failure = Failure::new(stage, kind, "the server ended the TCP connection before it answered");
                self.fail(slot, close::ABNORMAL, Side::Peer, failure);
            }
            _ => {
                let failure = Failure::new(stage, kind, "the peer ended the TCP connection without a Close");
                self.fail(slot, close::ABNORMAL, Side::Peer, failure);
            }
        }
    }

    /// The system reported an error.
    pub(super) fn transport_failed(&mut self, slot: u32, doing: &str, error: &io::Error) {
        let Some(record) = self.connections.get_mut(slot) else { return };
        match record.phase {
            Phase::WebSocket if record.protocol.is_close_complete() => self.finish(slot),
            Phase::Securing if record.protocol.role() == Role::Server => self.securing_failed(slot, error),
            phase => {
                // TLS says so where it was this side that would not go on; the system can abort a connection as well.
                let is_ours = error.kind() == io::ErrorKind::ConnectionAborted && error.raw_os_error().is_none();
                let is_ours = is_ours || record.protocol.state() == ReadyState::Closing;
                let by = if is_ours { Side::Us } else { Side::Peer };
                let doing = if phase == Phase::Proxying { "the connection to the proxy was lost" } else { doing };
                let failure = Failure::transport(phase.stage(), doing, error);
                self.fail(slot, close::ABNORMAL, by, failure);
            }
        }
    }

    pub(super) fn set_ending(&mut self, slot: u32, ending: Ending) {
        if let Some(record) = self.connections.get_mut(slot)
            && record.announced()
        {
            record.extra().ending = Some(Box::new(ending));
        }
    }

    /// The same where the peer has kept us waiting. TLS says that nothing more comes where all else is written: who still
    /// reads would take it for a cut.
    pub(super) fn finish_in_order(&mut self, slot: u32) {
        if let Some(record) = self.connections.get_mut(slot)
            && record.outbox.is_empty()
            && let Some(transport) = &mut record.transport
        {
            // The kernel may not take it, and then nothing can be done.
            let _ = transport.flush(true);
        }
        self.finish(slot);
    }

    /// The transport is given up now; what is left is to tell the program, later in the turn.
    pub(super) fn finish(&mut self, slot: u32) {
        self.leave_open(slot);
        let Some(record) = self.connections.get_mut(slot) else { return };
        if record.phase == Phase::Dead {
            return;
        }
        if !record.outbox.is_empty() && record.has_frames() {
            let messages = record.outbox.count_unwritten(record.protocol.role());
            record.extra().unwritten_messages = messages;
        }
        let was_deferred = record.phase == Phase::Deferred;
        record.phase = Phase::Dead;
        self.timers.forget(std::mem::take(&mut record.timer_at));
        record.protocol.end();
        record.transport = None;
        self.count_buffered(slot);
        if was_deferred {
            self.waits_no_more(slot);
        }
        self.news.push_back(News::Closed(slot));
    }

    /// Takes a connection out of what broadcasts and topics reach.
    fn leave_open(&mut self, slot: u32) {
        self.abandon_message(slot);
        let Some(record) = self.connections.get_mut(slot) else { return };
        let (group, member) = (record.group, std::mem::replace(&mut record.member, NO_MEMBER));
        if member == NO_MEMBER {
            return;
        }
        if let Some(group) = self.groups.get_mut(group) {
            group.members.swap_remove(member as usize);
            group.everywhere.open.fetch_sub(1, Ordering::Relaxed);
            if let Some(moved) = group.members.get(member as usize).copied()
                && let Some(moved) = self.connections.get_mut(moved)
            {
                moved.member = member;
            }
        }
        self.unsubscribe_all(slot);
    }

    /// Stops accepting and closes every connection with 1001; what is left after `grace` is cut.
    pub(super) fn shutdown(&mut self, grace: Duration) {
        self.shared.is_ending.store(true, Ordering::Release);
        self.settle();
        self.tick();
        for group in self.groups.slots() {
            self.close_acceptor(group);
        }
        for slot in self.connections.slots() {
            let connection = Connection(self.connections.id(slot));
            let Some(record) = self.connections.get(slot) else { continue };
            match record.phase {
                Phase::Request | Phase::Securing if !record.announced() => {
                    self.count_refused(slot, Refusal::Shutdown);
                    self.finish(slot);
                }
                Phase::Deferred => {
                    let error = HttpError::new(503, "the server shuts down: try again later");
                    self.give_up_answer(slot, &HttpError { cause: Refusal::Shutdown, ..error });
                }
                Phase::Request
                | Phase::Resolving
                | Phase::Dialing
                | Phase::Proxying
                | Phase::Securing
                | Phase::Response => {
                    let failure =
                        Failure::new(record.phase.stage(), FailureKind::Shutdown, "the event loop shuts down");
                    self.fail(slot, close::ABNORMAL, Side::Us, failure);
                }
                Phase::WebSocket | Phase::Stream => {
                    // One that is closing already goes on with it.
                    let _ = self.close(connection, close::GOING_AWAY, "shutting down");
                }
                Phase::Ending | Phase::Dead => {}
            }
        }
        self.end_waiting_clients();
        let end = self.due(grace);
        self.shutting_down = Some(end);
        self.is_busy = true;
        self.timers.push(end, TimerKey::Shutdown);
        let _ = self.shared.wake();
    }

    /// Cuts every connection that is left.
    pub(super) fn cut(&mut self, why: &'static str) {
        self.settle();
        for slot in self.connections.slots() {
            let Some(record) = self.connections.get_mut(slot) else { continue };
            if record.phase != Phase::Dead && record.announced() {
                let stage = record.phase.stage();
                let ending = &mut record.extra().ending;
                if ending.as_ref().is_none_or(|ending| ending.failure.is_none() && !ending.was_clean) {
                    let failure = Failure::new(stage, FailureKind::Shutdown, why);
                    *ending = Some(Box::new(Ending::failed(close::ABNORMAL, Side::Us, failure)));
                }
            }
            self.count_refused(slot, Refusal::Shutdown);
            self.finish(slot);
        }
    }
}
