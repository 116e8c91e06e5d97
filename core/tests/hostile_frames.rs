//! Hostile inputs, by their numbers in the list of them, over real sockets: frames. See `hostile.rs`.

mod support;

use std::net::TcpListener;
use std::time::Duration;

use support::siege::Siege;
use support::{
    BINARY, CLOSE, CONTINUATION, Event, MASK, PING, PONG, RawPeer, Recorder, Running, Script, TEXT, frame, frame_header,
};
use wsx_core::{BacklogPolicy, FailureKind, Options, Side};

const MIB: usize = 1024 * 1024;

/// These bytes, on a connection that is open, are answered with a Close of this code, and then by the end. The program
/// hears the same, and that it was us who closed.
#[track_caller]
fn expect_refusal(siege: &Siege, bytes: &[u8], code: u16, kind: FailureKind) {
    let mut peer = siege.open();
    peer.try_write(bytes);
    peer.expect_close(code);
    siege.is_served_on();
    peer.expect_end();
    drop(peer);
    let ended = siege.closed();
    assert_eq!((ended.code, ended.was_clean, ended.by), (code, false, Side::Us), "{ended:?}");
    assert_eq!(ended.failure.unwrap().kind, kind);
}

#[track_caller]
fn expect_protocol_error(siege: &Siege, bytes: &[u8]) {
    expect_refusal(siege, bytes, 1002, FailureKind::Protocol);
}

/// A masked frame of a client; `first` is its whole first byte.
fn sent(first: u8, payload: &[u8]) -> Vec<u8> {
    frame(first, payload, Some(MASK))
}

#[test]
fn h20_a_length_with_the_top_bit_set_is_1002() {
    let siege = Siege::begin(&Options::default());
    for length in [u64::MAX, 1 << 63] {
        expect_protocol_error(&siege, &frame_header(0x80 | BINARY, length, Some(MASK)));
    }
    siege.end();
}

#[test]
fn h21_a_monstrous_length_is_1009_by_the_header_alone() {
    let siege = Siege::begin(&Options::default());
    for length in [i64::MAX as u64, (1 << 53) + 1, 100_000_000, MIB as u64 + 1] {
        let header = frame_header(0x80 | BINARY, length, Some(MASK));
        expect_refusal(&siege, &header, 1009, FailureKind::Limit);
    }
    siege.end();
}

#[test]
fn h21_a_monstrous_length_takes_no_memory_where_there_is_no_limit() {
    let mut options = Options::default();
    options.max_message = 0;
    let siege = Siege::begin(&options);
    let peers: Vec<_> = [i64::MAX as u64, 1 << 53, 1 << 40]
        .map(|length| {
            let mut peer = siege.open();
            peer.write(&frame_header(0x80 | BINARY, length, Some(MASK)));
            peer.write(b"not that much");
            peer
        })
        .into();
    siege.is_served_on();
    drop(peers);
    siege.end();
}

#[test]
fn h22_an_announced_100_mb_that_drips_is_1009_at_the_header() {
    let siege = Siege::begin(&Options::default());
    let mut bytes = frame_header(0x80 | BINARY, 100_000_000, Some(MASK));
    bytes.push(0);
    expect_refusal(&siege, &bytes, 1009, FailureKind::Limit);
    siege.end();
}

/// Short messages are not compared with a limit that takes all of them: one that does not is kept all the same, also for a
/// connection whose messages came as most do before.
#[test]
fn a_limit_below_that_of_short_messages_is_kept_by_each_message() {
    let mut options = Options::default();
    options.max_message = 100;
    let siege = Siege::begin(&options);
    let mut peer = siege.open();
    for _ in 0..3 {
        peer.write(&sent(0x80 | BINARY, &[1; 100]));
        peer.write(&sent(0x80 | PING, b""));
        while peer.read_frame().opcode != PONG {}
    }
    let too_large = sent(0x80 | BINARY, &[1; 101]);
    peer.write(&too_large);
    peer.expect_close(1009);
    drop(peer);
    expect_refusal(&siege, &too_large, 1009, FailureKind::Limit);
    siege.end();
}

