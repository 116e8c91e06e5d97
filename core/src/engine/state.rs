//! What a loop owns, and the small questions a program asks about a connection.
//!
//! Nothing here calls the program: what a call causes is put into `news`, and told later in the turn, when no borrow of
//! this state is held.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use rand::rngs::{StdRng, SysRng};
use rand::{Rng, SeedableRng};

use super::current;
use super::group::{Group, Groups, Latest};
use super::handover::LentPayload;
use super::listener::{Accepting, RESERVE};
use super::logging::{Entry, Log};
use super::outbox::{MAX_WRITE, Spares};
use super::record::{Phase, Record};
use super::registry::Registry;
use super::resolver::Resolver;
use super::shared::{Shared, retire};
use super::timers::{Function, Micros, Millis, Timers, millis};
use super::topics::{Batch, Topics};
use super::wait::Waiting;
use crate::config::LoopOptions;
use crate::error::{Error, Failure, Result};
use crate::event::{Address, Client, Connection, Listener, ReadyState, Response, Timer};
use crate::protocol::deflate::Compressors;
use crate::protocol::frame::Role;

/// What waits to be told.
pub(super) enum News {
    Drain(u64),
    /// The record in this slot is dead: tell its `on_close`, then free it.
    Closed(u32),
    /// The client of this group waits for no further attempt.
    GaveUp(u32),
    ListenerError(u32, Failure),
    /// For the log.
    Record(Box<Entry>),
    /// A log that is the program's no more.
    OldLog(Log),
    /// The answer to a deferred request has come.
    Answered(u64, Box<Response>),
    /// A deferred request of this group, with this number, will have none.
    Unanswered(u32, u64),
    /// A group may have nothing left to do.
    IdleGroup(u32),
}

pub(super) struct State {
    pub(super) shared: Arc<Shared>,
    pub(super) poll: mio::Poll,
    pub(super) waiting: Waiting,
    /// The clock's time before the loop's began: that begins at 1, so that 0 can mean "never".
    before: Millis,
    pub(super) now: Millis,
    pub(super) connections: Registry<Record>,
    pub(super) groups: Groups,
    /// How many groups are of listeners.
    pub(super) listeners: usize,
    /// The groups of listeners that began on another thread's loop.
    pub(super) shared_listeners: HashMap<Listener, u32>,
    pub(super) topics: Topics,
    pub(super) batch: Option<Batch>,
    /// Answers of this loop may be gathered in `current`.
    pub(super) gathers: bool,
    pub(super) lent: LentPayload,
    pub(super) timers: Timers,
    pub(super) resolver: Resolver,
    pub(super) spares: Spares,
    pub(super) compressors: Compressors,
    /// Some group has asked for compression.
    pub(super) may_compress: bool,
    /// How many connections are in the middle of a message that is sent in fragments.
    pub(super) in_message: usize,
    pub(super) touched: Vec<u32>,
    pub(super) ready: Vec<u32>,
    pub(super) accepting: Accepting,
    pub(super) news: VecDeque<News>,
    pub(super) log: Log,
    pub(super) receive_buffer: usize,
    pub(super) latest: Latest,
    /// There may be more to do than what events bring and what is in `gathers` and `news`: a turn looks.
    pub(super) is_busy: bool,
    /// How many of those in `ready` this turn is to receive for.
    pub(super) carried_over: usize,
    pub(super) stopping: bool,
    /// When the grace of a shutdown is over.
    pub(super) shutting_down: Option<Millis>,
    /// The loop is being dropped: nothing new may begin.
    pub(super) dropping: bool,
    /// The smallest `backlog_limit` of all groups there were, or [`MAX_WRITE`]: what stays below it needs no further look.
    pub(super) least_backlog_limit: usize,
    pub(super) random: StdRng,
}

