//! What can be done with a connection, by its number.

use std::ffi::{CStr, c_char, c_void};
use std::mem::MaybeUninit;
use std::ptr::null_mut;

use wsx_core::{Connection, ReadyState};

use crate::boundary::{
    answer, bytes, count, enter, enter_with_text, message, message_kind, needed, optional_text, switch, text,
};
use crate::callbacks::wsx_connection;
use crate::status::WSX_TEXT;

/// The opening handshake is under way.
pub const WSX_STATE_CONNECTING: i32 = 0;
/// Messages flow. HTTP streams are in this state as well.
pub const WSX_STATE_OPEN: i32 = 1;
/// A close was sent or received, or the transport is being ended.
pub const WSX_STATE_CLOSING: i32 = 2;
/// Gone; also the answer for a stale number.
pub const WSX_STATE_CLOSED: i32 = 3;

/// Sends a message, copied before this returns: WSX_TEXT, which must be UTF-8, or WSX_BINARY. It leaves at the end of
/// the turn, with everything else for this peer. From another thread success means accepted: what is lost later is told
/// in lost_messages of the close. [any thread]
// Apart from wsx_send_text(), so that the short way of core's `send` is inlined into this one.
#[inline(never)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_send(connection: wsx_connection, kind: i32, payload: *const c_void, length: usize) -> i32 {
    enter(|| {
        // SAFETY: the contract of the crate.
        let message = unsafe { message(kind, payload, length) }?;
        Connection::from_id(connection).send(message)
    })
}

/// Sends text that ends with a NUL: wsx_send() with its strlen(). [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_send_text(connection: wsx_connection, payload: *const c_char) -> i32 {
    if payload.is_null() {
        return enter(|| needed(None, "payload"));
    }
    // SAFETY: not NULL, so it ends with a NUL and is not changed during the call.
    unsafe { wsx_send(connection, WSX_TEXT, payload.cast(), CStr::from_ptr(payload).count_bytes()) }
}

/// Sends a fragment of a message (RFC 6455 section 5.4), copied before this returns: the first call begins a message of this
/// kind, that with is_last (1) ends it. Text may be cut inside a character; the whole is checked as it comes. [any thread]
///
/// Until then other messages for this connection are WSX_ERR_MESSAGE_IN_PROGRESS; pings, pongs and a close may come
/// between, and a close leaves the message unfinished. What is broadcast or published meanwhile follows behind it, as far as
/// the backlog's limit goes; beyond that, and where the connection ends first, it counts in lost_messages. Where compression
/// was agreed on, the size of the first fragment decides whether the message is compressed. A fragment that is refused was
/// not sent, and another may be: WSX_ERR_INVALID for text that is not UTF-8 or another kind, WSX_ERR_BACKLOG_FULL also under
/// the policy WSX_BACKLOG_DROP. From another thread, where a call cannot tell, each of these ends the connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_send_fragment(
    connection: wsx_connection,
    kind: i32,
    payload: *const c_void,
    length: usize,
    is_last: i32,
) -> i32 {
    enter(|| {
        // SAFETY: the contract of the crate.
        let payload = unsafe { bytes(payload, length, "payload") }?;
        Connection::from_id(connection).send_fragment(message_kind(kind)?, payload, switch(is_last, "is_last")?)
    })
}

/// Sends a ping of at most 125 bytes; on_pong tells the answer, and wsx_latency() how long it took. A pong answers the first
/// ping with its payload that is out, and every one before that. Of more than 64 that are out the oldest are forgotten.
/// [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_ping(connection: wsx_connection, payload: *const c_void, length: usize) -> i32 {
    enter(|| {
        // SAFETY: the contract of the crate.
        let payload = unsafe { bytes(payload, length, "payload") }?;
        Connection::from_id(connection).ping(payload)
    })
}

/// Sends a pong that nobody asked for, of at most 125 bytes. Pings are answered without it. [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_pong(connection: wsx_connection, payload: *const c_void, length: usize) -> i32 {
    enter(|| {
        // SAFETY: the contract of the crate.
        let payload = unsafe { bytes(payload, length, "payload") }?;
        Connection::from_id(connection).pong(payload)
    })
}

/// Begins the closing handshake; what was sent before leaves first. The code is 1000 to 1003, 1007 to 1014 or 3000 to
/// 4999, or 1005 for a close without a code; the reason is at most 123 bytes, and may be NULL. On an HTTP stream the
/// code is only told in on_close, and the body ends in order. A connection that is still connecting is given up.
/// Closing twice is WSX_ERR_CLOSED. [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_close(connection: wsx_connection, code: u16, reason: *const c_char) -> i32 {
    enter(|| {
        // SAFETY: the contract of the crate.
        let reason = unsafe { optional_text(reason, "reason") }?;
        Connection::from_id(connection).close(code, reason.unwrap_or_default())
    })
}

/// Ends the transport at once, without a close; what waits is lost. on_close tells 1006. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_terminate(connection: wsx_connection) -> i32 {
    enter(|| Connection::from_id(connection).terminate())
}

