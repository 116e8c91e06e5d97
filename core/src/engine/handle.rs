//! The thread-safe door: what any thread may ask of a loop, of a listener and of a timer; `connection` has what it may ask of
//! a connection. `shared` tells how a call finds its loop.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::group::OwnedHandler;
use super::listener::check_free;
use super::registry;
use super::shared::{
    Command, Cost, Shared, now, now_beside, now_or_later, settle_here_first, shared, with_state_beside,
};
use super::siblings;
use super::state::State;
use super::tls::ServerSetup;
use super::topics::Target;
use crate::config::{Options, Tls};
use crate::error::{Error, Result};
use crate::event::{Address, Connection, Handler, Listener, Message, Timer};
use crate::statistics::Statistics;

impl Listener {
    fn index(self) -> u16 {
        registry::loop_index(self.0)
    }

    /// The address, with the port the system chose where 0 was asked for. [loop thread]
    pub fn local_address(self) -> Result<Address> {
        now_beside(self.index(), |state| state.listener_address(self))
    }

    /// Stops accepting and frees the address; open connections stay. [any thread]
    pub fn close(self) -> Result<()> {
        now_or_later(self.index(), Cost::Limited(0), move |state| state.close_listener(self), None)
    }

    /// Begins TLS anew with these choices, on every thread that serves this listener: a renewed certificate, say. Files
    /// are read here and now. Connections that are open, or in the handshake, go on with the choices they began with.
    /// [any thread]
    ///
    /// # Errors
    /// What [`Handle::listen`] says of the choices, and [`Error::InvalidArgument`] where the listener is plain; then
    /// nothing has changed. From another thread `Ok` means that the choices are good, and accepted.
    pub fn reload_tls(self, tls: &Tls) -> Result<()> {
        let setup = ServerSetup::new(tls)?;
        now_or_later(self.index(), Cost::Limited(0), move |state| state.reload_tls(self, setup), None)
    }

    /// What was counted of this listener's connections, on all threads; known until the listener is closed and its last
    /// connection gone. [any thread]
    pub fn statistics(self) -> Result<Statistics> {
        let _ = with_state_beside(self.index(), State::settle);
        shared(self.index()).ok_or(Error::Closed)?.listener_statistics(self)
    }

    /// Serves a path with options and a handler of its own. [loop thread; the first one's]
    ///
    /// The path is a whole one, `/chat`, or ends in `/*` for everything below: `/rooms/*` is for `/rooms/` and `/rooms/7/x`,
    /// and not for `/rooms`. It is compared with that of the request as it came, without the query, byte by byte. A whole
    /// path goes before the others, the longest of those before the shorter; what no route leads to is the listener's. Plain
    /// requests come to the route as well.
    ///
    /// The number is like that of a listener, for the connections of the route alone: broadcasts to the listener do not reach
    /// them. Closing it gives the path back to the listener; closing the listener ends its routes. Its address is the
    /// listener's.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a path that cannot be one, or has a route already, and for options that concern the
    /// socket or the request's head, which are the listener's: `tls`, `path`, `max_head`, `max_headers`,
    /// `max_connections_per_address`, `listen_backlog`, `reuse_port`, `no_delay`, `keep_alive_…`. The handshake timeout is the
    /// listener's until the request has come. `max_connections` is the route's own beside the listener's, which counts those
    /// of its routes; default none. [`Error::Closed`] where the listener is closed.
    pub fn route(self, path: &str, options: &Options, handler: impl Handler) -> Result<Self> {
        self.route_boxed(path, options, Box::new(handler))
    }

    /// [`route`](Self::route) with a handler that is boxed already.
    pub fn route_boxed(self, path: &str, options: &Options, handler: Box<dyn Handler>) -> Result<Self> {
        siblings::route(self, path, options, handler)
    }

    /// Sends a message to every open connection of this listener but `except`, encoded once. [any thread]
    pub fn broadcast<'m>(self, message: impl Into<Message<'m>>, except: Option<Connection>) -> Result<()> {
        publish(self.index(), Target::Listener(self), message.into(), except)
    }

    /// How many connections of this listener are open, on all threads. [loop thread]
    pub fn connection_count(self) -> Result<usize> {
        now_beside(self.index(), |state| state.connection_count(Some(self)))
    }

    /// The open connections of this listener; those of this thread where there are several. [loop thread]
    pub fn connections(self) -> Result<Vec<Connection>> {
        now_beside(self.index(), |state| state.connections(Some(self)))
    }
}

