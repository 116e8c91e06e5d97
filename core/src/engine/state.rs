//! What a loop owns, and the small questions a program asks about a connection.
//!
//! Nothing here calls the program: what a call causes is put into `news`, and told later in the turn, when no borrow of
//! this state is held.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::{StdRng, SysRng};
use rand::{Rng, SeedableRng};

use super::connector::Dial;
use super::handle::{Shared, retire};
use super::listener::Acceptor;
use super::outbox::{Outbox, Spares};
use super::registry::{LISTENER_SLOTS, Registry};
use super::resolver::Resolver;
use super::timers::{Function, Millis, TimerKey, Timers, millis};
use super::topics::{Batch, Subscription, Topics};
use super::transport::Transport;
use crate::close::Side;
use crate::config::{LoopOptions, Options};
use crate::error::{Error, Failure, Result};
use crate::event::{Address, Connection, Handler, Listener, ReadyState, Timer};
use crate::protocol::connection::Protocol;
use crate::protocol::frame::Role;
use crate::protocol::message::Limits;

/// Where a connection is on its way; the WebSocket part of it is told in detail by `Record::protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Client: the name is being looked up.
    Resolving,
    /// Client: TCP is being opened.
    Dialing,
    /// Server: the request has not come, or not all of it.
    Request,
    /// Client: the answer has not come, or not all of it.
    Response,
    /// Open, or in the closing handshake.
    WebSocket,
    /// An HTTP answer that the program writes to.
    Stream,
    /// What waits is written, then our side is shut, then the peer's end is awaited: closing at once, with bytes unread,
    /// would make the kernel send a reset that destroys what is under way to the peer.
    Ending,
    /// The transport is gone; `on_close` is owed, or has just been told.
    Dead,
}

/// How a connection ends, as far as it is known.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) code: u16,
    pub(super) reason: String,
    pub(super) was_clean: bool,
    pub(super) by: Side,
    pub(super) failure: Option<Failure>,
}

/// What only few connections need, or for a short while.
#[derive(Debug, Default)]
pub(super) struct Extra {
    /// The part of an HTTP head that has come, and how much of it was searched for its end.
    pub(super) head: Vec<u8>,
    pub(super) scanned: usize,
    /// Bytes that were received and not parsed, because the program paused or closed.
    pub(super) carry: Vec<u8>,
    /// The newest ping that waits for the backlog to be drained (RFC 6455 section 5.5.3).
    pub(super) pong: Option<Vec<u8>>,
    pub(super) dial: Option<Box<Dial>>,
    pub(super) subprotocol: Option<Box<str>>,
    pub(super) unix_path: Option<PathBuf>,
    pub(super) ending: Option<Box<Ending>>,
    pub(super) lost_messages: u32,
    /// Bytes of messages that the backlog's limit dropped before they were begun.
    pub(super) dropped_bytes: u64,
}

#[derive(Debug)]
pub(super) struct Record {
    pub(super) protocol: Protocol,
    pub(super) outbox: Outbox,
    pub(super) extra: Option<Box<Extra>>,
    #[expect(clippy::box_collection, reason = "rare, and 16 bytes less in every connection")]
    pub(super) subscriptions: Option<Box<Vec<Subscription>>>,
    pub(super) transport: Option<Transport>,
    pub(super) peer: Option<SocketAddr>,
    pub(super) user_data: u64,
    /// When the last byte came.
    pub(super) heard_at: Millis,
    /// When this phase, or the closing handshake, began; while OPEN, when the heartbeat's ping was sent (0: none is out).
    pub(super) since: Millis,
    /// Since when no byte of the backlog was taken; 0 where nothing waits for the kernel.
    pub(super) blocked_at: Millis,
    /// The time of this connection's live timer; 0 for none.
    pub(super) timer_at: Millis,
    pub(super) group: u32,
    /// The place among the open connections of the group, or [`NO_MEMBER`].
    pub(super) member: u32,
    pub(super) phase: Phase,
    /// In the list of those to flush.
    pub(super) touched: bool,
    /// In the list of those to read again.
    pub(super) ready: bool,
    /// The program knows the number: `on_close` is owed.
    pub(super) announced: bool,
    /// The peer will send no more, or the transport failed: read on to the end.
    pub(super) peer_ended: bool,
    /// The program does not want to read.
    pub(super) paused: bool,
    /// The policy `Pause` does not want to read.
    pub(super) held: bool,
    /// Above the high mark: `on_drain` is owed.
    pub(super) pressed: bool,
    /// Ending: finish as soon as everything is written.
    pub(super) quick: bool,
    /// Stream: the body goes out in chunks.
    pub(super) chunked: bool,
}

