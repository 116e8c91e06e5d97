//! A client that connects again: one number over many connections. Each attempt is a connection with events of its own;
//! what they share, the group, outlives them and has the client's number.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::callback::with_handler;
use super::connector::Target;
use super::group::{Group, Groups, OwnedHandler};
use super::handle::Handle;
use super::news::look_for_panic;
use super::owned::OwnedMessage;
use super::registry;
use super::shared::{Cost, LoopCell, look, now, now_beside, now_or_later, with_state};
use super::state::{News, State};
use super::timers::{Millis, TimerKey, millis};
use crate::close::Close;
use crate::config::{Options, Reconnect};
use crate::error::{Error, Result};
use crate::event::{Client, Connection, GiveUp, GiveUpKind, Handler, Headers, Message, Reconnecting};
use crate::log::Level;
use crate::protocol::connection::check_close;
use crate::protocol::reconnecting::{self, QUEUED_MESSAGE};

/// What a loop keeps of a client that connects again.
pub(super) struct Persistent {
    reconnect: Reconnect,
    target: Target,
    /// The connection of the attempt in progress, until its `on_close` has been told.
    connection: Option<Connection>,
    /// When that was opened; 0 where it is not.
    opened_at: Millis,
    /// Attempts in a row to connect again.
    attempts: u32,
    /// What the last answer asked for.
    retry_after: Duration,
    /// When the next attempt is due; 0 where none is waited for.
    due: Millis,
    /// The program wants no more.
    is_closed: bool,
    /// Messages for the next connection.
    queue: VecDeque<OwnedMessage>,
    queued: usize,
    lost_messages: u32,
}

impl Client {
    fn index(self) -> u16 {
        registry::loop_index(self.0)
    }

    /// Sends a message, copied before this returns, on the connection that is open; where there is none it waits for the
    /// next one, if [`offline_limit`](Reconnect::offline_limit) lets it. What waits is sent in order as soon as a
    /// connection opens, before its `on_open`. In a callback of that connection [`Connection::send`] is the shorter way.
    /// [any thread]
    ///
    /// A message belongs to one connection: what was on its way when that was lost is told with its Close, and is not sent
    /// again. From another thread `Ok` means accepted: what is lost later is told in `lost_messages` of the connection's
    /// Close or, where there was none, of [`GiveUp`].
    ///
    /// # Errors
    /// [`Error::Closed`] once the client has given up or was closed; [`Error::NotOpen`] and [`Error::BacklogFull`] while it
    /// is offline, without and with a queue; and those of [`Connection::send`].
    pub fn send<'m>(self, message: impl Into<Message<'m>>) -> Result<()> {
        let message = message.into();
        if let Some(result) = with_state(self.index(), |state| state.send_persistently(self, message)) {
            return result;
        }
        let message = OwnedMessage::copy(message);
        let cost = Cost::Limited(message.borrow().payload().len());
        let send = move |state: &mut State| state.send_persistently(self, message.borrow());
        now_or_later(self.index(), cost, send, Some(Connection(self.0)))
    }

    /// Closes the connection with this code and reason, as [`Connection::close`] does, and connects no more: `on_give_up`
    /// comes after its `on_close`. A client that waits for its next attempt ends at once, and one that is connecting gives
    /// that up. Closing twice is [`Error::Closed`]. [any thread]
    pub fn close(self, code: u16, reason: &str) -> Result<()> {
        check_close(code, reason)?;
        let reason = reason.to_owned();
        let close = move |state: &mut State| state.close_client(self, code, &reason);
        now_or_later(self.index(), Cost::Limited(0), close, None)
    }

    /// Ends the transport at once, without a Close, and connects no more; also where [`close`](Self::close) was called
    /// before, and the server does not answer it. [any thread]
    pub fn terminate(self) -> Result<()> {
        now_or_later(self.index(), Cost::Limited(0), move |state| state.terminate_client(self), None)
    }

    /// The connection of the attempt in progress, open or not; none while the client waits for the next one.
    /// [loop thread]
    pub fn connection(self) -> Result<Option<Connection>> {
        look(self.index(), |state| Ok(state.persistent(self)?.1.connection))
    }

    /// Bytes that wait: those of the connection (see [`Connection::buffered_amount`]), and what is in the offline queue.
    /// [loop thread]
    pub fn buffered_amount(self) -> Result<usize> {
        now(self.index(), |state| {
            let (_, persistent) = state.persistent(self)?;
            let (queued, connection) = (persistent.queued, persistent.connection);
            Ok(queued + connection.map_or(0, |connection| state.buffered_amount(connection).unwrap_or(0)))
        })
    }
}

