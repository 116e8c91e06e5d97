//! Options: an opaque object with a typed setter for every field of `wsx_core::Options` and `LoopOptions`.

use std::ffi::c_char;

use wsx_core::{BacklogPolicy, Compression, LoopOptions, Options, Origins, Reconnect, Result, check_header};

use crate::boundary::{enter, invalid, milliseconds, needed, optional_text, switch, text};

/// Beyond the backlog limit: the connection is closed with 1013 (the default).
pub const WSX_BACKLOG_CLOSE: i32 = 0;
/// Beyond the backlog limit: the message is dropped, and counted in lost_messages of wsx_close_info.
pub const WSX_BACKLOG_DROP: i32 = 1;
/// Beyond the backlog limit: sending answers WSX_ERR_BACKLOG_FULL.
pub const WSX_BACKLOG_REFUSE: i32 = 2;
/// Beyond the backlog limit: the message is taken, and nothing is read from this peer until its backlog is drained:
/// what an echo server wants.
pub const WSX_BACKLOG_PAUSE: i32 = 3;

/// An Origin header must name the same host and port as the Host header (the default).
pub const WSX_ORIGINS_SAME_HOST: i32 = 0;
/// Any origin may connect; the request hook may still reject.
pub const WSX_ORIGINS_ANY: i32 = 1;

/// The options of loops, listeners and client connections: one object holds them all, each call reads its own, and
/// later changes have no effect on what was made. A size or count of 0 means "no limit" and a timeout of 0 means "off",
/// unless a setter says otherwise.
#[derive(Clone, Default)]
pub struct wsx_options {
    pub(crate) connection: Options,
    pub(crate) event_loop: LoopOptions,
    pub(crate) reconnect: Reconnect,
    /// What counts once compression is switched on.
    compression: Compression,
}

pub(crate) fn set(options: Option<&mut wsx_options>, change: impl FnOnce(&mut wsx_options)) -> i32 {
    try_set(options, |options| {
        change(options);
        Ok(())
    })
}

pub(crate) fn try_set(options: Option<&mut wsx_options>, change: impl FnOnce(&mut wsx_options) -> Result<()>) -> i32 {
    enter(|| change(needed(options, "options")?))
}

/// Changes a parameter of compression, whether that is on or not.
fn set_compression(options: Option<&mut wsx_options>, change: impl FnOnce(&mut Compression) -> Result<()>) -> i32 {
    try_set(options, |options| {
        change(&mut options.compression)?;
        if let Some(compression) = &mut options.connection.compression {
            compression.clone_from(&options.compression);
        }
        Ok(())
    })
}

/// A number that is checked where the options are used; here it must only be one that they can hold.
fn small(value: u32, name: &str) -> Result<u8> {
    u8::try_from(value).map_err(|_| invalid(format!("{name} is {value}, which is out of range")))
}

/// Options with every default, to be freed with wsx_options_free(). NULL only where a defect was caught. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_new() -> *mut wsx_options {
    crate::boundary::answer(std::ptr::null_mut(), || Ok(Box::into_raw(Box::default())))
}

/// Frees options; what was made with them stays. NULL is fine. [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_options_free(options: *mut wsx_options) {
    if !options.is_null() {
        // SAFETY: not NULL, so it came from `wsx_options_new` and is freed once.
        drop(unsafe { Box::from_raw(options) });
    }
}

/// Largest message a peer may send, in bytes, after assembling its fragments. Beyond it: close 1009, told from the
/// frame header alone. Default 1 MiB; 0: no limit. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_max_message(options: Option<&mut wsx_options>, bytes: usize) -> i32 {
    set(options, |options| options.connection.max_message = bytes)
}

/// Most fragments of one message. Beyond it: close 1008. Default 1,024; 0: no limit. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_max_fragments(options: Option<&mut wsx_options>, count: u32) -> i32 {
    set(options, |options| options.connection.max_fragments = count)
}

/// Whether each frame of a fragmented message is handed over by on_fragment (1) instead of the assembled message by
/// on_message (0). The largest message still bounds the whole. Default 0. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_deliver_fragments(options: Option<&mut wsx_options>, enabled: i32) -> i32 {
    try_set(options, |options| {
        options.connection.deliver_fragments = switch(enabled, "enabled")?;
        Ok(())
    })
}

