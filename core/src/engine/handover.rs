//! A large message that is passed on as it came, echoed or relayed: what the kernel does not take at once of it is handed
//! to the outbox as the very buffer it was received into, not copied.

use super::shared::LoopCell;
use super::state::State;
use crate::event::Connection;

/// The buffer of the message that is being told, and who waits for the rest of it.
#[derive(Debug, Default)]
pub(super) struct LentPayload {
    /// Where it lies; only ever compared.
    address: usize,
    length: usize,
    receiver: Option<(Connection, usize)>,
}

impl LentPayload {
    fn new(payload: &[u8]) -> Self {
        Self { address: payload.as_ptr().addr(), length: payload.len(), receiver: None }
    }

    /// Promises the rest of the payload, from `written` on, to the outbox of a connection that was sent all of it; false
    /// if it is another payload, or has been promised.
    pub(super) fn promise(&mut self, payload: &[u8], connection: Connection, written: usize) -> bool {
        let is_it = (self.address, self.length) == (payload.as_ptr().addr(), payload.len());
        let promised = is_it && self.receiver.is_none();
        if promised {
            self.receiver = Some((connection, written));
        }
        promised
    }
}

/// Tells a message that has a buffer of its own, and then hands the buffer to whom it was promised.
pub(super) fn tell_owned<R>(cell: &LoopCell, payload: Vec<u8>, tell: impl FnOnce(&[u8]) -> R) -> R {
    cell.state().lent = LentPayload::new(&payload);
    let told = tell(&payload);
    let mut state = cell.state();
    let lent = std::mem::take(&mut state.lent);
    if let Some((connection, written)) = lent.receiver {
        state.hand_over(connection, payload, written);
    }
    told
}

impl State {
    fn hand_over(&mut self, connection: Connection, payload: Vec<u8>, written: usize) {
        // Where the connection ended meanwhile, nobody waits for it.
        if let Ok(record) = self.record_mut(connection) {
            record.outbox.redeem(payload, written);
        }
    }
}
