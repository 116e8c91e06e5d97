//! A connection, by its number.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::{PyTraverseError, PyVisit};
use wsx_core::MessageKind;

use crate::door::{Door, lock};
use crate::errors::Raise;
use crate::inbox::Inbox;
use crate::message::SharedMessage;
use crate::payload::{from_address, with_bytes, with_message};
use crate::request::{Keeps, Response};

/// A connection: the same object in every callback.
#[pyclass(frozen, module = "wsx", weakref)]
pub(crate) struct Connection {
    pub(crate) number: wsx_core::Connection,
    door: Arc<Door>,
    data: Mutex<Py<PyAny>>,
    /// Where its messages go, if a coroutine receives them.
    inbox: Mutex<Option<Py<Inbox>>>,
    /// Its request was deferred, or is about to be, and has been answered with a stream.
    becomes_stream: AtomicBool,
}

impl Connection {
    pub(crate) fn new(py: Python<'_>, number: wsx_core::Connection, door: Arc<Door>) -> Self {
        let (data, inbox) = (Mutex::new(py.None()), Mutex::new(None));
        Self { number, door, data, inbox, becomes_stream: AtomicBool::new(false) }
    }

    pub(crate) fn becomes_stream(&self) -> bool {
        self.becomes_stream.load(Ordering::Relaxed)
    }

    /// Raises what the engine refused, and tells the host of the loop what it took.
    #[inline]
    fn done(&self, py: Python<'_>, result: wsx_core::Result<()>) -> PyResult<()> {
        result.raise(py)?;
        self.door.touched(py)
    }

    #[inline]
    pub(crate) fn inbox(&self, py: Python<'_>) -> Option<Py<Inbox>> {
        lock(&self.inbox).as_ref().map(|inbox| inbox.clone_ref(py))
    }

    pub(crate) fn set_inbox(&self, inbox: Option<Py<Inbox>>) {
        let old = std::mem::replace(&mut *lock(&self.inbox), inbox);
        drop(old);
    }

    /// Reads again, unless it is gone.
    pub(crate) fn read_again(&self, py: Python<'_>) -> PyResult<()> {
        match self.number.resume() {
            Err(wsx_core::Error::Closed) => Ok(()),
            result => self.done(py, result),
        }
    }
}

#[pymethods]
impl Connection {
    /// Sends a message: str as text, bytes-like as binary. [any thread]
    #[pyo3(signature = (message, /))]
    #[inline]
    fn send(&self, message: &Bound<'_, PyAny>) -> PyResult<()> {
        let result = match with_message(message, |message| self.number.send(message)) {
            Ok(result) => result,
            // The rarest comes last.
            Err(error) => self.number.send_shared(&message.cast::<SharedMessage>().map_err(|_| error)?.get().0),
        };
        self.done(message.py(), result)
    }

    /// Sends a fragment of a message: str as text, bytes-like as binary unless `text` says otherwise. [any thread]
    #[pyo3(signature = (payload, /, *, is_last, text = None))]
    fn send_fragment(&self, payload: &Bound<'_, PyAny>, is_last: bool, text: Option<bool>) -> PyResult<()> {
        let is_text = text.unwrap_or_else(|| payload.is_instance_of::<PyString>());
        let kind = if is_text { MessageKind::Text } else { MessageKind::Binary };
        let send = |bytes: &[u8]| self.number.send_fragment(kind, bytes, is_last);
        let result = crate::payload::with_text_or_bytes(payload, send)?;
        self.done(payload.py(), result)
    }

