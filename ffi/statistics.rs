//! Statistics: what was counted, as a struct of figures and as text for Prometheus.

use std::ffi::c_char;
use std::mem::{MaybeUninit, size_of};

use wsx_core::{Listener, Refusal, Statistics};

use crate::boundary::{enter, invalid, needed, write_text};
use crate::callbacks::{failure_kind, stage, wsx_listener};
use crate::event_loop::wsx_loop;

/// 503: max_connections.
pub const WSX_REFUSED_FULL: i32 = 1;
/// 400: malformed HTTP, or a malformed opening handshake; TLS where plain HTTP is spoken.
pub const WSX_REFUSED_BAD_REQUEST: i32 = 2;
/// 405: neither GET nor HEAD.
pub const WSX_REFUSED_METHOD: i32 = 3;
/// 426: no opening handshake where a WebSocket is served, or one of another version.
pub const WSX_REFUSED_UPGRADE: i32 = 4;
/// 431: max_head or max_headers.
pub const WSX_REFUSED_HEAD_TOO_BIG: i32 = 5;
/// 404: the option path.
pub const WSX_REFUSED_PATH: i32 = 6;
/// 403: the option origins.
pub const WSX_REFUSED_ORIGIN: i32 = 7;
/// on_request rejected an opening handshake.
pub const WSX_REFUSED_HOOK: i32 = 8;
/// 500: on_request answered what cannot be sent.
pub const WSX_REFUSED_HOOK_FAILED: i32 = 9;
/// The TLS handshake failed; or there was none but plain HTTP, which gets 400.
pub const WSX_REFUSED_TLS: i32 = 10;
/// handshake_timeout: 408 where a request was begun.
pub const WSX_REFUSED_TIMEOUT: i32 = 11;
/// The client left before its request was whole.
pub const WSX_REFUSED_LEFT: i32 = 12;
/// The loop shut down first.
pub const WSX_REFUSED_SHUTDOWN: i32 = 13;
/// 503, or closed at once: max_connections_per_address.
pub const WSX_REFUSED_ADDRESS: i32 = 14;

/// What was counted, up to now, of a listener's connections or of all connections of a loop. connections, handshakes and
/// buffered_bytes tell what is; everything else counts from the beginning, and never falls.
///
/// Each accepted connection is in the end one of opened, streams, answered and refused. Messages and bytes are counted by
/// receive and by write, so that counting costs next to nothing: a callback may find what its own receive has brought not
/// counted yet.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct wsx_statistics {
    /// Size of this struct as the program knows it: set it before the call. What lies beyond it is not written.
    pub size: usize,
    /// Connections that are open or closing, and HTTP streams: on_close has not been called.
    pub connections: u64,
    /// Connections on their way to that: in the opening handshake, or being refused or answered.
    pub handshakes: u64,
    /// Bytes that wait because the kernel takes no more, over all connections, frame headers included.
    pub buffered_bytes: u64,
    /// Server: connections that were accepted.
    pub accepted: u64,
    /// Client: connections that were begun.
    pub connects: u64,
    /// Opening handshakes that succeeded: calls of on_open.
    pub opened: u64,
    /// Server: HTTP streams that were begun.
    pub streams: u64,
    /// Server: plain HTTP requests that on_request answered, but by streams.
    pub answered: u64,
    /// Server: connections that came to nothing, by WSX_REFUSED_ constant.
    pub refused: [u64; 32],
    /// Client: connections that did not open, by WSX_STAGE_ constant. What the program gave up itself is not here.
    pub connects_failed: [u64; 16],
    /// Messages told to the program; one that is handed over in fragments counts with its last one.
    pub messages_received: u64,
    /// Messages taken from the program, once for each receiver of a broadcast or publish. Some may be lost later.
    pub messages_sent: u64,
    /// Bytes received, everything included: HTTP heads, frame headers, control frames. Over TLS after decryption; as they
    /// came where they are compressed.
    pub bytes_received: u64,
    /// Bytes that the kernel took, counted in the same way.
    pub bytes_sent: u64,
    /// Messages that were taken and then lost: lost_messages of wsx_close_info, of all connections.
    pub messages_lost: u64,
    /// Calls of on_error, by WSX_STAGE_ and WSX_FAILURE_ constant: failures[WSX_STAGE_TLS][WSX_FAILURE_PROTOCOL].
    pub failures: [[u64; 16]; 16],
    /// Calls of on_close with a code from 1000 to 1015, by code less 1000.
    pub closes: [u64; 16],
    /// Calls of on_close with a code from 3000 to 3999.
    pub closes_3000: u64,
    /// Calls of on_close with a code from 4000 to 4999.
    pub closes_4000: u64,
    /// Calls of on_listener_error.
    pub listener_errors: u64,
    /// Turns of the loop; 0 for a listener.
    pub turns: u64,
    /// The longest time, in nanoseconds, that the callbacks of one connection took for what one receive brought, or any
    /// other single callback; with wsx_options_set_measure_callbacks(), else 0. 0 for a listener.
    pub longest_callback_ns: u64,
}

