//! Listeners, and connections that this program opens: where a table of callbacks is registered.

use std::ffi::{c_char, c_void};
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};

use wsx_core::{Address, Listener, Options, Result};

use crate::boundary::{count, enter, enter_with_text, invalid, needed, text};
use crate::callbacks::{Callbacks, wsx_callbacks, wsx_connection, wsx_listener};
use crate::event_loop::wsx_loop;
use crate::options::wsx_options;

fn with_defaults<R>(options: Option<&wsx_options>, call: impl FnOnce(&Options) -> Result<R>) -> Result<R> {
    match options {
        Some(options) => call(&options.connection),
        None => call(&Options::default()),
    }
}

/// Listens on "HOST:PORT" (an IPv6 address in brackets) or "unix:PATH", with options or, where they are NULL, the
/// defaults, and writes the listener's number, which may go to NULL. With a certificate in the options it speaks TLS.
/// Port 0: the system chooses, and wsx_listener_port() tells. Accepting begins with the loop's first turn. [loop thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_listen(
    event_loop: Option<&wsx_loop>,
    address: *const c_char,
    options: Option<&wsx_options>,
    callbacks: *const wsx_callbacks,
    user: *mut c_void,
    listener: Option<&mut MaybeUninit<wsx_listener>>,
) -> i32 {
    enter(|| {
        // SAFETY: the contract of the crate.
        let handler = unsafe { Callbacks::new(callbacks, user) }?;
        let event_loop = needed(event_loop, "loop")?;
        // SAFETY: the contract of the crate.
        let address = unsafe { text(address, "address") }?;
        let made = with_defaults(options, |options| event_loop.handle.listen_boxed(address, options, handler))?;
        if let Some(listener) = listener {
            listener.write(made.id());
        }
        Ok(())
    })
}

/// Listens with a socket that is bound already, listening or not, TCP or Unix (socket activation, a supervisor). The
/// library owns the descriptor from here on, and closes it also where this fails. [loop thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_listen_fd(
    event_loop: Option<&wsx_loop>,
    fd: i32,
    options: Option<&wsx_options>,
    callbacks: *const wsx_callbacks,
    user: *mut c_void,
    listener: Option<&mut MaybeUninit<wsx_listener>>,
) -> i32 {
    enter(|| {
        // SAFETY: the contract of the crate.
        let handler = unsafe { Callbacks::new(callbacks, user) };
        if fd < 0 {
            return Err(invalid(format!("{fd} is no descriptor")));
        }
        // SAFETY: not -1, and as the header says the program hands it over, whatever else is wrong.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let (handler, event_loop) = (handler?, needed(event_loop, "loop")?);
        let made = with_defaults(options, |options| event_loop.handle.adopt_boxed(socket, options, handler))?;
        if let Some(listener) = listener {
            listener.write(made.id());
        }
        Ok(())
    })
}

/// Serves a path of a listener with options (where they are NULL, the defaults) and callbacks of its own, and writes the
/// route's number, which may go to NULL.
///
/// The path is a whole one, "/chat", or ends in a slash and a star for everything below: that of "/rooms" is for "/rooms/"
/// and "/rooms/7/x", and not for "/rooms". It is compared with that of the request as it came, without the query, byte by
/// byte. A whole path goes before the others, the longest of those before the shorter; what no route leads to is the
/// listener's. Plain requests come to the route as well.
///
/// The number is like that of a listener, for the connections of the route alone: broadcasts to the listener do not reach
/// them. wsx_listener_close() gives the path back to the listener; closing the listener ends its routes.
///
/// WSX_ERR_INVALID: the path cannot be one, or has a route already; or an option is set that concerns the socket or the
/// request's head, which are the listener's: TLS, the path, max_head, max_headers, max_connections_per_address,
/// listen_backlog, reuse_port, no_delay, keep_alive. The handshake timeout is the listener's until the request has come.
/// max_connections is the route's own beside the listener's, which counts those of its routes; 0: none. WSX_ERR_CLOSED: the
/// listener is closed. [loop thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_route(
    listener: wsx_listener,
    path: *const c_char,
    options: Option<&wsx_options>,
    callbacks: *const wsx_callbacks,
    user: *mut c_void,
    route: Option<&mut MaybeUninit<wsx_listener>>,
) -> i32 {
    enter(|| {
        // SAFETY: the contract of the crate.
        let handler = unsafe { Callbacks::new(callbacks, user) }?;
        // SAFETY: the contract of the crate.
        let path = unsafe { text(path, "path") }?;
        let listener = Listener::from_id(listener);
        let made = with_defaults(options, |options| listener.route_boxed(path, options, handler))?;
        if let Some(route) = route {
            route.write(made.id());
        }
        Ok(())
    })
}

/// Connects to "ws://HOST[:PORT]/PATH", "wss://HOST[:PORT]/PATH" (TLS) or "ws+unix:PATH:/TARGET", with options or, where
/// they are NULL, the defaults, and writes the connection's number, which may go to NULL. Success means that it was begun:
/// on_open tells when it may be sent to; where it fails on_error tells why, then on_close. wss is WSX_ERR_UNSUPPORTED in a
/// build without TLS.
/// [loop thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_connect(
    event_loop: Option<&wsx_loop>,
    url: *const c_char,
    options: Option<&wsx_options>,
    callbacks: *const wsx_callbacks,
    user: *mut c_void,
    connection: Option<&mut MaybeUninit<wsx_connection>>,
) -> i32 {
    enter(|| {
        // SAFETY: the contract of the crate.
        let handler = unsafe { Callbacks::new(callbacks, user) }?;
        let event_loop = needed(event_loop, "loop")?;
        // SAFETY: the contract of the crate.
        let url = unsafe { text(url, "url") }?;
        let made = with_defaults(options, |options| event_loop.handle.connect_boxed(url, options, handler))?;
        if let Some(connection) = connection {
            connection.write(made.id());
        }
        Ok(())
    })
}

/// Writes a listener's address, as "127.0.0.1:9001", "[::1]:9001" or "unix:/run/chat", into a buffer: cut to what fits,
/// always with a NUL. The whole length, without the NUL, may go to NULL. [loop thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_listener_address(
    listener: wsx_listener,
    buffer: *mut c_char,
    capacity: usize,
    length: Option<&mut MaybeUninit<usize>>,
) -> i32 {
    let call = || Listener::from_id(listener).local_address().map(|address| address.to_string());
    // SAFETY: the contract of the crate.
    unsafe { enter_with_text(buffer, capacity, length, call) }
}

/// A listener's port; 0 for a Unix socket. A negative number is an error. [loop thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_listener_port(listener: wsx_listener) -> i32 {
    count(|| match Listener::from_id(listener).local_address()? {
        Address::Tcp(address) => Ok(address.port().into()),
        Address::Unix(_) => Ok(0),
    })
}

/// Stops accepting and frees the address; open connections stay. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_listener_close(listener: wsx_listener) -> i32 {
    enter(|| Listener::from_id(listener).close())
}
