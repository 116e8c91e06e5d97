//! How a client connects again.

use std::time::Duration;

/// How a client that [connects persistently](crate::Handle::connect_persistently) goes on where a connection ends.
///
/// The n-th attempt in a row waits for a time that is chosen at random between zero and `base_delay` · 2ⁿ⁻¹, at most
/// `max_delay` (full jitter): clients that lost their server together do not come back together. A server that answers
/// with `Retry-After` is asked that much later, at most [`MAX_RETRY_AFTER`].
///
/// It gives up where another attempt is of no use: after a close in order with 1000; after the codes 1002, 1003, 1007,
/// 1008, 1010, 3500 to 3999 and 4500 to 4999; after the HTTP statuses 400, 401, 403, 404, 407, 410 and 426. What a proxy
/// answers to CONNECT counts as the server's own answer does ([`Stage::Proxy`](crate::Stage::Proxy) tells which of the two
/// it was); and so does a SOCKS5 proxy's refusal of the user name and password, of all ways to authenticate that it is
/// offered (RFC 1928 section 3, RFC 1929), or by its rules (reply 2). Its other replies, as of a host that cannot be
/// reached, are followed by another attempt.
///
/// ```
/// let mut reconnect = wsx_core::Reconnect::default();
/// reconnect.offline_limit = 64 * 1024;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reconnect {
    /// The longest delay before the first attempt in a row; it doubles with each further one. Default 250 ms; zero is the
    /// default.
    pub base_delay: Duration,
    /// The longest delay of all, at least `base_delay`. Default 30 s; zero is the default.
    pub max_delay: Duration,
    /// A connection that was open for so long begins the count of attempts, and with it the delay, anew. Default 5 s;
    /// zero: each one that opens does.
    pub reset_after: Duration,
    /// Most attempts in a row to connect again. Beyond it the client gives up. Default 0: no limit.
    pub max_attempts: u32,
    /// Most bytes of messages that wait for the next connection while there is none, at most
    /// [`Options::backlog_limit`](crate::Options::backlog_limit); each message counts 32 bytes more than its payload. Beyond
    /// it `send` answers [`Error::BacklogFull`](crate::Error::BacklogFull). Default 0: nothing waits, and `send` answers
    /// [`Error::NotOpen`](crate::Error::NotOpen) while there is no connection.
    pub offline_limit: usize,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            base_delay: Duration::from_millis(250),
            max_delay: Duration::from_secs(30),
            reset_after: Duration::from_secs(5),
            max_attempts: 0,
            offline_limit: 0,
        }
    }
}

/// The longest `Retry-After` that is honoured; a longer one is taken as this.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
