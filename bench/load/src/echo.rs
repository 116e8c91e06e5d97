//! `echo` and `latency`: every connection sends `depth` messages with one write, and the next ones when all of them
//! have come back.

use std::time::Instant;

use crate::Result;
use crate::connection::{Connection, Poller, TIMEOUT, close_all, open_all};
use crate::peer::{BUFFER, Messages, Peer};
use crate::report::{Outcome, Report, measure};
use crate::settings::{Limit, Settings};

pub fn run(settings: &Settings) -> Result<Report> {
    let poller = Poller::new()?;
    let messages = Messages::new(settings);
    let mut clients = Vec::new();
    for (token, stream) in open_all(settings, settings.connections)?.into_iter().enumerate() {
        // Numbers of its own, so that another client's echo is noticed.
        let number = (token as u64) << 28;
        let peer = Peer::new(Connection::new(stream, &poller, token)?, &messages);
        clients.push(Client { peer, number, sent: Vec::new(), sent_at: Instant::now() });
    }
    let mut echo = Echo { messages, clients, poller, buffer: vec![0; BUFFER], frames: Vec::new() };
    let mut report = measure(settings, |limit| echo.run(limit))?;
    report.wire_bytes = echo.messages.wire_bytes();
    close_all(echo.clients.into_iter().map(|client| client.peer.connection.into_stream()), settings.raw);
    Ok(report)
}

struct Echo {
    messages: Messages,
    clients: Vec<Client>,
    poller: Poller,
    buffer: Vec<u8>,
    /// The frames that go out next; empty between two clients.
    frames: Vec<u8>,
}

struct Client {
    peer: Peer,
    /// The number of its next message.
    number: u64,
    /// What it sent last, with which a raw server's echo is compared.
    sent: Vec<u8>,
    sent_at: Instant,
}

impl Echo {
    fn run(&mut self, limit: Limit) -> Result<Outcome> {
        let Self { messages, clients, poller, buffer, frames } = self;
        let mut outcome = Outcome::default();
        let start = Instant::now();
        for client in clients.iter_mut() {
            client.send(messages, frames)?;
        }
        let mut waiting = clients.len();
        let mut ready = Vec::new();
        while waiting > 0 {
            let count = poller.wait(TIMEOUT)?;
            if count == 0 {
                return Err(format!(
                    "nothing arrived for {} s; {waiting} of {} connections awaited the rest of {} echoes",
                    TIMEOUT.as_secs(),
                    clients.len(),
                    messages.depth
                ));
            }
            for index in 0..count {
                let event = poller.event(index);
                let client = &mut clients[event.token];
                let taken = client.peer.handle(event, messages, &client.sent, buffer)?;
                outcome.units += taken;
                if taken == 0 || !client.peer.inbox.is_complete() {
                    continue;
                }
                let now = Instant::now();
                outcome.latency.add(now - client.sent_at);
                if limit.is_reached(now - start, outcome.units) {
                    waiting -= 1;
                } else {
                    ready.push(event.token);
                }
            }
            // Only now, so that the server finds work for many connections at once, as it does under a load from many
            // machines; a message at a time would put it to sleep in between.
            for token in ready.drain(..) {
                clients[token].send(messages, frames)?;
            }
        }
        Ok(outcome)
    }
}

impl Client {
    /// Sends the next messages.
    #[inline]
    fn send(&mut self, messages: &Messages, frames: &mut Vec<u8>) -> Result<()> {
        let end = messages.write(self.number, frames, &mut self.sent);
        self.peer.inbox.expect(self.number, end);
        self.number = end;
        self.sent_at = Instant::now();
        self.peer.connection.send(frames)
    }
}