    /// Sends a ping of at most 125 bytes. [any thread]
    #[pyo3(signature = (payload = None))]
    fn ping(&self, py: Python<'_>, payload: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let result = match payload {
            None => self.number.ping(&[]),
            Some(payload) => with_bytes(payload, "a payload is bytes-like", |bytes| self.number.ping(bytes))?,
        };
        self.done(py, result)
    }

    /// Sends an unsolicited pong of at most 125 bytes. [any thread]
    #[pyo3(signature = (payload = None))]
    fn pong(&self, py: Python<'_>, payload: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let result = match payload {
            None => self.number.pong(&[]),
            Some(payload) => with_bytes(payload, "a payload is bytes-like", |bytes| self.number.pong(bytes))?,
        };
        self.done(py, result)
    }

    /// Begins the closing handshake. [any thread]
    #[pyo3(signature = (code = 1000, reason = ""))]
    fn close(&self, py: Python<'_>, code: u16, reason: &str) -> PyResult<()> {
        self.done(py, self.number.close(code, reason))
    }

    /// Ends the transport at once, without a Close. [any thread]
    fn terminate(&self, py: Python<'_>) -> PyResult<()> {
        self.done(py, self.number.terminate())
    }

    /// Answers the request that was deferred under this number; None accepts it. [any thread]
    #[pyo3(signature = (response = None, /))]
    fn respond(&self, py: Python<'_>, response: Option<&Response>) -> PyResult<()> {
        let is_stream = response.is_some_and(|response| response.keeps == Keeps::Stream);
        let response = response.map_or_else(wsx_core::Response::accept, |response| response.response.clone());
        self.number.respond(response).raise(py)?;
        // In time: Python is told of the answer by whoever has the GIL next.
        if is_stream {
            self.becomes_stream.store(true, Ordering::Relaxed);
        }
        self.door.touched(py)
    }

    /// Writes to the body of an HTTP stream: str as UTF-8, or bytes-like. [any thread]
    #[pyo3(signature = (body, /))]
    fn write(&self, body: &Bound<'_, PyAny>) -> PyResult<()> {
        let result = crate::payload::with_text_or_bytes(body, |bytes| self.number.write(bytes))?;
        self.done(body.py(), result)
    }

    /// Subscribes an open server connection to a topic. [any thread]
    #[pyo3(signature = (topic, /))]
    fn subscribe(&self, py: Python<'_>, topic: &str) -> PyResult<()> {
        self.done(py, self.number.subscribe(topic))
    }

    /// Ends a subscription. [any thread]
    #[pyo3(signature = (topic, /))]
    fn unsubscribe(&self, py: Python<'_>, topic: &str) -> PyResult<()> {
        self.done(py, self.number.unsubscribe(topic))
    }

    /// Stops reading from the peer. [any thread]
    pub(crate) fn pause(&self, py: Python<'_>) -> PyResult<()> {
        self.done(py, self.number.pause())
    }

    /// Reads again. [any thread]
    fn resume(&self, py: Python<'_>) -> PyResult<()> {
        self.done(py, self.number.resume())
    }

    /// Bytes queued that the kernel has not taken yet. [loop thread]
    #[getter]
    fn buffered_amount(&self, py: Python<'_>) -> PyResult<usize> {
        self.number.buffered_amount().raise(py)
    }

    /// CONNECTING, OPEN, CLOSING or CLOSED. [loop thread]
    #[getter]
    fn ready_state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let state = self.number.ready_state().raise(py)?;
        py.import("wsx.protocol")?.getattr("State")?.call1((state as u8,))
    }

    /// The subprotocol agreed on. [loop thread]
    #[getter]
    fn subprotocol(&self, py: Python<'_>) -> PyResult<Option<String>> {
        self.number.subprotocol().raise(py)
    }

    /// The extensions agreed on, as the header of the answer says it; empty for none. [loop thread]
    #[getter]
    fn extensions(&self, py: Python<'_>) -> PyResult<String> {
        self.number.extensions().raise(py)
    }

    /// Seconds that the newest ping took that was answered. [loop thread]
    #[getter]
    fn latency(&self, py: Python<'_>) -> PyResult<Option<f64>> {
        Ok(self.number.latency().raise(py)?.map(|latency| latency.as_secs_f64()))
    }

    /// Where the peer is. [loop thread]
    #[getter]
    fn remote_address<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        from_address(py, &self.number.peer_address().raise(py)?)
    }

    /// The number of the connection.
    #[getter]
    fn id(&self) -> u64 {
        self.number.id()
    }

    /// Whatever the program wants to keep with the connection.
    #[getter]
    fn data(&self, py: Python<'_>) -> Py<PyAny> {
        lock(&self.data).clone_ref(py)
    }

    #[setter]
    fn set_data(&self, data: Py<PyAny>) {
        let old = std::mem::replace(&mut *lock(&self.data), data);
        drop(old);
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let state = match self.number.ready_state() {
            Ok(_) => self.ready_state(py)?.getattr("name")?.cast_into::<PyString>()?.to_string(),
            Err(_) => "of another thread".to_owned(),
        };
        Ok(format!("<Connection {:#x} {state}>", self.number.id()))
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyRuntimeError::new_err("a connection belongs to its process"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(data) = self.data.try_lock() {
            visit.call(&*data)?;
        }
        match self.inbox.try_lock() {
            Ok(inbox) => visit.call(&*inbox),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        // SAFETY: the interpreter's collector calls this, attached.
        let none = unsafe { Python::assume_attached() }.None();
        self.set_data(none);
        self.set_inbox(None);
    }
}
