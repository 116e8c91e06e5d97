//! Client connections up to the opening handshake: names, addresses, proxies, TLS, redirects.
//!
//! ```text
//!  +-> look up --> attempts --> tunnel, if there is a proxy --> TLS, for wss --> request, answer (opening.rs) --> open
//!  |   (resolver)  (attempts)   (tunnel)                        (securing.rs)            |
//!  +--------------------------------------- redirecting ---------------------------------+
//! ```

mod attempts;
mod redirecting;
mod tunnel;

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::SockAddr;

use self::attempts::{Attempts, in_turns};
use super::group::{Group, OwnedHandler};
use super::record::{Phase, Record};
use super::state::{News, State};
use super::timers::Millis;
use super::tls::{ClientSetup, Session};
use crate::close::{self, Side};
use crate::config::Options;
use crate::error::{Failure, FailureKind, Result, Stage};
use crate::event::Connection;
use crate::log::{Level, Topic};
use crate::protocol::frame::Role;
use crate::protocol::handshake;
use crate::protocol::proxy::{Negotiation, Proxy, Scheme};
use crate::protocol::url::{Url, parse_url};

/// What a client needs until its connection is open.
#[derive(Debug)]
pub(super) struct Dial {
    target: Target,
    /// The request, written when its way is open.
    request: Vec<u8>,
    /// The key that the answer is checked against.
    pub(super) key: String,
    /// When this began, or began anew after a redirect.
    pub(super) began: Millis,
    pub(super) attempts: Attempts,
    /// The address that a proxy is to connect to, if it is looked up here.
    address: Option<IpAddr>,
    /// What is said to the proxy.
    negotiation: Option<Negotiation>,
    /// How many redirects were followed.
    redirects: u32,
    /// One of them led to another origin, where no credentials go.
    is_foreign: bool,
}

impl Dial {
    /// Host and port of the URL, as it has them.
    pub(super) fn authority(&self) -> &str {
        &self.target.url.authority
    }

    /// Whether a name has to be looked up that only the proxy will use.
    fn wants_address(&self) -> bool {
        let is_local = self.target.proxy.as_ref().is_some_and(|proxy| proxy.scheme == Scheme::Socks5);
        is_local && self.address.is_none()
    }

    /// The host and port to look up next.
    fn next_name(&self) -> (&str, u16) {
        match &self.target.proxy {
            Some(proxy) if !self.wants_address() => (&proxy.host, proxy.port),
            _ => (&self.target.url.host, self.target.url.port),
        }
    }

    /// For people: who that is.
    fn whom(&self) -> String {
        match &self.target.proxy {
            Some(proxy) if !self.wants_address() => format!("the proxy {}", proxy.authority()),
            _ => self.target.url.authority.clone(),
        }
    }
}

/// Where a client connects: what each of its attempts begins with.
#[derive(Clone, Debug)]
pub(super) struct Target {
    url: Url,
    tls: Option<ClientSetup>,
    proxy: Option<Proxy>,
}

impl Target {
    /// Parses and checks.
    pub(super) fn new(url: &str, options: &Options) -> Result<Self> {
        super::listener::check_options(options)?;
        Self::of(parse_url(url)?, options, None)
    }

    /// `before` is what TLS began with at the place that leads here: its files are not read again.
    fn of(url: Url, options: &Options, before: Option<&ClientSetup>) -> Result<Self> {
        let (tls, host) = (options.tls.as_ref(), &url.host);
        let tls = match before {
            _ if !url.secure => None,
            Some(before) => Some(before.for_host(tls, host)?),
            None => Some(ClientSetup::new(tls, host)?),
        };
        let proxy = tunnel::proxy_of(&url, options)?;
        Ok(Self { url, tls, proxy })
    }

    /// Prepares an attempt.
    pub(super) fn dial(&self, options: &Options) -> Result<Dial> {
        let key = tungstenite::handshake::client::generate_key();
        let mut request = Vec::new();
        handshake::write_request(&mut request, &self.url, &key, options)?;
        Ok(Dial {
            target: self.clone(),
            request,
            key,
            began: 0,
            attempts: Attempts::default(),
            address: None,
            negotiation: None,
            redirects: 0,
            is_foreign: false,
        })
    }
}

impl State {
    /// Begins to connect; takes `handler` only where that succeeds, as [`listen`](Self::listen) does.
    pub(super) fn connect(&mut self, url: &str, options: &Options, handler: &mut OwnedHandler) -> Result<Connection> {
        self.check_alive()?;
        let target = Target::new(url, options)?;
        let dial = target.dial(options)?;
        let group = self.insert_group(Group::new(options, handler.take(), self.shared.counted.clients.clone()))?;
        let begun = self.attempt(group, &target, dial);
        if begun.is_err() {
            self.news.push_back(News::IdleGroup(group));
        }
        begun
    }

