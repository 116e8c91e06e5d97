//! The protocol without sockets, clock or threads: bytes in, events out, bytes out.

pub mod connection;
pub mod credentials;
pub mod deflate;
pub mod frame;
pub mod handshake;
pub mod http;
pub mod message;
pub mod origin;
pub mod proxy;
pub mod reconnecting;
pub mod redirect;
pub mod short;
pub mod unmask;
pub mod url;
