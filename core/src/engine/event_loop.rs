//! One turn: poll, dispatch, commands, deadlines, flush, news.

use std::mem::take;
use std::ops::Deref;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mio::Token;
use rustix::io::Errno;

use super::callback::guarded;
use super::current;
use super::handle::Handle;
use super::listener;
use super::news::tell_news;
use super::receive::receive;
use super::shared::{Command, LoopCell, Scratch, Shared, enroll, here, leave, settle_here};
use super::siblings::Siblings;
use super::state::State;
use super::timers::{FAR, Millis, NEVER, TimerKey, millis};
use super::wait::Event;
use super::whole;
use crate::config::LoopOptions;
use crate::error::{Error, Result};

const WAKER: Token = Token(usize::MAX);

/// An event loop: listeners, connections and timers, all turned by one thread.
///
/// It may be made on one thread and turned on another; it belongs to the thread of its first turn. Methods of
/// [`Handle`], which it dereferences to, are usable from inside callbacks and, where they say so, from any thread.
///
/// Dropping it ends every connection, each with its one `on_close`. It should be dropped on its own thread; on another,
/// it refuses calls from then on, and what it owns is freed, without callbacks, when its thread ends.
///
/// With several [threads](LoopOptions::threads) it is the first of as many loops that serve as one. Calls that belong to
/// the loop's thread then act on the loop of the thread they are made on; its drop waits for the others to end.
#[derive(Debug)]
pub struct EventLoop {
    handle: Handle,
    siblings: Siblings,
}

impl Deref for EventLoop {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl EventLoop {
    /// An event loop with default options.
    pub fn new() -> Result<Self> {
        Self::with_options(&LoopOptions::default())
    }

    /// An event loop with these options.
    pub fn with_options(options: &LoopOptions) -> Result<Self> {
        let mut this = Self::alone(options, None)?;
        this.siblings = Siblings::new(&this.handle, options)?;
        Ok(this)
    }

    /// A loop of one thread; `first` is the index of the one that it is to serve together with.
    pub(super) fn alone(options: &LoopOptions, first: Option<u16>) -> Result<Self> {
        let failed = |source| Error::io("make an event loop", source);
        let poll = mio::Poll::new().map_err(failed)?;
        let waker = mio::Waker::new(poll.registry(), WAKER).map_err(failed)?;
        let (shared, first_generation) =
            enroll(|index| Ok(Shared::new(index, first, options, poll.as_raw_fd(), waker)))?;
        let state = State::new(shared.clone(), poll, options, first_generation)?;
        shared.park(state);
        Ok(Self { handle: Handle { shared }, siblings: Siblings::default() })
    }

    /// The thread-safe door to this loop.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Turns until [`stop`](Handle::stop) is called or a [`shutdown`](Handle::shutdown) is done. It waits also when
    /// nothing listens and nothing is connected: another thread may want something.
    ///
    /// # Errors
    /// [`Error::WrongThread`], [`Error::Reentrant`], [`Error::Io`] if the system cannot be waited on, and
    /// [`Error::Defect`].
    pub fn run(&mut self) -> Result<()> {
        let cell = self.cell()?;
        self.siblings.start()?;
        exclusively(&cell, |scratch| {
            cell.state_while_gathering().waiting.stay_awake_at_most(None);
            turns(&cell, scratch, NEVER, false)
        })?;
        self.siblings.finish(&self.handle)
    }

    /// One turn: waits for something to happen, at most `timeout` (`None`: until it does), then does all of it. False
    /// after `stop`, and when a `shutdown` is done. A signal ends the wait.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn turn(&mut self, timeout: Option<Duration>) -> Result<bool> {
        let cell = self.cell()?;
        self.siblings.start()?;
        let goes_on = exclusively(&cell, |scratch| {
            cell.state_while_gathering().waiting.stay_awake_at_most(timeout);
            turns(&cell, scratch, timeout.map_or(NEVER, millis), true)
        })?;
        if !goes_on {
            self.siblings.finish(&self.handle)?;
        }
        Ok(goes_on)
    }

    /// Writes what was sent since the last turn. A host that turns the loop inside its own calls this once per tick of
    /// its own, so that what it sends between turns leaves without waiting for the next one. Events that this causes are
    /// told in the next turn.
    pub fn flush(&mut self) -> Result<()> {
        let cell = self.cell()?;
        let mut state = cell.try_state()?;
        state.flush();
        Ok(())
    }

    /// How long the loop may sleep until its next turn is due: zero where work waits, `None` where only the descriptor
    /// can tell. A host that watches [`as_raw_fd`](AsRawFd::as_raw_fd) sets its own timer by this after each turn.
    pub fn next_deadline(&mut self) -> Result<Option<Duration>> {
        let cell = self.cell()?;
        let mut state = cell.try_state()?;
        // The descriptor stays readable where connections wait; a host that watches its edges would not hear of them.
        if state.has_work() || state.may_accept_more() {
            return Ok(Some(Duration::ZERO));
        }
        state.tick();
        Ok(Some(state.until_next_timer()).filter(|millis| *millis <= FAR).map(Duration::from_millis))
    }

