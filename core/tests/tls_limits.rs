//! What a peer over TLS can take of time and memory.

#![cfg(feature = "tls")]

mod support;

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use support::tls::{Authority, TlsClient, VERSIONS, connect, secure};
use support::{BINARY, CLOSE, DEADLINE, RawPeer, Recorder, Running, Script, Server, eventually, limit_of};
use wsx_core::{BacklogPolicy, Connection, Error, FailureKind, Figure, LoopOptions, Options, Pem, Side, Stage};

const SHORT: Duration = Duration::from_millis(200);

/// An open client that takes in little before it reads.
#[track_caller]
fn open_narrow(authority: &Authority, server: &Server) -> (TlsClient, Connection) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&server.address().into()).unwrap();
    let peer = RawPeer::new(socket.into(), true);
    let mut peer = secure(peer, authority.raw_client(&VERSIONS, None), "localhost");
    peer.upgrade(server.address());
    (peer, server.events.opened())
}

#[test]
fn a_client_that_never_finishes_the_handshake_is_ended_in_time() {
    let authority = Authority::new("A");
    let mut options = authority.local().server();
    options.handshake_timeout = SHORT;
    let server = Server::start(&options, Script::new());
    let mut hello = Vec::new();
    authority.connect(server.address()).stream.conn.write_tls(&mut hello).unwrap();

    // One that is silent.
    let begin = Instant::now();
    RawPeer::connect(server.address()).expect_end();
    // One that sends a byte now and then.
    let mut slow = RawPeer::connect(server.address());
    slow.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut bytes = hello[..hello.len() - 1].iter();
    while !matches!(slow.stream.read(&mut [0]), Ok(0)) {
        let _ = bytes.next().map(|byte| slow.try_write(&[*byte]));
    }
    // One that stays silent after the hello, and one after the handshake.
    let mut half = RawPeer::connect(server.address());
    half.write(&hello);
    assert!(!half.read_to_end().is_empty());
    let mut done = authority.connect(server.address());
    while done.stream.conn.is_handshaking() {
        done.stream.conn.complete_io(&mut done.stream.sock).unwrap();
    }
    while !matches!(done.stream.sock.read(&mut [0; 1000]), Ok(0)) {}
    assert!(begin.elapsed() >= 4 * SHORT && begin.elapsed() < DEADLINE);
}

#[test]
fn a_request_that_is_not_finished_in_time_is_answered_over_tls() {
    let authority = Authority::new("A");
    let mut options = authority.local().server();
    options.handshake_timeout = SHORT;
    let server = Server::start(&options, Script::new());
    let mut peer = authority.connect(server.address());
    peer.write(b"GET / HTTP/1.1\r\n");
    assert_eq!(peer.read_answer().status, 408);
}

#[test]
fn a_server_that_never_finishes_the_handshake_is_given_up() {
    let authority = Authority::new("A");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = authority.client();
    options.handshake_timeout = SHORT;
    let running = Running::idle();
    let url = format!("wss://{}/", listener.local_addr().unwrap());
    let (_, events) = running.connect(&url, &options, Script::new());
    let _silent = RawPeer::accept(&listener);
    let ended = events.closed();
    let failure = ended.failure.as_ref().unwrap();
    assert_eq!((failure.stage, failure.kind), (Stage::Tls, FailureKind::Timeout));
    assert!(ended.cause().contains("handshake_timeout"), "{}", ended.cause());
}

#[test]
fn a_connection_in_the_handshake_is_given_up_by_close_and_by_shutdown() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("wss://{}/", listener.local_addr().unwrap());
    let mut running = Running::idle();
    let (connection, events) = running.connect(&url, &Authority::new("A").client(), Script::new());
    let mut peer = RawPeer::accept(&listener);
    peer.read_bytes(100);
    running.on_loop(move || {
        assert!(matches!(connection.send("x"), Err(Error::NotOpen)));
        connection.close(1000, "").unwrap();
    });
    assert_eq!((events.closed().code, events.try_next().is_none()), (1006, true));

    let (_, events) = running.connect(&url, &Authority::new("A").client(), Script::new());
    let mut peer = RawPeer::accept(&listener);
    peer.read_bytes(100);
    running.handle.shutdown(DEADLINE).unwrap();
    assert_eq!(events.closed().failure.unwrap().kind, FailureKind::Shutdown);
    running.join();
}

#[test]
fn a_shutdown_ends_clients_in_the_handshake_at_once() {
    let authority = Authority::new("A");
    let mut server = Server::start(&authority.local().server(), Script::new());
    let mut silent = RawPeer::connect(server.address());
    let mut open = authority.open(server.address());
    server.events.opened();
    server.handle.shutdown(DEADLINE).unwrap();
    silent.expect_end();
    open.expect_close(1001);
    open.send_close(Some(1001), "");
    open.expect_end();
    server.running.join();
}

