//! The engine's log, to a logger of Python's `logging`.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use wsx_core::log::{Level, Record};

/// The levels of `logging`.
const ERROR: i32 = 40;
const WARNING: i32 = 30;
const INFO: i32 = 20;
const DEBUG: i32 = 10;

/// How much a logger lets through now: what it would leave out is not made.
pub(crate) fn level_of(logger: &Bound<'_, PyAny>) -> PyResult<Level> {
    let least = logger.call_method0("getEffectiveLevel")?.extract::<i32>()?;
    let levels = [(DEBUG, Level::Debug), (INFO, Level::Information), (WARNING, Level::Warning), (ERROR, Level::Error)];
    Ok(levels.iter().find(|(number, _)| least <= *number).map_or(Level::Off, |(_, level)| *level))
}

/// Tells a logger. What logging itself raises is told to `sys.unraisablehook`.
pub(crate) fn tell(logger: &Py<PyAny>, record: &Record<'_>) {
    let level = match record.level {
        Level::Error => ERROR,
        Level::Warning => WARNING,
        Level::Information => INFO,
        _ => DEBUG,
    };
    Python::attach(|py| {
        let log = || -> PyResult<()> {
            let extra = PyDict::new(py);
            extra.set_item("topic", format!("{:?}", record.topic).to_lowercase())?;
            let keywords = PyDict::new(py);
            keywords.set_item("extra", extra)?;
            logger.bind(py).call_method("log", (level, "%s", record.message), Some(&keywords)).map(drop)
        };
        if let Err(error) = log() {
            error.write_unraisable(py, Some(logger.bind(py)));
        }
    });
}
