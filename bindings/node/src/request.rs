//! Requests as JavaScript gets them, and its answers.
//!
//! A request is lines of bytes: subprotocol and extensions (where they are known), `1` or `0` for an opening handshake,
//! method, target, peer, TLS, the connection's number, then name and value of each header. None of them can contain a line break. TLS is words: none
//! for a plain request, else `tls`, the name that was asked for, and each certificate in hexadecimal digits.

use napi_derive::napi;
use wsx_core::{Headers, Request, Response};

/// Appends name and value of each header, a line each.
pub fn write_headers(out: &mut Vec<u8>, headers: Headers<'_>) {
    for (name, value) in headers.iter() {
        out.push(b'\n');
        out.extend(name.as_bytes());
        out.push(b'\n');
        out.extend(value);
    }
}

/// The lines of what was agreed on: subprotocol and extensions.
pub fn agreed(subprotocol: &str, extensions: &str) -> Vec<u8> {
    [subprotocol, "\n", extensions].concat().into_bytes()
}

/// The lines of a request, behind those of what was agreed on.
pub fn lines(request: &Request<'_>, agreed: Vec<u8>) -> Vec<u8> {
    let mut out = agreed;
    out.reserve(512);
    out.extend(if request.is_upgrade() { b"\n1\n" } else { b"\n0\n" });
    out.extend(request.method().as_bytes());
    out.push(b'\n');
    out.extend(request.path().as_bytes());
    if let Some(query) = request.query() {
        out.push(b'?');
        out.extend(query.as_bytes());
    }
    out.push(b'\n');
    out.extend(request.peer().to_string().as_bytes());
    out.push(b'\n');
    write_tls(&mut out, request);
    out.push(b'\n');
    out.extend(request.connection().id().to_string().as_bytes());
    write_headers(&mut out, request.headers());
    out
}

fn write_tls(out: &mut Vec<u8>, request: &Request<'_>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    if !request.is_secure() {
        return;
    }
    out.extend(b"tls ");
    out.extend(request.server_name().unwrap_or_default().as_bytes());
    for certificate in request.peer_certificates() {
        out.push(b' ');
        out.extend(certificate.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| DIGITS[usize::from(digit)]));
    }
}

/// What JavaScript answers to a request.
#[napi(object, object_to_js = false)]
pub struct Answer {
    /// 101 accepts; 0 answers later.
    pub status: u32,
    /// The subprotocol to speak.
    pub subprotocol: Option<String>,
    /// Name, value, name, value.
    pub headers: Vec<String>,
    /// The kind of content.
    pub content_type: String,
    /// The body of an answer other than 101.
    pub body: napi::bindgen_prelude::Uint8Array,
}

impl From<Answer> for Response {
    fn from(answer: Answer) -> Self {
        let mut response = match answer.status {
            0 => Self::later(),
            101 => Self::accept(),
            status => Self::whole(u16::try_from(status).unwrap_or(0), &answer.content_type, answer.body.to_vec()),
        };
        if let Some(subprotocol) = answer.subprotocol {
            response = response.subprotocol(subprotocol);
        }
        for header in answer.headers.chunks_exact(2) {
            response = response.header(&header[0], &header[1]);
        }
        response
    }
}
