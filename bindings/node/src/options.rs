//! Options: what the JavaScript side has checked, as `wsx_core::Options`.

use std::time::Duration;

use napi::bindgen_prelude::Uint8Array;
use napi_derive::napi;
use wsx_core::{BacklogPolicy, Certificate, ClientAuth, Compression, Options, Origins, Pem, Reconnect, Tls};

/// The options of a listener or a client connection, each optional. The facade has checked that numbers are whole and
/// in range; timeouts are milliseconds.
#[napi(object, object_to_js = false)]
#[derive(Default)]
pub struct DoorOptions {
    /// Largest message, in bytes.
    pub max_message: Option<f64>,
    /// Most fragments of a message.
    pub max_fragments: Option<u32>,
    /// Hand over each frame of a fragmented message.
    pub deliver_fragments: Option<bool>,
    /// Largest HTTP head, in bytes.
    pub max_head: Option<f64>,
    /// Most headers of a head.
    pub max_headers: Option<u32>,
    /// From TCP to open.
    pub handshake_timeout: Option<f64>,
    /// Silence before a ping.
    pub ping_interval: Option<f64>,
    /// Silence after a ping.
    pub pong_timeout: Option<f64>,
    /// The closing handshake.
    pub close_timeout: Option<f64>,
    /// Output that waits without progress.
    pub progress_timeout: Option<f64>,
    /// Most output that may wait, in bytes.
    pub backlog_limit: Option<f64>,
    /// `close`, `drop`, `refuse` or `pause`.
    pub backlog_policy: Option<String>,
    /// Subprotocols, in order of preference.
    pub subprotocols: Option<Vec<String>>,
    /// Most topics of a connection.
    pub max_topics: Option<f64>,
    /// Longest name of a topic, in bytes.
    pub max_topic_name: Option<u32>,
    /// TCP_NODELAY.
    pub no_delay: Option<bool>,
    /// TCP's keep-alive: silence before the first question.
    pub keep_alive_idle: Option<f64>,
    /// Between questions.
    pub keep_alive_interval: Option<f64>,
    /// How many.
    pub keep_alive_count: Option<u32>,
    /// The allowed origins; `any` alone allows all.
    pub origins: Option<Vec<String>>,
    /// The only path.
    pub path: Option<String>,
    /// Most connections of a listener.
    pub max_connections: Option<f64>,
    /// Most connections of one address.
    pub max_connections_per_address: Option<f64>,
    /// Length of the kernel's queue.
    pub listen_backlog: Option<u32>,
    /// SO_REUSEPORT.
    pub reuse_port: Option<bool>,
    /// Further headers of a client's request: name, value, name, value.
    pub headers: Option<Vec<String>>,
    /// The URL of a client's proxy.
    pub proxy: Option<String>,
    /// The proxy that the environment names.
    pub proxy_from_environment: Option<bool>,
    /// Most redirects of a client.
    pub max_redirects: Option<u32>,
    /// From the beginning to the request.
    pub connect_timeout: Option<f64>,
    /// permessage-deflate.
    pub compression: Option<DoorCompression>,
    /// TLS.
    pub tls: Option<DoorTls>,
}

/// How a client connects again, each optional and checked as those above.
#[napi(object, object_to_js = false)]
#[derive(Default)]
pub struct DoorReconnect {
    /// Longest delay before the first attempt in a row.
    pub base_delay: Option<f64>,
    /// Longest delay of all.
    pub max_delay: Option<f64>,
    /// What begins the count anew.
    pub reset_after: Option<f64>,
    /// Most attempts in a row.
    pub max_attempts: Option<u32>,
    /// Most bytes that wait offline.
    pub offline_limit: Option<f64>,
}

impl From<DoorReconnect> for Reconnect {
    fn from(from: DoorReconnect) -> Self {
        let mut reconnect = Self::default();
        set(&mut reconnect.base_delay, from.base_delay, milliseconds);
        set(&mut reconnect.max_delay, from.max_delay, milliseconds);
        set(&mut reconnect.reset_after, from.reset_after, milliseconds);
        set(&mut reconnect.max_attempts, from.max_attempts, |count| count);
        set(&mut reconnect.offline_limit, from.offline_limit, |size| size as usize);
        reconnect
    }
}

/// The choices for permessage-deflate, each optional and checked as those above.
#[napi(object, object_to_js = false)]
#[derive(Default)]
pub struct DoorCompression {
    /// 1 to 9.
    pub level: Option<u32>,
    /// Smallest message that is compressed, in bytes.
    pub threshold: Option<f64>,
    /// The server keeps no context.
    pub server_no_context_takeover: Option<bool>,
    /// The client keeps no context.
    pub client_no_context_takeover: Option<bool>,
    /// The server's window, 9 to 15.
    pub server_max_window_bits: Option<u32>,
    /// The client's window, 9 to 15.
    pub client_max_window_bits: Option<u32>,
}

