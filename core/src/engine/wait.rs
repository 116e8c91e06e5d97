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

use super::timers::{FAR, Millis, NEVER, millis};

/// More than these are told by the next wait.
const EVENTS: usize = 1024;
/// The longest sleep that every kernel can be asked for, 24 days.
const LONGEST: Millis = i32::MAX as Millis;

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

    /// Waits once, at most so many milliseconds; a signal ends it.
    #[inline]
    fn fill(&mut self, poll: &mio::Poll, timeout: Millis) -> Result<(), Errno> {
        if timeout > LONGEST {
            return self.fill_for_long(poll, timeout);
        }
        let millis = timeout as u32;
        self.fill_for(
            poll,
            Some(Timespec { tv_sec: (millis / 1000).into(), tv_nsec: (millis % 1000 * 1_000_000).into() }),
        )
    }

    #[inline(never)]
    fn fill_for_long(&mut self, poll: &mio::Poll, timeout: Millis) -> Result<(), Errno> {
        self.fill_for(poll, (timeout <= FAR).then_some(Timespec { tv_sec: LONGEST as i64 / 1000, tv_nsec: 0 }))
    }

    #[inline(always)]
    fn fill_for(&mut self, poll: &mio::Poll, timeout: Option<Timespec>) -> Result<(), Errno> {
        self.0.clear();
        match epoll::wait(poll.registry(), spare_capacity(&mut self.0), timeout.as_ref()) {
            Ok(_) => Ok(()),
            Err(error) => unless_interrupted(error),
        }
    }
}

#[cold]
#[inline(never)]
fn unless_interrupted(error: Errno) -> Result<(), Errno> {
    if error == Errno::INTR { Ok(()) } else { Err(error) }
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
    /// How long the program wants to wait at all: asleep that is rounded up to milliseconds, awake it need not be.
    at_most: Duration,
}

impl Waiting {
    pub(super) fn new(busy_poll: Duration) -> Self {
        Self {
            awake: (!busy_poll.is_zero()).then_some(Awake { busy_poll, attempt: busy_poll, at_most: Duration::MAX }),
        }
    }

    /// The waits that follow are for a turn that waits so long at most; or for turns that do so until something happens.
    #[inline]
    pub(super) fn stay_awake_at_most(&mut self, timeout: Option<Duration>) {
        if let Some(awake) = &mut self.awake {
            awake.at_most = timeout.unwrap_or(Duration::MAX);
        }
    }

    /// Waits for events, at most so many milliseconds, or until they come where that is more than [`FAR`].
    #[inline]
    pub(super) fn wait(&mut self, poll: &mio::Poll, events: &mut Events, timeout: Millis) -> Result<(), Errno> {
        match &mut self.awake {
            None => events.fill(poll, timeout),
            Some(_) if timeout == 0 => events.fill(poll, timeout),
            Some(awake) => awake.wait(poll, events, timeout),
        }
    }
}

impl Awake {
    /// How long a wait is to last that would be so many milliseconds asleep.
    fn wanted(&self, timeout: Millis) -> Duration {
        Duration::from_millis(timeout).min(self.at_most)
    }

    #[inline(never)]
    fn wait(&mut self, poll: &mio::Poll, events: &mut Events, timeout: Millis) -> Result<(), Errno> {
        let began = Instant::now();
        let wanted = self.wanted(timeout);
        let attempt = self.attempt.min(wanted);
        while began.elapsed() < attempt {
            events.fill(poll, 0)?;
            if !events.0.is_empty() {
                self.attempt = self.busy_poll;
                return Ok(());
            }
            std::hint::spin_loop();
        }
        let asleep = Instant::now();
        let left = if timeout > FAR { NEVER } else { millis(wanted.saturating_sub(asleep - began)) };
        events.fill(poll, left)?;
        self.attempt = if asleep.elapsed() < self.busy_poll { self.busy_poll } else { self.attempt / 2 };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn awake_a_timeout_is_not_rounded_up() {
        let mut waiting = Waiting::new(Duration::from_millis(5));
        let mut wanted = |timeout| {
            waiting.stay_awake_at_most(timeout);
            waiting.awake.as_ref().map(|awake| awake.wanted(1))
        };
        assert_eq!(wanted(Some(Duration::from_micros(100))), Some(Duration::from_micros(100)));
        assert_eq!(wanted(None), Some(Duration::from_millis(1)));
    }
}
