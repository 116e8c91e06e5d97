//! A client's answers, which are gathered as a server's are, and masked where they are gathered.

mod support;

use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use support::{
    BINARY, CONTINUATION, Events, FIN, PING, PONG, RawPeer, Running, Script, Server, TEXT, eventually, frame,
};
use wsx_core::{BacklogPolicy, Compression, Connection, Message, MessageKind, Options, Side};

/// A raw server with one client.
fn open(options: &Options, script: Script) -> (Running, RawPeer, Connection, Events) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let running = Running::idle();
    let (connection, events) = running.connect(&format!("ws://{}/", listener.local_addr().unwrap()), options, script);
    let (peer, _) = RawPeer::accept_upgrade(&listener);
    events.opened();
    (running, peer, connection, events)
}

#[test]
fn every_frame_has_a_masking_key_of_its_own() {
    const COUNT: usize = 2000;
    let (running, mut peer, ..) = open(&Options::default(), Script::echo());
    let sent = frame(FIN | BINARY, &[7; 60], None).repeat(COUNT / 2);
    let mut keys = HashSet::new();
    for _ in 0..2 {
        running.meanwhile(|| peer.write(&sent));
        for _ in 0..COUNT / 2 {
            let bytes = peer.read_bytes(2 + 4 + 60);
            assert_eq!(bytes[..2], [FIN | BINARY, 0x80 | 60]);
            let (key, payload) = bytes[2..].split_at(4);
            assert!(payload.iter().zip(key.iter().cycle()).all(|(byte, key)| byte ^ key == 7), "{bytes:x?}");
            keys.insert(key.to_vec());
        }
    }
    // Of 2,000 numbers of 32 bits two are the same once in 2,000 runs; three pairs never are.
    assert!(keys.len() > COUNT - 3, "{} keys of {COUNT} frames", keys.len());
}

#[test]
fn messages_of_every_length_come_back_as_they_were() {
    let (running, mut peer, ..) = open(&Options::default(), Script::echo());
    let sizes = [0, 1, 3, 17, 125, 126, 127, 1000, 20_000, 65_535, 65_536, 5];
    let payloads = sizes.map(|size| (0..size).map(|n| b'a' + (n % 23) as u8).collect::<Vec<u8>>());
    for opcode in [TEXT, BINARY] {
        let sent: Vec<u8> = payloads.iter().flat_map(|payload| frame(FIN | opcode, payload, None)).collect();
        running.meanwhile(|| peer.write(&sent));
        for payload in &payloads {
            let found = peer.read_frame();
            assert_eq!((found.fin, found.rsv, found.opcode, found.masked), (true, 0, opcode, true));
            assert!(found.payload == *payload, "{} bytes came for {}", found.payload.len(), payload.len());
        }
    }
}

#[test]
fn all_that_a_callback_sends_leaves_in_the_order_of_its_calls() {
    let script = Script::new().on_message(|connection, message| {
        connection.send(message).unwrap();
        connection.ping(b"are you there").unwrap();
        connection.send("behind a ping").unwrap();
        connection.send_owned(vec![7; 30_000]).unwrap();
        connection.send("behind a large one").unwrap();
        connection.send_fragment(MessageKind::Text, b"in ", false).unwrap();
        connection.send("between fragments").unwrap_err();
        connection.send_fragment(MessageKind::Text, b"parts", true).unwrap();
        connection.send("the last").unwrap();
    });
    let (running, mut peer, ..) = open(&Options::default(), script);
    // A pong in the middle takes the long way.
    let sent = [frame(FIN | TEXT, b"first", None), frame(FIN | PONG, b"", None), frame(FIN | TEXT, b"second", None)];
    running.meanwhile(|| peer.write(&sent.concat()));
    for message in ["first", "second"] {
        peer.expect_text(message);
        peer.expect_frame(FIN | PING, b"are you there");
        peer.expect_text("behind a ping");
        peer.expect_frame(FIN | BINARY, &[7; 30_000]);
        peer.expect_text("behind a large one");
        peer.expect_frame(TEXT, b"in ");
        peer.expect_frame(FIN | CONTINUATION, b"parts");
        peer.expect_text("the last");
    }
}

#[test]
fn what_is_wrong_ends_the_connection_behind_the_answers_to_what_was_right() {
    let wrong = [
        (frame(FIN | TEXT, b"\xff", None), 1007),
        (frame(FIN | TEXT, &[0xff; 150], None), 1007),
        (frame(FIN | BINARY, &[7; 201], None), 1009),
        (frame(FIN | BINARY, &[7; 20], Some([1, 2, 3, 4])), 1002),
        (frame(FIN | 0x40 | BINARY, &[7; 20], None), 1002),
    ];
    let mut options = Options::default();
    options.max_message = 200;
    for (bytes, code) in wrong {
        let (running, mut peer, connection, events) = open(&options, Script::echo());
        let sent = [frame(FIN | TEXT, b"right", None), frame(FIN | TEXT, &[b'a'; 200], None), bytes].concat();
        running.meanwhile(|| peer.write(&sent));
        peer.expect_text("right");
        peer.expect_frame(FIN | TEXT, &[b'a'; 200]);
        peer.expect_close(code);
        drop(peer);
        let ended = events.closed_of(connection);
        assert_eq!((ended.code, ended.by), (code, Side::Us), "{ended:?}");
    }
}

