//! What a program hears of a client that connects again.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::close::Close;

/// The number of a client that connects again: it stays the same over all its connections, which have numbers of their
/// own, and is made like a [`Connection`](crate::Connection)'s.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Client(pub(crate) u64);

/// A client is about to wait, and then to connect again.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Reconnecting<'a> {
    /// Which attempt in a row this will be: 1 for the first one after a connection that
    /// [lasted](crate::Reconnect::reset_after).
    pub attempt: u32,
    /// How long it waits from now on.
    pub delay: Duration,
    /// How the connection before ended, as its `on_close` has told.
    pub cause: &'a Close<'a>,
}

/// Why a client connects no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GiveUpKind {
    /// A side closed in order, with 1000: the purpose is fulfilled.
    Finished,
    /// A close code says that another attempt is of no use: `close_code`.
    CloseCode,
    /// The answer of the server, or of an HTTP proxy, says so: `http_status`.
    HttpStatus,
    /// A SOCKS5 proxy refuses the user name and password, or all ways to authenticate that it was offered, or its rules do
    /// not allow the connection: `on_error` says which.
    SocksRefusal,
    /// All attempts that [`max_attempts`](crate::Reconnect::max_attempts) allows have failed.
    Attempts,
    /// The program closed or terminated the client.
    Closed,
    /// The loop was shut down or dropped.
    Shutdown,
}

/// A client has given up: its last event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GiveUp {
    /// Why.
    pub kind: GiveUpKind,
    /// The code of the Close that has just been told; `None` where the client was waiting.
    pub close_code: Option<u16>,
    /// The HTTP status that this attempt was answered with, where it was.
    pub http_status: Option<u16>,
    /// Attempts in a row to connect again, up to now.
    pub attempts: u32,
    /// Messages that were taken by [`Client::send`] and reached no connection: they waited in the offline queue, or were
    /// accepted from another thread and refused on the loop. Those that a connection lost are told with its Close.
    pub lost_messages: u32,
    /// One sentence for people.
    pub message: Cow<'static, str>,
}

impl fmt::Display for GiveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
