//! Messages whose bytes are not copied: given to the library, or encoded once and sent to many.

use std::ffi::c_void;

use wsx_core::{Connection, OwnedMessage, Result, SharedMessage};

use crate::boundary::{bytes, enter, message, message_kind, needed};
use crate::callbacks::wsx_connection;

/// Frees memory that was given to the library.
pub type wsx_release = Option<unsafe extern "C" fn(payload: *mut c_void, length: usize, context: *mut c_void)>;

/// A message that is encoded once, to be sent many times: opaque.
pub struct wsx_shared(SharedMessage);

/// The program's memory, until it is released.
struct Given {
    payload: *mut c_void,
    length: usize,
    release: wsx_release,
    context: *mut c_void,
}

// SAFETY: the header says that the memory is the library's from the call on, and on which threads it is released.
unsafe impl Send for Given {}

impl Given {
    /// Whether there is memory as told; what is not there is not looked at.
    fn check(&self) -> Result<()> {
        // SAFETY: the contract of the crate.
        unsafe { bytes(self.payload, self.length, "payload") }.map(drop)
    }
}

impl AsRef<[u8]> for Given {
    fn as_ref(&self) -> &[u8] {
        if self.length == 0 {
            return &[];
        }
        // SAFETY: not NULL where there are bytes, as `check` saw, and nobody else's until it is released.
        unsafe { std::slice::from_raw_parts(self.payload.cast(), self.length) }
    }
}

impl AsMut<[u8]> for Given {
    fn as_mut(&mut self) -> &mut [u8] {
        if self.length == 0 {
            return &mut [];
        }
        // SAFETY: as above; the header says that it may be written to.
        unsafe { std::slice::from_raw_parts_mut(self.payload.cast(), self.length) }
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: the program gave this function for this memory, and this is the one call of it.
            unsafe { release(self.payload, self.length, self.context) }
        }
    }
}

/// Sends a message whose memory the library keeps until it has left, instead of copying it: from this call on it belongs to
/// the library, which calls release(payload, length, context) exactly once, also where this answers an error; NULL: never.
/// A client masks it where it lies, so that it must be writable. Messages below 16 KiB, and those that are compressed, are
/// copied all the same. Everything else is as of wsx_send(). release is called on the loop's thread, or that of the call,
/// and must not call the library. [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_send_owned(
    connection: wsx_connection,
    kind: i32,
    payload: *mut c_void,
    length: usize,
    release: wsx_release,
    context: *mut c_void,
) -> i32 {
    let given = Given { payload, length, release, context };
    enter(|| {
        given.check()?;
        Connection::from_id(connection).send_owned(OwnedMessage::new(message_kind(kind)?, given)?)
    })
}

/// Encodes a message, which is copied, to be sent many times by wsx_send_shared(). It is to be freed with wsx_shared_free().
/// Like all that is done with it, from any thread, also several at once. [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_shared_new(
    kind: i32,
    payload: *const c_void,
    length: usize,
    shared: Option<&mut *mut wsx_shared>,
) -> i32 {
    enter(|| {
        let out = needed(shared, "shared")?;
        // SAFETY: the contract of the crate.
        let message = unsafe { message(kind, payload, length) }?;
        *out = Box::into_raw(Box::new(wsx_shared(SharedMessage::new(message))));
        Ok(())
    })
}

/// Gives a shared message up; what was sent of it is still delivered. NULL is fine. [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_shared_free(shared: *mut wsx_shared) {
    if !shared.is_null() {
        // SAFETY: not NULL, so it came from `wsx_shared_new` and is freed once.
        drop(unsafe { Box::from_raw(shared) });
    }
}

/// Sends a shared message: to a server's peer the very bytes that all get, compressed at most once for all; a client's are
/// masked, and so copied. Everything else is as of wsx_send(). [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_send_shared(connection: wsx_connection, shared: Option<&wsx_shared>) -> i32 {
    enter(|| Connection::from_id(connection).send_shared(&needed(shared, "shared")?.0))
}
