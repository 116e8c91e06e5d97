//! A client that connects again, by its number; and what it tells.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyBool;
use wsx_core::{GiveUpKind, Reconnect};

use crate::close::Close;
use crate::connection::Connection;
use crate::door::Door;
use crate::errors::Raise;
use crate::options::{count, field, is_a, timeout};
use crate::payload::with_message;

/// What the keyword `reconnect` asks for: none for a connection that is made once.
pub(crate) fn keyword(value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Reconnect>> {
    let Some(value) = value.filter(|value| !value.is_none()) else { return Ok(None) };
    let mut reconnect = Reconnect::default();
    if let Ok(flag) = value.cast::<PyBool>() {
        return Ok(flag.is_true().then_some(reconnect));
    }
    if !is_a(value, "Reconnect")? {
        let given = value.get_type().name()?;
        return Err(PyTypeError::new_err(format!("reconnect: True, False or a wsx.Reconnect, not {given}")));
    }
    reconnect.base_delay = field(value, "base_delay", timeout)?;
    reconnect.max_delay = field(value, "max_delay", timeout)?;
    reconnect.reset_after = field(value, "reset_after", timeout)?;
    reconnect.max_attempts = field(value, "max_attempts", count)?;
    reconnect.offline_limit = field(value, "offline_limit", count)?;
    Ok(Some(reconnect))
}

/// A client that connects again.
#[pyclass(frozen, module = "wsx", weakref)]
pub(crate) struct Client {
    pub(crate) number: wsx_core::Client,
    pub(crate) door: Arc<Door>,
}

impl Client {
    fn done(&self, py: Python<'_>, result: wsx_core::Result<()>) -> PyResult<()> {
        result.raise(py)?;
        self.door.touched(py)
    }
}

#[pymethods]
impl Client {
    /// Sends a message on the connection that is open, or keeps it for the next one. [any thread]
    #[pyo3(signature = (message, /))]
    fn send(&self, message: &Bound<'_, PyAny>) -> PyResult<()> {
        let result = with_message(message, |message| self.number.send(message))?;
        self.done(message.py(), result)
    }

    /// Closes the connection, and connects no more. [any thread]
    #[pyo3(signature = (code = 1000, reason = ""))]
    fn close(&self, py: Python<'_>, code: u16, reason: &str) -> PyResult<()> {
        self.done(py, self.number.close(code, reason))
    }

    /// Ends the transport at once, and connects no more. [any thread]
    fn terminate(&self, py: Python<'_>) -> PyResult<()> {
        self.done(py, self.number.terminate())
    }

    /// The connection, open or not; none while the client waits for its next attempt. [loop thread]
    #[getter]
    fn connection(&self, py: Python<'_>) -> PyResult<Option<Py<Connection>>> {
        let connection = self.number.connection().raise(py)?;
        connection.map(|number| self.door.keep(py, number)).transpose()
    }

    /// Bytes that wait, those of the offline queue among them. [loop thread]
    #[getter]
    fn buffered_amount(&self, py: Python<'_>) -> PyResult<usize> {
        self.number.buffered_amount().raise(py)
    }

    /// The number of the client.
    #[getter]
    fn id(&self) -> u64 {
        self.number.id()
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Self>().is_ok_and(|other| other.get().number == self.number)
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.number.hash(&mut hasher);
        hasher.finish()
    }

    fn __repr__(&self) -> String {
        format!("<Client {:#x}>", self.number.id())
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyRuntimeError::new_err("a client belongs to its process"))
    }
}

/// A client is about to wait, and then to connect again.
#[pyclass(frozen, module = "wsx")]
pub(crate) struct Reconnecting {
    /// Which attempt in a row this will be.
    #[pyo3(get)]
    attempt: u32,
    /// How long it waits from now on, in seconds.
    #[pyo3(get)]
    delay: f64,
    /// How the connection before ended.
    #[pyo3(get)]
    cause: Py<Close>,
}

impl Reconnecting {
    pub(crate) fn new(py: Python<'_>, reconnecting: &wsx_core::Reconnecting<'_>) -> PyResult<Self> {
        Ok(Self {
            attempt: reconnecting.attempt,
            delay: reconnecting.delay.as_secs_f64(),
            cause: Py::new(py, Close::new(py, reconnecting.cause)?)?,
        })
    }
}

#[pymethods]
impl Reconnecting {
    fn __repr__(&self, py: Python<'_>) -> String {
        let cause = self.cause.bind(py).get();
        format!("<Reconnecting: attempt {} in {} s, {cause}>", self.attempt, self.delay)
    }
}

/// A client has given up.
#[pyclass(frozen, module = "wsx")]
pub(crate) struct GiveUp(pub(crate) wsx_core::GiveUp);

#[pymethods]
impl GiveUp {
    /// Why: "finished", "close_code", "http_status", "socks_refusal", "attempts", "closed" or "shutdown".
    #[getter]
    fn kind(&self) -> &'static str {
        match self.0.kind {
            GiveUpKind::Finished => "finished",
            GiveUpKind::CloseCode => "close_code",
            GiveUpKind::HttpStatus => "http_status",
            GiveUpKind::SocksRefusal => "socks_refusal",
            GiveUpKind::Attempts => "attempts",
            GiveUpKind::Closed => "closed",
            _ => "shutdown",
        }
    }

    /// The code of the Close that has just been told.
    #[getter]
    fn close_code(&self) -> Option<u16> {
        self.0.close_code
    }

    /// The HTTP status that the last attempt was answered with.
    #[getter]
    fn http_status(&self) -> Option<u16> {
        self.0.http_status
    }

    /// Attempts in a row to connect again.
    #[getter]
    fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// Messages that reached no connection.
    #[getter]
    fn lost_messages(&self) -> u32 {
        self.0.lost_messages
    }

    /// One sentence for people.
    #[getter]
    fn message(&self) -> &str {
        &self.0.message
    }

    fn __str__(&self) -> &str {
        &self.0.message
    }

    fn __repr__(&self) -> String {
        format!("<GiveUp {}: {}>", self.kind(), self.0.message)
    }
}
