//! `idle`: many connections, an echo on each, and then nothing: what does the server hold for them?

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use crate::Result;
use crate::connection::{Source, TIMEOUT, close_all, open};
use crate::peer::Messages;
use crate::report::{Outcome, Report, measure_once, rounded};
use crate::server::Server;
use crate::settings::Settings;
use crate::stream::Stream;

/// A server gets so long to let go of what it needs no more.
const REST: Duration = Duration::from_millis(500);

/// The memory is that after all echoes less that before, where "before" is after one connection more has been opened
/// and used and stays: what a server allocates once, with its first connection, is no cost of the others.
/// It takes a server that was just started: one that had many connections before has room for as many again.
///
/// Each connection has one message, so a context that is taken over is never asked for, and only the server keeps one.
///
/// One connection after the other: what so many at the same moment would need for a moment is another question.
pub fn run(settings: &Settings) -> Result<Report> {
    let server = Server::new(&settings.pids);
    let mut messages = Messages::new(settings);
    let mut first = open(settings, 0, Source::Any, None)?;
    echo(&mut first, &mut messages, 0)?;
    std::thread::sleep(REST);
    let before = server.written_bytes()?;

    let mut streams = Vec::new();
    let mut report = measure_once(settings, || {
        let mut outcome = Outcome::default();
        for number in 1..=settings.connections as u64 {
            let fail = |error| format!("connection {number} of {}: {error}", settings.connections);
            let mut stream = open(settings, number, Source::Spread(number), None).map_err(fail)?;
            let start = Instant::now();
            echo(&mut stream, &mut messages, number).map_err(fail)?;
            outcome.latency.add(start.elapsed());
            outcome.units += 1;
            streams.push(stream);
        }
        Ok(outcome)
    })?;
    std::thread::sleep(REST);
    let grown = server.written_bytes()? as f64 - before as f64;
    report.bytes_per_connection = Some(rounded(grown / streams.len() as f64, 1e1));
    streams.push(first);
    close_all(streams, settings.raw);
    Ok(report)
}

/// Sends a message, and blocks until it has come back.
fn echo(stream: &mut Stream, messages: &mut Messages, number: u64) -> Result<()> {
    let (mut inbox, mut frames, mut sent, mut buffer) = (messages.inbox(), Vec::new(), Vec::new(), [0; 4096]);
    let end = messages.write(number, &mut frames, &mut sent);
    inbox.expect(number, end);
    stream.write_all(&frames).and_then(|()| stream.flush()).map_err(|error| format!("a write failed: {error}"))?;
    while !inbox.is_complete() {
        let length = stream.read(&mut buffer).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => format!("nothing arrived for {} s; an echo was awaited", TIMEOUT.as_secs()),
            _ => format!("a read failed: {error}"),
        })?;
        if length == 0 {
            return Err("the server ended the connection".into());
        }
        messages.take(&mut inbox, &buffer[..length], &sent)?;
    }
    Ok(())
}
