//! What coroutines receive from: a connection's messages wait here, or one coroutine waits here for the next.
//!
//! It is native because every message comes this way; all else that coroutines do is in `python/wsx/asyncio`.

use std::collections::VecDeque;
use std::ptr::null_mut;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::{PyRuntimeError, PyStopAsyncIteration};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, ffi, intern};

use crate::connection::Connection;
use crate::door::lock;
use crate::errors::defined;

/// The messages of a connection that nobody has received yet.
///
/// When more than `high` wait, the peer is not read any further, until no more than `low` do. `await` receives one
/// message, `async for` all until the connection ends in order. As a listener's or a client's `on_message`, this class
/// itself stands for the inbox of each connection.
#[pyclass(frozen, module = "wsx._wsx")]
pub(crate) struct Inbox {
    high: usize,
    low: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    messages: VecDeque<Py<PyAny>>,
    /// The asyncio event loop.
    host: Option<Py<PyAny>>,
    /// Whose messages these are; none before it is open.
    connection: Option<Py<Connection>>,
    /// The future that the receiving coroutine waits for; none when it has been woken.
    waiter: Option<Py<PyAny>>,
    /// A coroutine waits, or was woken and has not looked yet.
    is_receiving: bool,
    is_paused: bool,
    /// The connection has ended: makes the exception that says how.
    ended: Option<Py<PyAny>>,
}

/// What a look into the inbox brings.
enum Found {
    /// A message, and the connection where it is to be read again.
    Message(Py<PyAny>, Option<Py<Connection>>),
    End(Py<PyAny>),
    Nothing(Option<Py<PyAny>>),
    /// Another coroutine is receiving.
    Busy,
}

impl Inbox {
    /// A message has come. Answers whether a coroutine was woken.
    #[inline]
    pub(crate) fn deliver(&self, py: Python<'_>, message: Py<PyAny>) -> PyResult<bool> {
        let mut state = lock(&self.state);
        state.messages.push_back(message);
        let waiter = state.waiter.take();
        let mut full = None;
        if state.messages.len() > self.high && !state.is_paused {
            state.is_paused = true;
            full = state.connection.as_ref().map(|connection| connection.clone_ref(py));
        }
        drop(state);
        if let Some(connection) = full {
            connection.get().pause(py)?;
        }
        match waiter {
            Some(waiter) => wake(py, &waiter).map(|()| true),
            None => Ok(false),
        }
    }

    /// Looks for the first message. `was_waiting`: on behalf of the coroutine that was waiting.
    #[inline]
    fn look(&self, py: Python<'_>, was_waiting: bool) -> Found {
        let mut state = lock(&self.state);
        if if was_waiting { state.waiter.is_some() } else { state.is_receiving } {
            return Found::Busy;
        }
        state.is_receiving = false;
        if let Some(message) = state.messages.pop_front() {
            let resumes = state.is_paused && state.messages.len() <= self.low;
            state.is_paused &= !resumes;
            let connection = state.connection.as_ref().filter(|_| resumes);
            return Found::Message(message, connection.map(|connection| connection.clone_ref(py)));
        }
        match &state.ended {
            Some(ended) => Found::End(ended.clone_ref(py)),
            None => Found::Nothing(state.host.as_ref().map(|host| host.clone_ref(py))),
        }
    }

    /// Nobody waits any more.
    fn give_up(&self) {
        let mut state = lock(&self.state);
        state.is_receiving = false;
        let waiter = state.waiter.take();
        drop(state);
        drop(waiter);
    }
}

#[pymethods]
impl Inbox {
    #[new]
    fn new(host: Py<PyAny>, high: Option<isize>, low: isize) -> Self {
        let high = high.map_or(usize::MAX, |high| high.max(0) as usize);
        let state = State { host: Some(host), ..State::default() };
        Self { high, low: low.max(0) as usize, state: Mutex::new(state) }
    }

