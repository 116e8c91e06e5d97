//! Every limit, timeout and choice a program can make: default, unit, and what happens beyond it.
//!
//! Sizes are bytes. A size or count of 0 means "no limit", a [`Duration`] of zero means "off", unless a field says
//! otherwise. Options are read when a listener or a connection is made; changing them later has no effect on it.

mod reconnect;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub use reconnect::{MAX_RETRY_AFTER, Reconnect};

/// What a connection does with a message that finds too much output waiting (see [`Options::backlog_limit`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BacklogPolicy {
    /// Close the connection: messages not begun are dropped, Close 1013 follows the frame in progress, and TCP is cut
    /// at the closing timeout. The program hears code 1013, not clean, closed by us.
    #[default]
    Close,
    /// Drop this message silently; it counts in the `lost_messages` of the connection's Close.
    Drop,
    /// Refuse this message: `send` answers [`Error::BacklogFull`](crate::Error::BacklogFull); a broadcast skips the
    /// connection and counts it as lost.
    Refuse,
    /// Take the message and stop reading from this peer until its backlog is drained: what an echo server wants.
    /// Messages that others cause (a broadcast) are taken up to twice the limit; beyond that the policy is `Close`.
    Pause,
}

/// Which web pages may open a connection: the answer to cross-site WebSocket hijacking.
///
/// Only requests with an `Origin` header (browsers) are checked; what is refused gets 403 with a body that says which
/// option allows it. Hosts are compared without regard to case, with the scheme's default port filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// The origin's host and port must equal the request's `Host`. `null` (a page from a file) is refused.
    #[default]
    SameHost,
    /// The origin must be one of these, written as browsers send them: `https://example.org`, `http://localhost:8080`,
    /// `null`. `https://*.example.org` stands for every subdomain, however deep, and not for `https://example.org` itself;
    /// scheme and port must be the same. A wildcard anywhere else, and what is no origin, is an error when a listener
    /// begins.
    List(Vec<String>),
    /// Any origin; the request hook may still reject.
    Any,
}

/// A text in PEM (RFC 7468): in a file, or here.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// The file is read when a listener or a connection is made, or TLS is [reloaded](crate::Handle::reload_tls).
    File(PathBuf),
    /// The text itself.
    Bytes(Vec<u8>),
}

impl fmt::Debug for Pem {
    /// A private key is never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
        }
    }
}

impl From<&str> for Pem {
    /// The path of a file.
    fn from(path: &str) -> Self {
        Self::File(path.into())
    }
}

impl From<PathBuf> for Pem {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<Vec<u8>> for Pem {
    /// The text itself.
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

/// Where a proxy is: `http://[user:password@]host[:port]`, or the same with `socks5://` or `socks5h://`.
///
/// ```
/// let mut options = wsx_core::Options::default();
/// options.proxy = Some("http://proxy.example:3128".into());
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl(String);

impl ProxyUrl {
    /// The URL, with its password.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ProxyUrl {
    /// A password is never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.rsplit('@').next().unwrap_or_default();
        f.debug_tuple("ProxyUrl").field(&shown).finish()
    }
}

impl<T: Into<String>> From<T> for ProxyUrl {
    fn from(url: T) -> Self {
        Self(url.into())
    }
}

/// A certificate and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate, then those of its issuers, up to one that the peer knows.
    pub chain: Pem,
    /// The key in PKCS#8, PKCS#1 or SEC 1 (`PRIVATE KEY`, `RSA PRIVATE KEY`, `EC PRIVATE KEY`), not encrypted.
    pub key: Pem,
}

/// Whether a server asks clients for a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// It does not ask.
    #[default]
    None,
    /// It asks. A client without one is served; one that shows a certificate that is not from an issuer in
    /// [`Tls::ca`] is refused.
    Optional,
    /// It asks, and refuses a client without a certificate from an issuer in [`Tls::ca`].
    Required,
}

/// The choices for TLS 1.2 and 1.3 (RFC 5246, RFC 8446). A [`Pem`] is read, and an error in it told, when a listener or a
/// connection is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tls {
    /// Server: at least one. The first that is valid for the name the client asks for (SNI, RFC 6066 section 3), and has
    /// a kind of key that the client takes, is shown; the first of all where none is. Client: the first is shown when
    /// the server asks for one. Default none.
    pub certificates: Vec<Certificate>,
    /// Client: certificates of the issuers to trust, instead of the system's. Server: those of the issuers of
    /// acceptable client certificates, for `client_auth`. Default none.
    pub ca: Option<Pem>,
    /// Server: whether clients are asked for a certificate. Default [`ClientAuth::None`].
    pub client_auth: ClientAuth,
    /// Client: the name to ask for, and to find in the server's certificate, instead of the URL's host. Default none.
    pub server_name: Option<String>,
    /// The protocols to agree on (ALPN, RFC 7301), in order of preference, each of 1 to 255 bytes. A peer that offers
    /// only others is refused; one that offers none is served. Default empty: `http/1.1`.
    pub alpn: Vec<String>,
    /// Client: take any certificate, of anybody, for any name, also an expired one. The connection is encrypted then, but
    /// to whom is unknown: whoever is on the way can read and change everything. For tests. Default false.
    pub danger_accept_invalid_certificates: bool,
}

