//! The opening handshake of both roles (RFC 6455 section 4): requests, answers, subprotocols.

use std::borrow::Cow;

use httparse::Header;
use tungstenite::handshake::derive_accept_key;

use crate::config::Options;
use crate::error::{Error, Failure, FailureKind, Stage};
use crate::event::{Headers, check_header, is_token};
use crate::protocol::credentials::Credentials;
use crate::protocol::deflate::{self, Agreement};
use crate::protocol::http::{self, Body, HttpError, RequestHead, ResponseHead};
use crate::protocol::url::Url;

/// What a request asks for: `Some` is the key of a valid request for a WebSocket, `None` a plain GET or HEAD, one with
/// neither `Upgrade` nor any header of WebSocket's.
///
/// # Errors
/// The answer to anything else: 405, 426 or 400.
pub fn check_request<'b>(head: &RequestHead<'_, 'b>) -> Result<Option<&'b [u8]>, HttpError> {
    let headers = head.headers;
    let has_upgrade = http::values(headers, "upgrade").next().is_some();
    let is_plain = !has_upgrade && !headers.iter().any(|header| is_websocket_header(header.name));
    if head.method != "GET" && !(is_plain && head.method == "HEAD") {
        return Err(HttpError::new(405, "the method is not served here; allowed are GET and HEAD"));
    }
    if is_plain {
        return Ok(None);
    }
    if !has_upgrade {
        return Err(HttpError::new(426, "the header Upgrade is missing: this is a WebSocket"));
    }
    if head.version < 1 {
        return Err(HttpError::new(400, "a WebSocket is opened by HTTP/1.1"));
    }
    if !http::lists(headers, "upgrade", "websocket") {
        return Err(HttpError::new(400, "the header Upgrade does not name websocket"));
    }
    if !http::lists(headers, "connection", "upgrade") {
        return Err(HttpError::new(400, "the header Connection does not name upgrade"));
    }
    let version = only(headers, "sec-websocket-version")?;
    if version != Some(b"13") {
        return Err(HttpError::new(426, "only version 13 of the WebSocket protocol is spoken"));
    }
    match only(headers, "sec-websocket-key")? {
        Some(key) if is_key(key) => Ok(Some(key)),
        Some(_) => Err(HttpError::new(400, "the header Sec-WebSocket-Key is not 16 bytes in base64")),
        None => Err(HttpError::new(400, "the header Sec-WebSocket-Key is missing")),
    }
}

fn is_websocket_header(name: &str) -> bool {
    name.get(..14).is_some_and(|begin| begin.eq_ignore_ascii_case("sec-websocket-"))
}

/// The value of a header that must not be repeated.
fn only<'b>(headers: &[Header<'b>], name: &'static str) -> Result<Option<&'b [u8]>, HttpError> {
    let mut values = http::values(headers, name);
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(HttpError::new(400, format!("the header {name} is repeated"))),
    }
}

/// 16 bytes in base64 are 22 characters and two signs of padding. The last four bits, which mean nothing, may be set.
fn is_key(value: &[u8]) -> bool {
    const IS_BASE64: [bool; 256] = {
        let (mut table, mut byte) = ([false; 256], 0);
        while byte < 256 {
            table[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'+' | b'/');
            byte += 1;
        }
        table
    };
    let digits = value.strip_suffix(b"==").and_then(|digits| <&[u8; 22]>::try_from(digits).ok());
    digits.is_some_and(|digits| digits.iter().fold(true, |all, byte| all & IS_BASE64[usize::from(*byte)]))
}

/// The first of `supported` that the client offers (RFC 6455 section 4.2.2); names are compared letter by letter.
pub fn choose_subprotocol<'o>(headers: Headers<'_>, supported: &'o [String]) -> Option<&'o str> {
    supported.iter().map(String::as_str).find(|name| headers.list("sec-websocket-protocol").any(|offer| offer == *name))
}

/// Appends the answer that opens a WebSocket. The further headers have been checked by [`check_header`].
pub fn write_accept(
    out: &mut Vec<u8>,
    key: &[u8],
    subprotocol: Option<&str>,
    compression: Option<Agreement>,
    headers: &[(String, String)],
) {
    const BEGIN: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: ";
    out.reserve(256);
    out.extend_from_slice(BEGIN);
    out.extend_from_slice(derive_accept_key(key).as_bytes());
    out.extend_from_slice(b"\r\n");
    if let Some(subprotocol) = subprotocol {
        http::write_header(out, "Sec-WebSocket-Protocol", subprotocol);
    }
    if let Some(compression) = compression {
        http::write_header(out, "Sec-WebSocket-Extensions", &compression.to_string());
    }
    http::write_headers(out, headers);
    out.extend_from_slice(b"\r\n");
}