/// The place of a connection that broadcasts do not reach.
pub(super) const NO_MEMBER: u32 = u32::MAX;

// 10,000 idle connections are 10,000 of these.
const _: () = assert!(size_of::<Record>() <= 192);

impl Record {
    pub(super) fn new(group: u32, role: Role, phase: Phase, now: Millis) -> Self {
        Self {
            protocol: Protocol::new(role),
            outbox: Outbox::default(),
            extra: None,
            subscriptions: None,
            transport: None,
            peer: None,
            user_data: 0,
            heard_at: now,
            since: now,
            blocked_at: 0,
            timer_at: 0,
            group,
            member: NO_MEMBER,
            phase,
            touched: false,
            ready: false,
            announced: false,
            peer_ended: false,
            paused: false,
            held: false,
            pressed: false,
            quick: false,
            chunked: false,
        }
    }

    pub(super) fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    pub(super) fn is_reading(&self) -> bool {
        !(self.paused || self.held)
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked_at != 0
    }

    pub(super) fn peer_address(&self) -> Address {
        match self.peer {
            Some(address) => Address::Tcp(address),
            None => Address::Unix(self.extra.as_ref().and_then(|extra| extra.unix_path.clone())),
        }
    }
}

/// A program's handler; `None` once it was given away.
pub(super) type OwnedHandler = Option<Box<dyn Handler>>;

/// A listener with its connections, or one client connection: they share options and a handler.
pub(super) struct Group {
    /// Out while one of its callbacks runs.
    pub(super) handler: OwnedHandler,
    pub(super) options: Options,
    pub(super) limits: Limits,
    pub(super) times: Times,
    /// The socket that accepts; none for a client, or after the listener was closed.
    pub(super) acceptor: Option<Acceptor>,
    pub(super) max_connections: usize,
    /// Connections that are open, in no order.
    pub(super) members: Vec<u32>,
    /// Records that belong here.
    pub(super) records: usize,
}

/// The timeouts of a group; 0 for none.
pub(super) struct Times {
    pub(super) handshake: Millis,
    pub(super) ping: Millis,
    pub(super) pong: Millis,
    pub(super) close: Millis,
    pub(super) progress: Millis,
}

impl Group {
    pub(super) fn new(options: &Options, handler: OwnedHandler) -> Self {
        let close = match millis(options.close_timeout) {
            0 => millis(Options::default().close_timeout),
            close => close,
        };
        Self {
            handler,
            limits: Limits::from(options),
            times: Times {
                handshake: millis(options.handshake_timeout),
                ping: millis(options.ping_interval),
                pong: millis(options.pong_timeout).max(1),
                close,
                progress: millis(options.progress_timeout),
            },
            options: options.clone(),
            acceptor: None,
            max_connections: usize::MAX,
            members: Vec::new(),
            records: 0,
        }
    }

    pub(super) fn backlog_limit(&self) -> usize {
        match self.options.backlog_limit {
            0 => usize::MAX,
            limit => limit,
        }
    }
}

/// What waits to be told.
pub(super) enum News {
    Drain(u64),
    /// The record in this slot is dead: tell its `on_close`, then free it.
    Closed(u32),
    ListenerError(u32, Failure),
    /// A group may have nothing left to do.
    IdleGroup(u32),
}

pub(super) struct State {
    pub(super) shared: Arc<Shared>,
    pub(super) poll: mio::Poll,
    began: Millis,
    pub(super) now: Millis,
    pub(super) connections: Registry<Record>,
    pub(super) groups: Registry<Group>,
    pub(super) topics: Topics,
    pub(super) batch: Option<Batch>,
    pub(super) timers: Timers,
    pub(super) resolver: Resolver,
    pub(super) spares: Spares,
    pub(super) touched: Vec<u32>,
    pub(super) ready: Vec<u32>,
    pub(super) ready_listeners: Vec<u32>,
    pub(super) news: VecDeque<News>,
    /// Out while a turn dispatches.
    pub(super) buffer: Vec<u8>,
    pub(super) events: Option<mio::Events>,
    pub(super) stopping: bool,
    /// When the grace of a shutdown is over.
    pub(super) shutting_down: Option<Millis>,
    /// The loop is being dropped: nothing new may begin.
    pub(super) dropping: bool,
    /// The smallest `backlog_limit` of all groups there were: what stays below it needs no further look.
    pub(super) least_backlog_limit: usize,
    random: StdRng,
}

