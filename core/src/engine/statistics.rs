//! Counting: what happens often by one addition to a figure that only the loop's thread writes and any thread reads, what
//! is rare behind a lock.
//!
//! A listener has its counters on each thread that serves it; all clients of a loop share theirs. What a listener has
//! counted stays in the sum of its loop when it is gone.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::group::Group;
use super::record::{Ending, Phase, Record};
use super::shared::{Shared, shared};
use super::state::State;
use crate::close;
use crate::error::{Error, Result};
use crate::event::Listener;
use crate::log::{Level, Topic};
use crate::protocol::frame::Role;
use crate::statistics::{Refusal, Statistics, close_class, render};

/// A figure that the loop's thread counts, and any thread reads.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    /// Not an atomic addition: nobody else writes.
    #[inline(always)]
    pub(super) fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// For one that rises and falls.
    fn take(&self, count: u64) {
        self.add(count.wrapping_neg());
    }

    pub(super) fn raise(&self, value: u64) {
        self.0.store(self.read().max(value), Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is counted of some connections on one thread.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) messages_received: Counter,
    pub(super) messages_sent: Counter,
    pub(super) bytes_received: Counter,
    pub(super) bytes_sent: Counter,
    /// These three rise and fall.
    buffered_bytes: Counter,
    connections: Counter,
    handshakes: Counter,
    accepted: Counter,
    connects: Counter,
    opened: Counter,
    streams: Counter,
    pub(super) answered: Counter,
    messages_lost: Counter,
    pub(super) listener_errors: Counter,
    /// Closes in order, which most are.
    normal_closes: Counter,
    /// What has several figures, and the other closes.
    rare: Mutex<Statistics>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Counters {
    /// Something rare has happened.
    fn rarely(&self, count: impl FnOnce(&mut Statistics)) {
        count(&mut lock(&self.rare));
    }

    fn read(&self) -> Statistics {
        let mut read = lock(&self.rare).clone();
        read.messages_received = self.messages_received.read();
        read.messages_sent = self.messages_sent.read();
        read.bytes_received = self.bytes_received.read();
        read.bytes_sent = self.bytes_sent.read();
        read.buffered_bytes = self.buffered_bytes.read();
        read.connections = self.connections.read();
        read.handshakes = self.handshakes.read();
        read.accepted = self.accepted.read();
        read.connects = self.connects.read();
        read.opened = self.opened.read();
        read.streams = self.streams.read();
        read.answered = self.answered.read();
        read.messages_lost = self.messages_lost.read();
        read.listener_errors = self.listener_errors.read();
        match self.normal_closes.read() {
            0 => {}
            normal => *read.closes.entry(close::NORMAL).or_default() += normal,
        }
        read
    }
}

/// What one loop has counted.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) turns: Counter,
    pub(super) longest_callback: Counter,
    pub(super) clients: Arc<Counters>,
    listeners: Mutex<Listeners>,
}

#[derive(Debug, Default)]
struct Listeners {
    here: Vec<Counting>,
    /// What those had counted that are gone.
    gone: Statistics,
}

/// A listener that is counted.
#[derive(Debug)]
struct Counting {
    listener: Listener,
    address: String,
    counters: Arc<Counters>,
    /// What those had counted that had the same address, and are gone: what Prometheus is told under a name never falls.
    before: Statistics,
}

impl Counted {
    /// Begins to count for a listener.
    pub(super) fn begin(&self, listener: Listener, address: String, counters: Arc<Counters>) {
        lock(&self.listeners).here.push(Counting { listener, address, counters, before: Statistics::default() });
    }

    /// A listener and its connections are gone; false where it was none.
    pub(super) fn end(&self, listener: Listener) -> bool {
        let mut listeners = lock(&self.listeners);
        let Some(at) = listeners.here.iter().position(|one| one.listener == listener) else { return false };
        let ended = listeners.here.swap_remove(at);
        let counted = ended.counters.read();
        listeners.gone += &counted;
        if let Some(successor) = listeners.here.iter_mut().find(|one| one.address == ended.address) {
            successor.before += &ended.before;
            successor.before += &counted;
        }
        true
    }