impl Handle {
    /// Connects as [`connect`](Self::connect) does, and again whenever the connection ends, until there is a reason to give
    /// up: see [`Reconnect`]. [loop thread]
    ///
    /// The handler is one for all attempts. Each is a connection of its own, which hears `on_open` where it succeeds, and
    /// its `on_error` and `on_close`. Then either [`on_reconnecting`](crate::Handler::on_reconnecting) tells when the next
    /// attempt will be made, or [`on_give_up`](crate::Handler::on_give_up), the last event, that there will be none. The
    /// name is looked up for each attempt anew; files of [`Options::tls`] are read once, now.
    ///
    /// To close the client's connection alone, by [`Client::connection`], is to connect again, unless the code says
    /// otherwise; [`Client::close`] ends the client.
    pub fn connect_persistently(
        &self,
        url: &str,
        options: &Options,
        reconnect: &Reconnect,
        handler: impl Handler,
    ) -> Result<Client> {
        self.connect_persistently_boxed(url, options, reconnect, Box::new(handler))
    }

    /// [`connect_persistently`](Self::connect_persistently) with a handler that is boxed already.
    pub fn connect_persistently_boxed(
        &self,
        url: &str,
        options: &Options,
        reconnect: &Reconnect,
        handler: Box<dyn Handler>,
    ) -> Result<Client> {
        let mut handler = Some(handler);
        let connect = |state: &mut State| state.connect_persistently(url, options, reconnect, &mut handler);
        self.outcome(now_beside(self.shared.index, connect))
    }
}

/// What is to be told after the `on_close` of a client's connection.
enum Next {
    Again { attempt: u32, delay: Duration },
    GiveUp(GiveUp),
}

/// The `on_close` of a connection in this group has been told: if it was a client's that connects again, what comes next is
/// told now.
pub(super) fn connection_closed(cell: &LoopCell, group: u32, close: &Close<'_>) {
    let next = cell.state().next_after(group, close);
    let Some((client, next)) = next else { return };
    match next {
        Next::Again { attempt, delay } => {
            cell.state().log_client(Level::Information, || format!("connects again in {delay:?}, attempt {attempt}"));
            let reconnecting = Reconnecting { attempt, delay, cause: close };
            let told = with_handler(cell, group, |handler| handler.on_reconnecting(client, &reconnecting));
            look_for_panic(cell, "on_reconnecting", told);
        }
        Next::GiveUp(give_up) => {
            cell.state()
                .log_client(Level::Warning, || "a client connects no more: it has given up, or was closed".into());
            call_on_give_up(cell, group, client, &give_up);
        }
    }
}

fn call_on_give_up(cell: &LoopCell, group: u32, client: Client, give_up: &GiveUp) {
    let told = with_handler(cell, group, |handler| handler.on_give_up(client, give_up));
    look_for_panic(cell, "on_give_up", told);
}

/// A client that waited for its next attempt has ended.
pub(super) fn tell_give_up(cell: &LoopCell, group: u32) {
    let taken = cell.state().give_up(group, None);
    let Some((client, give_up)) = taken else { return };
    call_on_give_up(cell, group, client, &give_up);
    cell.state().news.push_back(News::IdleGroup(group));
}

impl State {
    /// Begins to connect; takes `handler` only where that succeeds.
    fn connect_persistently(
        &mut self,
        url: &str,
        options: &Options,
        reconnect: &Reconnect,
        handler: &mut OwnedHandler,
    ) -> Result<Client> {
        self.check_alive()?;
        reconnecting::check(reconnect, options)?;
        let target = Target::new(url, options)?;
        let dial = target.dial(options)?;
        let slot = self.insert_group(Group::new(options, handler.take(), self.shared.counted.clients.clone()))?;
        match self.attempt(slot, &target, dial) {
            Ok(connection) => {
                if let Some(group) = self.groups.get_mut(slot) {
                    group.persistent = Some(Box::new(Persistent {
                        reconnect: reconnect.clone(),
                        target,
                        connection: Some(connection),
                        opened_at: 0,
                        attempts: 0,
                        retry_after: Duration::ZERO,
                        due: 0,
                        is_closed: false,
                        queue: VecDeque::new(),
                        queued: 0,
                        lost_messages: 0,
                    }));
                }
                Ok(self.client(slot))
            }
            Err(error) => {
                self.news.push_back(News::IdleGroup(slot));
                Err(error)
            }
        }
    }

    /// The client whose group is in this slot.
    fn client(&self, slot: u32) -> Client {
        Client(self.groups.id(slot))
    }

    /// What is kept of the client whose group is in this slot, if it is one that connects again.
    fn persistent_in(&mut self, slot: u32) -> Option<&mut Persistent> {
        self.groups.get_mut(slot)?.persistent.as_deref_mut()
    }

    fn persistent(&mut self, client: Client) -> Result<(u32, &mut Persistent)> {
        let slot = self.groups.slot(client.0).ok_or(Error::Closed)?;
        self.persistent_in(slot).map(|persistent| (slot, persistent)).ok_or(Error::Closed)
    }

