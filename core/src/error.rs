//! Errors, grouped by who must act: [`Error`] is for the caller of a function, [`Failure`] tells what happened to a
//! connection later, through its peer or the system.

use std::borrow::Cow;
use std::time::Duration;
use std::{fmt, io};

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call was refused. Nothing was done where an error is answered.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The number is stale, or the connection is closing or closed. Nothing to do but forget the number.
    Closed,
    /// The connection has not been announced open yet, or a client has none; send from `on_open`.
    NotOpen,
    /// An argument is out of range or malformed; the text says which and why.
    InvalidArgument(Cow<'static, str>),
    /// The call does not fit this kind of connection: a topic for a client, a message on an HTTP stream.
    WrongKind(&'static str),
    /// Too much output waits for this peer. Under the policy `Refuse`, wait for `on_drain`; under `Close` (and `Pause`,
    /// far beyond the limit) the connection is being closed, and its `on_close` tells 1013. Of a
    /// [`Client`](crate::Client) that is offline the queue is full: wait for `on_open`.
    BacklogFull {
        /// Bytes that wait.
        backlog: usize,
        /// The option `backlog_limit`.
        limit: usize,
    },
    /// A message is being sent in fragments, and no other may come between them: send its last fragment first.
    MessageInProgress,
    /// Too many calls from other threads wait for the loop: it is overloaded or not turning. Try again later.
    ///
    /// What was refused is `max_commands` or `max_command_bytes` of [`LoopOptions`](crate::LoopOptions).
    Full(Limit),
    /// The call belongs to the loop's own thread; use `Handle::post` to get there.
    WrongThread,
    /// `run` or `turn` was called from inside a callback.
    Reentrant,
    /// The event loop is gone, or is being shut down or dropped and takes nothing new.
    LoopGone,
    /// A feature that this build was made without, as TLS.
    Unsupported(&'static str),
    /// A defect of this library: it panicked in a turn, and said this. The loop may be turned on; what it was about to do
    /// is not done. Please report it.
    Defect(String),
    /// The operating system refused; the text says what was tried.
    Io {
        /// What was tried, as `bind 127.0.0.1:80`.
        doing: Cow<'static, str>,
        /// What the system said.
        source: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the connection or listener is closed"),
            Self::NotOpen => f.write_str("the connection is not open yet: wait for on_open"),
            Self::InvalidArgument(why) => write!(f, "invalid argument: {why}"),
            Self::WrongKind(why) => write!(f, "wrong kind of connection: {why}"),
            Self::BacklogFull { backlog, limit } => {
                write!(
                    f,
                    "{backlog} bytes wait for this peer, the limit is {limit}: wait for on_drain, or on_close; while offline, for on_open"
                )
            }
            Self::MessageInProgress => f.write_str(
                "a message is being sent in fragments, and no other may come between: send its last one first",
            ),
            Self::Full(Limit { option, figure, .. }) => {
                write!(f, "too many calls from other threads wait for the event loop: {option} is {figure}")
            }
            Self::WrongThread => f.write_str("this call belongs to the event loop's thread: use post"),
            Self::Reentrant => f.write_str("run and turn cannot be called from inside a callback"),
            Self::LoopGone => f.write_str("the event loop is gone, or shuts down"),
            Self::Unsupported(what) => write!(f, "this build has no {what}"),
            Self::Defect(what) => write!(f, "defect in libwsx, please report it: {what}"),
            Self::Io { doing, source } => write!(f, "cannot {doing}: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl Error {
    /// An [`Error::InvalidArgument`] with this explanation.
    pub(crate) fn invalid(why: impl Into<Cow<'static, str>>) -> Self {
        Self::InvalidArgument(why.into())
    }

    /// An [`Error::Io`]: `doing` completes the sentence "cannot …".
    pub(crate) fn io(doing: impl Into<Cow<'static, str>>, source: io::Error) -> Self {
        Self::Io { doing: doing.into(), source }
    }
}

/// How far a connection had come when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Stage {
    /// Looking up the host name.
    Resolve,
    /// Opening the transport, or accepting it.
    Connect,
    /// A client's proxy, from the first word to it until its tunnel to the server is open.
    Proxy,
    /// The TLS handshake, and what TLS itself reports until the connection is open: in TLS 1.3 a server may refuse a
    /// client's certificate after the client is done.
    Tls,
    /// The HTTP part of the opening handshake, or a plain HTTP answer.
    Http,
    /// Open, or closing.
    WebSocket,
}

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FailureKind {
    /// The peer broke the protocol.
    Protocol,
    /// The peer answered, but not with what was asked for (an HTTP status other than 101, say).
    Refused,
    /// A limit of the options was exceeded.
    Limit,
    /// A timeout of the options ran out.
    Timeout,
    /// The system reported an error, or the peer's end vanished.
    Transport,
    /// The loop was shut down or dropped.
    Shutdown,
    /// A callback of this program panicked or raised.
    Callback,
}

impl fmt::Display for Stage {
    /// Its name, as sentences have it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Proxy => "proxy",
            Self::Tls => "TLS",
            Self::Http => "HTTP",
            Self::WebSocket => "WebSocket",
        })
    }
}

