//! How a callback is called: with its handler out of the loop's state, and with its panics caught.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::shared::LoopCell;
use super::state::State;
use crate::close::{self, Side};
use crate::error::{Failure, FailureKind};
use crate::event::Handler;

/// A callback panicked; what it said.
pub(super) struct Panicked(String);

impl Panicked {
    /// What the panic said.
    pub(super) fn message(&self) -> &str {
        &self.0
    }

    #[cold]
    fn new(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Self(text.unwrap_or("no message").to_owned())
    }
}

/// Calls the program.
#[inline]
pub(super) fn guarded<R>(call: impl FnOnce() -> R) -> Result<R, Panicked> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        let panicked = Panicked::new(&*payload);
        // Dropping what a panic carries may panic again.
        std::mem::forget(payload);
        panicked
    })
}

/// Calls a handler of a group; `None` where the group is gone.
pub(super) fn with_handler<R>(
    cell: &LoopCell,
    group: u32,
    call: impl FnOnce(&mut dyn Handler) -> R,
) -> Option<Result<R, Panicked>> {
    let mut handler = {
        let State { latest, groups, .. } = &mut *cell.state();
        latest.lend(groups, group)?
    };
    let result = guarded(|| call(&mut *handler));
    let State { latest, groups, .. } = &mut *cell.state();
    latest.take_back(groups, group, handler);
    Some(result)
}

impl State {
    /// A callback for this connection panicked: the connection is closed with 1011.
    #[cold]
    pub(super) fn callback_failed(&mut self, slot: u32, Panicked(text): Panicked) {
        let Some(stage) = self.connections.get(slot).map(|record| record.phase.stage()) else { return };
        let failure = Failure::new(stage, FailureKind::Callback, format!("a callback of the program panicked: {text}"));
        self.fail(slot, close::INTERNAL_ERROR, Side::Us, failure);
    }
}
