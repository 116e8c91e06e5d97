//! How a connection ended: `Close` and `Failure`, as the engine told them.

use pyo3::prelude::*;
use wsx_core::{FailureKind, Side, Stage};

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
    /// Messages that were taken and then lost.
    #[pyo3(get)]
    lost_messages: u32,
    /// Bytes that did not reach the kernel.
    #[pyo3(get)]
    unsent_bytes: u64,
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
            lost_messages: close.lost_messages,
            unsent_bytes: close.unsent_bytes,
            text: close.to_string(),
        })
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
    /// How far the connection had come: "resolve", "connect", "tls", "http" or "websocket".
    #[getter]
    fn stage(&self) -> &'static str {
        match self.0.stage {
            Stage::Resolve => "resolve",
            Stage::Connect => "connect",
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