impl Tls {
    /// The choices of a server with this certificate chain and key: paths of files, or bytes.
    pub fn server(chain: impl Into<Pem>, key: impl Into<Pem>) -> Self {
        Self { certificates: vec![Certificate { chain: chain.into(), key: key.into() }], ..Self::default() }
    }
}

/// The options of a listener or of a client connection.
///
/// ```
/// let mut options = wsx_core::Options::default();
/// options.max_message = 64 * 1024;
/// options.subprotocols = vec!["chat".into()];
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Largest message a peer may send, after assembling its fragments. Beyond it: Close 1009, told from the frame
    /// header alone, before memory is taken. Default 1 MiB; 0: no limit.
    pub max_message: usize,
    /// Most fragments of one message, empty ones included. Beyond it: Close 1008. Default 1,024; 0: no limit.
    pub max_fragments: u32,
    /// Hand over each frame of a fragmented message by [`Handler::on_fragment`](crate::Handler::on_fragment) instead of
    /// the assembled message. `max_message` still bounds the whole. Default false.
    pub deliver_fragments: bool,
    /// Largest HTTP head (request line or status line, and headers). Beyond it: 431. Default 16 KiB; 0 is the default.
    pub max_head: usize,
    /// Most headers in an HTTP head, at most 256. Beyond it: 431. Default 100; 0 is the default.
    pub max_headers: usize,
    /// From the accepted (or begun) TCP connection to Open, the lookup of a client's host name included. Beyond it: the
    /// connection is closed, after 408 where a request was begun, and 503 where its answer was
    /// [deferred](crate::Response::later). Default 10 s; zero: no limit, and then nothing bounds a
    /// peer that never finishes its request.
    pub handshake_timeout: Duration,
    /// Ping after so long without a byte from the peer (RFC 6455 section 5.5.2). Default 25 s; zero: no heartbeat.
    pub ping_interval: Duration,
    /// How long a peer may stay silent after our ping; any byte received counts as life. Beyond it: closed as 1006
    /// with the cause told. Default 20 s.
    pub pong_timeout: Duration,
    /// How long the closing handshake may take; traffic does not extend it. Beyond it: TCP is closed. Default 5 s; zero
    /// is the default.
    pub close_timeout: Duration,
    /// How long output may wait without the peer taking a single byte. Beyond it: closed as 1006 with the cause told.
    /// Default 10 s; zero: no limit.
    pub progress_timeout: Duration,
    /// Most output that may wait for one peer, counted after the turn's flush. A message that finds nothing waiting is
    /// always taken whole. Beyond it: see [`backlog_policy`](Self::backlog_policy). Default 1 MiB; 0: no limit.
    pub backlog_limit: usize,
    /// What happens beyond `backlog_limit`. Default [`BacklogPolicy::Close`].
    pub backlog_policy: BacklogPolicy,
    /// Server: subprotocols spoken, in order of preference; the first one the client offers is chosen unless the request
    /// hook chooses. Client: subprotocols offered. Default none.
    pub subprotocols: Vec<String>,
    /// Most topics one connection may subscribe to. Beyond it the call is refused. Default 128.
    pub max_topics: usize,
    /// Longest name of a topic that a connection may subscribe to, in bytes, at most 255. Beyond it the call is refused.
    /// Default 255; 0 is the default.
    pub max_topic_name: usize,
    /// Compress messages by permessage-deflate (RFC 7692) with peers that agree. Default none: neither answered nor
    /// offered. A build without the feature `deflate` refuses it.
    pub compression: Option<Compression>,
    /// Set TCP_NODELAY. Default true.
    pub no_delay: bool,
    /// TCP's own keep-alive (SO_KEEPALIVE, RFC 9293 section 3.8.4): after so long without a byte either way the kernel asks
    /// whether the peer's machine is still there. It finds one that is gone also while the heartbeat is off, or rests
    /// because reading is paused; it says nothing about the program there. The kernel counts in seconds, so that a part of
    /// one is a whole one. Beyond it: closed as 1006, with the system's error. Default zero: off, and 30 s for HTTP
    /// streams, which have no heartbeat.
    pub keep_alive_idle: Duration,
    /// Between such questions, while none is answered. Default zero: the system's, as a rule 75 s (30 s for HTTP streams).
    pub keep_alive_interval: Duration,
    /// How many of them in a row stay without an answer before the connection is given up, at most 127. Default 0: the
    /// system's, as a rule 9.
    pub keep_alive_count: u32,
    /// TLS. Server: every connection speaks it; none: plain. Client: the choices for `wss://`, which speaks TLS in any case;
    /// without effect on `ws://`. Default none: a client then trusts the issuers that the system trusts, as they are when
    /// the process first needs them (the environment variables SSL_CERT_FILE and SSL_CERT_DIR name others).
    pub tls: Option<Tls>,

    /// Server: which web pages may connect. Default [`Origins::SameHost`].
    pub origins: Origins,
    /// Server: the only path that is upgraded; others get 404 unless the request hook answers. Default none: any path.
    pub path: Option<String>,
    /// Server: most connections of this listener. Each counts from its acceptance (of a route, from its request) to its
    /// end, whatever it is for and also where it is refused, for it holds a descriptor. Beyond it: 503, and once a small
    /// reserve is used up, connections wait in the kernel's queue. Default 0: the process's descriptor limit less a reserve
    /// of 32.
    pub max_connections: usize,
    /// Server: most connections of this listener from one address, on all threads: one of IPv4 (also where it is mapped to
    /// IPv6), or a network of IPv6 with 64 bits, which is what one customer has. Connections count from their acceptance
    /// to their end, whatever they are for; those over a Unix socket do not. Beyond it: a few are told so with 503, any
    /// more are closed as soon as they are accepted, and all are over TLS, before its handshake. Behind a proxy everybody
    /// has the proxy's address: leave it off. Default 0: no limit.
    pub max_connections_per_address: usize,
    /// Server: length of the kernel's queue of connections not yet accepted. Default 1,024.
    pub listen_backlog: u32,
    /// Server: let several listeners share the address (SO_REUSEPORT), one per loop. Default false.
    pub reuse_port: bool,

    /// Client: further headers of the request, as name and value. Default none.
    pub headers: Vec<(String, String)>,
    /// Client: connect through this proxy, except to a Unix socket. To one with `http://` it says CONNECT (RFC 9110 section
    /// 9.3.6), for `ws://` as for `wss://`; to one with `socks5://` and `socks5h://` it speaks SOCKS5 (RFC 1928), and the
    /// host's name is looked up here, or by the proxy. User name and password are sent where the URL has them (RFC 7617,
    /// RFC 1929). Proxies that are spoken to over TLS (`https://`) are refused. Default none.
    pub proxy: Option<ProxyUrl>,
    /// Client: where `proxy` is none, take the one that the environment names, as curl does, when the connection is begun:
    /// `https_proxy` or `HTTPS_PROXY` for `wss://`, `http_proxy` for `ws://`, else `all_proxy` or `ALL_PROXY`; not for
    /// hosts in `no_proxy` or `NO_PROXY`, a list of names, domains, addresses, networks as `10.0.0.0/8`, each with `:port`
    /// behind it where only that is meant, or `*` for all. Default false.
    pub proxy_from_environment: bool,
    /// Client: most redirects to follow (301, 302, 303, 307 and 308 with a Location). Beyond it, and from `wss://` to
    /// `ws://`, the connection fails. To another origin go neither the user of the URL nor headers whose names tell of
    /// credentials (Authorization, Cookie, and all with `token`, `key`, `secret`, `session`, `password` in them). Each
    /// redirect begins anew, in what is left of `handshake_timeout`. Default 0: none is followed.
    pub max_redirects: u32,
    /// Client: until the request can be sent: the host's name, TCP to one of its addresses, a proxy, TLS; for each redirect
    /// anew. Beyond it the connection fails under the stage it had come to. Of the addresses of a name up to 32 are tried:
    /// the next one 250 ms after the last, or at once where that fails, and the first to answer is taken (RFC 8305).
    /// Default zero: no limit but `handshake_timeout`, which counts as well.
    pub connect_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_message: 1024 * 1024,
            max_fragments: 1024,
            deliver_fragments: false,
            max_head: 16 * 1024,
            max_headers: 100,
            handshake_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(20),
            close_timeout: Duration::from_secs(5),
            progress_timeout: Duration::from_secs(10),
            backlog_limit: 1024 * 1024,
            backlog_policy: BacklogPolicy::Close,
            subprotocols: Vec::new(),
            max_topics: 128,
            max_topic_name: 255,
            compression: None,
            no_delay: true,
            keep_alive_idle: Duration::ZERO,
            keep_alive_interval: Duration::ZERO,
            keep_alive_count: 0,
            tls: None,
            origins: Origins::SameHost,
            path: None,
            max_connections: 0,
            max_connections_per_address: 0,
            listen_backlog: 1024,
            reuse_port: false,
            headers: Vec::new(),
            proxy: None,
            proxy_from_environment: false,
            max_redirects: 0,
            connect_timeout: Duration::ZERO,
        }
    }
}

