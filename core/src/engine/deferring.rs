//! Requests that the program answers later: kept meanwhile, answered from any thread, given up in time.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::record::Phase;
use super::registry;
use super::shared::{Command, Cost, here, settle_here_first, shared};
use super::state::{News, State};
use crate::error::{Error, Failure, Result, Stage};
use crate::event::{Connection, Response, ResponseKind};
use crate::protocol::http::HttpError;
use crate::statistics::Refusal;

/// The requests that wait for an answer.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Their numbers. Whoever takes one out has the answer: a thread of the program's, the timeout, or the end of the
    /// connection.
    numbers: Mutex<HashSet<u64>>,
    /// The request that the hook is looking at: whoever it has told may answer before it has deferred its own. 0 for none, [`ANSWERED`] where that has happened. It changes from a number to another under the lock, or to 0.
    asking: AtomicU64,
}

/// No number of a connection.
const ANSWERED: u64 = u64::MAX;

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the request waited until now.
    fn take(&self, id: u64) -> bool {
        self.lock().remove(&id)
    }

    /// The hook is about to be asked.
    pub(super) fn begin_asking(&self, id: u64) {
        self.asking.store(id, Ordering::Relaxed);
    }

    /// The hook has given an answer.
    pub(super) fn end_asking(&self) {
        self.asking.store(0, Ordering::Relaxed);
    }

    /// Gives an answer to a request that waits, if `give` does; `None` where it does not wait.
    fn answer(&self, id: u64, give: impl FnOnce() -> Result<()>) -> Option<Result<()>> {
        let mut numbers = self.lock();
        let is_early = ![0, ANSWERED].contains(&id) && self.asking.load(Ordering::Relaxed) == id;
        if !is_early && !numbers.contains(&id) {
            return None;
        }
        let given = give();
        if given.is_ok() && is_early {
            // The hook may have said something else meanwhile; then this answer finds nothing that waits.
            let _ = self.asking.compare_exchange(id, ANSWERED, Ordering::Relaxed, Ordering::Relaxed);
        } else if given.is_ok() {
            numbers.remove(&id);
        }
        Some(given)
    }

    /// The hook has deferred its answer.
    fn insert(&self, id: u64) {
        let mut numbers = self.lock();
        if self.asking.swap(0, Ordering::Relaxed) != ANSWERED {
            numbers.insert(id);
        }
    }
}

/// Answers a request that was deferred.
pub(super) fn respond(connection: Connection, response: Response) -> Result<()> {
    response.check()?;
    if response.kind == ResponseKind::Later {
        return Err(Error::invalid("an answer that was deferred cannot be deferred again"));
    }
    let index = registry::loop_index(connection.0);
    if let Some(cell) = here(index) {
        return cell.state().respond(connection, response);
    }
    settle_here_first();
    let shared = shared(index).ok_or(Error::Closed)?;
    let cost = Cost::Limited(response.body.len());
    let give = || {
        let answered = move |state: &mut State| state.answered(connection, response);
        shared.command(Command::Engine(Box::new(answered)), cost)
    };
    match shared.waiting_requests.answer(connection.0, give) {
        None | Some(Err(Error::LoopGone)) => Err(Error::Closed),
        Some(given) => given,
    }
}

impl State {
    /// Keeps a request, and what came behind it, until the program answers.
    pub(super) fn defer(&mut self, slot: u32, head: &[u8], rest: &[u8]) {
        let Some(group) = self.group_of(slot) else { return };
        let limit = group.options.max_head;
        let Some((id, record)) = self.connections.get_with_id(slot) else { return };
        if record.phase != Phase::Request {
            return;
        }
        record.phase = Phase::Deferred;
        let peer_ended = record.peer_ended();
        let extra = record.extra();
        extra.head = head.to_vec();
        self.shared.waiting_requests.insert(id);
        if peer_ended {
            self.count_refused(slot, Refusal::Left);
            self.finish(slot);
        } else if rest.len() > limit {
            let message = format!(
                "{} bytes came behind the request, and no more than max_head ({limit}) are kept until it is answered: \
                 a client waits for that (RFC 6455 section 4.1)",
                rest.len()
            );
            self.give_up_answer(slot, &HttpError::new(400, message));
        } else {
            extra.carry = rest.to_vec();
            self.schedule(slot);
        }
    }

    fn respond(&mut self, connection: Connection, response: Response) -> Result<()> {
        let give = || {
            self.news.push_back(News::Answered(connection.0, response.into()));
            Ok(())
        };
        if let Some(given) = self.shared.waiting_requests.answer(connection.0, give) {
            return given;
        }
        match self.record_mut(connection)?.phase {
            Phase::Ending | Phase::Dead => Err(Error::Closed),
            _ => Err(Error::WrongKind("no answer is awaited: its request was answered, or was not deferred")),
        }
    }

    /// The answer has come; it takes effect when nobody is in the middle of anything, for `on_open` may follow from it.
    fn answered(&mut self, connection: Connection, response: Response) {
        self.news.push_back(News::Answered(connection.0, response.into()));
    }

    /// The slot and the head of a request that was deferred, which is answered now.
    pub(super) fn take_deferred(&mut self, id: u64) -> Option<(u32, Vec<u8>)> {
        let (slot, record) = self.connections.find(id)?;
        if record.phase != Phase::Deferred {
            return None;
        }
        record.phase = Phase::Request;
        Some((slot, std::mem::take(&mut record.extra().head)))
    }

    /// The program has not answered in time, unless its answer is on its way.
    pub(super) fn answer_timed_out(&mut self, slot: u32, timeout: Duration) {
        if !self.shared.waiting_requests.take(self.connections.id(slot)) {
            return;
        }
        let message =
            format!("the answer to a request was deferred, and did not come within {timeout:?} (handshake_timeout)");
        self.answer_failed(slot, Failure::timeout(Stage::Http, "handshake_timeout", timeout, message));
        let error = HttpError::new(503, "the server has not answered in time: try again later");
        self.give_up_answer(slot, &HttpError { cause: Refusal::Timeout, ..error });
    }

    /// Answers a deferred request with an error.
    pub(super) fn give_up_answer(&mut self, slot: u32, error: &HttpError) {
        self.waits_no_more(slot);
        if let Some(record) = self.connections.get_mut(slot) {
            record.phase = Phase::Request;
        }
        self.refuse(slot, error);
        self.read_again(slot);
    }

    /// A deferred request will not be answered by the program.
    pub(super) fn waits_no_more(&mut self, slot: u32) {
        let Some((id, record)) = self.connections.get_with_id(slot) else { return };
        self.news.push_back(News::Unanswered(record.group, id));
        self.shared.waiting_requests.take(id);
    }
}