    /// Makes a connection of this group, and begins to dial.
    pub(super) fn attempt(&mut self, group: u32, target: &Target, dial: Dial) -> Result<Connection> {
        self.tick();
        let mut record = Record::new(group, Role::Client, Phase::Resolving, self.now);
        record.set_announced(true);
        record.extra().dial = Some(Box::new(Dial { began: self.now, ..dial }));
        record.extra().unix_path = target.url.unix.clone();
        let slot = self.insert(record)?;
        self.count_begun(slot);
        self.log(Level::Debug, Topic::Connection, slot, |_| format!("connects to {}", target.url.authority));
        self.schedule(slot);
        self.look_up(slot);
        Ok(Connection(self.connections.id(slot)))
    }

    fn dial_mut(&mut self, slot: u32) -> Option<&mut Dial> {
        self.connections.get_mut(slot)?.extra.as_mut()?.dial.as_deref_mut()
    }

    /// Looks up the next name that is needed; where none has to be looked up, dials.
    fn look_up(&mut self, slot: u32) {
        let connection = Connection(self.connections.id(slot));
        let Some(dial) = self.dial_mut(slot) else { return };
        if let Some(path) = &dial.target.url.unix {
            return match SockAddr::unix(path) {
                Ok(address) => self.dial(slot, [address].into()),
                Err(error) => {
                    let doing = format!("cannot connect to {}", path.display());
                    let failure = Failure::transport(Stage::Connect, &doing, &error);
                    self.fail(slot, close::ABNORMAL, Side::Us, failure);
                }
            };
        }
        let (host, port) = dial.next_name();
        if let Ok(address) = host.parse::<IpAddr>() {
            return self.looked_up(slot, vec![(address, port).into()]);
        }
        let host = host.to_owned();
        let connections = &self.connections;
        let is_live = |connection: Connection| connections.slot(connection.0).is_some();
        if let Err(error) = self.resolver.resolve(&self.shared, connection, &host, port, is_live) {
            let failure = Failure::transport(Stage::Resolve, "cannot start a thread to look up a host name", &error);
            self.fail(slot, close::ABNORMAL, Side::Us, failure);
        }
    }

    /// The resolver has answered.
    pub(super) fn resolved(&mut self, connection: Connection, found: io::Result<Vec<SocketAddr>>) {
        let Ok(slot) = self.slot(connection) else { return };
        if self.connections.get(slot).is_none_or(|record| record.phase != Phase::Resolving) {
            return;
        }
        self.tick();
        match found {
            Ok(addresses) if !addresses.is_empty() => self.looked_up(slot, addresses),
            found => {
                let whom = self.dial_mut(slot).map(|dial| dial.whom()).unwrap_or_default();
                let doing = format!("cannot look up the host of {whom}");
                let failure = match found {
                    Err(error) => Failure::transport(Stage::Resolve, &doing, &error),
                    Ok(_) => Failure::new(Stage::Resolve, FailureKind::Transport, format!("{doing}: no address")),
                };
                self.fail(slot, close::ABNORMAL, Side::Us, failure);
            }
        }
    }

    fn looked_up(&mut self, slot: u32, addresses: Vec<SocketAddr>) {
        let Some(dial) = self.dial_mut(slot) else { return };
        if dial.wants_address() {
            dial.address = addresses.first().map(SocketAddr::ip);
            self.look_up(slot);
        } else {
            self.dial(slot, in_turns(addresses));
        }
    }

    /// TCP is there: the proxy's turn, if there is one, or the server's.
    fn reached(&mut self, slot: u32) {
        let Some(dial) = self.dial_mut(slot) else { return };
        match dial.target.proxy.clone() {
            Some(proxy) => self.begin_tunnel(slot, proxy),
            None => self.greet_server(slot),
        }
    }

    /// The way to the server is open: TLS begins, or the request is sent.
    fn greet_server(&mut self, slot: u32) {
        let Some(record) = self.connections.get_mut(slot) else { return };
        let Some(transport) = &mut record.transport else { return };
        let Some(dial) = record.extra.as_mut().and_then(|extra| extra.dial.as_mut()) else { return };
        let Some(setup) = dial.target.tls.clone() else { return self.send_request(slot) };
        match Session::client(setup) {
            Ok(session) => {
                transport.secure(session);
                record.phase = Phase::Securing;
                self.touch(slot);
                self.schedule(slot);
            }
            Err(error) => {
                let failure = Failure::transport(Stage::Tls, "cannot begin TLS", &error);
                self.fail(slot, close::ABNORMAL, Side::Us, failure);
            }
        }
    }

    /// Whatever the request needs is there.
    pub(super) fn send_request(&mut self, slot: u32) {
        let Some(record) = self.connections.get_mut(slot) else { return };
        let Some(dial) = record.extra.as_mut().and_then(|extra| extra.dial.as_mut()) else { return };
        let request = std::mem::take(&mut dial.request);
        record.outbox.append(&mut self.spares, |out| out.extend(request));
        record.phase = Phase::Response;
        self.touch(slot);
        self.schedule(slot);
    }
}