impl State {
    pub(super) fn new(
        shared: Arc<Shared>,
        poll: mio::Poll,
        options: &LoopOptions,
        first_generation: u32,
    ) -> Result<Self> {
        let random = StdRng::try_from_rng(&mut SysRng)
            .map_err(|error| Error::io("read random bytes for masking keys", io::Error::other(error.to_string())))?;
        let index = shared.index;
        Ok(Self {
            shared,
            poll,
            began: clock(),
            now: 1,
            connections: Registry::new(index, 0, first_generation),
            groups: Registry::new(index, LISTENER_SLOTS, first_generation),
            topics: Topics::default(),
            batch: None,
            timers: Timers::default(),
            resolver: Resolver::default(),
            spares: Spares::default(),
            touched: Vec::new(),
            ready: Vec::new(),
            ready_listeners: Vec::new(),
            news: VecDeque::new(),
            buffer: vec![0; options.receive_buffer.max(4096)],
            events: Some(mio::Events::with_capacity(1024)),
            stopping: false,
            shutting_down: None,
            dropping: false,
            least_backlog_limit: usize::MAX,
            random,
        })
    }

    /// Reads the clock. Time begins at 1, so that 0 can mean "never".
    pub(super) fn tick(&mut self) {
        self.now = 1 + clock() - self.began;
    }

    /// The slot of a connection whose number is not stale.
    #[inline]
    pub(super) fn slot(&self, connection: Connection) -> Result<u32> {
        self.connections.slot(connection.0).ok_or(Error::Closed)
    }

    #[inline]
    fn record(&self, connection: Connection) -> Result<&Record> {
        self.connections.slot(connection.0).and_then(|slot| self.connections.get(slot)).ok_or(Error::Closed)
    }

    #[inline]
    pub(super) fn record_mut(&mut self, connection: Connection) -> Result<&mut Record> {
        self.connections.find(connection.0).map(|(_, record)| record).ok_or(Error::Closed)
    }

    pub(super) fn group_of(&self, slot: u32) -> Option<&Group> {
        self.groups.get(self.connections.get(slot)?.group)
    }

    /// The slot of a listener that is not closed.
    pub(super) fn listener_slot(&self, listener: Listener) -> Result<u32> {
        let slot = self.groups.slot(listener.0).ok_or(Error::Closed)?;
        self.groups.get(slot).filter(|group| group.acceptor.is_some()).map(|_| slot).ok_or(Error::Closed)
    }

    /// A masking key for one frame of a client, unpredictable (RFC 6455 section 5.3); none for a server.
    #[inline]
    pub(super) fn mask(&mut self, role: Role) -> Option<[u8; 4]> {
        match role {
            Role::Client => Some(self.random.next_u32().to_ne_bytes()),
            Role::Server => None,
        }
    }

    /// Whether something new may begin on this loop.
    pub(super) fn check_alive(&self) -> Result<()> {
        if self.dropping { Err(Error::LoopGone) } else { Ok(()) }
    }

    /// Puts a group in the table.
    pub(super) fn insert_group(&mut self, group: Group) -> Result<u32> {
        self.least_backlog_limit = self.least_backlog_limit.min(group.backlog_limit());
        self.groups
            .insert(group)
            .map_err(|_| Error::invalid("too many listeners and clients on one event loop (8,388,608)"))
    }

    /// Puts a record in the table.
    pub(super) fn insert(&mut self, record: Record) -> Result<u32> {
        let group = record.group;
        let slot = self
            .connections
            .insert(record)
            .map_err(|_| Error::invalid("too many connections on one event loop (8,388,608)"))?;
        if let Some(group) = self.groups.get_mut(group) {
            group.records += 1;
        }
        Ok(slot)
    }

    /// Takes a record out of the table: its number is stale from now on.
    pub(super) fn remove(&mut self, slot: u32) {
        let Some(record) = self.connections.remove(slot) else { return };
        if let Some(group) = self.groups.get_mut(record.group) {
            group.records -= 1;
            if group.records == 0 && group.acceptor.is_none() {
                self.news.push_back(News::IdleGroup(record.group));
            }
            let full = group.records + 1 == group.max_connections.saturating_add(super::listener::RESERVE);
            if full && group.acceptor.is_some() {
                self.ready_listeners.push(record.group);
            }
        }
    }

    /// Sees to it that a connection is flushed at the end of the turn.
    #[inline]
    pub(super) fn touch(&mut self, slot: u32) {
        if let Some(record) = self.connections.get_mut(slot)
            && !record.touched
        {
            record.touched = true;
            self.touched.push(slot);
        }
    }

