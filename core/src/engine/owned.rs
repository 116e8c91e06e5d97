//! Messages whose bytes are not copied: given away with the call, or encoded once and sent to many.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::outbox::Frame;
use super::record::Phase;
use super::send::{Room, WRITE_AT_ONCE, not_sendable};
use super::state::State;
use crate::error::{Error, Result};
use crate::event::{Connection, Message, MessageKind};
use crate::protocol::connection::message_opcode;
use crate::protocol::deflate::{Compressors, Sending};
use crate::protocol::frame::{self, OpCode, Role};
use crate::protocol::unmask::unmask;

/// Frames below this size are copied also where they are shared: a reference to them costs as much.
const SHARED_AT_LEAST: usize = 1024;

/// Memory of any kind that can be given away with a message. It must hold the same bytes whenever it is asked. What it does
/// when it is dropped must not call the library: that happens in the middle of whatever the loop does.
pub trait Buffer: AsRef<[u8]> + AsMut<[u8]> + Send + 'static {}

impl<T: AsRef<[u8]> + AsMut<[u8]> + Send + 'static> Buffer for T {}

/// A message with its bytes, for [`Connection::send_owned`]: made of a `String`, a `Vec<u8>`, or any other [`Buffer`].
pub struct OwnedMessage(Payload);

enum Payload {
    Text(String),
    Binary(Vec<u8>),
    Buffer(MessageKind, Box<dyn Buffer>),
}

impl OwnedMessage {
    /// A message in memory of any kind.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a text that is not UTF-8; the memory is dropped then.
    pub fn new(kind: MessageKind, buffer: impl Buffer) -> Result<Self> {
        kind.message(buffer.as_ref())?;
        Ok(Self(Payload::Buffer(kind, Box::new(buffer))))
    }

    /// A copy of a message.
    pub(super) fn copy(message: Message<'_>) -> Self {
        match message {
            Message::Text(text) => text.to_owned().into(),
            Message::Binary(bytes) => bytes.to_owned().into(),
        }
    }

    pub(super) fn payload(&self) -> &[u8] {
        match &self.0 {
            Payload::Text(text) => text.as_bytes(),
            Payload::Binary(bytes) => bytes,
            Payload::Buffer(_, buffer) => (**buffer).as_ref(),
        }
    }

    pub(super) fn borrow(&self) -> Message<'_> {
        match &self.0 {
            Payload::Text(text) => Message::Text(text),
            Payload::Binary(bytes) => Message::Binary(bytes),
            Payload::Buffer(kind, buffer) => known(*kind, (**buffer).as_ref()),
        }
    }

    fn opcode(&self) -> OpCode {
        match &self.0 {
            Payload::Text(_) => OpCode::Text,
            Payload::Binary(_) => OpCode::Binary,
            Payload::Buffer(kind, _) => kind.opcode(),
        }
    }

    /// The frame of it, masked where it lies.
    fn into_frame(self, mask: Option<[u8; 4]>) -> Frame {
        let (header, size) = frame::encode_header(self.opcode(), true, self.payload().len(), mask);
        let mut payload: Box<dyn Buffer> = match self.0 {
            Payload::Text(text) => Box::new(text.into_bytes()),
            Payload::Binary(bytes) => Box::new(bytes),
            Payload::Buffer(_, buffer) => buffer,
        };
        if let Some(key) = mask {
            unmask((*payload).as_mut(), key);
        }
        Frame::new(&header[..size], payload)
    }
}

impl From<String> for OwnedMessage {
    fn from(text: String) -> Self {
        Self(Payload::Text(text))
    }
}

impl From<Vec<u8>> for OwnedMessage {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Payload::Binary(bytes))
    }
}

impl fmt::Debug for OwnedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnedMessage({:?}, {} bytes)", self.opcode(), self.payload().len())
    }
}

/// A message whose payload was checked before.
fn known(kind: MessageKind, payload: &[u8]) -> Message<'_> {
    kind.message(payload).unwrap_or(Message::Binary(payload))
}

/// A message that is encoded once, to be sent many times, by [`Connection::send_shared`]. Cheap to clone, and for any thread;
/// its bytes live until the last of its clones is dropped, and the last connection has sent it.
#[derive(Clone)]
pub struct SharedMessage(Arc<Encoded>);

struct Encoded {
    kind: MessageKind,
    /// As a server sends it.
    frame: Arc<Vec<u8>>,
    /// Where its payload begins.
    start: usize,
    /// The same, compressed once for each way of compressing that does without context.
    compressed: Mutex<Vec<(Sending, Arc<Vec<u8>>)>>,
}