    fn persistent_of(&mut self, slot: u32) -> Option<&mut Persistent> {
        let group = self.connections.get(slot)?.group;
        self.persistent_in(group)
    }

    /// When this client's next attempt is due; 0 where it waits for none.
    pub(super) fn attempt_due(groups: &Groups, id: u64) -> Millis {
        let group = groups.slot(id).and_then(|slot| groups.get(slot));
        group.and_then(|group| group.persistent.as_deref()).map_or(0, |persistent| persistent.due)
    }

    fn send_persistently(&mut self, client: Client, message: Message<'_>) -> Result<()> {
        let (_, persistent) = self.persistent(client)?;
        if persistent.is_closed {
            return Err(Error::Closed);
        }
        if persistent.opened_at != 0
            && let Some(connection) = persistent.connection
        {
            match self.send(connection, message) {
                // It is closing, or gone: the next one takes it.
                Err(Error::Closed) => {}
                result => return result,
            }
        }
        let (_, persistent) = self.persistent(client)?;
        persistent.enqueue(message)
    }

    /// A message was lost that another thread had been told was accepted.
    pub(super) fn count_lost_of_client(&mut self, client: Client) {
        let Ok((_, persistent)) = self.persistent(client) else { return };
        match persistent.connection {
            Some(connection) if persistent.opened_at != 0 => self.count_lost(connection),
            _ => persistent.lost_messages = persistent.lost_messages.saturating_add(1),
        }
    }

    fn close_client(&mut self, client: Client, code: u16, reason: &str) -> Result<()> {
        let (was_closed, connection) = self.end_client(client)?;
        if was_closed {
            return Err(Error::Closed);
        }
        if let Some(connection) = connection {
            // What is closing already, or has just ended, goes on with that; the client ends when that is told.
            let _ = self.close(connection, code, reason);
        }
        Ok(())
    }

    fn terminate_client(&mut self, client: Client) -> Result<()> {
        let (was_closed, connection) = self.end_client(client)?;
        // One that was closed may still wait for the peer's Close.
        let ended = connection.map_or(Err(Error::Closed), |connection| self.terminate(connection));
        if was_closed { ended } else { Ok(()) }
    }

    /// The program wants no more of a client. Tells whether it had said so before, and the connection that is to be ended;
    /// a client that has none ends now.
    fn end_client(&mut self, client: Client) -> Result<(bool, Option<Connection>)> {
        let (slot, persistent) = self.persistent(client)?;
        let was_closed = std::mem::replace(&mut persistent.is_closed, true);
        let connection = persistent.connection;
        if connection.is_none() && !was_closed {
            self.wait_no_more(slot);
        }
        Ok((was_closed, connection))
    }

    /// Ends the clients that wait for their next attempt: the loop ends. The others end with their connections.
    pub(super) fn end_waiting_clients(&mut self) {
        for slot in self.groups.slots() {
            if self.persistent_in(slot).is_some_and(|persistent| persistent.connection.is_none()) {
                self.wait_no_more(slot);
            }
        }
    }

    fn wait_no_more(&mut self, slot: u32) {
        if let Some(due) = self.persistent_in(slot).map(|persistent| std::mem::take(&mut persistent.due)) {
            self.timers.forget(due);
            self.news.push_back(News::GaveUp(slot));
        }
    }

    /// The connection in this slot has just opened: what waited for it leaves first.
    pub(super) fn attempt_opened(&mut self, slot: u32) {
        let now = self.now;
        let Some(persistent) = self.persistent_of(slot) else { return };
        persistent.opened_at = now;
        persistent.queued = 0;
        let queue = std::mem::take(&mut persistent.queue);
        let connection = Connection(self.connections.id(slot));
        for message in queue {
            if self.send(connection, message.borrow()).is_err() {
                self.count_lost(connection);
            }
        }
    }

    /// The server has refused the opening handshake of the connection in this slot.
    pub(super) fn attempt_refused(&mut self, slot: u32, headers: Headers<'_>) {
        let Some(persistent) = self.persistent_of(slot) else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        persistent.retry_after = reconnecting::retry_after(headers, now).unwrap_or_default();
    }

