//! The options of the engine as the actor's lines spell them: KEY=VALUE.

use std::time::Duration;

use wsx_core::{
    BacklogPolicy, Certificate, ClientAuth, Compression, LoopOptions, Options, Origins, Pem, Reconnect, Result, Tls,
    check_header,
};

use crate::{pair, text};

pub fn set_loop(options: &mut LoopOptions, key: &str, value: &str) {
    let number = value.parse().unwrap();
    match key {
        "max_commands" => options.max_commands = number,
        "max_command_bytes" => options.max_command_bytes = number,
        "receive_buffer" => options.receive_buffer = number,
        "measure_callbacks" => options.measure_callbacks = number == 1,
        _ => panic!("a loop has no option {key}"),
    }
}

/// False where it is no option of the engine.
pub fn set(options: &mut Options, key: &str, value: &str) -> Result<bool> {
    let number = || value.parse::<usize>().unwrap();
    let time = || Duration::from_millis(value.parse().unwrap());
    let is_on = value == "1";
    match key {
        "max_message" => options.max_message = number(),
        "max_fragments" => options.max_fragments = number() as u32,
        "deliver_fragments" => options.deliver_fragments = is_on,
        "max_head" => options.max_head = number(),
        "max_headers" => options.max_headers = number(),
        "handshake_timeout" => options.handshake_timeout = time(),
        "ping_interval" => options.ping_interval = time(),
        "pong_timeout" => options.pong_timeout = time(),
        "close_timeout" => options.close_timeout = time(),
        "progress_timeout" => options.progress_timeout = time(),
        "backlog_limit" => options.backlog_limit = number(),
        "backlog_policy" => {
            options.backlog_policy = match value {
                "close" => BacklogPolicy::Close,
                "drop" => BacklogPolicy::Drop,
                "refuse" => BacklogPolicy::Refuse,
                "pause" => BacklogPolicy::Pause,
                _ => panic!("{value} is no policy"),
            }
        }
        "subprotocol" => options.subprotocols.push(text(value)),
        "max_topics" => options.max_topics = number(),
        "max_topic_name" => options.max_topic_name = number(),
        "proxy" => options.proxy = Some(text(value).into()),
        "proxy_from_environment" => options.proxy_from_environment = is_on,
        "max_redirects" => options.max_redirects = number() as u32,
        "connect_timeout" => options.connect_timeout = time(),
        "keep_alive_idle" => options.keep_alive_idle = time(),
        "keep_alive_interval" => options.keep_alive_interval = time(),
        "keep_alive_count" => options.keep_alive_count = number() as u32,
        "no_delay" => options.no_delay = is_on,
        "origins" => options.origins = if value == "any" { Origins::Any } else { Origins::SameHost },
        "origin" => match &mut options.origins {
            Origins::List(list) => list.push(text(value)),
            other => *other = Origins::List(vec![text(value)]),
        },
        "path" => options.path = Some(text(value)),
        "max_connections" => options.max_connections = number(),
        "max_connections_per_address" => options.max_connections_per_address = number(),
        "listen_backlog" => options.listen_backlog = number() as u32,
        "reuse_port" => options.reuse_port = is_on,
        "header" => {
            let (name, value) = pair(value);
            check_header(&name, &value)?;
            options.headers.push((name, value));
        }
        "compression" => options.compression = is_on.then(Compression::default),
        _ => match key.split_once('_') {
            Some(("compression", key)) => set_compression(options.compression.as_mut().unwrap(), key, value),
            Some(("tls", key)) => set_tls(options.tls.get_or_insert_default(), key, value),
            _ => return Ok(false),
        },
    }
    Ok(true)
}

fn set_compression(compression: &mut Compression, key: &str, value: &str) {
    let bits = || value.parse().unwrap();
    let is_on = value == "1";
    match key {
        "level" => compression.level = bits(),
        "threshold" => compression.threshold = value.parse().unwrap(),
        "server_no_context_takeover" => compression.server_no_context_takeover = is_on,
        "client_no_context_takeover" => compression.client_no_context_takeover = is_on,
        "server_max_window_bits" => compression.server_max_window_bits = bits(),
        "client_max_window_bits" => compression.client_max_window_bits = bits(),
        _ => panic!("compression has no option {key}"),
    }
}

/// An option of a client that connects again, without the prefix; without a name it asks for nothing more.
pub fn set_reconnect(reconnect: &mut Reconnect, key: &str, value: &str) {
    let time = || Duration::from_millis(value.parse().unwrap());
    match key {
        "" => {}
        "base_delay" => reconnect.base_delay = time(),
        "max_delay" => reconnect.max_delay = time(),
        "reset_after" => reconnect.reset_after = time(),
        "max_attempts" => reconnect.max_attempts = value.parse().unwrap(),
        "offline_limit" => reconnect.offline_limit = value.parse().unwrap(),
        _ => panic!("reconnecting has no option {key}"),
    }
}

fn set_tls(tls: &mut Tls, key: &str, value: &str) {
    match key {
        "certificate" => {
            let (chain, key) = pair(value);
            tls.certificates.push(Certificate { chain: Pem::File(chain.into()), key: Pem::File(key.into()) });
        }
        "ca" => tls.ca = Some(Pem::File(text(value).into())),
        "client_auth" => {
            tls.client_auth = match value {
                "none" => ClientAuth::None,
                "optional" => ClientAuth::Optional,
                "required" => ClientAuth::Required,
                _ => panic!("{value} is no way to ask for certificates"),
            }
        }
        "server_name" => tls.server_name = Some(text(value)),
        "alpn" => tls.alpn.push(text(value)),
        "danger_accept_invalid_certificates" => tls.danger_accept_invalid_certificates = value == "1",
        _ => panic!("TLS has no option {key}"),
    }
}