#[test]
fn a_message_of_the_handshake_that_never_ends_is_cut() {
    let authority = Authority::new("A");
    let mut options = authority.local().server();
    options.handshake_timeout = Duration::ZERO;
    let server = Server::start(&options, Script::new());
    let mut peer = RawPeer::connect(server.address());
    // A hello of 65,535 bytes that comes one byte to a record, with six times as much around them.
    let mut begin = vec![22, 3, 1, 0, 4, 1, 0, 0xff, 0xff];
    begin.extend((0..60_000).flat_map(|_| [22, 3, 1, 0, 1, 7]));
    let _ = peer.try_write(&begin);
    // An end, or a reset for what nobody has read.
    peer.read_to_end();
    authority.open(server.address());
}

#[test]
fn a_message_of_the_handshake_that_never_ends_is_told_by_an_alert() {
    let authority = Authority::new("A");
    let server = Server::start(&authority.local().server(), Script::new());
    let mut peer = RawPeer::connect(server.address());
    // The same, and not a byte more than what is too much: all of it is read, so that no reset destroys the alert.
    let mut begin = vec![22, 3, 1, 0, 4, 1, 0, 0xff, 0xff];
    begin.extend((0..).flat_map(|_| [22, 3, 1, 0, 1, 7]).take(64 * 1024 + 1 - begin.len()));
    peer.write(&begin);
    let alert = peer.read_to_end();
    assert!(matches!(alert[..], [21, 3, _, 0, 2, 2, _]), "{alert:?}");
}

#[test]
fn a_server_whose_handshake_never_ends_hears_an_alert_and_the_client_its_limit() {
    let authority = Authority::new("A");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let running = Running::idle();
    let url = format!("wss://{}/", listener.local_addr().unwrap());
    let (client, events) = running.connect(&url, &authority.client(), Script::new());
    let mut peer = RawPeer::accept(&listener);
    let header = peer.read_bytes(5);
    peer.read_bytes(usize::from(header[3]) * 256 + usize::from(header[4]));
    let mut begin = vec![22, 3, 3, 0, 4, 2, 0, 0xff, 0xff];
    begin.extend((0..).flat_map(|_| [22, 3, 3, 0, 1, 7]).take(64 * 1024 + 1 - begin.len()));
    peer.write(&begin);
    let alert = peer.read_to_end();
    assert!(matches!(alert[..], [21, 3, _, 0, 2, 2, _]), "{alert:?}");
    let ended = events.closed_of(client);
    let failure = ended.failure.unwrap();
    assert_eq!((failure.stage, failure.kind, ended.by), (Stage::Tls, FailureKind::Limit, Side::Us));
    assert_eq!(limit_of(&failure), Some(("tls_handshake_message", Figure::Bytes(64 * 1024), None)));
}

#[test]
fn clients_that_reset_in_the_handshake_leave_nothing() {
    let authority = Authority::new("A");
    let server = Server::start(&authority.local().server(), Script::new());
    let mut hello = Vec::new();
    authority.connect(server.address()).stream.conn.write_tls(&mut hello).unwrap();
    for cut in [0, 1, 5, hello.len() / 2, hello.len()] {
        for resets in [true, false] {
            let mut peer = RawPeer::connect(server.address());
            peer.write(&hello[..cut]);
            if resets {
                peer.reset();
            }
        }
    }
    // What is accepted later is served, and what was there is gone: only this one is open.
    let mut peer = authority.open(server.address());
    peer.send_close(Some(1000), "");
    peer.expect_close(1000);
    peer.expect_end();
    server.expect_connections(0);
}

#[test]
fn a_handshake_and_messages_go_through_a_kernel_that_takes_little_at_a_time() {
    let authority = Authority::new("A");
    let mut options = authority.local().server();
    // A chain of more than 30,000 bytes, of which nobody needs more than the beginning.
    let chain = &mut options.tls.as_mut().unwrap().certificates[0].chain;
    let Pem::Bytes(bytes) = chain else { panic!("not bytes") };
    bytes.extend(std::iter::repeat_n(authority.pem(), 80).flatten());
    options.max_message = 0;
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    // Accepted connections inherit it.
    socket.set_send_buffer_size(4096).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(8).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let (recorder, events) = Recorder::new(Script::echo().quiet());
    let (running, _) = Running::start(&LoopOptions::default(), move |handle| {
        handle.adopt(socket.into(), &options, recorder).unwrap();
    });
    for version in VERSIONS {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&address.into()).unwrap();
        let peer = RawPeer::new(socket.into(), true);
        let mut peer = secure(peer, authority.raw_client(&[version], None), "localhost");
        peer.upgrade(address);
        for len in [10, 20_000, 700_000] {
            peer.send(BINARY, &vec![len as u8; len]);
            assert!(peer.read_frame().payload == vec![len as u8; len], "{len}");
        }
        peer.send_close(Some(1000), "");
        peer.expect_close(1000);
        peer.expect_end();
        assert!(events.closed().was_clean);
    }
    drop(running);
}

