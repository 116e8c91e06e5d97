//! A message that is sent in fragments (RFC 6455 section 5.4), one call for each.
//!
//! Until its last one nothing but control frames may be sent between them. A whole message is refused meanwhile; a broadcast
//! waits behind it, for nobody would know whom it failed to reach. Where compression was agreed on, all fragments together
//! are one stream (RFC 7692 section 6.1).

use std::sync::Arc;

use super::compressing::Variants;
use super::record::{Phase, Record};
use super::send::{Room, not_sendable};
use super::state::State;
use crate::close::{self, Side};
use crate::error::{Error, Failure, FailureKind, Result, Stage};
use crate::event::{Connection, Message, MessageKind, ReadyState};
use crate::protocol::deflate::{Compressor, Sending};
use crate::protocol::frame::{self, OpCode};
use crate::protocol::message::Utf8;

/// Frames that many connections send, and how many messages they are.
type Frames = (Arc<Vec<u8>>, u32);

/// A message of which not all fragments have been sent.
#[derive(Debug)]
pub(super) struct Fragments {
    kind: MessageKind,
    /// Of a text: a character may be cut.
    utf8: Utf8,
    /// How it is compressed, if it is.
    sending: Option<Sending>,
    /// What compresses it, unless that is the connection's own.
    compressor: Option<Compressor>,
    /// What was broadcast meanwhile, and how much that is.
    waiting: Vec<Frames>,
    waiting_bytes: usize,
}

impl MessageKind {
    pub(super) fn opcode(self) -> OpCode {
        match self {
            Self::Text => OpCode::Text,
            Self::Binary => OpCode::Binary,
        }
    }
}

fn not_utf8() -> Error {
    Error::invalid("the text is not UTF-8")
}

impl State {
    pub(super) fn send_fragment(
        &mut self,
        connection: Connection,
        kind: MessageKind,
        payload: &[u8],
        is_last: bool,
    ) -> Result<()> {
        self.settle();
        let slot = self.slot(connection)?;
        let record = self.connections.get(slot).ok_or(Error::Closed)?;
        if record.phase != Phase::WebSocket || record.protocol.check_open().is_err() {
            return Err(not_sendable(record));
        }
        let role = record.protocol.role();
        let begun = record.extra.as_ref().and_then(|extra| extra.fragments.as_deref());
        let is_first = begun.is_none();
        if is_first && is_last {
            // Nothing is special about it.
            return self.send(connection, kind.message(payload)?);
        }
        let utf8 = match begun {
            Some(begun) if begun.kind != kind => {
                return Err(Error::invalid("the fragments of a message are all text, or all binary"));
            }
            Some(begun) => begun.utf8.clone(),
            None => Utf8::default(),
        };
        let utf8 = if kind == MessageKind::Text { checked(utf8, payload, is_last)? } else { utf8 };
        if !record.outbox.is_empty() && self.room(slot, payload.len() + frame::MAX_HEADER)? == Room::Drop {
            // A part of a message cannot be left out.
            let limit = self.group_of(slot).map_or(0, |group| group.backlog_limit());
            let backlog = self.connections.get(slot).map_or(0, |record| record.outbox.len());
            return Err(Error::BacklogFull { backlog, limit });
        }
        if is_first {
            self.begin_message(slot, kind, payload.len());
        }
        let mask = self.mask(role);
        let record = self.connections.get_mut(slot).ok_or(Error::Closed)?;
        let extra = record.extra.as_deref_mut().ok_or(Error::Closed)?;
        let fragments = extra.fragments.as_deref_mut().ok_or(Error::Closed)?;
        fragments.utf8 = utf8;
        let mut is_made = true;
        let body = match fragments.sending {
            None => payload,
            Some(sending) => {
                let compressor = if sending.keeps_context { &mut extra.compressor } else { &mut fragments.compressor };
                let compressor = compressor.get_or_insert_with(|| sending.compressor());
                let compressed = &mut self.compressors.compressed;
                is_made = compressor.compress_fragment(payload, is_last, compressed);
                &*compressed
            }
        };
        let is_compressed = is_first && fragments.sending.is_some();
        let opcode = if is_first { kind.opcode() } else { OpCode::Continuation };
        let append = |out: &mut Vec<u8>| frame::append_fragment(out, opcode, is_last, is_compressed, body, mask);
        record.outbox.append(&mut self.spares, append);
        self.compressors.tidy();
        if !is_made {
            let failure = Failure::new(Stage::WebSocket, FailureKind::Transport, "a fragment could not be compressed");
            self.fail(slot, close::INTERNAL_ERROR, Side::Us, failure);
            return Err(Error::Closed);
        }
        if is_last {
            self.count_sent_messages(slot, 1);
            self.end_message(slot);
        }
        self.staged(slot);
        Ok(())
    }