/// Sends a message to an audience of the loops that serve together with the first one of this index.
fn publish(first: u16, target: Target<'_>, message: Message<'_>, except: Option<Connection>) -> Result<()> {
    target.check()?;
    let published = with_state_beside(first, |state| state.publish(target, message, except));
    published.unwrap_or_else(|| siblings::publish_from_elsewhere(first, target, message, except))
}

impl Timer {
    /// Cancels the timer; one that has run is no error. [loop thread]
    pub fn cancel(self) -> Result<()> {
        // What it would have called is dropped here, outside of every lock and borrow.
        now(registry::loop_index(self.0), |state| Ok(state.cancel_timer(self))).map(drop)
    }
}

/// The thread-safe door of an event loop: cheap to clone, usable from any thread and from inside callbacks.
///
/// Each method's line says where it may be called: [any thread], or [loop thread] — the thread of the loop's first turn,
/// and before that turn any thread; elsewhere it answers [`Error::WrongThread`].
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", self.shared.index)
    }
}

impl Handle {
    fn index(&self) -> u16 {
        self.shared.index
    }

    /// Where a number is stale because its loop is gone, a handle says so.
    pub(super) fn outcome<R>(&self, result: Result<R>) -> Result<R> {
        match result {
            Err(Error::Closed) if self.shared.is_closed() => Err(Error::LoopGone),
            result => result,
        }
    }

    /// Listens on `HOST:PORT` (`127.0.0.1:9001`, `[::1]:0`, a name) or `unix:PATH`. [loop thread; the first one's]
    ///
    /// A name is looked up before this returns, which may block: inside callbacks, give an address.
    ///
    /// Port 0 lets the system choose; [`Listener::local_address`] tells. A Unix socket that nobody listens on any more is
    /// replaced.
    pub fn listen(&self, address: &str, options: &Options, handler: impl Handler) -> Result<Listener> {
        self.listen_boxed(address, options, Box::new(handler))
    }

    /// [`listen`](Self::listen) with a handler that is boxed already.
    pub fn listen_boxed(&self, address: &str, options: &Options, handler: Box<dyn Handler>) -> Result<Listener> {
        if self.shared.has_siblings() && !options.reuse_port {
            check_free(address, options)?;
        }
        let begin = |state: &mut State, options: &Options, handler: &mut _| state.listen(address, options, handler);
        self.listen_with(options, handler, begin)
    }

    /// Adopts a socket that is bound, and listening or not (socket activation, a supervisor): TCP or Unix. [loop thread]
    pub fn adopt(&self, socket: OwnedFd, options: &Options, handler: impl Handler) -> Result<Listener> {
        self.adopt_boxed(socket, options, Box::new(handler))
    }

    /// [`adopt`](Self::adopt) with a handler that is boxed already.
    pub fn adopt_boxed(&self, socket: OwnedFd, options: &Options, handler: Box<dyn Handler>) -> Result<Listener> {
        self.listen_with(options, handler, |state, options, handler| state.adopt(socket, options, handler))
    }

    fn listen_with(
        &self,
        options: &Options,
        handler: Box<dyn Handler>,
        begin: impl FnOnce(&mut State, &Options, &mut OwnedHandler) -> Result<Listener>,
    ) -> Result<Listener> {
        if self.shared.has_siblings() {
            return self.outcome(siblings::listen(self, options, handler, begin));
        }
        let mut handler = Some(handler);
        self.outcome(now(self.index(), |state| begin(state, options, &mut handler)))
    }

    /// [`Listener::route`]. [loop thread; the first one's]
    pub fn route(&self, listener: Listener, path: &str, options: &Options, handler: impl Handler) -> Result<Listener> {
        self.outcome(listener.route(path, options, handler))
    }

    /// [`Listener::reload_tls`]. [any thread]
    pub fn reload_tls(&self, listener: Listener, tls: &Tls) -> Result<()> {
        self.outcome(listener.reload_tls(tls))
    }

    /// Connects to `ws://HOST[:PORT]/PATH`, `wss://HOST[:PORT]/PATH` or `ws+unix:PATH:/TARGET`. [loop thread]
    ///
    /// The number is known at once; `on_open` tells when it may be sent to. Names are looked up off the loop's thread,
    /// and all addresses of a name are tried. What fails is told by `on_error`, then `on_close`.
    pub fn connect(&self, url: &str, options: &Options, handler: impl Handler) -> Result<Connection> {
        self.connect_boxed(url, options, Box::new(handler))
    }

    /// [`connect`](Self::connect) with a handler that is boxed already.
    pub fn connect_boxed(&self, url: &str, options: &Options, handler: Box<dyn Handler>) -> Result<Connection> {
        let mut handler = Some(handler);
        self.outcome(now_beside(self.index(), |state| state.connect(url, options, &mut handler)))
    }

