//! The event loop: `run` on a thread of its own, or `turn` inside another loop.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{IntoPyObjectExt, PyTraverseError, PyVisit};
use wsx_core::log::{Level, Record};
use wsx_core::{Error, Handle};

use crate::client::{self, Client};
use crate::connection::Connection;
use crate::door::{Door, lock};
use crate::errors::{Raise, exception};
use crate::hooks::{Bridge, Hooks, log_exception};
use crate::listener::{Listener, Timer};
use crate::logging;
use crate::options;
use crate::payload::with_message;
use crate::statistics;
use crate::wait::{Signals, wait};

/// An event loop: listeners, connections and timers, all turned by one thread.
#[pyclass(frozen, module = "wsx", weakref)]
pub(crate) struct EventLoop {
    /// Out while a turn is in progress; none after `close`.
    engine: Mutex<Option<wsx_core::EventLoop>>,
    /// None after `close`.
    handle: Mutex<Option<Handle>>,
    /// `close` was called in a turn: its end is the loop's.
    closing: AtomicBool,
    descriptor: RawFd,
    door: Arc<Door>,
}

impl EventLoop {
    fn handle(&self, py: Python<'_>) -> PyResult<Handle> {
        lock(&self.handle).clone().ok_or_else(|| exception(py, &Error::LoopGone))
    }

    /// Takes the engine out for as long as it may call back.
    fn take(&self, py: Python<'_>) -> PyResult<wsx_core::EventLoop> {
        let taken = lock(&self.engine).take();
        taken.ok_or_else(|| {
            let error = match (self.door.is_turning(), self.door.is_here()) {
                (true, true) => Error::Reentrant,
                (true, false) => Error::WrongThread,
                (false, _) => Error::LoopGone,
            };
            exception(py, &error)
        })
    }

    fn put_back(&self, engine: wsx_core::EventLoop) -> PyResult<()> {
        if !self.closing.load(Ordering::Relaxed) {
            *lock(&self.engine) = Some(engine);
            return Ok(());
        }
        self.end(engine)
    }

    /// Ends the engine: every connection hears its last event.
    fn end(&self, engine: wsx_core::EventLoop) -> PyResult<()> {
        lock(&self.handle).take();
        self.door.set_turning(true);
        drop(engine);
        self.door.set_turning(false);
        let pending = self.door.take_pending();
        self.door.mute();
        self.door.clear();
        pending.map_or(Ok(()), Err)
    }

    /// A turn that does not wait: whether to go on, and whether Python was called.
    fn turn_now(&self, py: Python<'_>) -> PyResult<(bool, bool)> {
        let mut engine = self.take(py)?;
        let calls = self.door.calls.load(Ordering::Relaxed);
        self.door.settle();
        self.door.set_turning(true);
        let result = engine.turn(Some(Duration::ZERO));
        self.door.set_turning(false);
        let was_busy = self.door.calls.load(Ordering::Relaxed) != calls;
        let ended = self.closing.load(Ordering::Relaxed);
        let pending = self.door.take_pending();
        self.put_back(engine)?;
        if let Some(error) = pending {
            return Err(error);
        }
        self.door.turned(py)?;
        Ok((result.raise(py)? && !ended, was_busy))
    }

    /// How long the engine may sleep.
    fn sleep(&self, py: Python<'_>) -> PyResult<Option<Duration>> {
        let mut engine = lock(&self.engine);
        let engine = engine.as_mut().ok_or_else(|| exception(py, &Error::LoopGone))?;
        engine.next_deadline().raise(py)
    }

    fn sleeps_until(&self, py: Python<'_>, timeout: Option<Duration>, signals: Option<&Signals>) -> PyResult<()> {
        wait(py, self.descriptor, signals, || {
            let next = if lock(&self.engine).is_some() { self.sleep(py)? } else { Some(Duration::ZERO) };
            Ok(match (next, timeout) {
                (Some(next), Some(timeout)) => Some(next.min(timeout)),
                (next, timeout) => next.or(timeout),
            })
        })
    }

    fn turn_and_sleep(&self, py: Python<'_>, signals: Option<&Signals>) -> PyResult<()> {
        loop {
            let (goes_on, was_busy) = self.turn_now(py)?;
            if !goes_on {
                return Ok(());
            }
            if was_busy {
                py.check_signals()?;
                // Whoever else waits for the GIL gets it now.
                py.detach(|| ());
            } else {
                self.sleeps_until(py, None, signals)?;
            }
            // A signal handler may have ended the loop.
            if self.is_closed() {
                return Ok(());
            }
        }
    }

    fn touched(&self, py: Python<'_>) -> PyResult<()> {
        self.door.touched(py)
    }

