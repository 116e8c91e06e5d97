//! Keywords to options: the names are those of `wsx_core::Options`, the defaults are its own.
//!
//! Timeouts are seconds, and None is the engine's zero: off, or no limit.

use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyMapping, PyString};
use wsx_core::{BacklogPolicy, Compression, LoopOptions, Options, Origins};

use crate::tls;

/// The options that these keywords ask for.
pub(crate) fn options(keywords: Option<&Bound<'_, PyDict>>, function: &str) -> PyResult<Options> {
    let mut options = Options::default();
    for (name, value) in keywords.into_iter().flatten() {
        let name = name.cast::<PyString>()?.to_str()?.to_owned();
        set(&mut options, &name, &value, function).map_err(|error| about(value.py(), &name, error))?;
    }
    Ok(options)
}

fn set(options: &mut Options, name: &str, value: &Bound<'_, PyAny>, function: &str) -> PyResult<()> {
    match name {
        "max_message" => options.max_message = count(value)?,
        "max_fragments" => options.max_fragments = count(value)?,
        "deliver_fragments" => options.deliver_fragments = value.extract()?,
        "max_head" => options.max_head = count(value)?,
        "max_headers" => options.max_headers = count(value)?,
        "handshake_timeout" => options.handshake_timeout = timeout(value)?,
        "ping_interval" => options.ping_interval = timeout(value)?,
        "pong_timeout" => options.pong_timeout = timeout(value)?,
        "close_timeout" => options.close_timeout = timeout(value)?,
        "progress_timeout" => options.progress_timeout = timeout(value)?,
        "backlog_limit" => options.backlog_limit = count(value)?,
        "backlog_policy" => options.backlog_policy = backlog_policy(value)?,
        "subprotocols" => options.subprotocols = strings(value)?,
        "max_topics" => options.max_topics = value.extract()?,
        "max_topic_name" => options.max_topic_name = count(value)?,
        "compression" => options.compression = compression(value)?,
        "no_delay" => options.no_delay = value.extract()?,
        "keep_alive_idle" => options.keep_alive_idle = timeout(value)?,
        "keep_alive_interval" => options.keep_alive_interval = timeout(value)?,
        "keep_alive_count" => options.keep_alive_count = count(value)?,
        "ssl" => options.tls = tls::keyword(value, function)?,
        "origins" => options.origins = origins(value)?,
        "path" => options.path = value.extract()?,
        "max_connections" => options.max_connections = count(value)?,
        "max_connections_per_address" => options.max_connections_per_address = count(value)?,
        "listen_backlog" => options.listen_backlog = value.extract()?,
        "reuse_port" => options.reuse_port = value.extract()?,
        "headers" => options.headers = headers(value)?,
        "proxy" => proxy(options, value)?,
        "max_redirects" => options.max_redirects = count(value)?,
        "connect_timeout" => options.connect_timeout = timeout(value)?,
        _ => return Err(PyTypeError::new_err(format!("{function}() got an unexpected keyword argument '{name}'"))),
    }
    Ok(())
}

/// The options of a loop that these keywords ask for.
pub(crate) fn loop_options(keywords: Option<&Bound<'_, PyDict>>) -> PyResult<LoopOptions> {
    let mut options = LoopOptions::default();
    for (name, value) in keywords.into_iter().flatten() {
        let name = name.cast::<PyString>()?.to_str()?.to_owned();
        let number = match name.as_str() {
            "max_commands" => &mut options.max_commands,
            "max_command_bytes" => &mut options.max_command_bytes,
            "receive_buffer" => &mut options.receive_buffer,
            "measure_callbacks" => {
                options.measure_callbacks = value.extract().map_err(|error| about(value.py(), &name, error))?;
                continue;
            }
            _ => {
                return Err(PyTypeError::new_err(format!("EventLoop() got an unexpected keyword argument '{name}'")));
            }
        };
        *number = value.extract().map_err(|error| about(value.py(), &name, error))?;
    }
    Ok(options)
}

/// Whether this is an object of a class of `wsx.options`.
pub(crate) fn is_a(value: &Bound<'_, PyAny>, class: &str) -> PyResult<bool> {
    value.is_instance(&value.py().import("wsx.options")?.getattr(class)?)
}

/// What an attribute of such an object says. An error has the attribute's name in front.
pub(crate) fn field<'py, T>(
    object: &Bound<'py, PyAny>,
    name: &str,
    read: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<T>,
) -> PyResult<T> {
    read(&object.getattr(name)?).map_err(|error| about(object.py(), name, error))
}

