//! Fragments to messages: assembling, UTF-8, size and fragment limits, control frames (RFC 6455 sections 5.4 to 5.6).
//!
//! A frame that is there whole is unmasked where it lies and lent out; the [`Receiver`] then remembers nothing. What a
//! read cut, or the peer fragmented, is copied into one growing buffer, checked byte by byte as it comes.

use std::borrow::Cow;

use crate::close;
use crate::config::Options;
use crate::error::{Failure, FailureKind, Figure, Limit, Stage};
use crate::event::Message;
use crate::protocol::deflate::Inflation;
use crate::protocol::frame::{self, OpCode, Role};
use crate::protocol::short::{NotUtf8, receive_short, receive_short_of_server, text};
use crate::protocol::unmask::unmask_from;

mod assembly;
mod inflating;
mod partial;
mod utf8;

pub(crate) use utf8::Utf8;

use assembly::Assembly;
use partial::Partial;

/// Why a connection must be failed (RFC 6455 section 7.1.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The code for our Close.
    pub code: u16,
    /// What is told of it. Its message is short enough for the reason of a Close.
    pub failure: Box<Failure>,
}

impl Violation {
    #[cold]
    pub(crate) fn protocol(code: u16, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, failure: Box::new(Failure::new(Stage::WebSocket, FailureKind::Protocol, message)) }
    }

    #[cold]
    fn limit(code: u16, limit: Limit, message: String) -> Self {
        Self { code, failure: Box::new(Failure::limit(Stage::WebSocket, limit, message)) }
    }
}

/// What a peer may send, out of [`Options`]; must not change while a message is being received.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes of a message; `u64::MAX`: no limit.
    pub max_message: u64,
    /// Most fragments of a message; `u32::MAX`: no limit.
    pub max_fragments: u32,
    /// Deliver the frames of fragmented messages as they are.
    pub deliver_fragments: bool,
}

impl Limits {
    /// Whether a message whose length fits into the second byte of its frame need not be compared with them.
    #[inline]
    pub fn take_short(&self) -> bool {
        self.max_message >= 125
    }
}

impl From<&Options> for Limits {
    fn from(options: &Options) -> Self {
        Self {
            max_message: if options.max_message == 0 { u64::MAX } else { options.max_message as u64 },
            max_fragments: if options.max_fragments == 0 { u32::MAX } else { options.max_fragments },
            deliver_fragments: options.deliver_fragments,
        }
    }
}

