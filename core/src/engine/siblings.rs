//! Several loops, each on a thread of its own, that serve as one: the same listeners, one set of topics.
//!
//! Every loop has its own connections, and sockets that share the listeners' addresses, among which the kernel spreads
//! what comes (SO_REUSEPORT). What is published on one is encoded there, and passed on to the others as the same bytes,
//! through the queue that each has for calls from other threads: so they keep the order of each publisher.

use std::sync::{Arc, Weak};
use std::thread::{JoinHandle, ThreadId};

use nix::sys::signal::{SigSet, SigmaskHow};

use super::event_loop::EventLoop;
use super::group::{Everywhere, OwnedHandler};
use super::handle::Handle;
use super::registry::loop_index;
use super::shared::{Command, Cost, Shared, now, now_or_later, shared};
use super::state::State;
use super::topics::Target;
use crate::config::{LoopOptions, MAX_THREADS, Options};
use crate::error::{Error, Result};
use crate::event::{Connection, Handler, Listener, Message};
use crate::protocol::connection::message_opcode;
use crate::protocol::frame;

/// The further loops of an event loop with several threads.
#[derive(Debug, Default)]
pub(super) struct Siblings {
    waiting: Vec<EventLoop>,
    running: Vec<(Handle, JoinHandle<Result<()>>)>,
}

impl Siblings {
    pub(super) fn new(first: &Handle, options: &LoopOptions) -> Result<Self> {
        if options.threads > MAX_THREADS {
            return Err(Error::invalid(format!(
                "{} threads, an event loop has at most {MAX_THREADS}",
                options.threads
            )));
        }
        let further = 1..options.threads;
        let waiting =
            further.map(|_| EventLoop::alone(options, Some(first.shared.index))).collect::<Result<Vec<_>>>()?;
        if !waiting.is_empty() {
            let further = waiting.iter().map(|further| Arc::downgrade(&further.shared));
            let family: Vec<Weak<Shared>> = [Arc::downgrade(&first.shared)].into_iter().chain(further).collect();
            Shared::unite(family.into());
        }
        Ok(Self { waiting, running: Vec::new() })
    }

    /// Starts the threads, once.
    #[inline]
    pub(super) fn start(&mut self) -> Result<()> {
        if self.waiting.is_empty() { Ok(()) } else { self.spawn() }
    }

    fn spawn(&mut self) -> Result<()> {
        let failed = |source| Error::io("start a thread", source);
        while let Some(mut further) = self.waiting.pop() {
            let handle = further.handle();
            let thread = std::thread::Builder::new().name(format!("wsx-{}", self.running.len() + 1));
            // The program's signals are for its own threads: the new one is born with all of them blocked.
            let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).map_err(|error| failed(error.into()))?;
            let spawned = thread.spawn(move || further.run());
            mask.thread_set_mask().map_err(|error| failed(error.into()))?;
            self.running.push((handle, spawned.map_err(failed)?));
        }
        Ok(())
    }

    /// Waits for the threads where a shutdown ends them.
    pub(super) fn finish(&mut self, first: &Handle) -> Result<()> {
        if first.shared.is_ending() { self.join() } else { Ok(()) }
    }

    /// Ends the threads; each tells its connections.
    pub(super) fn end(&mut self) {
        self.waiting.clear();
        for (handle, _) in &self.running {
            let _ = handle.stop();
        }
        // A loop that cannot wait any more has told its connections as well.
        let _ = self.join();
    }

    fn join(&mut self) -> Result<()> {
        let this: ThreadId = std::thread::current().id();
        let mut result = Ok(());
        for (_, thread) in self.running.drain(..) {
            // One of its own callbacks may drop the whole.
            if thread.thread().id() != this {
                result = thread.join().unwrap_or(Ok(())).and(result);
            }
        }
        result
    }
}

/// Listens with every loop; the number is the first one's.
pub(super) fn listen(
    first: &Handle,
    options: &Options,
    handler: Box<dyn Handler>,
    begin: impl FnOnce(&mut State, &Options, &mut OwnedHandler) -> Result<Listener>,
) -> Result<Listener> {
    let siblings: Vec<_> = first.shared.siblings().collect();
    let handlers = handlers_for(&siblings, &*handler)?;
    let mut options = options.clone();
    options.reuse_port = true;
    // Where it is not taken it is dropped here, outside of every lock and borrow.
    let mut handler = Some(handler);
    let (listener, everywhere) = now(first.shared.index, |state| {
        let listener = begin(state, &options, &mut handler)?;
        Ok((listener, state.counted_everywhere(listener)?))
    })?;
    for (sibling, handler) in siblings.iter().zip(handlers) {
        let joined = now(first.shared.index, |state| state.another_socket(listener, &options)).and_then(|socket| {
            let (options, everywhere) = (options.clone(), everywhere.clone());
            let join = move |state: &mut State| state.join_listener(listener, socket, &options, handler, everywhere);
            now_or_later(sibling.index, Cost::Granted(0), join, None)
        });
        if let Err(error) = joined {
            let _ = listener.close();
            return Err(error);
        }
    }
    Ok(listener)
}

