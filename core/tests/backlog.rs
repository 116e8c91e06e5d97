//! What waits to be sent, row by row of the table of limits: the backlog with its four policies and the drain event,
//! pongs that wait, and calls from other threads.
//!
//! The peers here have small receive buffers and read only when the test says so. How much the kernel takes is its own
//! affair: the tests send until the backlog is full, and then compare what was taken, what came, and what was lost.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use support::{BINARY, CLOSE, Ended, Event, PING, PONG, RawPeer, Script, Server, TEXT, limit_of};
use wsx_core::{BacklogPolicy, Connection, Error, FailureKind, Figure, LoopOptions, Options, Side};

const LIMIT: usize = 64 * 1024;
const SIZE: usize = 10_000;
/// Of a message of `SIZE` bytes.
const HEADER: usize = 4;
/// More than the kernel takes for a peer that does not read.
const HUGE: usize = 12 * 1024 * 1024;
/// More messages than the kernel takes.
const MANY: u32 = (HUGE / SIZE) as u32;

fn options(policy: BacklogPolicy) -> Options {
    let mut options = Options::default();
    options.backlog_limit = LIMIT;
    options.backlog_policy = policy;
    options
}

/// The n-th message: its number, then filling.
fn message(number: u32) -> Vec<u8> {
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(SIZE, number as u8);
    payload
}

/// Sends messages until one is refused: how many were taken, and the refusal.
fn fill(connection: Connection) -> (u32, Error) {
    for number in 0..MANY {
        if let Err(error) = connection.send(&message(number)) {
            return (number, error);
        }
    }
    panic!("nothing was refused");
}

/// Reads the next message and returns its number.
#[track_caller]
fn read_message(peer: &mut RawPeer) -> u32 {
    let frame = peer.read_frame();
    assert_eq!((frame.opcode, frame.fin, frame.payload.len()), (BINARY, true, SIZE));
    let number = u32::from_be_bytes(*frame.payload.first_chunk().unwrap());
    assert_eq!(frame.payload, message(number));
    number
}

/// Reads messages 0, 1, 2, … until the Close, and tells how many came. The stream stays one of whole frames.
#[track_caller]
fn read_until_close(peer: &mut RawPeer, code: u16) -> u32 {
    let mut count = 0;
    loop {
        let frame = peer.read_frame();
        if frame.opcode == CLOSE {
            assert_eq!(frame.close().0, Some(code));
            return count;
        }
        assert_eq!(frame.payload, message(count));
        count += 1;
    }
}

#[track_caller]
fn assert_closed_by_policy(ended: &Ended) {
    assert_eq!((ended.code, ended.was_clean, ended.by), (1013, false, Side::Us), "{ended:?}");
    let failure = ended.failure.as_ref().unwrap();
    assert_eq!(failure.kind, FailureKind::Limit);
    let (option, figure, reached) = limit_of(failure).unwrap();
    assert_eq!((option, figure), ("backlog_limit", Figure::Bytes(LIMIT as u64)));
    assert!(reached.is_some_and(|waited| waited > 0), "{failure:?}");
    assert!(ended.cause().contains(&format!("backlog_limit is {LIMIT}")), "{}", ended.cause());
}

#[test]
fn send_backlog_policy_close_ends_with_1013_behind_the_frame_in_progress() {
    let server = Server::start(&options(BacklogPolicy::Close), Script::new());
    let (mut peer, connection) = server.open_narrow();
    let (taken, refusal) = server.on_loop(move || fill(connection));
    match refusal {
        Error::BacklogFull { backlog, limit } => assert!(backlog <= LIMIT && backlog + SIZE > LIMIT && limit == LIMIT),
        other => panic!("{other}"),
    }
    let again = server.on_loop(move || connection.send("more"));
    assert!(matches!(again, Err(Error::Closed)));
    assert_eq!(server.connection_count(), 0);
    let came = read_until_close(&mut peer, 1013);
    assert!(came < taken, "{came} of {taken} came, so nothing was dropped");
    peer.expect_end();
    peer.finish();
    let ended = server.events.closed_of(connection);
    assert_closed_by_policy(&ended);
    assert_eq!(ended.unsent_bytes, u64::from(taken - came) * (SIZE + HEADER) as u64);
    assert_eq!(ended.lost_messages, taken - came, "the refused one is not lost: the program knows");
    assert_eq!(ended.undelivered_messages, u64::from(ended.lost_messages), "everything else was read");
}

