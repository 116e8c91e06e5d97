//! Close codes, reasons, and who closed (RFC 6455 section 7.4, all of it in one place).

use std::fmt;

use crate::error::Failure;

/// Normal closure: the purpose is fulfilled.
pub const NORMAL: u16 = 1000;
/// Going away: a server shuts down, a page is left.
pub const GOING_AWAY: u16 = 1001;
/// Protocol error.
pub const PROTOCOL_ERROR: u16 = 1002;
/// Unsupported kind of message.
pub const UNSUPPORTED: u16 = 1003;
/// Never sent: the peer's Close had no code.
pub const NO_STATUS: u16 = 1005;
/// Never sent: the connection ended without a Close.
pub const ABNORMAL: u16 = 1006;
/// Payload does not fit its kind, as text that is not UTF-8.
pub const INVALID_PAYLOAD: u16 = 1007;
/// Policy violation.
pub const POLICY: u16 = 1008;
/// Message too big.
pub const TOO_BIG: u16 = 1009;
/// A client misses an extension.
pub const MANDATORY_EXTENSION: u16 = 1010;
/// Internal error, as an exception in a callback.
pub const INTERNAL_ERROR: u16 = 1011;
/// The service restarts.
pub const SERVICE_RESTART: u16 = 1012;
/// Try again later: the peer does not read fast enough, or the service is overloaded.
pub const TRY_AGAIN_LATER: u16 = 1013;

/// Whether a Close frame may carry `code` (RFC 6455 section 7.4 and IANA's registry, where 1012 to 1014 are valid).
pub fn is_valid(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// One of the two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// This end.
    Us,
    /// The other end.
    Peer,
}

/// How a connection ended: the last event of each connection that was announced, exactly once.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Close<'a> {
    /// The code: the peer's where the peer began, ours where we did; 1005 where the peer's Close had none, 1006 where
    /// there was no Close.
    pub code: u16,
    /// The reason that came with the code; empty where there was none. At most 123 bytes.
    pub reason: &'a str,
    /// The closing handshake was completed and nothing failed.
    pub was_clean: bool,
    /// Who began.
    pub by: Side,
    /// What failed, where something did: `None` exactly if a side closed in order, or the program called `terminate`.
    pub failure: Option<&'a Failure>,
    /// Messages that were taken by `send`, `publish` or `broadcast` and then lost: dropped by policy, or accepted from
    /// another thread and refused on the loop.
    pub lost_messages: u32,
    /// Bytes that had been sent by the program and did not reach the kernel.
    pub unsent_bytes: u64,
}

impl fmt::Display for Close<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.by {
            Side::Us => "us",
            Side::Peer => "the peer",
        };
        write!(f, "closed by {by} with {}", self.code)?;
        if !self.reason.is_empty() {
            write!(f, " ({})", self.reason)?;
        }
        if let Some(failure) = self.failure {
            write!(f, ": {failure}")?;
        }
        Ok(())
    }
}
