//! permessage-deflate (RFC 7692) over real sockets: what is agreed on, and messages of both directions in both roles.

#![cfg(feature = "deflate")]

mod support;

use std::net::TcpListener;

use support::deflate::{Deflate, RSV1, compressing, extensions, keeping, noise, open_with, words};
use support::{BINARY, CONTINUATION, Event, Events, PING, PONG, RawPeer, Running, Script, Server, TEXT, frame};
use wsx_core::{Compression, Connection, Error, Failure, FailureKind, LoopOptions, Options, Stage};

fn with(change: impl FnOnce(&mut Compression)) -> Options {
    let mut options = compressing();
    change(options.compression.as_mut().unwrap());
    options
}

/// Tells what was agreed on as soon as it is open.
fn telling() -> Script {
    Script::echo().on_open(|connection| {
        let _ = connection.send(&connection.extensions().unwrap());
    })
}

/// A message of any kind.
#[track_caller]
fn message(events: &Events) -> (bool, Vec<u8>) {
    events.find(|event| match event {
        Event::Text(_, text) => Some((true, text.into_bytes())),
        Event::Binary(_, bytes) => Some((false, bytes)),
        Event::Closed(_, ended) => panic!("closed: {ended:?}"),
        _ => None,
    })
}

const BOTH: &str = "; server_no_context_takeover; client_no_context_takeover";

#[test]
fn a_server_answers_an_offer_and_tells_what_was_agreed() {
    let server = Server::start(&with(|compression| compression.server_max_window_bits = 11), telling());
    for (offer, expected) in [
        ("permessage-deflate", Some(format!("permessage-deflate{BOTH}; server_max_window_bits=11"))),
        ("permessage-deflate; client_max_window_bits=9", {
            Some(format!("permessage-deflate{BOTH}; server_max_window_bits=11; client_max_window_bits=9"))
        }),
        ("permessage-deflate; server_max_window_bits=8", None),
        ("x; y=\",permessage-deflate,\"", None),
        ("permessage-deflate;", None),
        ("constructor", None),
    ] {
        let (mut peer, answer) = open_with(server.address(), offer);
        assert_eq!(answer, expected, "{offer}");
        assert_eq!(peer.read_frame().text(), expected.unwrap_or_default());
        peer.send_text("still here");
        peer.expect_text("still here");
    }
    // What it compresses nothing for it takes nothing from.
    let (mut plain, _) = server.open();
    assert_eq!(plain.read_frame().text(), "");
    plain.send_frame(0x80 | RSV1 << 4 | TEXT, b"\x00");
    plain.expect_close(1002);
}

#[test]
fn without_the_option_nothing_is_answered_and_nothing_offered() {
    let server = Server::start(&Options::default(), telling());
    let (mut peer, answer) = open_with(server.address(), "permessage-deflate");
    assert_eq!(answer, None);
    peer.expect_text("");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let running = Running::idle();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let (_, _events) = running.connect(&url, &Options::default(), Script::new());
    let (_peer, head) = RawPeer::accept_upgrade(&listener);
    assert_eq!(extensions(&head), None);
}

/// A client whose server gave this answer, and what the client offered.
fn answered(options: &Options, answer: &str) -> (Running, Events, RawPeer, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let running = Running::idle();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let (_, events) = running.connect(&url, options, telling());
    let mut peer = RawPeer::accept(&listener);
    let head = peer.read_head();
    let line = if answer.is_empty() { String::new() } else { format!("Sec-WebSocket-Extensions: {answer}\r\n") };
    peer.answer_upgrade(&head, &line);
    (running, events, peer, extensions(&head).expect("nothing was offered"))
}

#[test]
fn a_client_offers_and_takes_the_answer() {
    let (_running, _events, mut peer, offer) = answered(&compressing(), &format!("permessage-deflate{BOTH}"));
    assert_eq!(offer, format!("permessage-deflate{BOTH}; client_max_window_bits"));
    peer.expect_text(&format!("permessage-deflate{BOTH}"));
    let (_running, _events, mut peer, offer) = answered(&keeping(), "");
    assert_eq!(offer, "permessage-deflate; client_max_window_bits");
    peer.expect_text("");
}

