//! The engine's log on its way to `diagnostics_channel`: what it tells during a turn waits here for the end of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wsx_core::log::{Level, Record, Topic};
use wsx_core::{Handle, Listener, Result};

use crate::engine::Engine;
use crate::event;

/// A record, as JavaScript is told it.
pub struct Entry {
    pub level: i32,
    pub topic: i32,
    pub listener: Option<Listener>,
    pub message: String,
}

impl From<&Record<'_>> for Entry {
    /// Levels and topics are numbered as in `lib/log.js`.
    fn from(record: &Record<'_>) -> Self {
        let level = match record.level {
            Level::Error => 1,
            Level::Warning => 2,
            Level::Information => 3,
            _ => 4,
        };
        let topic = match record.topic {
            Topic::Listener => 1,
            Topic::Request => 2,
            Topic::Tls => 3,
            Topic::Connection => 4,
            Topic::Backlog => 5,
            Topic::Callback => 6,
            _ => 0,
        };
        Self { level, topic, listener: record.listener, message: record.message.to_owned() }
    }
}

/// What waits.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<Entry>>>);

impl Log {
    fn waiting(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the engine log up to a level, by its number; 0 ends that.
    pub fn begin(&self, handle: &Handle, level: u32) -> Result<()> {
        let level = match level {
            0 => Level::Off,
            1 => Level::Error,
            2 => Level::Warning,
            3 => Level::Information,
            _ => Level::Debug,
        };
        let log = self.clone();
        handle.set_log(level, move |record| log.waiting().push(record.into()))
    }

    /// Takes what waits.
    pub fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut self.waiting())
    }
}

impl Engine {
    /// Appends what was logged.
    pub fn append_records(&self) {
        for Entry { level, topic, listener, message } in self.log.take() {
            let number = listener.and_then(|listener| self.listeners.borrow().number_of(listener));
            self.append(
                event::RECORD | level << 8 | topic << 16,
                number.map_or(-1, |number| number as i32),
                message.as_bytes(),
            );
        }
    }
}
