//! How a turn waits for events: asleep, or, where the program wants the shortest latency, awake for a while first.
//!
//! Waking a thread costs more than a small message does. With a `busy_poll` time the loop asks again and again for so
//! long before it sleeps. It does so only while that pays: a sleep that was longer than the whole time halves the next
//! attempt, one that was shorter shows that it would have been worth it.
//!
//! What is watched is registered with mio; the wait itself is the system's own call, without the C library's preparations for
//! the cancelling of threads, and what it fills is read as it is.

use std::time::{Duration, Instant};

use mio::Token;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;

use super::timers::Micros;

/// More than these are told by the next wait.
const EVENTS: usize = 1024;
/// The longest sleep that every kernel can be asked for, 24 days.
const LONGEST: Micros = i32::MAX as Micros * 1000;

/// Rounds up: what is waited for is never asked for early.
pub(super) fn in_micros(duration: Duration) -> Micros {
    u64::try_from(duration.as_nanos().div_ceil(1000)).unwrap_or(Micros::MAX)
}

/// What the last wait has brought.
pub(super) struct Events(Vec<epoll::Event>);

impl Events {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(EVENTS))
    }

    #[inline]
    pub(super) fn iter(&self) -> impl Iterator<Item = Event> {
        self.0.iter().map(|event| Event { token: event.data.u64(), flags: event.flags })
    }

    /// Waits once, and sleeps for whole milliseconds; a signal ends it.
    #[inline]
    fn fill(&mut self, poll: &mio::Poll, timeout: Option<Micros>) -> Result<(), Errno> {
        self.0.clear();
        let timeout = timeout.map(|timeout| timeout.min(LONGEST) as i64);
        let timeout =
            timeout.map(|timeout| Timespec { tv_sec: timeout / 1_000_000, tv_nsec: timeout % 1_000_000 * 1000 });
        match epoll::wait(poll.registry(), spare_capacity(&mut self.0), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// What the system tells of something that is watched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    token: u64,
    flags: EventFlags,
}

impl Event {
    pub(super) fn token(self) -> Token {
        Token(self.token as usize)
    }

    /// Bytes can be received, and perhaps sent, and there is nothing else to tell.
    #[inline]
    pub(super) fn is_only_readable(self) -> bool {
        let told = self.flags & (EventFlags::IN | EventFlags::ERR | EventFlags::HUP | EventFlags::RDHUP);
        told == EventFlags::IN
    }

    #[inline]
    pub(super) fn is_readable(self) -> bool {
        self.flags.contains(EventFlags::IN)
    }

    #[inline]
    pub(super) fn is_writable(self) -> bool {
        self.flags.contains(EventFlags::OUT)
    }

    pub(super) fn is_error(self) -> bool {
        self.flags.contains(EventFlags::ERR)
    }

    /// The peer will send no more.
    pub(super) fn is_read_closed(self) -> bool {
        self.flags.contains(EventFlags::HUP) || self.flags.contains(EventFlags::IN | EventFlags::RDHUP)
    }
}

/// How a loop waits.
#[derive(Debug)]
pub(super) struct Waiting {
    /// None where it sleeps at once.
    awake: Option<Awake>,
}

#[derive(Debug)]
struct Awake {
    busy_poll: Duration,
    /// How long the next attempt lasts.
    attempt: Duration,
}

impl Waiting {
    pub(super) fn new(busy_poll: Duration) -> Self {
        Self { awake: (!busy_poll.is_zero()).then_some(Awake { busy_poll, attempt: busy_poll }) }
    }

    /// Waits for events, at most `timeout`.
    #[inline]
    pub(super) fn wait(&mut self, poll: &mio::Poll, events: &mut Events, timeout: Option<Micros>) -> Result<(), Errno> {
        match &mut self.awake {
            Some(awake) if timeout != Some(0) => awake.wait(poll, events, timeout),
            _ => events.fill(poll, timeout),
        }
    }
}

impl Awake {
    #[inline(never)]
    fn wait(&mut self, poll: &mio::Poll, events: &mut Events, timeout: Option<Micros>) -> Result<(), Errno> {
        let began = Instant::now();
        let attempt = timeout.map_or(self.attempt, |timeout| Duration::from_micros(timeout).min(self.attempt));
        while began.elapsed() < attempt {
            events.fill(poll, Some(0))?;
            if !events.0.is_empty() {
                self.attempt = self.busy_poll;
                return Ok(());
            }
            std::hint::spin_loop();
        }
        let asleep = Instant::now();
        let left = timeout.map(|timeout| in_micros(Duration::from_micros(timeout).saturating_sub(asleep - began)));
        events.fill(poll, left)?;
        self.attempt = if asleep.elapsed() < self.busy_poll { self.busy_poll } else { self.attempt / 2 };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_never_shorter_than_was_asked_for_and_never_too_large() {
        let [nothing, little, more] = [0, 1, 1_001].map(|nanos| in_micros(Duration::from_nanos(nanos)));
        assert_eq!((nothing, little, more, in_micros(Duration::MAX)), (0, 1, 2, Micros::MAX));
    }
}
