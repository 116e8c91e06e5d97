//! Very many subscribers, one in a hundred of which never reads: the others get every message in order without anything
//! waiting for them, memory stays within the backlog limit, and the slow ones are closed and told why.
//!
//! A test binary of its own, for it measures the memory of its process. No time is measured: `make bench` does that.

mod support;

use std::collections::HashMap;
use std::io::Read;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{BINARY, CLOSE, Event, RawPeer, Script, Server, frame};
use wsx_core::{Connection, FailureKind, Options, Side};

/// As many as the descriptors reach for, both ends of each being in this process. WSX_SUBSCRIBERS= asks for others.
const SUBSCRIBERS: u64 = 1000;
/// For the test itself.
const OTHER_DESCRIPTORS: u64 = 64;
const SIZE: usize = 1024;
/// Messages that are published in one turn.
const ROUND: u32 = 16;
/// More messages than the kernel takes.
const MOST: u32 = 16 * 1024;
const LIMIT: usize = 512 * 1024;
/// What the process may grow by beyond the backlogs: the parts of buffers that are written already, what is told of
/// those that are closed, and pages that the allocator keeps.
const SLACK: usize = 2 * 1024 * 1024;

/// How many subscribers there can be, after raising the limit to what the system allows.
fn subscribers() -> usize {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let asked_for = std::env::var("WSX_SUBSCRIBERS").map_or(SUBSCRIBERS, |count| count.parse().unwrap());
    limit.maximum.map_or(asked_for, |most| asked_for.min((most - OTHER_DESCRIPTORS) / 2)) as usize
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// The n-th message: its number, then filling.
fn message(number: u32) -> Vec<u8> {
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(SIZE, number as u8);
    payload
}

/// Publishes a round; in the turn after it, tells how many connections are open, and how many bytes wait for those that
/// are not slow.
fn publish(server: &Server, first: u32, slow: &[Connection]) -> (usize, usize) {
    let handle = server.handle.clone();
    server.on_loop(move || (first..first + ROUND).for_each(|n| handle.publish("all", &message(n), None).unwrap()));
    let (handle, slow) = (server.handle.clone(), slow.to_vec());
    server.on_loop(move || {
        let open = handle.connections().unwrap();
        let others = open.iter().filter(|connection| !slow.contains(connection));
        (open.len(), others.map(|connection| connection.buffered_amount().unwrap()).sum())
    })
}

/// Reads messages 0, 1, 2, … up to the Close: how many came, and the reason.
#[track_caller]
fn read_until_close(peer: &mut RawPeer) -> (u32, String) {
    for number in 0.. {
        let frame = peer.read_frame();
        if frame.opcode == CLOSE {
            let (code, reason) = frame.close();
            assert_eq!(code, Some(1013));
            return (number, reason);
        }
        assert_eq!((frame.opcode, frame.fin), (BINARY, true));
        assert!(frame.payload == message(number), "message {number} is another");
    }
    unreachable!("an endless range");
}

#[test]
fn subscribers_that_never_read_are_closed_and_told_why_while_the_others_get_everything() {
    let mut options = Options::default();
    options.backlog_limit = LIMIT;
    // Only the limit shall end them, nothing but messages comes, and they are to read their Close in the end.
    (options.progress_timeout, options.ping_interval) = (Duration::ZERO, Duration::ZERO);
    options.close_timeout = support::DEADLINE;
    let script = Script::new().on_open(|connection| connection.subscribe("all").unwrap());
    let count = subscribers();
    let server = Server::start(&options, script);

    let mut slow: Vec<_> = (0..count.div_ceil(100)).map(|_| server.open_narrow()).collect();
    let mut others: Vec<_> = (slow.len()..count).map(|_| server.open().0).collect();
    let slow_ones: Vec<_> = slow.iter().map(|(_, connection)| *connection).collect();

    let mut received = Vec::new();
    let (mut published, mut before, mut most) = (0, 0, 0);
    loop {
        let (open, waits) = publish(&server, published, &slow_ones);
        assert_eq!(waits, 0, "bytes wait for subscribers that read");
        let expected: Vec<_> =
            (published..published + ROUND).flat_map(|n| frame(0x80 | BINARY, &message(n), None)).collect();
        received.resize(expected.len(), 0);
        for peer in &mut others {
            peer.stream.read_exact(&mut received).unwrap();
            assert!(received == expected, "the messages from {published} on are others");
        }
        published += ROUND;
        // From the second round on nothing is new but what waits for the slow ones.
        match before {
            0 => before = resident(),
            _ => most = most.max(resident()),
        }
        if open == others.len() {
            break;
        }
        assert!(published < MOST, "the slow ones are not closed");
    }
    let (grown, allowed) = (most.saturating_sub(before), slow.len() * LIMIT + SLACK);
    assert!(grown <= allowed, "{grown} bytes more than before, {allowed} are allowed");

    // Each slow one gets the beginning of what was published, and the reason.
    let mut reasons = HashMap::new();
    for (peer, connection) in &mut slow {
        // They need not be slow any more.
        socket2::SockRef::from(&peer.stream).set_recv_buffer_size(1024 * 1024).unwrap();
        let (came, reason) = read_until_close(peer);
        assert!(came < published);
        let backlog: usize = reason.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(reason, format!("{backlog} bytes waited for a peer that does not read, backlog_limit is {LIMIT}"));
        let round = ROUND as usize * (SIZE + 4);
        assert!(backlog <= LIMIT && backlog + round > LIMIT, "closed at {backlog} bytes");
        peer.expect_end();
        peer.finish();
        reasons.insert(*connection, reason);
    }
    // The program is told the same, first by on_error, then by on_close.
    let mut failed = HashMap::new();
    for _ in 0..2 * slow.len() {
        match server.events.find(|event| (!matches!(event, Event::Opened(..))).then_some(event)) {
            Event::Error(connection, failure) => {
                assert_eq!((failure.kind, &*failure.message), (FailureKind::Limit, &*reasons[&connection]));
                failed.insert(connection, failure);
            }
            Event::Closed(connection, ended) => {
                assert_eq!((ended.code, ended.by, ended.was_clean), (1013, Side::Us, false));
                assert_eq!(ended.reason, reasons[&connection]);
                assert_eq!(ended.failure, failed.remove(&connection));
                assert!(ended.lost_messages > 0 && ended.unsent_bytes > 0, "{ended:?}");
            }
            event => panic!("{event:?}"),
        }
    }
    // What is published now comes to all that are left.
    publish(&server, published, &[]);
    others.iter_mut().for_each(|peer| assert!(peer.read_frame().payload == message(published)));
}