    /// What belongs to no listener.
    fn of_clients(&self) -> Statistics {
        let mut clients = self.clients.read();
        (clients.turns, clients.longest_callback) = (self.turns.read(), self.longest_callback.read());
        clients
    }

    fn sum(&self) -> Statistics {
        let mut sum = self.of_clients();
        let listeners = lock(&self.listeners);
        sum += &listeners.gone;
        for one in &listeners.here {
            sum += &one.counters.read();
        }
        sum
    }
}

impl Shared {
    /// This loop and those that serve together with it, the first one first.
    fn family(&self) -> impl Iterator<Item = Arc<Self>> {
        let others = self.siblings().filter(|one| one.index != self.first);
        let this = (self.index != self.first).then(|| shared(self.index)).flatten();
        shared(self.first).into_iter().chain(this).chain(others)
    }

    /// What each thread has counted, the first one first.
    pub(super) fn statistics(&self) -> Vec<Statistics> {
        self.family().map(|one| one.counted.sum()).collect()
    }

    /// Everything as text, for Prometheus.
    pub(super) fn metrics(&self) -> String {
        let mut scopes: BTreeMap<String, Statistics> = BTreeMap::new();
        for one in self.family() {
            *scopes.entry(String::new()).or_default() += &one.counted.of_clients();
            for listening in &lock(&one.counted.listeners).here {
                let scope = scopes.entry(listening.address.clone()).or_default();
                *scope += &listening.before;
                *scope += &listening.counters.read();
            }
        }
        render(scopes.iter().map(|(listener, statistics)| (listener.as_str(), statistics)))
    }

    /// What all threads have counted for a listener.
    pub(super) fn listener_statistics(&self, listener: Listener) -> Result<Statistics> {
        let mut sum = None;
        for one in self.family() {
            let listeners = lock(&one.counted.listeners);
            for counting in listeners.here.iter().filter(|counting| counting.listener == listener) {
                *sum.get_or_insert_with(Statistics::default) += &counting.counters.read();
            }
        }
        sum.ok_or(Error::Closed)
    }
}

impl Record {
    /// Whether it was told to the program as open, or is a stream.
    fn has_opened(&self) -> bool {
        // What a client dials with is dropped when it opens.
        self.announced() && self.extra.as_ref().is_none_or(|extra| extra.dial.is_none())
    }
}

impl State {
    /// The counters of a connection.
    #[inline]
    pub(super) fn counters(&self, slot: u32) -> Option<&Counters> {
        self.group_of(slot).map(|group| &*group.counters)
    }

    /// Bytes came that are no frames.
    pub(super) fn count_received(&self, slot: u32, bytes: usize) {
        if let Some(counters) = self.counters(slot) {
            counters.bytes_received.add(bytes as u64);
        }
    }

    pub(super) fn count_sent_messages(&self, slot: u32, messages: u32) {
        if let Some(counters) = self.counters(slot) {
            counters.messages_sent.add(messages.into());
        }
    }

    pub(super) fn count_sent_bytes(&self, slot: u32, bytes: usize) {
        if let Some(counters) = self.counters(slot) {
            counters.bytes_sent.add(bytes as u64);
        }
    }

    /// A connection has begun.
    pub(super) fn count_begun(&mut self, slot: u32) {
        let Some(record) = self.connections.get(slot) else { return };
        let is_client = record.protocol.role() == Role::Client;
        if let Some(group) = self.groups.get(record.group) {
            group.counters.handshakes.add(1);
            (if is_client { &group.counters.connects } else { &group.counters.accepted }).add(1);
        }
        if !is_client {
            self.log(Level::Debug, Topic::Connection, slot, |state| format!("accepted {}", state.peer_of(slot)));
        }
    }

    /// A connection that is in its opening handshake is this group's from now on, or no longer.
    pub(super) fn count_handshake(&self, slot: u32, comes: bool) {
        if let Some(counters) = self.counters(slot) {
            if comes { counters.handshakes.add(1) } else { counters.handshakes.take(1) }
        }
    }

