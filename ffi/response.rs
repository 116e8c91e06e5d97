//! What a program answers to a request: in its hook, or later.

use std::ffi::c_char;

use wsx_core::{Connection, Response, check_header};

use crate::boundary::{bytes, enter, invalid, needed, optional_text, text};
use crate::callbacks::wsx_connection;

/// The answer to a request: "accept" until a function below makes it another. The one of on_request is borrowed until
/// that returns; one of the program's own, for wsx_respond(), comes from wsx_response_new().
#[derive(Default)]
pub struct wsx_response {
    answer: Option<Response>,
    headers: Vec<(String, String)>,
}

impl wsx_response {
    pub(crate) fn finish(&self) -> Response {
        let answer = self.answer.clone().unwrap_or_else(Response::accept);
        self.headers.iter().fold(answer, |answer, (name, value)| answer.header(name, value))
    }
}

/// Makes an answer for wsx_respond(), which accepts until it is made another. To be freed with wsx_response_free().
/// [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_response_new() -> *mut wsx_response {
    Box::into_raw(Box::default())
}

/// Frees an answer of wsx_response_new(), sent or not. NULL is fine. [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_response_free(response: *mut wsx_response) {
    if !response.is_null() {
        // SAFETY: from `wsx_response_new`, and not freed yet.
        drop(unsafe { Box::from_raw(response) });
    }
}

/// Answer later, from any thread, with wsx_respond() under the number of wsx_request_connection(): who the client is has to
/// be looked up somewhere. The client is not read meanwhile. Where no answer comes within the handshake timeout it gets 503,
/// and on_listener_error says so. Headers that were added are not kept. [loop thread, in on_request]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_response_defer(response: Option<&mut wsx_response>) -> i32 {
    enter(|| {
        let response = needed(response, "response")?;
        (response.answer, response.headers) = (Some(Response::later()), Vec::new());
        Ok(())
    })
}

/// Answers a request that was deferred with wsx_response_defer(). The answer is copied, and may be sent again and again.
///
/// Success means that this is the answer, and no other can be: it takes effect in this turn of the loop or its next one,
/// unless the client leaves or a shutdown begins before. WSX_ERR_CLOSED: it is too late, for the client has left, the
/// timeout has run out or the loop has ended; from another thread also where the request was answered already, or was not
/// deferred, which on the loop's thread is WSX_ERR_WRONG_KIND. WSX_ERR_FULL: the request still waits. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_respond(connection: wsx_connection, response: Option<&wsx_response>) -> i32 {
    enter(|| Connection::from_id(connection).respond(needed(response, "response")?.finish()))
}

/// Accept the WebSocket with this subprotocol, which the client must have offered; NULL: as the options choose.
/// [loop thread, in on_request; any thread for one of the program's own]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_response_accept(response: Option<&mut wsx_response>, subprotocol: *const c_char) -> i32 {
    enter(|| {
        let response = needed(response, "response")?;
        // SAFETY: the contract of the crate.
        let subprotocol = unsafe { optional_text(subprotocol, "subprotocol") }?;
        let accept = Response::accept();
        response.answer = Some(match subprotocol {
            Some(name) => accept.subprotocol(name),
            None => accept,
        });
        Ok(())
    })
}

/// Refuse, or answer a plain request, with an HTTP status (200 to 599) and a text, which may be NULL.
/// [loop thread, in on_request; any thread for one of the program's own]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_response_reject(
    response: Option<&mut wsx_response>,
    status: i32,
    body: *const c_char,
) -> i32 {
    enter(|| {
        let response = needed(response, "response")?;
        // SAFETY: the contract of the crate.
        let body = unsafe { optional_text(body, "body") }?.unwrap_or_default();
        response.answer = Some(Response::reject(final_status(status)?, body));
        Ok(())
    })
}

/// Answer with an HTTP status (200 to 599) and a body of this kind of content, as "text/html; charset=utf-8": a page, a
/// health check. The body is copied. [loop thread, in on_request; any thread for one of the program's own]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_response_page(
    response: Option<&mut wsx_response>,
    status: i32,
    content_type: *const c_char,
    body: *const std::ffi::c_void,
    length: usize,
) -> i32 {
    enter(|| {
        let response = needed(response, "response")?;
        // SAFETY: the contract of the crate.
        let (content_type, body) = unsafe { (text(content_type, "content_type")?, bytes(body, length, "body")?) };
        check_header("Content-Type", content_type)?;
        response.answer = Some(Response::whole(final_status(status)?, content_type, body));
        Ok(())
    })
}

/// Answer with 200 and a body that stays open: the program writes to it with wsx_write() under the number of
/// wsx_request_connection(), ends it with wsx_close(), and hears one on_close. [loop thread, in on_request; any thread for one of the program's own]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_response_stream(response: Option<&mut wsx_response>, content_type: *const c_char) -> i32 {
    enter(|| {
        let response = needed(response, "response")?;
        // SAFETY: the contract of the crate.
        let content_type = unsafe { text(content_type, "content_type") }?;
        check_header("Content-Type", content_type)?;
        response.answer = Some(Response::stream(content_type));
        Ok(())
    })
}

/// Add a header to the answer, whatever it is. One that the library writes itself, or that cannot stand in an HTTP
/// head, is WSX_ERR_INVALID. [loop thread, in on_request; any thread for one of the program's own]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_response_header(
    response: Option<&mut wsx_response>,
    name: *const c_char,
    value: *const c_char,
) -> i32 {
    enter(|| {
        let response = needed(response, "response")?;
        // SAFETY: the contract of the crate.
        let (name, value) = unsafe { (text(name, "name")?, text(value, "value")?) };
        check_header(name, value)?;
        response.headers.push((name.into(), value.into()));
        Ok(())
    })
}

fn final_status(status: i32) -> wsx_core::Result<u16> {
    u16::try_from(status)
        .ok()
        .filter(|status| (200..=599).contains(status))
        .ok_or_else(|| invalid(format!("{status} is not a final HTTP status (200 to 599)")))
}
