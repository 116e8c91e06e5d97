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

/// What a code means, in few words; empty for one that says nothing by itself (RFC 6455 section 7.4.2 and IANA's registry).
pub fn meaning(code: u16) -> &'static str {
    match code {
        NORMAL => "normal closure",
        GOING_AWAY => "going away",
        PROTOCOL_ERROR => "protocol error",
        UNSUPPORTED => "unsupported data",
        NO_STATUS => "no code",
        ABNORMAL => "no Close",
        INVALID_PAYLOAD => "invalid payload",
        POLICY => "policy violation",
        TOO_BIG => "message too big",
        MANDATORY_EXTENSION => "extension missing",
        INTERNAL_ERROR => "internal error",
        SERVICE_RESTART => "service restart",
        TRY_AGAIN_LATER => "try again later",
        1014 => "bad gateway",
        3000 => "unauthorized",
        3003 => "forbidden",
        3008 => "timeout",
        _ => "",
    }
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
    /// Messages that the program sent (by `send`, `publish` or `broadcast`) and that did not wholly reach the kernel: those
    /// that waited when the connection ended, one that was under way in part, and the [lost](Self::lost_messages) ones. Over
    /// TLS up to 64 KiB of what was being written count as well, of which the kernel may have taken a part. What reached
    /// the kernel may have been lost on its way, which only an answer of the peer's program can tell. Of an HTTP stream only
    /// the writes that were lost are counted: what waited is told in bytes.
    pub undelivered_messages: u64,
    /// Those that were taken and then lost before the end: dropped by policy, or accepted from another thread and refused
    /// on the loop.
    pub lost_messages: u32,
    /// Bytes that had been sent by the program and did not reach the kernel.
    pub unsent_bytes: u64,
}

/// All of it in one sentence.
impl fmt::Display for Close<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.by {
            Side::Us => "us",
            Side::Peer => "the peer",
        };
        write!(f, "closed by {by} with {}", self.code)?;
        let meaning = meaning(self.code);
        if !meaning.is_empty() {
            write!(f, " ({meaning})")?;
        }
        // A Close of ours that tells a failure has it for its reason.
        let is_told_below = self.failure.is_some_and(|failure| failure.message.starts_with(self.reason));
        if !self.reason.is_empty() && !is_told_below {
            write!(f, " {:?}", self.reason)?;
        }
        f.write_str(if self.was_clean { ", clean" } else { ", not clean" })?;
        if let Some(failure) = self.failure {
            write!(f, "; failed at {}: {failure}", failure.stage)?;
        }
        match self.undelivered_messages {
            0 if self.unsent_bytes == 0 => Ok(()),
            0 => write!(f, "; {} bytes were not sent", self.unsent_bytes),
            1 => f.write_str("; 1 message was not delivered"),
            many => write!(f, "; {many} messages were not delivered"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{FailureKind, Stage};

    fn close(code: u16, by: Side, reason: &str) -> Close<'_> {
        let (undelivered_messages, lost_messages, unsent_bytes) = (0, 0, 0);
        Close { code, reason, was_clean: true, by, failure: None, undelivered_messages, lost_messages, unsent_bytes }
    }

    #[test]
    fn a_close_in_order_is_a_sentence() {
        let told = close(NORMAL, Side::Peer, "good \"bye\"\n").to_string();
        assert_eq!(told, r#"closed by the peer with 1000 (normal closure) "good \"bye\"\n", clean"#);
        assert_eq!(close(4000, Side::Us, "").to_string(), "closed by us with 4000, clean");
    }

    #[test]
    fn a_close_that_failed_tells_stage_and_cause_and_what_was_not_delivered() {
        let failure = Failure::new(Stage::WebSocket, FailureKind::Transport, "the peer left");
        let mut told = Close { was_clean: false, failure: Some(&failure), ..close(ABNORMAL, Side::Peer, "") };
        let begin = "closed by the peer with 1006 (no Close), not clean; failed at WebSocket: the peer left";
        assert_eq!(told.to_string(), begin);
        told.unsent_bytes = 10;
        assert_eq!(told.to_string(), format!("{begin}; 10 bytes were not sent"));
        told.undelivered_messages = 1;
        assert_eq!(told.to_string(), format!("{begin}; 1 message was not delivered"));
        told.undelivered_messages = 3;
        assert_eq!(told.to_string(), format!("{begin}; 3 messages were not delivered"));
        let told = Close { reason: "the peer", ..told };
        assert_eq!(told.to_string(), format!("{begin}; 3 messages were not delivered"), "nothing is told twice");
    }
}
