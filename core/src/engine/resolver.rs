//! Looks up host names off the loop's thread, for the system's resolver blocks.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::signal::{SigSet, SigmaskHow};

use super::shared::{Command, Cost, Shared};
use crate::event::Connection;

/// Threads that look up at the same time for one loop; they end when nothing is left to look up.
const MAX_THREADS: usize = 4;

struct Job {
    connection: Connection,
    host: String,
    port: u16,
}

#[derive(Default)]
struct Jobs {
    queue: VecDeque<Job>,
    threads: usize,
    /// So many that wait are not looked through: there cannot be much among them that nobody waits for.
    unsearched: usize,
}

/// The least of that.
const FEW: usize = 64;

impl Jobs {
    /// Drops those that nobody waits for where they may be half of all: while no name server answers, clients give up and
    /// come again.
    fn clear(&mut self, is_live: impl Fn(Connection) -> bool) {
        if self.queue.len() >= self.unsearched.max(FEW) {
            self.queue.retain(|job| is_live(job.connection));
            self.unsearched = 2 * self.queue.len();
        }
    }
}

#[derive(Default)]
pub(super) struct Resolver(Arc<Mutex<Jobs>>);

impl Resolver {
    /// Looks up, then tells the loop. `is_live` tells who still waits for an answer.
    pub(super) fn resolve(
        &self,
        shared: &Arc<Shared>,
        connection: Connection,
        host: &str,
        port: u16,
        is_live: impl Fn(Connection) -> bool,
    ) -> io::Result<()> {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.clear(is_live);
        if jobs.threads < MAX_THREADS {
            let (queue, shared) = (self.0.clone(), shared.clone());
            let thread = std::thread::Builder::new().name("wsx-resolver".into());
            // The program's signals are for its own threads: the new one is born with all of them blocked.
            let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
            let spawned = thread.spawn(move || work(&queue, &shared));
            mask.thread_set_mask()?;
            spawned?;
            jobs.threads += 1;
        }
        jobs.queue.push_back(Job { connection, host: host.to_owned(), port });
        Ok(())
    }
}

fn work(jobs: &Mutex<Jobs>, shared: &Shared) {
    loop {
        let job = {
            let mut jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(job) = jobs.queue.pop_front() else {
                jobs.threads -= 1;
                return;
            };
            job
        };
        let found = (job.host.as_str(), job.port).to_socket_addrs().map(|found| found.collect::<Vec<SocketAddr>>());
        let tell = Command::Engine(Box::new(move |state| state.resolved(job.connection, found)));
        // The loop may be gone; then nobody waits for the answer.
        let _ = shared.command(tell, Cost::Granted(0));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::super::event_loop::EventLoop;
    use super::super::shared::now;
    use super::*;
    use crate::close::{Close, Side};
    use crate::config::Options;
    use crate::error::{FailureKind, Limit, Stage};
    use crate::event::Handler;

    struct Hears(mpsc::Sender<(Side, Option<crate::error::Failure>)>);

    impl Handler for Hears {
        fn on_close(&mut self, _: Connection, close: &Close<'_>) {
            self.0.send((close.by, close.failure.cloned())).unwrap();
        }
    }

    #[test]
    fn names_that_nobody_waits_for_any_more_are_not_gathered() {
        let mut event_loop = EventLoop::new().unwrap();
        let index = event_loop.handle().shared.index;
        let all_wait = |state: &mut super::super::state::State| {
            state.resolver.0.lock().unwrap().threads = MAX_THREADS;
            Ok(())
        };
        now(index, all_wait).unwrap();
        let (told, hears) = mpsc::channel();
        let stays = event_loop.connect("ws://first.invalid/", &Options::default(), Hears(told.clone())).unwrap();
        for _ in 0..1000 {
            let client = event_loop.connect("ws://a.invalid/", &Options::default(), Hears(told.clone())).unwrap();
            client.terminate().unwrap();
            event_loop.turn(Some(Duration::ZERO)).unwrap();
            hears.recv().unwrap();
        }
        let waiting = |state: &mut super::super::state::State| {
            let jobs = state.resolver.0.lock().unwrap();
            Ok((jobs.queue.len(), jobs.queue[0].connection))
        };
        let (waiting, first) = now(index, waiting).unwrap();
        assert!(waiting <= FEW + 1, "{waiting} wait");
        assert_eq!(first, stays);
    }

    #[test]
    fn a_name_that_is_never_looked_up_is_given_up_after_the_handshake_timeout() {
        let mut event_loop = EventLoop::new().unwrap();
        // As if each of the threads waited for a name server that does not answer.
        let all_wait = |state: &mut super::super::state::State| {
            state.resolver.0.lock().unwrap().threads = MAX_THREADS;
            Ok(())
        };
        now(event_loop.handle().shared.index, all_wait).unwrap();
        let (told, hears) = mpsc::channel();
        let options = Options { handshake_timeout: Duration::from_millis(30), ..Options::default() };
        event_loop.connect("ws://example.org/", &options, Hears(told)).unwrap();
        let (by, failure) = loop {
            if let Ok(heard) = hears.try_recv() {
                break heard;
            }
            event_loop.turn(Some(Duration::from_secs(20))).unwrap();
        };
        let failure = failure.unwrap();
        assert_eq!((by, failure.stage, failure.kind), (Side::Us, Stage::Resolve, FailureKind::Timeout));
        assert_eq!(failure.limit, Some(Limit::new("handshake_timeout", options.handshake_timeout)));
        assert_eq!(failure.message, "the host name was not resolved within 30ms (handshake_timeout)");
    }
}
