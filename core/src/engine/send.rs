//! Messages out: into the outbox, within the backlog's limit; and from the outboxes to the sockets, once a turn.

use std::io::{self, IoSlice};
use std::sync::Arc;

use super::outbox::MAX_WRITE;
use super::record::{Phase, Record};
use super::state::{News, State, mask};
use crate::config::BacklogPolicy;
use crate::error::{Error, Result};
use crate::event::{Connection, Message, ReadyState};
use crate::log::{Level, Topic};
use crate::protocol::connection::{check_control, message_opcode};
use crate::protocol::frame::{self, OpCode, Role};
use crate::protocol::http;

/// A message of this size, on an empty outbox, is written at once: copying it would cost more than the system call.
pub(super) const WRITE_AT_ONCE: usize = 16 * 1024;
/// The most of it that one system call is given. Measured with messages of 512 KiB to 4 MiB: up to here the kernel takes a
/// message in one go; of 1 MiB in one call, or in four, it takes a part, and wakes a peer that has read it several times.
const LARGEST_WRITE: usize = 768 * 1024;
/// What the heartbeat's pings carry; pongs with it are not told to the program.
pub(super) const HEARTBEAT: &[u8] = b"wsx heartbeat";

/// What to do with a message, after a look at the backlog.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Take,
    Drop,
}

/// Why a message cannot be sent.
#[cold]
pub(super) fn not_sendable(record: &Record) -> Error {
    match record.phase {
        Phase::Stream => Error::WrongKind("an HTTP stream takes bytes by write"),
        _ => record.protocol.check_open().err().unwrap_or(Error::Closed),
    }
}

impl State {
    /// The hot path: one look at the table, one at the outbox.
    #[inline]
    pub(super) fn send(&mut self, connection: Connection, message: Message<'_>) -> Result<()> {
        if self.batch.is_some() {
            self.settle();
        }
        let payload = message.payload();
        let (slot, record) = self.connections.find(connection.0).ok_or(Error::Closed)?;
        if record.phase != Phase::WebSocket || record.protocol.check_open().is_err() {
            return Err(not_sendable(record));
        }
        let waiting = record.outbox.len();
        if waiting + payload.len() + frame::MAX_HEADER <= self.least_backlog_limit
            && payload.len() < WRITE_AT_ONCE
            && !record.protocol.is_in_message()
            && record.protocol.compression.is_none()
        {
            let protocol = &record.protocol;
            let mask = mask(&mut self.random, protocol.role());
            record.outbox.append(&mut self.spares, |out| protocol.send(out, message, mask));
            if let Some(group) = self.groups.get(record.group) {
                group.counters.messages_sent.add(1);
            }
            if !record.touched {
                record.touched = true;
                self.touched.push(slot);
                self.is_busy = true;
            }
            return Ok(());
        }
        self.send_carefully(connection, slot, message)
    }

    /// A large message, one that joins a large backlog, or one that may be compressed.
    fn send_carefully(&mut self, connection: Connection, slot: u32, message: Message<'_>) -> Result<()> {
        if self.connections.get(slot).is_some_and(|record| record.protocol.is_in_message()) {
            return Err(Error::MessageInProgress);
        }
        if self.send_compressed(connection, slot, message)? {
            return Ok(());
        }
        let payload = message.payload();
        let record = self.connections.get_mut(slot).ok_or(Error::Closed)?;
        let role = record.protocol.role();
        if !record.outbox.is_empty() {
            if self.room(slot, payload.len() + frame::MAX_HEADER)? == Room::Drop {
                self.count_lost(connection);
                return Ok(());
            }
        } else if payload.len() >= WRITE_AT_ONCE && role == Role::Server && !record.is_blocked() {
            return self.write_at_once(connection, slot, message);
        }
        let mask = self.mask(role);
        let record = self.connections.get_mut(slot).ok_or(Error::Closed)?;
        let protocol = &record.protocol;
        record.outbox.append(&mut self.spares, |out| protocol.send(out, message, mask));
        self.count_sent_messages(slot, 1);
        self.staged(slot);
        Ok(())
    }

    /// Writes to the body of an HTTP stream.
    pub(super) fn write_stream(&mut self, connection: Connection, bytes: &[u8]) -> Result<()> {
        let slot = self.slot(connection)?;
        let record = self.connections.get(slot).ok_or(Error::Closed)?;
        match record.phase {
            Phase::Stream => {}
            Phase::Ending | Phase::Dead => return Err(Error::Closed),
            Phase::WebSocket => return Err(Error::WrongKind("a WebSocket takes messages by send")),
            _ => return Err(Error::NotOpen),
        }
        if bytes.is_empty() {
            return Ok(());
        }
        if !record.outbox.is_empty() && self.room(slot, bytes.len())? == Room::Drop {
            self.count_lost(connection);
            return Ok(());
        }
        let record = self.connections.get_mut(slot).ok_or(Error::Closed)?;
        let chunked = record.chunked();
        record.outbox.append(
            &mut self.spares,
            |out| {
                if chunked { http::write_chunk(out, bytes) } else { out.extend(bytes) }
            },
        );
        self.staged(slot);
        Ok(())
    }

