//! What compression must not do to a limit: bombs, malformed data, backlogs with contexts, and one peer's share of a turn.

#![cfg(feature = "deflate")]

mod support;

use std::net::TcpListener;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use flate2::{Compress, FlushCompress};
use support::deflate::{Deflate, RSV1, compressing, keeping, noise, open_with, words};
use support::{BINARY, CLOSE, CONTINUATION, Event, PING, RawPeer, Running, Script, Server, TEXT, frame};
use wsx_core::{BacklogPolicy, Error, FailureKind, Message, Options};

const MIB: usize = 1 << 20;

/// DEFLATE data of so many MiB of zeros: the same blocks again and again, each of which refers to nothing before it.
fn zeros(mebibytes: usize) -> Vec<u8> {
    let mut block = Vec::with_capacity(64 * 1024);
    let mut compress = Compress::new(flate2::Compression::best(), false);
    compress.compress_vec(&vec![0; MIB], &mut block, FlushCompress::Full).unwrap();
    assert!(block.len() < 2000);
    let mut all = block.repeat(mebibytes);
    all.truncate(all.len() - 4);
    all
}

/// Runs `test` against each role of ours: with a raw peer on the other end, and the events of our end.
fn in_both_roles(options: &Options, test: impl Fn(&mut RawPeer, &support::Events)) {
    let server = Server::start(options, Script::new());
    let (mut peer, answer) = open_with(server.address(), "permessage-deflate");
    assert!(answer.is_some());
    server.events.opened();
    test(&mut peer, &server.events);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let running = Running::idle();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let (_, events) = running.connect(&url, options, Script::new());
    let mut peer = RawPeer::accept(&listener);
    let head = peer.read_head();
    peer.answer_upgrade(&head, &format!("Sec-WebSocket-Extensions: {}\r\n", answer.unwrap()));
    events.opened();
    test(&mut peer, &events);
}

/// These frames are answered by a Close of this code, and told with the same.
fn violates(options: &Options, frames: &[(u8, Vec<u8>)], code: u16, why: &str) {
    in_both_roles(options, |peer, events| {
        for (first, payload) in frames {
            let bytes = frame(*first, payload, peer.masks.then_some(support::MASK));
            // It may have heard enough before the end.
            peer.try_write(&bytes);
        }
        let reason = peer.expect_close(code);
        assert!(reason.contains(why), "{reason}");
        peer.finish();
        let ended = events.closed();
        assert_eq!((ended.code, ended.was_clean), (code, false));
    });
}

const COMPRESSED: u8 = RSV1 << 4;

#[test]
fn hostile_26_a_bomb_in_one_frame_is_1009() {
    // 6 GiB of zeros: the header says that this is more than any message.
    let bomb = zeros(6 * 1024);
    assert!(bomb.len() > 5_000_000);
    violates(&compressing(), &[(0x80 | COMPRESSED | BINARY, bomb.clone())], 1009, "max_message (1048576)");
    // Where it could be one, what comes out tells.
    let mut options = compressing();
    options.max_message = 8 * MIB;
    violates(&options, &[(0x80 | COMPRESSED | BINARY, bomb)], 1009, "inflates to more than max_message (8388608)");
}

#[test]
fn hostile_26_a_bomb_spread_over_fragments_is_1009() {
    let bomb = zeros(6 * 1024);
    for deliver_fragments in [false, true] {
        let mut options = keeping();
        options.deliver_fragments = deliver_fragments;
        options.max_message = 4 * MIB;
        let fragments: Vec<(u8, Vec<u8>)> = bomb
            .chunks(1000)
            .enumerate()
            .map(|(index, part)| (if index == 0 { COMPRESSED | TEXT } else { CONTINUATION }, part.to_vec()))
            .collect();
        violates(&options, &fragments[..20], 1009, "inflates to more than max_message (4194304)");
    }
}

#[test]
fn hostile_26_blocks_that_end_their_streams_cost_what_they_are_and_no_room_each() {
    let server = Server::start(&compressing(), Script::new());
    let (mut peer, _) = open_with(server.address(), "permessage-deflate");
    // Two bytes are a block that says it is the last one. It took a minute and more while each made room anew.
    let mut payload = b"\x03\x00".repeat(600_000);
    payload.extend(b"\xf2\x48\xcd\xc9\xc9\x07\x00");
    peer.send_frame(0x80 | COMPRESSED | TEXT, &payload);
    assert_eq!(server.events.text(), "Hello");
}