/// Largest HTTP head (first line and headers), in bytes. Beyond it: 431. Default 16 KiB; 0 is the default. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_max_head(options: Option<&mut wsx_options>, bytes: usize) -> i32 {
    set(options, |options| options.connection.max_head = bytes)
}

/// Most headers in an HTTP head, at most 256. Beyond it: 431. Default 100; 0 is the default. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_max_headers(options: Option<&mut wsx_options>, count: usize) -> i32 {
    set(options, |options| options.connection.max_headers = count)
}

/// How long opening may take, from the TCP connection to on_open, the lookup of a client's host name included. Beyond
/// it: closed, after 408 where a request was begun. Default 10,000 ms. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_handshake_timeout(options: Option<&mut wsx_options>, ms: u64) -> i32 {
    set(options, |options| options.connection.handshake_timeout = milliseconds(ms))
}

/// Heartbeat: ping after so long without a byte from the peer. Default 25,000 ms; 0: no heartbeat. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_ping_interval(options: Option<&mut wsx_options>, ms: u64) -> i32 {
    set(options, |options| options.connection.ping_interval = milliseconds(ms))
}

/// How long a peer may stay silent after the heartbeat's ping; any byte counts as life. Beyond it: closed as 1006.
/// Default 20,000 ms. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_pong_timeout(options: Option<&mut wsx_options>, ms: u64) -> i32 {
    set(options, |options| options.connection.pong_timeout = milliseconds(ms))
}

/// How long the closing handshake may take. Beyond it: TCP is closed. Default 5,000 ms; 0 is the default. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_close_timeout(options: Option<&mut wsx_options>, ms: u64) -> i32 {
    set(options, |options| options.connection.close_timeout = milliseconds(ms))
}

/// How long output may wait without the peer taking a single byte. Beyond it: closed as 1006. Default 10,000 ms; 0: no
/// limit. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_progress_timeout(options: Option<&mut wsx_options>, ms: u64) -> i32 {
    set(options, |options| options.connection.progress_timeout = milliseconds(ms))
}

/// Most output that may wait for one peer, in bytes, counted after the turn's flush; a message that finds nothing
/// waiting is always taken whole. Beyond it: the backlog policy. Default 1 MiB; 0: no limit. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_backlog_limit(options: Option<&mut wsx_options>, bytes: usize) -> i32 {
    set(options, |options| options.connection.backlog_limit = bytes)
}

/// What happens beyond the backlog limit: a WSX_BACKLOG_ constant. Default WSX_BACKLOG_CLOSE. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_backlog_policy(options: Option<&mut wsx_options>, policy: i32) -> i32 {
    try_set(options, |options| {
        options.connection.backlog_policy = match policy {
            WSX_BACKLOG_CLOSE => BacklogPolicy::Close,
            WSX_BACKLOG_DROP => BacklogPolicy::Drop,
            WSX_BACKLOG_REFUSE => BacklogPolicy::Refuse,
            WSX_BACKLOG_PAUSE => BacklogPolicy::Pause,
            _ => return Err(invalid(format!("{policy} is no backlog policy"))),
        };
        Ok(())
    })
}

/// Adds a subprotocol. Server: those it speaks, in order of preference; the first one the client offers is chosen
/// unless the request hook chooses. Client: those it offers. Default none. [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_options_add_subprotocol(options: Option<&mut wsx_options>, name: *const c_char) -> i32 {
    try_set(options, |options| {
        // SAFETY: the contract of the crate.
        options.connection.subprotocols.push(unsafe { text(name, "name") }?.into());
        Ok(())
    })
}

/// Most topics one connection may subscribe to. Beyond it wsx_subscribe() is refused. Default 128. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_max_topics(options: Option<&mut wsx_options>, count: usize) -> i32 {
    set(options, |options| options.connection.max_topics = count)
}

/// Longest name of a topic that a connection may subscribe to, in bytes, at most WSX_MAX_TOPIC_NAME. Beyond it
/// wsx_subscribe() is refused. Default 255; 0 is the default. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_max_topic_name(options: Option<&mut wsx_options>, bytes: usize) -> i32 {
    set(options, |options| options.connection.max_topic_name = bytes)
}

