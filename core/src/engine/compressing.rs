//! Messages out where compression was agreed on (permessage-deflate, RFC 7692).
//!
//! Where no context is kept a message is compressed before anything is decided about it, by a compressor of the loop, and
//! goes as it is where that does not make it smaller. Where a context is kept the order is the reverse: what has gone
//! through the connection's compressor is part of what later messages refer to, and must be sent.

use std::sync::Arc;

use super::send::Room;
use super::state::State;
use crate::error::{Error, Result};
use crate::event::{Connection, Message};
use crate::protocol::connection::message_opcode;
use crate::protocol::deflate::{Compressor, Sending};
use crate::protocol::frame::{self, OpCode, Role};

/// A batch as those get it who keep no context: compressed once for each way of compressing.
#[derive(Default)]
pub(super) struct Variants(Vec<(Sending, Arc<Vec<u8>>)>);

impl State {
    /// How messages to this connection are compressed, if they are.
    pub(super) fn sending(&self, slot: u32) -> Option<Sending> {
        let record = self.connections.get(slot)?;
        let agreement = record.protocol.compression?;
        let options = self.groups.get(record.group)?.options.compression.as_ref()?;
        agreement.sending(record.protocol.role(), options)
    }

    /// Sends a message compressed. False where it is to be sent as it is.
    pub(super) fn send_compressed(&mut self, connection: Connection, slot: u32, message: Message<'_>) -> Result<bool> {
        let payload = message.payload();
        let Some(sending) = self.sending(slot).filter(|sending| sending.applies_to(payload.len())) else {
            return Ok(false);
        };
        let size = if sending.keeps_context {
            payload.len()
        } else if self.compressors.compress(&sending, payload) {
            self.compressors.compressed.len()
        } else {
            self.compressors.tidy();
            return Ok(false);
        };
        let record = self.connections.get(slot).ok_or(Error::Closed)?;
        let role = record.protocol.role();
        if !record.outbox.is_empty() && self.room(slot, size + frame::MAX_HEADER)? == Room::Drop {
            self.compressors.tidy();
            self.count_lost(connection);
            return Ok(true);
        }
        let opcode = message_opcode(message);
        let mask = self.mask(role);
        if sending.keeps_context {
            self.append_in_context(slot, &sending, opcode, payload, mask);
        } else if let Some(record) = self.connections.get_mut(slot) {
            let compressed = &self.compressors.compressed;
            let append = |out: &mut Vec<u8>| frame::append_compressed(out, opcode, compressed, mask);
            record.outbox.append(&mut self.spares, append);
        }
        self.compressors.tidy();
        self.count_sent_messages(slot, 1);
        self.staged(slot);
        Ok(true)
    }

    /// Compresses a message by the connection's own compressor, and puts it into the outbox.
    fn append_in_context(
        &mut self,
        slot: u32,
        sending: &Sending,
        opcode: OpCode,
        payload: &[u8],
        mask: Option<[u8; 4]>,
    ) {
        let Some(record) = self.connections.get_mut(slot) else { return };
        let context: &mut Option<Compressor> = &mut record.extra().compressor;
        let compressed = &mut self.compressors.compressed;
        let compressor = context.get_or_insert_with(|| sending.compressor());
        if compressor.compress_message(payload, compressed) {
            let append = |out: &mut Vec<u8>| frame::append_compressed(out, opcode, compressed, mask);
            record.outbox.append(&mut self.spares, append);
        } else {
            // What begins anew refers to nothing, so the peer's context does not matter.
            *context = None;
            record.outbox.append(&mut self.spares, |out| frame::append(out, opcode, true, payload, mask));
        }
    }

    /// Gives a batch to one of its receivers, in the way that it agreed on. True where that was all.
    #[inline(never)]
    pub(super) fn give_in_its_way<const WRITES: bool>(
        &mut self,
        slot: u32,
        frames: &Arc<Vec<u8>>,
        messages: u32,
        variants: &mut Variants,
    ) -> bool {
        if self.postpone(slot, frames, messages) {
            return true;
        }
        let variant = match self.sending(slot) {
            None => frames.clone(),
            Some(sending) if sending.keeps_context => return self.push_in_context(slot, &sending, frames, messages),
            Some(sending) => self.variant(sending, frames, variants),
        };
        let is_written = WRITES && self.write_shared(slot, &variant, messages);
        if is_written {
            self.count_sent_messages(slot, messages);
            self.count_sent_bytes(slot, variant.len());
        } else if !WRITES {
            self.push_shared(slot, &variant, messages);
        }
        is_written
    }

    fn variant(&mut self, sending: Sending, frames: &Arc<Vec<u8>>, variants: &mut Variants) -> Arc<Vec<u8>> {
        let known = variants.0.iter().find(|(one, _)| *one == sending);
        if let Some((_, variant)) = known {
            return variant.clone();
        }
        let variant = Arc::new(self.compressors.compress_frames(frames, &sending));
        variants.0.push((sending, variant.clone()));
        variant
    }

    /// Adds frames that many connections send to the outbox of one that compresses them in a context of its own.
    fn push_in_context(&mut self, slot: u32, sending: &Sending, frames: &[u8], messages: u32) -> bool {
        if !self.takes_shared(slot, frames.len(), messages) {
            return false;
        }
        for (header, start, frame) in frame::whole_frames(frames, Role::Client) {
            let payload = &frame[start..];
            if sending.applies_to(payload.len()) {
                self.append_in_context(slot, sending, header.opcode, payload, None);
            } else if let Some(record) = self.connections.get_mut(slot) {
                record.outbox.append(&mut self.spares, |out| out.extend_from_slice(frame));
            }
        }
        self.compressors.tidy();
        self.staged(slot);
        false
    }
}