/// Compression by permessage-deflate (RFC 7692), as [`Options::compression`] asks for it.
///
/// A server agrees to the first offer of a client that it can keep, within what is said here; a client offers what is said
/// here, and the server may decline, which opens the connection without compression. What came of it is told by
/// [`Connection::extensions`](crate::Connection::extensions). [`Options::max_message`] counts what a message inflates to.
///
/// A context is what one message leaves to the next one: the last 32 KiB, to be referred to. It makes small messages that
/// resemble each other much smaller, and costs each connection memory from the first of them on: 47 KiB to inflate, and to
/// compress 243 KiB plus 4 KiB for each KiB of the window, which is 371 KiB with 15 bits. Without contexts, which is the
/// default, that memory belongs to the event loop, and a connection has none but the 47 KiB while a compressed message of
/// its peer is coming in.
///
/// ```
/// let mut options = wsx_core::Options::default();
/// options.compression = Some(wsx_core::Compression::default());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compression {
    /// How hard to try: 1 (fast) to 9 (small). Default 6.
    pub level: u8,
    /// Messages of fewer bytes are sent as they are: compressing them saves little or nothing. Default 1 KiB; 0: all but
    /// empty ones are compressed.
    pub threshold: usize,
    /// The server keeps no context, so that neither the server's compressor nor the client's inflater lives between
    /// messages. A server answers it, asked or not; a client asks for it, and fails a connection where the server does not
    /// grant it. Default true.
    pub server_no_context_takeover: bool,
    /// The client keeps no context, so that neither the client's compressor nor the server's inflater lives between
    /// messages. A server demands it; a client says so and does so. Default true.
    pub client_no_context_takeover: bool,
    /// The size of the window that the server compresses with, as a power of two: 9 (512 bytes) to 15 (32 KiB). A server
    /// uses no more, whatever is asked for; a client with less than 15 asks for it, and fails a connection where the server
    /// does not grant it. Default 15.
    pub server_max_window_bits: u8,
    /// The same for what the client compresses. A server with less than 15 demands it from each client that lets itself be
    /// told; others use 15. A client uses no more, whatever is demanded. Default 15.
    pub client_max_window_bits: u8,
}