    /// Sends a fragment that another thread has sent: it has gone on already, so that one that cannot be taken ends the
    /// connection, which has a message that can never be whole.
    pub(super) fn take_fragment(
        &mut self,
        connection: Connection,
        kind: MessageKind,
        payload: &[u8],
        is_last: bool,
    ) -> Result<()> {
        let taken = self.send_fragment(connection, kind, payload, is_last);
        if let Err(error) = &taken
            && let Ok(slot) = self.slot(connection)
            && let Some(record) = self.connections.get(slot)
            && record.phase == Phase::WebSocket
            && record.protocol.state() == ReadyState::Open
        {
            if let Error::BacklogFull { backlog, limit } = *error {
                self.fail_backlog(slot, backlog, limit);
            } else {
                let message = format!("a fragment that another thread has sent is refused: {error}");
                let failure = Failure::new(Stage::WebSocket, FailureKind::Callback, message);
                self.fail(slot, close::INTERNAL_ERROR, Side::Us, failure);
            }
        }
        taken
    }

    /// From now on a message is being sent; its first fragment has this size, which decides whether it is compressed.
    fn begin_message(&mut self, slot: u32, kind: MessageKind, size: usize) {
        let sending = self.sending(slot).filter(|sending| sending.applies_to(size));
        let Some(record) = self.connections.get_mut(slot) else { return };
        record.protocol.begin_message();
        record.extra().fragments = Some(Box::new(Fragments {
            kind,
            utf8: Utf8::default(),
            sending,
            compressor: None,
            waiting: Vec::new(),
            waiting_bytes: 0,
        }));
        self.in_message += 1;
    }

    /// The message is whole: what has waited for that follows.
    fn end_message(&mut self, slot: u32) {
        for (frames, messages) in self.take_fragments(slot) {
            let is_open = |record: &Record| record.phase == Phase::WebSocket && record.protocol.check_open().is_ok();
            if self.connections.get(slot).is_some_and(is_open) {
                self.give_in_its_way::<false>(slot, &frames, messages, &mut Variants::default());
            } else {
                // One of them was too much: nothing may follow the Close.
                self.lose(slot, messages);
            }
        }
    }

    /// The message will never be whole: what has waited for that is lost.
    pub(super) fn abandon_message(&mut self, slot: u32) {
        if self.in_message == 0 {
            return;
        }
        let waiting = self.take_fragments(slot);
        if !waiting.is_empty() {
            self.lose(slot, waiting.iter().map(|(_, messages)| messages).sum());
        }
    }

    fn take_fragments(&mut self, slot: u32) -> Vec<Frames> {
        let Some(record) = self.connections.get_mut(slot) else { return Vec::new() };
        let Some(fragments) = record.extra.as_mut().and_then(|extra| extra.fragments.take()) else { return Vec::new() };
        record.protocol.end_message();
        self.in_message -= 1;
        fragments.waiting
    }

    /// Keeps frames that many connections send until a message of this one is whole, within its backlog's limit; false where
    /// none is being sent.
    pub(super) fn postpone(&mut self, slot: u32, frames: &Arc<Vec<u8>>, messages: u32) -> bool {
        let limit = self.group_of(slot).map_or(0, |group| group.backlog_limit());
        let Some(record) = self.connections.get_mut(slot).filter(|record| record.protocol.is_in_message()) else {
            return false;
        };
        let output = record.outbox.len();
        let extra = record.extra();
        let Some(fragments) = &mut extra.fragments else { return false };
        // What keeps a short one costs more than itself.
        let size = frames.len() + size_of::<Frames>();
        let waits = output + fragments.waiting_bytes;
        if waits == 0 || waits.saturating_add(size) <= limit {
            fragments.waiting.push((frames.clone(), messages));
            fragments.waiting_bytes += size;
        } else {
            self.lose(slot, messages);
        }
        true
    }
}

impl MessageKind {
    pub(super) fn message(self, payload: &[u8]) -> Result<Message<'_>> {
        Ok(match self {
            Self::Text => Message::Text(simdutf8::basic::from_utf8(payload).map_err(|_| not_utf8())?),
            Self::Binary => Message::Binary(payload),
        })
    }
}

/// The state of a text with one more fragment.
fn checked(mut utf8: Utf8, payload: &[u8], is_last: bool) -> Result<Utf8> {
    utf8.check(payload).map_err(|_| not_utf8())?;
    if is_last {
        utf8.finish().map_err(|_| not_utf8())?;
    }
    Ok(utf8)
}
