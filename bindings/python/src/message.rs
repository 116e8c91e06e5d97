//! A message that is encoded once, to be sent many times.

use pyo3::prelude::*;

use crate::payload::with_message;

/// A message that is encoded once, to be sent many times by `send`.
#[pyclass(frozen, module = "wsx")]
pub(crate) struct SharedMessage(pub(crate) wsx_core::SharedMessage);

#[pymethods]
impl SharedMessage {
    #[new]
    #[pyo3(signature = (message, /))]
    fn new(message: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self(with_message(message, |message| wsx_core::SharedMessage::new(message))?))
    }

    fn __repr__(&self) -> String {
        let message = self.0.message();
        let kind = if message.is_text() { "text" } else { "binary" };
        format!("<SharedMessage {kind} {} bytes>", message.payload().len())
    }
}