#[test]
fn send_backlog_policy_close_cuts_at_the_closing_timeout() {
    let mut options = options(BacklogPolicy::Close);
    options.close_timeout = Duration::from_millis(60);
    let server = Server::start(&options, Script::new());
    let (mut peer, connection) = server.open_narrow();
    server.on_loop(move || fill(connection));
    assert_closed_by_policy(&server.events.closed_of(connection));
    // Whatever the kernel had, the stream ends.
    peer.read_to_end();
}

#[test]
fn send_backlog_policy_close_hears_the_failure_first() {
    let mut options = options(BacklogPolicy::Close);
    options.close_timeout = Duration::from_millis(60);
    let server = Server::start(&options, Script::new());
    let (_peer, connection) = server.open_narrow();
    server.on_loop(move || fill(connection));
    assert!(matches!(server.events.next(), Event::Error(c, failure) if c == connection
        && failure.kind == FailureKind::Limit));
    assert!(matches!(server.events.next(), Event::Closed(c, _) if c == connection));
}

#[test]
fn send_backlog_policy_drop_counts_what_is_lost() {
    let server = Server::start(&options(BacklogPolicy::Drop), Script::new());
    let (mut peer, connection) = server.open_narrow();
    server.on_loop(move || (0..MANY).for_each(|number| connection.send(&message(number)).unwrap()));
    let backlog = server.on_loop(move || connection.buffered_amount().unwrap());
    assert!(backlog <= LIMIT, "{backlog}");
    // Everything that was taken comes, in order; then the program hears of the drain, and what it sends then comes.
    let mut came = vec![read_message(&mut peer)];
    while server.on_loop(move || connection.buffered_amount().unwrap()) > 0 {
        came.push(read_message(&mut peer));
    }
    assert_eq!(server.events.drain(), connection);
    server.on_loop(move || connection.send("the last").unwrap());
    let last = loop {
        let frame = peer.read_frame();
        if frame.opcode == TEXT {
            break frame.text();
        }
        came.push(u32::from_be_bytes(*frame.payload.first_chunk().unwrap()));
    };
    assert_eq!(last, "the last");
    assert!(came.is_sorted());
    peer.send_close(Some(1000), "");
    peer.expect_close(1000);
    let ended = server.events.closed_of(connection);
    assert!(ended.was_clean && ended.lost_messages > 0, "{ended:?}");
    assert_eq!(ended.lost_messages, MANY - came.len() as u32);
    assert_eq!(ended.unsent_bytes, 0);
}

#[test]
fn send_backlog_policy_refuse_answers_full_and_tells_when_it_is_drained() {
    let server = Server::start(&options(BacklogPolicy::Refuse), Script::new());
    let (mut peer, connection) = server.open_narrow();
    let (taken, refusal) = server.on_loop(move || fill(connection));
    match refusal {
        Error::BacklogFull { backlog, limit } => assert!(backlog <= LIMIT && backlog + SIZE > LIMIT && limit == LIMIT),
        other => panic!("{other}"),
    }
    for number in 0..taken {
        assert_eq!(read_message(&mut peer), number);
    }
    assert_eq!(server.events.drain(), connection);
    server.on_loop(move || connection.send("after the drain").unwrap());
    peer.expect_text("after the drain");
    peer.send_close(None, "");
    let ended = server.events.closed_of(connection);
    // What was refused was not lost: the program knows.
    assert_eq!((ended.was_clean, ended.lost_messages, ended.unsent_bytes), (true, 0, 0));
}

