//! Proxies: where they are, and what is said to them before a client can speak with its server.
//!
//! ```text
//! http://                 CONNECT (RFC 9110 section 9.3.6)                     connect.rs
//! socks5://  socks5h://   SOCKS5 (RFC 1928), user name and password (RFC 1929) socks.rs
//! ```
//!
//! Which one the environment names is told in `environment.rs`.

mod connect;
mod environment;
mod socks;

use std::net::IpAddr;

use tungstenite::http::Uri;

pub use environment::from_environment;

use crate::error::{Error, Failure, FailureKind, Stage};
use crate::protocol::credentials::{Credentials, without_credentials};
use crate::protocol::url::Authority;

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// HTTP, not over TLS.
    Http,
    /// SOCKS5; the client looks up the host's name.
    Socks5,
    /// SOCKS5; the proxy does.
    Socks5h,
}

/// A proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// What it speaks.
    pub scheme: Scheme,
    /// Its name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who asks there, if that is to be told.
    pub credentials: Option<Credentials>,
}

impl Proxy {
    /// Parses `http://[user:password@]host[:port]`, and the same with `socks5://` and `socks5h://`. Without a port it is 80
    /// for HTTP and 1080 for SOCKS.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] says what is wrong, and shows no password.
    pub fn parse(url: &str) -> Result<Self, Error> {
        let invalid = |why: &str| Error::invalid(format!("the proxy {:?} {why}", without_credentials(url)));
        let Some((scheme, _)) = url.split_once("://") else {
            return Err(invalid("has no scheme: it begins with http://, socks5:// or socks5h://"));
        };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "socks5" => Scheme::Socks5,
            "socks5h" => Scheme::Socks5h,
            "https" => {
                return Err(invalid(
                    "is to be spoken to over TLS, which is not supported: use http://, wss:// is safe through it",
                ));
            }
            _ => return Err(invalid("has another scheme than http://, socks5:// and socks5h://")),
        };
        let uri: Uri = url.parse().map_err(|error| invalid(&format!("is malformed: {error}")))?;
        if uri.path().len() > 1 || uri.query().is_some() {
            return Err(invalid("has a path, which a proxy cannot have"));
        }
        let Authority { bare, port, credentials, .. } = Authority::of(&uri).map_err(invalid)?;
        match (scheme, &credentials) {
            (_, None) => {}
            (Scheme::Http, Some(credentials)) => drop(credentials.basic().map_err(invalid)?),
            (_, Some(credentials)) => socks::check(credentials).map_err(invalid)?,
        }
        let default = if scheme == Scheme::Http { 80 } else { 1080 };
        Ok(Self { scheme, host: bare.to_owned(), port: port.unwrap_or(default), credentials })
    }

    /// For people: where it is.
    pub fn authority(&self) -> String {
        authority(&self.host, self.port)
    }
}

/// A host, in brackets if it is an address of IPv6, and its port.
fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Where a proxy is to connect to.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The name of the host, or its address without brackets.
    pub host: String,
    /// The address, if it is known.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

/// The most a proxy may answer.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of an HTTP head.
    pub max_head: usize,
    /// Headers in it; at most as many as an HTTP head may have anywhere.
    pub max_headers: usize,
}

/// What a proxy is told and answers until its tunnel is open.
#[derive(Debug)]
pub struct Negotiation {
    proxy: Proxy,
    destination: Destination,
    limits: Limits,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// Of CONNECT: what has come of the answer, and how much of it was searched for its end.
    Head(Vec<u8>, usize),
    Socks(socks::Step),
}

/// What became of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// So many belonged to the proxy's answer and are done with. The rest has to be shown again, together with what comes
    /// next; what comes behind an open tunnel is the server's.
    pub used: usize,
    /// The tunnel is open.
    pub is_open: bool,
}

impl Negotiation {
    /// Begins: appends what the proxy is told first.
    pub fn begin(proxy: Proxy, destination: Destination, limits: Limits, out: &mut Vec<u8>) -> Self {
        let step = match proxy.scheme {
            Scheme::Http => {
                connect::write_request(out, &proxy, &destination);
                Step::Head(Vec::new(), 0)
            }
            Scheme::Socks5 | Scheme::Socks5h => Step::Socks(socks::greet(out, &proxy)),
        };
        Self { proxy, destination, limits, step }
    }

    /// Takes what has come, and appends what is to be answered.
    ///
    /// # Errors
    /// Why there will be no tunnel: under [`Stage::Proxy`].
    pub fn receive(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Progress, Failure> {
        match &mut self.step {
            Step::Head(head, scanned) => {
                connect::receive(head, scanned, bytes, self.limits, &self.proxy, &self.destination)
            }
            Step::Socks(step) => socks::receive(step, bytes, &self.proxy, &self.destination, out),
        }
    }
}

fn failure(kind: FailureKind, proxy: &Proxy, what: impl std::fmt::Display) -> Failure {
    Failure::new(Stage::Proxy, kind, format!("the proxy {} {what}", proxy.authority()))
}

/// What to do about a proxy that wants to know who asks, or does not take what it was told.
fn advice(proxy: &Proxy) -> &'static str {
    match proxy.credentials {
        None => "it wants a user name and a password: put them into its URL, as in user:password@host",
        Some(_) => "it does not take the user name and password of its URL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_taken_apart() {
        for (url, scheme, authority) in [
            ("http://proxy.example:3128", Scheme::Http, "proxy.example:3128"),
            ("HTTP://proxy.example/", Scheme::Http, "proxy.example:80"),
            ("socks5://127.0.0.1", Scheme::Socks5, "127.0.0.1:1080"),
            ("socks5h://[::1]:9050", Scheme::Socks5h, "[::1]:9050"),
        ] {
            let proxy = Proxy::parse(url).unwrap();
            assert_eq!((proxy.scheme, proxy.authority().as_str(), proxy.credentials), (scheme, authority, None));
        }
        let proxy = Proxy::parse("socks5://us%3aer:p%40ss@a:1").unwrap();
        let credentials = proxy.credentials.unwrap();
        assert_eq!((&credentials.user[..], &credentials.password[..]), (&b"us:er"[..], &b"p@ss"[..]));
    }

    #[test]
    fn proxies_that_cannot_be_are_refused_with_the_reason() {
        let long = format!("socks5://{}:secret@a", "u".repeat(256));
        for (url, why) in [
            ("", "no scheme"),
            ("proxy:3128", "no scheme"),
            ("https://user:secret@proxy", "over TLS"),
            ("socks4://proxy", "another scheme"),
            ("ftp://user:secret@proxy", "another scheme"),
            ("http://", "malformed"),
            ("http://:80", "no host"),
            ("http://proxy:0", "port 0"),
            ("http://proxy:x", "malformed"),
            ("http://proxy/path", "path"),
            ("http://proxy?query", "path"),
            ("http://us%3aer:secret@proxy", "colon"),
            ("http://user:sec%0aret@proxy", "control character"),
            ("socks5://:secret@proxy", "SOCKS5"),
            (&long, "SOCKS5"),
        ] {
            let message = Proxy::parse(url).expect_err(url).to_string();
            assert!(message.contains(why) && !message.contains("sec"), "{url}: {message}");
        }
    }
}
