//! What a request hook sees and answers, what `on_open` is told, and fragments.

use std::borrow::Cow;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use wsx_core::Headers;

use crate::connection::Connection;
use crate::errors::Raise;
use crate::options;
use crate::payload::{from_address, with_text_or_bytes};

/// Headers of an HTTP head: copied when they came, made an object of Python when it is asked for.
struct HeaderList {
    pairs: Vec<(String, Vec<u8>)>,
    object: PyOnceLock<Py<PyAny>>,
}

impl HeaderList {
    fn new(headers: Headers<'_>) -> Self {
        let pairs = headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { pairs, object: PyOnceLock::new() }
    }

    fn cookies(&self) -> impl Iterator<Item = (&str, &str)> {
        let fields = self.pairs.iter().filter(|(name, _)| name.eq_ignore_ascii_case("cookie"));
        fields.flat_map(|(_, value)| wsx_core::parse_cookies(value))
    }

    fn object(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let make = || -> PyResult<Py<PyAny>> {
            let pairs = self.pairs.iter().map(|(name, value)| (name, PyBytes::new(py, value))).collect::<Vec<_>>();
            let class = py.import("wsx.protocol")?.getattr("Headers")?;
            Ok(class.call_method1("decoded", (pairs,))?.unbind())
        };
        self.object.get_or_try_init(py, make).map(|object| object.clone_ref(py))
    }
}

/// An HTTP request that reached a listener.
#[pyclass(frozen, module = "wsx")]
pub(crate) struct Request {
    /// The connection this will be, if it is accepted or answered with a stream.
    #[pyo3(get)]
    connection: Py<Connection>,
    /// Where the peer is.
    #[pyo3(get)]
    remote_address: Py<PyAny>,
    /// The method.
    #[pyo3(get)]
    method: String,
    /// The path as it came, without the query.
    #[pyo3(get)]
    path: String,
    /// The query as it came, without the question mark.
    #[pyo3(get)]
    query: Option<String>,
    /// The subprotocols the client offers.
    #[pyo3(get)]
    subprotocols: Vec<String>,
    /// Whether this is a valid request for a WebSocket.
    #[pyo3(get)]
    is_upgrade: bool,
    /// Whether it came over TLS that ends here.
    #[pyo3(get)]
    is_secure: bool,
    /// The client's verified certificate and those of its issuers, in DER.
    #[pyo3(get)]
    peer_certificates: Py<PyTuple>,
    /// The name that the client asked for in the TLS handshake.
    #[pyo3(get)]
    server_name: Option<String>,
    headers: HeaderList,
}

impl Request {
    pub(crate) fn new(py: Python<'_>, request: &wsx_core::Request<'_>, connection: Py<Connection>) -> PyResult<Self> {
        let certificates = request.peer_certificates().iter().map(|der| PyBytes::new(py, der));
        Ok(Self {
            connection,
            remote_address: from_address(py, request.peer())?.unbind(),
            method: request.method().to_owned(),
            path: request.path().to_owned(),
            query: request.query().map(str::to_owned),
            subprotocols: request.subprotocols().map(str::to_owned).collect(),
            is_upgrade: request.is_upgrade(),
            is_secure: request.is_secure(),
            peer_certificates: PyTuple::new(py, certificates)?.unbind(),
            server_name: request.server_name().map(str::to_owned),
            headers: HeaderList::new(request.headers()),
        })
    }
}

#[pymethods]
impl Request {
    /// The headers.
    #[getter]
    fn headers(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.headers.object(py)
    }

    /// The cookies by their names; of several of one name the first.
    #[getter]
    fn cookies<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let cookies = PyDict::new(py);
        for (name, value) in self.headers.cookies() {
            if !cookies.contains(name)? {
                cookies.set_item(name, value)?;
            }
        }
        Ok(cookies)
    }

    /// The value of the first cookie of this name.
    #[pyo3(signature = (name, /))]
    fn cookie(&self, name: &str) -> Option<&str> {
        self.headers.cookies().find(|(one, _)| *one == name).map(|(_, value)| value)
    }

    /// The parameters of the query, as name and value, decoded.
    #[getter]
    fn query_parameters(&self) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
        wsx_core::parse_query(self.query.as_deref().unwrap_or_default()).collect()
    }

    /// The value of the first parameter of this name in the query, decoded.
    #[pyo3(signature = (name, /))]
    fn query_parameter(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut parameters = wsx_core::parse_query(self.query.as_deref().unwrap_or_default());
        parameters.find(|(one, _)| one == name).map(|(_, value)| value)
    }

    fn __repr__(&self) -> String {
        format!("<Request {} {}>", self.method, self.path)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.connection)
    }
}

