//! How a call finds its loop, from any thread.
//!
//! A call made on the loop's own thread finds the loop through a thread-local and is done at once (a message to the
//! connection whose callback runs is quicker still: see `current`). Before the loop's
//! first turn its state is parked behind a lock, and any thread may use it. From another thread a call becomes a command
//! that waits for the loop; it is checked again there.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use super::deferring;
use super::registry;
use super::state::State;
use super::statistics::Counted;
use super::wait::Events;
use crate::config::LoopOptions;
use crate::error::{Error, Figure, Limit, Result};
use crate::event::Connection;
use crate::protocol::deflate::Inflaters;

/// A loop on the thread that turns it. While a callback runs nobody holds a borrow of the state.
pub(super) struct LoopCell {
    pub(super) index: u16,
    /// The index of the first loop of those that serve together; its own where it serves alone.
    pub(super) first: u16,
    pub(super) turning: Cell<bool>,
    state: RefCell<State>,
    pub(super) scratch: RefCell<Scratch>,
    /// Who keeps how long the longest callback took; none where that is not measured.
    measures: Option<Arc<Shared>>,
    began: Cell<Option<Instant>>,
    /// Never borrowed while the program is called.
    pub(super) inflaters: RefCell<Inflaters>,
}

/// What a turn works with, beside the state.
pub(super) struct Scratch {
    pub(super) events: Events,
    /// One receive of one connection at a time.
    pub(super) buffer: Vec<u8>,
}

impl LoopCell {
    /// The state, with all output in the outboxes, or in the pending batch.
    #[inline]
    pub(super) fn state(&self) -> RefMut<'_, State> {
        let mut state = self.state.borrow_mut();
        if state.gathers {
            state.spread_gathered();
        }
        state
    }

    /// The state for what does not concern output: answers may be gathered that are in no outbox yet.
    #[inline]
    pub(super) fn state_while_gathering(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }

    /// Whether it is measured how long callbacks take.
    pub(super) fn measures(&self) -> bool {
        self.measures.is_some()
    }

    /// Something that calls the program begins: it is measured, where that is asked for.
    #[inline]
    pub(super) fn measure(&self) {
        if self.measures.is_some() {
            self.began.set(Some(Instant::now()));
        }
    }

    /// It is over.
    #[inline]
    pub(super) fn measured(&self) {
        if let Some(shared) = &self.measures {
            self.keep_longest(shared);
        }
    }

    #[cold]
    fn keep_longest(&self, shared: &Shared) {
        let took = self.began.take().map_or(0, |began| u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        shared.counted.longest_callback.raise(took);
    }

    /// As [`state`](Self::state), where the caller may be inside of a call that has the state.
    pub(super) fn try_state(&self) -> Result<RefMut<'_, State>> {
        let mut state = self.state.try_borrow_mut().map_err(|_| Error::Reentrant)?;
        if state.gathers {
            state.spread_gathered();
        }
        Ok(state)
    }
}

thread_local! {
    static HERE: RefCell<Vec<Rc<LoopCell>>> = const { RefCell::new(Vec::new()) };
}

/// The loop of this index, if this is its thread.
pub(super) fn here(index: u16) -> Option<Rc<LoopCell>> {
    here_where(|cell| cell.index == index)
}

fn here_where(is_it: impl Fn(&LoopCell) -> bool) -> Option<Rc<LoopCell>> {
    HERE.try_with(|loops| loops.borrow().iter().find(|cell| is_it(cell)).cloned()).ok().flatten()
}

/// Does something with the state of the loop of this index, if this is its thread. What is done never calls the program.
#[inline]
pub(super) fn with_state<R>(index: u16, call: impl FnOnce(&mut State) -> R) -> Option<R> {
    with_state_of(|cell| cell.index == index, call)
}

/// The same for the loop of this thread that serves together with the first one of this index, or is it.
#[inline]
pub(super) fn with_state_beside<R>(first: u16, call: impl FnOnce(&mut State) -> R) -> Option<R> {
    with_state_of(|cell| cell.first == first, call)
}