    /// Calls a function of the program in a turn. What it raises is logged.
    fn caller(&self, function: Py<PyAny>, arguments: Py<PyTuple>) -> impl FnOnce() + Send + 'static {
        let door = self.door.clone();
        move || {
            if door.is_muted() {
                return;
            }
            door.calls.fetch_add(1, Ordering::Relaxed);
            Python::attach(|py| match function.call1(py, arguments.into_bound(py)) {
                Ok(_) => {}
                Err(error) if error.is_instance_of::<PyException>(py) => log_exception(py, "a posted function", &error),
                Err(error) => door.set_pending(error),
            });
        }
    }
}

#[pymethods]
impl EventLoop {
    #[new]
    #[pyo3(signature = (*, logger = None, **options))]
    fn new(py: Python<'_>, logger: Option<Py<PyAny>>, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let engine = wsx_core::EventLoop::with_options(&options::loop_options(options)?).raise(py)?;
        let this = Self {
            handle: Mutex::new(Some(engine.handle())),
            closing: AtomicBool::new(false),
            descriptor: engine.as_raw_fd(),
            door: Arc::default(),
            engine: Mutex::new(Some(engine)),
        };
        this.set_logger(py, logger)?;
        Ok(this)
    }

    /// Has a logger told what happens, up to its level now; None ends that. [any thread]
    #[pyo3(signature = (logger, /))]
    fn set_logger(&self, py: Python<'_>, logger: Option<Py<PyAny>>) -> PyResult<()> {
        let handle = self.handle(py)?;
        let Some(logger) = logger else { return handle.set_log(Level::Off, |_| {}).raise(py) };
        let level = logging::level_of(logger.bind(py))?;
        let door = self.door.clone();
        let tell = move |record: &Record<'_>| {
            if !door.is_muted() {
                logging::tell(&logger, record);
            }
        };
        handle.set_log(level, tell).raise(py)?;
        self.touched(py)
    }

    /// Listens on `HOST:PORT` or `unix:PATH`. [loop thread]
    #[pyo3(signature = (
        address, handler = None, *, on_request = None, after_deferral = None, on_open = None, on_message = None, on_fragment = None,
        on_ping = None, on_pong = None, on_drain = None, on_error = None, on_close = None, on_listener_error = None,
        **options
    ))]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword")]
    fn listen(
        &self,
        py: Python<'_>,
        address: &str,
        handler: Option<&Bound<'_, PyAny>>,
        on_request: Option<Py<PyAny>>,
        after_deferral: Option<Py<PyAny>>,
        on_open: Option<Py<PyAny>>,
        on_message: Option<Py<PyAny>>,
        on_fragment: Option<Py<PyAny>>,
        on_ping: Option<Py<PyAny>>,
        on_pong: Option<Py<PyAny>>,
        on_drain: Option<Py<PyAny>>,
        on_error: Option<Py<PyAny>>,
        on_close: Option<Py<PyAny>>,
        on_listener_error: Option<Py<PyAny>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Listener> {
        let options = options::options(options, "listen")?;
        let hooks = Hooks {
            on_request,
            after_deferral,
            on_open,
            on_message,
            on_fragment,
            on_ping,
            on_pong,
            on_drain,
            on_error,
            on_close,
            on_listener_error,
            ..Hooks::default()
        };
        let bridge = Bridge::new(py, self.door.clone(), hooks.or_methods(py, handler)?);
        let handle = self.handle(py)?;
        // A name is looked up here, and certificates are read, which may take its time.
        let number = py.detach(|| handle.listen(address, &options, bridge)).raise(py)?;
        self.touched(py)?;
        Ok(Listener { number, door: self.door.clone() })
    }

    /// Adopts a descriptor that is bound and listening; it belongs to the loop from now on. [loop thread]
    #[pyo3(signature = (
        descriptor, handler = None, *, on_request = None, after_deferral = None, on_open = None, on_message = None, on_fragment = None,
        on_ping = None, on_pong = None, on_drain = None, on_error = None, on_close = None, on_listener_error = None,
        **options
    ))]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword")]
    fn adopt(
        &self,
        py: Python<'_>,
        descriptor: RawFd,
        handler: Option<&Bound<'_, PyAny>>,
        on_request: Option<Py<PyAny>>,
        after_deferral: Option<Py<PyAny>>,
        on_open: Option<Py<PyAny>>,
        on_message: Option<Py<PyAny>>,
        on_fragment: Option<Py<PyAny>>,
        on_ping: Option<Py<PyAny>>,
        on_pong: Option<Py<PyAny>>,
        on_drain: Option<Py<PyAny>>,
        on_error: Option<Py<PyAny>>,
        on_close: Option<Py<PyAny>>,
        on_listener_error: Option<Py<PyAny>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Listener> {
        let options = options::options(options, "adopt")?;
        let hooks = Hooks {
            on_request,
            after_deferral,
            on_open,
            on_message,
            on_fragment,
            on_ping,
            on_pong,
            on_drain,
            on_error,
            on_close,
            on_listener_error,
            ..Hooks::default()
        };
        let bridge = Bridge::new(py, self.door.clone(), hooks.or_methods(py, handler)?);
        let handle = self.handle(py)?;
        if descriptor < 0 {
            return Err(pyo3::exceptions::PyValueError::new_err("a descriptor is not negative"));
        }
        // SAFETY: the caller hands the descriptor over, as `socket.detach()` does.
        let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let number = py.detach(|| handle.adopt(socket, &options, bridge)).raise(py)?;
        self.touched(py)?;
        Ok(Listener { number, door: self.door.clone() })
    }

    /// Connects to a `ws:` or `wss:` URL; with `reconnect` again and again, as a `Client`. [loop thread]
    #[pyo3(signature = (
        url, handler = None, *, on_open = None, on_message = None, on_fragment = None,
        on_ping = None, on_pong = None, on_drain = None, on_error = None, on_close = None, on_reconnecting = None,
        on_give_up = None, reconnect = None, **options
    ))]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword")]
    fn connect(
        &self,
        py: Python<'_>,
        url: &str,
        handler: Option<&Bound<'_, PyAny>>,
        on_open: Option<Py<PyAny>>,
        on_message: Option<Py<PyAny>>,
        on_fragment: Option<Py<PyAny>>,
        on_ping: Option<Py<PyAny>>,
        on_pong: Option<Py<PyAny>>,
        on_drain: Option<Py<PyAny>>,
        on_error: Option<Py<PyAny>>,
        on_close: Option<Py<PyAny>>,
        on_reconnecting: Option<Py<PyAny>>,
        on_give_up: Option<Py<PyAny>>,
        reconnect: Option<&Bound<'_, PyAny>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let options = options::options(options, "connect")?;
        let reconnect = client::keyword(reconnect)?;
        let hooks = Hooks {
            on_open,
            on_message,
            on_fragment,
            on_ping,
            on_pong,
            on_drain,
            on_error,
            on_close,
            on_reconnecting,
            on_give_up,
            ..Hooks::default()
        };
        let bridge = Bridge::new(py, self.door.clone(), hooks.or_methods(py, handler)?);
        let handle = self.handle(py)?;
        if let Some(reconnect) = reconnect {
            let number = py.detach(|| handle.connect_persistently(url, &options, &reconnect, bridge)).raise(py)?;
            self.touched(py)?;
            return Client { number, door: self.door.clone() }.into_py_any(py);
        }
        let number = py.detach(|| handle.connect(url, &options, bridge)).raise(py)?;
        let connection = self.door.keep(py, number)?;
        self.touched(py)?;
        Ok(connection.into_any())
    }

    /// Turns until `stop` is called or a `shutdown` is done. Ctrl-C ends it with KeyboardInterrupt.
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        match Signals::here(py)? {
            None => self.turn_and_sleep(py, None),
            Some(signals) => signals.listen(py, || self.turn_and_sleep(py, Some(&signals))),
        }
    }

    /// One turn: waits at most `timeout` seconds (None: until something happens), then does what there is to do.
    #[pyo3(signature = (timeout = None))]
    fn turn(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let timeout = timeout.map(options::seconds).transpose()?;
        let (goes_on, was_busy) = self.turn_now(py)?;
        if was_busy || !goes_on || timeout == Some(Duration::ZERO) {
            return Ok(goes_on);
        }
        match Signals::here(py)? {
            None => self.sleeps_until(py, timeout, None)?,
            Some(signals) => signals.listen(py, || self.sleeps_until(py, timeout, Some(&signals)))?,
        }
        py.check_signals()?;
        self.turn_now(py).map(|(goes_on, _)| goes_on)
    }

    /// Writes what was sent since the last turn.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        let mut engine = self.take(py)?;
        self.door.settle();
        self.door.set_turning(true);
        let result = engine.flush();
        self.door.set_turning(false);
        self.put_back(engine)?;
        result.raise(py)
    }

    /// Seconds until the next turn is due; 0 where work waits, None where only the descriptor can tell.
    fn next_deadline(&self, py: Python<'_>) -> PyResult<Option<f64>> {
        self.sleep(py).map(|sleep| sleep.map(|sleep| sleep.as_secs_f64()))
    }

    /// The descriptor that is readable when a turn is due.
    fn fileno(&self) -> RawFd {
        self.descriptor
    }

    /// Asks for `schedule()` to be called, on the loop's thread and once until the next turn or flush, when something was
    /// done between turns that must be flushed. None ends it.
    fn on_output(&self, schedule: Option<Py<PyAny>>) {
        self.door.set_schedule(schedule);
    }

    /// Sends a message to every open server connection of this loop but `exclude`. [any thread]
    #[pyo3(signature = (message, /, exclude = None))]
    fn broadcast(&self, message: &Bound<'_, PyAny>, exclude: Option<&Connection>) -> PyResult<()> {
        let py = message.py();
        let (handle, exclude) = (self.handle(py)?, exclude.map(|connection| connection.number));
        with_message(message, |message| handle.broadcast(message, exclude))?.raise(py)?;
        self.touched(py)
    }

    /// Sends a message to every subscriber of a topic but `exclude`. [any thread]
    #[pyo3(signature = (topic, message, /, exclude = None))]
    fn publish(&self, topic: &str, message: &Bound<'_, PyAny>, exclude: Option<&Connection>) -> PyResult<()> {
        let py = message.py();
        let (handle, exclude) = (self.handle(py)?, exclude.map(|connection| connection.number));
        with_message(message, |message| handle.publish(topic, message, exclude))?.raise(py)?;
        self.touched(py)
    }

    /// What was counted of all connections of this loop, a `wsx.Statistics`. [any thread]
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let counted = self.handle(py)?.statistics().raise(py)?;
        statistics::to_python(py, &counted)
    }

    /// Everything that was counted, in the text format of Prometheus. [any thread]
    fn metrics(&self, py: Python<'_>) -> PyResult<String> {
        self.handle(py)?.metrics().raise(py)
    }

    /// How many server connections are open. [loop thread]
    #[getter]
    fn connection_count(&self, py: Python<'_>) -> PyResult<usize> {
        self.handle(py)?.connection_count().raise(py)
    }

    /// The open server connections. [loop thread]
    #[getter]
    fn connections(&self, py: Python<'_>) -> PyResult<Vec<Py<Connection>>> {
        let numbers = self.handle(py)?.connections().raise(py)?;
        numbers.into_iter().map(|number| self.door.keep(py, number)).collect()
    }

    /// How many connections subscribe to a topic. [loop thread]
    #[pyo3(signature = (topic, /))]
    fn subscriber_count(&self, py: Python<'_>, topic: &str) -> PyResult<usize> {
        self.handle(py)?.subscriber_count(topic).raise(py)
    }

    /// Calls `function(*arguments)` once, in so many seconds. [loop thread]
    #[pyo3(signature = (delay, function, /, *arguments))]
    fn call_later(&self, py: Python<'_>, delay: f64, function: Py<PyAny>, arguments: Py<PyTuple>) -> PyResult<Timer> {
        let call = self.caller(function, arguments);
        let timer = self.handle(py)?.set_timer(options::seconds(delay)?, call).raise(py)?;
        self.touched(py)?;
        Ok(Timer(timer))
    }

    /// Calls `function(*arguments)` on the loop's thread, in its next turn. [any thread]
    #[pyo3(signature = (function, /, *arguments))]
    fn post(&self, py: Python<'_>, function: Py<PyAny>, arguments: Py<PyTuple>) -> PyResult<()> {
        let call = self.caller(function, arguments);
        self.handle(py)?.post(call).raise(py)
    }

    /// Makes the turn in progress, or the next one, return without waiting. [any thread]
    fn wake(&self, py: Python<'_>) -> PyResult<()> {
        self.handle(py)?.wake().raise(py)
    }

    /// Makes `run` return after its turn. [any thread]
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        self.handle(py)?.stop().raise(py)?;
        self.touched(py)
    }

    /// Ends in order: closes every connection with 1001, waits up to `grace` seconds, and makes `run` return. [any thread]
    #[pyo3(signature = (grace = 1.0))]
    fn shutdown(&self, py: Python<'_>, grace: f64) -> PyResult<()> {
        self.handle(py)?.shutdown(options::seconds(grace)?).raise(py)?;
        self.touched(py)
    }

    /// Ends the loop: every connection hears its `on_close`. Closing again does nothing. [loop thread]
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if lock(&self.handle).is_none() {
            return Ok(());
        }
        if !self.door.is_here() {
            return Err(exception(py, &Error::WrongThread));
        }
        if self.door.is_turning() {
            self.closing.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let engine = self.take(py)?;
        self.end(engine)
    }

    /// Whether `close` was called.
    #[getter]
    fn is_closed(&self) -> bool {
        lock(&self.handle).is_none()
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.door.traverse(&visit)
    }

    fn __clear__(&self) {
        self.forget();
    }
}

impl EventLoop {
    /// Nobody has this loop any more: its connections end, and Python hears nothing of it.
    fn forget(&self) {
        self.door.mute();
        lock(&self.handle).take();
        let engine = lock(&self.engine).take();
        drop(engine);
        self.door.clear();
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        self.forget();
    }
}