    /// Belongs to this connection from now on.
    fn attach(this: Py<Self>, py: Python<'_>, connection: Py<Connection>) {
        connection.get().set_inbox(Some(this.clone_ref(py)));
        let old = lock(&this.get().state).connection.replace(connection);
        drop(old);
    }

    /// The connection has ended. What receives when no message is left raises what `exception()` makes.
    fn end(&self, py: Python<'_>, exception: Py<PyAny>) -> PyResult<()> {
        let mut state = lock(&self.state);
        let old = state.ended.replace(exception);
        let (waiter, connection) = (state.waiter.take(), state.connection.take());
        drop(state);
        drop(old);
        if let Some(connection) = connection {
            connection.get().set_inbox(None);
        }
        waiter.map_or(Ok(()), |waiter| wake(py, &waiter))
    }

    /// Has the peer read again, if it is not.
    fn resume(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = lock(&self.state);
        let was_paused = std::mem::replace(&mut state.is_paused, false);
        let connection = state.connection.as_ref().filter(|_| was_paused).map(|connection| connection.clone_ref(py));
        drop(state);
        connection.map_or(Ok(()), |connection| connection.get().read_again(py))
    }

    fn __len__(&self) -> usize {
        lock(&self.state).messages.len()
    }

    fn __await__(this: Py<Self>) -> Arrival {
        Arrival::new(this, false)
    }

    fn __aiter__(this: Py<Self>) -> Arrival {
        Arrival::new(this, true)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(state) = self.state.try_lock() else { return Ok(()) };
        visit.call(&state.host)?;
        visit.call(&state.connection)?;
        visit.call(&state.waiter)?;
        visit.call(&state.ended)
    }

    fn __clear__(&self) {
        let old = std::mem::take(&mut *lock(&self.state));
        drop(old);
    }
}

/// What is awaited for a message: of one `await`, or of a whole `async for`, which awaits it again and again.
#[pyclass(frozen, module = "wsx._wsx")]
pub(crate) struct Arrival {
    inbox: Py<Inbox>,
    iterates: bool,
    /// A coroutine waits for what this has yielded.
    waits: AtomicBool,
    /// The program has ended the iteration.
    is_over: AtomicBool,
}

/// What ending an iteration is awaited by: it is over already.
#[pyclass(frozen, module = "wsx._wsx")]
struct Over;

#[pymethods]
impl Over {
    fn __await__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__(&self) -> Option<Py<PyAny>> {
        None
    }
}

#[pymethods]
impl Arrival {
    fn __aiter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __anext__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __await__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    /// Ends with a message as a coroutine does, or yields the future to wait for.
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let was_waiting = self.waits.load(Ordering::Relaxed);
        if self.is_over.load(Ordering::Relaxed) {
            return Err(PyStopAsyncIteration::new_err(()));
        }
        let host = match self.inbox.get().look(py, was_waiting) {
            Found::Message(message, paused) => {
                self.waits.store(false, Ordering::Relaxed);
                if let Some(connection) = paused {
                    connection.get().read_again(py)?;
                }
                return Ok(ends_with(&message));
            }
            Found::End(exception) => {
                self.waits.store(false, Ordering::Relaxed);
                return Err(self.end(py, &exception));
            }
            Found::Busy => {
                let text = "cannot call recv while another coroutine is already running recv";
                return Err(defined(py, "ConcurrencyError", "", (text,)));
            }
            Found::Nothing(host) => host,
        };
        self.waits.store(false, Ordering::Relaxed);
        // There is always a host but while the collector takes all of this apart.
        let Some(host) = host else { return Ok(None) };
        let waiter = wait_at(py, &host)?;
        let mut state = lock(&self.inbox.get().state);
        state.is_receiving = true;
        let old = state.waiter.replace(waiter.clone_ref(py));
        drop(state);
        drop(old);
        self.waits.store(true, Ordering::Relaxed);
        Ok(Some(waiter))
    }

    /// Raises in the waiting coroutine, as its cancellation does. No message is lost.
    #[pyo3(signature = (kind, value = None, traceback = None))]
    fn throw(
        &self,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.close();
        let raised = value.unwrap_or(kind);
        match traceback {
            Some(traceback) => Err(PyErr::from_value(raised.call_method1("with_traceback", (traceback,))?)),
            None => Err(PyErr::from_value(raised)),
        }
    }

    /// The waiting coroutine is given up.
    fn close(&self) {
        if self.waits.swap(false, Ordering::Relaxed) {
            self.inbox.get().give_up();
        }
    }

    /// Ends the iteration, as `contextlib.aclosing` does: nothing is received by it any more. What has come stays to be
    /// received.
    fn aclose(&self) -> PyResult<Over> {
        if self.waits.load(Ordering::Relaxed) {
            return Err(PyRuntimeError::new_err("aclose(): the iteration is waiting for a message"));
        }
        self.is_over.store(true, Ordering::Relaxed);
        Ok(Over)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.inbox)
    }
}

