//! `broadcast`: one publisher sends `depth` messages with one write, and the next ones when every subscriber that reads
//! has all of them. The server sends each message to every other connection.

use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use crate::Result;
use crate::connection::{Connection, Poller, Source, TIMEOUT, close_all, open, open_all};
use crate::frame::{CLOSE, Piece, Reader};
use crate::inbox::close_of;
use crate::peer::{BUFFER, Messages, Peer};
use crate::report::{Outcome, Report, Slow, measure};
use crate::settings::{Limit, Settings};
use crate::stream::Stream;

/// So little fits into a subscriber that does not read (the kernel doubles it).
const SLOW_RECEIVE_BUFFER: usize = 4096;
/// A server may still be busy with the last connection when its handshake is answered: adding it to a list, say.
const JOINING: Duration = Duration::from_millis(200);
/// When nothing has come for so long, the slow ones have got everything.
const QUIET: Duration = Duration::from_secs(1);

pub fn run(settings: &Settings) -> Result<Report> {
    let poller = Poller::new()?;
    let messages = Messages::new(settings);
    let slow_count = settings.connections * settings.slow / 100;
    let mut slow = Vec::new();
    for number in 0..slow_count as u64 {
        slow.push(open(settings, number, Source::Any, Some(SLOW_RECEIVE_BUFFER))?);
    }
    let mut subscribers = Vec::new();
    for (token, stream) in open_all(settings, settings.connections - slow_count)?.into_iter().enumerate() {
        subscribers.push(Peer::new(Connection::new(stream, &poller, token)?, &messages));
    }
    let publisher = open(settings, 0, Source::Any, None)?;
    let publisher = Peer::new(Connection::new(publisher, &poller, subscribers.len())?, &messages);
    std::thread::sleep(JOINING);

    let mut broadcast = Broadcast {
        messages,
        publisher,
        subscribers,
        number: 0,
        frames: Vec::new(),
        sent: Vec::new(),
        poller,
        buffer: vec![0; BUFFER],
    };
    let mut report = measure(settings, |limit| broadcast.run(limit))?;
    report.wire_bytes = broadcast.messages.wire_bytes();
    if slow_count > 0 {
        report.slow = Some(end_of_slow(slow, settings, &mut broadcast.buffer)?);
    }
    let all = broadcast.subscribers.into_iter().chain([broadcast.publisher]);
    close_all(all.map(|peer| peer.connection.into_stream()), settings.raw);
    Ok(report)
}

struct Broadcast {
    messages: Messages,
    publisher: Peer,
    /// Those that read. Each one's place is its token; the publisher's is the one behind them.
    subscribers: Vec<Peer>,
    /// The number of the next message.
    number: u64,
    /// The frames that go out next, and what was sent last, with which a raw server's bytes are compared.
    frames: Vec<u8>,
    sent: Vec<u8>,
    poller: Poller,
    buffer: Vec<u8>,
}

impl Broadcast {
    fn run(&mut self, limit: Limit) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let start = Instant::now();
        loop {
            let now = Instant::now();
            if limit.is_reached(now - start, outcome.units) {
                return Ok(outcome);
            }
            self.publish()?;
            self.await_all(now, &mut outcome)?;
        }
    }

    fn publish(&mut self) -> Result<()> {
        let end = self.messages.write(self.number, &mut self.frames, &mut self.sent);
        for subscriber in &mut self.subscribers {
            subscriber.inbox.expect(self.number, end);
        }
        self.number = end;
        self.publisher.connection.send(&mut self.frames)
    }

    /// Until every subscriber has what was sent at `sent_at`.
    fn await_all(&mut self, sent_at: Instant, outcome: &mut Outcome) -> Result<()> {
        let Self { messages, publisher, subscribers, sent, poller, buffer, .. } = self;
        let all = subscribers.len();
        let mut waiting = all;
        while waiting > 0 {
            let count = poller.wait(TIMEOUT)?;
            if count == 0 {
                return Err(format!(
                    "nothing arrived for {} s; {waiting} of {all} subscribers awaited the rest of {} messages",
                    TIMEOUT.as_secs(),
                    messages.depth
                ));
            }
            for index in 0..count {
                let event = poller.event(index);
                let peer = subscribers.get_mut(event.token).unwrap_or(publisher);
                let taken = peer.handle(event, messages, sent, buffer)?;
                outcome.units += taken;
                if taken > 0 && peer.inbox.is_complete() {
                    outcome.latency.add(sent_at.elapsed());
                    waiting -= 1;
                }
            }
        }
        Ok(())
    }
}

/// Reads what the server has sent to the subscribers that did not read, until it ends or nothing more comes.
fn end_of_slow(streams: Vec<Stream>, settings: &Settings, buffer: &mut [u8]) -> Result<Slow> {
    let mut poller = Poller::new()?;
    let mut slow = Slow { connections: streams.len(), ..Slow::default() };
    let mut open = Vec::new();
    for (token, stream) in streams.into_iter().enumerate() {
        // Their windows may open now, or all that the server has in store would come in small pieces.
        let _ = setsockopt(&stream.tcp, sockopt::RcvBuf, &BUFFER);
        let reader = Reader::new(settings.compression.is_some());
        open.push(Some((Connection::new(stream, &poller, token)?, reader, false)));
    }
    loop {
        let count = poller.wait(QUIET)?;
        if count == 0 {
            slow.closed += open.iter().flatten().filter(|(.., close_seen)| *close_seen).count();
            close_all(open.into_iter().flatten().map(|(connection, ..)| connection.into_stream()), settings.raw);
            return Ok(slow);
        }
        for index in 0..count {
            let event = poller.event(index);
            let entry = &mut open[event.token];
            if let Some((connection, ..)) = entry {
                connection.wake(event)?;
            }
            while let Some((connection, reader, close_seen)) = entry {
                let length = match connection.receive(buffer) {
                    Ok(None) => break,
                    Ok(Some(length)) => length,
                    Err(_) => 0,
                };
                if length == 0 {
                    slow.closed += 1;
                    *entry = None;
                } else if !settings.raw
                    && let Some((code, reason)) = close_in(reader, &buffer[..length])?
                {
                    *close_seen = true;
                    *slow.codes.entry(code).or_default() += 1;
                    slow.reason = reason;
                }
            }
        }
    }
}

/// The first Close frame in what has arrived. What the messages hold is of no interest: a server may leave some out.
fn close_in(reader: &mut Reader, mut input: &[u8]) -> Result<Option<(u16, String)>> {
    while let Some(piece) = reader.next(&mut input)? {
        if let Piece::Control { opcode: CLOSE, payload } = piece {
            return Ok(Some(close_of(&payload)));
        }
    }
    Ok(None)
}
