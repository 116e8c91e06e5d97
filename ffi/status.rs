//! Status codes, what a failed call can tell, versions, and the small constants of the header.

use std::cell::{Cell, UnsafeCell};
use std::ffi::{CStr, c_char};

use wsx_core::Error;

use crate::boundary;

/// Success.
pub const WSX_OK: i32 = 0;
/// An argument is NULL, out of range or malformed. wsx_last_error() says which and why.
pub const WSX_ERR_INVALID: i32 = -1;
/// The number is stale, or what it names is closing or closed. Nothing to do but forget the number.
pub const WSX_ERR_CLOSED: i32 = -2;
/// The connection is not open yet: send from on_open.
pub const WSX_ERR_NOT_OPEN: i32 = -3;
/// The call does not fit this kind of connection: a topic for a client, a message on an HTTP stream.
pub const WSX_ERR_WRONG_KIND: i32 = -4;
/// Too much output waits for this peer (policy WSX_BACKLOG_REFUSE): wait for on_drain. Or for a client that is offline:
/// wait for on_open.
pub const WSX_ERR_BACKLOG_FULL: i32 = -5;
/// Too many calls from other threads wait for the loop. Try again later.
pub const WSX_ERR_FULL: i32 = -6;
/// The call belongs to the loop's thread: get there with wsx_loop_post().
pub const WSX_ERR_WRONG_THREAD: i32 = -7;
/// The loop is busy in an outer call on this thread: wsx_loop_run, _turn, _flush, _next_timeout and _free cannot be
/// called from inside a callback.
pub const WSX_ERR_REENTRANT: i32 = -8;
/// The loop is gone.
pub const WSX_ERR_LOOP_GONE: i32 = -9;
/// This build was made without what was asked for, as TLS for wss.
pub const WSX_ERR_UNSUPPORTED: i32 = -10;
/// The system refused. wsx_last_error() says what was tried, wsx_last_os_error() is its errno.
pub const WSX_ERR_SYSTEM: i32 = -11;
/// A message is being sent in fragments, and no other may come between: send its last one first.
pub const WSX_ERR_MESSAGE_IN_PROGRESS: i32 = -13;
/// A defect in libwsx was caught at its border. The library stays usable; please report it with wsx_last_error().
pub const WSX_ERR_PANIC: i32 = -12;

/// A message is text, valid UTF-8.
pub const WSX_TEXT: i32 = 1;
/// A message is any bytes.
pub const WSX_BINARY: i32 = 2;

/// Most bytes in the payload of a ping or pong.
pub const WSX_MAX_CONTROL_PAYLOAD: usize = 125;
/// Most bytes in the reason of a close.
pub const WSX_MAX_CLOSE_REASON: usize = 123;
/// Most bytes in the name of a topic.
pub const WSX_MAX_TOPIC_NAME: usize = 255;

// cbindgen wants the figures themselves.
const _: () = {
    use wsx_core::config;
    assert!(WSX_MAX_CONTROL_PAYLOAD == config::MAX_CONTROL_PAYLOAD);
    assert!(WSX_MAX_CLOSE_REASON == config::MAX_CLOSE_REASON);
    assert!(WSX_MAX_TOPIC_NAME == config::MAX_TOPIC_NAME);
};

thread_local! {
    /// What the last failed call said. Nothing here is dropped or moved: a pointer to it is good while its thread lives,
    /// also where C asks for it before the call has failed.
    static LAST_ERROR: UnsafeCell<[c_char; 1024]> = const { UnsafeCell::new([0; 1024]) };
    static LAST_OS_ERROR: Cell<i32> = const { Cell::new(0) };
}

/// Keeps an error of this thread for `wsx_last_error`, and answers its code.
#[cold]
pub fn remember(error: &Error) -> i32 {
    let os_error = match error {
        Error::Io { source, .. } => source.raw_os_error().unwrap_or(0),
        _ => 0,
    };
    remember_text(&error.to_string(), os_error);
    match error {
        Error::InvalidArgument(_) => WSX_ERR_INVALID,
        Error::Closed => WSX_ERR_CLOSED,
        Error::NotOpen => WSX_ERR_NOT_OPEN,
        Error::WrongKind(_) => WSX_ERR_WRONG_KIND,
        Error::BacklogFull { .. } => WSX_ERR_BACKLOG_FULL,
        Error::MessageInProgress => WSX_ERR_MESSAGE_IN_PROGRESS,
        Error::Full(_) => WSX_ERR_FULL,
        Error::WrongThread => WSX_ERR_WRONG_THREAD,
        Error::Reentrant => WSX_ERR_REENTRANT,
        Error::LoopGone => WSX_ERR_LOOP_GONE,
        Error::Defect(_) => WSX_ERR_PANIC,
        Error::Unsupported(_) => WSX_ERR_UNSUPPORTED,
        _ => WSX_ERR_SYSTEM,
    }
}

