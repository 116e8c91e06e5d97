//! Client connections up to the opening handshake: names, addresses, TCP.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, SockAddr, Socket, Type};

use super::group::{Group, OwnedHandler};
use super::record::{Phase, Record};
use super::state::{News, State};
use super::tcp;
use super::timers::Millis;
use super::tls::{ClientSetup, Session};
use super::transport::Transport;
use crate::close::{self, Side};
use crate::config::Options;
use crate::error::{Failure, FailureKind, Result, Stage};
use crate::event::Connection;
use crate::protocol::frame::Role;
use crate::protocol::handshake;
use crate::protocol::url::{Url, parse_url};

/// What a client needs until its connection is open.
#[derive(Debug)]
pub(super) struct Dial {
    /// The request, written when TCP is there, and TLS.
    request: Vec<u8>,
    /// What TLS begins with, for wss.
    tls: Option<ClientSetup>,
    /// The key that the answer is checked against.
    pub(super) key: String,
    /// For people: who is dialed.
    authority: String,
    addresses: VecDeque<SockAddr>,
    tried: usize,
    /// When to go on to the next address.
    pub(super) give_up_at: Option<Millis>,
}

/// Where a client connects: what each of its attempts begins with.
#[derive(Debug)]
pub(super) struct Target {
    url: Url,
    tls: Option<ClientSetup>,
}

impl Target {
    /// Parses and checks.
    pub(super) fn new(url: &str, options: &Options) -> Result<Self> {
        super::listener::check_options(options)?;
        let url = parse_url(url)?;
        let tls = if url.secure { Some(ClientSetup::new(options.tls.as_ref(), &url.host)?) } else { None };
        Ok(Self { url, tls })
    }

    /// Prepares an attempt.
    pub(super) fn dial(&self, options: &Options) -> Result<Dial> {
        let key = tungstenite::handshake::client::generate_key();
        let mut request = Vec::new();
        handshake::write_request(&mut request, &self.url, &key, options)?;
        Ok(Dial {
            request,
            tls: self.tls.clone(),
            key,
            authority: self.url.authority.clone(),
            addresses: VecDeque::new(),
            tried: 0,
            give_up_at: None,
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
        record.announced = true;
        record.extra().dial = Some(Box::new(dial));
        record.extra().unix_path = target.url.unix.clone();
        let slot = self.insert(record)?;
        let connection = Connection(self.connections.id(slot));
        self.count_begun(slot);
        self.schedule(slot);
        self.look_up(slot, connection, &target.url);
        Ok(connection)
    }

    fn look_up(&mut self, slot: u32, connection: Connection, url: &Url) {
        if let Some(path) = &url.unix {
            match SockAddr::unix(path) {
                Ok(address) => self.dial(slot, [address]),
                Err(error) => self.dial_failed(slot, error),
            }
        } else if let Ok(address) = url.host.parse::<IpAddr>() {
            self.dial(slot, [SocketAddr::new(address, url.port).into()]);
        } else if let Err(error) = self.resolver.resolve(&self.shared, connection, &url.host, url.port) {
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
            Ok(addresses) if !addresses.is_empty() => self.dial(slot, addresses.into_iter().map(SockAddr::from)),
            found => {
                let authority = self.dial_mut(slot).map(|dial| dial.authority.clone()).unwrap_or_default();
                let doing = format!("cannot look up the host of {authority}");
                let failure = match found {
                    Err(error) => Failure::transport(Stage::Resolve, &doing, &error),
                    Ok(_) => Failure::new(Stage::Resolve, FailureKind::Transport, format!("{doing}: no address")),
                };
                self.fail(slot, close::ABNORMAL, Side::Us, failure);
            }
        }
    }

    fn dial_mut(&mut self, slot: u32) -> Option<&mut Dial> {
        self.connections.get_mut(slot)?.extra.as_mut()?.dial.as_deref_mut()
    }

    /// Tries these addresses, one after the other.
    fn dial(&mut self, slot: u32, addresses: impl IntoIterator<Item = SockAddr>) {
        if let Some(dial) = self.dial_mut(slot) {
            dial.addresses = addresses.into_iter().collect();
        }
        self.dial_next(slot, io::ErrorKind::AddrNotAvailable.into());
    }

    /// Tries the next address; `last` is what became of the one before.
    fn dial_next(&mut self, slot: u32, mut last: io::Error) {
        loop {
            let (now, timeout) = (self.now, self.group_of(slot).map_or(0, |group| group.times.handshake));
            let Some(dial) = self.dial_mut(slot) else { return };
            let Some(address) = dial.addresses.pop_front() else {
                let (authority, tried) = (&dial.authority, dial.tried);
                let doing = match tried {
                    1 => format!("cannot connect to {authority}"),
                    _ => format!("cannot connect to {authority} on any of its {tried} addresses, the last"),
                };
                let failure = Failure::transport(Stage::Connect, &doing, &last);
                return self.fail(slot, close::ABNORMAL, Side::Peer, failure);
            };
            dial.tried += 1;
            // Each address gets an equal share of the time that all have.
            let share = timeout / (dial.tried + dial.addresses.len()) as Millis;
            dial.give_up_at = (timeout != 0 && !dial.addresses.is_empty()).then_some(now + share.max(1));
            match self.dial_one(slot, &address) {
                Ok(()) => return self.schedule(slot),
                Err(error) => last = error,
            }
        }
    }

    fn dial_one(&mut self, slot: u32, address: &SockAddr) -> io::Result<()> {
        let is_unix = address.domain() == Domain::UNIX;
        let socket = Socket::new(address.domain(), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        if let Some(group) = self.group_of(slot).filter(|_| !is_unix) {
            tcp::set_options(&socket, &group.options)?;
        }
        match socket.connect(address) {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            result => result?,
        }
        if let Some(record) = self.connections.get_mut(slot) {
            record.transport = Some(Transport::new(socket));
            record.peer = address.as_socket().into();
            record.phase = Phase::Dialing;
        }
        self.watch(slot)
    }

    /// An address did not work out.
    pub(super) fn dial_failed(&mut self, slot: u32, error: io::Error) {
        if let Some(record) = self.connections.get_mut(slot) {
            record.transport = None;
        }
        if let Some(dial) = self.dial_mut(slot) {
            dial.tried = dial.tried.max(1);
        }
        self.dial_next(slot, error);
    }

    /// The socket that was dialed is writable: TCP is there, or has failed. Then TLS begins, or the request is sent.
    #[inline(never)]
    pub(super) fn dialed(&mut self, slot: u32) {
        let Some(record) = self.connections.get_mut(slot) else { return };
        let Some(transport) = &mut record.transport else { return };
        match transport.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return self.dial_failed(slot, error),
        }
        let Some(dial) = record.extra.as_mut().and_then(|extra| extra.dial.as_mut()) else { return };
        dial.give_up_at = None;
        let Some(setup) = dial.tls.take() else { return self.send_request(slot) };
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
