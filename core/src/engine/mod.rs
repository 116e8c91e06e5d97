//! The only place with mio, sockets, threads and the clock.
//!
//! ```text
//! event_loop   one turn: poll, dispatch, commands, deadlines, flush, news
//! handle, connection, shared   the thread-safe door
//! whole        the short way from an event to callbacks         frames    the long way from bytes to them
//! receive      other events, and bytes in            opening   HTTP heads to callbacks
//! news         what waits to be told, and the end of a connection
//! deferring    requests that the program answers later          routes    paths with options and a handler of their own
//! send         messages out: backlog, flush         current   the short way out of a callback
//! owned        messages whose bytes are given away or shared
//! topics       broadcast and publish             handover  a large message passed on without a copy
//! compressing  messages out where that was agreed on     pings   how long they take
//! fragments    messages out piece by piece
//! closing      close, fail, end, reap               deadlines, timers   every timeout of the loop
//! listener     accept                               connector, resolver   connect: names, addresses, proxies, redirects
//! reconnecting a client that connects again
//! transport    a socket, plain or with TLS           tls, securing   TLS, and its handshake
//! tcp          a socket's options                addresses   how many connections each address has
//! siblings     several threads that serve as one     wait      asleep, or awake for a while
//! state        what a loop owns      registry   numbers to connections      outbox   what waits to be written
//! statistics   what is counted        logging   what is logged
//! record       one connection        group      a listener's connections, or a client's one
//! ```

mod addresses;
mod callback;
mod closing;
mod compressing;
mod connection;
mod connector;
mod current;
mod deadlines;
mod deferring;
pub(crate) mod event_loop;
mod fragments;
mod frames;
mod group;
pub(crate) mod handle;
mod handover;
mod listener;
mod logging;
mod news;
mod opening;
mod outbox;
pub(crate) mod owned;
mod pings;
mod receive;
mod reconnecting;
mod record;
mod registry;
mod resolver;
mod routes;
mod securing;
mod send;
mod shared;
mod siblings;
mod state;
mod statistics;
mod tcp;
mod timers;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "tls/absent.rs"]
mod tls;
mod topics;
mod transport;
mod wait;
mod whole;