impl Default for Compression {
    fn default() -> Self {
        Self {
            level: 6,
            threshold: 1024,
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: 15,
            client_max_window_bits: 15,
        }
    }
}

/// The options of an event loop itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoopOptions {
    /// Most calls from other threads that may wait for the loop. Beyond it they are refused with
    /// [`Error::Full`](crate::Error::Full). Default 65,536.
    pub max_commands: usize,
    /// Most payload bytes in those calls. Default 16 MiB.
    pub max_command_bytes: usize,
    /// Size of the loop's one receive buffer; at least 4 KiB. Default 256 KiB.
    pub receive_buffer: usize,
    /// How long the loop stays awake and asks for events before it sleeps, for the shortest latency at the price of a
    /// busy processor; it does so only while that pays. 50 µs suits a busy peer on a fast network. Default zero: it sleeps
    /// at once.
    pub busy_poll: Duration,
    /// Threads that serve: each has an event loop of its own, with a share of every listener's connections (SO_REUSEPORT)
    /// and one set of topics for all. The first is the one that runs the loop; the others are started with its first
    /// turn and end with it. Callbacks then run on several threads at once, those of one connection always on the same.
    /// At most 1,024. Default 1; 0 is the default.
    pub threads: usize,
    /// Measure how long callbacks take, for [`Statistics::longest_callback`](crate::Statistics::longest_callback): the clock
    /// is read twice more for each connection that something comes from in a turn, and for each other callback. Default
    /// false.
    pub measure_callbacks: bool,
}

impl Default for LoopOptions {
    fn default() -> Self {
        Self {
            max_commands: 64 * 1024,
            max_command_bytes: 16 * 1024 * 1024,
            receive_buffer: 256 * 1024,
            busy_poll: Duration::ZERO,
            threads: 1,
            measure_callbacks: false,
        }
    }
}

/// Most threads of one event loop.
pub const MAX_THREADS: usize = 1024;
/// Most pings of a program on one connection whose latency is measured at once; of more the oldest are forgotten.
pub const MAX_PINGS: usize = 64;
/// Longest name of a topic, in bytes.
pub const MAX_TOPIC_NAME: usize = 255;
/// Longest payload of a control frame (RFC 6455 section 5.5).
pub const MAX_CONTROL_PAYLOAD: usize = 125;
/// Longest reason of a Close: a control frame's payload less the code (RFC 6455 section 5.5.1).
pub const MAX_CLOSE_REASON: usize = MAX_CONTROL_PAYLOAD - 2;
