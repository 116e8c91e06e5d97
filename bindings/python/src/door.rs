//! What the objects of one event loop share: its thread, its connection objects, and how the host is told to flush.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};

use pyo3::prelude::*;

use crate::connection::Connection;
use crate::hooks::Hooks;

/// Spreads connection numbers; they are ours, so nobody can choose them to collide.
#[derive(Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, number: u64) {
        let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// The objects of connections: all of them here, so that the garbage collector can be shown them.
#[derive(Default)]
struct Connections {
    known: HashMap<u64, Py<Connection>, BuildHasherDefault<NumberHasher>>,
    /// The connection of the last callback: the next one is often about the same.
    last: Option<(u64, Py<Connection>)>,
    /// The connection of the last request, which may come to nothing.
    asked: Option<(u64, Py<Connection>)>,
    /// Those whose requests wait for an answer.
    deferred: HashMap<u64, Py<Connection>, BuildHasherDefault<NumberHasher>>,
}

/// What the objects of one event loop share. It holds nothing of the engine's, so that stale objects cost it nothing.
#[derive(Default)]
pub(crate) struct Door {
    thread: OnceLock<ThreadId>,
    /// A turn is in progress.
    turning: AtomicBool,
    /// The loop is being taken away: Python hears no more.
    muted: AtomicBool,
    /// How many callbacks have been called: a turn that called none was idle.
    pub(crate) calls: AtomicU64,
    /// A host turns the loop, and is to be told of output between turns.
    inline: AtomicBool,
    /// It has been told.
    scheduled: AtomicBool,
    schedule: Mutex<Option<Py<PyAny>>>,
    /// This turn has woken a coroutine, which the host runs after it.
    has_woken: AtomicBool,
    /// One object for each connection that Python has heard of.
    connections: Mutex<Connections>,
    /// The callbacks of every listener and client, by their addresses, for the garbage collector.
    hooks: Mutex<HashMap<usize, Arc<Hooks>>>,
    /// What must leave the turn: an exception of a callback that is no `Exception`, as KeyboardInterrupt.
    pending: Mutex<Option<PyErr>>,
}