/// Whether messages are compressed (1) with peers that agree: permessage-deflate, RFC 7692. Default 0. In a build without
/// it wsx_listen() and wsx_connect() then answer WSX_ERR_UNSUPPORTED; wsx_has_feature("deflate") tells. A server agrees to
/// the first offer of a client that it can keep, within what the setters below say; a client offers what they say, and is
/// connected without compression where the server declines. The largest message counts what comes out. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_compression(options: Option<&mut wsx_options>, enabled: i32) -> i32 {
    try_set(options, |options| {
        let enabled = switch(enabled, "enabled")?;
        options.connection.compression = enabled.then(|| options.compression.clone());
        Ok(())
    })
}

/// Compression: how hard to try, 1 (fast) to 9 (small). Like all that follow, it is kept until compression is switched
/// on, and does not switch it on; what is out of range is refused by wsx_listen() and wsx_connect(). Default 6.
/// [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_compression_level(options: Option<&mut wsx_options>, level: u32) -> i32 {
    set_compression(options, |compression| {
        compression.level = small(level, "level")?;
        Ok(())
    })
}

/// Compression: messages of fewer bytes are sent as they are. Default 1 KiB; 0: all are compressed. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_compression_threshold(options: Option<&mut wsx_options>, bytes: usize) -> i32 {
    set_compression(options, |compression| {
        compression.threshold = bytes;
        Ok(())
    })
}

/// Compression: whether the server begins each message anew (1), so that it and its client need no memory between
/// messages, or messages may refer to earlier ones (0), which makes those that resemble each other smaller. A server
/// answers 1, asked or not; a client asks for it, and fails a connection where the server does not grant it. Default 1.
/// [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_compression_server_no_context_takeover(
    options: Option<&mut wsx_options>,
    enabled: i32,
) -> i32 {
    set_compression(options, |compression| {
        compression.server_no_context_takeover = switch(enabled, "enabled")?;
        Ok(())
    })
}

/// Compression: the same for the client's messages. A server demands 1; a client says so and does so. Default 1.
/// [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_compression_client_no_context_takeover(
    options: Option<&mut wsx_options>,
    enabled: i32,
) -> i32 {
    set_compression(options, |compression| {
        compression.client_no_context_takeover = switch(enabled, "enabled")?;
        Ok(())
    })
}

/// Compression: the window of the server's messages as a power of two, 9 (512 bytes) to 15 (32 KiB). A server uses no
/// more, whatever is asked for; a client asks for less than 15, and fails a connection where the server does not grant
/// it. Default 15. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_compression_server_max_window_bits(
    options: Option<&mut wsx_options>,
    bits: u32,
) -> i32 {
    set_compression(options, |compression| {
        compression.server_max_window_bits = small(bits, "bits")?;
        Ok(())
    })
}

/// Compression: the same for the client's messages. A server demands less than 15 from each client that lets itself be
/// told; a client uses no more, whatever is demanded. Default 15. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_compression_client_max_window_bits(
    options: Option<&mut wsx_options>,
    bits: u32,
) -> i32 {
    set_compression(options, |compression| {
        compression.client_max_window_bits = small(bits, "bits")?;
        Ok(())
    })
}

/// Whether small writes leave at once, TCP_NODELAY (1), or wait for the acknowledgement of earlier ones (0). Default 1.
/// [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_no_delay(options: Option<&mut wsx_options>, enabled: i32) -> i32 {
    try_set(options, |options| {
        options.connection.no_delay = switch(enabled, "enabled")?;
        Ok(())
    })
}

/// TCP's own keep-alive, SO_KEEPALIVE: after so long without a byte either way the kernel asks whether the peer's machine
/// is still there, also while the heartbeat is off or reading is paused. It counts in seconds, at most 32,767: a part of
/// one is a whole one. Where nobody answers, the connection is closed as 1006 with the system's errno. Default 0: off, and
/// 30,000 ms for HTTP streams. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_keep_alive_idle(options: Option<&mut wsx_options>, ms: u64) -> i32 {
    set(options, |options| options.connection.keep_alive_idle = milliseconds(ms))
}

/// Keep-alive: the time between questions that are not answered. Default 0: the system's, as a rule 75,000 ms (30,000 for
/// HTTP streams). [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_keep_alive_interval(options: Option<&mut wsx_options>, ms: u64) -> i32 {
    set(options, |options| options.connection.keep_alive_interval = milliseconds(ms))
}