/// The choices for TLS. Texts in PEM are bytes.
#[napi(object, object_to_js = false)]
#[derive(Default)]
pub struct DoorTls {
    /// Chain, key, chain, key.
    pub certificates: Vec<Uint8Array>,
    /// The issuers to trust.
    pub ca: Option<Uint8Array>,
    /// `optional` or `required`: a server asks clients for a certificate.
    pub client_auth: Option<String>,
    /// The name to find in a server's certificate.
    pub server_name: Option<String>,
    /// Protocols, in order of preference.
    pub alpn: Option<Vec<String>>,
    /// A client takes any certificate.
    pub danger_accept_invalid_certificates: Option<bool>,
}

fn set<T, U>(field: &mut T, value: Option<U>, convert: impl FnOnce(U) -> T) {
    if let Some(value) = value {
        *field = convert(value);
    }
}

fn milliseconds(value: f64) -> Duration {
    Duration::from_millis(value as u64)
}

impl From<DoorOptions> for Options {
    fn from(from: DoorOptions) -> Self {
        let mut options = Self::default();
        set(&mut options.max_message, from.max_message, |size| size as usize);
        set(&mut options.max_fragments, from.max_fragments, |count| count);
        set(&mut options.deliver_fragments, from.deliver_fragments, |switch| switch);
        set(&mut options.max_head, from.max_head, |size| size as usize);
        set(&mut options.max_headers, from.max_headers, |count| count as usize);
        set(&mut options.handshake_timeout, from.handshake_timeout, milliseconds);
        set(&mut options.ping_interval, from.ping_interval, milliseconds);
        set(&mut options.pong_timeout, from.pong_timeout, milliseconds);
        set(&mut options.close_timeout, from.close_timeout, milliseconds);
        set(&mut options.progress_timeout, from.progress_timeout, milliseconds);
        set(&mut options.backlog_limit, from.backlog_limit, |size| size as usize);
        set(&mut options.backlog_policy, from.backlog_policy, |policy| match policy.as_str() {
            "drop" => BacklogPolicy::Drop,
            "refuse" => BacklogPolicy::Refuse,
            "pause" => BacklogPolicy::Pause,
            _ => BacklogPolicy::Close,
        });
        set(&mut options.subprotocols, from.subprotocols, |names| names);
        set(&mut options.max_topics, from.max_topics, |count| count as usize);
        set(&mut options.max_topic_name, from.max_topic_name, |size| size as usize);
        set(&mut options.no_delay, from.no_delay, |switch| switch);
        set(&mut options.keep_alive_idle, from.keep_alive_idle, milliseconds);
        set(&mut options.keep_alive_interval, from.keep_alive_interval, milliseconds);
        set(&mut options.keep_alive_count, from.keep_alive_count, |count| count);
        set(&mut options.origins, from.origins, |list| match list.as_slice() {
            [any] if any == "any" => Origins::Any,
            _ => Origins::List(list),
        });
        set(&mut options.path, from.path, Some);
        set(&mut options.max_connections, from.max_connections, |count| count as usize);
        set(&mut options.max_connections_per_address, from.max_connections_per_address, |count| count as usize);
        set(&mut options.listen_backlog, from.listen_backlog, |length| length);
        set(&mut options.reuse_port, from.reuse_port, |switch| switch);
        set(&mut options.headers, from.headers, |list| {
            list.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
        });
        options.proxy = from.proxy.map(Into::into);
        set(&mut options.proxy_from_environment, from.proxy_from_environment, |switch| switch);
        set(&mut options.max_redirects, from.max_redirects, |count| count);
        set(&mut options.connect_timeout, from.connect_timeout, milliseconds);
        options.compression = from.compression.map(Compression::from);
        options.tls = from.tls.map(Tls::from);
        options
    }
}

impl From<DoorCompression> for Compression {
    fn from(from: DoorCompression) -> Self {
        let mut compression = Self::default();
        set(&mut compression.level, from.level, |level| level as u8);
        set(&mut compression.threshold, from.threshold, |size| size as usize);
        set(&mut compression.server_no_context_takeover, from.server_no_context_takeover, |switch| switch);
        set(&mut compression.client_no_context_takeover, from.client_no_context_takeover, |switch| switch);
        set(&mut compression.server_max_window_bits, from.server_max_window_bits, |bits| bits as u8);
        set(&mut compression.client_max_window_bits, from.client_max_window_bits, |bits| bits as u8);
        compression
    }
}

fn pem(text: &Uint8Array) -> Pem {
    Pem::Bytes(text.to_vec())
}

impl From<DoorTls> for Tls {
    fn from(from: DoorTls) -> Self {
        let mut tls = Self::default();
        let pairs = from.certificates.chunks_exact(2);
        tls.certificates = pairs.map(|pair| Certificate { chain: pem(&pair[0]), key: pem(&pair[1]) }).collect();
        tls.ca = from.ca.as_ref().map(pem);
        set(&mut tls.client_auth, from.client_auth, |choice| match choice.as_str() {
            "optional" => ClientAuth::Optional,
            _ => ClientAuth::Required,
        });
        tls.server_name = from.server_name;
        set(&mut tls.alpn, from.alpn, |names| names);
        set(&mut tls.danger_accept_invalid_certificates, from.danger_accept_invalid_certificates, |switch| switch);
        tls
    }
}