    /// Sees to it that a connection is read in the next turn, without waiting for the system to say so.
    pub(super) fn read_again(&mut self, slot: u32) {
        if let Some(record) = self.connections.get_mut(slot)
            && !record.ready
        {
            record.ready = true;
            self.ready.push(slot);
        }
    }

    /// Whether a turn has work at once.
    pub(super) fn has_work(&self) -> bool {
        self.stopping
            || self.batch.is_some()
            || !(self.touched.is_empty()
                && self.ready.is_empty()
                && self.ready_listeners.is_empty()
                && self.news.is_empty())
    }

    pub(super) fn count_lost(&mut self, connection: Connection) {
        if let Ok(record) = self.record_mut(connection) {
            let extra = record.extra();
            extra.lost_messages = extra.lost_messages.saturating_add(1);
        }
    }

    pub(super) fn ready_state(&self, connection: Connection) -> ReadyState {
        match self.record(connection) {
            Err(_) => ReadyState::Closed,
            Ok(record) => match record.phase {
                Phase::Resolving | Phase::Dialing | Phase::Request | Phase::Response => ReadyState::Connecting,
                Phase::WebSocket => record.protocol.state(),
                Phase::Stream => ReadyState::Open,
                Phase::Ending => ReadyState::Closing,
                Phase::Dead => ReadyState::Closed,
            },
        }
    }

    pub(super) fn buffered_amount(&mut self, connection: Connection) -> Result<usize> {
        self.settle();
        self.record(connection).map(|record| record.outbox.len())
    }

    pub(super) fn subprotocol(&self, connection: Connection) -> Result<Option<String>> {
        let extra = self.record(connection)?.extra.as_ref();
        Ok(extra.and_then(|extra| extra.subprotocol.as_deref()).map(str::to_owned))
    }

    pub(super) fn peer_address(&self, connection: Connection) -> Result<Address> {
        self.record(connection).map(Record::peer_address)
    }

    pub(super) fn user_data(&self, connection: Connection) -> Result<u64> {
        self.record(connection).map(|record| record.user_data)
    }

    pub(super) fn set_user_data(&mut self, connection: Connection, user_data: u64) -> Result<()> {
        self.record_mut(connection).map(|record| record.user_data = user_data)
    }

    pub(super) fn pause(&mut self, connection: Connection) -> Result<()> {
        self.record_mut(connection).map(|record| record.paused = true)
    }

    pub(super) fn resume(&mut self, connection: Connection) -> Result<()> {
        let slot = self.slot(connection)?;
        if let Some(record) = self.connections.get_mut(slot)
            && std::mem::take(&mut record.paused)
        {
            // The silence was ours: the heartbeat begins anew.
            record.heard_at = self.now;
            self.read_again(slot);
            self.schedule(slot);
        }
        Ok(())
    }

    pub(super) fn connection_count(&self, listener: Option<Listener>) -> Result<usize> {
        self.audience_groups(listener).map(|groups| groups.map(|group| group.members.len()).sum())
    }

    pub(super) fn connections(&self, listener: Option<Listener>) -> Result<Vec<Connection>> {
        let groups = self.audience_groups(listener)?;
        Ok(groups.flat_map(|group| &group.members).map(|slot| Connection(self.connections.id(*slot))).collect())
    }

    /// The group of a listener, or all groups. Those of clients have no members.
    fn audience_groups(&self, listener: Option<Listener>) -> Result<impl Iterator<Item = &Group>> {
        let slots = match listener {
            Some(listener) => vec![self.groups.slot(listener.0).ok_or(Error::Closed)?],
            None => self.groups.slots(),
        };
        Ok(slots.into_iter().filter_map(|slot| self.groups.get(slot)))
    }

    pub(super) fn set_timer(&mut self, after: Duration, function: Function) -> Timer {
        self.tick();
        let at = self.due(after);
        Timer(self.timers.add(at, self.shared.index, function))
    }

    /// When something is due that is asked for now. The clock drops what is less than a millisecond, so one more is
    /// waited: what a program asks for never comes early.
    pub(super) fn due(&self, after: Duration) -> Millis {
        if after.is_zero() { self.now } else { self.now + millis(after) + 1 }
    }

    /// Cancels; what was to be called is handed back, to be dropped where this state is not borrowed.
    pub(super) fn cancel_timer(&mut self, timer: Timer) -> Option<Function> {
        let function = self.timers.take(timer.0);
        self.clear_timers();
        function
    }