/// What a limit or a timeout is set to, with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Figure {
    /// Bytes.
    Bytes(u64),
    /// A number of things: fragments, headers.
    Count(u64),
    /// A timeout.
    Time(Duration),
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{bytes} bytes"),
            Self::Count(count) => write!(f, "{count}"),
            Self::Time(time) => write!(f, "{time:?}"),
        }
    }
}

impl From<usize> for Figure {
    /// Bytes: what most limits count.
    fn from(bytes: usize) -> Self {
        Self::Bytes(bytes as u64)
    }
}

impl From<Duration> for Figure {
    fn from(timeout: Duration) -> Self {
        Self::Time(timeout)
    }
}

/// The limit or the timeout that struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limit {
    /// The name of the option that sets it, as in [`Options`](crate::Options): `max_message`. One that no option sets has a
    /// name as well: `tls_handshake_message`, the 64 KiB that a message of the TLS handshake may have.
    pub option: &'static str,
    /// What it is set to.
    pub figure: Figure,
    /// What was reached, in the unit of the figure, where that is known: for `max_message` the bytes that the frames so far
    /// have announced, for `backlog_limit` those that waited. `None` for timeouts, and where counting ended at the limit.
    pub reached: Option<u64>,
}

impl Limit {
    pub(crate) fn new(option: &'static str, figure: impl Into<Figure>) -> Self {
        Self { option, figure: figure.into(), reached: None }
    }

    pub(crate) fn reached(self, reached: u64) -> Self {
        Self { reached: Some(reached), ..self }
    }
}

/// What went wrong with a connection: told by `on_error`, and again with its Close.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// How far the connection had come.
    pub stage: Stage,
    /// What kind of thing went wrong.
    pub kind: FailureKind,
    /// The limit or the timeout that struck: there exactly if `kind` is [`FailureKind::Limit`] or
    /// [`FailureKind::Timeout`].
    pub limit: Option<Limit>,
    /// The system's error number, where it reported one.
    pub os_error: Option<i32>,
    /// The HTTP status the peer answered, where it did; under [`Stage::Proxy`] the proxy's.
    pub http_status: Option<u16>,
    /// One sentence for people: what happened and, where there is something, what to do about it.
    pub message: Cow<'static, str>,
    /// A SOCKS5 proxy refused what it would refuse the next time as well: it has no HTTP status that says so.
    pub(crate) is_final: bool,
}

impl Failure {
    pub(crate) fn new(stage: Stage, kind: FailureKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { stage, kind, limit: None, os_error: None, http_status: None, message: message.into(), is_final: false }
    }

    /// A limit of the options was exceeded.
    pub(crate) fn limit(stage: Stage, limit: Limit, message: impl Into<Cow<'static, str>>) -> Self {
        Self { limit: Some(limit), ..Self::new(stage, FailureKind::Limit, message) }
    }

    /// The timeout that `option` sets ran out.
    pub(crate) fn timeout(
        stage: Stage,
        option: &'static str,
        timeout: Duration,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { limit: Some(Limit::new(option, timeout)), ..Self::new(stage, FailureKind::Timeout, message) }
    }

    /// What failed while `doing`; an error that carries a failure tells that one.
    pub(crate) fn transport(stage: Stage, doing: &str, source: &io::Error) -> Self {
        if let Some(told) = source.get_ref().and_then(|inner| inner.downcast_ref::<Self>()) {
            // Only TLS tells so much, and the HTTP above it has not begun to matter.
            let stage = if stage == Stage::Http { Stage::Tls } else { stage };
            return Self { stage, ..told.clone() };
        }
        Self {
            os_error: source.raw_os_error(),
            ..Self::new(stage, FailureKind::Transport, format!("{doing}: {source}"))
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
