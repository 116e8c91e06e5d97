//! How many messages did not reach the peer, as a Close tells it: each one that was sent came whole, or is counted.

mod support;

use std::io::Read;
use std::net::TcpListener;

use support::{CLOSE, Ended, RawPeer, Running, Script, Server};
use wsx_core::{BacklogPolicy, Connection, LoopOptions, Message, Options, Response};

/// More bytes than the kernel takes for a peer that does not read.
const HUGE: usize = 8 * 1024 * 1024;

fn unlimited() -> Options {
    let mut options = Options::default();
    options.backlog_limit = 0;
    options
}

/// How many whole messages came up to the end, however that came about. What a server sends is not masked.
fn messages_in<S: Read>(peer: &mut RawPeer<S>) -> u64 {
    let mut bytes = Vec::new();
    let mut buffer = [0; 64 * 1024];
    while let Ok(count @ 1..) = peer.stream.read(&mut buffer) {
        bytes.extend(&buffer[..count]);
    }
    let (mut rest, mut messages) = (&bytes[..], 0);
    while let [first, second, more @ ..] = rest {
        let masked = second & 0x80 != 0;
        let (length, more) = match second & 0x7f {
            126 => match more.split_first_chunk() {
                Some((length, more)) => (usize::from(u16::from_be_bytes(*length)), more),
                None => break,
            },
            127 => match more.split_first_chunk() {
                Some((length, more)) => (u64::from_be_bytes(*length) as usize, more),
                None => break,
            },
            short => (usize::from(short), more),
        };
        let Some((_, more)) = more.split_at_checked(length + if masked { 4 } else { 0 }) else { break };
        messages += u64::from(first & 0x0f < CLOSE);
        rest = more;
    }
    messages
}

/// Sends messages of all sizes, with pings between that are none: some more than the kernel takes. Returns how many.
fn send_much(connection: Connection, mut broadcast: impl FnMut(&[u8])) -> u64 {
    let (mut sent, mut bytes) = (0, 0);
    for size in [0, 5, 200, 3_000, 20_000, 70_000].into_iter().cycle() {
        // What hardly compresses.
        let payload: Vec<u8> = (0..size as u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
        connection.send(Message::Binary(&payload)).unwrap();
        connection.ping(b"no message").unwrap();
        broadcast(&payload);
        sent += 2;
        bytes += 2 * size;
        if bytes > HUGE {
            break;
        }
    }
    sent
}

#[track_caller]
fn assert_counted(ended: &Ended, sent: u64, came: u64) {
    assert!(came > 0 && came < sent, "{came} of {sent}");
    assert_eq!(ended.undelivered_messages, sent - came, "{came} of {sent} came: {ended:?}");
    assert!(ended.unsent_bytes > 0 && ended.lost_messages == 0, "{ended:?}");
}

#[test]
fn what_waits_for_a_client_when_its_connection_is_cut_is_counted_in_messages() {
    let server = Server::start(&unlimited(), Script::new());
    let (mut peer, connection) = server.open_narrow();
    let listener = server.listener;
    let sent = server.on_loop(move || {
        let sent = send_much(connection, |payload| listener.broadcast(Message::Binary(payload), None).unwrap());
        connection.terminate().unwrap();
        sent
    });
    let ended = server.events.closed_of(connection);
    assert_counted(&ended, sent, messages_in(&mut peer));
}

#[test]
fn what_waits_for_a_server_when_its_connection_is_cut_is_counted_in_messages() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    socket2::SockRef::from(&listener).set_recv_buffer_size(4096).unwrap();
    let running = Running::idle();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let (client, events) = running.connect(&url, &unlimited(), Script::new());
    let (mut peer, _) = RawPeer::accept_upgrade(&listener);
    assert_eq!(events.opened(), client);
    let sent = running.on_loop(move || {
        let mut more = 0;
        let sent = send_much(client, |payload| more += u64::from(client.send(Message::Binary(payload)).is_ok()));
        client.terminate().unwrap();
        assert_eq!(more * 2, sent);
        sent
    });
    let ended = events.closed_of(client);
    assert_counted(&ended, sent, messages_in(&mut peer));
}