#[test]
fn a_close_or_a_pause_in_a_callback_holds_what_is_behind() {
    let script = Script::new().on_message(|connection, message| {
        connection.send(message).unwrap();
        match message {
            Message::Text("pause") => connection.pause().unwrap(),
            Message::Text("close") => connection.close(1000, "enough").unwrap(),
            _ => {}
        }
    });
    let (running, mut peer, connection, events) = open(&Options::default(), script);
    let texts = ["one", "pause", "two", "close", "three"];
    let sent: Vec<u8> = texts.iter().flat_map(|text| frame(FIN | TEXT, text.as_bytes(), None)).collect();
    running.meanwhile(|| peer.write(&sent));
    peer.expect_text("one");
    peer.expect_text("pause");
    // Nothing more: it is still paused when the loop has answered this.
    assert_eq!(running.on_loop(move || connection.buffered_amount().unwrap()), 0);
    peer.stream.set_nonblocking(true).unwrap();
    assert!(peer.stream.peek(&mut [0]).is_err());
    peer.stream.set_nonblocking(false).unwrap();
    connection.resume().unwrap();
    peer.expect_text("two");
    peer.expect_text("close");
    assert_eq!(peer.expect_close(1000), "enough");
    peer.send_close(Some(1000), "");
    drop(peer);
    assert!(events.closed_of(connection).was_clean);
}

#[test]
fn answers_stay_within_the_backlog_limit_of_a_client() {
    const LIMIT: usize = 100_000;
    let mut options = Options::default();
    (options.backlog_limit, options.backlog_policy) = (LIMIT, BacklogPolicy::Refuse);
    let script = Script::new().quiet().on_message(|connection, _| drop(connection.send(Message::Binary(&[7; 1000]))));
    let (running, mut peer, connection, _) = open(&options, script);
    // Nobody reads, until the kernel takes no more and the answers wait.
    let sent = frame(FIN | TEXT, b"answer", None).repeat(500);
    let mut waiting = 0;
    eventually("answers wait", || {
        running.meanwhile(|| peer.write(&sent));
        // In a turn of its own: the one that answered has been written by then.
        running.on_loop(|| ());
        waiting = running.on_loop(move || connection.buffered_amount().unwrap());
        waiting > LIMIT / 2
    });
    assert!(waiting <= LIMIT, "{waiting} bytes wait, backlog_limit is {LIMIT}");
}

/// One loop, and so one place to gather in: what a client gathers is masked, and what a server does is not, though their
/// messages take turns and compression sends some of them another way.
#[test]
fn a_client_and_a_server_of_one_loop_take_turns() {
    const ROUNDS: usize = 200;
    let ways: &[bool] = if cfg!(feature = "deflate") { &[false, true] } else { &[false] };
    for &compresses in ways {
        // The server compresses what the client still gathers.
        let (mut of_server, mut options) = (Options::default(), Options::default());
        options.compression = compresses.then(Compression::default);
        of_server.compression = options.compression.clone();
        if let Some(compression) = &mut of_server.compression {
            compression.threshold = 40;
        }
        let server = Server::start(&of_server, Script::echo());
        let rounds = Arc::new(AtomicUsize::new(0));
        let counts = rounds.clone();
        let script = Script::new().on_open(|connection| connection.send("").unwrap());
        let script = script.on_message(move |connection, message| {
            let Message::Text(text) = message else { panic!("no text") };
            assert_eq!(text.len(), counts.fetch_add(1, Ordering::SeqCst));
            if text.len() < ROUNDS {
                connection.send(&*format!("{text}x")).unwrap();
            } else {
                connection.close(1000, "done").unwrap();
            }
        });
        let (connection, events) = server.connect(&format!("ws://{}/", server.address()), &options, script);
        let ended = events.closed_of(connection);
        assert!(ended.was_clean && ended.reason == "done", "{ended:?}");
        assert_eq!(rounds.load(Ordering::SeqCst), ROUNDS + 1);
    }
}

/// What a server's callback sends to the client that was told last is that client's, not the server's.
#[test]
fn what_another_callback_sends_to_a_client_is_masked_and_comes_to_it() {
    let raw = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Arc::new(Mutex::new(None::<Connection>));
    let knows = target.clone();
    let script = Script::new().on_message(move |connection, message| {
        connection.send("before").unwrap();
        knows.lock().unwrap().unwrap().send(message).unwrap();
        connection.send("after").unwrap();
    });
    let server = Server::start(&Options::default(), script);
    let (client, events) =
        server.connect(&format!("ws://{}/", raw.local_addr().unwrap()), &Options::default(), Script::echo());
    let (mut of_client, _) = RawPeer::accept_upgrade(&raw);
    events.opened();
    *target.lock().unwrap() = Some(client);
    let (mut of_server, _) = server.open();
    for text in ["one", "two"] {
        // Both in one turn as a rule, in either order.
        server.meanwhile(|| {
            of_client.send_text(text);
            of_server.send_text("to the client");
        });
        of_server.expect_text("before");
        of_server.expect_text("after");
        let mut heard = [of_client.read_frame(), of_client.read_frame()];
        assert!(heard.iter().all(|frame| frame.masked));
        heard.sort_by_key(|frame| frame.payload.len());
        assert_eq!(heard.map(|frame| frame.text()), [text, "to the client"]);
    }
}

/// Loops of two threads have keys that have nothing in common, and so have a loop's gathered frames and its others.
#[test]
fn no_two_frames_of_two_loops_have_the_same_key() {
    const COUNT: usize = 300;
    let mut keys = HashSet::new();
    for _ in 0..2 {
        let (running, mut peer, connection, _) = open(&Options::default(), Script::echo());
        running.meanwhile(|| peer.write(&frame(FIN | BINARY, &[7; 60], None).repeat(COUNT)));
        running.on_loop(move || (0..COUNT).for_each(|_| connection.send(&[7; 60]).unwrap()));
        (0..2 * COUNT).for_each(|_| _ = keys.insert(peer.read_bytes(2 + 4 + 60)[2..6].to_vec()));
    }
    assert!(keys.len() > 4 * COUNT - 3, "{} keys of {} frames", keys.len(), 4 * COUNT);
}