#[inline]
fn with_state_of<R>(is_it: impl Fn(&LoopCell) -> bool, call: impl FnOnce(&mut State) -> R) -> Option<R> {
    let with = |loops: &RefCell<Vec<Rc<LoopCell>>>| {
        loops.borrow().iter().find(|cell| is_it(cell)).map(|cell| call(&mut cell.state()))
    };
    HERE.try_with(with).ok().flatten()
}

/// What this thread has published to siblings must not be overtaken by what it now asks of them.
pub(super) fn settle_here_first() {
    let settle = |cell: &Rc<LoopCell>| {
        let mut state = cell.state();
        if state.shared.has_siblings() {
            state.settle();
        }
    };
    let _ = HERE.try_with(|loops| loops.borrow().iter().for_each(settle));
}

/// Gives a parked loop to this thread, for good.
pub(super) fn settle_here(index: u16, state: State) -> Rc<LoopCell> {
    let scratch = Scratch { events: Events::new(), buffer: vec![0; state.receive_buffer] };
    let measures = state.shared.measures.then(|| state.shared.clone());
    let cell = Rc::new(LoopCell {
        index,
        first: state.shared.first,
        turning: Cell::new(false),
        state: RefCell::new(state),
        scratch: RefCell::new(scratch),
        measures,
        began: Cell::new(None),
        inflaters: RefCell::default(),
    });
    HERE.with(|loops| loops.borrow_mut().push(cell.clone()));
    cell
}

/// Forgets a loop of this thread.
pub(super) fn leave(index: u16) {
    let _ = HERE.try_with(|loops| loops.borrow_mut().retain(|cell| cell.index != index));
}

pub(super) enum Command {
    /// Runs with the loop's state; never calls the program.
    Engine(Box<dyn FnOnce(&mut State) + Send>),
    /// The program's own function.
    Post(Box<dyn FnOnce() + Send>),
}

/// Bytes of payload that a command makes wait.
#[derive(Clone, Copy)]
pub(super) enum Cost {
    /// Refused where too much waits.
    Limited(usize),
    /// Of the engine's own: a resolved name answers one call, and what is published to siblings was asked about before.
    Granted(usize),
}

#[derive(Default)]
struct Commands {
    queue: VecDeque<Command>,
    bytes: usize,
    closed: bool,
    requests: Requests,
}

/// What is asked of a loop from other threads beside commands: never refused because too much waits.
#[derive(Clone, Copy, Default)]
pub(super) struct Requests {
    pub(super) stop: bool,
    pub(super) shutdown: Option<Duration>,
}

/// The side of a loop that other threads see.
pub(super) struct Shared {
    pub(super) index: u16,
    pub(super) first: u16,
    /// All loops that serve together, this one among them; not set where it serves alone.
    family: OnceLock<Arc<[Weak<Self>]>>,
    /// A shutdown has begun.
    pub(super) is_ending: AtomicBool,
    pub(super) waiting_requests: deferring::Waiting,
    pub(super) counted: Counted,
    measures: bool,
    parked: Mutex<Option<Box<State>>>,
    started: AtomicBool,
    commands: Mutex<Commands>,
    /// What `commands` holds, to be looked at without the lock.
    waiting_bytes: AtomicUsize,
    waiting_commands: AtomicUsize,
    max_commands: usize,
    max_command_bytes: usize,
    descriptor: RawFd,
    waker: mio::Waker,
    woken: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(
        index: u16,
        first: Option<u16>,
        options: &LoopOptions,
        descriptor: RawFd,
        waker: mio::Waker,
    ) -> Self {
        Self {
            index,
            first: first.unwrap_or(index),
            family: OnceLock::new(),
            is_ending: AtomicBool::new(false),
            waiting_requests: deferring::Waiting::default(),
            counted: Counted::default(),
            measures: options.measure_callbacks,
            waiting_bytes: AtomicUsize::new(0),
            waiting_commands: AtomicUsize::new(0),
            parked: Mutex::new(None),
            started: AtomicBool::new(false),
            commands: Mutex::default(),
            max_commands: options.max_commands,
            max_command_bytes: options.max_command_bytes,
            descriptor,
            waker,
            woken: AtomicBool::new(false),
        }
    }

