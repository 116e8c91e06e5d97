//! What a loop and its listeners have counted, and the same as text for Prometheus.

mod prometheus;

pub use prometheus::{CONTENT_TYPE, render};

use std::collections::BTreeMap;
use std::ops::AddAssign;

use crate::error::{FailureKind, Stage};

/// What was counted, up to now, of a listener's connections, or of all connections of a loop: told by
/// [`Listener::statistics`](crate::Listener::statistics) and [`Handle::statistics`](crate::Handle::statistics).
///
/// `connections`, `handshakes` and `buffered_bytes` tell what is; everything else counts from the beginning, and never
/// falls. Each accepted connection is in the end one of `opened`, `streams`, `answered` and `refused`; each begun client
/// one of `opened`, `connects_failed` and those that the program gave up itself. A connection that has come to a
/// [route](crate::Listener::route) is counted there from then on, and was accepted by the listener.
///
/// Messages and bytes are counted by receive and by write, so that counting costs next to nothing: a callback may find
/// what its own receive has brought not counted yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Connections that are open or closing, and HTTP streams: `on_close` has not been told.
    pub connections: u64,
    /// Connections on their way to that: in the opening handshake, or being refused or answered.
    pub handshakes: u64,
    /// Bytes that wait because the kernel takes no more, over all connections, frame headers included.
    pub buffered_bytes: u64,
    /// Server: connections that were accepted.
    pub accepted: u64,
    /// Client: connections that were begun.
    pub connects: u64,
    /// Opening handshakes that succeeded: calls of `on_open`.
    pub opened: u64,
    /// Server: HTTP streams that were begun.
    pub streams: u64,
    /// Server: plain HTTP requests that the request hook answered, but by streams.
    pub answered: u64,
    /// Server: connections that came to nothing, by cause. Causes that did not come up are left out, as below.
    pub refused: BTreeMap<Refusal, u64>,
    /// Client: connections that did not open, by how far they came. What the program gave up itself is not here.
    pub connects_failed: BTreeMap<Stage, u64>,
    /// Messages told to the program; one that is handed over in fragments counts with its last one.
    pub messages_received: u64,
    /// Messages taken from the program, once for each receiver of a broadcast or publish. Some may be lost later.
    pub messages_sent: u64,
    /// Bytes received, everything included: HTTP heads, frame headers, control frames. Over TLS after decryption; as they
    /// came where they are compressed.
    pub bytes_received: u64,
    /// Bytes that the kernel took, counted in the same way.
    pub bytes_sent: u64,
    /// Messages that were taken and then lost: see [`Close::lost_messages`](crate::Close::lost_messages).
    pub messages_lost: u64,
    /// Calls of `on_error`, by stage and kind: connections that failed, failed connects among them.
    pub failures: BTreeMap<(Stage, FailureKind), u64>,
    /// Calls of `on_close`, by code. 3000 stands for 3000 to 3999 and 4000 for 4000 to 4999: peers choose among them, and
    /// each would be a figure of its own.
    pub closes: BTreeMap<u16, u64>,
    /// Calls of `on_listener_error`.
    pub listener_errors: u64,
    /// Turns of the loop; 0 for a listener.
    pub turns: u64,
    /// The longest time, in nanoseconds, that the callbacks of one connection took for what one receive brought, or any
    /// other single callback; with [`measure_callbacks`](crate::LoopOptions::measure_callbacks), else 0. 0 for a listener.
    pub longest_callback: u64,
}

/// Why an accepted connection came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// 503: [`max_connections`](crate::Options::max_connections).
    Full,
    /// 503, or closed at once: [`max_connections_per_address`](crate::Options::max_connections_per_address).
    Address,
    /// 400: malformed HTTP, or a malformed opening handshake; TLS where plain HTTP is spoken.
    BadRequest,
    /// 405: neither GET nor HEAD.
    Method,
    /// 426: no opening handshake where a WebSocket is served, or one of another version.
    Upgrade,
    /// 431: [`max_head`](crate::Options::max_head) or [`max_headers`](crate::Options::max_headers).
    HeadTooBig,
    /// 404: [`path`](crate::Options::path).
    Path,
    /// 403: [`origins`](crate::Options::origins).
    Origin,
    /// The request hook rejected an opening handshake.
    Hook,
    /// 500: the request hook panicked, or answered what cannot be sent.
    HookFailed,
    /// The TLS handshake failed; or there was none but plain HTTP, which gets 400.
    Tls,
    /// [`handshake_timeout`](crate::Options::handshake_timeout): 408 where a request was begun.
    Timeout,
    /// The client left before its request was whole.
    Left,
    /// The loop shut down first.
    Shutdown,
}