#[test]
fn send_backlog_policy_refuse_applies_to_pings_as_well() {
    let server = Server::start(&options(BacklogPolicy::Refuse), Script::new());
    let (_peer, connection) = server.open_narrow();
    server.on_loop(move || {
        connection.send(&vec![0; HUGE]).unwrap();
        assert!(matches!(connection.ping(b"x"), Err(Error::BacklogFull { .. })));
    });
}

#[test]
fn send_backlog_policy_pause_stops_reading_until_the_peer_reads() {
    const COUNT: u32 = 3000;
    let most = Arc::new(AtomicUsize::new(0));
    let seen = most.clone();
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = heard.clone();
    let script = Script::new().quiet().on_message(move |connection, message| {
        connection.send(message).unwrap();
        counter.fetch_add(1, Ordering::Relaxed);
        seen.fetch_max(connection.buffered_amount().unwrap(), Ordering::Relaxed);
    });
    let server = Server::start(&options(BacklogPolicy::Pause), script);
    let (mut peer, connection) = server.open_narrow();
    let mut writer = peer.stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        for number in 0..COUNT {
            let frame = support::frame(0x80 | BINARY, &message(number), Some(support::MASK));
            std::io::Write::write_all(&mut writer, &frame).unwrap();
        }
    });
    // The same in two turns: the flush between them did not help, and nothing more was read.
    let look = || server.on_loop(move || connection.buffered_amount().unwrap());
    support::eventually("the backlog is full", || {
        let (backlog, before) = (look(), heard.load(Ordering::Relaxed));
        backlog > LIMIT && look() == backlog && heard.load(Ordering::Relaxed) == before
    });
    for number in 0..COUNT {
        assert_eq!(read_message(&mut peer), number);
    }
    writer.join().unwrap();
    assert_eq!(heard.load(Ordering::Relaxed), COUNT as usize);
    assert_eq!(server.events.drain(), connection);
    let most = most.load(Ordering::Relaxed);
    assert!(most <= LIMIT + SIZE + HEADER, "{most} bytes waited");
}

#[test]
fn send_backlog_policy_pause_does_not_hear_what_comes_behind_a_message_over_the_limit() {
    // One message on an empty backlog is more than twice the limit. An echo server must not be closed for the next one.
    let script = Script::echo();
    let mut options = options(BacklogPolicy::Pause);
    options.max_message = HUGE;
    let server = Server::start(&options, script);
    let (mut peer, connection) = server.open_narrow();
    peer.send(BINARY, &vec![1; HUGE]);
    peer.send_text("later");
    server.events.find(|event| matches!(event, Event::Binary(..)).then_some(()));
    // Another connection's message is heard in a turn that would have heard the text.
    let (mut other, _) = server.open();
    other.send_text("now");
    assert_eq!(server.events.text(), "now");
    assert_eq!(peer.read_frame().payload.len(), HUGE);
    assert!(matches!(server.events.next(), Event::Drain(c) if c == connection));
    assert!(matches!(server.events.next(), Event::Text(c, text) if c == connection && text == "later"));
    peer.expect_text("later");
}

#[test]
fn send_backlog_policy_pause_takes_twice_the_limit_from_others_and_closes_beyond() {
    let server = Server::start(&options(BacklogPolicy::Pause), Script::new());
    let (mut peer, connection) = server.open_narrow();
    let most = server.on_loop(move || {
        let mut most = 0;
        for number in 0..MANY {
            if connection.send(&message(number)).is_err() {
                return most;
            }
            most = connection.buffered_amount().unwrap();
        }
        panic!("nothing was refused");
    });
    assert!(most > LIMIT && most <= 2 * LIMIT, "{most}");
    read_until_close(&mut peer, 1013);
    peer.finish();
    assert_closed_by_policy(&server.events.closed_of(connection));
}

