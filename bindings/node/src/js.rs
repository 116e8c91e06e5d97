//! Calling JavaScript from libuv's callbacks: references, scopes, exceptions.

use napi::sys;

/// A value that is kept for as long as the environment lives; the environment frees it.
pub struct Kept {
    env: sys::napi_env,
    reference: sys::napi_ref,
}

impl Kept {
    /// Keeps a value of the present scope.
    pub fn new(env: sys::napi_env, value: sys::napi_value) -> napi::Result<Self> {
        let mut reference = std::ptr::null_mut();
        // SAFETY: environment and value belong together: both come from the call that is running.
        let status = unsafe { sys::napi_create_reference(env, value, 1, &mut reference) };
        match status {
            sys::Status::napi_ok => Ok(Self { env, reference }),
            _ => Err(napi::Error::from_reason("a reference could not be made")),
        }
    }

    /// The value, in the present scope.
    pub fn value(&self) -> sys::napi_value {
        let mut value = std::ptr::null_mut();
        // SAFETY: the reference is strong, and lives as long as the environment.
        unsafe { sys::napi_get_reference_value(self.env, self.reference, &mut value) };
        value
    }
}

/// A scope for values, around what libuv calls.
pub struct Scope {
    env: sys::napi_env,
    scope: sys::napi_handle_scope,
}

impl Scope {
    /// Opens a scope; it is closed when this is dropped.
    pub fn open(env: sys::napi_env) -> Self {
        let mut scope = std::ptr::null_mut();
        // SAFETY: the environment is alive, and this is its thread.
        unsafe { sys::napi_open_handle_scope(env, &mut scope) };
        Self { env, scope }
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        if !self.scope.is_null() {
            // SAFETY: opened by `open`, and scopes nest as Rust's do.
            unsafe { sys::napi_close_handle_scope(self.env, self.scope) };
        }
    }
}

/// Why a call brought no value.
pub enum Failed {
    /// It threw; the exception was reported as uncaught, and the program goes on.
    Threw,
    /// JavaScript does not run any more: the worker, or the process, is ending.
    Over,
}

/// Calls a function as an event of its own: ticks and microtasks run behind it. What it throws is reported as Node
/// reports uncaught exceptions.
pub fn call(
    env: sys::napi_env,
    this: &Kept,
    function: &Kept,
    arguments: &[sys::napi_value],
) -> Result<sys::napi_value, Failed> {
    let mut result = std::ptr::null_mut();
    // SAFETY: all values are of the present scope; a null context is an empty one.
    let status = unsafe {
        sys::napi_make_callback(
            env,
            std::ptr::null_mut(),
            this.value(),
            function.value(),
            arguments.len(),
            arguments.as_ptr(),
            &mut result,
        )
    };
    if status == sys::Status::napi_ok { Ok(result) } else { Err(report(env)) }
}

/// Reports the exception that is pending.
#[cold]
fn report(env: sys::napi_env) -> Failed {
    let (mut pending, mut exception) = (false, std::ptr::null_mut());
    // SAFETY: plain calls on the environment's own thread; where JavaScript must not run they answer so.
    unsafe {
        sys::napi_is_exception_pending(env, &mut pending);
        if !pending
            || sys::napi_get_and_clear_last_exception(env, &mut exception) != sys::Status::napi_ok
            || sys::napi_fatal_exception(env, exception) != sys::Status::napi_ok
        {
            return Failed::Over;
        }
    }
    Failed::Threw
}

/// Reports an error of the system as an uncaught exception.
#[cold]
pub fn throw_uncaught(env: sys::napi_env, text: &str) {
    let (mut message, mut error) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: the text is copied; the values are of the present scope.
    unsafe {
        sys::napi_create_string_utf8(env, text.as_ptr().cast(), text.len() as isize, &mut message);
        if sys::napi_create_error(env, std::ptr::null_mut(), message, &mut error) == sys::Status::napi_ok {
            sys::napi_fatal_exception(env, error);
        }
    }
}

/// A string whose characters are these bytes, as Node shows the heads of HTTP.
pub fn latin1(env: sys::napi_env, bytes: &[u8]) -> sys::napi_value {
    let mut string = std::ptr::null_mut();
    // SAFETY: the bytes are copied.
    unsafe { sys::napi_create_string_latin1(env, bytes.as_ptr().cast(), bytes.len() as isize, &mut string) };
    string
}

/// A number.
pub fn number(env: sys::napi_env, value: u32) -> sys::napi_value {
    let mut number = std::ptr::null_mut();
    // SAFETY: a plain call.
    unsafe { sys::napi_create_uint32(env, value, &mut number) };
    number
}

/// Puts a Buffer with a copy of `bytes` into an array; false where there is no memory for it.
pub fn put_buffer(env: sys::napi_env, array: &Kept, at: u32, bytes: &[u8]) -> bool {
    let _scope = Scope::open(env);
    let (mut buffer, mut exception) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: the bytes are copied; the values are of the scope above.
    unsafe {
        let made =
            sys::napi_create_buffer_copy(env, bytes.len(), bytes.as_ptr().cast(), std::ptr::null_mut(), &mut buffer);
        if made == sys::Status::napi_ok && sys::napi_set_element(env, array.value(), at, buffer) == sys::Status::napi_ok
        {
            return true;
        }
        sys::napi_get_and_clear_last_exception(env, &mut exception);
    }
    false
}
