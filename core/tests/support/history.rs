//! What must hold for every connection of every test: `on_open` at most once and first, `on_error` at most once and
//! only right before an `on_close` that tells the same failure, `on_close` exactly once and last. A failure names a limit
//! exactly if it is one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use wsx_core::{Connection, Failure, FailureKind};

/// Something that happened to a connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Step<'a> {
    Opened,
    Heard,
    Drained,
    Failed(&'a Failure),
    Closed(Option<&'a Failure>),
}

#[derive(Default)]
struct Life {
    opened: bool,
    failed: Option<Failure>,
    closed: bool,
}

#[derive(Default)]
struct Lives {
    lives: HashMap<Connection, Life>,
    wrong: Vec<String>,
}

/// The lives of a handler's connections.
#[derive(Clone, Default)]
pub struct History(Arc<Mutex<Lives>>);

impl History {
    /// Takes note; what is out of order is kept for [`check`](Self::check), for a panic here would be the engine's.
    pub fn note(&self, connection: Connection, step: Step<'_>) {
        let mut lives = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let life = lives.lives.entry(connection).or_default();
        let in_order = match &step {
            _ if life.closed => false,
            Step::Closed(failure) => life.failed.as_ref() == *failure,
            _ if life.failed.is_some() => false,
            Step::Opened => !life.opened,
            Step::Heard => life.opened,
            // A stream is drained without having been opened.
            Step::Failed(failure) => {
                failure.limit.is_some() == matches!(failure.kind, FailureKind::Limit | FailureKind::Timeout)
            }
            Step::Drained => true,
        };
        let before = format!("opened: {}, failed: {:?}, closed: {}", life.opened, life.failed, life.closed);
        match &step {
            Step::Opened => life.opened = true,
            Step::Failed(failure) => life.failed = Some((*failure).clone()),
            Step::Closed(_) => life.closed = true,
            Step::Heard | Step::Drained => {}
        }
        if !in_order {
            lives.wrong.push(format!("{connection:?}: {step:?} after ({before})"));
        }
    }

    /// Panics where something was out of order; and, where the handler is gone, if an `on_close` is missing.
    #[track_caller]
    pub fn check(&self, handler_is_gone: bool) {
        let lives = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(lives.wrong.is_empty(), "events out of order: {:#?}", lives.wrong);
        if handler_is_gone {
            let open: Vec<_> = lives.lives.iter().filter(|(_, life)| !life.closed).map(|(number, _)| number).collect();
            assert!(open.is_empty(), "no on_close came for {open:?}");
        }
    }
}
