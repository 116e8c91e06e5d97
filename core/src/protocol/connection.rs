//! The one state machine: CONNECTING, OPEN, CLOSING, CLOSED (RFC 6455 sections 4, 7.1.2 to 7.1.4).
//!
//! ```text
//! CONNECTING --open--> OPEN --send_close or receive_close--> CLOSING --end--> CLOSED
//! ```
//!
//! The closing handshake is complete when a Close was both sent and received. After ours no message leaves and none is
//! delivered; after the peer's nothing it sends is looked at.

use super::deflate::Agreement;
use super::frame::{self, OpCode, Role};
use super::message::Receiver;
use crate::close;
use crate::config::{MAX_CLOSE_REASON, MAX_CONTROL_PAYLOAD};
use crate::error::{Error, Result};
use crate::event::{Message, ReadyState};

/// One end of a WebSocket connection. The mask argument of every sending method is the key of this frame: `Some` for a
/// client (RFC 6455 section 5.3), `None` for a server.
#[derive(Debug)]
pub struct Protocol {
    /// Where received bytes go.
    pub receiver: Receiver,
    /// How messages may be compressed; none where that was not agreed on.
    pub compression: Option<Agreement>,
    way: Way,
    state: ReadyState,
    sent_close: bool,
    received_close: bool,
}

/// Which end this is, and whether it has begun a message in fragments: one byte, so that whoever sends asks once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Way {
    Server = 0,
    Client = 1,
    ServerInMessage = 2,
    ClientInMessage = 3,
}

impl Protocol {
    /// A connection whose opening handshake is under way.
    pub fn new(role: Role) -> Self {
        Self {
            receiver: Receiver::default(),
            compression: None,
            way: if role == Role::Client { Way::Client } else { Way::Server },
            state: ReadyState::Connecting,
            sent_close: false,
            received_close: false,
        }
    }

    /// Which end this is.
    #[inline]
    pub fn role(&self) -> Role {
        if matches!(self.way, Way::Client | Way::ClientInMessage) { Role::Client } else { Role::Server }
    }

    /// Whether a message was begun in fragments and is not whole.
    #[inline]
    pub fn is_in_message(&self) -> bool {
        matches!(self.way, Way::ServerInMessage | Way::ClientInMessage)
    }

    /// The first fragment of a message is being sent.
    pub fn begin_message(&mut self) {
        self.way = if self.role() == Role::Client { Way::ClientInMessage } else { Way::ServerInMessage };
    }

    /// The last one was.
    pub fn end_message(&mut self) {
        self.way = if self.role() == Role::Client { Way::Client } else { Way::Server };
    }

    /// Where the connection stands.
    #[inline]
    pub fn state(&self) -> ReadyState {
        self.state
    }

    /// The opening handshake is done, and this was agreed on.
    pub fn open(&mut self, compression: Option<Agreement>) {
        self.compression = compression;
        self.state = ReadyState::Open;
    }

    /// The transport is gone.
    pub fn end(&mut self) {
        self.state = ReadyState::Closed;
    }

    /// Whether what the peer sends is still looked at.
    #[inline]
    pub fn is_receiving(&self) -> bool {
        !self.received_close && matches!(self.state, ReadyState::Open | ReadyState::Closing)
    }

    /// Whether both ends have sent a Close.
    pub fn is_close_complete(&self) -> bool {
        self.sent_close && self.received_close
    }

    /// Whether the program may send.
    #[inline]
    pub fn check_open(&self) -> Result<()> {
        match self.state {
            ReadyState::Open => Ok(()),
            ReadyState::Connecting => Err(Error::NotOpen),
            ReadyState::Closing | ReadyState::Closed => Err(Error::Closed),
        }
    }

    /// Appends a whole message.
    #[inline]
    pub fn send(&self, out: &mut Vec<u8>, message: Message<'_>, mask: Option<[u8; 4]>) {
        frame::append(out, message_opcode(message), true, message.payload(), mask);
    }

    /// Appends a ping or pong.
    pub fn send_control(&self, out: &mut Vec<u8>, opcode: OpCode, payload: &[u8], mask: Option<[u8; 4]>) {
        frame::append(out, opcode, true, payload, mask);
    }