#[test]
fn send_backlog_that_is_empty_takes_a_message_whole_whatever_its_size() {
    for policy in [BacklogPolicy::Close, BacklogPolicy::Drop, BacklogPolicy::Refuse, BacklogPolicy::Pause] {
        let server = Server::start(&options(policy), Script::new());
        let (mut peer, connection) = server.open_narrow();
        let backlog = server.on_loop(move || {
            connection.send(&vec![7; HUGE]).unwrap();
            connection.buffered_amount().unwrap()
        });
        assert!(backlog > LIMIT, "{policy:?}: {backlog}");
        let frame = peer.read_frame();
        assert_eq!(frame.payload.len(), HUGE, "{policy:?}");
        assert_eq!(server.events.drain(), connection);
        server.on_loop(move || connection.send("and goes on").unwrap());
        peer.expect_text("and goes on");
    }
}

#[test]
fn send_backlog_that_the_flush_has_emptied_takes_a_message_whole_too() {
    for policy in [BacklogPolicy::Close, BacklogPolicy::Drop, BacklogPolicy::Refuse, BacklogPolicy::Pause] {
        let server = Server::start(&options(policy), Script::new());
        let (mut peer, connection) = server.open_narrow();
        let listener = server.listener;
        server.on_loop(move || {
            connection.send("small").unwrap();
            connection.send(&vec![7; HUGE]).unwrap();
        });
        peer.expect_text("small");
        assert_eq!(peer.read_frame().payload.len(), HUGE, "{policy:?}");
        server.events.drain();
        server.on_loop(move || {
            connection.send("small").unwrap();
            listener.broadcast(&vec![7; HUGE], None).unwrap();
        });
        peer.expect_text("small");
        assert_eq!(peer.read_frame().payload.len(), HUGE, "{policy:?}");
    }
}

#[test]
fn send_backlog_that_grew_past_half_of_the_limit_after_the_kernel_was_full_is_told_when_it_is_drained() {
    let server = Server::start(&options(BacklogPolicy::Close), Script::new());
    let (mut peer, connection) = server.open_narrow();
    let backlog = || server.on_loop(move || connection.buffered_amount().unwrap());
    // One message in a turn, so that the kernel is full with less than one waiting.
    let mut count = 0;
    while backlog() == 0 {
        assert!(count < MANY, "the kernel takes everything");
        server.on_loop(move || connection.send(&message(count)).unwrap());
        count += 1;
    }
    assert!(backlog() <= LIMIT / 4);
    for _ in 0..5 {
        server.on_loop(move || connection.send(&message(count)).unwrap());
        count += 1;
    }
    assert!(backlog() > LIMIT / 2);
    (0..count).for_each(|number| assert_eq!(read_message(&mut peer), number));
    assert_eq!(server.events.drain(), connection);
    assert_eq!(backlog(), 0);
}

#[test]
fn send_backlog_is_counted_after_the_flush() {
    // Far more than the limit in one turn, to a peer that reads, is no backlog.
    let server = Server::start(&options(BacklogPolicy::Close), Script::new());
    let (mut peer, connection) = server.open();
    let reader = std::thread::spawn(move || {
        (0..100).for_each(|number| assert_eq!(read_message(&mut peer), number));
        peer
    });
    for number in 0..100 {
        // At most a sixth of the limit waits before this turn's flush.
        let size = server.on_loop(move || {
            connection.send(&message(number)).unwrap();
            connection.buffered_amount().unwrap()
        });
        assert!(size <= LIMIT);
    }
    reader.join().unwrap();
}

#[test]
fn send_backlog_of_zero_is_no_limit() {
    let mut options = options(BacklogPolicy::Close);
    options.backlog_limit = 0;
    let server = Server::start(&options, Script::new());
    let (mut peer, connection) = server.open_narrow();
    server.on_loop(move || (0..MANY).for_each(|number| connection.send(&message(number)).unwrap()));
    (0..MANY).for_each(|number| assert_eq!(read_message(&mut peer), number));
}

