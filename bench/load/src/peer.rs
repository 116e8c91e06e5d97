//! A connection together with what it waits for, as `echo` and `broadcast` have them.

use crate::Result;
use crate::connection::{Connection, Event};
use crate::deflate::Inflater;
use crate::inbox::Inbox;
use crate::payload::Payloads;
use crate::report::rounded;
use crate::settings::Settings;

/// What is read at once: large enough for the answers to a whole batch, small enough for the second cache.
pub const BUFFER: usize = 256 << 10;

/// The messages of a scenario.
pub struct Messages {
    raw: bool,
    /// How many are sent with one write.
    pub depth: u64,
    payloads: Payloads,
    frame_length: usize,
    inflater: Inflater,
}

impl Messages {
    pub fn new(settings: &Settings) -> Self {
        let payloads = Payloads::new(settings.size, settings.content, settings.compression.is_some());
        let (raw, depth, frame_length) = (settings.raw, settings.depth, payloads.frame_length());
        Self { raw, depth, payloads, frame_length, inflater: Inflater::new() }
    }

    /// For a connection that is to get some of them.
    pub fn inbox(&self) -> Inbox {
        Inbox::new(&self.payloads)
    }

    /// How many bytes of a compressed message's frames came, in the mean, without their headers.
    pub fn wire_bytes(&self) -> Option<f64> {
        self.inflater.mean().map(|bytes| rounded(bytes, 1e1))
    }

    /// Appends the frames of the messages from `first` on; the number behind the last. They are kept in `sent` too
    /// where they will come back as they are.
    #[inline]
    pub fn write(&self, first: u64, frames: &mut Vec<u8>, sent: &mut Vec<u8>) -> u64 {
        let end = first + self.depth;
        for number in first..end {
            self.payloads.write_frame(number, frames);
        }
        if self.raw {
            sent.clone_from(frames);
        }
        end
    }

    /// Checks what has arrived; how many messages came to their end. `sent` is what `write` has kept.
    #[inline]
    pub fn take(&mut self, inbox: &mut Inbox, input: &[u8], sent: &[u8]) -> Result<u64> {
        match self.raw {
            true => inbox.take_raw(input, sent, self.frame_length),
            false => inbox.take(input, &self.payloads, &mut self.inflater),
        }
    }
}

pub struct Peer {
    pub connection: Connection,
    pub inbox: Inbox,
}

impl Peer {
    pub fn new(connection: Connection, messages: &Messages) -> Self {
        Self { connection, inbox: messages.inbox() }
    }

    /// Writes and reads what an event allows; how many messages came to their end.
    #[inline]
    pub fn handle(&mut self, event: Event, messages: &mut Messages, sent: &[u8], buffer: &mut [u8]) -> Result<u64> {
        self.connection.wake(event)?;
        let mut taken = 0;
        while let Some(length) = self.connection.receive(buffer)? {
            if length == 0 {
                return Err("the server ended a connection".into());
            }
            taken += messages.take(&mut self.inbox, &buffer[..length], sent)?;
        }
        if !self.inbox.replies.is_empty() {
            self.connection.send(&mut self.inbox.replies)?;
        }
        Ok(taken)
    }
}