#[cfg(feature = "deflate")]
#[test]
fn what_waits_compressed_is_counted_in_messages() {
    for keeps_context in [false, true] {
        let mut options = unlimited();
        let mut compression = wsx_core::Compression::default();
        (compression.level, compression.server_no_context_takeover) = (1, !keeps_context);
        options.compression = Some(compression);
        let server = Server::start(&options, Script::new());
        let mut peer = RawPeer::connect_narrow(server.address());
        let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
        peer.write(support::upgrade(&server.address().to_string(), "/", offer).as_bytes());
        assert!(peer.expect_upgrade().contains("permessage-deflate"));
        let connection = server.events.opened();
        let listener = server.listener;
        let sent = server.on_loop(move || {
            let sent = send_much(connection, |payload| listener.broadcast(Message::Binary(payload), None).unwrap());
            connection.terminate().unwrap();
            sent
        });
        let ended = server.events.closed_of(connection);
        assert_counted(&ended, sent, messages_in(&mut peer));
    }
}

#[cfg(feature = "tls")]
#[test]
fn what_waits_over_tls_is_counted_in_messages_with_what_was_being_written() {
    let authority = support::tls::Authority::new("A");
    let mut options = authority.local().server();
    options.backlog_limit = 0;
    let server = Server::start(&options, Script::new());
    let mut peer = authority.open(server.address());
    let connection = server.events.opened();
    let sent = server.on_loop(move || {
        let sent = (0..4000).map(|_| connection.send(Message::Binary(&[7; 5000])).unwrap()).count() as u64;
        connection.terminate().unwrap();
        sent
    });
    let ended = server.events.closed_of(connection);
    let came = messages_in(&mut peer);
    let missing = sent - came;
    assert!(came > 0 && missing > 0, "{came} of {sent}");
    let most = missing + 64 * 1024 / 5004 + 1;
    assert!((missing..=most).contains(&ended.undelivered_messages), "{missing} are missing: {ended:?}");
}

#[test]
fn messages_in_the_turn_that_opens_are_counted_although_the_answer_is_before_them() {
    let script = Script::new().on_open(|connection| {
        for _ in 0..3 {
            connection.send("greetings").unwrap();
        }
        connection.terminate().unwrap();
    });
    let server = Server::start(&Options::default(), script);
    let mut peer = RawPeer::connect(server.address());
    peer.write(support::upgrade("localhost", "/", "").as_bytes());
    assert_eq!(server.events.closed().undelivered_messages, 3);
}

/// Sends small messages until one is not taken, or is dropped; returns how many were taken.
fn fill(connection: Connection) -> u64 {
    (0..100_000).map_while(|_| connection.send(Message::Binary(&[7; 1000])).ok()).count() as u64
}

#[test]
fn what_a_policy_drops_is_counted_with_what_waits() {
    for policy in [BacklogPolicy::Drop, BacklogPolicy::Close, BacklogPolicy::Refuse] {
        let mut options = Options::default();
        (options.backlog_limit, options.backlog_policy) = (64 * 1024, policy);
        let server = Server::start(&options, Script::new());
        let (mut peer, connection) = server.open_narrow();
        let taken = server.on_loop(move || {
            let taken = fill(connection);
            connection.terminate().unwrap();
            taken
        });
        let ended = server.events.closed_of(connection);
        let came = messages_in(&mut peer);
        assert!(came < taken, "{policy:?}");
        assert_eq!(ended.undelivered_messages, taken - came, "{policy:?}: {ended:?}");
        match policy {
            BacklogPolicy::Refuse => assert_eq!(ended.lost_messages, 0, "what is refused is not taken"),
            _ => assert!(ended.lost_messages > 0, "{policy:?}"),
        }
    }
}

#[test]
fn of_a_stream_only_lost_writes_are_counted() {
    let (begun, streams) = std::sync::mpsc::channel();
    let mut options = Options::default();
    (options.backlog_limit, options.backlog_policy) = (64 * 1024, BacklogPolicy::Drop);
    let server = Server::start_with(
        &LoopOptions::default(),
        &options,
        Script::new().on_request(move |request| {
            begun.send(request.connection()).unwrap();
            Response::stream("text/plain")
        }),
    );
    let mut peer = RawPeer::connect_narrow(server.address());
    peer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    peer.read_head();
    let stream = streams.recv_timeout(support::DEADLINE).unwrap();
    server.on_loop(move || {
        (0..10_000).for_each(|_| stream.write(&[b'x'; 1000]).unwrap());
        stream.terminate().unwrap();
    });
    let ended = server.events.closed_of(stream);
    assert!(ended.lost_messages > 0 && ended.unsent_bytes > 0, "{ended:?}");
    assert_eq!(ended.undelivered_messages, u64::from(ended.lost_messages));
}
