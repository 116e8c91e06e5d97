//! What the engine logs: for people, beside the events that a program acts on.

use std::fmt;

use crate::event::{Connection, Listener};

/// How much a record matters; a log is asked for one level, and gets all records up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Level {
    /// Nothing: for [`Handle::set_log`](crate::Handle::set_log) only.
    #[default]
    Off,
    /// The program, or its system, has something to repair: a callback panicked, nothing can be accepted.
    Error,
    /// A connection failed.
    Warning,
    /// A listener begins or ends; a request or a TLS handshake was refused.
    Information,
    /// What every connection does: accepted, begun, open, closed; its backlog above the mark, and below it.
    Debug,
}

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Topic {
    /// Listening and accepting.
    Listener,
    /// A request, up to the answer.
    Request,
    /// The TLS handshake.
    Tls,
    /// A connection: begun, open, failed, closed.
    Connection,
    /// Output that waits.
    Backlog,
    /// The program's own callbacks.
    Callback,
}

/// One thing that happened. It has no header, no query, no payload and no password; what it says of a peer's (the reason of
/// a Close) has its control characters escaped.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Record<'a> {
    /// How much it matters.
    pub level: Level,
    /// What it is about.
    pub topic: Topic,
    /// The connection, if it is about one; the program may not have heard of it.
    pub connection: Option<Connection>,
    /// The listener, if it is about one or a connection of it.
    pub listener: Option<Listener>,
    /// One sentence.
    pub message: &'a str,
}

impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message)
    }
}