/// An error of a value, with the name of its keyword in front.
fn about(py: Python<'_>, name: &str, error: PyErr) -> PyErr {
    let text = error.value(py).to_string();
    if text.contains("unexpected keyword argument") {
        return error;
    }
    if error.is_instance_of::<PyTypeError>(py) {
        PyTypeError::new_err(format!("{name}: {text}"))
    } else {
        PyValueError::new_err(format!("{name}: {text}"))
    }
}

/// A size or a number; None is 0, no limit.
pub(crate) fn count<'py, N>(value: &Bound<'py, PyAny>) -> PyResult<N>
where
    N: for<'a> FromPyObject<'a, 'py, Error = PyErr> + Default,
{
    if value.is_none() { Ok(N::default()) } else { value.extract() }
}

/// Seconds; None is 0, off.
pub(crate) fn timeout(value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    if value.is_none() { Ok(Duration::ZERO) } else { seconds(value.extract()?) }
}

/// Seconds as a duration. What is more than nothing stays so: the engine counts milliseconds, and takes 0 for off.
pub(crate) fn seconds(seconds: f64) -> PyResult<Duration> {
    let duration = Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err(format!("{seconds} is not a number of seconds")))?;
    Ok(if duration.is_zero() { duration } else { duration.max(Duration::from_millis(1)) })
}

fn backlog_policy(value: &Bound<'_, PyAny>) -> PyResult<BacklogPolicy> {
    Ok(match value.extract::<&str>()? {
        "close" => BacklogPolicy::Close,
        "drop" => BacklogPolicy::Drop,
        "refuse" => BacklogPolicy::Refuse,
        "pause" => BacklogPolicy::Pause,
        other => return Err(PyValueError::new_err(format!("'close', 'drop', 'refuse' or 'pause', not '{other}'"))),
    })
}

fn compression(value: &Bound<'_, PyAny>) -> PyResult<Option<Compression>> {
    const CHOICES: &str = "None, 'deflate' or a wsx.Deflate";
    let mut compression = Compression::default();
    if value.is_none() {
        return Ok(None);
    }
    if let Ok(name) = value.cast::<PyString>() {
        return match name.to_str()? {
            "deflate" => Ok(Some(compression)),
            other => Err(PyValueError::new_err(format!("{CHOICES}, not '{other}'"))),
        };
    }
    if !is_a(value, "Deflate")? {
        return Err(PyTypeError::new_err(format!("{CHOICES}, not {}", value.get_type().name()?)));
    }
    compression.level = field(value, "level", |level| level.extract())?;
    compression.threshold = field(value, "threshold", count)?;
    compression.server_no_context_takeover = field(value, "server_no_context_takeover", |flag| flag.extract())?;
    compression.client_no_context_takeover = field(value, "client_no_context_takeover", |flag| flag.extract())?;
    compression.server_max_window_bits = field(value, "server_max_window_bits", |bits| bits.extract())?;
    compression.client_max_window_bits = field(value, "client_max_window_bits", |bits| bits.extract())?;
    Ok(Some(compression))
}

/// True is that of the environment, as in `websockets`.
fn proxy(options: &mut Options, value: &Bound<'_, PyAny>) -> PyResult<()> {
    options.proxy_from_environment = value.is(PyBool::new(value.py(), true));
    options.proxy =
        if options.proxy_from_environment { None } else { value.extract::<Option<String>>()?.map(Into::into) };
    Ok(())
}

fn origins(value: &Bound<'_, PyAny>) -> PyResult<Origins> {
    if !value.is_instance_of::<PyString>() {
        return Ok(Origins::List(strings(value)?));
    }
    Ok(match value.extract::<&str>()? {
        "same-host" => Origins::SameHost,
        "any" => Origins::Any,
        other => return Err(PyValueError::new_err(format!("'same-host', 'any' or a list of origins, not '{other}'"))),
    })
}

pub(crate) fn strings(value: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    if value.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err("a list of str is expected, not one str"));
    }
    value.try_iter()?.map(|item| item?.extract()).collect()
}

/// Names and values, from a mapping or from pairs.
pub(crate) fn headers(value: &Bound<'_, PyAny>) -> PyResult<Vec<(String, String)>> {
    let pairs = match value.getattr_opt("raw_items")? {
        Some(raw_items) => raw_items.call0()?,
        None => match value.cast::<PyMapping>() {
            Ok(mapping) => mapping.items()?.into_any(),
            Err(_) => value.clone(),
        },
    };
    pairs.try_iter()?.map(|pair| pair?.extract()).collect()
}