    /// Sends a message to every open server connection of this loop but `except`, encoded once. [any thread]
    pub fn broadcast<'m>(&self, message: impl Into<Message<'m>>, except: Option<Connection>) -> Result<()> {
        self.outcome(publish(self.index(), Target::All, message.into(), except))
    }

    /// Sends a message to every subscriber of a topic but `except`, encoded once. [any thread]
    pub fn publish<'m>(&self, topic: &str, message: impl Into<Message<'m>>, except: Option<Connection>) -> Result<()> {
        self.outcome(publish(self.index(), Target::Topic(topic), message.into(), except))
    }

    /// What was counted of all connections of this loop, on all threads: those of its listeners, those that are gone among
    /// them, and its clients'. [any thread]
    pub fn statistics(&self) -> Result<Statistics> {
        let mut sum = Statistics::default();
        self.thread_statistics()?.iter().for_each(|one| sum += one);
        Ok(sum)
    }

    /// The same for each thread by itself, the first one first. [any thread]
    pub fn thread_statistics(&self) -> Result<Vec<Statistics>> {
        self.settle_for_counting()?;
        Ok(self.shared.statistics())
    }

    /// Everything that was counted, on all threads, in the text format of Prometheus: for each listener with its address as
    /// the label `listener`, for the clients and the loop itself without. A request hook can answer it as it is, with
    /// [`CONTENT_TYPE`](crate::statistics::CONTENT_TYPE). [any thread]
    pub fn metrics(&self) -> Result<String> {
        self.settle_for_counting()?;
        Ok(self.shared.metrics())
    }

    /// What this thread has sent and not counted yet is counted.
    fn settle_for_counting(&self) -> Result<()> {
        let _ = with_state_beside(self.shared.first, State::settle);
        if self.shared.is_closed() { Err(Error::LoopGone) } else { Ok(()) }
    }

    /// How many server connections of this loop are open, on all threads. [loop thread]
    pub fn connection_count(&self) -> Result<usize> {
        self.outcome(now_beside(self.index(), |state| state.connection_count(None)))
    }

    /// The open server connections of this loop; those of this thread where there are several. [loop thread]
    pub fn connections(&self) -> Result<Vec<Connection>> {
        self.outcome(now_beside(self.index(), |state| state.connections(None)))
    }

    /// How many connections subscribe to a topic; those of this thread where there are several. [loop thread]
    pub fn subscriber_count(&self, topic: &str) -> Result<usize> {
        self.outcome(now_beside(self.index(), |state| Ok(state.subscriber_count(topic))))
    }

    /// Calls `function` once, on the loop's thread, `after` from now, unless it is cancelled before. [loop thread]
    pub fn set_timer(&self, after: Duration, function: impl FnOnce() + Send + 'static) -> Result<Timer> {
        self.outcome(now_beside(self.index(), |state| Ok(state.set_timer(after, Box::new(function)))))
    }

    /// Calls `function` on the loop's thread, in its next turn. [any thread]
    pub fn post(&self, function: impl FnOnce() + Send + 'static) -> Result<()> {
        self.shared.command(Command::Post(Box::new(function)), Cost::Limited(0))
    }

    /// Makes the turn in progress, or the next one, return without waiting. [any thread]
    pub fn wake(&self) -> Result<()> {
        self.shared.wake()
    }

    /// Makes `run` return after its turn. Connections stay as they are. [any thread]
    pub fn stop(&self) -> Result<()> {
        let call = |state: &mut State| {
            state.stop();
            Ok(())
        };
        match now(self.index(), call) {
            Err(Error::WrongThread) => self.shared.request(|requests| requests.stop = true),
            result => self.outcome(result),
        }
    }

    /// Ends in order: stops accepting, closes every connection with 1001, waits up to `grace`, cuts what is left, and
    /// makes `run` return. Each open connection hears its one `on_close`. [any thread]
    pub fn shutdown(&self, grace: Duration) -> Result<()> {
        settle_here_first();
        for sibling in self.shared.siblings() {
            match shutdown(&sibling, grace) {
                // One that has ended already has nothing to wait for.
                Ok(()) | Err(Error::Closed | Error::LoopGone) => {}
                Err(error) => return Err(error),
            }
        }
        self.outcome(shutdown(&self.shared, grace))
    }
}

fn shutdown(shared: &Shared, grace: Duration) -> Result<()> {
    let call = |state: &mut State| {
        state.shutdown(grace);
        Ok(())
    };
    match now(shared.index, call) {
        Err(Error::WrongThread) => shared.request(|requests| requests.shutdown = Some(grace)),
        result => result,
    }
}
