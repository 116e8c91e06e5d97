//! How a connection ended: `Close`, `Failure` and `Limit`, as the engine told them.

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use wsx_core::{FailureKind, Figure, Side, Stage};

/// How a connection ended.
#[pyclass(frozen, module = "wsx")]
pub(crate) struct Close {
    /// The close code.
    #[pyo3(get)]
    code: u16,
    /// The reason that came with the code.
    #[pyo3(get)]
    reason: String,
    /// Whether the closing handshake was completed and nothing failed.
    #[pyo3(get)]
    was_clean: bool,
    /// Who began: "us" or "peer".
    #[pyo3(get)]
    by: &'static str,
    /// What failed, if something did.
    #[pyo3(get)]
    failure: Option<Py<Failure>>,
    /// Messages that were sent and did not wholly reach the kernel.
    #[pyo3(get)]
    undelivered_messages: u64,
    /// Those that were taken and then lost before the end.
    #[pyo3(get)]
    lost_messages: u32,
    /// Bytes that did not reach the kernel.
    #[pyo3(get)]
    unsent_bytes: u64,
    /// All of it in one sentence.
    #[pyo3(get)]
    text: String,
}

impl Close {
    /// A copy of what the engine told.
    pub(crate) fn new(py: Python<'_>, close: &wsx_core::Close<'_>) -> PyResult<Self> {
        Ok(Self {
            code: close.code,
            reason: close.reason.to_owned(),
            was_clean: close.was_clean,
            by: match close.by {
                Side::Us => "us",
                Side::Peer => "peer",
            },
            failure: close.failure.map(|failure| Py::new(py, Failure(failure.clone()))).transpose()?,
            undelivered_messages: close.undelivered_messages,
            lost_messages: close.lost_messages,
            unsent_bytes: close.unsent_bytes,
            text: close.to_string(),
        })
    }
}

impl std::fmt::Display for Close {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[pymethods]
impl Close {
    fn __str__(&self) -> &str {
        &self.text
    }

    fn __repr__(&self) -> String {
        format!("<Close: {}>", self.text)
    }
}

/// What went wrong with a connection.
#[pyclass(frozen, module = "wsx")]
pub(crate) struct Failure(pub(crate) wsx_core::Failure);

#[pymethods]
impl Failure {
    /// How far the connection had come: "resolve", "connect", "proxy", "tls", "http" or "websocket".
    #[getter]
    fn stage(&self) -> &'static str {
        match self.0.stage {
            Stage::Resolve => "resolve",
            Stage::Connect => "connect",
            Stage::Proxy => "proxy",
            Stage::Tls => "tls",
            Stage::Http => "http",
            _ => "websocket",
        }
    }

    /// What kind of thing went wrong.
    #[getter]
    fn kind(&self) -> &'static str {
        match self.0.kind {
            FailureKind::Protocol => "protocol",
            FailureKind::Refused => "refused",
            FailureKind::Limit => "limit",
            FailureKind::Timeout => "timeout",
            FailureKind::Shutdown => "shutdown",
            FailureKind::Callback => "callback",
            _ => "transport",
        }
    }

    /// The limit or timeout that struck, where one did.
    #[getter]
    fn limit(&self) -> Option<Limit> {
        self.0.limit.map(Limit)
    }

    /// The system's error number.
    #[getter]
    fn os_error(&self) -> Option<i32> {
        self.0.os_error
    }

    /// The HTTP status the peer answered.
    #[getter]
    fn http_status(&self) -> Option<u16> {
        self.0.http_status
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
        format!("<Failure: {} {}: {}>", self.stage(), self.kind(), self.0.message)
    }
}

/// A limit or timeout that struck.
#[pyclass(frozen, module = "wsx")]
pub(crate) struct Limit(wsx_core::Limit);

#[pymethods]
impl Limit {
    /// The option that sets it.
    #[getter]
    fn option(&self) -> &'static str {
        self.0.option
    }

    /// Its unit: "bytes", "count" or "seconds".
    #[getter]
    fn unit(&self) -> &'static str {
        match self.0.figure {
            Figure::Bytes(_) => "bytes",
            Figure::Time(_) => "seconds",
            _ => "count",
        }
    }

    /// What it is set to: a float for seconds.
    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.0.figure {
            Figure::Bytes(number) | Figure::Count(number) => number.into_bound_py_any(py),
            Figure::Time(time) => time.as_secs_f64().into_bound_py_any(py),
            _ => Ok(py.None().into_bound(py)),
        }
    }

    /// What was reached, where that is known.
    #[getter]
    fn reached(&self) -> Option<u64> {
        self.0.reached
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("<Limit: {} {} {}>", self.0.option, self.value(py)?, self.unit()))
    }
}
