//! Request and response heads, with the guards against oversized and smuggled ones (RFC 9112), and HTTP answers.
//!
//! The engine reads no HTTP bodies and keeps no HTTP connection alive: one head comes, one answer goes, and what is
//! ambiguous about where the head or a body would end is refused.

use std::borrow::Cow;
use std::mem::MaybeUninit;

use httparse::{Header, ParserConfig, Status};
use memchr::memchr_iter;

use crate::error::{Figure, Limit};
use crate::statistics::Refusal;

/// How a bad request is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpError {
    /// The status.
    pub status: u16,
    /// One sentence for people: the body.
    pub message: Cow<'static, str>,
    /// The limit that the head has exceeded, if that is what is wrong.
    pub limit: Option<Limit>,
    /// What it is counted as.
    pub cause: Refusal,
}

impl HttpError {
    /// An answer with this status and sentence.
    #[cold]
    pub fn new(status: u16, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: message.into(), limit: None, cause: Refusal::of_status(status) }
    }

    /// An answer to a head that is too large.
    #[cold]
    fn too_large(limit: Limit, message: String) -> Self {
        Self { limit: Some(limit), ..Self::new(431, message) }
    }

    #[cold]
    fn bad(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, message)
    }
}

/// A request's head, checked.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'h, 'b> {
    /// The method, as `GET`.
    pub method: &'b str,
    /// Path and query, beginning with `/`.
    pub target: &'b str,
    /// The minor version of HTTP/1: 0 or 1.
    pub version: u8,
    /// The headers, in order.
    pub headers: &'h [Header<'b>],
}

/// A response's head.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'h, 'b> {
    /// The status.
    pub status: u16,
    /// The reason phrase, which may be empty.
    pub reason: &'b str,
    /// The minor version of HTTP/1: 0 or 1.
    pub version: u8,
    /// The headers, in order.
    pub headers: &'h [Header<'b>],
}

/// The most headers that a head may be allowed.
pub const MAX_HEADERS: usize = 256;
/// Within so many bytes a first line must have its first space.
const MAX_FIRST_WORD: usize = 32;

/// Looks for the end of a head, and returns the index after its empty line; `None` where more bytes are needed.
///
/// `scanned` is where the last call stopped, at first 0, so that a head that drips in costs linear time. Bytes after
/// the head do not count for `max_head`, which is not 0. Serves requests and responses.
///
/// # Errors
/// 431 where the head is longer than `max_head`; 400, at once, where the bytes are not HTTP, or a line does not end in
/// CR LF: a lone LF is where implementations disagree on what is a line (RFC 9112 section 2.2 allows to refuse it).
pub fn scan_head(bytes: &[u8], scanned: &mut usize, max_head: usize) -> Result<Option<usize>, HttpError> {
    if *scanned < MAX_FIRST_WORD {
        check_first_word(bytes)?;
    }
    let window = &bytes[..bytes.len().min(max_head)];
    let new = (*scanned).min(window.len());
    for ahead in memchr_iter(b'\n', &window[new..]) {
        let line_end = new + ahead;
        match window[..line_end] {
            [.., b'\r', b'\n', b'\r'] => return Ok(Some(line_end + 1)),
            [.., b'\r'] => {}
            _ => return Err(HttpError::bad("a line of the HTTP head ends in LF without CR")),
        }
    }
    *scanned = window.len();
    if bytes.len() >= max_head {
        let message = format!("the HTTP head exceeds max_head ({max_head} bytes)");
        return Err(HttpError::too_large(Limit::new("max_head", max_head), message));
    }
    Ok(None)
}

/// Whether these can be the first bytes of a method, or of `HTTP/1.1`: a TLS ClientHello is told from them at once.
fn check_first_word(bytes: &[u8]) -> Result<(), HttpError> {
    let begin = &bytes[..bytes.len().min(MAX_FIRST_WORD)];
    let word = begin.split(|&byte| byte == b' ').next().unwrap_or_default();
    if begin.starts_with(b"\x16\x03") {
        return Err(HttpError::bad("this is TLS, and the port speaks plain HTTP"));
    }
    let is_word = word.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(byte));
    if !is_word || word.len() == MAX_FIRST_WORD || begin.first() == Some(&b' ') {
        return Err(HttpError::bad("this is not HTTP"));
    }
    Ok(())
}

