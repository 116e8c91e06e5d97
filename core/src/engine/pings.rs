//! How long pings take: from when one of ours is put into the output to its pong.
//!
//! Those of the program are remembered by their payload, beside the record, until they are answered. The heartbeat's, of
//! which a connection has one at a time, is in the record itself: an idle connection needs nothing more for it.

use std::collections::VecDeque;
use std::time::Duration;

use super::record::Record;
use super::state::{State, micros};
use super::timers::Micros;
use crate::config::MAX_PINGS;
use crate::error::Result;
use crate::event::Connection;
use crate::protocol::frame::OpCode;

/// No ping of the heartbeat's is out that has not been answered.
pub(super) const ANSWERED: u16 = u16::MAX;

/// Pings of the program that were not answered, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Pings(VecDeque<(Micros, Box<[u8]>)>);

impl Pings {
    /// Remembers one more; the oldest of too many is forgotten.
    fn sent(&mut self, at: Micros, payload: &[u8]) {
        if self.0.len() == MAX_PINGS {
            self.0.pop_front();
        }
        self.0.push_back((at, payload.into()));
    }

    /// When the ping was sent that a pong answers. Those before it are answered as well: a peer may leave them out (RFC 6455
    /// section 5.5.3).
    fn answered(&mut self, payload: &[u8]) -> Option<Micros> {
        let place = self.0.iter().position(|(_, sent)| **sent == *payload)?;
        self.0.drain(..=place).next_back().map(|(at, _)| at)
    }
}

impl Record {
    fn measured(&mut self, took: Micros) -> Duration {
        // 0 is for none.
        self.latency = u32::try_from(took).unwrap_or(u32::MAX).max(1);
        Duration::from_micros(self.latency.into())
    }
}

impl State {
    /// Sends a ping of the program's.
    pub(super) fn ping(&mut self, connection: Connection, payload: &[u8]) -> Result<()> {
        if self.control(connection, OpCode::Ping, payload)?
            && let Ok(record) = self.record_mut(connection)
        {
            record.extra().pings.sent(micros(), payload);
        }
        Ok(())
    }

    /// A pong has come, and tells how long the program's ping took that it answers.
    pub(super) fn pong_received(&mut self, slot: u32, payload: &[u8]) -> Option<Duration> {
        let record = self.connections.get_mut(slot)?;
        let sent = record.extra.as_mut()?.pings.answered(payload)?;
        Some(record.measured(micros().saturating_sub(sent)))
    }

    /// The heartbeat's ping was put into the output.
    pub(super) fn heartbeat_sent(&mut self, slot: u32) {
        let at = self.tick_finely();
        if let Some(record) = self.connections.get_mut(slot) {
            record.since = self.now;
            record.heartbeat_micros = (at % 1000) as u16;
            self.schedule(slot);
        }
    }

    /// A pong has come that answers the heartbeat.
    pub(super) fn heartbeat_answered(&mut self, slot: u32) {
        let Some(record) = self.connections.get(slot) else { return };
        if record.since == 0 || record.heartbeat_micros == ANSWERED {
            return;
        }
        let sent = self.micros_of(record.since) + Micros::from(record.heartbeat_micros);
        if let Some(record) = self.connections.get_mut(slot) {
            record.measured(micros().saturating_sub(sent));
            record.heartbeat_micros = ANSWERED;
        }
    }

    /// The newest latency that was measured.
    pub(super) fn latency(&self, connection: Connection) -> Result<Option<Duration>> {
        let latency = self.record(connection)?.latency;
        Ok((latency != 0).then(|| Duration::from_micros(latency.into())))
    }
}