fn remember_text(text: &str, os_error: i32) {
    LAST_ERROR.with(|buffer| {
        // SAFETY: only this thread has the buffer, there is no reference into it, and its size is told.
        let _ = unsafe { boundary::write_text(text, buffer.get().cast(), size_of_val(buffer), None) };
    });
    LAST_OS_ERROR.set(os_error);
}

/// Lets panics of the library be told by `wsx_last_error` instead of standard error. The hook is this library's own: it
/// carries its own Rust runtime.
pub fn silence_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| remember_text(&format!("defect in libwsx: {panic}"), 0)));
    });
}

/// The version of the library that runs, as WSX_VERSION_NUMBER is that of the header. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_version() -> u32 {
    const fn number(text: &str) -> u32 {
        let (mut value, mut at) = (0, 0);
        while at < text.len() {
            value = value * 10 + (text.as_bytes()[at] - b'0') as u32;
            at += 1;
        }
        value
    }
    const {
        number(env!("CARGO_PKG_VERSION_MAJOR")) * 1_000_000
            + number(env!("CARGO_PKG_VERSION_MINOR")) * 1_000
            + number(env!("CARGO_PKG_VERSION_PATCH"))
    }
}

/// The version of the library that runs, as text. Static. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_version_string() -> *const c_char {
    const TEXT: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(text) => text,
        Err(_) => c"",
    };
    TEXT.as_ptr()
}

/// Whether this build has a feature: "server", "client", "unix" (Unix sockets), "deflate" (compression), "tls". What it does
/// not know it does not have. NULL is no feature. [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_has_feature(name: *const c_char) -> bool {
    boundary::answer(false, || {
        // SAFETY: the contract of the crate.
        let name = unsafe { boundary::text(name, "name") }?;
        let built_in = [("deflate", cfg!(feature = "deflate")), ("tls", cfg!(feature = "tls"))];
        Ok(matches!(name, "server" | "client" | "unix") || built_in.contains(&(name, true)))
    })
}

/// What a status means, in a sentence. Static; never NULL. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_strerror(status: i32) -> *const c_char {
    let text = match status {
        WSX_OK => c"success",
        WSX_ERR_INVALID => c"an argument is NULL, out of range or malformed",
        WSX_ERR_CLOSED => c"the connection or listener is closed",
        WSX_ERR_NOT_OPEN => c"the connection is not open yet: wait for on_open",
        WSX_ERR_WRONG_KIND => c"the call does not fit this kind of connection",
        WSX_ERR_BACKLOG_FULL => c"too much output waits for this peer: wait for on_drain",
        WSX_ERR_FULL => c"too many calls from other threads wait for the loop",
        WSX_ERR_WRONG_THREAD => c"the call belongs to the loop's thread: use wsx_loop_post",
        WSX_ERR_REENTRANT => c"the call cannot be made from inside a callback",
        WSX_ERR_LOOP_GONE => c"the loop is gone",
        WSX_ERR_UNSUPPORTED => c"this build of libwsx does not support that",
        WSX_ERR_SYSTEM => c"the system refused",
        WSX_ERR_MESSAGE_IN_PROGRESS => c"a message is being sent in fragments: send its last one first",
        WSX_ERR_PANIC => c"a defect in libwsx was caught",
        _ => c"not a status of libwsx",
    };
    text.as_ptr()
}

/// What the last call that failed on this thread said, with names and figures; empty where none has failed yet. The next
/// one writes over it, in the same place: the pointer stays good while the thread lives. At most 1,023 bytes, then it is
/// cut. Never NULL. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_last_error() -> *const c_char {
    LAST_ERROR.with(|buffer| buffer.get().cast())
}

/// The errno of the last call that failed on this thread; 0 where the system had no part in it. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_last_os_error() -> i32 {
    LAST_OS_ERROR.get()
}