/// Parses and checks the head that [`scan_head`] has found; `storage` bounds the number of headers.
///
/// # Errors
/// 431 for too many headers, else 400: what httparse refuses (obs-fold, space before a colon, control characters), a
/// target that is no path, a Host that is missing in HTTP/1.1, repeated or malformed, and any announced body.
pub fn parse_request<'h, 'b>(
    head: &'b [u8],
    storage: &'h mut [MaybeUninit<Header<'b>>],
) -> Result<RequestHead<'h, 'b>, HttpError> {
    let limit = storage.len();
    let mut request = httparse::Request::new(&mut []);
    let end = request.parse_with_uninit_headers(head, storage).map_err(|error| refuse(error, "request", limit))?;
    let (Status::Complete(end), Some(method), Some(path), Some(version)) =
        (end, request.method, request.path, request.version)
    else {
        return Err(HttpError::bad("the HTTP head is cut short"));
    };
    if end != head.len() {
        return Err(HttpError::bad("the HTTP head ends before its empty line"));
    }
    let headers: &'h [Header<'b>] = request.headers;
    check_host(headers, version)?;
    check_no_body(headers)?;
    Ok(RequestHead { method, target: origin_form(path)?, version, headers })
}

/// Whether a name is this one, but for case; `lower` is lower-case letters and dashes. No other character of a token, or of
/// a header's value, differs from one of these by the bit that is ignored; and all bytes are compared at once.
#[inline(always)]
fn is(name: &[u8], lower: &str) -> bool {
    let differs = |differs, (byte, lower): (&u8, u8)| differs | (byte | 0x20) ^ lower;
    name.len() == lower.len() && name.iter().zip(lower.bytes()).fold(0, differs) == 0
}

/// The values of all headers of this name, in lower case, also those that are not text.
#[inline(always)]
pub(crate) fn values<'a, 'b>(headers: &'a [Header<'b>], name: &'a str) -> impl Iterator<Item = &'b [u8]> + 'a {
    headers.iter().filter(move |header| is(header.name.as_bytes(), name)).map(|header| header.value)
}

