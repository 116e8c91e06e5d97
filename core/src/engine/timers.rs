//! Every deadline of a loop in one heap.
//!
//! A connection has at most one live entry, the earliest time the loop must look at it; what a look finds is decided
//! there, so a message costs no timer work. Entries that were overtaken are dropped when they surface, before the loop
//! sleeps, and are cleared out when they outnumber the live ones: so a loop never wakes for something that is gone.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

/// Milliseconds since the loop was made.
pub(super) type Millis = u64;

/// Microseconds of the system's monotonic clock.
pub(super) type Micros = u64;

/// Rounds up, so that nothing fires early, and far futures stay finite.
pub(super) fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).min(u64::MAX / 4)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TimerKey {
    /// Look at the connection with this number.
    Connection(u64),
    /// The next attempt of the client with this number.
    Client(u64),
    /// Run the program's timer with this number.
    Program(u64),
    /// Accept again on the listener in this slot, after the system had no descriptors left.
    Accept(u32),
    /// Cut what a graceful shutdown has left.
    Shutdown,
}

pub(super) type Function = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Millis, TimerKey)>>,
    functions: HashMap<u64, Function>,
    count: u64,
    next: Next,
}

/// When the next live entry is due, in two figures that a turn can do its sums with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    /// When the loop must turn, or [`NEVER`].
    pub(super) at: Millis,
    /// From when on the clock is to be read before a wait, so that this comes in time. 0, which is always, where it is not
    /// known what comes next, and for a timer of the program; else the entry is a timeout, which may be late by as much as
    /// the callbacks of one turn take, as long as it is further away than [`NEAR`].
    pub(super) read_clock_from: Millis,
}

/// No time comes to this, nor to anything beyond [`FAR`], and no timeout is so long.
pub(super) const NEVER: Millis = Millis::MAX;
pub(super) const FAR: Millis = Millis::MAX / 2;
const NEAR: Millis = 1000;

impl Next {
    pub(super) const UNKNOWN: Self = Self { at: 0, read_clock_from: 0 };
    const NONE: Self = Self { at: NEVER, read_clock_from: NEVER };

    fn new(at: Millis, key: TimerKey) -> Self {
        let is_exact = matches!(key, TimerKey::Program(_));
        Self { at, read_clock_from: if is_exact { 0 } else { at.saturating_sub(NEAR) } }
    }
}

impl Default for Next {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

impl Timers {
    pub(super) fn push(&mut self, at: Millis, key: TimerKey) {
        // What is not known is not before anything.
        if at < self.next.at {
            self.next = Next::new(at, key);
        }
        self.heap.push(Reverse((at, key)));
    }

    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// How many of the program's timers are set.
    pub(super) fn functions(&self) -> usize {
        self.functions.len()
    }

    /// Drops the entries for which `is_live` is false.
    pub(super) fn retain(&mut self, mut is_live: impl FnMut(Millis, TimerKey) -> bool) {
        let functions = &self.functions;
        self.heap.retain(|Reverse((at, key))| match key {
            TimerKey::Program(id) => functions.contains_key(id),
            key => is_live(*at, *key),
        });
        // What was known to be next may be among what has gone.
        self.next = Next::UNKNOWN;
    }

    /// The entry of this time is void.
    #[inline]
    pub(super) fn forget(&mut self, at: Millis) {
        if self.next.at == at {
            self.next = Next::UNKNOWN;
        }
    }

    /// The answer of [`find_next`](Self::find_next), where it is known.
    #[inline]
    pub(super) fn known_next(&self) -> Next {
        self.next
    }

    /// Finds out which live entry is the next.
    pub(super) fn find_next(&mut self, mut is_live: impl FnMut(Millis, TimerKey) -> bool) {
        self.next = loop {
            let Some(&Reverse((at, key))) = self.heap.peek() else { break Next::NONE };
            let due = match key {
                TimerKey::Program(id) => self.functions.contains_key(&id),
                key => is_live(at, key),
            };
            if due {
                break Next::new(at, key);
            }
            self.heap.pop();
        };
    }

    /// Whether an entry is due.
    #[inline]
    pub(super) fn is_due(&self, now: Millis) -> bool {
        // As a rule it is known that none is.
        self.next.at <= now && self.heap.peek().is_some_and(|Reverse((at, _))| *at <= now)
    }

    /// Takes the next entry that is due.
    pub(super) fn pop(&mut self, now: Millis) -> Option<(Millis, TimerKey)> {
        let Reverse((at, _)) = self.heap.peek()?;
        if *at > now {
            return None;
        }
        self.next = Next::UNKNOWN;
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// A number for a program's timer.
    pub(super) fn add(&mut self, at: Millis, loop_index: u16, function: Function) -> u64 {
        self.count += 1;
        let id = super::registry::timer_id(loop_index, self.count);
        self.functions.insert(id, function);
        self.push(at, TimerKey::Program(id));
        id
    }

    /// The function of a program's timer, once.
    pub(super) fn take(&mut self, id: u64) -> Option<Function> {
        self.next = Next::UNKNOWN;
        self.functions.remove(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_timer_does_not_wake_the_loop() {
        let mut timers = Timers::default();
        let id = timers.add(5, 0, Box::new(|| ()));
        timers.add(9, 0, Box::new(|| ()));
        timers.find_next(|_, _| true);
        assert_eq!(timers.known_next(), Next { at: 5, read_clock_from: 0 });
        assert!(timers.take(id).is_some());
        timers.find_next(|_, _| true);
        assert_eq!(timers.known_next(), Next { at: 9, read_clock_from: 0 });
    }

    #[test]
    fn what_is_known_to_be_next_stays_known_until_something_comes_before_it_or_it_is_void() {
        let mut timers = Timers::default();
        timers.push(2009, TimerKey::Connection(1));
        assert_eq!(timers.known_next(), Next::UNKNOWN);
        timers.find_next(|_, _| true);
        assert_eq!(timers.known_next(), Next { at: 2009, read_clock_from: 1009 });
        timers.push(2011, TimerKey::Connection(2));
        timers.forget(2011);
        assert_eq!(timers.known_next().at, 2009);
        timers.add(5, 0, Box::new(|| ()));
        assert_eq!(timers.known_next(), Next { at: 5, read_clock_from: 0 });
        timers.forget(5);
        assert_eq!(timers.known_next(), Next::UNKNOWN);
    }

    #[test]
    fn what_is_due_comes_in_order_of_time() {
        let mut timers = Timers::default();
        timers.push(7, TimerKey::Connection(1));
        timers.push(3, TimerKey::Connection(2));
        timers.push(11, TimerKey::Shutdown);
        assert_eq!(timers.pop(10), Some((3, TimerKey::Connection(2))));
        assert_eq!(timers.pop(10), Some((7, TimerKey::Connection(1))));
        assert_eq!(timers.pop(10), None);
        timers.find_next(|_, key| key != TimerKey::Shutdown);
        assert_eq!(timers.known_next(), Next::NONE);
        assert_eq!(timers.len(), 0);
    }

    #[test]
    fn a_duration_is_rounded_up_and_kept_finite() {
        assert_eq!(millis(Duration::from_micros(1)), 1);
        assert_eq!(millis(Duration::from_millis(20)), 20);
        assert!(millis(Duration::MAX).checked_mul(2).is_some());
    }
}