#[test]
fn a_peer_that_does_not_read_is_closed_at_the_limit_and_its_bytes_are_counted() {
    let authority = Authority::new("A");
    let mut options = authority.local().server();
    options.backlog_limit = 256 * 1024;
    options.close_timeout = SHORT;
    let server = Server::start(&options, Script::new());
    let (peer, connection) = open_narrow(&authority, &server);
    let (refused, waits) = server.on_loop(move || {
        let message = vec![7; 1000];
        let mut refused = None;
        for _ in 0..1_000_000 {
            let waits = connection.buffered_amount().unwrap();
            if let Err(error) = connection.send(&message) {
                refused = Some((error, waits));
                break;
            }
        }
        refused.expect("everything was taken")
    });
    assert!(matches!(refused, Error::BacklogFull { backlog, limit } if backlog <= limit && limit == 256 * 1024));
    assert!(waits <= 256 * 1024 + 2000, "{waits}");
    let ended = server.events.closed();
    assert_eq!((ended.code, ended.was_clean), (1013, false));
    // What was encrypted stays with its last frame; all else is dropped, and every byte is told.
    assert!(ended.lost_messages > 100, "{ended:?}");
    assert!(ended.unsent_bytes > 100_000 && ended.unsent_bytes < 400_000, "{ended:?}");
    drop(peer);
}

#[test]
fn a_peer_that_reads_late_gets_whole_frames_and_then_the_close() {
    let authority = Authority::new("A");
    let mut options = authority.local().server();
    options.backlog_limit = 100_000;
    options.progress_timeout = Duration::ZERO;
    options.close_timeout = DEADLINE;
    let server = Server::start(&options, Script::new());
    let (mut peer, connection) = open_narrow(&authority, &server);
    let sent = server.on_loop(move || {
        let mut sent = 0_u32;
        loop {
            let mut message = vec![7; 3000];
            message[..4].copy_from_slice(&sent.to_be_bytes());
            if connection.send(&message).is_err() {
                break sent;
            }
            sent += 1;
        }
    });
    let mut received = 0_u32;
    let close = loop {
        let frame = peer.read_frame();
        if frame.opcode == CLOSE {
            break frame;
        }
        assert_eq!((frame.payload.len(), &frame.payload[..4]), (3000, &received.to_be_bytes()[..]));
        received += 1;
    };
    assert_eq!(close.close().0, Some(1013));
    peer.send_close(Some(1013), "");
    peer.stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
    let ended = server.events.closed();
    assert_eq!((ended.lost_messages, received + ended.lost_messages), (sent - received, sent), "{ended:?}");
    assert_eq!(ended.unsent_bytes, u64::from(ended.lost_messages) * 3004, "all but the lost ones has left");
}

#[test]
fn messages_are_dropped_or_refused_as_on_plain() {
    let authority = Authority::new("A");
    for policy in [BacklogPolicy::Drop, BacklogPolicy::Refuse] {
        let mut options = authority.local().server();
        options.backlog_limit = 100_000;
        options.backlog_policy = policy;
        options.progress_timeout = Duration::ZERO;
        let server = Server::start(&options, Script::new());
        let (mut peer, connection) = open_narrow(&authority, &server);
        // Each is encrypted as it comes: what the kernel takes is not known before.
        let refused = server.on_loop(move || {
            let results = (0..3000_u32).map(|_| connection.send(&[7; 3000]));
            results.filter(|result| matches!(result, Err(Error::BacklogFull { .. }))).count()
        });
        assert_eq!(refused == 0, policy == BacklogPolicy::Drop);
        server.on_loop(move || connection.close(1000, "").unwrap());
        let mut received = 0;
        while peer.read_frame().opcode == BINARY {
            received += 1;
        }
        peer.send_close(Some(1000), "");
        let ended = server.events.closed();
        assert!(ended.was_clean, "{ended:?}");
        let lost = if policy == BacklogPolicy::Drop { ended.lost_messages as usize } else { refused };
        assert_eq!(received + lost, 3000);
        assert!(lost > 1000, "{lost}");
    }
}