    /// Appends our Close, once. `None` is a Close without a code.
    pub fn send_close(&mut self, out: &mut Vec<u8>, code: Option<u16>, reason: &str, mask: Option<[u8; 4]>) {
        if self.sent_close {
            return;
        }
        let mut payload = [0; MAX_CONTROL_PAYLOAD];
        let reason = fit_reason(reason).as_bytes();
        let size = match code {
            None => 0,
            Some(code) => {
                payload[..2].copy_from_slice(&code.to_be_bytes());
                payload[2..2 + reason.len()].copy_from_slice(reason);
                2 + reason.len()
            }
        };
        frame::append(out, OpCode::Close, true, &payload[..size], mask);
        self.sent_close = true;
        self.state = ReadyState::Closing;
    }

    /// Takes note of the peer's Close.
    pub fn receive_close(&mut self) {
        self.received_close = true;
        self.state = ReadyState::Closing;
    }
}

/// The opcode of a message.
#[inline]
pub fn message_opcode(message: Message<'_>) -> OpCode {
    if message.is_text() { OpCode::Text } else { OpCode::Binary }
}

/// Whether a ping or pong can be sent with this payload (RFC 6455 section 5.5).
pub fn check_control(payload: &[u8]) -> Result<()> {
    if payload.len() > MAX_CONTROL_PAYLOAD {
        return Err(Error::invalid(format!("{} bytes of payload, a ping or pong takes 125", payload.len())));
    }
    Ok(())
}

/// Whether a program may close with this code and reason; `None` is a Close without a code, asked for as 1005.
pub fn check_close(code: u16, reason: &str) -> Result<Option<u16>> {
    if code == close::NO_STATUS && reason.is_empty() {
        return Ok(None);
    }
    if !close::is_valid(code) {
        let why = "is no code that a Close may carry: use 1000 to 1003, 1007 to 1014 or 3000 to 4999";
        return Err(Error::invalid(format!("{code} {why}")));
    }
    if reason.len() > MAX_CLOSE_REASON {
        return Err(Error::invalid(format!("{} bytes of reason, a Close takes 123", reason.len())));
    }
    Ok(Some(code))
}

/// The beginning of `text` that fits the reason of a Close.
pub fn fit_reason(text: &str) -> &str {
    let mut end = text.len().min(MAX_CLOSE_REASON);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_handshake_is_complete_when_both_have_closed() {
        let mut protocol = Protocol::new(Role::Server);
        assert!(matches!(protocol.check_open(), Err(Error::NotOpen)));
        protocol.open(None);
        assert!(protocol.check_open().is_ok() && protocol.is_receiving());
        let mut out = Vec::new();
        protocol.send_close(&mut out, Some(1000), "bye", None);
        assert_eq!(out, b"\x88\x05\x03\xe8bye");
        assert_eq!(protocol.state(), ReadyState::Closing);
        assert!(protocol.is_receiving() && !protocol.is_close_complete());
        protocol.receive_close();
        assert!(!protocol.is_receiving() && protocol.is_close_complete());
        protocol.send_close(&mut out, Some(1000), "again", None);
        assert_eq!(out.len(), 7);
    }

    #[test]
    fn a_close_without_code_is_empty() {
        let mut out = Vec::new();
        Protocol::new(Role::Server).send_close(&mut out, None, "", None);
        assert_eq!(out, b"\x88\x00");
    }

    #[test]
    fn codes_that_may_not_be_sent_are_refused() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
            assert!(check_close(code, "x").is_err(), "{code}");
        }
        for code in [1000, 1003, 1007, 1012, 1014, 3000, 4999] {
            assert_eq!(check_close(code, "x").unwrap(), Some(code));
        }
        assert_eq!(check_close(1005, "").unwrap(), None);
        assert!(check_close(1000, &"x".repeat(124)).is_err());
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        let long = "é".repeat(100);
        assert_eq!(fit_reason(&long).len(), 122);
        assert_eq!(fit_reason("short"), "short");
    }
}