#[test]
fn h23_the_sum_of_fragments_cannot_pass_the_limit() {
    let mut options = Options::default();
    options.max_message = 100_000;
    let siege = Siege::begin(&options);
    let mut many = sent(BINARY, &[1; 30_000]);
    (0..3).for_each(|_| many.extend(sent(CONTINUATION, &[1; 30_000])));
    expect_refusal(&siege, &many, 1009, FailureKind::Limit);

    let mut at_limit = sent(BINARY, &[1; 100_000]);
    at_limit.extend(sent(0x80 | PING, b""));
    at_limit.extend(sent(CONTINUATION, b"1"));
    let mut peer = siege.open();
    peer.write(&at_limit);
    assert_eq!(peer.read_frame().opcode, PONG);
    peer.expect_close(1009);
    drop(peer);

    // A sum that would overflow.
    let mut overflow = sent(BINARY, &[1; 1]);
    overflow.extend(frame_header(0x80 | CONTINUATION, i64::MAX as u64, Some(MASK)));
    expect_refusal(&siege, &overflow, 1009, FailureKind::Limit);
    siege.end();
}

#[test]
fn h24_endless_fragments_are_1008() {
    let siege = Siege::begin(&Options::default());
    for payload in [&b""[..], b"x"] {
        let mut endless = sent(TEXT, b"");
        (0..2000).for_each(|_| endless.extend(sent(CONTINUATION, payload)));
        expect_refusal(&siege, &endless, 1008, FailureKind::Limit);
    }
    siege.end();
}

#[test]
fn h25_a_large_frame_of_one_byte_per_segment_is_put_together() {
    let siege = Siege::begin(&Options::default());
    let mut peer = siege.open();
    let text = "0123456789".repeat(1000);
    for byte in sent(0x80 | TEXT, text.as_bytes()) {
        peer.write(&[byte]);
    }
    peer.expect_text(&text);
    drop(peer);
    siege.end();
}

#[test]
fn h28_reserved_bits_and_opcodes_are_1002() {
    let siege = Siege::begin(&Options::default());
    for first in [0xc1, 0xa1, 0x91, 0xf1, 0xc9, 0xa8, 0x98, 0xca] {
        expect_protocol_error(&siege, &sent(first, b""));
    }
    let mut continued = sent(TEXT, b"a");
    continued.extend(sent(0xc0, b"b"));
    expect_protocol_error(&siege, &continued);
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        expect_protocol_error(&siege, &sent(0x80 | opcode, b""));
    }
    siege.end();
}

#[test]
fn h31_unmasked_frames_of_a_client_are_1002() {
    let siege = Siege::begin(&Options::default());
    for opcode in [TEXT, BINARY, PING, PONG, CLOSE] {
        expect_protocol_error(&siege, &frame(0x80 | opcode, &[], None));
    }
    siege.end();
}

#[test]
fn h31_masked_frames_of_a_server_are_1002() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let (running, ()) = Running::start(&Default::default(), |_| ());
    for opcode in [TEXT, BINARY, PING, PONG, CLOSE] {
        let (recorder, events) = Recorder::new(Script::new());
        let (handle, url) = (running.handle.clone(), url.clone());
        let client = running.on_loop(move || handle.connect(&url, &Options::default(), recorder).unwrap());
        let (mut peer, _) = RawPeer::accept_upgrade(&listener);
        peer.write(&frame(0x80 | opcode, &[], Some(MASK)));
        let close = peer.read_frame();
        assert!(close.masked);
        assert_eq!(close.close().0, Some(1002));
        drop(peer);
        let ended = events.closed_of(client);
        assert_eq!((ended.code, ended.was_clean, ended.by), (1002, false, Side::Us));
        assert_eq!(ended.failure.unwrap().kind, FailureKind::Protocol);
    }
}