    /// The loop on this thread, which it settles on if it has no thread yet.
    fn cell(&self) -> Result<Rc<LoopCell>> {
        let index = self.handle.shared.index;
        if let Some(cell) = here(index) {
            return Ok(cell);
        }
        self.handle.shared.unpark().map(|state| settle_here(index, *state)).ok_or(Error::WrongThread)
    }
}

/// The descriptor that is readable when a turn is due: for a host's own `poll`, `epoll` or `select`.
impl AsRawFd for EventLoop {
    fn as_raw_fd(&self) -> RawFd {
        self.handle.shared.descriptor()
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        self.siblings.end();
        let shared: &Arc<Shared> = &self.handle.shared;
        let cell = self.cell();
        let commands = shared.close();
        // They are dropped here, outside of every lock and borrow: they may hold anything of the program's.
        let Ok(cell) = cell else { return };
        if cell.turning.replace(true) {
            // Dropped by one of its own callbacks: the turn in progress is the last.
            cell.state().stop();
            return;
        }
        cell.state().dropping = true;
        for command in commands {
            // What was accepted from other threads is told as unsent or lost.
            if let Command::Engine(call) = command {
                call(&mut cell.state());
            }
        }
        let listeners = cell.state().groups.slots();
        for slot in listeners {
            cell.state().close_acceptor(slot);
        }
        cell.state().cut("the event loop was dropped");
        cell.state().end_waiting_clients();
        while !cell.state().news.is_empty() {
            tell_news(&cell);
        }
        let (timers, log) = {
            let mut state = cell.state();
            (take(&mut state.timers), take(&mut state.log))
        };
        drop((timers, log));
        leave(shared.index);
    }
}

/// Turns, unless a turn is in progress. A panic in there is none of the program's, whose callbacks are guarded: whoever turns
/// may be called by C, which nothing may unwind through.
#[inline]
fn exclusively(cell: &LoopCell, turns: impl FnOnce(&mut Scratch) -> Result<bool, Errno>) -> Result<bool> {
    if cell.turning.replace(true) {
        return Err(Error::Reentrant);
    }
    let scratch = &mut *cell.scratch.borrow_mut();
    let result = guarded(|| turns(scratch));
    cell.turning.set(false);
    match result {
        Ok(result) => result.map_err(|error| Error::io("wait for events", error.into())),
        Err(panicked) => {
            // Whoever was the current connection is it no more.
            current::abandon();
            Err(Error::Defect(panicked.message().to_owned()))
        }
    }
}

/// Turns, once or until there is no more to do; whether there may be more to do. It waits at most so many milliseconds.
fn turns(cell: &LoopCell, scratch: &mut Scratch, timeout: Millis, once: bool) -> Result<bool, Errno> {
    let mut more = true;
    loop {
        let mut state = cell.state_while_gathering();
        let timeout = if more && state.has_more() { 0 } else { state.until_next_timer().min(timeout) };
        let State { poll, waiting, .. } = &mut *state;
        waiting.wait(poll, &mut scratch.events, timeout)?;
        state.tick();
        state.shared.counted.turns.add(1);
        drop(state);
        let buffer = &mut scratch.buffer;
        for event in scratch.events.iter() {
            match u32::try_from(event.token().0) {
                Ok(slot) => whole::event(cell, slot, event, buffer),
                Err(_) => other_event(cell, event),
            }
        }
        let mut state = cell.state_while_gathering();
        if state.carried_over != 0 {
            drop(state);
            receive_again(cell, buffer);
            state = cell.state_while_gathering();
        }
        if state.timers.is_due(state.now) {
            drop(state);
            run_timers(cell, buffer);
            state = cell.state_while_gathering();
        }
        if state.gathers {
            state.write_gathered_last();
        }
        // As a rule that was all, and the next turn need not look for more either.
        more = state.is_busy || !state.news.is_empty();
        drop(state);
        if more && !end_turn(cell) {
            return Ok(false);
        }
        if once {
            return Ok(true);
        }
    }
}

/// The end of a turn that may have more to do than what events have brought; whether the loop is to be turned again.
#[inline(never)]
fn end_turn(cell: &LoopCell) -> bool {
    let mut state = cell.state_while_gathering();
    state.flush();
    if !state.news.is_empty() {
        // What is told may cause output, which leaves in the same turn; what that causes in turn is the next one's work.
        drop(state);
        tell_news(cell);
        state = cell.state();
        state.flush();
    }
    state.goes_on()
}

