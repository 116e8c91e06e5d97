//! The Python door: `wsx._wsx`, the native half of the package `wsx`.
//!
//! It wraps the public API of `wsx_core` and decides nothing. What Python sees of it is in `python/wsx/_wsx.pyi`.
//!
//! ```text
//! event_loop   EventLoop: run, turn, listen, connect          hooks     the engine's callbacks to Python's
//! connection   Connection, by its number                      door      what the objects of one loop share
//! message      SharedMessage
//! listener     Listener, Timer                                wait      sleeping without the GIL, awake for signals
//! request      Request, Opening, Response     close           Close, Failure
//! client       Client, that connects again; Reconnecting, GiveUp
//! inbox        what coroutines receive from
//! logging      the engine's log to a logger
//! options      keywords to options            payload         str and bytes-like to messages, and back
//! statistics   what was counted, as `wsx.Statistics`
//! tls          `wsx.TLS` to the engine's choices
//! errors       the engine's errors to exceptions (which are defined in Python)
//! ```
//!
//! A turn is made with the GIL held: it never waits. Waiting is done by [`wait`], without the GIL. The engine's locks are
//! held only for short work that never calls Python, so that calls from other threads may keep the GIL as well.

use pyo3::prelude::*;

mod client;
mod close;
mod connection;
mod door;
mod errors;
mod event_loop;
mod hooks;
mod inbox;
mod listener;
mod logging;
mod message;
mod options;
mod payload;
mod request;
mod statistics;
mod tls;
mod wait;

/// The native half of wsx.
#[pymodule]
mod _wsx {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::client::{Client, GiveUp, Reconnecting};
    #[pymodule_export]
    use super::close::{Close, Failure, Limit};
    #[pymodule_export]
    use super::connection::Connection;
    #[pymodule_export]
    use super::event_loop::EventLoop;
    #[pymodule_export]
    use super::inbox::{Arrival, Inbox};
    #[pymodule_export]
    use super::listener::{Listener, Timer};
    #[pymodule_export]
    use super::message::SharedMessage;
    #[pymodule_export]
    use super::request::{Fragment, Opening, Request, Response};

    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_init]
    fn init(_module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::keep_large_blocks();
        Ok(())
    }
}

/// A large message is there twice for a moment, as the engine's and as Python's. glibc gives as much back to the system
/// each time, and the system clears each page of it again: four times what the echo of a mebibyte takes else. How much it
/// keeps follows the largest block that was ever freed (`M_MMAP_THRESHOLD` in mallopt(3)): it is shown one, of which no
/// page is touched.
fn keep_large_blocks() {
    const LARGE: usize = 4 * 1024 * 1024;
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE)));
}
