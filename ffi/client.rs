//! A client that connects again: made, asked, ended, and what it tells.

use std::ffi::{c_char, c_void};
use std::mem::{MaybeUninit, size_of};

use wsx_core::{Client, GiveUp, GiveUpKind, Reconnecting};

use crate::boundary::{c_text, enter, message, milliseconds, needed, optional_text, text};
use crate::callbacks::{Callbacks, wsx_callbacks, wsx_close_info, wsx_connection};
use crate::event_loop::wsx_loop;
use crate::options::{set, wsx_options};

/// The number of a client that connects again: it stays the same over all its connections, which have numbers of their
/// own. It is made like a connection's.
pub type wsx_client = u64;

/// A side closed in order with 1000: the purpose is fulfilled.
pub const WSX_GIVE_UP_FINISHED: i32 = 1;
/// A close code says that another attempt is of no use: 1002, 1003, 1007, 1008, 1010, 3500 to 3999, 4500 to 4999.
pub const WSX_GIVE_UP_CLOSE_CODE: i32 = 2;
/// The answer of the server, or of an HTTP proxy, says so: 400, 401, 403, 404, 407, 410 or 426.
pub const WSX_GIVE_UP_HTTP_STATUS: i32 = 3;
/// All attempts that wsx_options_set_reconnect_max_attempts() allows have failed.
pub const WSX_GIVE_UP_ATTEMPTS: i32 = 4;
/// The program called wsx_client_close() or wsx_client_terminate().
pub const WSX_GIVE_UP_CLOSED: i32 = 5;
/// The loop was shut down or freed.
pub const WSX_GIVE_UP_SHUTDOWN: i32 = 6;
/// A SOCKS5 proxy refuses the user name and password, or all ways to authenticate that it was offered, or its rules do
/// not allow the connection: on_error says which.
pub const WSX_GIVE_UP_SOCKS_REFUSAL: i32 = 7;

/// A client is about to wait, and then to connect again: told by on_reconnecting. Borrowed until the callback returns.
#[repr(C)]
pub struct wsx_reconnecting {
    /// Size of this struct in the library that runs: what lies beyond it is not there.
    pub size: usize,
    /// Which attempt in a row this will be: 1 for the first one after a connection that lasted.
    pub attempt: u32,
    /// How long the client waits from now on, in milliseconds.
    pub delay_ms: u64,
    /// How the connection before ended, as its on_close has told.
    pub cause: *const wsx_close_info,
}

/// A client has given up: told by on_give_up. Borrowed until the callback returns.
#[repr(C)]
pub struct wsx_give_up {
    /// Size of this struct in the library that runs: what lies beyond it is not there.
    pub size: usize,
    /// Why: a WSX_GIVE_UP_ constant. New ones may come.
    pub kind: i32,
    /// The code of the close that has just been told; 0 where the client was waiting.
    pub close_code: u16,
    /// The HTTP status that the last attempt was answered with; 0 where it was not.
    pub http_status: i32,
    /// Attempts in a row to connect again, up to now.
    pub attempts: u32,
    /// Messages that were taken by wsx_client_send() and reached no connection: they waited in the offline queue, or were
    /// accepted from another thread and refused on the loop. Those that a connection lost are told with its close.
    pub lost_messages: u32,
    /// One sentence for people, with a NUL at its end.
    pub message: *const c_char,
    /// Bytes of the message, without the NUL.
    pub message_length: usize,
}

impl wsx_reconnecting {
    pub(crate) fn new(reconnecting: &Reconnecting<'_>, cause: &wsx_close_info) -> Self {
        Self {
            size: size_of::<Self>(),
            attempt: reconnecting.attempt,
            delay_ms: reconnecting.delay.as_millis() as u64,
            cause,
        }
    }
}

impl wsx_give_up {
    /// Hands it, with its text, to `call`.
    pub(crate) fn with(give_up: &GiveUp, call: impl FnOnce(&Self)) {
        let message = c_text(give_up.message.as_ref());
        call(&Self {
            size: size_of::<Self>(),
            kind: match give_up.kind {
                GiveUpKind::Finished => WSX_GIVE_UP_FINISHED,
                GiveUpKind::CloseCode => WSX_GIVE_UP_CLOSE_CODE,
                GiveUpKind::HttpStatus => WSX_GIVE_UP_HTTP_STATUS,
                GiveUpKind::SocksRefusal => WSX_GIVE_UP_SOCKS_REFUSAL,
                GiveUpKind::Attempts => WSX_GIVE_UP_ATTEMPTS,
                GiveUpKind::Closed => WSX_GIVE_UP_CLOSED,
                GiveUpKind::Shutdown => WSX_GIVE_UP_SHUTDOWN,
                _ => 0,
            },
            close_code: give_up.close_code.unwrap_or(0),
            http_status: give_up.http_status.map_or(0, i32::from),
            attempts: give_up.attempts,
            lost_messages: give_up.lost_messages,
            message: message.as_ptr(),
            message_length: message.as_bytes().len(),
        });
    }
}

/// Reconnecting: the longest delay before the first attempt in a row; it doubles with each further one. Each delay is
/// chosen at random between zero and the longest. Default 250 ms; 0 is the default. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_reconnect_base_delay(options: Option<&mut wsx_options>, ms: u64) -> i32 {
    set(options, |options| options.reconnect.base_delay = milliseconds(ms))
}

