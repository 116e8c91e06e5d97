//! What the opening handshake tells a program.

use std::cell::{OnceCell, RefCell};
use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;
use std::ptr::null;

use wsx_core::{Headers, Opening, Request};

use crate::boundary::{answer, c_text, enter, invalid, needed, text};
use crate::callbacks::wsx_connection;

/// Texts handed to the program, each with a NUL, for as long as what they belong to is lent.
#[derive(Default)]
struct Texts(RefCell<Vec<CString>>);

impl Texts {
    fn keep(&self, text: impl Into<Vec<u8>>) -> *const c_char {
        self.keep_text(c_text(text))
    }

    fn keep_text(&self, text: CString) -> *const c_char {
        // The text itself does not move when the list grows.
        let pointer = text.as_ptr();
        self.0.borrow_mut().push(text);
        pointer
    }
}

/// An HTTP request, as on_request sees it; borrowed until the callback returns, and so is every text it answers with.
/// Texts have a NUL at their end. The functions that ask it answer NULL or 0 for what is not there.
pub struct wsx_request<'a> {
    pub(crate) request: &'a Request<'a>,
    texts: Texts,
    cookies: OnceCell<Pairs>,
    parameters: OnceCell<Pairs>,
}

/// Names and values, parsed when the first of them is asked for by its index.
type Pairs = Vec<(CString, CString)>;

impl<'a> wsx_request<'a> {
    pub(crate) fn new(request: &'a Request<'a>) -> Self {
        Self { request, texts: Texts::default(), cookies: OnceCell::new(), parameters: OnceCell::new() }
    }

    fn cookies(&self) -> &Pairs {
        let cookies = || self.request.cookies().map(|(name, value)| (c_text(name), c_text(value)));
        self.cookies.get_or_init(|| cookies().collect())
    }

    fn parameters(&self) -> &Pairs {
        let parameters = || self.request.query_parameters().map(|(name, value)| (decoded(&name), decoded(&value)));
        self.parameters.get_or_init(|| parameters().collect())
    }
}

/// A decoded text may have a NUL, which would end it early here: `admin%00x` would be `admin`.
fn decoded(text: &str) -> CString {
    c_text(text.replace('\0', "\u{fffd}"))
}

/// Writes the pair at an index.
fn write_pair(
    pairs: &Pairs,
    index: usize,
    what: &str,
    name: Option<&mut MaybeUninit<*const c_char>>,
    value: Option<&mut MaybeUninit<*const c_char>>,
) -> wsx_core::Result<()> {
    let (name, value) = (needed(name, "name")?, needed(value, "value")?);
    let pair = pairs.get(index).ok_or_else(|| invalid(format!("there is no {what} number {index}")))?;
    name.write(pair.0.as_ptr());
    value.write(pair.1.as_ptr());
    Ok(())
}

/// The opening handshake that made a connection open, as on_open sees it; borrowed until the callback returns, and so
/// is every text it answers with.
pub struct wsx_opening<'a> {
    request: Option<wsx_request<'a>>,
    headers: Headers<'a>,
    subprotocol: Option<&'a str>,
    texts: Texts,
}

impl<'a> wsx_opening<'a> {
    pub(crate) fn new(opening: &Opening<'a>) -> Self {
        Self {
            request: opening.request.map(wsx_request::new),
            headers: opening.headers,
            subprotocol: opening.subprotocol,
            texts: Texts::default(),
        }
    }
}

pub(crate) fn ask<'a>(
    request: Option<&'a wsx_request<'_>>,
    question: impl FnOnce(&'a Request<'a>) -> wsx_core::Result<Option<&'a str>>,
) -> *const c_char {
    answer(null(), || {
        let request = needed(request, "request")?;
        Ok(question(request.request)?.map_or(null(), |text| request.texts.keep(text)))
    })
}

/// The number the connection will have if it is accepted, or answered with a stream.
/// [loop thread, in on_request and on_open]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_request_connection(request: Option<&wsx_request<'_>>) -> wsx_connection {
    answer(0, || Ok(needed(request, "request")?.request.connection().id()))
}

/// Whether this is a valid request for a WebSocket, rather than a plain HTTP request.
/// [loop thread, in on_request and on_open]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_request_is_upgrade(request: Option<&wsx_request<'_>>) -> bool {
    answer(false, || Ok(needed(request, "request")?.request.is_upgrade()))
}

/// The method, as "GET". [loop thread, in on_request and on_open]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_request_method(request: Option<&wsx_request<'_>>) -> *const c_char {
    ask(request, |request| Ok(Some(request.method())))
}

/// The path as it came, percent signs not decoded, without the query. [loop thread, in on_request and on_open]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_request_path(request: Option<&wsx_request<'_>>) -> *const c_char {
    ask(request, |request| Ok(Some(request.path())))
}

/// The query as it came, without the question mark; NULL where there is none. [loop thread, in on_request and on_open]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_request_query(request: Option<&wsx_request<'_>>) -> *const c_char {
    ask(request, |request| Ok(request.query()))
}

/// Where the peer is: "192.0.2.1:50000", "[2001:db8::1]:50000", "unix:". [loop thread, in on_request and on_open]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_request_peer(request: Option<&wsx_request<'_>>) -> *const c_char {
    answer(null(), || {
        let request = needed(request, "request")?;
        Ok(request.texts.keep(request.request.peer().to_string()))
    })
}

