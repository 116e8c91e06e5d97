//! What libuv and Node call.

use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use napi::sys;

use super::Engine;
use crate::{js, uv};

impl Engine {
    /// Nothing may unwind into libuv: a panic, which is a defect of this door, is told as an error that nobody catches.
    fn guarded(&self, call: impl FnOnce()) {
        let Err(panic) = catch_unwind(AssertUnwindSafe(call)) else { return };
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        let _scope = self.scope();
        js::throw_uncaught(self.env, &format!("defect in libwsx, please report it: {}", text.unwrap_or("no message")));
    }
}

/// The engine of a handle.
///
/// # Safety
/// `handle` is one of a running [`Watch`].
unsafe fn engine<'h>(handle: *mut uv::Handle) -> &'h Engine {
    // SAFETY: its data is the engine, which the handles own until the last is closed.
    unsafe { &*uv::data::<Engine>(handle) }
}

pub(super) unsafe extern "C" fn readable(handle: *mut uv::Handle, _status: c_int, _events: c_int) {
    // SAFETY: libuv calls this for our handle.
    let engine = unsafe { engine(handle) };
    engine.guarded(|| engine.turn());
}

pub(super) unsafe extern "C" fn deadline_is_over(handle: *mut uv::Handle) {
    // SAFETY: libuv calls this for our handle.
    let engine = unsafe { engine(handle) };
    engine.armed.set(None);
    engine.guarded(|| engine.turn());
}

pub(super) unsafe extern "C" fn before_waiting(handle: *mut uv::Handle) {
    // SAFETY: libuv calls this for our handle.
    let engine = unsafe { engine(handle) };
    if engine.memory.has_commands() || engine.is_touched.get() || !engine.feedback.borrow().is_empty() {
        engine.guarded(|| {
            let _scope = engine.scope();
            engine.finish();
        });
    }
}

pub(super) unsafe extern "C" fn environment_ends(hook: sys::napi_async_cleanup_hook_handle, engine: *mut c_void) {
    // SAFETY: the hook was added with the engine, which the handles own.
    let engine = unsafe { &*engine.cast::<Engine>() };
    engine.hook.set(hook);
    engine.end();
}

pub(super) unsafe extern "C" fn handle_is_closed(handle: *mut uv::Handle) {
    // SAFETY: libuv calls this once for each of our handles, which owns the engine together with the others.
    unsafe {
        let data = uv::data::<Engine>(handle);
        uv::free(handle);
        let left = (*data).open_handles.get() - 1;
        (*data).open_handles.set(left);
        if left == 0 {
            sys::napi_remove_async_cleanup_hook((*data).hook.get());
            drop(Rc::from_raw(data));
        }
    }
}