/// The opening handshake that made a connection open.
#[pyclass(frozen, module = "wsx")]
pub(crate) struct Opening {
    /// Server: the client's request.
    #[pyo3(get)]
    request: Option<Py<Request>>,
    /// The subprotocol agreed on.
    #[pyo3(get)]
    subprotocol: Option<String>,
    headers: Option<HeaderList>,
}

impl Opening {
    pub(crate) fn new(py: Python<'_>, opening: &wsx_core::Opening<'_>, connection: &Py<Connection>) -> PyResult<Self> {
        let request = |request| Py::new(py, Request::new(py, request, connection.clone_ref(py))?);
        Ok(Self {
            request: opening.request.map(request).transpose()?,
            subprotocol: opening.subprotocol.map(str::to_owned),
            headers: opening.request.is_none().then(|| HeaderList::new(opening.headers)),
        })
    }
}

#[pymethods]
impl Opening {
    /// Client: the headers of the server's answer. Server: those of the request.
    #[getter]
    fn headers(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match (&self.headers, &self.request) {
            (Some(headers), _) => headers.object(py),
            (None, Some(request)) => request.get().headers.object(py),
            (None, None) => Ok(py.None()),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.request)
    }
}

/// The answer of a request hook.
#[pyclass(frozen, module = "wsx")]
pub(crate) struct Response {
    pub(crate) response: wsx_core::Response,
    pub(crate) keeps: Keeps,
}

/// What the door has to keep a connection's object for, that the program may have forgotten.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeps {
    Nothing,
    /// The stream that it begins, which hears an `on_close`.
    Stream,
    /// The request that waits for an answer.
    Request,
}

impl Response {
    fn new(
        py: Python<'_>,
        mut response: wsx_core::Response,
        keeps: Keeps,
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        for (name, value) in headers.map(options::headers).transpose()?.unwrap_or_default() {
            wsx_core::check_header(&name, &value).raise(py)?;
            response = response.header(&name, &value);
        }
        Ok(Self { response, keeps })
    }
}

#[pymethods]
impl Response {
    /// Open the WebSocket.
    #[staticmethod]
    #[pyo3(signature = (subprotocol = None, headers = None))]
    fn accept(py: Python<'_>, subprotocol: Option<&str>, headers: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let response = wsx_core::Response::accept();
        let response = match subprotocol {
            Some(name) => response.subprotocol(name),
            None => response,
        };
        Self::new(py, response, Keeps::Nothing, headers)
    }

    /// Answer later, with `request.connection.respond`.
    #[staticmethod]
    fn later() -> Self {
        Self { response: wsx_core::Response::later(), keeps: Keeps::Request }
    }

    /// Refuse, or answer, with this status and a body of plain text.
    #[staticmethod]
    #[pyo3(signature = (status, body = None, headers = None))]
    fn reject(
        py: Python<'_>,
        status: u16,
        body: Option<&Bound<'_, PyAny>>,
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let body = body.map(|body| with_text_or_bytes(body, <[u8]>::to_vec)).transpose()?.unwrap_or_default();
        Self::new(py, wsx_core::Response::reject(status, body), Keeps::Nothing, headers)
    }

    /// Answer with a page, or anything else that is whole.
    #[staticmethod]
    #[pyo3(signature = (body, content_type = "text/html; charset=utf-8", status = 200, headers = None))]
    fn page(
        body: &Bound<'_, PyAny>,
        content_type: &str,
        status: u16,
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        wsx_core::check_header("Content-Type", content_type).raise(body.py())?;
        let bytes = with_text_or_bytes(body, <[u8]>::to_vec)?;
        Self::new(body.py(), wsx_core::Response::whole(status, content_type, bytes), Keeps::Nothing, headers)
    }

    /// Answer with a body that stays open: write to `request.connection`.
    #[staticmethod]
    #[pyo3(signature = (content_type, headers = None))]
    fn stream(py: Python<'_>, content_type: &str, headers: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        wsx_core::check_header("Content-Type", content_type).raise(py)?;
        Self::new(py, wsx_core::Response::stream(content_type), Keeps::Stream, headers)
    }
}

/// One frame of a message, where `deliver_fragments` asks for them.
#[pyclass(frozen, module = "wsx")]
pub(crate) struct Fragment {
    /// The payload of this frame.
    #[pyo3(get)]
    payload: Py<PyBytes>,
    /// Whether the message is text.
    #[pyo3(get)]
    is_text: bool,
    /// First frame of its message.
    #[pyo3(get)]
    is_first: bool,
    /// Last frame of its message.
    #[pyo3(get)]
    is_last: bool,
}

impl Fragment {
    pub(crate) fn new(py: Python<'_>, fragment: wsx_core::Fragment<'_>) -> Self {
        Self {
            payload: PyBytes::new(py, fragment.payload).unbind(),
            is_text: fragment.is_text,
            is_first: fragment.is_first,
            is_last: fragment.is_last,
        }
    }
}