    /// What a client does after its connection has ended so.
    fn next_after(&mut self, slot: u32, close: &Close<'_>) -> Option<(Client, Next)> {
        self.persistent_in(slot)?;
        self.tick();
        let (now, random, is_ending) = (self.now, self.random(), self.check_alive().is_err());
        let client = self.client(slot);
        let persistent = self.persistent_in(slot)?;
        persistent.connection = None;
        let opened_at = std::mem::take(&mut persistent.opened_at);
        if opened_at != 0 && now - opened_at >= millis(persistent.reconnect.reset_after) {
            persistent.attempts = 0;
        }
        let retry_after = std::mem::take(&mut persistent.retry_after);
        if is_ending || persistent.is_closed || persistent.verdict(close).is_some() {
            return self.give_up(slot, Some(close)).map(|(client, give_up)| (client, Next::GiveUp(give_up)));
        }
        persistent.attempts = persistent.attempts.saturating_add(1);
        let attempt = persistent.attempts;
        // The jitter comes on top of what the server asks for, or all its clients would come back at once.
        let delay = retry_after + reconnecting::delay(&persistent.reconnect, attempt, random);
        let delay = Duration::from_millis(millis(delay));
        self.wait_for_attempt(slot, delay);
        Some((client, Next::Again { attempt, delay }))
    }

    fn wait_for_attempt(&mut self, slot: u32, delay: Duration) {
        let (due, client) = (self.due(delay), self.client(slot));
        if let Some(persistent) = self.persistent_in(slot) {
            persistent.due = due;
            self.timers.push(due, TimerKey::Client(client.0));
            self.clear_timers();
        }
    }

    /// A client's wait is over.
    pub(super) fn attempt_again(&mut self, id: u64, at: Millis) {
        let Some(slot) = self.groups.slot(id) else { return };
        let Some(group) = self.groups.get_mut(slot) else { return };
        // It is put back below: an attempt begins without a look at it.
        let Some(mut persistent) = group.persistent.take_if(|persistent| persistent.due == at) else { return };
        persistent.due = 0;
        let dial = persistent.target.dial(&group.options);
        let begun = dial.and_then(|dial| self.attempt(slot, &persistent.target, dial));
        persistent.connection = begun.ok();
        let (delay, has_begun) = (reconnecting::max_delay(&persistent.reconnect), persistent.connection.is_some());
        if let Some(group) = self.groups.get_mut(slot) {
            group.persistent = Some(persistent);
        }
        if !has_begun {
            // The table of connections is full.
            self.wait_for_attempt(slot, delay);
        }
    }

    /// Forgets a client, and says why: its last connection has ended so, if it had one.
    fn give_up(&mut self, slot: u32, close: Option<&Close<'_>>) -> Option<(Client, GiveUp)> {
        let client = self.client(slot);
        let persistent = self.groups.get_mut(slot)?.persistent.take()?;
        Some((client, persistent.give_up(close)))
    }
}

impl Persistent {
    /// Keeps a message for the next connection.
    fn enqueue(&mut self, message: Message<'_>) -> Result<()> {
        let limit = self.reconnect.offline_limit;
        if limit == 0 {
            return Err(Error::NotOpen);
        }
        let size = message.payload().len().saturating_add(QUEUED_MESSAGE);
        if self.queued.saturating_add(size) > limit {
            return Err(Error::BacklogFull { backlog: self.queued, limit });
        }
        self.queued += size;
        self.queue.push_back(OwnedMessage::copy(message));
        Ok(())
    }

    /// Why another attempt is of no use after a connection that ended so, if it is.
    fn verdict(&self, close: &Close<'_>) -> Option<GiveUpKind> {
        let max = self.reconnect.max_attempts;
        let exhausted = max != 0 && self.attempts >= max;
        reconnecting::verdict(close.code, close.failure).or(exhausted.then_some(GiveUpKind::Attempts))
    }

    fn give_up(self, close: Option<&Close<'_>>) -> GiveUp {
        let verdict = close.and_then(|close| self.verdict(close));
        let kind = match verdict {
            _ if self.is_closed => GiveUpKind::Closed,
            Some(kind) => kind,
            None => GiveUpKind::Shutdown,
        };
        let failure = close.and_then(|close| close.failure);
        let http_status = failure.and_then(|failure| failure.http_status);
        let close_code = close.map(|close| close.code);
        GiveUp {
            kind,
            close_code,
            http_status,
            attempts: self.attempts,
            lost_messages: self.lost_messages.saturating_add(self.queue.len() as u32),
            message: match kind {
                GiveUpKind::Finished => "the connection was closed with 1000: the client has finished".into(),
                GiveUpKind::CloseCode => {
                    format!("a close with {} says that connecting again is of no use", close_code.unwrap_or_default())
                        .into()
                }
                GiveUpKind::HttpStatus => {
                    format!("the answer {} says that connecting again is of no use", http_status.unwrap_or_default())
                        .into()
                }
                GiveUpKind::SocksRefusal => {
                    let refusal = failure.map_or("", |failure| &failure.message);
                    format!("connecting again is of no use: {refusal}").into()
                }
                GiveUpKind::Attempts => {
                    let max = self.reconnect.max_attempts;
                    format!("the client could not connect again in {max} attempts in a row (max_attempts)").into()
                }
                GiveUpKind::Closed => "the program closed the client".into(),
                GiveUpKind::Shutdown => "the event loop shuts down".into(),
            },
        }
    }
}