/// Writes to the body of an HTTP stream, which wsx_response_stream() began; copied before this returns. The limits are
/// those of wsx_send(). [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_write(connection: wsx_connection, payload: *const c_void, length: usize) -> i32 {
    enter(|| {
        // SAFETY: the contract of the crate.
        let payload = unsafe { bytes(payload, length, "payload") }?;
        Connection::from_id(connection).write(payload)
    })
}

/// Subscribes an open server connection to a topic, a name of at most 255 bytes; twice is once. [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_subscribe(connection: wsx_connection, topic: *const c_char) -> i32 {
    enter(|| {
        // SAFETY: the contract of the crate.
        let topic = unsafe { text(topic, "topic") }?;
        Connection::from_id(connection).subscribe(topic)
    })
}

/// Ends a subscription; one that does not exist is no error. [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_unsubscribe(connection: wsx_connection, topic: *const c_char) -> i32 {
    enter(|| {
        // SAFETY: the contract of the crate.
        let topic = unsafe { text(topic, "topic") }?;
        Connection::from_id(connection).unsubscribe(topic)
    })
}

/// Stops reading from the peer, who will feel it through TCP; the heartbeat rests meanwhile. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_pause(connection: wsx_connection) -> i32 {
    enter(|| Connection::from_id(connection).pause())
}

/// Reads again after wsx_pause(). [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_resume(connection: wsx_connection) -> i32 {
    enter(|| Connection::from_id(connection).resume())
}

/// Writes how many bytes are queued that the kernel has not taken yet, frame headers included. [loop thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_buffered_amount(connection: wsx_connection, amount: Option<&mut MaybeUninit<usize>>) -> i32 {
    enter(|| {
        let out = needed(amount, "amount")?;
        out.write(Connection::from_id(connection).buffered_amount()?);
        Ok(())
    })
}

/// Writes the newest latency that was measured, in microseconds: from when a ping was put into the output, the program's or
/// the heartbeat's, to its pong. 0 before the first. Still known inside on_close. [loop thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_latency(connection: wsx_connection, microseconds: Option<&mut MaybeUninit<u64>>) -> i32 {
    enter(|| {
        let out = needed(microseconds, "microseconds")?;
        let latency = Connection::from_id(connection).latency()?;
        out.write(latency.map_or(0, |latency| latency.as_micros() as u64));
        Ok(())
    })
}

/// The state: a WSX_STATE_ constant, WSX_STATE_CLOSED for a stale number. A negative number is an error. [loop thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_ready_state(connection: wsx_connection) -> i32 {
    count(|| {
        Ok(match Connection::from_id(connection).ready_state()? {
            ReadyState::Connecting => WSX_STATE_CONNECTING,
            ReadyState::Open => WSX_STATE_OPEN,
            ReadyState::Closing => WSX_STATE_CLOSING,
            ReadyState::Closed => WSX_STATE_CLOSED,
        })
    })
}

/// Writes the subprotocol agreed on, empty where there is none, into a buffer: cut to what fits, always with a NUL. The
/// whole length, without the NUL, may go to NULL. [loop thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_subprotocol(
    connection: wsx_connection,
    buffer: *mut c_char,
    capacity: usize,
    length: Option<&mut MaybeUninit<usize>>,
) -> i32 {
    let call = || Connection::from_id(connection).subprotocol().map(Option::unwrap_or_default);
    // SAFETY: the contract of the crate.
    unsafe { enter_with_text(buffer, capacity, length, call) }
}

/// Writes the extensions agreed on, as the header of the answer says it ("permessage-deflate;
/// server_no_context_takeover"), empty where there are none, into a buffer: cut to what fits, always with a NUL. The whole
/// length, without the NUL, may go to NULL. [loop thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_connection_extensions(
    connection: wsx_connection,
    buffer: *mut c_char,
    capacity: usize,
    length: Option<&mut MaybeUninit<usize>>,
) -> i32 {
    let call = || Connection::from_id(connection).extensions();
    // SAFETY: the contract of the crate.
    unsafe { enter_with_text(buffer, capacity, length, call) }
}

/// Writes where the peer is, as "192.0.2.1:50000", "[2001:db8::1]:50000" or "unix:", into a buffer: cut to what fits,
/// always with a NUL. The whole length, without the NUL, may go to NULL. Still known inside on_close. [loop thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_peer_address(
    connection: wsx_connection,
    buffer: *mut c_char,
    capacity: usize,
    length: Option<&mut MaybeUninit<usize>>,
) -> i32 {
    let call = || Connection::from_id(connection).peer_address().map(|address| address.to_string());
    // SAFETY: the contract of the crate.
    unsafe { enter_with_text(buffer, capacity, length, call) }
}

/// The program's own pointer for this connection: NULL until it is set, and where the number is stale or the thread
/// wrong, which wsx_last_error() tells. Still known inside on_close. [loop thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_user_data(connection: wsx_connection) -> *mut c_void {
    answer(null_mut(), || Ok(Connection::from_id(connection).user_data()? as *mut c_void))
}

/// Keeps a pointer of the program with the connection. The library never looks behind it. [loop thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_set_user_data(connection: wsx_connection, user_data: *mut c_void) -> i32 {
    enter(|| Connection::from_id(connection).set_user_data(user_data as u64))
}
