//! Sleeping until a loop has work, without the GIL, and awake for signals at once.
//!
//! Python's own handler of a signal only sets a flag, on whatever thread the system has chosen. Looking at the flag before
//! and after a sleep would miss one that is set between the look and the sleep, or on another thread; so Python is asked
//! to write a byte as well (`signal.set_wakeup_fd`), into a pipe that the sleep watches. Whoever was told before is told
//! again afterwards, and what he missed is handed on.

use std::cell::Cell;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// What a signal writes to, on the thread where Python handles signals.
pub(crate) struct Signals {
    reader: UnixStream,
    writer: UnixStream,
    /// Who was told before; negative for nobody.
    before: Cell<RawFd>,
}

impl Signals {
    /// Something to be told by; None on a thread where Python handles no signals.
    pub(crate) fn here(py: Python<'_>) -> PyResult<Option<Self>> {
        let threading = py.import("threading")?;
        let main = threading.call_method0("main_thread")?.getattr("ident")?;
        if !threading.call_method0("get_ident")?.eq(main)? {
            return Ok(None);
        }
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        Ok(Some(Self { reader, writer, before: Cell::new(-1) }))
    }

    /// Calls while signals are told here.
    pub(crate) fn listen<R>(&self, py: Python<'_>, call: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
        self.before.set(set_wakeup(py, self.writer.as_raw_fd())?);
        let result = call();
        set_wakeup(py, self.before.get())?;
        self.hand_on();
        result
    }

    /// Takes the bytes that have come, for who would have got them.
    fn hand_on(&self) {
        let before = self.before.get();
        let mut signals = [0; 64];
        while let Ok(count @ 1..) = (&self.reader).read(&mut signals) {
            if before >= 0 {
                // SAFETY: the program has given this descriptor to Python to be written to, as is done here.
                let other = unsafe { BorrowedFd::borrow_raw(before) };
                if let Ok(other) = other.try_clone_to_owned() {
                    let _ = std::fs::File::from(other).write(&signals[..count]);
                }
            }
        }
    }
}

fn set_wakeup(py: Python<'_>, descriptor: RawFd) -> PyResult<RawFd> {
    let keywords = PyDict::new(py);
    keywords.set_item("warn_on_full_buffer", false)?;
    py.import("signal")?.call_method("set_wakeup_fd", (descriptor,), Some(&keywords))?.extract()
}

/// Sleeps until the descriptor is readable, a signal comes, or the time is over. Signals that came before are handled
/// first, and `timeout` is asked after that: a handler may do anything.
pub(crate) fn wait(
    py: Python<'_>,
    descriptor: RawFd,
    signals: Option<&Signals>,
    timeout: impl FnOnce() -> PyResult<Option<Duration>>,
) -> PyResult<()> {
    py.check_signals()?;
    let timeout = timeout()?;
    if timeout == Some(Duration::ZERO) {
        return Ok(());
    }
    let told = signals.map_or(-1, |signals| signals.reader.as_raw_fd());
    if py.detach(|| poll(descriptor, told, timeout))
        && let Some(signals) = signals
    {
        signals.hand_on();
        py.check_signals()?;
    }
    Ok(())
}

/// Answers whether a signal was told. An interruption is as good as an event: the caller looks again.
fn poll(descriptor: RawFd, told: RawFd, timeout: Option<Duration>) -> bool {
    let watch = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // A negative descriptor is not looked at.
    let mut watched = [watch(descriptor), watch(told)];
    let timeout = timeout.map_or(-1, |timeout| {
        let millis = timeout.as_nanos().div_ceil(1_000_000);
        millis.min(i32::MAX as u128) as i32
    });
    // SAFETY: the pointer and the count are those of the array above.
    let events = unsafe { libc::poll(watched.as_mut_ptr(), watched.len() as libc::nfds_t, timeout) };
    events > 0 && watched[1].revents != 0
}