#[test]
fn a_drain_is_told_when_the_peer_has_read() {
    let authority = Authority::new("A");
    let mut options = authority.local().server();
    options.progress_timeout = Duration::ZERO;
    options.backlog_limit = 100_000;
    let server = Server::start(&options, Script::new());
    let (mut peer, connection) = open_narrow(&authority, &server);
    let large = vec![7; 8_000_000];
    let waits = server.on_loop(move || {
        connection.send(&large).unwrap();
        connection.buffered_amount().unwrap()
    });
    assert!(waits > 100_000 && waits < 8_000_010, "{waits}");
    assert_eq!(peer.read_frame().payload.len(), 8_000_000);
    assert_eq!(server.events.drain(), connection);
    eventually("nothing waits", || server.on_loop(move || connection.buffered_amount().unwrap() == 0));
}

#[test]
fn a_peer_that_takes_nothing_is_cut_and_one_that_takes_little_is_not() {
    let authority = Authority::new("A");
    let mut options = authority.local().server();
    options.progress_timeout = Duration::from_secs(1);
    options.backlog_limit = 0;
    let server = Server::start(&options, Script::new());
    let (stuck, connection) = open_narrow(&authority, &server);
    server.on_loop(move || connection.send(&vec![7; 8_000_000]).unwrap());
    let ended = server.events.closed_of(connection);
    assert!(ended.cause().contains("progress_timeout"), "{}", ended.cause());
    assert!(ended.unsent_bytes > 0);
    drop(stuck);

    // Far less than what is encrypted at a time, in each timeout.
    let (mut slow, connection) = open_narrow(&authority, &server);
    server.on_loop(move || connection.send(&vec![7; 8_000_000]).unwrap());
    let begin = Instant::now();
    let mut taken = [0; 4096];
    slow.stream.sock.set_read_timeout(Some(DEADLINE)).unwrap();
    while begin.elapsed() < Duration::from_millis(2500) {
        // The pace is what is tested.
        std::thread::sleep(Duration::from_millis(100));
        slow.stream.sock.read_exact(&mut taken).unwrap();
    }
    assert_eq!(server.connection_count(), 1);
}

#[test]
fn a_client_that_vanishes_in_the_middle_of_a_message_leaves_nothing() {
    let authority = Authority::new("A");
    let server = Server::start(&authority.local().server(), Script::echo());
    for _ in 0..3 {
        let mut peer = authority.open(server.address());
        peer.write(&support::frame_header(0x82, 100_000, Some(support::MASK)));
        peer.write(&[0; 30_000]);
        socket2::SockRef::from(&peer.stream.sock).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        assert_eq!(server.events.closed().code, 1006);
    }
    server.expect_connections(0);
}

#[test]
fn limits_of_messages_hold_over_tls() {
    let authority = Authority::new("A");
    let server = Server::start(&authority.local().server(), Script::new());
    let mut peer = authority.open(server.address());
    peer.write(&support::frame_header(0x82, 2 * 1024 * 1024, Some(support::MASK)));
    peer.expect_close(1009);
    let mut peer = authority.open(server.address());
    peer.write(&support::frame(0x81, b"not masked", None));
    peer.expect_close(1002);
}

#[test]
fn a_connection_that_is_full_is_told_so_over_tls() {
    let authority = Authority::new("A");
    let mut options = authority.local().server();
    options.max_connections = 1;
    let server = Server::start(&options, Script::new());
    let _first = authority.open(server.address());
    server.events.opened();
    let mut second = authority.connect(server.address());
    second.write(support::upgrade("localhost", "/", "").as_bytes());
    assert_eq!(second.read_answer().status, 503);
}

#[test]
fn a_heartbeat_goes_over_tls() {
    let authority = Authority::new("A");
    let mut options = authority.local().server();
    (options.ping_interval, options.pong_timeout) = (SHORT, SHORT);
    let server = Server::start(&options, Script::new());
    let mut peer = connect(server.address(), authority.raw_client(&VERSIONS, None), "localhost");
    peer.upgrade(server.address());
    assert_eq!(peer.read_frame().opcode, support::PING);
    let ended = server.events.closed();
    assert!(ended.cause().contains("pong_timeout"), "{}", ended.cause());
}

#[test]
fn an_answer_of_a_plain_client_is_bounded_too() {
    // Nobody reads the answer: it is given up within the closing timeout.
    let authority = Authority::new("A");
    let mut options = authority.local().server();
    options.close_timeout = SHORT;
    let server = Server::start(&options, Script::new());
    let mut peer = RawPeer::connect(server.address());
    peer.write(b"GET / HTTP/1.1\r\n\r\n");
    let head = peer.read_head();
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    peer.read_to_end();
    // Its own side stays open; ours ends.
    eventually("the server has ended", || !peer.try_write(b"x"));
    assert_eq!(Options::default().close_timeout, Duration::from_secs(5));
}
