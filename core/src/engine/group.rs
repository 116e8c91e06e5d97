//! What connections share: a listener's own, or the one of a client.

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, PoisonError, RwLock};

use super::addresses::{Addresses, Admission};
use super::listener::Acceptor;
use super::reconnecting::Persistent;
use super::routes::Route;
use super::send::WRITE_AT_ONCE;
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
    /// Out while one of its callbacks runs.
    pub(super) handler: OwnedHandler,
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

impl Group {
    /// Takes back the handler that was lent.
    #[inline]
    pub(super) fn take_back(&mut self, handler: Box<dyn Handler>) {
        let lent = self.handler.replace(handler);
        debug_assert!(lent.is_none(), "it has been lent");
        // So that no code looks whether there is one to be dropped.
        std::mem::forget(lent);
    }

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

    /// Messages of this size and more are not gathered where compression was agreed on.
    #[cold]
    pub(super) fn largest_gathered(&self) -> usize {
        let threshold = self.options.compression.as_ref().map_or(usize::MAX, |options| options.threshold);
        threshold.min(WRITE_AT_ONCE)
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