/// Broadcasts messages, and tells what became of a slow consumer; a quick one gets all of them.
fn broadcast_to_a_slow_consumer(policy: BacklogPolicy) -> (Server, [RawPeer; 2], Connection) {
    let server = Server::start(&options(policy), Script::new());
    let (mut quick, _) = server.open();
    let (slow, connection) = server.open_narrow();
    let listener = server.listener;
    for number in 0..MANY {
        server.on_loop(move || listener.broadcast(&message(number), None).unwrap());
        assert_eq!(read_message(&mut quick), number);
    }
    (server, [quick, slow], connection)
}

#[test]
fn broadcast_under_policy_close_ends_the_slow_consumer_only() {
    let (server, [_quick, mut slow], connection) = broadcast_to_a_slow_consumer(BacklogPolicy::Close);
    assert_eq!(server.connection_count(), 1);
    read_until_close(&mut slow, 1013);
    slow.expect_end();
    slow.finish();
    let ended = server.events.closed_of(connection);
    assert_closed_by_policy(&ended);
    let dropped = ended.unsent_bytes / (SIZE + HEADER) as u64;
    assert_eq!(u64::from(ended.lost_messages), dropped + 1, "those that waited and the one that did not fit");
}

#[test]
fn broadcast_under_policies_drop_and_refuse_skips_the_slow_consumer() {
    for policy in [BacklogPolicy::Drop, BacklogPolicy::Refuse] {
        let (server, [_quick, mut slow], connection) = broadcast_to_a_slow_consumer(policy);
        assert_eq!(server.connection_count(), 2);
        server.on_loop(move || connection.close(1000, "").unwrap());
        let mut came = Vec::new();
        loop {
            let frame = slow.read_frame();
            if frame.opcode == CLOSE {
                break;
            }
            came.push(u32::from_be_bytes(*frame.payload.first_chunk().unwrap()));
        }
        slow.send_close(Some(1000), "");
        let ended = server.events.closed_of(connection);
        assert!(came.is_sorted());
        assert!(ended.was_clean && ended.lost_messages > 0, "{policy:?}: {ended:?}");
        assert_eq!(ended.lost_messages, MANY - came.len() as u32, "{policy:?}");
    }
}

#[test]
fn broadcast_under_policy_pause_ends_the_slow_consumer_at_twice_the_limit() {
    let (server, [_quick, mut slow], connection) = broadcast_to_a_slow_consumer(BacklogPolicy::Pause);
    assert_eq!(server.connection_count(), 1);
    read_until_close(&mut slow, 1013);
    slow.finish();
    assert_closed_by_policy(&server.events.closed_of(connection));
}

#[test]
fn pongs_that_wait_are_only_the_newest() {
    let mut options = options(BacklogPolicy::Close);
    options.progress_timeout = Duration::ZERO;
    let server = Server::start(&options, Script::new());
    let (mut peer, connection) = server.open_narrow();
    for number in 0..10_u8 {
        peer.send(PING, &[number]);
    }
    for number in 0..10 {
        let pong = peer.read_frame();
        assert_eq!((pong.opcode, &pong.payload[..]), (PONG, &[number][..]), "each ping is answered");
    }
    server.on_loop(move || connection.send(&vec![7; HUGE]).unwrap());
    for number in 0..100 {
        peer.send(PING, &[number]);
    }
    server.events.find(|event| matches!(event, Event::Ping(_, payload) if payload == [99]).then_some(()));
    assert_eq!(peer.read_frame().payload.len(), HUGE);
    let pong = peer.read_frame();
    assert_eq!((pong.opcode, pong.payload), (PONG, vec![99]));
    peer.send_close(None, "");
    assert_eq!(peer.read_frame().opcode, CLOSE, "only the newest ping was answered");
}

