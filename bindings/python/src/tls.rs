//! `wsx.TLS` to the engine's choices for TLS.

use std::path::PathBuf;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyString};
use wsx_core::{Certificate, ClientAuth, Pem, Tls};

use crate::options::{field, is_a, strings};

/// The keyword `ssl` of a function: for `connect` True is what `wss://` means anyway.
pub(crate) fn keyword(value: &Bound<'_, PyAny>, function: &str) -> PyResult<Option<Tls>> {
    let is_default = function == "connect" && value.cast::<PyBool>().is_ok_and(|flag| flag.is_true());
    if value.is_none() || is_default { Ok(None) } else { tls(value, function).map(Some) }
}

/// The choices that a `wsx.TLS` makes, for this function.
pub(crate) fn tls(value: &Bound<'_, PyAny>, function: &str) -> PyResult<Tls> {
    if !is_a(value, "TLS")? {
        return Err(no_tls(value, function));
    }
    let mut tls = Tls::default();
    let cert = field(value, "cert", |cert| optional(cert, pem))?;
    let key = field(value, "key", |key| optional(key, pem))?;
    match (cert, key) {
        (Some(chain), Some(key)) => tls.certificates.push(Certificate { chain, key }),
        (None, None) => {}
        (Some(_), None) => return Err(PyValueError::new_err("cert is given without its key")),
        (None, Some(_)) => return Err(PyValueError::new_err("key is given without its cert")),
    }
    tls.certificates.extend(field(value, "certificates", certificates)?);
    tls.ca = field(value, "ca", |ca| optional(ca, pem))?;
    tls.client_auth = field(value, "client_auth", client_auth)?;
    tls.server_name = field(value, "server_name", |name| name.extract())?;
    tls.alpn = field(value, "alpn", strings)?;
    tls.danger_accept_invalid_certificates = field(value, "danger_accept_invalid_certificates", |flag| flag.extract())?;
    Ok(tls)
}

/// What is to be given instead of something else.
#[cold]
fn no_tls(value: &Bound<'_, PyAny>, function: &str) -> PyErr {
    let py = value.py();
    let is_context =
        py.import("ssl").and_then(|ssl| value.is_instance(&ssl.getattr("SSLContext")?)).unwrap_or_default();
    let what = match (is_context, value.get_type().name()) {
        (true, _) => "a wsx.TLS is expected: the keys of an ssl.SSLContext cannot be read out of it".to_owned(),
        (false, Ok(name)) => format!("a wsx.TLS is expected, not {name}"),
        (false, Err(error)) => return error,
    };
    PyTypeError::new_err(match function {
        "connect" => {
            format!("{what}. Write wsx.TLS(ca=\"ca.pem\"), or nothing to trust the issuers that the system trusts")
        }
        _ => format!("{what}. Write wsx.TLS(cert=\"cert.pem\", key=\"key.pem\")"),
    })
}

fn optional<'py, T>(
    value: &Bound<'py, PyAny>,
    read: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<T>,
) -> PyResult<Option<T>> {
    if value.is_none() { Ok(None) } else { read(value).map(Some) }
}

/// The text itself as bytes, or where its file is.
fn pem(value: &Bound<'_, PyAny>) -> PyResult<Pem> {
    if let Ok(text) = value.cast::<PyBytes>() {
        return Ok(text.as_bytes().to_vec().into());
    }
    // Taken for a path it would show a private key to whoever reads the error.
    if value.cast::<PyString>().is_ok_and(|text| text.to_string_lossy().contains("-----BEGIN ")) {
        return Err(PyTypeError::new_err("a str is the path of a file: give a text in PEM as bytes, by its encode()"));
    }
    value.extract::<PathBuf>().map(Pem::from)
}

fn certificates(value: &Bound<'_, PyAny>) -> PyResult<Vec<Certificate>> {
    let certificate = |pair: Bound<'_, PyAny>| {
        let (chain, key) = pair
            .extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()
            .map_err(|_| PyTypeError::new_err("pairs of a certificate and its key are expected"))?;
        Ok(Certificate { chain: pem(&chain)?, key: pem(&key)? })
    };
    value.try_iter()?.map(|pair| certificate(pair?)).collect()
}

fn client_auth(value: &Bound<'_, PyAny>) -> PyResult<ClientAuth> {
    Ok(match value.extract::<&str>()? {
        "none" => ClientAuth::None,
        "optional" => ClientAuth::Optional,
        "required" => ClientAuth::Required,
        other => return Err(PyValueError::new_err(format!("'none', 'optional' or 'required', not '{other}'"))),
    })
}