#[test]
fn hostile_27_one_byte_more_than_the_limit_is_1009_and_the_limit_itself_is_a_message() {
    for (size, fits) in [(MIB, true), (MIB + 1, false)] {
        for payload in [vec![0; size], words(size).into_bytes(), noise(size)] {
            let compressed = Deflate::new(15, false, false).deflate(&payload);
            in_both_roles(&compressing(), |peer, events| {
                peer.send_frame(0x80 | COMPRESSED | BINARY, &compressed);
                if fits {
                    assert!(matches!(events.next(), Event::Binary(_, found) if found == payload));
                } else {
                    peer.expect_close(1009);
                }
            });
        }
    }
}

#[test]
fn hostile_28_reserved_bits_beyond_what_was_agreed_on_are_1002() {
    let whole = |first: u8| vec![(first, Vec::new())];
    for frames in [
        whole(0x80 | COMPRESSED | CONTINUATION),
        whole(0x80 | COMPRESSED | PING),
        whole(0x80 | COMPRESSED | CLOSE),
        whole(0xa0 | TEXT),
        whole(0x90 | TEXT),
        whole(0xe0 | TEXT),
        vec![(TEXT, b"a".to_vec()), (0x80 | COMPRESSED | CONTINUATION, b"b".to_vec())],
        vec![(COMPRESSED | TEXT, b"\xf2".to_vec()), (0x80 | COMPRESSED | CONTINUATION, b"\x48".to_vec())],
    ] {
        violates(&compressing(), &frames, 1002, "set in a frame");
    }
}

#[test]
fn hostile_29_malformed_data_is_1007_and_what_is_odd_but_legal_is_a_message() {
    let cut = Deflate::new(15, false, false).deflate(words(5000).as_bytes());
    let bad_text = Deflate::new(15, false, false).deflate(b"\xc3\x28");
    for (payload, why) in [
        (b"\xff\xff".to_vec(), "DEFLATE"),
        (cut[..cut.len() / 2].to_vec(), "DEFLATE"),
        (cut[..cut.len() - 1].to_vec(), "DEFLATE"),
        (bad_text, "UTF-8"),
    ] {
        violates(&compressing(), &[(0x80 | COMPRESSED | TEXT, payload)], 1007, why);
    }
    for options in [compressing(), keeping()] {
        in_both_roles(&options, |peer, events| {
            peer.send_frame(0x80 | COMPRESSED | TEXT, b"");
            assert_eq!(events.text(), "");
            peer.send_frame(0x80 | COMPRESSED | TEXT, b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00");
            assert_eq!(events.text(), "Hello");
            peer.send_frame(0x80 | COMPRESSED | TEXT, b"\xf2\x48\xcd\xc9\xc9\x07\x00");
            assert_eq!(events.text(), "Hello");
        });
    }
}

/// The n-th message: its number, then what compresses to about half, and not by what was sent before.
fn message(number: u32) -> Vec<u8> {
    let mut payload = number.to_be_bytes().to_vec();
    let mut state = number.wrapping_mul(2_654_435_761) | 1;
    let letters = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        b'a' + (state >> 8) as u8 % 16
    });
    payload.extend(letters.take(40_000));
    payload
}

const LIMIT: usize = 100_000;
/// More than the kernel takes for a peer that does not read.
const MANY: u32 = 1000;

fn opened_narrow(server: &Server) -> (RawPeer, wsx_core::Connection) {
    let mut peer = RawPeer::connect_narrow(server.address());
    let head = support::upgrade(&server.address().to_string(), "/", "Sec-WebSocket-Extensions: permessage-deflate\r\n");
    peer.write(head.as_bytes());
    assert!(support::deflate::extensions(&peer.expect_upgrade()).is_some());
    (peer, server.events.opened())
}