#[test]
fn hostile_7_a_client_fails_where_the_answer_is_not_what_it_offered() {
    for answer in [
        "permessage-deflate",
        "constructor",
        "permessage-deflate; server_no_context_takeover; unknown",
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=16",
        "permessage-deflate; server_no_context_takeover; client_max_window_bits",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; server_no_context_takeover, permessage-deflate; server_no_context_takeover",
        "permessage-deflate; server_no_context_takeover; \"",
    ] {
        let (_running, events, _peer, _) = answered(&compressing(), answer);
        let ended = events.closed();
        let Some(Failure { stage, kind, .. }) = ended.failure else { panic!("{answer}: {ended:?}") };
        assert_eq!((stage, kind, ended.code), (Stage::Http, FailureKind::Protocol, 1006), "{answer}");
    }
}

#[test]
fn options_that_cannot_be_are_refused_by_both_roles() {
    let running = Running::idle();
    let handle = running.handle.clone();
    running.on_loop(move || {
        for options in [with(|compression| compression.level = 0), with(|c| c.client_max_window_bits = 8)] {
            let listened = handle.listen("127.0.0.1:0", &options, support::Recorder::new(Script::new()).0);
            assert!(matches!(listened, Err(Error::InvalidArgument(_))));
            let connected = handle.connect("ws://127.0.0.1:1", &options, support::Recorder::new(Script::new()).0);
            assert!(matches!(connected, Err(Error::InvalidArgument(_))));
        }
    });
}

#[test]
fn messages_of_every_size_come_back_whatever_was_agreed() {
    let small = |compression: &mut Compression| {
        compression.server_max_window_bits = 9;
        compression.client_max_window_bits = 9;
        compression.threshold = 0;
        compression.level = 1;
    };
    let one_sided = |compression: &mut Compression| compression.client_no_context_takeover = false;
    for mut options in [compressing(), keeping(), with(small), with(one_sided)] {
        options.max_message = 0;
        let server = Server::start(&options, Script::echo());
        let (client, events) = server.connect(&format!("ws://{}", server.address()), &options, Script::new());
        events.opened();
        let told = server.on_loop(move || client.extensions().unwrap());
        assert!(told.starts_with("permessage-deflate"), "{told}");
        // Without optimisation zlib takes its time: one set of options is enough for the largest.
        let largest = if options.compression == Some(Compression::default()) { 5 << 20 } else { 200_000 };
        let sizes = [0, 1, 2, 125, 1023, 1024, 1025, 16_383, 16_384, 65_535, 65_536, 1 << 20, 5 << 20];
        for size in sizes.into_iter().filter(|size| *size <= largest) {
            let (text, bytes) = (words(size), noise(size));
            client.send(&text).unwrap();
            client.send(&bytes).unwrap();
            let (is_text, payload) = message(&events);
            assert!(is_text && payload == text.as_bytes(), "{size} bytes of text, {options:?}");
            let (is_text, payload) = message(&events);
            assert!(!is_text && payload == bytes, "{size} bytes of noise, {options:?}");
        }
    }
}

/// Sends texts to an echo server as a raw client that keeps what it offers; tells of each answer whether it was compressed.
fn echo(peer: &mut RawPeer, deflate: &mut Deflate, payloads: &[Vec<u8>]) -> Vec<bool> {
    let all = payloads.iter().flat_map(|payload| {
        let compressed = deflate.deflate(payload);
        frame(0x80 | RSV1 << 4 | BINARY, &compressed, Some(support::MASK))
    });
    let all: Vec<u8> = all.collect();
    peer.write(&all);
    let answers = payloads.iter().map(|payload| {
        let (answer, is_compressed) = deflate.payload(peer.read_frame());
        assert!(answer == *payload, "{} bytes came back as {}", payload.len(), answer.len());
        is_compressed
    });
    answers.collect()
}