    pub(super) fn stop(&mut self) {
        self.stopping = true;
        let _ = self.shared.wake();
    }

    /// When a connection must be looked at; none if nothing can run out.
    fn deadline(&self, slot: u32) -> Option<Millis> {
        let record = self.connections.get(slot)?;
        let times = &self.groups.get(record.group)?.times;
        let after = |since: Millis, timeout: Millis| (timeout != 0).then_some(since + timeout);
        match record.phase {
            Phase::Resolving | Phase::Request | Phase::Response => after(record.since, times.handshake),
            Phase::Dialing => {
                let attempt = record.extra.as_ref().and_then(|extra| extra.dial.as_ref()?.give_up_at);
                earliest(after(record.since, times.handshake), attempt)
            }
            Phase::WebSocket if record.protocol.state() == ReadyState::Open => {
                let progress = if record.is_blocked() { after(record.blocked_at, times.progress) } else { None };
                let heartbeat = match times.ping {
                    // Nothing can be heard while we do not read; output that waits has its own timeout.
                    _ if !record.is_reading() => None,
                    0 => None,
                    _ if record.since != 0 && record.heard_at < record.since => Some(record.since + times.pong),
                    interval => Some(record.heard_at + interval),
                };
                earliest(progress, heartbeat)
            }
            // A body may be long: it may take its time as long as the peer takes some of it.
            Phase::Stream if !record.is_blocked() => None,
            Phase::Stream => after(record.blocked_at, times.progress),
            // So may a whole one. Where it is not blocked it is about to be written, in this turn.
            Phase::Ending if record.protocol.state() == ReadyState::Connecting && !record.outbox.is_empty() => {
                if record.is_blocked() { after(record.blocked_at, times.progress) } else { None }
            }
            Phase::WebSocket | Phase::Ending => Some(record.since + times.close),
            Phase::Dead => None,
        }
    }

    /// Sees to it that the loop looks at a connection in time. An entry that is early enough is left as it is: what it
    /// finds when it is due decides.
    pub(super) fn schedule(&mut self, slot: u32) {
        let Some(deadline) = self.deadline(slot) else { return };
        let id = self.connections.id(slot);
        let Some(record) = self.connections.get_mut(slot) else { return };
        if record.timer_at == 0 || deadline < record.timer_at {
            record.timer_at = deadline;
            self.timers.push(deadline, TimerKey::Connection(id));
            self.clear_timers();
        }
    }

    /// Drops void timers where they outnumber the live ones.
    fn clear_timers(&mut self) {
        if self.timers.len() > 4 * (self.connections.len() + self.timers.functions()) + 1024 {
            let (connections, shutting_down) = (&self.connections, self.shutting_down);
            self.timers.retain(|at, key| is_live(connections, shutting_down, at, key));
        }
    }

    /// When the loop must turn next, in milliseconds of its clock.
    pub(super) fn next_timer(&mut self) -> Option<Millis> {
        let (connections, shutting_down) = (&self.connections, self.shutting_down);
        self.timers.next(|at, key| is_live(connections, shutting_down, at, key))
    }

    /// Whether a connection's deadline is really over, or has moved meanwhile and was scheduled again.
    pub(super) fn is_overdue(&mut self, slot: u32) -> bool {
        if let Some(record) = self.connections.get_mut(slot) {
            record.timer_at = 0;
        }
        match self.deadline(slot) {
            Some(deadline) if deadline <= self.now => true,
            _ => {
                self.schedule(slot);
                false
            }
        }
    }
}

impl Drop for State {
    /// Wherever a loop ends: calls from other threads are refused from here on, and its successor uses other numbers.
    fn drop(&mut self) {
        drop(self.shared.close());
        let next = self.connections.next_generation().max(self.groups.next_generation());
        retire(self.shared.index, next);
    }
}

/// The monotonic clock, in milliseconds; read once or twice a turn, so without the arithmetic of `Instant`.
fn clock() -> Millis {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as Millis * 1000 + time.tv_nsec as Millis / 1_000_000
}

fn is_live(connections: &Registry<Record>, shutting_down: Option<Millis>, at: Millis, key: TimerKey) -> bool {
    match key {
        TimerKey::Connection(id) => {
            connections.slot(id).and_then(|slot| connections.get(slot)).is_some_and(|record| record.timer_at == at)
        }
        TimerKey::Shutdown => shutting_down == Some(at),
        TimerKey::Program(_) | TimerKey::Accept(_) => true,
    }
}

fn earliest(one: Option<Millis>, other: Option<Millis>) -> Option<Millis> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