/// Whether a comma-separated list, which may span several headers, names this; both names are in lower case.
#[inline(always)]
pub(crate) fn lists(headers: &[Header<'_>], name: &str, item: &str) -> bool {
    let is_item = |one: &[u8]| is(one.trim_ascii(), item);
    for value in values(headers, name) {
        // Nearly always it is all there is.
        if is_item(value) || value.split(|byte| *byte == b',').any(is_item) {
            return true;
        }
    }
    false
}

fn refuse(error: httparse::Error, what: &str, max_headers: usize) -> HttpError {
    match error {
        httparse::Error::TooManyHeaders => {
            let limit = Limit::new("max_headers", Figure::Count(max_headers as u64));
            HttpError::too_large(limit, format!("the HTTP head has more headers than max_headers ({max_headers})"))
        }
        _ => HttpError::bad(format!("malformed HTTP {what}: {error}")),
    }
}

/// RFC 9112 section 3.2: exactly one Host, though HTTP/1.0 need not have one.
fn check_host(headers: &[Header<'_>], version: u8) -> Result<(), HttpError> {
    let is_host = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'?' | b'#' | b'@' | b',' | b'\\');
    let mut hosts = values(headers, "host");
    match (hosts.next(), hosts.next()) {
        (None, _) if version == 0 => Ok(()),
        (None, _) => Err(HttpError::bad("the header Host is missing")),
        (Some(_), Some(_)) => Err(HttpError::bad("the header Host is repeated")),
        (Some(host), None) if host.iter().all(|byte| is_host(*byte)) => Ok(()),
        (Some(_), None) => Err(HttpError::bad("the header Host is malformed")),
    }
}

/// A body would be read as frames, or left for the next request: the means of request smuggling.
fn check_no_body(headers: &[Header<'_>]) -> Result<(), HttpError> {
    if values(headers, "transfer-encoding").next().is_some()
        || values(headers, "content-length").any(|value| value != b"0")
    {
        return Err(HttpError::bad("requests with a body are not served here"));
    }
    Ok(())
}

/// The path and query of a target in origin-form, or in the absolute-form that proxies use (RFC 9112 section 3.2).
fn origin_form(target: &str) -> Result<&str, HttpError> {
    let parts = if target.starts_with('/') { None } else { target.split_once("://") };
    let path = match parts {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("ws") => {
            rest.find(['/', '?']).map_or("/", |path| &rest[path..])
        }
        _ => target,
    };
    if !path.starts_with('/') || path.contains('#') {
        return Err(HttpError::bad("the target of the request is not a path"));
    }
    Ok(path)
}

/// Parses a server's answer.
///
/// # Errors
/// What is wrong; the status is of no use then.
pub fn parse_response<'h, 'b>(
    head: &'b [u8],
    storage: &'h mut [MaybeUninit<Header<'b>>],
) -> Result<ResponseHead<'h, 'b>, HttpError> {
    let limit = storage.len();
    let mut response = httparse::Response::new(&mut []);
    let end = ParserConfig::default().parse_response_with_uninit_headers(&mut response, head, storage);
    match end {
        Ok(Status::Complete(end)) if end == head.len() => {}
        Ok(_) => return Err(HttpError::bad("malformed HTTP response: its head ends in the wrong place")),
        Err(error) => return Err(refuse(error, "response", limit)),
    }
    let (Some(status), Some(version)) = (response.code, response.version) else {
        return Err(HttpError::bad("malformed HTTP response: it has no status"));
    };
    Ok(ResponseHead { status, reason: response.reason.unwrap_or_default(), version, headers: response.headers })
}

/// The body of an answer.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// These bytes.
    Whole(&'a [u8]),
    /// None, in answer to HEAD: only how long it would be.
    Omitted(usize),
    /// Chunks, see [`write_chunk`] (HTTP/1.1 only).
    Chunked,
    /// All bytes until the connection ends: a stream for HTTP/1.0.
    UntilClose,
}

/// The end of a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends a final answer: status line, the given headers (checked by [`check_header`](crate::event::check_header)),
/// those of the body, and `Connection: close`; then the body, as far as it is there.
///
/// A 426 names the protocol to upgrade to, and the version of it that is spoken (RFC 9110 section 15.5.22, RFC 6455
/// section 4.4).
pub fn write_response<N: AsRef<str>, V: AsRef<str>>(
    out: &mut Vec<u8>,
    status: u16,
    headers: &[(N, V)],
    body: Body<'_>,
) {
    write_status_line(out, status);
    write_headers(out, headers);
    // RFC 9110 sections 15.3.5 and 15.4.5: these end with their head.
    let body = if matches!(status, 204 | 304) { None } else { Some(body) };
    match body {
        Some(Body::Whole(bytes)) => write_header(out, "Content-Length", &bytes.len().to_string()),
        Some(Body::Omitted(length)) => write_header(out, "Content-Length", &length.to_string()),
        Some(Body::Chunked) => write_header(out, "Transfer-Encoding", "chunked"),
        Some(Body::UntilClose) | None => {}
    }
    if status == 426 {
        write_header(out, "Upgrade", "websocket");
        write_header(out, "Sec-WebSocket-Version", "13");
        write_header(out, "Connection", "upgrade, close");
    } else {
        write_header(out, "Connection", "close");
    }
    out.extend_from_slice(b"\r\n");
    if let Some(Body::Whole(bytes)) = body {
        out.extend_from_slice(bytes);
    }
}

/// Appends a chunk (RFC 9112 section 7.1); nothing for no bytes, for an empty chunk ends the body.
pub fn write_chunk(out: &mut Vec<u8>, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
        out.extend_from_slice(bytes);
        out.extend_from_slice(b"\r\n");
    }
}

pub(crate) fn write_status_line(out: &mut Vec<u8>, status: u16) {
    out.extend_from_slice(format!("HTTP/1.1 {status} {}\r\n", reason_phrase(status)).as_bytes());
}

pub(crate) fn write_headers<N: AsRef<str>, V: AsRef<str>>(out: &mut Vec<u8>, headers: &[(N, V)]) {
    for (name, value) in headers {
        write_header(out, name.as_ref(), value.as_ref());
    }
}

pub(crate) fn write_header(out: &mut Vec<u8>, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// The reason phrase of a status; empty for one that has none (it may be, RFC 9112 section 4).
pub fn reason_phrase(status: u16) -> &'static str {
    tungstenite::http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