#[test]
fn a_server_compresses_from_the_threshold_on_what_becomes_smaller() {
    let server = Server::start(&compressing(), Script::echo());
    let (mut peer, _) = open_with(server.address(), "permessage-deflate");
    let payloads = [words(1023), words(1024), words(100_000), words(10)].map(String::into_bytes);
    let payloads = [&payloads[..], &[noise(1024), noise(50_000), Vec::new()]].concat();
    let compressed = echo(&mut peer, &mut Deflate::new(15, false, false), &payloads);
    assert_eq!(compressed, [false, true, true, false, false, false, false]);
}

#[test]
fn contexts_are_kept_in_either_direction_as_agreed() {
    let payloads: Vec<Vec<u8>> = (0..50).map(|n| format!("{n}{}", words(1100)).into_bytes()).collect();
    for (offer, server_keeps, client_keeps) in [
        ("permessage-deflate", true, true),
        ("permessage-deflate; server_no_context_takeover", false, true),
        ("permessage-deflate; client_no_context_takeover", true, false),
        ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", false, false),
        ("permessage-deflate; server_max_window_bits=9; client_max_window_bits=9", true, true),
    ] {
        let server = Server::start(&keeping(), Script::echo());
        let (mut peer, answer) = open_with(server.address(), offer);
        assert_eq!(answer.as_deref(), Some(offer));
        let bits = if offer.contains("=9") { 9 } else { 15 };
        let mut deflate = Deflate::new(bits, client_keeps, server_keeps);
        assert!(echo(&mut peer, &mut deflate, &payloads).into_iter().all(|is_compressed| is_compressed));
        // Noise, small ones and one that comes through a closed and opened stream do not disturb it.
        let others = [noise(5000), words(3).into_bytes(), words(300_000).into_bytes(), words(2000).into_bytes()];
        let compressed = echo(&mut peer, &mut deflate, &others);
        assert_eq!(compressed, [server_keeps, false, true, true], "{offer}");
    }
}

#[test]
fn a_kept_context_makes_later_messages_small() {
    let server = Server::start(&keeping(), Script::echo());
    let (mut peer, _) = open_with(server.address(), "permessage-deflate");
    let payload = noise(2000);
    for (first, last) in [(1900, 3000), (5, 60)] {
        peer.send(BINARY, &payload);
        let frame = peer.read_frame();
        assert_eq!(frame.rsv, RSV1);
        assert!((first..last).contains(&frame.payload.len()), "{} bytes", frame.payload.len());
    }
}

#[test]
fn a_client_compresses_as_agreed_and_not_at_all_for_a_window_of_256_bytes() {
    let answer = "permessage-deflate; client_max_window_bits=9";
    let (_running, events, mut peer, _) = answered(&keeping(), answer);
    assert_eq!(peer.read_frame().text(), answer);
    let mut deflate = Deflate::new(15, true, true);
    for size in [2000, 50_000, 1500] {
        let payload = words(size);
        peer.send_frame(0x80 | RSV1 << 4 | TEXT, &deflate.deflate(payload.as_bytes()));
        assert_eq!(events.text(), payload);
        let frame = peer.read_frame();
        assert!(frame.masked && frame.rsv == RSV1);
        assert!(deflate.inflate(&frame.payload) == payload.as_bytes());
    }
    let (_running, events, mut peer, _) = answered(&keeping(), "permessage-deflate; client_max_window_bits=8");
    peer.read_frame();
    let payload = words(5000);
    peer.send_frame(0x80 | RSV1 << 4 | TEXT, &Deflate::new(15, true, true).deflate(payload.as_bytes()));
    assert_eq!(events.text(), payload);
    let frame = peer.read_frame();
    assert_eq!((frame.rsv, frame.text()), (0, payload));
}