    /// A listener has closed a connection as it was accepted, for its address has too many.
    pub(super) fn count_turned_away(&mut self, group: u32, peer: Option<SocketAddr>) {
        let Some(group) = self.groups.get(group) else { return };
        group.counters.accepted.add(1);
        group.counters.rarely(|counted| *counted.refused.entry(Refusal::Address).or_default() += 1);
        let listener = group.listener;
        self.log_listener(Level::Information, listener, || {
            let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
            format!("refused {peer}: closed as it was accepted (max_connections_per_address)")
        });
    }

    /// A connection is open, or a stream.
    pub(super) fn count_opened(&mut self, slot: u32) {
        let Some(record) = self.connections.get(slot) else { return };
        let is_stream = record.phase == Phase::Stream;
        if let Some(group) = self.groups.get(record.group) {
            group.counters.handshakes.take(1);
            group.counters.connections.add(1);
            (if is_stream { &group.counters.streams } else { &group.counters.opened }).add(1);
        }
        self.log(Level::Debug, Topic::Connection, slot, |state| {
            format!("{}: {}", state.peer_of(slot), if is_stream { "streams" } else { "open" })
        });
    }

    /// The record of a connection of this group is no more.
    pub(super) fn count_gone(group: &Group, record: &Record) {
        (if record.has_opened() { &group.counters.connections } else { &group.counters.handshakes }).take(1);
    }

    /// A server's connection comes to nothing, if it has not been refused or answered already.
    pub(super) fn count_refused(&mut self, slot: u32, cause: Refusal) {
        self.refused_because(slot, cause, None);
    }

    /// The same, with what failed.
    pub(super) fn refused_because(&mut self, slot: u32, cause: Refusal, failure: Option<&str>) {
        let is_undecided = |record: &Record| {
            matches!(record.phase, Phase::Request | Phase::Deferred | Phase::Securing) && !record.announced()
        };
        if self.connections.get(slot).is_some_and(is_undecided) {
            if let Some(counters) = self.counters(slot) {
                counters.rarely(|counted| *counted.refused.entry(cause).or_default() += 1);
            }
            self.log_refused(slot, cause, failure);
        }
    }

    /// The program is about to be told of an end.
    pub(super) fn count_ending(&self, slot: u32, ending: &Ending) {
        let Some(record) = self.connections.get(slot) else { return };
        let Some(group) = self.groups.get(record.group) else { return };
        if ending.code == close::NORMAL && ending.failure.is_none() {
            return group.counters.normal_closes.add(1);
        }
        group.counters.rarely(|counted| {
            *counted.closes.entry(close_class(ending.code)).or_default() += 1;
            if let Some(failure) = &ending.failure {
                *counted.failures.entry((failure.stage, failure.kind)).or_default() += 1;
                if !record.has_opened() {
                    *counted.connects_failed.entry(failure.stage).or_default() += 1;
                }
            }
        });
    }

    /// Messages of a connection are lost.
    pub(super) fn lose(&mut self, slot: u32, messages: u32) {
        if let Some(record) = self.connections.get_mut(slot) {
            let extra = record.extra();
            extra.lost_messages = extra.lost_messages.saturating_add(messages);
        }
        if let Some(counters) = self.counters(slot) {
            counters.messages_lost.add(messages.into());
        }
    }

    /// How much waits for a connection whose kernel takes no more, or no longer does.
    pub(super) fn count_buffered(&mut self, slot: u32) {
        let Some(record) = self.connections.get_mut(slot) else { return };
        let waits = if record.is_blocked() && record.phase != Phase::Dead { record.outbox.len() as u64 } else { 0 };
        let before = record.extra.as_ref().map_or(0, |extra| extra.buffered);
        if waits == before {
            return;
        }
        record.extra().buffered = waits;
        if let Some(counters) = self.counters(slot) {
            counters.buffered_bytes.add(waits.wrapping_sub(before));
        }
    }
}