/// What has come.
#[derive(Debug)]
pub enum Received<'b> {
    /// A message that arrived whole, in one frame: it lies in the input, unmasked there.
    Message(Message<'b>),
    /// A message that spanned reads or frames.
    Assembled(Assembled),
    /// A message that was compressed.
    Inflated(Inflated),
    /// A frame of a fragmented message, with [`Limits::deliver_fragments`] only.
    Fragment {
        /// The message is text; this part of it may be cut inside a character.
        is_text: bool,
        /// The first frame of its message.
        is_first: bool,
        /// The last frame of its message.
        is_last: bool,
        /// The payload of this frame.
        payload: Cow<'b, [u8]>,
    },
    /// A ping.
    Ping(Cow<'b, [u8]>),
    /// A pong.
    Pong(Cow<'b, [u8]>),
    /// The peer's Close. Nothing after it counts (RFC 6455 section 5.5.1).
    Close {
        /// The code, which is valid; `None` where the frame was empty.
        code: Option<u16>,
        /// The reason; empty where there was none.
        reason: Cow<'b, str>,
    },
}

/// A message that was put together. Text is a `String`, so that it is validated once.
#[derive(Debug, PartialEq, Eq)]
pub enum Assembled {
    /// Text.
    Text(String),
    /// Any bytes.
    Binary(Vec<u8>),
}

impl Assembled {
    /// The message, as programs hear it.
    pub fn message(&self) -> Message<'_> {
        match self {
            Self::Text(text) => Message::Text(text),
            Self::Binary(bytes) => Message::Binary(bytes),
        }
    }

    /// The payload, owned.
    pub fn into_payload(self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.into_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

/// A message that was compressed. Text is not validated before it is asked for, so that it is done once.
#[derive(Debug, PartialEq, Eq)]
pub struct Inflated {
    is_text: bool,
    payload: Vec<u8>,
}

impl Inflated {
    /// The message, as programs hear it.
    ///
    /// # Errors
    /// 1007 for a text that is not UTF-8.
    pub fn message(&self) -> Result<Message<'_>, Violation> {
        if self.is_text { Ok(text(&self.payload)?) } else { Ok(Message::Binary(&self.payload)) }
    }

    /// Bytes that it has inflated to.
    pub fn size(&self) -> usize {
        self.payload.len()
    }

    /// The buffer it was inflated into.
    pub fn into_payload(self) -> Vec<u8> {
        self.payload
    }
}

/// Where less than this is missing of a frame, it is received with everything else.
const DIRECT: u64 = 16 * 1024;
/// How much is made room for at first.
const FIRST_ROOM: usize = 64 * 1024;
/// How much of what follows a frame may come with its end.
pub const BEHIND: usize = 1024;

/// The receiving half of one connection. Between whole messages it owns nothing but the context of a peer whose
/// compressed messages may refer to earlier ones.
#[derive(Debug, Default)]
pub struct Receiver {
    partial: Option<Box<Partial>>,
}

impl Receiver {
    /// The short way of nearly all messages: takes the first frame off `input` if it is a small message that is there
    /// whole. `None` leaves anything else to [`receive`](Self::receive), which begins with this.
    #[inline(always)]
    pub fn receive_short<'b>(
        &mut self,
        input: &mut &'b mut [u8],
        role: Role,
        limits: &Limits,
    ) -> Option<Result<Message<'b>, Violation>> {
        if self.partial.is_some() || !limits.take_short() {
            return None;
        }
        let message = match role {
            Role::Server => receive_short(input),
            Role::Client => receive_short_of_server(input),
        };
        message.map(|message| message.map_err(Violation::from))
    }

    /// The buffer that the payload of the frame in progress may be received into, with room at its end: so that a large
    /// binary message is copied once, by the kernel. None for anything else, or where little is missing.
    pub fn direct(&mut self, limits: &Limits) -> Option<&mut Vec<u8>> {
        let Partial { frame: Some(frame), message: Some(message), .. } = &mut **self.partial.as_mut()? else {
            return None;
        };
        let left = frame.left();
        if message.is_compressed
            || left < DIRECT
            || (limits.deliver_fragments && !(frame.header.fin && message.fragments == 1))
        {
            return None;
        }
        let Assembled::Binary(bytes) = &mut message.assembled else { return None };
        // Room for a little more than is missing, so that a short receive tells that there is no more. It grows with
        // what has come, not with what was announced.
        let room = left.min(bytes.len().saturating_mul(3).max(FIRST_ROOM) as u64) as usize;
        bytes.reserve_exact(room + BEHIND);
        // Earlier fragments may have left more room than what comes behind this one may take.
        ((bytes.capacity() - bytes.len()) as u64 <= left + BEHIND as u64).then_some(bytes)
    }

    /// Takes note of what was received into the buffer of [`direct`](Self::direct), behind its first `held` bytes. What
    /// came after the end of the frame is moved to `rest`, which has room for [`BEHIND`] bytes; returns how much that is.
    /// A message that is complete is the next event of [`receive`](Self::receive).
    pub fn received_directly(&mut self, held: usize, rest: &mut [u8]) -> usize {
        let Some(Partial { frame: slot @ Some(_), message: Some(message), .. }) = self.partial.as_deref_mut() else {
            return 0;
        };
        let (Some(frame), Assembled::Binary(bytes)) = (slot.as_mut(), &mut message.assembled) else { return 0 };
        let came = bytes.len() - held;
        let here = usize::try_from(frame.left()).unwrap_or(usize::MAX).min(came);
        let behind = came - here;
        rest[..behind].copy_from_slice(&bytes[held + here..]);
        bytes.truncate(held + here);
        unmask_part(&mut bytes[held..], frame.header.mask, (frame.received % 4) as usize);
        frame.received += here as u64;
        if frame.left() == 0 {
            message.is_complete = frame.header.fin;
            *slot = None;
        }
        behind
    }

    /// Whether an event is there without further input.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.partial.as_ref().and_then(|partial| partial.message.as_ref()).is_some_and(|message| message.is_complete)
    }

    /// Takes at most one event off `input`, and returns what is left of it. Compressed messages are permitted where there is
    /// an `inflation`.
    ///
    /// `(None, [])` says that more bytes are needed: what was there has been consumed. After a violation, and after a
    /// Close, the receiver must not be asked again.
    #[inline(never)]
    pub fn receive<'b>(
        &mut self,
        mut input: &'b mut [u8],
        role: Role,
        limits: &Limits,
        inflation: Option<Inflation<'_>>,
    ) -> Result<(Option<Received<'b>>, &'b mut [u8]), Violation> {
        if let Some(message) = self.receive_short(&mut input, role, limits) {
            return message.map(|message| (Some(Received::Message(message)), input));
        }
        if self.partial.is_none()
            && let Some((header, start)) = frame::parse(input, role, inflation.is_some())?
            && header.fin
            && !header.compressed
            && header.opcode != OpCode::Continuation
            && header.length <= (input.len() - start) as u64
        {
            if header.length > limits.max_message && !header.opcode.is_control() {
                return Err(too_big(header.length, limits));
            }
            // The length is at most that of the input, so it fits.
            let (frame, rest) = input.split_at_mut(start + header.length as usize);
            let payload = &mut frame[start..];
            unmask_part(payload, header.mask, 0);
            return Ok((Some(whole(header.opcode, payload)?), rest));
        }
        self.receive_part(input, role, limits, inflation)
    }

    /// Whether part of a frame or of a message is held, or a context.
    pub fn is_partial(&self) -> bool {
        self.partial.is_some()
    }

    /// The same for what is not there whole, or is part of a fragmented message.
    fn receive_part<'b>(
        &mut self,
        mut input: &'b mut [u8],
        role: Role,
        limits: &Limits,
        mut inflation: Option<Inflation<'_>>,
    ) -> Result<(Option<Received<'b>>, &'b mut [u8]), Violation> {
        if self.is_ready()
            && let Some(mut partial) = self.partial.take()
        {
            let message = partial.message.take();
            self.keep(partial);
            return Ok((message.map(|message| Received::Assembled(message.assembled)), input));
        }
        if input.is_empty() {
            return Ok((None, input));
        }
        let mut partial = self.partial.take().unwrap_or_default();
        while let Some(mut frame) = partial.next_frame(&mut input, role, limits, inflation.is_some())? {
            let left = frame.header.length - frame.received;
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
            let (bytes, rest) = input.split_at_mut(here);
            input = rest;
            let received = partial.take_payload(&mut frame, bytes, limits, inflation.as_mut())?;
            if frame.received < frame.header.length {
                partial.frame = Some(frame);
                break;
            }
            if received.is_some() {
                self.keep(partial);
                return Ok((received, input));
            }
        }
        // The input is used up, and cannot have ended between messages: that end would have been an event.
        self.partial = Some(partial);
        Ok((None, input))
    }

    fn keep(&mut self, partial: Box<Partial>) {
        if partial.is_needed() {
            self.partial = Some(partial);
        }
    }
}

