//! The C door: `include/libwsx.h` over `wsx-core`, one file per noun of the header.
//!
//! The door translates and never decides. Every function here checks its pointers, turns numbers and text into
//! `wsx_core`'s types, calls one function of it, and turns the answer into a status. `boundary` holds what they share.
//!
//! The documentation of the items below is that of the header, so it speaks to C programmers.
//!
//! # Safety
//! What a C caller must keep, everywhere: a pointer is NULL or points to what its type says, text ends with a NUL, a
//! length is not more than what lies behind its pointer, and a handle has not been freed. What is borrowed in a
//! callback is not used after it.

#![allow(non_camel_case_types, reason = "the names are those of the header")]
#![allow(clippy::missing_safety_doc, reason = "one contract holds for all functions: the section Safety above")]

mod boundary;
mod callbacks;
mod client;
mod connection;
mod event_loop;
mod listener;
mod log;
mod message;
mod options;
mod request;
mod response;
mod statistics;
mod status;
mod tls;

pub use callbacks::*;
pub use client::*;
pub use connection::*;
pub use event_loop::*;
pub use listener::*;
pub use log::*;
pub use message::*;
pub use options::*;
pub use request::*;
pub use response::*;
pub use statistics::*;
pub use status::*;
pub use tls::*;
