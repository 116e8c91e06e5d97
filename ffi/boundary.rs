//! What every function of the door does at the border: pointers to references, text and bytes; panics and errors to a
//! status.

use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use wsx_core::{Error, Message, MessageKind, Result};

use crate::status::{self, WSX_BINARY, WSX_ERR_PANIC, WSX_OK, WSX_TEXT};

/// Runs the body of a function: no panic leaves it, and its error becomes a status.
#[inline(always)]
pub fn enter(body: impl FnOnce() -> Result<()>) -> i32 {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => WSX_OK,
        Ok(Err(error)) => status::remember(&error),
        Err(panic) => {
            // Dropping what a panic carries may panic again.
            std::mem::forget(panic);
            WSX_ERR_PANIC
        }
    }
}

/// Runs the body of a function that answers with a value, or with this where there is none.
pub fn answer<T>(otherwise: T, body: impl FnOnce() -> Result<T>) -> T {
    let mut value = otherwise;
    enter(|| {
        value = body()?;
        Ok(())
    });
    value
}

/// Runs the body of a function whose answer is a number from 0 up, or a status.
pub fn count(body: impl FnOnce() -> Result<i32>) -> i32 {
    let mut number = 0;
    match enter(|| body().map(|value| number = value)) {
        WSX_OK => number,
        error => error,
    }
}

/// The error for an argument, said in a sentence.
pub fn invalid(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::InvalidArgument(why.into())
}

/// A pointer that must not be NULL.
#[inline]
pub fn needed<T>(pointer: Option<T>, name: &str) -> Result<T> {
    pointer.ok_or_else(|| invalid(format!("{name} is NULL")))
}

/// A switch: 0 or 1.
pub fn switch(value: i32, name: &str) -> Result<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(invalid(format!("{name} is {value}, and must be 0 or 1"))),
    }
}

/// A timeout in milliseconds.
pub fn milliseconds(value: u64) -> Duration {
    Duration::from_millis(value)
}

/// Text of the program, which ends with a NUL.
///
/// # Safety
/// See the crate: NULL, or text that outlives the call.
pub unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str> {
    // SAFETY: the caller's.
    let text = unsafe { optional_text(pointer, name) }?;
    needed(text, name)
}

/// Text of the program that may be NULL.
///
/// # Safety
/// See the crate: NULL, or text that outlives the call.
pub unsafe fn optional_text<'a>(pointer: *const c_char, name: &str) -> Result<Option<&'a str>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL, so it ends with a NUL and is not changed during the call.
    let text = unsafe { CStr::from_ptr(pointer) };
    simdutf8::basic::from_utf8(text.to_bytes()).map(Some).map_err(|_| invalid(format!("{name} is not UTF-8")))
}

#[cold]
fn bad_bytes(pointer: *const c_void, name: &str) -> Error {
    let why = if pointer.is_null() { "is NULL" } else { "has a length that is more than memory holds" };
    invalid(format!("{name} {why}"))
}

/// Bytes of the program. NULL is fine where there are none.
///
/// # Safety
/// See the crate: NULL, or as many bytes as the length says, that outlive the call.
#[inline]
pub unsafe fn bytes<'a>(pointer: *const c_void, length: usize, name: &str) -> Result<&'a [u8]> {
    if length == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() || length > isize::MAX as usize {
        return Err(bad_bytes(pointer, name));
    }
    // SAFETY: not NULL and not longer than any object, so these are the caller's bytes.
    Ok(unsafe { std::slice::from_raw_parts(pointer.cast(), length) })
}

/// A kind of messages.
pub fn message_kind(kind: i32) -> Result<MessageKind> {
    match kind {
        WSX_TEXT => Ok(MessageKind::Text),
        WSX_BINARY => Ok(MessageKind::Binary),
        _ => Err(no_kind(kind)),
    }
}

#[cold]
fn no_kind(kind: i32) -> Error {
    invalid(format!("{kind} is no kind of message: WSX_TEXT or WSX_BINARY"))
}

/// A message of the program.
///
/// # Safety
/// That of [`bytes`].
#[inline(always)]
pub unsafe fn message<'a>(kind: i32, payload: *const c_void, length: usize) -> Result<Message<'a>> {
    // SAFETY: the caller's.
    let payload = unsafe { bytes(payload, length, "payload") }?;
    match kind {
        WSX_TEXT => simdutf8::basic::from_utf8(payload).map(Message::Text).map_err(|_| invalid("payload is not UTF-8")),
        WSX_BINARY => Ok(Message::Binary(payload)),
        _ => Err(no_kind(kind)),
    }
}

/// Writes text into the program's buffer, as snprintf does: cut to what fits, always with a NUL, the whole length told.
///
/// # Safety
/// `buffer` is NULL or has room for `capacity` bytes.
pub unsafe fn write_text(
    text: &str,
    buffer: *mut c_char,
    capacity: usize,
    length: Option<&mut MaybeUninit<usize>>,
) -> Result<()> {
    if buffer.is_null() && capacity > 0 {
        return Err(invalid("buffer is NULL, and its size is not 0"));
    }
    if capacity > 0 {
        let cut = (0..=text.len().min(capacity - 1)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        // SAFETY: `cut` and a NUL are at most `capacity` bytes, and our text is not in the caller's buffer.
        unsafe {
            buffer.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), cut);
            buffer.add(cut).write(0);
        }
    }
    if let Some(length) = length {
        length.write(text.len());
    }
    Ok(())
}

/// A call that writes the text it answers with into a buffer.
///
/// # Safety
/// That of [`write_text`].
pub unsafe fn enter_with_text(
    buffer: *mut c_char,
    capacity: usize,
    length: Option<&mut MaybeUninit<usize>>,
    call: impl FnOnce() -> Result<String>,
) -> i32 {
    enter(|| {
        let text = call()?;
        // SAFETY: the caller's.
        unsafe { write_text(&text, buffer, capacity, length) }
    })
}

/// Text for C with a NUL at its end; a NUL inside (no text of ours has one) ends it early.
pub fn c_text(text: impl Into<Vec<u8>>) -> CString {
    CString::new(text).unwrap_or_else(|error| {
        let end = error.nul_position();
        CString::new(&error.into_vec()[..end]).unwrap_or_default()
    })
}

/// The program's own pointer, and what is called when it is no longer needed: exactly once.
pub struct User {
    pub pointer: *mut c_void,
    pub drop: Option<unsafe extern "C" fn(user: *mut c_void)>,
}

// SAFETY: the header says on which threads callbacks and the drop function run, and that the pointer must bear it.
unsafe impl Send for User {}
// SAFETY: the same; nothing is done with the pointer here but handing it over.
unsafe impl Sync for User {}

impl Drop for User {
    fn drop(&mut self) {
        if let Some(drop) = self.drop {
            // SAFETY: the program registered the function for this pointer, and this is the one call of it.
            unsafe { drop(self.pointer) }
        }
    }
}

/// A function of the program that runs once on the loop's thread, or is dropped without.
pub struct Task {
    pub function: unsafe extern "C" fn(user: *mut c_void),
    pub user: User,
}

impl Task {
    pub fn run(self) {
        // SAFETY: the program registered the function for this pointer.
        unsafe { (self.function)(self.user.pointer) }
    }
}