fn cause(cause: Refusal) -> i32 {
    match cause {
        Refusal::Full => WSX_REFUSED_FULL,
        Refusal::BadRequest => WSX_REFUSED_BAD_REQUEST,
        Refusal::Method => WSX_REFUSED_METHOD,
        Refusal::Upgrade => WSX_REFUSED_UPGRADE,
        Refusal::HeadTooBig => WSX_REFUSED_HEAD_TOO_BIG,
        Refusal::Path => WSX_REFUSED_PATH,
        Refusal::Origin => WSX_REFUSED_ORIGIN,
        Refusal::Hook => WSX_REFUSED_HOOK,
        Refusal::HookFailed => WSX_REFUSED_HOOK_FAILED,
        Refusal::Tls => WSX_REFUSED_TLS,
        Refusal::Timeout => WSX_REFUSED_TIMEOUT,
        Refusal::Left => WSX_REFUSED_LEFT,
        Refusal::Shutdown => WSX_REFUSED_SHUTDOWN,
        Refusal::Address => WSX_REFUSED_ADDRESS,
        _ => 0,
    }
}

fn put(figures: &mut [u64], at: i32, count: u64) {
    // What the constants do not know yet is at 0.
    if let Some(figure) = figures.get_mut(at as usize) {
        *figure += count;
    }
}

impl From<&Statistics> for wsx_statistics {
    fn from(counted: &Statistics) -> Self {
        let mut this = Self {
            size: size_of::<Self>(),
            connections: counted.connections,
            handshakes: counted.handshakes,
            buffered_bytes: counted.buffered_bytes,
            accepted: counted.accepted,
            connects: counted.connects,
            opened: counted.opened,
            streams: counted.streams,
            answered: counted.answered,
            messages_received: counted.messages_received,
            messages_sent: counted.messages_sent,
            bytes_received: counted.bytes_received,
            bytes_sent: counted.bytes_sent,
            messages_lost: counted.messages_lost,
            closes_3000: counted.closes.get(&3000).copied().unwrap_or(0),
            closes_4000: counted.closes.get(&4000).copied().unwrap_or(0),
            listener_errors: counted.listener_errors,
            turns: counted.turns,
            longest_callback_ns: counted.longest_callback,
            ..Self::default()
        };
        for (why, count) in &counted.refused {
            put(&mut this.refused, cause(*why), *count);
        }
        for (how_far, count) in &counted.connects_failed {
            put(&mut this.connects_failed, stage(*how_far), *count);
        }
        for ((how_far, what), count) in &counted.failures {
            if let Some(kinds) = this.failures.get_mut(stage(*how_far) as usize) {
                put(kinds, failure_kind(*what), *count);
            }
        }
        for (code, count) in counted.closes.range(1000..1016) {
            put(&mut this.closes, i32::from(*code) - 1000, *count);
        }
        this
    }
}

/// Writes what was counted into the struct of a program, which may be an older or a newer one than ours.
///
/// # Safety
/// See the crate: NULL, or a struct of the size that it says.
unsafe fn write(counted: &Statistics, statistics: *mut wsx_statistics) -> wsx_core::Result<()> {
    let all = wsx_statistics::from(counted);
    if statistics.is_null() {
        return Err(invalid("statistics is NULL"));
    }
    // SAFETY: not NULL, and its size is its first field, whatever comes behind.
    let size = unsafe { statistics.cast::<usize>().read() };
    if size < size_of::<usize>() {
        return Err(invalid(format!("the size of statistics is {size}: set it to sizeof(wsx_statistics)")));
    }
    let known = size.min(size_of::<wsx_statistics>());
    // SAFETY: at most as many bytes as either has, and ours is not the program's. The fields have no gaps between them.
    unsafe {
        std::ptr::from_ref(&all).cast::<u8>().copy_to_nonoverlapping(statistics.cast(), known);
        statistics.cast::<usize>().write(size);
    }
    Ok(())
}

/// Writes what was counted of a listener's connections, or of all of the loop where it is 0, on all threads. The first
/// field, size, must be set: wsx_statistics statistics = {.size = sizeof statistics}. What a newer header knows and this
/// library does not stays as it was: zero it. A listener is known until it is closed and its last connection gone; then it
/// is WSX_ERR_CLOSED. [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_loop_statistics(
    event_loop: Option<&wsx_loop>,
    listener: wsx_listener,
    statistics: *mut wsx_statistics,
) -> i32 {
    enter(|| {
        let event_loop = needed(event_loop, "loop")?;
        let counted = match listener {
            0 => event_loop.handle.statistics()?,
            _ => Listener::from_id(listener).statistics()?,
        };
        // SAFETY: the contract of the crate.
        unsafe { write(&counted, statistics) }
    })
}

/// Writes what one thread of the loop has counted: 0 is the first, and WSX_ERR_INVALID is beyond the last. [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_loop_thread_statistics(
    event_loop: Option<&wsx_loop>,
    thread: usize,
    statistics: *mut wsx_statistics,
) -> i32 {
    enter(|| {
        let threads = needed(event_loop, "loop")?.handle.thread_statistics()?;
        let counted = threads.get(thread);
        let counted = counted.ok_or_else(|| invalid(format!("thread {thread}: the loop has {}", threads.len())))?;
        // SAFETY: the contract of the crate.
        unsafe { write(counted, statistics) }
    })
}

/// Writes everything that was counted, on all threads, in the text format of Prometheus into a buffer: cut to what fits,
/// always with a NUL. The whole length, without the NUL, may go to NULL. For each listener its address is the label
/// listener; clients, and the loop itself, have none. on_request can answer it as it is, with the content type
/// "text/plain; version=0.0.4; charset=utf-8". [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_loop_metrics(
    event_loop: Option<&wsx_loop>,
    buffer: *mut c_char,
    capacity: usize,
    length: Option<&mut MaybeUninit<usize>>,
) -> i32 {
    enter(|| {
        let metrics = needed(event_loop, "loop")?.handle.metrics()?;
        // SAFETY: the contract of the crate.
        unsafe { write_text(&metrics, buffer, capacity, length) }
    })
}