/// Reconnecting: the longest delay of all, at least the base delay. A server that answers with Retry-After is left alone for
/// that much longer, at most an hour. Default 30,000 ms; 0 is the default. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_reconnect_max_delay(options: Option<&mut wsx_options>, ms: u64) -> i32 {
    set(options, |options| options.reconnect.max_delay = milliseconds(ms))
}

/// Reconnecting: a connection that was open for so long begins the count of attempts, and with it the delay, anew. Default
/// 5,000 ms; 0: each one that opens does. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_reconnect_reset_after(options: Option<&mut wsx_options>, ms: u64) -> i32 {
    set(options, |options| options.reconnect.reset_after = milliseconds(ms))
}

/// Reconnecting: most attempts in a row to connect again. Beyond it the client gives up. Default 0: no limit. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_reconnect_max_attempts(options: Option<&mut wsx_options>, count: u32) -> i32 {
    set(options, |options| options.reconnect.max_attempts = count)
}

/// Reconnecting: most bytes of messages that wait for the next connection while there is none, at most the backlog limit;
/// each message counts 32 bytes more than its payload. Beyond it wsx_client_send() answers WSX_ERR_BACKLOG_FULL. Default 0:
/// nothing waits, and it answers WSX_ERR_NOT_OPEN. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_reconnect_offline_limit(options: Option<&mut wsx_options>, bytes: usize) -> i32 {
    set(options, |options| options.reconnect.offline_limit = bytes)
}

/// Connects as wsx_connect() does, and again whenever the connection ends, until there is a reason to give up: a
/// WSX_GIVE_UP_ constant. Writes the client's number, which may go to NULL. The callbacks and the user pointer are for all
/// attempts. Each is a connection of its own, which hears on_open where it succeeds, and its on_error and on_close; then
/// either on_reconnecting tells when the next attempt will be made, or on_give_up, the last event, that there will be none.
/// The name is looked up for each attempt anew; files of TLS are read once, now. [loop thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_connect_persistently(
    event_loop: Option<&wsx_loop>,
    url: *const c_char,
    options: Option<&wsx_options>,
    callbacks: *const wsx_callbacks,
    user: *mut c_void,
    client: Option<&mut MaybeUninit<wsx_client>>,
) -> i32 {
    enter(|| {
        // SAFETY: the contract of the crate.
        let handler = unsafe { Callbacks::new(callbacks, user) }?;
        let handle = &needed(event_loop, "loop")?.handle;
        // SAFETY: the contract of the crate.
        let url = unsafe { text(url, "url") }?;
        let made = match options {
            Some(options) => handle.connect_persistently_boxed(url, &options.connection, &options.reconnect, handler),
            None => handle.connect_persistently_boxed(url, &Default::default(), &Default::default(), handler),
        }?;
        if let Some(client) = client {
            client.write(made.id());
        }
        Ok(())
    })
}

/// Sends a message, copied before this returns, on the client's connection if it is open; else it waits for the next one,
/// where the options have an offline queue. What waits leaves in order as soon as a connection opens, before its on_open.
/// What was on its way when a connection was lost is told with its close, and is not sent again. From another thread success
/// means accepted: what is lost later is told in lost_messages, of the close or of on_give_up. [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_client_send(client: wsx_client, kind: i32, payload: *const c_void, length: usize) -> i32 {
    enter(|| {
        // SAFETY: the contract of the crate.
        let message = unsafe { message(kind, payload, length) }?;
        Client::from_id(client).send(message)
    })
}

/// Closes the client's connection as wsx_close() does, and connects no more: on_give_up comes after its on_close. A client
/// that waits for its next attempt ends at once, and one that is connecting gives that up. The reason may be NULL. Closing
/// twice is WSX_ERR_CLOSED. To close the connection alone, by wsx_close(), is to connect again, unless the code says
/// otherwise. [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_client_close(client: wsx_client, code: u16, reason: *const c_char) -> i32 {
    enter(|| {
        // SAFETY: the contract of the crate.
        let reason = unsafe { optional_text(reason, "reason") }?;
        Client::from_id(client).close(code, reason.unwrap_or_default())
    })
}

/// Ends the client's transport at once, without a close, and connects no more; also where wsx_client_close() was called
/// before, and the server does not answer it. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_client_terminate(client: wsx_client) -> i32 {
    enter(|| Client::from_id(client).terminate())
}

/// Writes the number of the client's connection, open or not; 0 while it waits for its next attempt. [loop thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_client_connection(
    client: wsx_client,
    connection: Option<&mut MaybeUninit<wsx_connection>>,
) -> i32 {
    enter(|| {
        let out = needed(connection, "connection")?;
        out.write(Client::from_id(client).connection()?.map_or(0, |connection| connection.id()));
        Ok(())
    })
}

/// Writes how many bytes wait: those of the connection, as wsx_buffered_amount() tells them, and those of the offline queue.
/// [loop thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_client_buffered_amount(client: wsx_client, amount: Option<&mut MaybeUninit<usize>>) -> i32 {
    enter(|| {
        let out = needed(amount, "amount")?;
        out.write(Client::from_id(client).buffered_amount()?);
        Ok(())
    })
}
