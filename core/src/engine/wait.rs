//! How a turn waits for events: asleep, or, where the program wants the shortest latency, awake for a while first.
//!
//! Waking a thread costs more than a small message does. With a `busy_poll` time the loop asks again and again for so
//! long before it sleeps. It does so only while that pays: a sleep that was longer than the whole time halves the next
//! attempt, one that was shorter shows that it would have been worth it.

use std::io;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Waiting {
    busy_poll: Duration,
    /// How long the next attempt lasts.
    attempt: Duration,
}

impl Waiting {
    pub(super) fn new(busy_poll: Duration) -> Self {
        Self { busy_poll, attempt: busy_poll }
    }

    /// Waits for events, at most `timeout`.
    #[inline]
    pub(super) fn wait(
        &mut self,
        poll: &mut mio::Poll,
        events: &mut mio::Events,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        if self.busy_poll.is_zero() || timeout.is_some_and(|timeout| timeout.is_zero()) {
            return poll.poll(events, timeout);
        }
        self.wait_awake(poll, events, timeout)
    }

    #[inline(never)]
    fn wait_awake(
        &mut self,
        poll: &mut mio::Poll,
        events: &mut mio::Events,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        let began = Instant::now();
        let attempt = timeout.map_or(self.attempt, |timeout| timeout.min(self.attempt));
        while began.elapsed() < attempt {
            poll.poll(events, Some(Duration::ZERO))?;
            if !events.is_empty() {
                self.attempt = self.busy_poll;
                return Ok(());
            }
            std::hint::spin_loop();
        }
        let asleep = Instant::now();
        let left = timeout.map(|timeout| timeout.saturating_sub(asleep - began));
        poll.poll(events, left)?;
        self.attempt = if asleep.elapsed() < self.busy_poll { self.busy_poll } else { self.attempt / 2 };
        Ok(())
    }
}