    /// Makes these loops serve together.
    pub(super) fn unite(family: Arc<[Weak<Self>]>) {
        for member in family.iter().filter_map(Weak::upgrade) {
            let _ = member.family.set(family.clone());
        }
    }

    /// The loops that serve together with this one, without it.
    pub(super) fn siblings(&self) -> impl Iterator<Item = Arc<Self>> {
        let family = self.family.get().map_or(&[][..], |family| family);
        family.iter().filter_map(Weak::upgrade).filter(|member| member.index != self.index)
    }

    /// Whether this loop serves together with others.
    #[inline]
    pub(super) fn has_siblings(&self) -> bool {
        self.family.get().is_some()
    }

    /// Whether a shutdown has begun.
    pub(super) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Acquire)
    }

    /// Whether commands of so many bytes more can wait; a single one always can.
    pub(super) fn check_room(&self, bytes: usize) -> Result<()> {
        let waiting = self.waiting_bytes.load(Ordering::Relaxed);
        let commands = self.waiting_commands.load(Ordering::Relaxed);
        let fits = waiting == 0 || waiting.saturating_add(bytes) <= self.max_command_bytes;
        if fits && commands < self.max_commands { Ok(()) } else { Err(self.full(commands)) }
    }

    /// What is told where no command more can wait, while so many do.
    #[cold]
    fn full(&self, commands: usize) -> Error {
        Error::Full(if commands >= self.max_commands {
            Limit::new("max_commands", Figure::Count(self.max_commands as u64)).reached(commands as u64)
        } else {
            Limit::new("max_command_bytes", self.max_command_bytes)
        })
    }

    /// The epoll descriptor.
    pub(super) fn descriptor(&self) -> RawFd {
        self.descriptor
    }

    pub(super) fn park(&self, state: State) {
        *lock(&self.parked) = Some(Box::new(state));
    }

    /// Takes the parked state, once: the caller's thread becomes the loop's.
    pub(super) fn unpark(&self) -> Option<Box<State>> {
        let state = lock(&self.parked).take();
        if state.is_some() {
            self.started.store(true, Ordering::Release);
        }
        state
    }

    /// Puts a command in the queue.
    pub(super) fn command(&self, command: Command, cost: Cost) -> Result<()> {
        {
            let mut commands = lock(&self.commands);
            if commands.closed {
                return Err(Error::LoopGone);
            }
            let bytes = match cost {
                Cost::Limited(bytes)
                    if commands.queue.len() >= self.max_commands || commands.bytes + bytes > self.max_command_bytes =>
                {
                    return Err(self.full(commands.queue.len()));
                }
                Cost::Limited(bytes) | Cost::Granted(bytes) => bytes,
            };
            commands.bytes += bytes;
            self.waiting_bytes.store(commands.bytes, Ordering::Relaxed);
            commands.queue.push_back(command);
            self.waiting_commands.store(commands.queue.len(), Ordering::Relaxed);
        }
        self.wake()
    }

    /// Asks for something that has a place of its own beside the queue.
    pub(super) fn request(&self, ask: impl FnOnce(&mut Requests)) -> Result<()> {
        {
            let mut commands = lock(&self.commands);
            if commands.closed {
                return Err(Error::LoopGone);
            }
            ask(&mut commands.requests);
        }
        self.wake()
    }

    /// Wakes the loop, with one system call however many commands wait.
    pub(super) fn wake(&self) -> Result<()> {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.waker.wake().map_err(|source| Error::io("wake the event loop", source))?;
        }
        Ok(())
    }

    /// What waits now: the commands, and what was asked for after them. Called on the loop's thread after a wake-up.
    pub(super) fn drain(&self) -> (VecDeque<Command>, Requests) {
        self.woken.store(false, Ordering::Release);
        let mut commands = lock(&self.commands);
        commands.bytes = 0;
        self.waiting_bytes.store(0, Ordering::Relaxed);
        self.waiting_commands.store(0, Ordering::Relaxed);
        (std::mem::take(&mut commands.queue), std::mem::take(&mut commands.requests))
    }

    /// Whether the loop is gone.
    pub(super) fn is_closed(&self) -> bool {
        lock(&self.commands).closed
    }

    /// Refuses commands from now on; what still waits is handed back to be dropped outside the lock.
    pub(super) fn close(&self) -> VecDeque<Command> {
        lock(&self.commands).closed = true;
        self.drain().0
    }
}

