//! Clients that connect again, and where they find a raw server or nobody.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use wsx_core::{Client, Options, Reconnect};

use super::{Events, Running, Script};

pub const HOUR: Duration = Duration::from_secs(3600);

/// A client that comes back almost at once.
pub fn soon() -> Reconnect {
    let mut reconnect = Reconnect::default();
    reconnect.base_delay = Duration::from_millis(2);
    reconnect.max_delay = Duration::from_millis(20);
    reconnect
}

/// A client that does not come back while a test runs.
pub fn late() -> Reconnect {
    let mut reconnect = Reconnect::default();
    (reconnect.base_delay, reconnect.max_delay) = (1000 * HOUR, 1000 * HOUR);
    reconnect
}

pub fn with_queue(mut reconnect: Reconnect, limit: usize) -> Reconnect {
    reconnect.offline_limit = limit;
    reconnect
}

pub fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = url_of(listener.local_addr().unwrap());
    (listener, url)
}

pub fn url_of(address: SocketAddr) -> String {
    format!("ws://{address}/")
}

/// An address where nobody listens.
pub fn nobody() -> (SocketAddr, String) {
    let (listener, url) = listen();
    (listener.local_addr().unwrap(), url)
}

/// A client of a raw server, in the default options but for these.
pub fn connect(reconnect: &Reconnect, script: Script) -> (TcpListener, Running, Client, Events) {
    let (listener, url) = listen();
    let running = Running::idle();
    let (client, events) = running.connect_persistently(&url, &Options::default(), reconnect, script);
    (listener, running, client, events)
}