#[test]
fn a_message_that_the_backlog_refuses_or_drops_is_no_part_of_the_context() {
    for policy in [BacklogPolicy::Refuse, BacklogPolicy::Drop] {
        for mut options in [compressing(), keeping()] {
            options.backlog_limit = LIMIT;
            options.backlog_policy = policy;
            options.compression.as_mut().unwrap().level = 1;
            let keeps = !options.compression.as_ref().unwrap().server_no_context_takeover;
            let server = Server::start(&options, Script::new());
            let (mut peer, connection) = opened_narrow(&server);
            // Broadcasts and messages of its own in turns, until some were lost; what is taken then comes later.
            let listener = server.listener;
            let (sent, backlog) = server.on_loop(move || {
                let mut refused = 0;
                for number in 0..MANY {
                    let taken = match number % 2 {
                        0 => connection.send(&message(number)),
                        _ => listener.broadcast(&message(number), None),
                    };
                    match taken {
                        Err(Error::BacklogFull { .. }) => refused += 1,
                        taken => taken.unwrap(),
                    }
                    let backlog = connection.buffered_amount().unwrap();
                    if refused > 3 || (number > 300 && policy == BacklogPolicy::Drop) {
                        return (number, backlog);
                    }
                }
                panic!("nothing was refused");
            });
            assert!(backlog <= LIMIT + 41_000, "{backlog} bytes wait");
            let mut deflate = Deflate::new(15, false, keeps);
            let mut numbers: Vec<u32> = Vec::new();
            let mut next = |peer: &mut RawPeer| {
                let (payload, is_compressed) = deflate.payload(peer.read_frame());
                let number = u32::from_be_bytes(*payload.first_chunk().unwrap());
                assert!(is_compressed && payload == message(number));
                assert!(numbers.last().is_none_or(|last| *last < number), "{numbers:?}, then {number}");
                numbers.push(number);
                number
            };
            // It reads until all is drained; then something more is sent.
            let drained = std::thread::scope(|scope| {
                let reader = scope.spawn(|| while next(&mut peer) != u32::MAX {});
                server.events.drain();
                connection.send(&message(u32::MAX)).unwrap();
                reader.join()
            });
            assert!(drained.is_ok());
            assert!((numbers.len() as u32) < sent, "something was lost");
            peer.send_close(Some(1000), "");
            assert!(server.events.closed().lost_messages > 0 || policy == BacklogPolicy::Refuse);
        }
    }
}

#[test]
fn a_backlog_of_compressed_messages_closes_with_whole_frames() {
    for mut options in [compressing(), keeping()] {
        options.backlog_limit = LIMIT;
        let keeps = !options.compression.as_ref().unwrap().server_no_context_takeover;
        let server = Server::start(&options, Script::new());
        let (mut peer, connection) = opened_narrow(&server);
        let taken = server.on_loop(move || (0..MANY).take_while(|n| connection.send(&message(*n)).is_ok()).count());
        assert!(taken < MANY as usize);
        let mut deflate = Deflate::new(15, false, keeps);
        let mut count = 0;
        loop {
            let frame = peer.read_frame();
            if frame.opcode == CLOSE {
                assert_eq!((frame.rsv, frame.close().0), (0, Some(1013)));
                break;
            }
            assert!(deflate.payload(frame).0 == message(count));
            count += 1;
        }
        peer.finish();
        let ended = server.events.closed();
        assert_eq!((ended.code, ended.failure.unwrap().kind), (1013, FailureKind::Limit));
        assert_eq!(count + ended.lost_messages, taken as u32);
    }
}

#[test]
fn what_one_peer_sends_compressed_does_not_hold_up_the_others() {
    let server = Server::start(&compressing(), Script::new());
    let (mut greedy, _) = open_with(server.address(), "permessage-deflate");
    let (mut modest, _) = open_with(server.address(), "permessage-deflate");
    let one = frame(0x80 | COMPRESSED | BINARY, &zeros(1), Some(support::MASK));
    // All of it is there when the loop looks, the greedy one's first.
    server.meanwhile(|| {
        greedy.write(&one.repeat(100));
        modest.send_text("me too");
    });
    let mut before = 0;
    server.events.find(|event| match event {
        Event::Binary(_, payload) => {
            assert_eq!(payload.len(), MIB);
            before += 1;
            None
        }
        Event::Text(_, text) => (text == "me too").then_some(()),
        _ => None,
    });
    assert!(before < 20, "{before} messages came first");
    for _ in before..100 {
        server.events.find(|event| matches!(event, Event::Binary(..)).then_some(()));
    }
    greedy.send_text("still in order");
    assert_eq!(server.events.text(), "still in order");
}

