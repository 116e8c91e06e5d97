//! Statistics, as the dataclass `wsx.Statistics`.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use wsx_core::Statistics;

/// The fields that have several figures.
const MAPPINGS: [&str; 4] = ["refused", "connects_failed", "failures", "closes"];

/// A `wsx.Statistics`.
pub(crate) fn to_python<'py>(py: Python<'py>, counted: &Statistics) -> PyResult<Bound<'py, PyAny>> {
    let fields = PyDict::new(py);
    for name in MAPPINGS {
        fields.set_item(name, PyDict::new(py))?;
    }
    for figure in counted.figures() {
        let (name, value) = (figure.field, figure.value);
        match &figure.labels[..] {
            [] if name == "longest_callback" => fields.set_item(name, value as f64 / 1e9)?,
            [] => fields.set_item(name, value)?,
            labels => {
                let key = match labels {
                    [code] if name == "closes" => code.parse::<u16>().unwrap_or(0).into_pyobject(py)?.into_any(),
                    [label] => label.into_pyobject(py)?.into_any(),
                    labels => PyTuple::new(py, labels)?.into_any(),
                };
                if let Some(mapping) = fields.get_item(name)? {
                    mapping.set_item(key, value)?;
                }
            }
        }
    }
    py.import("wsx.statistics")?.getattr("Statistics")?.call((), Some(&fields))
}