#[test]
fn fragments_with_pings_between_them_are_one_message() {
    let server = Server::start(&compressing(), Script::new());
    let (mut peer, _) = open_with(server.address(), "permessage-deflate");
    let payload = words(200_000);
    let compressed = Deflate::new(15, false, false).deflate(payload.as_bytes());
    for (index, part) in compressed.chunks(999).enumerate() {
        peer.send_frame(if index == 0 { RSV1 << 4 | TEXT } else { CONTINUATION }, part);
        peer.send(PING, &[index as u8]);
    }
    peer.send(CONTINUATION, b"");
    assert_eq!(server.events.text(), payload);
    let pong = peer.read_frame();
    assert_eq!((pong.opcode, pong.rsv, pong.payload), (PONG, 0, vec![0]));
}

#[test]
fn fragments_are_delivered_inflated() {
    let mut options = compressing();
    options.deliver_fragments = true;
    let server = Server::start(&options, Script::new());
    let (mut peer, _) = open_with(server.address(), "permessage-deflate");
    let payload = words(100_000);
    let compressed = Deflate::new(15, false, false).deflate(payload.as_bytes());
    let parts: Vec<&[u8]> = compressed.chunks(compressed.len().div_ceil(3)).collect();
    for (index, part) in parts.iter().enumerate() {
        let fin = if index + 1 == parts.len() { 0x80 } else { 0 };
        peer.send_frame(fin | if index == 0 { RSV1 << 4 | TEXT } else { CONTINUATION }, part);
    }
    let mut collected = Vec::new();
    for index in 0..parts.len() {
        let (part, is_first, is_last) = server.events.find(|event| match event {
            Event::Fragment(_, part, true, is_first, is_last) => Some((part, is_first, is_last)),
            _ => None,
        });
        assert_eq!((is_first, is_last), (index == 0, index + 1 == parts.len()));
        assert!(!part.is_empty());
        collected.extend(part);
    }
    assert!(collected == payload.as_bytes());
}

#[test]
fn reads_may_be_cut_at_every_byte() {
    let server = Server::start(&keeping(), Script::new());
    let (mut peer, _) = open_with(server.address(), "permessage-deflate");
    let mut deflate = Deflate::new(15, true, true);
    let payload = words(300);
    let mut cut = 0;
    loop {
        let bytes = frame(0x80 | RSV1 << 4 | TEXT, &deflate.deflate(payload.as_bytes()), Some(support::MASK));
        let (begin, end) = bytes.split_at(cut.min(bytes.len()));
        peer.write(begin);
        // The loop has turned, and read what was there.
        server.on_loop(|| ());
        peer.write(end);
        assert_eq!(server.events.text(), payload);
        if cut >= bytes.len() {
            break;
        }
        cut += 1;
    }
}

/// The next messages of a raw peer.
fn read_all(peer: &mut RawPeer, deflate: &mut Deflate, count: usize) -> Vec<(Vec<u8>, bool)> {
    (0..count).map(|_| deflate.payload(peer.read_frame())).collect()
}

#[test]
fn a_broadcast_reaches_everybody_in_the_way_that_each_agreed_on_and_in_order() {
    for threads in [1, 2] {
        let mut loop_options = LoopOptions::default();
        loop_options.threads = threads;
        let server = Shared::start(&loop_options);
        let mut peers = Vec::new();
        for offer in ["", "permessage-deflate", "permessage-deflate; server_max_window_bits=9"] {
            let keeping = "permessage-deflate; server_max_window_bits=10";
            for offer in [offer, offer, if offer.is_empty() { offer } else { keeping }] {
                // Only the listener that keeps contexts does so.
                let keeps = offer == keeping;
                let address = if keeps { server.keeping } else { server.forgetting };
                let (peer, answer) = open_with(address, offer);
                assert_eq!(answer.is_none(), offer.is_empty());
                peers.push((peer, Deflate::new(15, false, keeps), offer));
            }
        }
        support::eventually("all are open", || server.running.connection_count() == peers.len());
        let handle = server.running.handle.clone();
        let sent: Vec<Vec<u8>> = (0..20)
            .map(|n| match n % 4 {
                0 => format!("small {n}").into_bytes(),
                1 => format!("{n} {}", words(3000)).into_bytes(),
                2 => noise(2000 + n),
                _ => format!("{n} {}", words(40_000)).into_bytes(),
            })
            .collect();
        let messages = sent.clone();
        server.running.on_loop(move || {
            for (index, payload) in messages.iter().enumerate() {
                handle.broadcast(payload, None).unwrap();
                if index == 9 {
                    // Something overtakes: the batch is given to the outboxes.
                    for connection in handle.connections().unwrap() {
                        connection.send(&words(1500)).unwrap();
                    }
                }
            }
        });
        for (peer, deflate, offer) in &mut peers {
            let mut found = Vec::new();
            for _ in 0..sent.len() {
                let (payload, is_compressed) = deflate.payload(peer.read_frame());
                if payload != words(1500).into_bytes() {
                    found.push((payload, is_compressed));
                }
            }
            let missing = sent.len() - found.len();
            found.extend(read_all(peer, deflate, missing));
            for (index, ((payload, is_compressed), sent)) in found.iter().zip(&sent).enumerate() {
                assert!(payload == sent, "message {index} of {offer:?} on {threads} threads");
                let compresses = !offer.is_empty() && index % 2 == 1;
                assert!(*is_compressed == compresses || index % 4 == 2, "message {index} of {offer:?}");
            }
        }
    }
}