/// A masking key for one frame of a client, unpredictable (RFC 6455 section 5.3); none for a server.
#[inline]
pub(super) fn mask(random: &mut StdRng, role: Role) -> Option<[u8; 4]> {
    match role {
        Role::Client => Some(random.next_u32().to_ne_bytes()),
        Role::Server => None,
    }
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
            waiting: Waiting::new(options.busy_poll),
            before: clock() - 1,
            now: 1,
            connections: Registry::new(index, first_generation),
            groups: Registry::new(index, first_generation),
            listeners: 0,
            shared_listeners: HashMap::new(),
            topics: Topics::default(),
            batch: None,
            gathers: false,
            lent: LentPayload::default(),
            timers: Timers::default(),
            resolver: Resolver::default(),
            spares: Spares::default(),
            compressors: Compressors::default(),
            may_compress: false,
            in_message: 0,
            touched: Vec::new(),
            ready: Vec::new(),
            accepting: Accepting::default(),
            news: VecDeque::new(),
            log: Log::default(),
            receive_buffer: options.receive_buffer.max(4096),
            latest: Latest::default(),
            is_busy: false,
            carried_over: 0,
            stopping: false,
            shutting_down: None,
            dropping: false,
            least_backlog_limit: MAX_WRITE,
            random,
        })
    }

    /// Reads the clock.
    pub(super) fn tick(&mut self) {
        self.now = clock() - self.before;
    }

    /// The same, and tells the microseconds as well.
    pub(super) fn tick_finely(&mut self) -> Micros {
        let at = micros();
        self.now = at / 1000 - self.before;
        at
    }

    /// A time of the loop's clock in microseconds of the system's.
    pub(super) fn micros_of(&self, time: Millis) -> Micros {
        (time + self.before) * 1000
    }

    /// The slot of a connection whose number is not stale.
    #[inline]
    pub(super) fn slot(&self, connection: Connection) -> Result<u32> {
        self.connections.slot(connection.0).ok_or(Error::Closed)
    }

    #[inline]
    pub(super) fn record(&self, connection: Connection) -> Result<&Record> {
        self.connections.slot(connection.0).and_then(|slot| self.connections.get(slot)).ok_or(Error::Closed)
    }

    #[inline]
    pub(super) fn record_mut(&mut self, connection: Connection) -> Result<&mut Record> {
        self.connections.find(connection.0).map(|(_, record)| record).ok_or(Error::Closed)
    }

    pub(super) fn group_of(&self, slot: u32) -> Option<&Group> {
        self.groups.get(self.connections.get(slot)?.group)
    }

    /// The slot of a listener's group on this loop; the listener may be closed.
    pub(super) fn group_slot(&self, listener: Listener) -> Result<u32> {
        let here = self.groups.slot(listener.0);
        here.or_else(|| self.shared_listeners.get(&listener).copied()).ok_or(Error::Closed)
    }

    /// The slot of a listener that is not closed.
    pub(super) fn listener_slot(&self, listener: Listener) -> Result<u32> {
        let slot = self.group_slot(listener)?;
        if self.is_listening(slot) { Ok(slot) } else { Err(Error::Closed) }
    }

    /// The masking key of a frame; none for a server's.
    pub(super) fn mask(&mut self, role: Role) -> Option<[u8; 4]> {
        mask(&mut self.random, role)
    }

    /// A number that nobody can foretell.
    pub(super) fn random(&mut self) -> u32 {
        self.random.next_u32()
    }

    /// Whether something new may begin on this loop.
    pub(super) fn check_alive(&self) -> Result<()> {
        if self.dropping || self.shutting_down.is_some() { Err(Error::LoopGone) } else { Ok(()) }
    }

    /// Puts a group in the table.
    pub(super) fn insert_group(&mut self, group: Group) -> Result<u32> {
        self.least_backlog_limit = self.least_backlog_limit.min(group.backlog_limit());
        self.may_compress |= group.options.compression.is_some();
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
            group.everywhere.records.fetch_add(1, Ordering::Relaxed);
        }
        Ok(slot)
    }

    /// Takes a record out of the table: its number is stale from now on.
    pub(super) fn remove(&mut self, slot: u32) {
        let Some(record) = self.connections.remove(slot) else { return };
        if let Some(group) = self.groups.get(record.group) {
            Self::count_gone(group, &record);
        }
        let mut leaves = Some(record.group);
        while let Some(slot) = leaves {
            let Some(group) = self.groups.get_mut(slot) else { return };
            group.records -= 1;
            group.everywhere.records.fetch_sub(1, Ordering::Relaxed);
            group.has_left(record.peer.address());
            leaves = group.within;
            if group.records == 0 && group.acceptor.is_none() {
                self.news.push_back(News::IdleGroup(slot));
            }
            if group.records + 1 == group.max_connections.saturating_add(RESERVE) {
                self.accept_again(slot);
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
            self.is_busy = true;
        }
    }

    /// Sees to it that a connection is read in the next turn, without waiting for the system to say so.
    pub(super) fn read_again(&mut self, slot: u32) {
        if let Some(record) = self.connections.get_mut(slot)
            && !record.ready
        {
            record.ready = true;
            self.ready.push(slot);
            self.is_busy = true;
        }
    }

    /// Whether a turn has work at once.
    pub(super) fn has_work(&self) -> bool {
        self.stopping || self.has_output() || !self.ready.is_empty() || !self.news.is_empty()
    }

    /// Whether something was sent that is not flushed.
    pub(super) fn has_output(&self) -> bool {
        self.gathers || self.batch.is_some() || !self.touched.is_empty()
    }

    /// The number may be that of a client that connects again, which is never a connection's.
    pub(super) fn count_lost(&mut self, connection: Connection) {
        if let Ok(slot) = self.slot(connection) {
            self.lose(slot, 1);
        } else {
            self.count_lost_of_client(Client(connection.0));
        }
    }

    pub(super) fn ready_state(&self, connection: Connection) -> ReadyState {
        match self.record(connection) {
            Err(_) => ReadyState::Closed,
            Ok(record) => match record.phase {
                Phase::Resolving | Phase::Dialing | Phase::Proxying | Phase::Securing => ReadyState::Connecting,
                Phase::Request | Phase::Deferred | Phase::Response => ReadyState::Connecting,
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

    pub(super) fn extensions(&self, connection: Connection) -> Result<String> {
        let compression = self.record(connection)?.protocol.compression;
        Ok(compression.map(|compression| compression.to_string()).unwrap_or_default())
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
        let record = self.record_mut(connection)?;
        if matches!(record.phase, Phase::Ending | Phase::Dead) || record.protocol.state() == ReadyState::Closing {
            return Err(Error::Closed);
        }
        record.set_paused(true);
        Ok(())
    }

    pub(super) fn resume(&mut self, connection: Connection) -> Result<()> {
        let slot = self.slot(connection)?;
        if let Some(record) = self.connections.get_mut(slot)
            && record.set_paused(false)
        {
            // The silence was ours: the heartbeat begins anew.
            record.heard_at = self.now;
            self.read_again(slot);
            self.schedule(slot);
        }
        Ok(())
    }

    pub(super) fn connection_count(&self, listener: Option<Listener>) -> Result<usize> {
        self.audience_groups(listener)
            .map(|groups| groups.map(|group| group.everywhere.open.load(Ordering::Relaxed)).sum())
    }

    pub(super) fn connections(&self, listener: Option<Listener>) -> Result<Vec<Connection>> {
        let groups = self.audience_groups(listener)?;
        Ok(groups.flat_map(|group| &group.members).map(|slot| Connection(self.connections.id(*slot))).collect())
    }

    /// The group of a listener, or all groups. Those of clients have no members.
    fn audience_groups(&self, listener: Option<Listener>) -> Result<impl Iterator<Item = &Group>> {
        let slots = match listener {
            Some(listener) => vec![self.group_slot(listener)?],
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
        self.is_busy = true;
        let _ = self.shared.wake();
    }
}

impl Drop for State {
    /// Wherever a loop ends: calls from other threads are refused from here on, and its successor uses other numbers.
    fn drop(&mut self) {
        current::free(self.shared.index);
        drop(self.shared.close());
        let next = self.connections.next_generation().max(self.groups.next_generation());
        retire(self.shared.index, next);
    }
}

/// The monotonic clock, in microseconds.
pub(super) fn micros() -> Micros {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC);
    time.map_or(0, |time| time.tv_sec() as Micros * 1_000_000 + time.tv_nsec() as Micros / 1000)
}

/// The monotonic clock, in milliseconds; read once or twice a turn, so without the arithmetic of `Instant`.
fn clock() -> Millis {
    // It cannot fail: the clock is there, and so is the place for its answer.
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC);
    time.map_or(0, |time| time.tv_sec() as Millis * 1000 + time.tv_nsec() as Millis / 1_000_000)
}