/// How many ways of compressing are kept.
const MAX_WAYS: usize = 4;

impl SharedMessage {
    /// Encodes a message, which is copied.
    pub fn new<'m>(message: impl Into<Message<'m>>) -> Self {
        let message = message.into();
        let payload = message.payload();
        let mut frame = Vec::with_capacity(payload.len() + frame::MAX_HEADER);
        frame::append(&mut frame, message_opcode(message), true, payload, None);
        let kind = if message.is_text() { MessageKind::Text } else { MessageKind::Binary };
        let start = frame.len() - payload.len();
        Self(Arc::new(Encoded { kind, frame: frame.into(), start, compressed: Mutex::default() }))
    }

    /// The message itself.
    pub fn message(&self) -> Message<'_> {
        known(self.0.kind, &self.0.frame[self.0.start..])
    }

    fn compressed(&self, sending: Sending, compressors: &mut Compressors) -> Arc<Vec<u8>> {
        let mut ways = self.0.compressed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, frame)) = ways.iter().find(|(one, _)| *one == sending) {
            return frame.clone();
        }
        let frame = Arc::new(compressors.compress_frames(&self.0.frame, &sending));
        if ways.len() < MAX_WAYS {
            ways.push((sending, frame.clone()));
        }
        frame
    }
}

impl fmt::Debug for SharedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedMessage({:?}, {} bytes)", self.0.kind, self.0.frame.len() - self.0.start)
    }
}

impl State {
    /// The slot of a connection that a whole message can be sent to.
    fn sendable(&self, connection: Connection) -> Result<u32> {
        let slot = self.slot(connection)?;
        let record = self.connections.get(slot).ok_or(Error::Closed)?;
        if record.phase != Phase::WebSocket || record.protocol.check_open().is_err() {
            return Err(not_sendable(record));
        }
        if record.protocol.is_in_message() { Err(Error::MessageInProgress) } else { Ok(slot) }
    }

    /// Whether a message of so many bytes may join the output; one that may not, by the policy `Drop`, is counted as lost.
    fn takes(&mut self, connection: Connection, slot: u32, size: usize) -> Result<bool> {
        let is_idle = self.connections.get(slot).is_none_or(|record| record.outbox.is_empty());
        let takes = is_idle || self.room(slot, size)? == Room::Take;
        if !takes {
            self.count_lost(connection);
        }
        Ok(takes)
    }

    pub(super) fn send_owned(&mut self, connection: Connection, message: OwnedMessage) -> Result<()> {
        let size = message.payload().len();
        // A buffer of its own is worth it for a large one only.
        if size < WRITE_AT_ONCE {
            return self.send(connection, message.borrow());
        }
        self.settle();
        let slot = self.sendable(connection)?;
        if self.sending(slot).is_some() && self.send_compressed(connection, slot, message.borrow())? {
            return Ok(());
        }
        if self.takes(connection, slot, size + frame::MAX_HEADER)?
            && let Some(role) = self.connections.get(slot).map(|record| record.protocol.role())
        {
            let mask = self.mask(role);
            if let Some(record) = self.connections.get_mut(slot) {
                record.outbox.push_frame(message.into_frame(mask));
            }
            self.count_sent_messages(slot, 1);
            self.staged(slot);
        }
        Ok(())
    }

    pub(super) fn send_shared(&mut self, connection: Connection, message: &SharedMessage) -> Result<()> {
        self.settle();
        let slot = self.sendable(connection)?;
        let record = self.connections.get(slot).ok_or(Error::Closed)?;
        let sending = self.sending(slot);
        if record.protocol.role() == Role::Client || sending.is_some_and(|sending| sending.keeps_context) {
            // It is another one for each of these.
            return self.send(connection, message.message());
        }
        let frame = match sending {
            Some(sending) => message.compressed(sending, &mut self.compressors),
            None => message.0.frame.clone(),
        };
        if self.takes(connection, slot, frame.len())?
            && let Some(record) = self.connections.get_mut(slot)
        {
            if frame.len() < SHARED_AT_LEAST {
                record.outbox.append(&mut self.spares, |out| out.extend_from_slice(&frame));
            } else {
                record.outbox.push_shared(&frame);
            }
            self.count_sent_messages(slot, 1);
            self.staged(slot);
        }
        Ok(())
    }
}