/// The process-wide table: a loop's index to its thread-safe door, and the first generation its numbers may use, so that
/// a number of an ended loop is never one of its successor's.
static LOOPS: RwLock<Vec<(Weak<Shared>, u32)>> = RwLock::new(Vec::new());

/// Takes a free index and the first generation to use with it.
pub(super) fn enroll(make: impl FnOnce(u16) -> Result<Shared>) -> Result<(Arc<Shared>, u32)> {
    let mut loops = LOOPS.write().unwrap_or_else(PoisonError::into_inner);
    let index = loops.iter().position(|(shared, _)| shared.strong_count() == 0).unwrap_or(loops.len());
    if index > registry::MAX_LOOP {
        return Err(Error::invalid("too many event loops in this process (4,096)"));
    }
    let shared = Arc::new(make(index as u16)?);
    if index == loops.len() {
        loops.push((Weak::new(), 1));
    }
    loops[index].0 = Arc::downgrade(&shared);
    Ok((shared, loops[index].1))
}

/// Remembers the first generation that the next loop of this index may use.
pub(super) fn retire(index: u16, next_generation: u32) {
    let mut loops = LOOPS.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(entry) = loops.get_mut(usize::from(index)) {
        entry.1 = next_generation;
    }
}

/// The thread-safe door of a loop that is there.
pub(super) fn shared(index: u16) -> Option<Arc<Shared>> {
    LOOPS.read().unwrap_or_else(PoisonError::into_inner).get(usize::from(index))?.0.upgrade()
}

/// Does something with the loop's state here and now: on its thread, or before its first turn.
pub(super) fn now<R>(index: u16, call: impl FnOnce(&mut State) -> Result<R>) -> Result<R> {
    if let Some(cell) = here(index) {
        return call(&mut cell.state());
    }
    let shared = shared(index).ok_or(Error::Closed)?;
    match &mut *lock(&shared.parked) {
        Some(state) => call(state),
        None if shared.is_closed() => Err(Error::Closed),
        None => Err(Error::WrongThread),
    }
}

/// As [`now`], for what does not concern output: what is gathered stays so.
pub(super) fn look<R>(index: u16, call: impl FnOnce(&mut State) -> Result<R>) -> Result<R> {
    match here(index) {
        Some(cell) => call(&mut cell.state_while_gathering()),
        None => now(index, call),
    }
}

/// As [`now`], for the loop of this thread that serves together with the first one of this index.
pub(super) fn now_beside<R>(first: u16, call: impl FnOnce(&mut State) -> Result<R>) -> Result<R> {
    match here_where(|cell| cell.first == first) {
        Some(cell) => call(&mut cell.state()),
        None => now(first, call),
    }
}

/// Does something with the loop's state: now where that can be, else as a command of this cost in payload bytes.
pub(super) fn now_or_later(
    index: u16,
    cost: Cost,
    call: impl FnOnce(&mut State) -> Result<()> + Send + 'static,
    lost: Option<Connection>,
) -> Result<()> {
    if let Some(cell) = here(index) {
        return call(&mut cell.state());
    }
    settle_here_first();
    let shared = shared(index).ok_or(Error::Closed)?;
    if !shared.started.load(Ordering::Acquire)
        && let Some(state) = &mut *lock(&shared.parked)
    {
        return call(state);
    }
    let command = Command::Engine(Box::new(move |state| {
        if call(state).is_err()
            && let Some(connection) = lost
        {
            state.count_lost(connection);
        }
    }));
    match shared.command(command, cost) {
        // What is meant by a number is gone with its loop.
        Err(Error::LoopGone) => Err(Error::Closed),
        answer => answer,
    }
}
