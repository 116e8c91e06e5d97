//! libuv, as much of it as this door needs. The functions are in the Node binary that loads the addon.

use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;
use std::ptr::NonNull;

/// `uv_loop_t`, by its address only.
pub type Loop = napi::sys::uv_loop_s;

/// Any `uv_handle_t`, by its address only.
#[repr(C)]
pub struct Handle {
    _opaque: [u8; 0],
}

/// What libuv calls for a timer, before it waits, and when a handle is closed.
pub type Callback = unsafe extern "C" fn(*mut Handle);
/// What libuv calls for a descriptor: the handle, a status, the events.
pub type PollCallback = unsafe extern "C" fn(*mut Handle, c_int, c_int);

const READABLE: c_int = 1;
// The kinds of handles, as `uv_handle_type` numbers them; they are part of libuv's ABI.
const POLL: c_int = 8;
const PREPARE: c_int = 9;
const TIMER: c_int = 13;

unsafe extern "C" {
    fn uv_handle_size(kind: c_int) -> usize;
    fn uv_handle_get_data(handle: *const Handle) -> *mut c_void;
    fn uv_handle_set_data(handle: *mut Handle, data: *mut c_void);
    fn uv_close(handle: *mut Handle, closed: Option<Callback>);
    fn uv_ref(handle: *mut Handle);
    fn uv_unref(handle: *mut Handle);
    fn uv_now(uv_loop: *const Loop) -> u64;
    fn uv_poll_init(uv_loop: *mut Loop, handle: *mut Handle, descriptor: c_int) -> c_int;
    fn uv_poll_start(handle: *mut Handle, events: c_int, call: Option<PollCallback>) -> c_int;
    fn uv_prepare_init(uv_loop: *mut Loop, handle: *mut Handle) -> c_int;
    fn uv_prepare_start(handle: *mut Handle, call: Option<Callback>) -> c_int;
    fn uv_timer_init(uv_loop: *mut Loop, handle: *mut Handle) -> c_int;
    fn uv_timer_start(handle: *mut Handle, call: Option<Callback>, timeout: u64, repeat: u64) -> c_int;
    fn uv_timer_stop(handle: *mut Handle) -> c_int;
}

/// The three handles by which libuv turns the engine: its descriptor, its next deadline, and the moment before libuv
/// waits. Only the descriptor's can keep the process alive, and only while [`Watch::hold`] says so.
pub struct Watch {
    uv_loop: *mut Loop,
    poll: NonNull<Handle>,
    prepare: NonNull<Handle>,
    timer: NonNull<Handle>,
}

/// How many handles a [`Watch`] has: so often [`Watch::close`] calls back.
pub const HANDLES: usize = 3;

/// Memory for a handle, in the size that this libuv wants; given back by [`free`].
fn allocate(kind: c_int) -> NonNull<Handle> {
    // SAFETY: a plain question.
    let size = unsafe { uv_handle_size(kind) };
    // Two words in front keep the length for `free`, and the alignment of 16 that any C struct is content with.
    let words = size.div_ceil(16) + 1;
    let mut memory: Box<[u128]> = vec![0; words].into_boxed_slice();
    memory[0] = words as u128;
    let start = Box::into_raw(memory).cast::<u128>();
    // SAFETY: `words` is at least 1, so the address is inside the allocation or one past its end; never null.
    unsafe { NonNull::new_unchecked(start.add(1).cast()) }
}

/// Frees the memory of a handle.
///
/// # Safety
/// `handle` is one of a [`Watch`], and libuv has called back that it is closed.
pub unsafe fn free(handle: *mut Handle) {
    // SAFETY: it came from `allocate`, which put the number of words in front.
    unsafe {
        let start = handle.cast::<u128>().sub(1);
        drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(start, *start as usize)));
    }
}

/// The data of a handle.
///
/// # Safety
/// `handle` is one of a [`Watch`] that was started.
pub unsafe fn data<T>(handle: *const Handle) -> *const T {
    // SAFETY: as the caller promises.
    unsafe { uv_handle_get_data(handle) }.cast()
}

impl Watch {
    /// Begins to watch `descriptor`, with `data` on each handle. The handles do not keep the process alive.
    ///
    /// # Safety
    /// `uv_loop` is the running loop of this thread; `data` is what the callbacks expect, until all handles are closed.
    pub unsafe fn start(
        uv_loop: *mut Loop,
        descriptor: RawFd,
        data: *const c_void,
        readable: PollCallback,
        before_waiting: Callback,
    ) -> Result<Self, c_int> {
        let watch = Self { uv_loop, poll: allocate(POLL), prepare: allocate(PREPARE), timer: allocate(TIMER) };
        let handles = [watch.poll.as_ptr(), watch.prepare.as_ptr(), watch.timer.as_ptr()];
        // SAFETY: the memory is as large as libuv asked for; each handle is initialised before it is used.
        unsafe {
            let status = uv_poll_init(uv_loop, watch.poll.as_ptr(), descriptor);
            if status != 0 {
                // Not initialised, so nothing will be called back for them.
                handles.into_iter().for_each(|handle| free(handle));
                return Err(status);
            }
            uv_prepare_init(uv_loop, watch.prepare.as_ptr());
            uv_timer_init(uv_loop, watch.timer.as_ptr());
            for handle in handles {
                uv_handle_set_data(handle, data.cast_mut());
                uv_unref(handle);
            }
            uv_prepare_start(watch.prepare.as_ptr(), Some(before_waiting));
            uv_poll_start(watch.poll.as_ptr(), READABLE, Some(readable));
        }
        Ok(watch)
    }

    /// Whether this watch keeps the process alive.
    pub fn hold(&self, hold: bool) {
        // SAFETY: the handle is initialised; both are idempotent.
        unsafe { if hold { uv_ref(self.poll.as_ptr()) } else { uv_unref(self.poll.as_ptr()) } }
    }

    /// The time of the loop, in milliseconds.
    pub fn now(&self) -> u64 {
        // SAFETY: the loop outlives its handles.
        unsafe { uv_now(self.uv_loop) }
    }

    /// Calls `call` once, after so many milliseconds, instead of what was set before.
    pub fn set_timer(&self, after: u64, call: Callback) {
        // SAFETY: the handle is initialised.
        unsafe { uv_timer_start(self.timer.as_ptr(), Some(call), after, 0) };
    }

    /// Calls nothing.
    pub fn stop_timer(&self) {
        // SAFETY: the handle is initialised.
        unsafe { uv_timer_stop(self.timer.as_ptr()) };
    }

    /// Ends all handles; `closed` is called for each of them, from the loop, and frees it.
    pub fn close(self, closed: Callback) {
        for handle in [self.poll, self.prepare, self.timer] {
            // SAFETY: the handle is initialised and not closing, for `self` is given up.
            unsafe { uv_close(handle.as_ptr(), Some(closed)) };
        }
    }
}