/// Keeps the loop busy until the sender is dropped.
fn busy(server: &Server) -> mpsc::Sender<()> {
    let (release, wait) = mpsc::channel::<()>();
    let (begun, began) = mpsc::channel();
    server
        .handle
        .post(move || {
            begun.send(()).unwrap();
            let _ = wait.recv_timeout(support::DEADLINE);
        })
        .unwrap();
    began.recv_timeout(support::DEADLINE).unwrap();
    release
}

#[test]
fn commands_from_other_threads_are_counted() {
    let mut loop_options = LoopOptions::default();
    loop_options.max_commands = 8;
    let server = Server::start_with(&loop_options, &Options::default(), Script::new());
    let (mut peer, connection) = server.open();
    let release = busy(&server);
    for number in 0..8 {
        connection.send(&number.to_string()).unwrap();
    }
    assert!(matches!(connection.send("too many"), Err(Error::Full(_))));
    assert!(matches!(server.handle.post(|| panic!("this was refused")), Err(Error::Full(_))));
    assert!(matches!(server.listener.broadcast("too many", None), Err(Error::Full(_))));
    assert!(matches!(connection.ping(b""), Err(Error::Full(_))));
    drop(release);
    for number in 0..8 {
        peer.expect_text(&number.to_string());
    }
    support::eventually("there is room again", || connection.send("room").is_ok());
    peer.expect_text("room");
    peer.send_close(None, "");
    assert_eq!(server.events.closed_of(connection).lost_messages, 0, "what was refused is not lost");
}

#[test]
fn commands_from_other_threads_are_weighed() {
    let mut loop_options = LoopOptions::default();
    loop_options.max_command_bytes = 1000;
    let server = Server::start_with(&loop_options, &Options::default(), Script::new());
    let (mut peer, connection) = server.open();
    let release = busy(&server);
    connection.send(&[1; 400]).unwrap();
    server.listener.broadcast(&[2; 400], None).unwrap();
    assert!(matches!(connection.send(&[3; 201]), Err(Error::Full(_))));
    assert!(matches!(server.listener.broadcast(&[3; 201], None), Err(Error::Full(_))));
    assert!(matches!(server.handle.publish("topic", &[3; 201], None), Err(Error::Full(_))));
    connection.send(&[4; 200]).unwrap();
    drop(release);
    for (byte, size) in [(1, 400), (2, 400), (4, 200)] {
        assert_eq!(peer.read_frame().payload, vec![byte; size]);
    }
}

#[test]
fn commands_that_are_lost_on_the_loop_are_told_in_the_close() {
    let server = Server::start(&options(BacklogPolicy::Refuse), Script::new());
    let (mut peer, connection) = server.open_narrow();
    let (taken, _) = server.on_loop(move || fill(connection));
    for _ in 0..3 {
        connection.send(&vec![0; 2 * LIMIT]).unwrap();
    }
    // They have reached the loop when this has.
    server.on_loop(|| ());
    (0..taken).for_each(|number| assert_eq!(read_message(&mut peer), number));
    peer.send_close(None, "");
    let ended = server.events.closed_of(connection);
    assert!((1..=3).contains(&ended.lost_messages), "{ended:?}");
}

#[test]
fn commands_that_policy_close_loses_are_counted_once() {
    let server = Server::start(&options(BacklogPolicy::Close), Script::new());
    let (mut peer, connection) = server.open_narrow();
    server.on_loop(move || connection.send(&vec![0; HUGE]).unwrap());
    connection.send("lost").unwrap();
    assert_eq!(peer.read_frame().payload.len(), HUGE);
    peer.expect_close(1013);
    peer.finish();
    let ended = server.events.closed_of(connection);
    assert_closed_by_policy(&ended);
    assert_eq!((ended.lost_messages, ended.unsent_bytes), (1, 0));
}