#[test]
fn h32_a_flood_of_pings_makes_nothing_grow() {
    const COUNT: u32 = 60_000;
    let siege = Siege::begin(&Options::default());
    let (mut peer, connection) = siege.open_narrow();
    let ping = |number: u32| {
        let mut payload = number.to_be_bytes().to_vec();
        payload.resize(125, 0);
        sent(0x80 | PING, &payload)
    };
    for number in 0..COUNT {
        peer.write(&ping(number));
    }
    let is_last = |payload: &[u8]| payload[..4] == (COUNT - 1).to_be_bytes();
    let mut most = 0;
    siege.events.find(|event| match event {
        Event::Ping(_, payload) if is_last(&payload) => Some(()),
        _ => None,
    });
    most = most.max(siege.on_loop(move || connection.buffered_amount().unwrap()));
    assert!(most <= MIB, "{most} bytes of pongs wait");
    siege.is_served_on();
    // The pongs that come are in order, and the newest ping has its answer.
    let mut before = None;
    loop {
        let pong = peer.read_frame();
        assert_eq!((pong.opcode, pong.payload.len()), (PONG, 125));
        let number = u32::from_be_bytes(*pong.payload.first_chunk().unwrap());
        assert!(before < Some(number), "{number} after {before:?}");
        before = Some(number);
        if number == COUNT - 1 {
            break;
        }
    }
    peer.send_text("still open");
    peer.expect_text("still open");
    drop(peer);
    siege.end();
}

#[test]
fn h33_a_slow_reader_with_an_echo_load_is_closed() {
    for (policy, code) in [(BacklogPolicy::Pause, 1006), (BacklogPolicy::Close, 1013)] {
        let mut options = Options::default();
        options.backlog_limit = 64 * 1024;
        options.backlog_policy = policy;
        options.progress_timeout = Duration::from_millis(200);
        options.close_timeout = Duration::from_millis(200);
        let siege = Siege::begin(&options);
        let (mut peer, connection) = siege.open_narrow();
        // It writes until it is closed.
        let load = sent(0x80 | BINARY, &[7; 8000]);
        peer.write_until_the_end(&load);
        let ended = siege.events.closed_of(connection);
        assert_eq!((ended.code, ended.was_clean, ended.by), (code, false, Side::Us), "{ended:?}");
        drop(peer);
        siege.end();
    }
}

#[test]
fn h34_bad_control_frames_are_refused() {
    let siege = Siege::begin(&Options::default());
    expect_protocol_error(&siege, &sent(PING, b"fragmented"));
    expect_protocol_error(&siege, &sent(PONG, b"fragmented"));
    expect_protocol_error(&siege, &sent(CLOSE, b""));
    expect_protocol_error(&siege, &sent(0x80 | PING, &[0; 126]));
    expect_protocol_error(&siege, &sent(0x80 | PING, &vec![0; 70_000]));
    expect_protocol_error(&siege, &sent(0x80 | CLOSE, b"x"));
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        expect_protocol_error(&siege, &sent(0x80 | CLOSE, &code.to_be_bytes()));
    }
    expect_refusal(&siege, &sent(0x80 | CLOSE, b"\x03\xe8\xff"), 1007, FailureKind::Protocol);
    for code in [1000_u16, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
        let mut peer = siege.open();
        peer.send_close(Some(code), "\u{e4}");
        peer.expect_close(code);
        peer.expect_end();
        let ended = siege.closed();
        assert_eq!((ended.code, ended.reason.as_str(), ended.was_clean), (code, "\u{e4}", true));
        assert_eq!(ended.by, Side::Peer);
    }
    siege.end();
}

#[test]
fn h35_data_after_a_close_is_ignored() {
    let siege = Siege::begin(&Options::default());
    let mut peer = siege.open();
    let mut bytes = sent(0x80 | CLOSE, b"\x03\xe8");
    bytes.extend(sent(0x80 | TEXT, b"too late"));
    bytes.extend(sent(0xff, b"not even a frame"));
    peer.write(&bytes);
    peer.expect_close(1000);
    peer.expect_end();
    let opened = siege.events.next();
    assert!(matches!(opened, Event::Opened(..)), "{opened:?}");
    match siege.events.next() {
        Event::Closed(_, ended) => assert_eq!((ended.code, ended.was_clean, ended.by), (1000, true, Side::Peer)),
        other => panic!("{other:?}"),
    }
    siege.end();
}

