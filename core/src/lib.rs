//! One WebSocket engine for every program: server and client on one event loop.
//!
//! ```no_run
//! use wsx_core::{Connection, EventLoop, Handler, Message, Options};
//!
//! struct Echo;
//! impl Handler for Echo {
//!     fn on_message(&mut self, connection: Connection, message: Message<'_>) {
//!         let _ = connection.send(message);
//!     }
//! }
//!
//! fn main() -> wsx_core::Result<()> {
//!     let mut event_loop = EventLoop::new()?;
//!     event_loop.listen("127.0.0.1:9001", &Options::default(), Echo)?;
//!     event_loop.run()
//! }
//! ```
//!
//! The picture, from top to bottom; imports run downwards only:
//!
//! ```text
//! engine     sockets, clock, threads: one turn is poll, dispatch, commands, deadlines, flush, news
//! protocol   bytes in, events out, bytes out: HTTP heads, handshakes, frames, messages, the state machine
//! config  event  close  error  statistics  log     the vocabulary
//! ```
//!
//! A connection is a number ([`Connection`]); what belongs to it is freed by the engine, never by the program. Callbacks
//! ([`Handler`]) run on the thread that turns the loop. [`Handle`] is the door for other threads and for callbacks.
//!
//! Tested on Linux on x86-64.

#![forbid(unsafe_op_in_unsafe_fn)]

pub mod close;
pub mod config;
mod engine;
pub mod error;
pub mod event;
pub mod log;
#[doc(hidden)]
pub mod protocol;
pub mod statistics;

pub use close::{Close, Side};
pub use config::{
    BacklogPolicy, Certificate, ClientAuth, Compression, LoopOptions, Options, Origins, Pem, ProxyUrl, Reconnect, Tls,
};
pub use engine::event_loop::EventLoop;
pub use engine::handle::Handle;
pub use engine::owned::{Buffer, OwnedMessage, SharedMessage};
pub use error::{Error, Failure, FailureKind, Figure, Limit, Result, Stage};
pub use event::{
    Address, Client, Connection, Fragment, GiveUp, GiveUpKind, Handler, Headers, Listener, Message, MessageKind,
    Opening, ReadyState, Reconnecting, Request, Response, Timer, check_header, parse_cookies, parse_query,
};
pub use statistics::{Refusal, Statistics};

/// The Rust in README.md compiles as it stands there.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
