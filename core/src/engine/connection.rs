//! What any thread may ask of a connection, by its number. `shared` tells how a call finds its loop.

use std::time::Duration;

use super::current;
use super::deferring;
use super::owned::{OwnedMessage, SharedMessage};
use super::registry;
use super::shared::{Cost, look, now, now_or_later, with_state};
use crate::error::{Error, Result};
use crate::event::{Address, Connection, Message, MessageKind, ReadyState, Response};

impl Connection {
    fn index(self) -> u16 {
        registry::loop_index(self.0)
    }

    /// Sends a message, copied before this returns. [any thread]
    ///
    /// On the loop's thread it is encoded straight into what is to be written, and leaves with everything else at the end
    /// of the turn. From another thread `Ok` means accepted: what is lost later is told in `lost_messages` of the
    /// connection's Close.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::NotOpen`], [`Error::BacklogFull`], [`Error::Full`], [`Error::WrongKind`].
    #[inline(always)]
    pub fn send<'m>(self, message: impl Into<Message<'m>>) -> Result<()> {
        let message = message.into();
        if current::send(self, message) { Ok(()) } else { self.send_by_table(message) }
    }

    #[inline(never)]
    fn send_by_table(self, message: Message<'_>) -> Result<()> {
        if current::send_masked(self, message) {
            return Ok(());
        }
        if let Some(result) = with_state(self.index(), |state| state.send(self, message)) {
            return result;
        }
        self.send_from_elsewhere(message)
    }

    #[cold]
    fn send_from_elsewhere(self, message: Message<'_>) -> Result<()> {
        self.send_owned(OwnedMessage::copy(message))
    }

    /// Sends a message whose bytes are given away instead of copied: a `String`, a `Vec<u8>`, or an [`OwnedMessage`] of any
    /// other memory. They are dropped when they have left, or are lost, or the call is refused. A client masks them where they
    /// lie. Messages below 16 KiB, and those that are compressed, are copied all the same. Everything else is as of
    /// [`send`](Self::send). [any thread]
    pub fn send_owned(self, message: impl Into<OwnedMessage>) -> Result<()> {
        let message = message.into();
        let cost = message.payload().len();
        now_or_later(self.index(), Cost::Limited(cost), move |state| state.send_owned(self, message), Some(self))
    }

    /// Sends a message that was encoded before: to a server's peer the very bytes that all get, compressed at most once for
    /// all that keep no context; a client's are masked, and so copied. Everything else is as of [`send`](Self::send).
    /// [any thread]
    pub fn send_shared(self, message: &SharedMessage) -> Result<()> {
        if let Some(result) = with_state(self.index(), |state| state.send_shared(self, message)) {
            return result;
        }
        let message = message.clone();
        let cost = Cost::Limited(message.message().payload().len());
        now_or_later(self.index(), cost, move |state| state.send_shared(self, &message), Some(self))
    }

    /// Sends a fragment of a message (RFC 6455 section 5.4), copied before this returns: the first call begins one, that with
    /// `is_last` ends it. Text may be cut inside a character; the whole is checked as it comes. [any thread]
    ///
    /// Until the last one, messages for this connection are refused with [`Error::MessageInProgress`]; pings, pongs and a
    /// Close may come between, and a Close leaves the message unfinished. What is broadcast or published meanwhile follows
    /// behind it, as far as the backlog's limit goes; beyond that, and where the connection ends first, it counts in
    /// `lost_messages`. Where compression was agreed on, the size of the first fragment decides whether the message is
    /// compressed, and without context its compressor lives as long as the message.
    ///
    /// # Errors
    /// Those of [`send`](Self::send), and [`Error::InvalidArgument`] for text that is not UTF-8, or another kind than that of
    /// the message; then the fragment was not sent, and another may be. [`Error::BacklogFull`] under the policy `Drop` as
    /// well: a part of a message cannot be left out. From another thread, where a call cannot tell, each of them ends the
    /// connection: with 1013 where too much waits, else with 1011.
    pub fn send_fragment(self, kind: MessageKind, payload: &[u8], is_last: bool) -> Result<()> {
        if let Some(result) = with_state(self.index(), |state| state.send_fragment(self, kind, payload, is_last)) {
            return result;
        }
        let payload = payload.to_vec();
        now_or_later(
            self.index(),
            Cost::Limited(payload.len()),
            move |state| state.take_fragment(self, kind, &payload, is_last),
            Some(self),
        )
    }

    /// Sends a ping of at most 125 bytes; the answer is told by `on_pong`, with its latency: a pong answers the first ping
    /// with its payload that is out, and every one before that (RFC 6455 section 5.5.3). Of more than 64 that are out the
    /// oldest are forgotten. [any thread]
    pub fn ping(self, payload: &[u8]) -> Result<()> {
        let payload = payload.to_vec();
        now_or_later(self.index(), Cost::Limited(payload.len()), move |state| state.ping(self, &payload), None)
    }

    /// Sends an unsolicited pong of at most 125 bytes (RFC 6455 section 5.5.3). [any thread]
    pub fn pong(self, payload: &[u8]) -> Result<()> {
        let payload = payload.to_vec();
        now_or_later(
            self.index(),
            Cost::Limited(payload.len()),
            move |state| state.unsolicited_pong(self, &payload),
            None,
        )
    }

    /// Begins the closing handshake; what was sent before leaves first. [any thread]
    ///
    /// `code` is 1000 to 1003, 1007 to 1014 or 3000 to 4999, or 1005 for a Close without a code; `reason` is at most
    /// 123 bytes. On an HTTP stream the code is only told in `on_close`, and the body ends in order. A connection that is
    /// still connecting is given up. Closing twice is [`Error::Closed`].
    pub fn close(self, code: u16, reason: &str) -> Result<()> {
        let reason = reason.to_owned();
        now_or_later(self.index(), Cost::Limited(reason.len()), move |state| state.close(self, code, &reason), None)
    }

    /// Ends the transport at once, without a Close; what waits is lost. `on_close` tells 1006. [any thread]
    pub fn terminate(self) -> Result<()> {
        now_or_later(self.index(), Cost::Limited(0), move |state| state.terminate(self), None)
    }

    /// Answers a request that was deferred by [`Response::later`], under the number of
    /// [`Request::connection`](crate::Request::connection). [any thread]
    ///
    /// `Ok` means that this is the answer, and no other can be: it takes effect in this turn of the loop or its next one,
    /// unless the client leaves or a shutdown begins before. One that cannot be sent (a subprotocol that was not offered)
    /// makes the answer a 500, and `on_listener_error` says why.
    ///
    /// # Errors
    /// [`Error::Closed`] where it is too late: the client has left, the timeout has run out, the loop ends; from another
    /// thread also where the request was answered before, or was not deferred, which on the loop's thread is
    /// [`Error::WrongKind`]. [`Error::InvalidArgument`] for an answer that [`check`](Response::check) refuses, or that is
    /// itself `later`, and [`Error::Full`]: then the request still waits.
    pub fn respond(self, response: Response) -> Result<()> {
        deferring::respond(self, response)
    }

    /// Writes to the body of an HTTP stream. Limits are those of `send`. [any thread]
    pub fn write(self, bytes: &[u8]) -> Result<()> {
        if let Some(result) = with_state(self.index(), |state| state.write_stream(self, bytes)) {
            return result;
        }
        let bytes = bytes.to_vec();
        now_or_later(
            self.index(),
            Cost::Limited(bytes.len()),
            move |state| state.write_stream(self, &bytes),
            Some(self),
        )
    }

    /// Subscribes an open server connection to a topic; twice is once. [any thread]
    pub fn subscribe(self, topic: &str) -> Result<()> {
        let topic = topic.to_owned();
        now_or_later(self.index(), Cost::Limited(topic.len()), move |state| state.subscribe(self, &topic), None)
    }

    /// Ends a subscription; one that does not exist is no error. [any thread]
    pub fn unsubscribe(self, topic: &str) -> Result<()> {
        let topic = topic.to_owned();
        now_or_later(self.index(), Cost::Limited(topic.len()), move |state| state.unsubscribe(self, &topic), None)
    }

    /// Stops reading from the peer, who will feel it through TCP; the heartbeat rests meanwhile. It takes effect once the
    /// connection is open, and ends when it closes. [any thread]
    pub fn pause(self) -> Result<()> {
        now_or_later(self.index(), Cost::Limited(0), move |state| state.pause(self), None)
    }

    /// Reads again after [`pause`](Self::pause). [any thread]
    pub fn resume(self) -> Result<()> {
        now_or_later(self.index(), Cost::Limited(0), move |state| state.resume(self), None)
    }

    /// Bytes queued here that the kernel has not taken yet, frame headers included. [loop thread]
    pub fn buffered_amount(self) -> Result<usize> {
        now(self.index(), |state| state.buffered_amount(self))
    }

    /// The state; a stale number is `Closed`. From a thread that is not the loop's: [`Error::WrongThread`].
    pub fn ready_state(self) -> Result<ReadyState> {
        match look(self.index(), |state| Ok(state.ready_state(self))) {
            Err(Error::Closed) => Ok(ReadyState::Closed),
            answer => answer,
        }
    }

    /// The subprotocol agreed on. [loop thread]
    pub fn subprotocol(self) -> Result<Option<String>> {
        look(self.index(), |state| state.subprotocol(self))
    }

    /// The extensions agreed on, as the header of the answer says it: `permessage-deflate; server_no_context_takeover`;
    /// empty for none. [loop thread]
    pub fn extensions(self) -> Result<String> {
        look(self.index(), |state| state.extensions(self))
    }

    /// Where the peer is; still known inside `on_close`. [loop thread]
    pub fn peer_address(self) -> Result<Address> {
        look(self.index(), |state| state.peer_address(self))
    }

    /// The newest latency that was measured: from when a ping was put into the output, the program's or the heartbeat's, to
    /// its pong. None before the first. Still known inside `on_close`. [loop thread]
    pub fn latency(self) -> Result<Option<Duration>> {
        look(self.index(), |state| state.latency(self))
    }

    /// The program's own number for this connection; 0 until it is set. Still known inside `on_close`. [loop thread]
    pub fn user_data(self) -> Result<u64> {
        look(self.index(), |state| state.user_data(self))
    }

    /// Keeps a number of the program's with the connection: an index, or a pointer. [loop thread]
    pub fn set_user_data(self, user_data: u64) -> Result<()> {
        look(self.index(), |state| state.set_user_data(self, user_data))
    }
}