/// Two listeners with compression: one keeps contexts, one does not.
struct Shared {
    running: Running,
    keeping: std::net::SocketAddr,
    forgetting: std::net::SocketAddr,
}

#[derive(Clone)]
struct Silent;

impl wsx_core::Handler for Silent {
    fn for_another_thread(&self) -> Option<Box<dyn wsx_core::Handler>> {
        Some(Box::new(self.clone()))
    }
}

impl Shared {
    fn start(options: &LoopOptions) -> Self {
        let listen = |handle: &wsx_core::Handle, options: &Options| {
            let listener = handle.listen("127.0.0.1:0", options, Silent).unwrap();
            match listener.local_address().unwrap() {
                wsx_core::Address::Tcp(address) => address,
                other => panic!("{other}"),
            }
        };
        let (running, (keeping, forgetting)) =
            Running::start(options, move |handle| (listen(handle, &keeping()), listen(handle, &compressing())));
        Self { running, keeping, forgetting }
    }
}

#[test]
fn small_and_large_messages_of_one_callback_keep_their_order() {
    for options in [compressing(), keeping()] {
        let server = Server::start(
            &options,
            Script::new().on_message(|connection, _| {
                for index in 0..40 {
                    let text = format!("{index} {}", if index % 3 == 0 { words(5000) } else { String::new() });
                    connection.send(&text).unwrap();
                    if index % 10 == 5 {
                        connection.ping(&[index]).unwrap();
                    }
                }
            }),
        );
        let (mut peer, answer) = open_with(server.address(), "permessage-deflate");
        let mut deflate = Deflate::new(15, false, !answer.unwrap().contains("server_no"));
        peer.send_text("go");
        for index in 0..40 {
            let (payload, is_compressed) = deflate.payload(peer.read_frame());
            assert!(String::from_utf8(payload).unwrap().starts_with(&format!("{index} ")));
            assert_eq!(is_compressed, index % 3 == 0);
            if index % 10 == 5 {
                assert_eq!(peer.read_frame().opcode, PING);
            }
        }
    }
}

#[test]
fn what_was_agreed_on_is_still_told_inside_on_close() {
    let (sender, told) = std::sync::mpsc::channel();
    let script = Script::new().on_close(move |connection: Connection, _| {
        sender.send(connection.extensions().unwrap()).unwrap();
    });
    let server = Server::start(&compressing(), script);
    let (mut peer, answer) = open_with(server.address(), "permessage-deflate");
    peer.send_close(Some(1000), "");
    let close = peer.read_frame();
    assert_eq!(close.rsv, 0);
    assert_eq!(told.recv_timeout(support::DEADLINE).unwrap(), answer.unwrap());
    let gone = server.events.opened();
    support::eventually("the number is stale", || {
        matches!(server.on_loop(move || gone.extensions()), Err(Error::Closed))
    });
    assert!(matches!(gone.extensions(), Err(Error::Closed | Error::WrongThread)));
}