impl Refusal {
    /// What an answer of the engine's own with this status is counted as, where nothing else is said.
    pub(crate) fn of_status(status: u16) -> Self {
        match status {
            403 => Self::Origin,
            404 => Self::Path,
            405 => Self::Method,
            408 => Self::Timeout,
            426 => Self::Upgrade,
            431 => Self::HeadTooBig,
            500 => Self::HookFailed,
            503 => Self::Full,
            _ => Self::BadRequest,
        }
    }

    /// The name in every door, as `bad_request`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Address => "address",
            Self::BadRequest => "bad_request",
            Self::Method => "method",
            Self::Upgrade => "upgrade",
            Self::HeadTooBig => "head_too_big",
            Self::Path => "path",
            Self::Origin => "origin",
            Self::Hook => "hook",
            Self::HookFailed => "hook_failed",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Left => "left",
            Self::Shutdown => "shutdown",
        }
    }
}

/// One number of [`Statistics`]: what doors to other languages, and texts, are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figure {
    /// The field of [`Statistics`].
    pub field: &'static str,
    /// Where the field has several numbers, which: as `["tls", "protocol"]` of `failures`, or `["1000"]` of `closes`.
    pub labels: Vec<String>,
    /// The number.
    pub value: u64,
}

/// The range of codes that a close is counted in.
pub(crate) fn close_class(code: u16) -> u16 {
    if code < 3000 { code } else { code / 1000 * 1000 }
}

/// The names of stages and kinds of failure are those of their variants, in every door.
fn name(variant: impl std::fmt::Debug) -> String {
    format!("{variant:?}").to_lowercase()
}

impl Statistics {
    /// Every number, in the order of the fields.
    pub fn figures(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        let mut tell = |field, labels, value| figures.push(Figure { field, labels, value });
        tell("connections", vec![], self.connections);
        tell("handshakes", vec![], self.handshakes);
        tell("buffered_bytes", vec![], self.buffered_bytes);
        tell("accepted", vec![], self.accepted);
        tell("connects", vec![], self.connects);
        tell("opened", vec![], self.opened);
        tell("streams", vec![], self.streams);
        tell("answered", vec![], self.answered);
        for (cause, count) in &self.refused {
            tell("refused", vec![cause.name().to_owned()], *count);
        }
        for (stage, count) in &self.connects_failed {
            tell("connects_failed", vec![name(stage)], *count);
        }
        tell("messages_received", vec![], self.messages_received);
        tell("messages_sent", vec![], self.messages_sent);
        tell("bytes_received", vec![], self.bytes_received);
        tell("bytes_sent", vec![], self.bytes_sent);
        tell("messages_lost", vec![], self.messages_lost);
        for ((stage, kind), count) in &self.failures {
            tell("failures", vec![name(stage), name(kind)], *count);
        }
        for (code, count) in &self.closes {
            tell("closes", vec![code.to_string()], *count);
        }
        tell("listener_errors", vec![], self.listener_errors);
        tell("turns", vec![], self.turns);
        tell("longest_callback", vec![], self.longest_callback);
        figures
    }

    /// These statistics in the text format of Prometheus, as [`render`] writes it, without the name of a listener.
    pub fn to_prometheus(&self) -> String {
        render([("", self)])
    }
}

fn add<K: Copy + Ord>(to: &mut BTreeMap<K, u64>, more: &BTreeMap<K, u64>) {
    for (key, count) in more {
        *to.entry(*key).or_default() += count;
    }
}

impl AddAssign<&Self> for Statistics {
    /// The sum: of threads, or of listeners. Of `longest_callback` the longest.
    fn add_assign(&mut self, more: &Self) {
        self.connections += more.connections;
        self.handshakes += more.handshakes;
        self.buffered_bytes += more.buffered_bytes;
        self.accepted += more.accepted;
        self.connects += more.connects;
        self.opened += more.opened;
        self.streams += more.streams;
        self.answered += more.answered;
        add(&mut self.refused, &more.refused);
        add(&mut self.connects_failed, &more.connects_failed);
        self.messages_received += more.messages_received;
        self.messages_sent += more.messages_sent;
        self.bytes_received += more.bytes_received;
        self.bytes_sent += more.bytes_sent;
        self.messages_lost += more.messages_lost;
        add(&mut self.failures, &more.failures);
        add(&mut self.closes, &more.closes);
        self.listener_errors += more.listener_errors;
        self.turns += more.turns;
        self.longest_callback = self.longest_callback.max(more.longest_callback);
    }
}