/// Keep-alive: how many questions in a row stay without an answer before the connection is given up, at most 127. Default
/// 0: the system's, as a rule 9. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_keep_alive_count(options: Option<&mut wsx_options>, count: u32) -> i32 {
    set(options, |options| options.connection.keep_alive_count = count)
}

/// Server: which web pages may connect: a WSX_ORIGINS_ constant. Only requests with an Origin header, those of
/// browsers, are checked; others get 403. Default WSX_ORIGINS_SAME_HOST. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_origins(options: Option<&mut wsx_options>, origins: i32) -> i32 {
    try_set(options, |options| {
        options.connection.origins = match origins {
            WSX_ORIGINS_SAME_HOST => Origins::SameHost,
            WSX_ORIGINS_ANY => Origins::Any,
            _ => return Err(invalid(format!("{origins} is no choice of origins"))),
        };
        Ok(())
    })
}

/// Server: adds an origin to the list of those that may connect, written as browsers send it: "https://example.org", or
/// "null" for a page from a file. With "*." before the host it stands for every subdomain, however deep, and not for the
/// host itself. What is no origin is refused by wsx_listen(). The first one replaces the rule of
/// wsx_options_set_origins(). [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_options_add_origin(options: Option<&mut wsx_options>, origin: *const c_char) -> i32 {
    try_set(options, |options| {
        // SAFETY: the contract of the crate.
        let origin = unsafe { text(origin, "origin") }?.to_owned();
        match &mut options.connection.origins {
            Origins::List(list) => list.push(origin),
            other => *other = Origins::List(vec![origin]),
        }
        Ok(())
    })
}

/// Server: the only path that is upgraded, as "/chat"; others get 404 unless the request hook answers. NULL: any path,
/// the default. [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_options_set_path(options: Option<&mut wsx_options>, path: *const c_char) -> i32 {
    try_set(options, |options| {
        // SAFETY: the contract of the crate.
        options.connection.path = unsafe { optional_text(path, "path") }?.map(Into::into);
        Ok(())
    })
}

/// Server: most connections of a listener. Each counts from its acceptance (of a route, from its request) to its end,
/// whatever it is for and also where it is refused. Beyond it: 503, and once a small reserve is used up they wait in the
/// kernel's queue. Default 0: the process's descriptor limit less 32. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_max_connections(options: Option<&mut wsx_options>, count: usize) -> i32 {
    set(options, |options| options.connection.max_connections = count)
}

/// Server: most connections of a listener from one address, on all threads: one of IPv4 (also where it is mapped to IPv6),
/// or a network of IPv6 with 64 bits. Connections count from their acceptance to their end; those over a Unix socket do
/// not. Beyond it: a few get 503, any more are closed as soon as they are accepted, and all are over TLS, before its
/// handshake. Behind a proxy everybody has the proxy's address: leave it off. Default 0: no limit. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_max_connections_per_address(options: Option<&mut wsx_options>, count: usize) -> i32 {
    set(options, |options| options.connection.max_connections_per_address = count)
}

/// Server: length of the kernel's queue of connections not yet accepted. Default 1,024. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_listen_backlog(options: Option<&mut wsx_options>, count: u32) -> i32 {
    set(options, |options| options.connection.listen_backlog = count)
}

/// Server: whether several listeners may share an address (SO_REUSEPORT), one per loop (1). Default 0. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_reuse_port(options: Option<&mut wsx_options>, enabled: i32) -> i32 {
    try_set(options, |options| {
        options.connection.reuse_port = switch(enabled, "enabled")?;
        Ok(())
    })
}

/// Client: adds a header to the request. One that the library writes itself, or that cannot stand in an HTTP head, is
/// WSX_ERR_INVALID. Default none. [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_options_add_header(
    options: Option<&mut wsx_options>,
    name: *const c_char,
    value: *const c_char,
) -> i32 {
    try_set(options, |options| {
        // SAFETY: the contract of the crate.
        let (name, value) = unsafe { (text(name, "name")?, text(value, "value")?) };
        check_header(name, value)?;
        options.connection.headers.push((name.into(), value.into()));
        Ok(())
    })
}