/// Receives where there may be more than an earlier turn has received. What joins these meanwhile is the next turn's work.
#[inline(never)]
fn receive_again(cell: &LoopCell, buffer: &mut [u8]) {
    let count = take(&mut cell.state_while_gathering().carried_over);
    for index in 0..count {
        let mut state = cell.state_while_gathering();
        let slot = state.ready[index];
        // A slot that was freed meanwhile is empty, or its new connection is not marked.
        if state.connections.get_mut(slot).is_some_and(|record| take(&mut record.ready)) {
            receive(cell, state, slot, buffer);
        }
    }
    cell.state_while_gathering().ready.drain(..count);
}

/// An event that is not a connection's own.
#[inline(never)]
fn other_event(cell: &LoopCell, event: Event) {
    let token = event.token();
    if token == WAKER {
        run_commands(cell);
    } else if let Some(slot) = listener::slot_of(token) {
        cell.state().accept(slot);
    } else if event.is_writable() || event.is_error() {
        // One of several attempts of a client to connect.
        cell.state().dialed(token.0 as u32, (token.0 >> 32) as u32);
    }
}

fn run_commands(cell: &LoopCell) {
    let shared = cell.state().shared.clone();
    let (commands, requests) = shared.drain();
    for command in commands {
        match command {
            Command::Engine(call) => call(&mut cell.state()),
            // A panic of the program's own function concerns no connection; the panic hook has reported it.
            Command::Post(call) => {
                cell.measure();
                if let Err(panicked) = guarded(call) {
                    cell.state().log_panic("a posted function", &panicked);
                }
                cell.measured();
            }
        }
    }
    let mut state = cell.state();
    if let Some(grace) = requests.shutdown {
        state.shutdown(grace);
    }
    if requests.stop {
        state.stop();
    }
}

#[inline(never)]
fn run_timers(cell: &LoopCell, buffer: &mut [u8]) {
    // What timers set meanwhile is for another turn, at the latest when the clock has moved on.
    let now = cell.state().now;
    loop {
        let mut state = cell.state();
        let Some((at, key)) = state.timers.pop(now) else { return };
        match key {
            TimerKey::Connection(id) => {
                let Some(slot) = state.connections.slot(id) else { continue };
                if !state.is_overdue(slot) {
                    continue;
                }
                if state.is_waiting_for_peer(slot) {
                    // After a stall what was waited for may be in the kernel, not yet told: it is looked for first.
                    receive(cell, state, slot, buffer);
                    state = cell.state();
                    if state.connections.slot(id).is_none() || !state.is_overdue(slot) {
                        continue;
                    }
                }
                state.timed_out(slot);
            }
            TimerKey::Client(id) => state.attempt_again(id, at),
            TimerKey::Accept(slot) => state.accept_again(slot),
            TimerKey::Shutdown if state.shutting_down == Some(at) => {
                state.cut("the grace of the shutdown is over");
            }
            TimerKey::Shutdown => {}
            TimerKey::Program(id) => {
                let function = state.timers.take(id);
                drop(state);
                if let Some(function) = function {
                    cell.measure();
                    if let Err(panicked) = guarded(function) {
                        cell.state().log_panic("the function of a timer", &panicked);
                    }
                    cell.measured();
                }
            }
        }
    }
}

impl State {
    /// Writes what was sent since the last turn; whether there is something that a turn has to do at once.
    #[inline(never)]
    fn has_more(&mut self) -> bool {
        self.flush();
        self.carried_over = self.ready.len();
        self.has_work()
    }

    /// Whether the loop is to be turned again.
    fn goes_on(&mut self) -> bool {
        if let Some(end) = self.shutting_down
            && self.connections.len() == 0
            && self.news.is_empty()
        {
            self.shutting_down = None;
            self.timers.forget(end);
            return false;
        }
        self.is_busy = self.shutting_down.is_some() || self.has_work();
        !take(&mut self.stopping)
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::Cost;
    use super::*;

    #[test]
    fn a_defect_of_the_engine_is_an_error_of_the_turn_and_the_loop_can_be_turned_on() {
        let mut event_loop = EventLoop::new().unwrap();
        event_loop.turn(Some(Duration::ZERO)).unwrap();
        let panics = Command::Engine(Box::new(|_| panic!("on purpose")));
        event_loop.handle().shared.command(panics, Cost::Granted(0)).unwrap();
        let error = event_loop.turn(Some(Duration::ZERO)).unwrap_err();
        assert_eq!(error.to_string(), "defect in libwsx, please report it: on purpose");
        let (told, hears) = std::sync::mpsc::channel();
        event_loop.post(move || told.send(()).unwrap()).unwrap();
        assert!(event_loop.turn(Some(Duration::ZERO)).unwrap());
        hears.recv().unwrap();
    }
}