/// Locks what is never locked while Python may run.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Door {
    /// Takes this thread for the loop's, if it has none yet.
    pub(crate) fn settle(&self) {
        self.thread.get_or_init(|| thread::current().id());
    }

    /// Whether this is the loop's thread, or the loop has none yet.
    pub(crate) fn is_here(&self) -> bool {
        self.thread.get().is_none_or(|id| *id == thread::current().id())
    }

    pub(crate) fn is_turning(&self) -> bool {
        self.turning.load(Ordering::Relaxed)
    }

    /// Marks the beginning or the end of a turn, or of a flush: what was sent before is on its way.
    pub(crate) fn set_turning(&self, turning: bool) {
        self.turning.store(turning, Ordering::Relaxed);
        self.scheduled.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_muted(&self) -> bool {
        self.muted.load(Ordering::Relaxed)
    }

    /// Calls Python no more.
    pub(crate) fn mute(&self) {
        self.muted.store(true, Ordering::Relaxed);
    }

    /// The function that the host is told by, or none.
    pub(crate) fn set_schedule(&self, schedule: Option<Py<PyAny>>) {
        self.inline.store(schedule.is_some(), Ordering::Relaxed);
        self.scheduled.store(false, Ordering::Relaxed);
        let old = std::mem::replace(&mut *lock(&self.schedule), schedule);
        drop(old);
    }

    /// Something was done that a turn or a flush must follow: tells the host once, if it is between turns.
    #[inline]
    pub(crate) fn touched(&self, py: Python<'_>) -> PyResult<()> {
        if !self.inline.load(Ordering::Relaxed) || self.is_turning() || self.scheduled.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.schedule(py)
    }

    fn schedule(&self, py: Python<'_>) -> PyResult<()> {
        // From another thread the loop was woken through its descriptor.
        if !self.is_here() || self.scheduled.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let schedule = lock(&self.schedule).as_ref().map(|schedule| schedule.clone_ref(py));
        schedule.map_or(Ok(()), |schedule| schedule.call0(py).map(drop))
    }

    /// A coroutine was woken.
    pub(crate) fn wakes(&self) {
        self.has_woken.store(true, Ordering::Relaxed);
    }

    /// A turn is over. What the coroutines that it has woken send is flushed right behind them: were it scheduled by the
    /// first that sends, it would take one more tick of the host.
    pub(crate) fn turned(&self, py: Python<'_>) -> PyResult<()> {
        if self.has_woken.load(Ordering::Relaxed) {
            self.has_woken.store(false, Ordering::Relaxed);
            return self.touched(py);
        }
        Ok(())
    }

    /// The object of a connection that has asked for something, and may come to nothing.
    pub(crate) fn ask(self: &Arc<Self>, py: Python<'_>, number: wsx_core::Connection) -> PyResult<Py<Connection>> {
        let connection = Py::new(py, Connection::new(py, number, self.clone()))?;
        let old = lock(&self.connections).asked.replace((number.id(), connection.clone_ref(py)));
        drop(old);
        Ok(connection)
    }

    /// The request of the connection that has asked last is answered later.
    pub(crate) fn defer(&self, number: wsx_core::Connection) {
        let mut connections = lock(&self.connections);
        if let Some((id, connection)) = connections.asked.take_if(|(asked, _)| *asked == number.id()) {
            connections.deferred.insert(id, connection);
        }
    }

    /// The request waits no more; an answer takes effect as if it had been given at once.
    pub(crate) fn end_deferral(
        self: &Arc<Self>,
        py: Python<'_>,
        number: wsx_core::Connection,
        is_answered: bool,
    ) -> PyResult<Option<Py<Connection>>> {
        let Some(connection) = lock(&self.connections).deferred.remove(&number.id()) else {
            return Ok(None);
        };
        if is_answered {
            let old = lock(&self.connections).asked.replace((number.id(), connection.clone_ref(py)));
            drop(old);
            if connection.get().becomes_stream() {
                self.keep(py, number)?;
            }
        }
        Ok(Some(connection))
    }

    /// The object of a connection, kept until [`forget`](Self::forget).
    #[inline]
    pub(crate) fn keep(self: &Arc<Self>, py: Python<'_>, number: wsx_core::Connection) -> PyResult<Py<Connection>> {
        let id = number.id();
        let mut connections = lock(&self.connections);
        if let Some((last, connection)) = &connections.last
            && *last == id
        {
            return Ok(connection.clone_ref(py));
        }
        if let Some(connection) = connections.known.get(&id).map(|connection| connection.clone_ref(py)) {
            let old = connections.last.replace((id, connection.clone_ref(py)));
            drop(connections);
            drop(old);
            return Ok(connection);
        }
        drop(connections);
        self.keep_new(py, id)
    }

    #[cold]
    fn keep_new(self: &Arc<Self>, py: Python<'_>, id: u64) -> PyResult<Py<Connection>> {
        let asked = lock(&self.connections).asked.take_if(|(asked, _)| *asked == id);
        // Made while nothing is locked: the garbage collector may run, and anything with it.
        let connection = match asked {
            Some((_, connection)) => connection,
            None => Py::new(py, Connection::new(py, wsx_core::Connection::from_id(id), self.clone()))?,
        };
        let old = lock(&self.connections).known.insert(id, connection.clone_ref(py));
        debug_assert!(old.is_none());
        Ok(connection)
    }

    /// The connection is gone.
    pub(crate) fn forget(&self, number: wsx_core::Connection) {
        let mut connections = lock(&self.connections);
        let known = connections.known.remove(&number.id());
        let last = connections.last.take_if(|(last, _)| *last == number.id());
        drop(connections);
        if known.is_some() || last.is_some() {
            Python::attach(|_| drop((known, last)));
        }
    }

    pub(crate) fn add_hooks(&self, hooks: Arc<Hooks>) {
        lock(&self.hooks).insert(Arc::as_ptr(&hooks).addr(), hooks);
    }

    pub(crate) fn remove_hooks(&self, hooks: &Arc<Hooks>) {
        let removed = lock(&self.hooks).remove(&Arc::as_ptr(hooks).addr());
        drop(removed);
    }

    /// Keeps an exception for the end of the turn. The first one counts.
    pub(crate) fn set_pending(&self, error: PyErr) {
        let mut pending = lock(&self.pending);
        if pending.is_none() {
            *pending = Some(error);
            return;
        }
        drop(pending);
        drop(error);
    }

    pub(crate) fn take_pending(&self) -> Option<PyErr> {
        lock(&self.pending).take()
    }

    /// Drops every reference to Python's objects.
    pub(crate) fn clear(&self) {
        let connections = std::mem::take(&mut *lock(&self.connections));
        let hooks = std::mem::take(&mut *lock(&self.hooks));
        self.set_schedule(None);
        drop((connections, hooks, self.take_pending()));
    }

    /// Shows the garbage collector what this holds; nothing while another thread has it locked.
    pub(crate) fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        let (Ok(connections), Ok(hooks), Ok(schedule)) =
            (self.connections.try_lock(), self.hooks.try_lock(), self.schedule.try_lock())
        else {
            return Ok(());
        };
        let held = connections.last.iter().chain(&connections.asked).map(|(_, connection)| connection);
        for connection in connections.known.values().chain(held).chain(connections.deferred.values()) {
            visit.call(connection)?;
        }
        for hooks in hooks.values() {
            hooks.traverse(visit)?;
        }
        visit.call(&*schedule)
    }
}
