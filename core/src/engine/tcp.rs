//! What is set on a TCP socket: TCP_NODELAY, and TCP's own keep-alive. A listening socket hands it on to those that it accepts.

use std::io;
use std::time::Duration;

use socket2::{Socket, TcpKeepalive};

use crate::config::Options;
use crate::error::{Error, Result};

/// How long an HTTP stream may be silent before the kernel asks for its client, and between such questions, where the
/// options do not say.
const STREAM_KEEP_ALIVE: Duration = Duration::from_secs(30);
/// The longest time that Linux takes, and the most questions.
const MAX_SECONDS: u64 = 32_767;
const MAX_COUNT: u32 = 127;

/// What the kernel would refuse, on a socket that is made much later.
pub(super) fn check(options: &Options) -> Result<()> {
    let times = [("keep_alive_idle", options.keep_alive_idle), ("keep_alive_interval", options.keep_alive_interval)];
    for (name, time) in times {
        if seconds(time) > MAX_SECONDS {
            return Err(Error::invalid(format!("{name} is at most 32,767 s, and this is {time:?}")));
        }
    }
    if options.keep_alive_count > MAX_COUNT {
        let count = options.keep_alive_count;
        return Err(Error::invalid(format!("keep_alive_count is at most {MAX_COUNT}, and this is {count}")));
    }
    Ok(())
}

/// Sets what the options say.
pub(super) fn set_options(socket: &Socket, options: &Options) -> io::Result<()> {
    socket.set_tcp_nodelay(options.no_delay)?;
    if options.keep_alive_idle.is_zero() { Ok(()) } else { socket.set_tcp_keepalive(&keep_alive(options)) }
}

/// Has the kernel ask whether the client of an HTTP stream is still there; a Unix socket needs no such thing.
pub(super) fn keep_stream_alive(socket: &Socket, options: &Options) {
    let mut options = options.clone();
    if options.keep_alive_idle.is_zero() {
        options.keep_alive_idle = STREAM_KEEP_ALIVE;
    }
    if options.keep_alive_interval.is_zero() {
        options.keep_alive_interval = STREAM_KEEP_ALIVE;
    }
    let _ = socket.set_tcp_keepalive(&keep_alive(&options));
}

fn keep_alive(options: &Options) -> TcpKeepalive {
    let whole = |time| Duration::from_secs(seconds(time));
    let mut params = TcpKeepalive::new().with_time(whole(options.keep_alive_idle));
    if !options.keep_alive_interval.is_zero() {
        params = params.with_interval(whole(options.keep_alive_interval));
    }
    if options.keep_alive_count != 0 {
        params = params.with_retries(options.keep_alive_count);
    }
    params
}

/// Rounds up: the kernel counts in seconds, and takes none for an error.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() != 0)
}
