//! `handshake`: connections that do nothing but open and close, some at a time. The client sends its Close as soon as
//! the opening handshake is done; the server answers it and ends the TCP connection (RFC 6455 section 7.1.1).

use std::time::{Duration, Instant};

use crate::Result;
use crate::connection::{Connection, Event, Poller, Source, TIMEOUT, connect};
use crate::frame::{self, CLOSE, Piece, Reader};
use crate::http::{Opening, end_of_head};
use crate::inbox::close_of;
use crate::peer::BUFFER;
use crate::report::{Outcome, Report, measure};
use crate::settings::{Limit, Settings};

const NORMAL: u16 = 1000;
/// A server that answers the Close, and then leaves it to us to end the connection, gets its will after this.
const PATIENCE: Duration = Duration::from_millis(100);

pub fn run(settings: &Settings) -> Result<Report> {
    let mut handshakes = Handshakes { settings, number: 0, poller: Poller::new()?, buffer: vec![0; BUFFER] };
    measure(settings, |limit| handshakes.run(limit))
}

struct Handshakes<'a> {
    settings: &'a Settings,
    /// How many connections there were.
    number: u64,
    poller: Poller,
    buffer: Vec<u8>,
}

/// One connection on its way. Its place is its token.
struct Attempt {
    connection: Connection,
    opening: Opening,
    /// What has come of the response; empty once it has come whole.
    head: Vec<u8>,
    is_open: bool,
    reader: Reader,
    /// The Close frame that was sent, and how much of it a raw server has echoed.
    close: Vec<u8>,
    echoed: usize,
    close_seen: bool,
    began: Instant,
}

impl Handshakes<'_> {
    fn run(&mut self, limit: Limit) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let start = Instant::now();
        let mut attempts = Vec::new();
        for token in 0..self.settings.connections {
            attempts.push(Some(self.begin(token)?));
        }
        let (mut waiting, mut last_news) = (attempts.len(), start);
        while waiting > 0 {
            let count = self.poller.wait(PATIENCE)?;
            let mut ended = Vec::new();
            for index in 0..count {
                let event = self.poller.event(index);
                if let Some(attempt) = &mut attempts[event.token]
                    && attempt.handle(event, self.settings.raw, &mut self.buffer)?
                {
                    ended.push(event.token);
                }
            }
            let now = Instant::now();
            if count == 0 {
                let is_closed = |token: &usize| attempts[*token].as_ref().is_some_and(|attempt| attempt.close_seen);
                ended = (0..attempts.len()).filter(is_closed).collect();
                if ended.is_empty() && now - last_news > TIMEOUT {
                    return Err(describe_wait(&attempts, waiting));
                }
            } else {
                last_news = now;
            }
            for token in ended {
                if let Some(attempt) = attempts[token].take() {
                    outcome.units += 1;
                    outcome.latency.add(now - attempt.began);
                }
                if limit.is_reached(now - start, outcome.units) {
                    waiting -= 1;
                } else {
                    attempts[token] = Some(self.begin(token)?);
                }
            }
        }
        Ok(outcome)
    }

    /// Connects and sends the request. On loopback the connection is there at once, so connecting may block.
    fn begin(&mut self, token: usize) -> Result<Attempt> {
        let began = Instant::now();
        self.number += 1;
        let stream = connect(self.settings, Source::Rotate(self.number), None)
            .map_err(|error| format!("connection {}: {error}", self.number))?;
        let mut connection = Connection::new(stream, &self.poller, token)?;
        let mut opening = Opening::new(self.settings, self.number);
        connection.send(&mut opening.request)?;
        Ok(Attempt {
            connection,
            opening,
            head: Vec::new(),
            is_open: false,
            reader: Reader::default(),
            close: Vec::new(),
            echoed: 0,
            close_seen: false,
            began,
        })
    }
}

impl Attempt {
    /// Goes on with what has arrived; whether the connection has come to its end.
    fn handle(&mut self, event: Event, raw: bool, buffer: &mut [u8]) -> Result<bool> {
        self.connection.wake(event)?;
        loop {
            let length = match self.connection.receive(buffer) {
                Ok(None) => return Ok(false),
                Ok(Some(length)) => length,
                // Some servers end with a reset.
                Err(_) if self.close_seen => 0,
                Err(error) => return Err(error),
            };
            if length == 0 {
                return if self.close_seen { Ok(true) } else { Err("the server ended without its Close".into()) };
            }
            self.take(&buffer[..length], raw)?;
        }
    }

    fn take(&mut self, input: &[u8], raw: bool) -> Result<()> {
        if self.is_open {
            return self.take_frames(input, raw);
        }
        self.head.extend_from_slice(input);
        let Some(end) = end_of_head(&self.head) else { return Ok(()) };
        self.opening.check(&self.head[..end], raw)?;
        self.is_open = true;
        frame::write_control(CLOSE, &NORMAL.to_be_bytes(), [0x5a, 0xc3, 0x17, 0x9e], &mut self.close);
        self.connection.send(&mut self.close.clone())?;
        let head = std::mem::take(&mut self.head);
        self.take_frames(&head[end..], raw)
    }

    fn take_frames(&mut self, mut input: &[u8], raw: bool) -> Result<()> {
        if raw {
            if self.close[self.echoed..].get(..input.len()) != Some(input) {
                return Err("the Close came back changed".into());
            }
            self.echoed += input.len();
            self.close_seen = self.echoed == self.close.len();
            return Ok(());
        }
        while let Some(piece) = self.reader.next(&mut input)? {
            if let Piece::Control { opcode: CLOSE, payload } = piece {
                let (code, reason) = close_of(&payload);
                if code != NORMAL {
                    return Err(format!("the server answered Close 1000 with {code} and reason '{reason}'"));
                }
                self.close_seen = true;
            }
        }
        Ok(())
    }
}

fn describe_wait(attempts: &[Option<Attempt>], waiting: usize) -> String {
    let open = attempts.iter().flatten().filter(|attempt| attempt.is_open).count();
    format!(
        "nothing arrived for {} s; of {waiting} connections {} awaited the response and {open} the server's Close",
        TIMEOUT.as_secs(),
        waiting - open
    )
}
