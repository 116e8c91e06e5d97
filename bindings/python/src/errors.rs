//! The engine's errors to exceptions. The classes are defined in Python (`wsx/exceptions.py`); every text is the engine's.

use pyo3::exceptions::{PyNotImplementedError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use wsx_core::Error;

/// The exception for an error of the engine.
#[cold]
pub(crate) fn exception(py: Python<'_>, error: &Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::Closed => defined(py, "ConnectionClosed", "gone", (text,)),
        Error::NotOpen | Error::WrongKind(_) => defined(py, "InvalidState", "", (text,)),
        Error::BacklogFull { backlog, limit } => defined(py, "BacklogFull", "", (text, *backlog, *limit)),
        Error::MessageInProgress => defined(py, "ConcurrencyError", "", (text,)),
        Error::Full(_) => defined(py, "QueueFull", "", (text,)),
        Error::LoopGone => defined(py, "LoopClosed", "", (text,)),
        Error::InvalidArgument(_) => PyValueError::new_err(text),
        Error::Unsupported(_) => PyNotImplementedError::new_err(text),
        Error::Io { source, .. } => match source.raw_os_error() {
            Some(number) => PyOSError::new_err((number, text)),
            None => PyOSError::new_err(text),
        },
        _ => PyRuntimeError::new_err(text),
    }
}

/// An exception of `wsx.exceptions`, made by its class or by a class method of it.
pub(crate) fn defined<'py, A>(py: Python<'py>, name: &str, make: &str, arguments: A) -> PyErr
where
    A: pyo3::call::PyCallArgs<'py>,
{
    let made = py.import("wsx.exceptions").and_then(|module| {
        let class = module.getattr(name)?;
        let make = if make.is_empty() { class } else { class.getattr(make)? };
        make.call1(arguments)
    });
    match made {
        Ok(made) => PyErr::from_value(made),
        Err(error) => error,
    }
}

/// Results of the engine as results of Python.
pub(crate) trait Raise<T> {
    /// The value, or the exception for the error.
    fn raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> Raise<T> for wsx_core::Result<T> {
    #[inline]
    fn raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| exception(py, &error))
    }
}