/// The value of the first header of this name, without regard to case; NULL where there is none.
/// [loop thread, in on_request and on_open]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_request_header(request: Option<&wsx_request<'_>>, name: *const c_char) -> *const c_char {
    // SAFETY: the contract of the crate.
    ask(request, |request| unsafe { text(name, "name") }.map(|name| request.header(name)))
}

/// How many headers there are. [loop thread, in on_request and on_open]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_request_header_count(request: Option<&wsx_request<'_>>) -> usize {
    answer(0, || Ok(needed(request, "request")?.request.headers().iter().len()))
}

/// Name and value of the header at this index, from 0, in the order they came. The value may be any bytes but NUL.
/// [loop thread, in on_request and on_open]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_request_header_at(
    request: Option<&wsx_request<'_>>,
    index: usize,
    name: Option<&mut MaybeUninit<*const c_char>>,
    value: Option<&mut MaybeUninit<*const c_char>>,
) -> i32 {
    enter(|| {
        let (request, name, value) = (needed(request, "request")?, needed(name, "name")?, needed(value, "value")?);
        let header = request.request.headers().iter().nth(index);
        let header = header.ok_or_else(|| invalid(format!("there is no header number {index}")))?;
        name.write(request.texts.keep(header.0));
        value.write(request.texts.keep(header.1));
        Ok(())
    })
}

/// The value of the first cookie of this name, letter by letter, as it came (RFC 6265 section 5.4); NULL where there is
/// none. [loop thread, in on_request and on_open]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_request_cookie(request: Option<&wsx_request<'_>>, name: *const c_char) -> *const c_char {
    // SAFETY: the contract of the crate.
    ask(request, |request| unsafe { text(name, "name") }.map(|name| request.cookie(name)))
}

/// How many cookies there are; what is no cookie or no UTF-8 is left out. [loop thread, in on_request and on_open]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_request_cookie_count(request: Option<&wsx_request<'_>>) -> usize {
    answer(0, || Ok(needed(request, "request")?.cookies().len()))
}

/// Name and value of the cookie at this index, from 0, in the order they came. [loop thread, in on_request and on_open]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_request_cookie_at(
    request: Option<&wsx_request<'_>>,
    index: usize,
    name: Option<&mut MaybeUninit<*const c_char>>,
    value: Option<&mut MaybeUninit<*const c_char>>,
) -> i32 {
    enter(|| write_pair(needed(request, "request")?.cookies(), index, "cookie", name, value))
}

/// The value of the first parameter of this name in the query (application/x-www-form-urlencoded), with percent signs and
/// '+' decoded; empty where it has none, NULL where there is no such parameter. What is no UTF-8, and a NUL, comes as
/// U+FFFD. [loop thread, in on_request and on_open]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_request_query_parameter(
    request: Option<&wsx_request<'_>>,
    name: *const c_char,
) -> *const c_char {
    answer(null(), || {
        let request = needed(request, "request")?;
        // SAFETY: the contract of the crate.
        let name = unsafe { text(name, "name") }?;
        let value = request.request.query_parameter(name);
        Ok(value.map_or(null(), |value| request.texts.keep_text(decoded(&value))))
    })
}

/// How many parameters the query has. [loop thread, in on_request and on_open]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_request_query_parameter_count(request: Option<&wsx_request<'_>>) -> usize {
    answer(0, || Ok(needed(request, "request")?.parameters().len()))
}

/// Name and value of the query's parameter at this index, from 0, decoded, in the order they came.
/// [loop thread, in on_request and on_open]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_request_query_parameter_at(
    request: Option<&wsx_request<'_>>,
    index: usize,
    name: Option<&mut MaybeUninit<*const c_char>>,
    value: Option<&mut MaybeUninit<*const c_char>>,
) -> i32 {
    enter(|| write_pair(needed(request, "request")?.parameters(), index, "parameter", name, value))
}

/// The subprotocol that the client offers at this index, from 0, in its order; NULL past the last one.
/// [loop thread, in on_request and on_open]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_request_subprotocol_at(request: Option<&wsx_request<'_>>, index: usize) -> *const c_char {
    ask(request, |request| Ok(request.subprotocols().nth(index)))
}

/// The request that was accepted; NULL on a client connection. [loop thread, in on_open]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_opening_request<'a>(opening: Option<&'a wsx_opening<'a>>) -> *const wsx_request<'a> {
    answer(null(), || Ok(needed(opening, "opening")?.request.as_ref().map_or(null(), |request| request)))
}

/// The subprotocol agreed on; NULL where there is none. [loop thread, in on_open]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_opening_subprotocol(opening: Option<&wsx_opening<'_>>) -> *const c_char {
    answer(null(), || {
        let opening = needed(opening, "opening")?;
        Ok(opening.subprotocol.map_or(null(), |name| opening.texts.keep(name)))
    })
}

/// The value of the first header of this name, without regard to case, in what the peer sent: a client sees the
/// server's answer, a server the request. NULL where there is none. [loop thread, in on_open]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_opening_header(opening: Option<&wsx_opening<'_>>, name: *const c_char) -> *const c_char {
    answer(null(), || {
        let opening = needed(opening, "opening")?;
        // SAFETY: the contract of the crate.
        let name = unsafe { text(name, "name") }?;
        Ok(opening.headers.header(name).map_or(null(), |value| opening.texts.keep(value)))
    })
}