impl From<NotUtf8> for Violation {
    fn from(_: NotUtf8) -> Self {
        not_utf8()
    }
}

/// A frame that is there whole and is a message, or a control frame.
fn whole(opcode: OpCode, payload: &mut [u8]) -> Result<Received<'_>, Violation> {
    match opcode {
        OpCode::Text => Ok(Received::Message(text(payload)?)),
        OpCode::Binary => Ok(Received::Message(Message::Binary(payload))),
        _ => control(opcode, Cow::Borrowed(payload)),
    }
}

fn control(opcode: OpCode, payload: Cow<'_, [u8]>) -> Result<Received<'_>, Violation> {
    match opcode {
        OpCode::Ping => Ok(Received::Ping(payload)),
        OpCode::Pong => Ok(Received::Pong(payload)),
        _ => close_frame(payload),
    }
}

/// RFC 6455 section 5.5.1: nothing, or a code and a reason.
fn close_frame(payload: Cow<'_, [u8]>) -> Result<Received<'_>, Violation> {
    let Some((code, _)) = payload.split_first_chunk() else {
        if payload.is_empty() {
            return Ok(Received::Close { code: None, reason: Cow::Borrowed("") });
        }
        return Err(Violation::protocol(close::PROTOCOL_ERROR, "a Close has a payload of one byte"));
    };
    let code = u16::from_be_bytes(*code);
    if !close::is_valid(code) {
        return Err(Violation::protocol(
            close::PROTOCOL_ERROR,
            format!("a Close has the code {code}, which is not valid"),
        ));
    }
    let reason = match payload {
        Cow::Borrowed(bytes) => std::str::from_utf8(&bytes[2..]).ok().map(Cow::Borrowed),
        Cow::Owned(bytes) => std::str::from_utf8(&bytes[2..]).ok().map(|reason| Cow::Owned(reason.to_owned())),
    };
    match reason {
        Some(reason) => Ok(Received::Close { code: Some(code), reason }),
        None => Err(Violation::protocol(close::INVALID_PAYLOAD, "the reason of a Close is not UTF-8")),
    }
}

#[cold]
#[inline(never)]
fn not_utf8() -> Violation {
    Violation::protocol(close::INVALID_PAYLOAD, "a text message is not UTF-8")
}

#[cold]
#[inline(never)]
fn too_big(announced: u64, limits: &Limits) -> Violation {
    let message = format!("a message of {announced} bytes or more exceeds max_message ({})", limits.largest());
    Violation::limit(close::TOO_BIG, limits.max_message().reached(announced), message)
}

impl Limits {
    /// No buffer can be larger than `isize::MAX`, whatever the options say.
    fn largest(&self) -> u64 {
        self.max_message.min(isize::MAX as u64)
    }

    /// How that is told.
    fn max_message(&self) -> Limit {
        Limit::new("max_message", Figure::Bytes(self.largest()))
    }

    /// A message within the limit is longer than this when it is compressed only if its sender flushes every few bytes.
    fn largest_compressed(&self) -> u64 {
        let largest = self.largest();
        largest + largest / 4 + 1024
    }
}

fn unmask_part(bytes: &mut [u8], mask: Option<[u8; 4]>, phase: usize) {
    if let Some(key) = mask {
        unmask_from(bytes, key, phase);
    }
}

#[cfg(test)]
mod tests;