/// Begins a route of a listener that every loop serves; the number is the first one's.
pub(super) fn route(listener: Listener, path: &str, options: &Options, handler: Box<dyn Handler>) -> Result<Listener> {
    let first = shared(loop_index(listener.0)).ok_or(Error::Closed)?;
    let siblings: Vec<_> = first.siblings().collect();
    let handlers = handlers_for(&siblings, &*handler)?;
    let everywhere = Arc::<Everywhere>::default();
    // Where it is not taken it is dropped here, outside of every lock and borrow.
    let mut handler = Some(handler);
    let counted = everywhere.clone();
    let begin = |state: &mut State| state.route(listener, path, options, &mut handler, counted);
    let route = now(first.index, begin)?;
    for (sibling, handler) in siblings.iter().zip(handlers) {
        let (path, options, everywhere) = (path.to_owned(), options.clone(), everywhere.clone());
        let join = move |state: &mut State| state.join_route(route, listener, &path, &options, handler, everywhere);
        if let Err(error) = now_or_later(sibling.index, Cost::Granted(0), join, None) {
            let _ = route.close();
            return Err(error);
        }
    }
    Ok(route)
}

fn handlers_for(siblings: &[Arc<Shared>], handler: &dyn Handler) -> Result<Vec<Box<dyn Handler>>> {
    let handlers: Option<Vec<_>> = siblings.iter().map(|_| handler.for_another_thread()).collect();
    handlers.ok_or_else(|| {
        Error::invalid("the loop has several threads, and the handler is for one: see Handler::for_another_thread")
    })
}

/// Sends a message to an audience on every loop, from a thread that has none of them: encoded once.
pub(super) fn publish_from_elsewhere(
    first: u16,
    target: Target<'_>,
    message: Message<'_>,
    except: Option<Connection>,
) -> Result<()> {
    let mut frames = Vec::with_capacity(frame::MAX_HEADER + message.payload().len());
    frame::append(&mut frames, message_opcode(message), true, message.payload(), None);
    let (cost, frames) = (message.payload().len(), Arc::new(frames));
    let first = shared(first).ok_or(Error::Closed)?;
    let loops: Vec<_> = first.siblings().chain([first.clone()]).collect();
    // All of them take it, or none does.
    let cost = match &loops[..] {
        [_] => Cost::Limited(cost),
        _ => {
            loops.iter().try_for_each(|one| one.check_room(cost))?;
            Cost::Granted(cost)
        }
    };
    let mut result = Err(Error::Closed);
    for index in loops.iter().map(|one| one.index) {
        let (target, frames) = (target.to_owned(), frames.clone());
        let take_in = move |state: &mut State| state.enqueue_encoded(target.borrow(), &frames, 1, except);
        // A loop that is gone has nobody to send to.
        result = match (now_or_later(index, cost, take_in, None), result) {
            (Err(Error::Closed), result) => result,
            (taken, _) => taken,
        };
    }
    result
}

impl State {
    /// Passes on to the siblings what was published here.
    #[cold]
    pub(super) fn pass_on(&self, target: Target<'_>, frames: &Arc<Vec<u8>>, messages: u32, except: Option<Connection>) {
        for sibling in self.shared.siblings() {
            let (target, cost, frames) = (target.to_owned(), frames.len(), frames.clone());
            let take_in =
                move |state: &mut State| drop(state.enqueue_encoded(target.borrow(), &frames, messages, except));
            // A loop that is gone has no subscribers.
            let _ = sibling.command(Command::Engine(Box::new(take_in)), Cost::Granted(cost));
        }
    }

    /// Whether what is published here can be passed on.
    pub(super) fn check_siblings(&self, bytes: usize) -> Result<()> {
        let pending = self.batch.as_ref().map_or(0, |batch| batch.frames.len());
        self.shared.siblings().try_for_each(|sibling| sibling.check_room(pending + bytes))
    }
}
