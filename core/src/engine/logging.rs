//! The log: what has happened becomes a record where that is asked for, and is told later in the turn, like other news.

use std::sync::Arc;

use super::callback::{Panicked, guarded};
use super::handle::Handle;
use super::shared::{Cost, LoopCell, now_or_later, settle_here_first};
use super::state::{News, State};
use crate::close::Close;
use crate::error::{Failure, FailureKind, Result};
use crate::event::{Address, Connection, Listener};
use crate::log::{Level, Record, Topic};
use crate::statistics::Refusal;

/// The program's function that is told.
pub(super) type Sink = Arc<dyn Fn(&Record<'_>) + Send + Sync>;

/// Who is told how much.
#[derive(Default)]
pub(super) struct Log {
    level: Level,
    sink: Option<Sink>,
    /// The sink runs: what it does itself is not logged, or a log would never end.
    is_telling: bool,
}

/// A record that waits to be told.
pub(super) struct Entry {
    level: Level,
    topic: Topic,
    connection: Option<Connection>,
    listener: Option<Listener>,
    message: String,
}

impl Handle {
    /// Has what happens told to `sink`, up to this level; [`Level::Off`] ends that. There is one log for a loop with all its
    /// threads, which takes the place of the one before. [any thread]
    ///
    /// The sink is called on the loop's thread (on each of them, where there are several, at once), later in the turn in
    /// which it happened, and may call anything but `run` and `turn`; what it does itself is not logged. A panic in it is
    /// caught, and hurts nobody. Without a log nothing is formatted.
    pub fn set_log(&self, level: Level, sink: impl Fn(&Record<'_>) + Send + Sync + 'static) -> Result<()> {
        let sink: Option<Sink> = (level != Level::Off).then(|| Arc::new(sink) as Sink);
        settle_here_first();
        for one in self.shared.siblings().map(|one| one.index).chain([self.shared.index]) {
            let sink = sink.clone();
            let set = move |state: &mut State| {
                // The sink may be what asks for it.
                let is_telling = state.log.is_telling;
                let old = std::mem::replace(&mut state.log, Log { level, sink, is_telling });
                state.news.push_back(News::OldLog(old));
                Ok(())
            };
            self.outcome(now_or_later(one, Cost::Granted(0), set, None))?;
        }
        Ok(())
    }
}

/// Tells a record.
pub(super) fn tell_record(cell: &LoopCell, entry: &Entry) {
    let Some(sink) = cell.state().log.sink.clone() else { return };
    let Entry { level, topic, connection, listener, ref message } = *entry;
    cell.state().log.is_telling = true;
    // There is nobody to tell of a panic: the panic hook has reported it.
    drop(guarded(|| sink(&Record { level, topic, connection, listener, message })));
    cell.state().log.is_telling = false;
    // It may be the last one, and its own drop may call anything.
    drop(guarded(|| drop(sink)));
}

/// What a peer has said may be in it: nothing of that may look like another line, or move a terminal's cursor.
fn escaped(message: String) -> String {
    if !message.contains(char::is_control) {
        return message;
    }
    let escape = |letter: char| if letter.is_control() { letter.escape_default().to_string() } else { letter.into() };
    message.chars().map(escape).collect()
}

impl State {
    /// Whether records of this level are told.
    #[inline]
    pub(super) fn logs(&self, level: Level) -> bool {
        level <= self.log.level && !self.log.is_telling
    }

    fn enter(&mut self, level: Level, topic: Topic, slot: Option<u32>, listener: Option<Listener>, message: String) {
        let connection = slot.map(|slot| Connection(self.connections.id(slot)));
        let listener = listener.or_else(|| slot.and_then(|slot| self.group_of(slot)).map(|group| group.listener));
        let listener = listener.filter(|listener| listener.0 != 0);
        let message = escaped(message);
        self.news.push_back(News::Record(Entry { level, topic, connection, listener, message }.into()));
    }

    /// Something happened to a connection.
    #[inline]
    pub(super) fn log(&mut self, level: Level, topic: Topic, slot: u32, message: impl FnOnce(&Self) -> String) {
        if self.logs(level) {
            let message = message(self);
            self.enter(level, topic, Some(slot), None, message);
        }
    }

    /// Something happened to a listener.
    #[inline]
    pub(super) fn log_listener(&mut self, level: Level, listener: Listener, message: impl FnOnce() -> String) {
        if self.logs(level) {
            self.enter(level, Topic::Listener, None, Some(listener), message());
        }
    }

    /// A client that connects again does, or does not any more.
    pub(super) fn log_client(&mut self, level: Level, message: impl FnOnce() -> String) {
        if self.logs(level) {
            self.enter(level, Topic::Connection, None, None, message());
        }
    }

    /// Where the peer of a connection is, for people; of a client that has reached nobody, whom it seeks.
    pub(super) fn peer_of(&self, slot: u32) -> String {
        let Some(record) = self.connections.get(slot) else { return String::new() };
        let dial = record.extra.as_ref().and_then(|extra| extra.dial.as_ref());
        match (record.peer_address(), dial) {
            (Address::Unix(None), Some(dial)) => dial.authority().to_owned(),
            (address, _) => address.to_string(),
        }
    }

    /// The function or the timer of a program panicked.
    #[cold]
    pub(super) fn log_panic(&mut self, what: &str, panicked: &Panicked) {
        if self.logs(Level::Error) {
            self.enter(Level::Error, Topic::Callback, None, None, format!("{what} panicked: {}", panicked.message()));
        }
    }

    /// A connection came to nothing.
    pub(super) fn log_refused(&mut self, slot: u32, cause: Refusal, failure: Option<&str>) {
        let (topic, what) = match cause {
            Refusal::Tls => (Topic::Tls, "the TLS handshake failed"),
            Refusal::Timeout => (Topic::Request, "the opening handshake took too long (handshake_timeout)"),
            Refusal::Left => (Topic::Request, "the client left before its request was answered"),
            Refusal::Shutdown => (Topic::Request, "the loop shuts down"),
            Refusal::Full => (Topic::Request, "503: max_connections"),
            Refusal::Address => (Topic::Request, "503: max_connections_per_address"),
            Refusal::BadRequest => (Topic::Request, "400: no valid request"),
            Refusal::Method => (Topic::Request, "405: neither GET nor HEAD"),
            Refusal::Upgrade => (Topic::Request, "426: no opening handshake of version 13"),
            Refusal::HeadTooBig => (Topic::Request, "431: max_head or max_headers"),
            Refusal::Path => (Topic::Request, "404: path"),
            Refusal::Origin => (Topic::Request, "403: origins"),
            Refusal::Hook => (Topic::Request, "by the request hook"),
            Refusal::HookFailed => (Topic::Request, "500: the request hook failed"),
        };
        self.log(Level::Information, topic, slot, |state| {
            let why = failure.map_or(String::new(), |failure| format!(": {failure}"));
            format!("refused {}: {what}{why}", state.peer_of(slot))
        });
    }

    /// A connection is about to be told as ended.
    pub(super) fn log_ending(&mut self, slot: u32, close: &Close<'_>) {
        let level = match close.failure {
            Some(Failure { kind: FailureKind::Callback, .. }) => Level::Error,
            Some(_) => Level::Warning,
            None => Level::Debug,
        };
        let topic = if level == Level::Error { Topic::Callback } else { Topic::Connection };
        self.log(level, topic, slot, |state| format!("{}: {close}", state.peer_of(slot)));
    }
}