    pub(super) fn unsolicited_pong(&mut self, connection: Connection, payload: &[u8]) -> Result<()> {
        self.control(connection, OpCode::Pong, payload).map(drop)
    }

    /// Sends a ping or pong of the program's; false where the backlog's policy drops it.
    pub(super) fn control(&mut self, connection: Connection, opcode: OpCode, payload: &[u8]) -> Result<bool> {
        check_control(payload)?;
        let slot = self.slot(connection)?;
        self.settle();
        let record = self.connections.get(slot).ok_or(Error::Closed)?;
        if record.phase == Phase::Stream {
            return Err(Error::WrongKind("an HTTP stream has no pings"));
        }
        record.protocol.check_open()?;
        let takes = record.outbox.is_empty() || self.room(slot, payload.len())? == Room::Take;
        if takes {
            self.stage_control(slot, opcode, payload);
        }
        Ok(takes)
    }

    fn stage_control(&mut self, slot: u32, opcode: OpCode, payload: &[u8]) {
        let Some(role) = self.connections.get(slot).map(|record| record.protocol.role()) else { return };
        let mask = self.mask(role);
        if let Some(record) = self.connections.get_mut(slot) {
            let protocol = &record.protocol;
            record.outbox.append(&mut self.spares, |out| protocol.send_control(out, opcode, payload, mask));
            self.staged(slot);
        }
    }

    /// Answers a ping: each one, but only the newest while earlier output waits for the kernel, so that a peer that
    /// pings and does not read makes nothing grow (RFC 6455 section 5.5.3).
    pub(super) fn answer_ping(&mut self, slot: u32, payload: &[u8]) {
        self.settle();
        let Some(record) = self.connections.get_mut(slot) else { return };
        if record.protocol.state() != ReadyState::Open {
            return;
        }
        if record.is_blocked() {
            record.extra().pong = Some(payload.to_vec());
        } else {
            self.stage_control(slot, OpCode::Pong, payload);
        }
    }

    /// Nothing was heard for the ping interval: asks whether the peer lives.
    pub(super) fn heartbeat(&mut self, slot: u32) {
        self.settle();
        self.stage_control(slot, OpCode::Ping, HEARTBEAT);
        self.heartbeat_sent(slot);
    }

    /// Something was put into the outbox: it leaves at the end of the turn, or now if it is much.
    #[inline]
    pub(super) fn staged(&mut self, slot: u32) {
        self.touch(slot);
        if let Some(record) = self.connections.get(slot)
            && record.outbox.len() >= MAX_WRITE
            && !record.is_blocked()
        {
            self.flush_connection(slot);
        }
    }

    /// Looks at the backlog before a message of `size` bytes joins output that waits already. What was staged in this
    /// turn is written first: only what the kernel does not take is a backlog.
    pub(super) fn room(&mut self, slot: u32, size: usize) -> Result<Room> {
        let Some(group) = self.group_of(slot) else { return Err(Error::Closed) };
        let (limit, policy) = (group.backlog_limit(), group.options.backlog_policy);
        let fits = |backlog: usize| backlog == 0 || backlog.saturating_add(size) <= limit;
        let record = self.connections.get(slot).ok_or(Error::Closed)?;
        if fits(record.outbox.len()) {
            return Ok(Room::Take);
        }
        self.flush_connection(slot);
        let record = self.connections.get_mut(slot).ok_or(Error::Closed)?;
        let backlog = record.outbox.len();
        if fits(backlog) {
            // The flush may have failed.
            return if matches!(record.phase, Phase::WebSocket | Phase::Stream) {
                Ok(Room::Take)
            } else {
                Err(Error::Closed)
            };
        }
        record.set_pressed(true);
        match policy {
            BacklogPolicy::Refuse => Err(Error::BacklogFull { backlog, limit }),
            BacklogPolicy::Drop => Ok(Room::Drop),
            BacklogPolicy::Pause if backlog <= limit || backlog.saturating_add(size) <= limit.saturating_mul(2) => {
                record.set_held(true);
                Ok(Room::Take)
            }
            BacklogPolicy::Pause | BacklogPolicy::Close => {
                self.fail_backlog(slot, backlog, limit);
                Err(Error::BacklogFull { backlog, limit })
            }
        }
    }

