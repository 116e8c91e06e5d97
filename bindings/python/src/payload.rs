//! str and bytes-like objects to messages, and messages to str and bytes.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use pyo3::{PyTypeInfo, ffi};
use wsx_core::{Address, Message};

/// Calls with the message that an object is: text for str, binary for bytes-like.
#[inline]
pub(crate) fn with_message<R>(object: &Bound<'_, PyAny>, call: impl FnOnce(Message<'_>) -> R) -> PyResult<R> {
    if let Ok(text) = object.cast::<PyString>() {
        return Ok(call(Message::Text(text.to_str()?)));
    }
    with_bytes(object, "a message is str or bytes-like", |bytes| call(Message::Binary(bytes)))
}

/// Calls with the bytes of a bytes-like object. Those that may change meanwhile are copied.
pub(crate) fn with_bytes<R>(object: &Bound<'_, PyAny>, what: &str, call: impl FnOnce(&[u8]) -> R) -> PyResult<R> {
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return Ok(call(bytes.as_bytes()));
    }
    // SAFETY: only looks at the type of an object that is alive.
    if unsafe { ffi::PyObject_CheckBuffer(object.as_ptr()) } == 0 {
        return Err(PyTypeError::new_err(format!("{what}, not {}", object.get_type().name()?)));
    }
    let bytes = PyBytes::type_object(object.py()).call1((object,))?.cast_into::<PyBytes>()?;
    Ok(call(bytes.as_bytes()))
}

/// Calls with the bytes of a str, as UTF-8, or of a bytes-like object.
pub(crate) fn with_text_or_bytes<R>(object: &Bound<'_, PyAny>, call: impl FnOnce(&[u8]) -> R) -> PyResult<R> {
    match object.cast::<PyString>() {
        Ok(text) => Ok(call(text.to_str()?.as_bytes())),
        Err(_) => with_bytes(object, "str or bytes-like is expected", call),
    }
}

/// A message as str or bytes.
#[inline]
pub(crate) fn from_message<'py>(py: Python<'py>, message: Message<'_>) -> Bound<'py, PyAny> {
    match message {
        Message::Text(text) => PyString::new(py, text).into_any(),
        Message::Binary(bytes) => PyBytes::new(py, bytes).into_any(),
    }
}

/// An address as Python's sockets tell it: a tuple for TCP, a path for a Unix socket.
pub(crate) fn from_address<'py>(py: Python<'py>, address: &Address) -> PyResult<Bound<'py, PyAny>> {
    use std::net::SocketAddr::{V4, V6};
    match address {
        Address::Tcp(V4(ip)) => (ip.ip().to_string(), ip.port()).into_bound_py_any(py),
        Address::Tcp(V6(ip)) => (ip.ip().to_string(), ip.port(), ip.flowinfo(), ip.scope_id()).into_bound_py_any(py),
        Address::Unix(Some(path)) => path.as_os_str().into_bound_py_any(py),
        Address::Unix(None) => "".into_bound_py_any(py),
    }
}

use pyo3::IntoPyObjectExt;
