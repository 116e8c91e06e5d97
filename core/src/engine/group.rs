//! What connections share: a listener's own, or the one of a client.

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, PoisonError, RwLock};

use super::addresses::{Addresses, Admission};
use super::listener::Acceptor;
use super::reconnecting::Persistent;
use super::registry::{LISTENER_SLOTS, Registry};
use super::routes::Route;
use super::statistics::Counters;
use super::timers::{Millis, millis};
use super::tls::ServerSetup;
use crate::config::Options;
use crate::event::{Handler, Listener};
use crate::protocol::http::MAX_HEADERS;
use crate::protocol::message::Limits;

/// A program's handler; `None` once it was given away.
pub(super) type OwnedHandler = Option<Box<dyn Handler>>;

/// A listener with its connections, or one client connection: they share options and a handler.
pub(super) struct Group {
    /// Out while one of its callbacks runs, and while the group is the [`Latest`].
    handler: OwnedHandler,
    pub(super) options: Options,
    pub(super) limits: Limits,
    pub(super) times: Times,
    /// The socket that accepts; none for a client, or after the listener was closed.
    pub(super) acceptor: Option<Acceptor>,
    pub(super) max_connections: usize,
    /// Connections that are open, in no order.
    pub(super) members: Vec<u32>,
    pub(super) everywhere: Arc<Everywhere>,
    /// A listener's own, or those of the loop's clients.
    pub(super) counters: Arc<Counters>,
    /// Records that belong here; those of a listener's routes are the listener's as well.
    pub(super) records: usize,
    /// The routes of a listener.
    pub(super) routes: Vec<Route>,
    /// The listener whose route this is, or was.
    pub(super) within: Option<u32>,
    /// The number that the program knows the listener by: where several threads serve it, that of the first.
    pub(super) listener: Listener,
    /// What a client that connects again is beside its connections; none for others, and once it has given up.
    pub(super) persistent: Option<Box<Persistent>>,
}

/// What the threads share that serve a listener.
#[derive(Debug, Default)]
pub(super) struct Everywhere {
    /// Connections that are open.
    pub(super) open: AtomicUsize,
    /// All records.
    pub(super) records: AtomicUsize,
    /// Those of each address, where that is limited.
    addresses: Addresses,
    /// What new connections begin TLS with; not set for a plain listener.
    tls: Option<RwLock<ServerSetup>>,
}

impl Everywhere {
    pub(super) fn new(tls: Option<ServerSetup>) -> Self {
        Self { tls: tls.map(RwLock::new), ..Self::default() }
    }

    /// What a new connection begins TLS with; none where the listener is plain.
    pub(super) fn tls(&self) -> Option<ServerSetup> {
        self.tls.as_ref().map(|tls| tls.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Replaces it, for all threads; false where the listener is plain.
    pub(super) fn reload_tls(&self, setup: ServerSetup) -> bool {
        let Some(tls) = &self.tls else { return false };
        *tls.write().unwrap_or_else(PoisonError::into_inner) = setup;
        true
    }
}

/// The timeouts of a group; 0 for none.
pub(super) struct Times {
    pub(super) handshake: Millis,
    pub(super) connect: Millis,
    pub(super) ping: Millis,
    pub(super) pong: Millis,
    pub(super) close: Millis,
    pub(super) progress: Millis,
}

/// The groups of a loop.
pub(super) type Groups = Registry<Group, LISTENER_SLOTS>;

/// The group whose handler was lent last: what each of its messages needs is at hand here, without a look at the table.
pub(super) struct Latest {
    /// The group's slot, or [`NO_GROUP`].
    pub(super) slot: u32,
    pub(super) counters: Arc<Counters>,
    pub(super) limits: Limits,
    /// The group's, as long as this is the latest; out while one of its callbacks runs.
    handler: OwnedHandler,
}

const NO_GROUP: u32 = u32::MAX;

impl Default for Latest {
    fn default() -> Self {
        let limits = Limits::from(&Options::default());
        Self { slot: NO_GROUP, counters: Arc::default(), limits, handler: None }
    }
}

impl Latest {
    /// Lends the handler of a group, which is the latest from now on; `None` where the group is gone, or while one of its
    /// callbacks runs.
    #[inline(always)]
    pub(super) fn lend(&mut self, groups: &mut Groups, slot: u32) -> Option<Box<dyn Handler>> {
        if self.slot != slot {
            self.replace(groups, slot);
        }
        self.handler.take()
    }

    /// Takes back the handler that was lent.
    #[inline(always)]
    pub(super) fn take_back(&mut self, groups: &mut Groups, slot: u32, handler: Box<dyn Handler>) {
        let lent = if self.slot == slot {
            self.handler.replace(handler)
        } else {
            // Groups are removed between callbacks only, so this one is still there.
            groups.get_mut(slot).and_then(|group| group.handler.replace(handler))
        };
        debug_assert!(lent.is_none(), "it has been lent");
        // So that no code looks whether there is one to be dropped.
        std::mem::forget(lent);
    }

    #[inline(never)]
    fn replace(&mut self, groups: &mut Groups, slot: u32) {
        self.forget(groups);
        if let Some(group) = groups.get_mut(slot) {
            let (counters, limits) = (group.counters.clone(), group.limits);
            *self = Self { slot, counters, limits, handler: group.handler.take() };
        }
    }

    /// No group is the latest: its handler is its own again.
    pub(super) fn forget(&mut self, groups: &mut Groups) {
        if let Some(group) = groups.get_mut(self.slot)
            && self.handler.is_some()
        {
            group.handler = self.handler.take();
        }
        self.slot = NO_GROUP;
    }
}

impl Group {
    pub(super) fn new(options: &Options, handler: OwnedHandler, counters: Arc<Counters>) -> Self {
        // Where 0 cannot mean no limit, it means the default.
        let (mut options, default) = (options.clone(), Options::default());
        if options.close_timeout.is_zero() {
            options.close_timeout = default.close_timeout;
        }
        if options.max_head == 0 {
            options.max_head = default.max_head;
        }
        if options.max_headers == 0 {
            options.max_headers = default.max_headers;
        }
        options.max_headers = options.max_headers.min(MAX_HEADERS);
        Self {
            handler,
            limits: Limits::from(&options),
            times: Times {
                handshake: millis(options.handshake_timeout),
                connect: millis(options.connect_timeout),
                ping: millis(options.ping_interval),
                pong: millis(options.pong_timeout).max(1),
                close: millis(options.close_timeout),
                progress: millis(options.progress_timeout),
            },
            options,
            acceptor: None,
            max_connections: usize::MAX,
            members: Vec::new(),
            everywhere: Arc::default(),
            counters,
            records: 0,
            routes: Vec::new(),
            within: None,
            listener: Listener(0),
            persistent: None,
        }
    }

    /// What becomes of a connection from this address; `tells` is whether one too many can be told so at little cost.
    pub(super) fn admit(&self, peer: Option<SocketAddr>, tells: bool) -> Admission {
        match (peer, self.options.max_connections_per_address) {
            (None, _) | (_, 0) => Admission::Served,
            (Some(address), limit) => self.everywhere.addresses.admit(address, limit, tells),
        }
    }

    /// A connection that was admitted is gone.
    pub(super) fn has_left(&self, peer: Option<SocketAddr>) {
        if let Some(address) = peer.filter(|_| self.options.max_connections_per_address != 0) {
            self.everywhere.addresses.leave(address);
        }
    }

    pub(super) fn backlog_limit(&self) -> usize {
        match self.options.backlog_limit {
            0 => usize::MAX,
            limit => limit,
        }
    }
}