    /// Writes header and payload of a large message in one system call; only what the kernel leaves is copied.
    fn write_at_once(&mut self, connection: Connection, slot: u32, message: Message<'_>) -> Result<()> {
        let payload = message.payload();
        let record = self.connections.get_mut(slot).ok_or(Error::Closed)?;
        let (header, size) = frame::encode_header(message_opcode(message), true, payload.len(), None);
        let header = &header[..size];
        let transport = record.transport.as_mut().ok_or(Error::Closed)?;
        let mut sent = 0;
        let result = loop {
            let (head, body) = (&header[sent.min(size)..], &payload[sent.saturating_sub(size)..]);
            if head.is_empty() && body.is_empty() {
                break Ok(());
            }
            let body = &body[..body.len().min(LARGEST_WRITE)];
            let wanted = head.len() + body.len();
            match transport.write(&[IoSlice::new(head), IoSlice::new(body)]) {
                Ok(count) => {
                    sent += count;
                    if count < wanted {
                        break Ok(());
                    }
                }
                Err(error) => break Err(error),
            }
        };
        // As a rule it is the answer to what was read last.
        let counters = if record.group == self.latest.slot {
            Some(&self.latest.counters)
        } else {
            self.groups.get(record.group).map(|group| &group.counters)
        };
        if let Some(counters) = counters {
            counters.bytes_sent.add(sent as u64);
            counters.messages_sent.add(1);
        }
        match result {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                self.transport_failed(slot, "cannot write to the peer", &error);
                return Err(Error::Closed);
            }
            _ if sent == size + payload.len() => return Ok(()),
            _ => {}
        }
        if sent == 0 {
            let protocol = &record.protocol;
            record.outbox.append(&mut self.spares, |out| protocol.send(out, message, None));
        } else if sent >= size && self.lent.promise(payload, connection, sent - size) {
            record.outbox.push_promised(size + payload.len() - sent);
        } else {
            let mut rest = header[sent.min(size)..].to_vec();
            rest.extend(&payload[sent.saturating_sub(size)..]);
            record.outbox.push_rest(rest);
        }
        self.blocked(slot);
        Ok(())
    }

    /// Adds frames that many connections send to the outbox of one, within its backlog's limit. False, for much may have
    /// changed.
    #[inline(never)]
    pub(super) fn push_shared(&mut self, slot: u32, frames: &Arc<Vec<u8>>, messages: u32) -> bool {
        if self.takes_shared(slot, frames.len(), messages)
            && let Some(record) = self.connections.get_mut(slot)
        {
            record.outbox.push_shared(frames);
            self.staged(slot);
        }
        false
    }

    /// Whether the backlog of a connection takes so many bytes that many send; else these messages are counted as lost.
    pub(super) fn takes_shared(&mut self, slot: u32, size: usize, messages: u32) -> bool {
        let is_idle = self.connections.get(slot).is_none_or(|record| record.outbox.is_empty());
        let takes = is_idle || matches!(self.room(slot, size), Ok(Room::Take));
        if takes {
            self.count_sent_messages(slot, messages);
        } else {
            self.lose(slot, messages);
        }
        takes
    }

    /// Writes frames that many connections send to one of them, straight from where they are; only what the kernel does
    /// not take, or what must wait behind other output, goes to the outbox. True where all was written, and nothing else
    /// has changed.
    #[inline(always)]
    pub(super) fn write_shared(&mut self, slot: u32, frames: &Arc<Vec<u8>>, messages: u32) -> bool {
        let Some(record) = self.connections.get_mut(slot) else { return false };
        let Some(transport) = record.transport.as_mut() else { return false };
        if !record.outbox.is_empty() || frames.len() > MAX_WRITE {
            return self.push_shared(slot, frames, messages);
        }
        let written = transport.write(&[IoSlice::new(frames)]);
        let is_written = written.as_ref().is_ok_and(|count| *count == frames.len());
        if !is_written {
            self.shared_in_part(slot, frames, messages, written);
        }
        is_written
    }

    /// The kernel has not taken all of it.
    #[cold]
    #[inline(never)]
    fn shared_in_part(&mut self, slot: u32, frames: &Arc<Vec<u8>>, messages: u32, written: io::Result<usize>) {
        self.count_sent_messages(slot, messages);
        let Some(record) = self.connections.get_mut(slot) else { return };
        record.outbox.push_shared(frames);
        match written {
            Ok(count) => {
                record.outbox.advance(count, &mut self.spares);
                self.count_sent_bytes(slot, count);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // What has been put into the outbox is told as unsent.
            Err(error) => return self.transport_failed(slot, "cannot write to the peer", &error),
        }
        self.blocked(slot);
    }

    /// Writes what waits for every connection that something was sent to.
    #[inline]
    pub(super) fn flush(&mut self) {
        if self.gathers {
            self.write_gathered();
        }
        self.settle_and_write();
        if !self.touched.is_empty() {
            self.flush_touched();
        }
    }

    #[inline(never)]
    fn flush_touched(&mut self) {
        // What a flush touches itself, by a close, is another turn's work.
        let count = self.touched.len();
        for index in 0..count {
            let slot = self.touched[index];
            if let Some(record) = self.connections.get_mut(slot)
                && std::mem::take(&mut record.touched)
            {
                self.flush_connection(slot);
            }
        }
        self.touched.drain(..count);
    }

    /// Writes what waits for one connection, until the kernel takes no more.
    #[inline]
    pub(super) fn flush_connection(&mut self, slot: u32) {
        loop {
            let Some(record) = self.connections.get_mut(slot) else { return };
            if record.is_blocked() {
                return self.press(slot);
            }
            let is_last = record.phase == Phase::Ending && !record.holds_its_side();
            let Some(transport) = record.transport.as_mut() else { return };
            if !record.outbox.is_empty() {
                let before = record.outbox.len();
                let written = record.outbox.write(transport, &mut self.spares, is_last);
                let left = record.outbox.len();
                if let Some(group) = self.groups.get(record.group) {
                    group.counters.bytes_sent.add((before - left) as u64);
                }
                match written {
                    Ok(true) => {}
                    Ok(false) => return self.blocked(slot),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.blocked(slot),
                    Err(error) => return self.transport_failed(slot, "cannot write to the peer", &error),
                }
            }
            if record.outbox.is_empty() {
                if let Some(pong) = record.extra.as_mut().and_then(|extra| extra.pong.take()) {
                    self.answer_ping(slot, &pong);
                    continue;
                }
                match transport.flush(is_last) {
                    Ok(true) if record.extra.is_some() || record.pressed() || is_last => {
                        self.count_buffered(slot);
                        return self.drained(slot);
                    }
                    Ok(true) => return,
                    Ok(false) => return self.blocked(slot),
                    Err(error) => return self.transport_failed(slot, "cannot write to the peer", &error),
                }
            }
        }
    }

    /// The kernel takes no more: the rest waits for the socket to be writable.
    pub(super) fn blocked(&mut self, slot: u32) {
        let Some(group) = self.group_of(slot) else { return };
        let (limit, pauses) = (group.backlog_limit(), group.options.backlog_policy == BacklogPolicy::Pause);
        // The clock was last read before the callbacks of this turn, which may have taken long.
        self.tick();
        if let Some(record) = self.connections.get_mut(slot) {
            record.blocked_at = self.now;
            // One message may be more than the limit: what its peer sends next waits until it has been read.
            if pauses && record.outbox.len() > limit && record.protocol.state() == ReadyState::Open {
                record.set_held(true);
            }
            self.schedule(slot);
        }
        self.press(slot);
        self.drained(slot);
    }

    /// More has joined a backlog: above the high mark, `on_drain` is owed.
    fn press(&mut self, slot: u32) {
        let limit = self.group_of(slot).map_or(usize::MAX, |group| group.backlog_limit());
        if let Some(record) = self.connections.get_mut(slot)
            && !record.pressed()
            && record.outbox.len() > limit / 2
        {
            record.set_pressed(true);
            let waiting = record.outbox.len();
            self.log(Level::Debug, Topic::Backlog, slot, |_| format!("{waiting} bytes wait, backlog_limit is {limit}"));
        }
        self.count_buffered(slot);
    }

    /// Looks whether little enough waits for the program to be told, for the peer to be read again, or to end.
    fn drained(&mut self, slot: u32) {
        let limit = self.group_of(slot).map_or(usize::MAX, |group| group.backlog_limit());
        let id = self.connections.id(slot);
        let Some(record) = self.connections.get_mut(slot) else { return };
        if record.phase == Phase::Ending {
            // TLS may still have to say that nothing more comes.
            if record.outbox.is_empty() && !record.is_blocked() {
                self.ending_is_written(slot);
            }
        } else if record.pressed() && record.outbox.len() <= limit / 4 {
            record.set_pressed(false);
            self.news.push_back(News::Drain(id));
            if record.set_held(false) {
                record.heard_at = self.now;
                self.read_again(slot);
                self.schedule(slot);
            }
            self.log(Level::Debug, Topic::Backlog, slot, |_| "little enough waits again".into());
        }
    }
}