/// Appends the answer to a bad request: a page of plain text that tells the message.
pub fn error_response(out: &mut Vec<u8>, error: &HttpError) {
    let mut headers = vec![("Content-Type", "text/plain; charset=utf-8")];
    if error.status == 405 {
        headers.push(("Allow", "GET, HEAD"));
    }
    http::write_response(out, error.status, &headers, Body::Whole(format!("{}\n", error.message).as_bytes()));
}

/// Appends a client's request (RFC 6455 section 4.1). An Authorization of the program's own goes before what the URL says.
///
/// # Errors
/// [`Error::InvalidArgument`] for headers or subprotocols that cannot be sent; then nothing is written.
pub fn write_request(out: &mut Vec<u8>, url: &Url, key: &str, options: &Options) -> Result<(), Error> {
    for (name, value) in &options.headers {
        check_header(name, value)?;
    }
    check_subprotocols(&options.subprotocols)?;
    out.extend_from_slice(format!("GET {} HTTP/1.1\r\n", url.target).as_bytes());
    http::write_header(out, "Host", &url.authority);
    http::write_header(out, "Upgrade", "websocket");
    http::write_header(out, "Connection", "Upgrade");
    http::write_header(out, "Sec-WebSocket-Key", key);
    http::write_header(out, "Sec-WebSocket-Version", "13");
    if !options.subprotocols.is_empty() {
        http::write_header(out, "Sec-WebSocket-Protocol", &options.subprotocols.join(", "));
    }
    if let Some(compression) = &options.compression {
        http::write_header(out, "Sec-WebSocket-Extensions", &deflate::offer(compression));
    }
    let has_own = options.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    if let Some(Ok(basic)) = url.credentials.as_ref().filter(|_| !has_own).map(Credentials::basic) {
        http::write_header(out, "Authorization", &basic);
    }
    http::write_headers(out, &options.headers);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Whether these can be the subprotocols of a program: tokens, each one once (RFC 6455 section 4.1).
pub fn check_subprotocols(names: &[String]) -> Result<(), Error> {
    for (index, name) in names.iter().enumerate() {
        if !is_token(name) {
            return Err(Error::invalid(format!("{name:?} is not the name of a subprotocol")));
        }
        if names[..index].contains(name) {
            return Err(Error::invalid(format!("the subprotocol {name} is named twice")));
        }
    }
    Ok(())
}

/// What a server's answer agrees to, if anything: it may leave each choice out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The subprotocol.
    pub subprotocol: Option<String>,
    /// How messages may be compressed.
    pub compression: Option<Agreement>,
}

/// Checks the server's answer to a request with this key (RFC 6455 section 4.1), and returns what was agreed on.
///
/// # Errors
/// What is wrong with the answer, and its status.
pub fn check_response(head: &ResponseHead<'_, '_>, key: &str, options: &Options) -> Result<Agreed, Failure> {
    let fail = |kind, message: Cow<'static, str>| {
        let mut failure = Failure::new(Stage::Http, kind, message);
        failure.http_status = Some(head.status);
        failure
    };
    if head.status != 101 {
        let message = format!("the server answered {} {} instead of opening the WebSocket", head.status, head.reason);
        return Err(fail(FailureKind::Refused, message.into()));
    }
    let broken = |message: &'static str| Err(fail(FailureKind::Protocol, message.into()));
    let offered = &options.subprotocols;
    if head.version < 1 {
        return broken("the server's answer is not HTTP/1.1");
    }
    if !http::lists(head.headers, "upgrade", "websocket") {
        return broken("the server's answer has no header Upgrade that names websocket");
    }
    if !http::lists(head.headers, "connection", "upgrade") {
        return broken("the server's answer has no header Connection that names upgrade");
    }
    match only(head.headers, "sec-websocket-accept") {
        Ok(Some(accept)) if accept == derive_accept_key(key.as_bytes()).as_bytes() => {}
        Ok(None) => return broken("the server's answer has no header Sec-WebSocket-Accept"),
        _ => return broken("the server's Sec-WebSocket-Accept does not belong to our key"),
    }
    let compression = deflate::check_answer(head.headers, options.compression.as_ref())
        .map_err(|why| fail(FailureKind::Protocol, format!("the server's answer {why}").into()))?;
    let Ok(subprotocol) = only(head.headers, "sec-websocket-protocol") else {
        return broken("the server's answer names more than one subprotocol");
    };
    match subprotocol {
        None => Ok(Agreed { subprotocol: None, compression }),
        Some(name) => match offered.iter().find(|offer| offer.as_bytes() == name) {
            Some(name) => Ok(Agreed { subprotocol: Some(name.clone()), compression }),
            None => {
                let name = String::from_utf8_lossy(name);
                let message = format!("the server chose the subprotocol {name:?}, which was not offered");
                Err(fail(FailureKind::Protocol, message.into()))
            }
        },
    }
}

#[cfg(test)]
mod tests;