#[test]
fn what_was_left_for_a_later_turn_is_lost_with_its_connection_only() {
    let server = Server::start(&compressing(), Script::new().on_message(|connection, _| drop(connection.terminate())));
    let (mut greedy, _) = open_with(server.address(), "permessage-deflate");
    let one = frame(0x80 | COMPRESSED | BINARY, &zeros(1), Some(support::MASK));
    greedy.write(&one.repeat(50));
    assert_eq!(server.events.closed().code, 1006);
    let (mut other, _) = server.open();
    other.send_text("here");
    assert_eq!(server.events.text(), "here");
}

#[test]
fn heartbeats_pings_and_closes_are_never_compressed() {
    let mut options = compressing();
    options.compression.as_mut().unwrap().threshold = 0;
    options.ping_interval = Duration::from_millis(20);
    let server = Server::start(&options, Script::new().on_open(|connection| connection.ping(&[b'a'; 125]).unwrap()));
    let (mut peer, _) = open_with(server.address(), "permessage-deflate");
    let ping = peer.read_frame();
    assert_eq!((ping.opcode, ping.rsv, ping.payload), (PING, 0, vec![b'a'; 125]));
    let heartbeat = peer.read_frame();
    assert_eq!((heartbeat.opcode, heartbeat.rsv), (PING, 0));
    let connection = server.events.opened();
    connection.close(1000, &"x".repeat(120)).unwrap();
    loop {
        let frame = peer.read_frame();
        assert_eq!(frame.rsv, 0);
        if frame.opcode == CLOSE {
            break;
        }
    }
}

#[test]
fn what_one_peer_sends_compressed_after_our_close_does_not_hold_up_the_others() {
    let closed = Arc::new(OnceLock::new());
    // The first message is answered by a Close; the other peer's message ends what has not been answered by then.
    let script = Script::new().on_message(move |connection, message| match message {
        Message::Binary(_) => closed.set(connection).map(|()| connection.close(1000, "").unwrap()).unwrap(),
        Message::Text(_) => closed.get().unwrap().terminate().unwrap(),
    });
    let server = Server::start(&compressing(), script);
    let (mut greedy, _) = open_with(server.address(), "permessage-deflate");
    let (mut modest, _) = open_with(server.address(), "permessage-deflate");
    let mut bytes = frame(0x80 | COMPRESSED | BINARY, &zeros(1), Some(support::MASK)).repeat(30);
    bytes.extend(frame(0x80 | CLOSE, &1000_u16.to_be_bytes(), Some(support::MASK)));
    // All of it is there when the loop looks, the greedy one's first.
    server.meanwhile(|| {
        greedy.write(&bytes);
        modest.send_text("me too");
    });
    assert_eq!(server.events.find(|event| if let Event::Text(_, text) = event { Some(text) } else { None }), "me too");
    let ended = server.events.closed();
    assert_eq!(ended.code, 1006, "all that came before the answer was looked at in one turn: {ended:?}");
}

#[test]
fn a_peer_is_not_silent_while_what_it_sent_waits_to_be_inflated() {
    let mut options = compressing();
    options.ping_interval = Duration::from_millis(500);
    options.pong_timeout = Duration::from_millis(300);
    let script = Script::new().on_message(|_, _| std::thread::sleep(Duration::from_millis(40)));
    let server = Server::start(&options, script);
    let (mut peer, _) = open_with(server.address(), "permessage-deflate");
    // The work of many turns, which together take longer than a ping and its pong may.
    let mut bytes = frame(0x80 | COMPRESSED | BINARY, &zeros(1), Some(support::MASK)).repeat(50);
    bytes.extend(frame(0x80 | TEXT, b"the last", Some(support::MASK)));
    server.meanwhile(|| peer.write(&bytes));
    let last = server.events.find(|event| match event {
        Event::Text(_, text) => Some(text),
        Event::Closed(_, ended) => panic!("closed: {ended:?}"),
        _ => None,
    });
    assert_eq!(last, "the last");
}
