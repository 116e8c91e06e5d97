//! An echo server: text comes back as text, binary as binary. With `--broadcast` a message goes to everybody else
//! instead.
//!
//! ```text
//! echo [--host HOST] [--port PORT] [--broadcast] [--compression [--context-takeover]] [--max-message BYTES]
//!      [--max-fragments N] [--origin any] [--threads N] [--busy-poll MICROSECONDS] [--tls-cert FILE --tls-key FILE [--tls-ca FILE]]
//! ```
//!
//! With a certificate and its key, in PEM, it speaks TLS; with `--tls-ca` clients must show a certificate of these issuers.
//! It pauses a peer that does not read its echoes, and ends in order on SIGINT and SIGTERM.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use wsx_core::{
    BacklogPolicy, ClientAuth, Compression, Connection, EventLoop, Handle, Handler, LoopOptions, Message, Options,
    Origins, Pem, Tls,
};

#[derive(Clone)]
struct Echo;

impl Handler for Echo {
    fn on_message(&mut self, connection: Connection, message: Message<'_>) {
        // An error means that the connection is closing; its on_close tells why.
        let _ = connection.send(message);
    }

    fn for_another_thread(&self) -> Option<Box<dyn Handler>> {
        Some(Box::new(self.clone()))
    }
}

#[derive(Clone)]
struct Broadcast(Handle);

impl Handler for Broadcast {
    fn on_message(&mut self, connection: Connection, message: Message<'_>) {
        let _ = self.0.broadcast(message, Some(connection));
    }

    fn for_another_thread(&self) -> Option<Box<dyn Handler>> {
        Some(Box::new(self.clone()))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut compresses, mut compression) = (false, Compression::default());
    let (mut host, mut port, mut broadcast) = ("127.0.0.1".to_owned(), 9001, false);
    let mut options = Options::default();
    options.backlog_policy = BacklogPolicy::Pause;
    let mut loop_options = LoopOptions::default();
    let (mut tls_cert, mut tls_key, mut tls_ca) = (None, None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{option} needs a value"));
        match option.as_str() {
            "--broadcast" => broadcast = true,
            "--compression" => compresses = true,
            "--context-takeover" => {
                compression.server_no_context_takeover = false;
                compression.client_no_context_takeover = false;
            }
            "--host" => host = value()?,
            "--port" => port = value()?.parse::<u16>()?,
            "--max-message" => options.max_message = value()?.parse()?,
            "--max-fragments" => options.max_fragments = value()?.parse()?,
            "--threads" => loop_options.threads = value()?.parse()?,
            "--busy-poll" => loop_options.busy_poll = Duration::from_micros(value()?.parse()?),
            "--tls-cert" => tls_cert = Some(value()?),
            "--tls-key" => tls_key = Some(value()?),
            "--tls-ca" => tls_ca = Some(value()?),
            "--origin" if value()? == "any" => options.origins = Origins::Any,
            _ => return Err(format!("unknown option {option}").into()),
        }
    }
    options.compression = compresses.then_some(compression);
    let scheme = match (tls_cert, tls_key, tls_ca) {
        (None, None, None) => "ws",
        (Some(cert), Some(key), ca) => {
            let mut tls = Tls::server(cert.as_str(), key.as_str());
            if let Some(ca) = ca {
                tls.ca = Some(Pem::from(ca.as_str()));
                tls.client_auth = ClientAuth::Required;
            }
            options.tls = Some(tls);
            "wss"
        }
        _ => return Err("--tls-cert and --tls-key belong together".into()),
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host };

    // Each connection is a descriptor: as many as the system allows.
    let descriptors = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: descriptors.maximum, ..descriptors });

    let mut event_loop = EventLoop::with_options(&loop_options)?;
    let handler: Box<dyn Handler> = if broadcast { Box::new(Broadcast(event_loop.handle())) } else { Box::new(Echo) };
    let listener = event_loop.listen_boxed(&format!("{host}:{port}"), &options, handler)?;
    let handle = event_loop.handle();
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || signals.forever().next().map(|_| handle.shutdown(Duration::from_secs(1))));
    println!("listening on {scheme}://{}", listener.local_address()?);
    event_loop.run()?;
    Ok(())
}