#[test]
fn h35_a_close_inside_a_fragmented_message_is_answered() {
    let siege = Siege::begin(&Options::default());
    let mut peer = siege.open();
    peer.send_frame(TEXT, b"begun and never");
    peer.send_close(Some(1000), "");
    peer.expect_close(1000);
    peer.expect_end();
    assert!(siege.closed().was_clean);
    siege.end();
}

#[test]
fn h36_a_peer_that_never_answers_our_close_is_cut() {
    let mut options = Options::default();
    options.close_timeout = Duration::from_millis(150);
    let script = Script::new().on_message(|connection, _| connection.close(4001, "enough").unwrap());
    let siege = Siege::begin_with(&options, script);
    let mut peer = siege.open();
    peer.send_text("close, please");
    peer.expect_close(4001);
    let more = sent(0x80 | TEXT, b"no");
    peer.write_until_the_end(&more);
    let ended = siege.closed();
    assert_eq!((ended.code, ended.was_clean, ended.by), (1006, false, Side::Us));
    assert_eq!(ended.failure.unwrap().kind, FailureKind::Timeout);
    siege.end();
}

#[test]
fn h37_text_that_is_not_utf8_is_1007_wherever_it_is_cut() {
    let siege = Siege::begin(&Options::default());
    let good = "\u{ba}\u{20ac}\u{1f600}".as_bytes();
    let mut bad = good.to_vec();
    bad.extend(b"\xed\xa0\x80edited");
    for cut in 0..bad.len() {
        let (begin, end) = bad.split_at(cut);
        let mut fragments = sent(TEXT, begin);
        fragments.extend(sent(0x80 | CONTINUATION, end));
        expect_refusal(&siege, &fragments, 1007, FailureKind::Protocol);

        let whole = sent(0x80 | TEXT, &bad);
        let mut peer = siege.open();
        peer.write(&whole[..6 + cut]);
        siege.is_served_on();
        peer.try_write(&whole[6 + cut..]);
        peer.expect_close(1007);
        drop(peer);
        siege.closed();
    }
    // The same cuts do no harm to what is good.
    for cut in 0..good.len() {
        let (begin, end) = good.split_at(cut);
        let mut peer = siege.open();
        peer.send_frame(TEXT, begin);
        peer.send(CONTINUATION, end);
        peer.expect_text(std::str::from_utf8(good).unwrap());
        peer.send_close(Some(1000), "");
        peer.expect_close(1000);
    }
    siege.end();
}

#[test]
fn h37_the_first_wrong_byte_is_told_before_the_rest_of_its_frame_comes() {
    let siege = Siege::begin(&Options::default());
    let mut begun = frame_header(0x80 | TEXT, 1000, Some([0; 4]));
    begun.extend(b"abc\xff");
    expect_refusal(&siege, &begun, 1007, FailureKind::Protocol);
    siege.end();
}

#[test]
fn h37_a_text_that_ends_inside_a_character_is_1007() {
    let siege = Siege::begin(&Options::default());
    expect_refusal(&siege, &sent(0x80 | TEXT, b"\xe2\x82"), 1007, FailureKind::Protocol);
    let mut fragments = sent(TEXT, b"\xe2");
    fragments.extend(sent(0x80 | CONTINUATION, b"\x82"));
    expect_refusal(&siege, &fragments, 1007, FailureKind::Protocol);
    siege.end();
}

#[test]
fn a_reset_in_the_middle_of_a_frame_hurts_nobody() {
    let siege = Siege::begin(&Options::default());
    for _ in 0..20 {
        let mut peer = siege.open();
        peer.send_text("echo this");
        peer.write(&frame_header(0x80 | TEXT, 1000, Some(MASK)));
        peer.reset();
        let ended = siege.closed();
        assert_eq!((ended.code, ended.was_clean, ended.by), (1006, false, Side::Peer), "{ended:?}");
        assert_eq!(ended.failure.unwrap().kind, FailureKind::Transport);
    }
    siege.end();
}
