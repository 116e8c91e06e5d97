//! Listeners and timers.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::connection::Connection;
use crate::door::Door;
use crate::errors::Raise;
use crate::hooks::{Bridge, Hooks};
use crate::options;
use crate::payload::{from_address, with_message};
use crate::statistics;
use crate::tls;

/// Something that listens.
#[pyclass(frozen, module = "wsx", weakref)]
pub(crate) struct Listener {
    pub(crate) number: wsx_core::Listener,
    pub(crate) door: Arc<Door>,
}

#[pymethods]
impl Listener {
    /// Where it listens, as Python's sockets tell it. [loop thread]
    #[getter]
    fn local_address<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        from_address(py, &self.number.local_address().raise(py)?)
    }

    /// Serves a path with options and callbacks of its own. [loop thread]
    #[pyo3(signature = (path, /, handler = None, **keywords))]
    fn route(
        &self,
        py: Python<'_>,
        path: &str,
        handler: Option<&Bound<'_, PyAny>>,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let keywords = keywords.map(|keywords| keywords.copy()).transpose()?.unwrap_or_else(|| PyDict::new(py));
        let hooks = Hooks::take(&keywords)?.or_methods(py, handler)?;
        let options = options::options(Some(&keywords), "route")?;
        let bridge = Bridge::new(py, self.door.clone(), hooks);
        let number = self.number.route(path, &options, bridge).raise(py)?;
        Ok(Self { number, door: self.door.clone() })
    }

    /// Stops accepting; open connections stay. [any thread]
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.number.close().raise(py)?;
        self.door.touched(py)
    }

    /// Begins TLS anew with these choices, a `wsx.TLS`. [any thread]
    #[pyo3(signature = (tls, /))]
    fn reload_tls(&self, tls: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, tls, listener) = (tls.py(), tls::tls(tls, "reload_tls")?, self.number);
        // Files are read here.
        py.detach(|| listener.reload_tls(&tls)).raise(py)
    }

    /// Sends a message to every open connection of this listener but `exclude`. [any thread]
    #[pyo3(signature = (message, /, exclude = None))]
    fn broadcast(&self, message: &Bound<'_, PyAny>, exclude: Option<&Connection>) -> PyResult<()> {
        let exclude = exclude.map(|connection| connection.number);
        let py = message.py();
        with_message(message, |message| self.number.broadcast(message, exclude))?.raise(py)?;
        self.door.touched(py)
    }

    /// What was counted of this listener's connections, a `wsx.Statistics`. [any thread]
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        statistics::to_python(py, &self.number.statistics().raise(py)?)
    }

    /// How many connections of this listener are open. [loop thread]
    #[getter]
    fn connection_count(&self, py: Python<'_>) -> PyResult<usize> {
        self.number.connection_count().raise(py)
    }

    /// The open connections of this listener. [loop thread]
    #[getter]
    fn connections(&self, py: Python<'_>) -> PyResult<Vec<Py<Connection>>> {
        let numbers = self.number.connections().raise(py)?;
        numbers.into_iter().map(|number| self.door.keep(py, number)).collect()
    }

    /// `HOST:PORT`, or `unix:PATH`.
    fn __str__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.number.local_address().raise(py)?.to_string())
    }

    fn __repr__(&self) -> String {
        match self.number.local_address() {
            Ok(address) => format!("<Listener {address}>"),
            Err(error) => format!("<Listener: {error}>"),
        }
    }
}

/// A timer of the loop.
#[pyclass(frozen, module = "wsx")]
pub(crate) struct Timer(pub(crate) wsx_core::Timer);

#[pymethods]
impl Timer {
    /// Cancels the timer; one that has run is no error. [loop thread]
    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        self.0.cancel().raise(py)
    }
}
