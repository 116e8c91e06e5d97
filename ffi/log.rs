//! The log: a function of the program that is told in sentences what happens.

use std::ffi::{c_char, c_void};
use std::mem::size_of;

use wsx_core::log::{Level, Record, Topic};

use crate::boundary::{User, c_text, enter, invalid, needed};
use crate::callbacks::{wsx_connection, wsx_function, wsx_listener};
use crate::event_loop::wsx_loop;

/// Log nothing.
pub const WSX_LOG_OFF: i32 = 0;
/// The program, or its system, has something to repair: nothing can be accepted, say.
pub const WSX_LOG_ERROR: i32 = 1;
/// A connection failed.
pub const WSX_LOG_WARNING: i32 = 2;
/// A listener begins or ends; a request or a TLS handshake was refused.
pub const WSX_LOG_INFORMATION: i32 = 3;
/// What every connection does: accepted, begun, open, closed; its backlog above the mark, and below it.
pub const WSX_LOG_DEBUG: i32 = 4;

/// Listening and accepting.
pub const WSX_TOPIC_LISTENER: i32 = 1;
/// A request, up to the answer.
pub const WSX_TOPIC_REQUEST: i32 = 2;
/// The TLS handshake.
pub const WSX_TOPIC_TLS: i32 = 3;
/// A connection: begun, open, failed, closed.
pub const WSX_TOPIC_CONNECTION: i32 = 4;
/// Output that waits.
pub const WSX_TOPIC_BACKLOG: i32 = 5;
/// The program's own callbacks.
pub const WSX_TOPIC_CALLBACK: i32 = 6;

/// One thing that happened. It has no header, no query, no payload and no password; what it says of a peer's (the reason of
/// a close) has its control characters escaped. Borrowed until the function returns.
#[repr(C)]
pub struct wsx_log_record {
    /// Size of this struct in the library that runs: what lies beyond it is not there.
    pub size: usize,
    /// How much it matters: a WSX_LOG_ constant.
    pub level: i32,
    /// What it is about: a WSX_TOPIC_ constant. New ones may come.
    pub topic: i32,
    /// The connection, if it is about one, else 0; the program may not have heard of it.
    pub connection: wsx_connection,
    /// The listener, if it is about one or a connection of it, else 0.
    pub listener: wsx_listener,
    /// One sentence, with a NUL at its end.
    pub message: *const c_char,
    /// Bytes of the message, without the NUL.
    pub message_length: usize,
}

/// A function of the program that is told what happens.
pub type wsx_log_function = Option<unsafe extern "C" fn(record: *const wsx_log_record, user: *mut c_void)>;

fn level_of(level: i32) -> wsx_core::Result<Level> {
    match level {
        WSX_LOG_OFF => Ok(Level::Off),
        WSX_LOG_ERROR => Ok(Level::Error),
        WSX_LOG_WARNING => Ok(Level::Warning),
        WSX_LOG_INFORMATION => Ok(Level::Information),
        WSX_LOG_DEBUG => Ok(Level::Debug),
        _ => Err(invalid(format!("{level} is no level: WSX_LOG_OFF to WSX_LOG_DEBUG"))),
    }
}

fn level(level: Level) -> i32 {
    match level {
        Level::Error => WSX_LOG_ERROR,
        Level::Warning => WSX_LOG_WARNING,
        Level::Information => WSX_LOG_INFORMATION,
        Level::Debug => WSX_LOG_DEBUG,
        _ => WSX_LOG_OFF,
    }
}

fn topic(topic: Topic) -> i32 {
    match topic {
        Topic::Listener => WSX_TOPIC_LISTENER,
        Topic::Request => WSX_TOPIC_REQUEST,
        Topic::Tls => WSX_TOPIC_TLS,
        Topic::Connection => WSX_TOPIC_CONNECTION,
        Topic::Backlog => WSX_TOPIC_BACKLOG,
        Topic::Callback => WSX_TOPIC_CALLBACK,
        _ => 0,
    }
}

/// Has a function told what happens, up to a level; WSX_LOG_OFF, for which the function may be NULL, ends that. There is
/// one log for a loop, which takes the place of the one before. It is called on the loop's thread (on each of several, at
/// once), later in the turn in which it happened, and may call everything but what drives the loop; what it does itself is
/// not logged. The drop function, which may be NULL, is called with the user pointer exactly once: after the last call, or
/// where this fails. Without a log nothing is formatted. [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_loop_set_log(
    event_loop: Option<&wsx_loop>,
    log_level: i32,
    function: wsx_log_function,
    user: *mut c_void,
    drop: wsx_function,
) -> i32 {
    let user = User { pointer: user, drop };
    enter(|| {
        let (event_loop, up_to) = (needed(event_loop, "loop")?, level_of(log_level)?);
        if up_to == Level::Off {
            return event_loop.handle.set_log(Level::Off, |_| {});
        }
        let function = needed(function, "function")?;
        event_loop.handle.set_log(up_to, move |record: &Record<'_>| {
            let (message, user) = (c_text(record.message), &user);
            let told = wsx_log_record {
                size: size_of::<wsx_log_record>(),
                level: level(record.level),
                topic: topic(record.topic),
                connection: record.connection.map_or(0, |connection| connection.id()),
                listener: record.listener.map_or(0, |listener| listener.id()),
                message: message.as_ptr(),
                message_length: message.as_bytes().len(),
            };
            // SAFETY: the program registered the function for this pointer, and what it is given outlives the call.
            unsafe { function(&told, user.pointer) }
        })
    })
}