impl Arrival {
    fn new(inbox: Py<Inbox>, iterates: bool) -> Self {
        Self { inbox, iterates, waits: AtomicBool::new(false), is_over: AtomicBool::new(false) }
    }

    /// How receiving ends: an iteration without a word where the connection has ended in order.
    #[cold]
    fn end(&self, py: Python<'_>, exception: &Py<PyAny>) -> PyErr {
        let raised = || {
            let exception = exception.bind(py).call0()?;
            let in_order = py.import("wsx.exceptions")?.getattr("ConnectionClosedOK")?;
            if self.iterates && exception.is_instance(&in_order)? {
                return Ok(PyStopAsyncIteration::new_err(()));
            }
            Ok(PyErr::from_value(exception))
        };
        raised().unwrap_or_else(|error| error)
    }
}

/// Ends what is awaited with a message: nothing more to iterate over, and StopIteration set. Made by way of `PyErr` it
/// would be an object of its own, which nobody looks at.
#[inline]
fn ends_with(message: &Py<PyAny>) -> Option<Py<PyAny>> {
    // SAFETY: attached, for a method is running; the message is alive, and not a tuple, which would be arguments.
    unsafe { ffi::PyErr_SetObject(ffi::PyExc_StopIteration, message.as_ptr()) };
    None
}

/// A future that a task waits for, as `await` on it would tell the task.
fn wait_at(py: Python<'_>, host: &Py<PyAny>) -> PyResult<Py<PyAny>> {
    let waiter = call(py, host, intern!(py, "create_future").as_ptr(), null_mut())?;
    waiter.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
    Ok(waiter.unbind())
}

/// Wakes the coroutine that waits, unless it is being cancelled.
fn wake(py: Python<'_>, waiter: &Py<PyAny>) -> PyResult<()> {
    // SAFETY: only the address of an object that lives forever.
    let none = unsafe { ffi::Py_None() };
    let Err(error) = call(py, waiter, intern!(py, "set_result").as_ptr(), none) else { return Ok(()) };
    if waiter.bind(py).call_method0("done")?.is_truthy()? { Ok(()) } else { Err(error) }
}

/// Calls a method with one argument, or none where that is null, without making a tuple or a bound method.
#[inline]
fn call<'py>(
    py: Python<'py>,
    object: &Py<PyAny>,
    name: *mut ffi::PyObject,
    argument: *mut ffi::PyObject,
) -> PyResult<Bound<'py, PyAny>> {
    let end = null_mut::<ffi::PyObject>();
    // SAFETY: attached; object, name and argument are alive during the call, and the list ends with NULL. The call
    // answers a new reference, or NULL with an exception set.
    unsafe {
        let result = ffi::PyObject_CallMethodObjArgs(object.as_ptr(), name, argument, end);
        Bound::from_owned_ptr_or_err(py, result)
    }
}