/// Client: connects through a proxy, except to a Unix socket: "http://[user:password@]host[:port]" by CONNECT, "socks5://" and
/// "socks5h://" by SOCKS5, where the host's name is looked up here, or by the proxy. What is malformed, and a proxy that is
/// spoken to over TLS ("https://"), is refused by wsx_connect() as WSX_ERR_INVALID. NULL: none, the default. [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_options_set_proxy(options: Option<&mut wsx_options>, url: *const c_char) -> i32 {
    try_set(options, |options| {
        // SAFETY: the contract of the crate.
        options.connection.proxy = unsafe { optional_text(url, "url") }?.map(Into::into);
        Ok(())
    })
}

/// Client: whether the proxy that the environment names is taken where none is set (1), read by wsx_connect() as curl reads
/// it: https_proxy or HTTPS_PROXY for wss, http_proxy for ws, else all_proxy or ALL_PROXY, and no_proxy or NO_PROXY for the
/// hosts that are reached without: names, domains, addresses, networks as 10.0.0.0/8, with a port where only that is meant,
/// or "*". Default 0. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_proxy_from_environment(options: Option<&mut wsx_options>, enabled: i32) -> i32 {
    try_set(options, |options| {
        options.connection.proxy_from_environment = switch(enabled, "enabled")?;
        Ok(())
    })
}

/// Client: most redirects (301, 302, 303, 307, 308) to follow. Beyond it, and from wss to ws, the connection fails. To
/// another origin go neither the user of the URL nor headers whose names tell of credentials: Authorization, Cookie, and
/// all with token, key, secret, session or password in them. Default 0: none is followed. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_max_redirects(options: Option<&mut wsx_options>, count: u32) -> i32 {
    set(options, |options| options.connection.max_redirects = count)
}

/// Client: how long it may take until the request can be sent: the lookup of the name, TCP, a proxy, TLS; for each redirect
/// anew. Beyond it the connection fails, under the stage it had come to. Of a name's addresses up to 32 are tried, the next
/// one 250 ms after the last or when that fails (RFC 8305). Default 0: no limit but the handshake's timeout, which counts
/// as well. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_connect_timeout(options: Option<&mut wsx_options>, ms: u64) -> i32 {
    set(options, |options| options.connection.connect_timeout = milliseconds(ms))
}

/// Loop: most calls from other threads that may wait. Beyond it they answer WSX_ERR_FULL. Default 65,536. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_max_commands(options: Option<&mut wsx_options>, count: usize) -> i32 {
    set(options, |options| options.event_loop.max_commands = count)
}

/// Loop: most payload in those calls, in bytes. Beyond it they answer WSX_ERR_FULL. Default 16 MiB. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_max_command_bytes(options: Option<&mut wsx_options>, bytes: usize) -> i32 {
    set(options, |options| options.event_loop.max_command_bytes = bytes)
}

/// Loop: how long it stays awake and asks for events before it sleeps, in microseconds: the shortest latency at the price
/// of a busy processor; it does so only while that pays. Default 0: it sleeps at once. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_busy_poll(options: Option<&mut wsx_options>, microseconds: u64) -> i32 {
    set(options, |options| options.event_loop.busy_poll = std::time::Duration::from_micros(microseconds))
}

/// Loop: threads that serve, 1 to 1,024. Each has a share of every listener's connections and one set of topics for all;
/// the first is the one that runs the loop, the others start with its first turn and end with it. Callbacks then run on
/// several threads at once, those of one connection always on the same, with the same user pointer; calls that belong to
/// the loop's thread act for the thread they are made on. Default 1. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_threads(options: Option<&mut wsx_options>, count: usize) -> i32 {
    set(options, |options| options.event_loop.threads = count)
}

/// Loop: size of its one receive buffer, in bytes, at least 4 KiB. Default 256 KiB. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_receive_buffer(options: Option<&mut wsx_options>, bytes: usize) -> i32 {
    set(options, |options| options.event_loop.receive_buffer = bytes)
}

/// Loop: 1: it measures how long callbacks take, for longest_callback_ns of wsx_statistics: the clock is read twice more for
/// each connection that something comes from in a turn, and for each other callback. Default 0. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_measure_callbacks(options: Option<&mut wsx_options>, enabled: i32) -> i32 {
    try_set(options, |options| {
        options.event_loop.measure_callbacks = switch(enabled, "enabled")?;
        Ok(())
    })
}
