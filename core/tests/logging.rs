//! The log: what happens is told in sentences, up to a level, where somebody asks for it.

mod support;

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use support::{DEADLINE, Recorder, Running, Script, Server, eventually, upgrade};
use wsx_core::log::{Level, Topic};
use wsx_core::{Error, EventLoop, Handle, LoopOptions, Options, Reconnect, Response};

type Records = Arc<Mutex<Vec<(Level, Topic, String)>>>;

/// Keeps what is logged.
fn keep(handle: &Handle, level: Level) -> Records {
    let records = Records::default();
    let kept = records.clone();
    handle
        .set_log(level, move |record| {
            kept.lock().unwrap().push((record.level, record.topic, record.message.to_owned()));
        })
        .unwrap();
    records
}

/// A server that logs from its beginning, and the log.
fn logging(level: Level, options: &Options, script: Script) -> (Server, Records) {
    let server = Server::start(options, script);
    let records = keep(&server.handle, level);
    server.on_loop(|| ());
    (server, records)
}

#[track_caller]
fn expect(records: &Records, level: Level, topic: Topic, part: &str) {
    let is_it = |record: &(Level, Topic, String)| record.0 == level && record.1 == topic && record.2.contains(part);
    eventually(&format!("{level:?} {topic:?} {part:?} in {:?}", records.lock().unwrap()), || {
        records.lock().unwrap().iter().any(is_it)
    });
}

#[test]
fn a_connection_is_told_from_its_beginning_to_its_end() {
    let (server, records) = logging(Level::Debug, &Options::default(), Script::echo());
    let (mut peer, _) = server.open();
    let from = peer.stream.local_addr().unwrap();
    peer.send_close(Some(4000), "a\x1b[31mreason\n");
    peer.expect_close(4000);
    server.events.closed();
    expect(&records, Level::Debug, Topic::Connection, "closed by the peer");
    let told: Vec<_> = records.lock().unwrap().iter().map(|(.., message)| message.clone()).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(told[..2], [format!("accepted {from}"), format!("{from}: open")]);
    assert!(told[2].starts_with(&format!("{from}: closed by the peer with 4000")), "{}", told[2]);
    assert!(!told[2].contains(char::is_control) && told[2].contains("reason"), "{}", told[2]);
}

#[test]
fn listeners_are_told_also_from_before_the_first_turn() {
    let mut event_loop = EventLoop::new().unwrap();
    let records = keep(&event_loop, Level::Information);
    let listener = event_loop.listen("127.0.0.1:0", &Options::default(), Recorder::new(Script::new()).0).unwrap();
    let address = listener.local_address().unwrap();
    listener.close().unwrap();
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    let told: Vec<_> = records.lock().unwrap().iter().map(|(.., message)| message.clone()).collect();
    assert_eq!(told, [format!("listens on {address}, plain"), format!("listens no more on {address}")]);
}

#[test]
fn a_refused_request_is_told_without_what_the_client_has_said() {
    let script = Script::new().on_request(|_| Response::reject(418, "no"));
    let (server, records) = logging(Level::Information, &Options::default(), script);
    let secret = "Origin: https://secret.example\r\nAuthorization: secret\r\n";
    assert_eq!(server.status_of(&upgrade("a", "/secret?secret", secret)), 403);
    expect(&records, Level::Information, Topic::Request, "403: origins");
    assert_eq!(server.status_of(&upgrade("a", "/secret?secret", "Authorization: secret\r\n")), 418);
    expect(&records, Level::Information, Topic::Request, "by the request hook");
    assert_eq!(server.status_of("BREW /secret HTTP/1.1\r\nHost: secret\r\n\r\n"), 405);
    expect(&records, Level::Information, Topic::Request, "405");
    let told = records.lock().unwrap();
    assert!(!told.iter().any(|(.., message)| message.contains("secret")), "{told:?}");
}

#[test]
fn a_level_leaves_out_what_matters_less() {
    let (server, records) = logging(Level::Warning, &Options::default(), Script::new());
    assert_eq!(server.status_of(&upgrade("a", "/", "Origin: https://evil.example\r\n")), 403);
    let (mut peer, _) = server.open();
    peer.send_frame(0xff, b"");
    server.events.closed();
    expect(&records, Level::Warning, Topic::Connection, "failed at");
    assert_eq!(records.lock().unwrap().len(), 1, "{records:?}");
}

#[test]
fn failed_clients_are_told_without_their_password() {
    let running = Running::idle();
    let records = keep(&running.handle, Level::Debug);
    let (_, events) = running.connect("ws://user:secret@127.0.0.1:1/?secret", &Options::default(), Script::new());
    events.closed();
    expect(&records, Level::Debug, Topic::Connection, "connects to 127.0.0.1:1");
    expect(&records, Level::Warning, Topic::Connection, "127.0.0.1:1: closed by");
    expect(&records, Level::Warning, Topic::Connection, "cannot connect to 127.0.0.1:1");
    let told = records.lock().unwrap();
    assert!(!told.iter().any(|(.., message)| message.contains("secret")), "{told:?}");
}

#[test]
fn panics_of_callbacks_are_errors_also_where_no_connection_is_left_to_fail() {
    let script = Script::new()
        .on_message(|_, _| std::panic::resume_unwind(Box::new("in a message")))
        .on_close(|_, _| std::panic::resume_unwind(Box::new("in a close")));
    let (server, records) = logging(Level::Error, &Options::default(), script);
    let (mut peer, _) = server.open();
    peer.send_text("hello");
    peer.expect_close(1011);
    drop(peer);
    expect(&records, Level::Error, Topic::Callback, "in a message");
    expect(&records, Level::Error, Topic::Callback, "on_close panicked: in a close");
    server.handle.post(|| std::panic::resume_unwind(Box::new("in a function"))).unwrap();
    expect(&records, Level::Error, Topic::Callback, "a posted function panicked: in a function");
    let handle = server.handle.clone();
    server.on_loop(move || {
        handle.set_timer(Duration::ZERO, || std::panic::resume_unwind(Box::new("in a timer"))).unwrap();
    });
    expect(&records, Level::Error, Topic::Callback, "the function of a timer panicked: in a timer");

    let script = || {
        Script::new()
            .on_reconnecting(|_| std::panic::resume_unwind(Box::new("before a wait")))
            .on_give_up(|_| std::panic::resume_unwind(Box::new("at the end")))
    };
    // One gives up with its connection, the other while it waits.
    for max_attempts in [1, 0] {
        let mut reconnect = Reconnect::default();
        reconnect.max_attempts = max_attempts;
        (reconnect.base_delay, reconnect.max_delay) = match max_attempts {
            0 => (Duration::from_secs(36_000_000), Duration::from_secs(36_000_000)),
            _ => (Duration::from_millis(1), Duration::from_millis(1)),
        };
        let (recorder, _events) = Recorder::new(script());
        let handle = server.handle.clone();
        records.lock().unwrap().clear();
        let client = server.on_loop(move || {
            handle.connect_persistently("ws://127.0.0.1:1/", &Options::default(), &reconnect, recorder).unwrap()
        });
        expect(&records, Level::Error, Topic::Callback, "on_reconnecting panicked: before a wait");
        if max_attempts == 0 {
            client.close(1000, "").unwrap();
        }
        expect(&records, Level::Error, Topic::Callback, "on_give_up panicked: at the end");
    }
}

#[test]
fn a_sink_may_panic_and_call_anything_and_hears_nothing_of_itself() {
    let server = Server::start(&Options::default(), Script::echo());
    let (sender, receiver) = mpsc::channel();
    let (handle, count) = (server.handle.clone(), Arc::new(Mutex::new(0)));
    let counted = count.clone();
    let sink = move |_: &wsx_core::log::Record<'_>| {
        *counted.lock().unwrap() += 1;
        handle.statistics().unwrap();
        // What is logged of this client's beginning would be logged for ever.
        let made = handle.connect("ws://127.0.0.1:1/", &Options::default(), Recorder::new(Script::new()).0);
        made.unwrap().terminate().unwrap();
        sender.send(()).unwrap();
        std::panic::resume_unwind(Box::new("in the sink"));
    };
    server.handle.set_log(Level::Information, sink).unwrap();
    assert_eq!(server.status_of(&upgrade("a", "/", "Origin: https://evil.example\r\n")), 403);
    receiver.recv_timeout(DEADLINE).unwrap();
    let (mut peer, _) = server.open();
    peer.send_text("still here");
    peer.expect_text("still here");
    assert_eq!(*count.lock().unwrap(), 1);
}

#[test]
fn a_sink_that_sets_the_log_anew_hears_nothing_of_what_it_does_then() {
    fn begin(handle: Handle, told: mpsc::Sender<String>) {
        let again = handle.clone();
        let sink = move |record: &wsx_core::log::Record<'_>| {
            let _ = told.send(record.message.to_owned());
            begin(again.clone(), told.clone());
            let listener = again.listen("127.0.0.1:0", &Options::default(), Recorder::new(Script::new()).0);
            // At its end the loop takes nothing more.
            let _ = listener.map(|listener| listener.close());
        };
        let _ = handle.set_log(Level::Information, sink);
    }
    let server = Server::start(&Options::default(), Script::new());
    let (sender, told) = mpsc::channel();
    begin(server.handle.clone(), sender);
    for _ in 0..2 {
        assert_eq!(server.status_of(&upgrade("a", "/", "Origin: https://evil.example\r\n")), 403);
        let message = told.recv_timeout(DEADLINE).unwrap();
        assert!(
            message.starts_with("refused "),
            "what the sink does itself is logged, and would be for ever: {message}"
        );
    }
}

#[test]
fn a_log_is_replaced_and_ended_and_dropped_where_that_may_call_anything() {
    struct Calls(Handle, mpsc::Sender<bool>);
    impl Drop for Calls {
        fn drop(&mut self) {
            let answer = self.0.connection_count();
            let _ = self.1.send(matches!(answer, Ok(_) | Err(Error::LoopGone | Error::WrongThread)));
        }
    }
    let server = Server::start(&Options::default(), Script::new());
    let (sender, dropped) = mpsc::channel();
    let calls = Calls(server.handle.clone(), sender.clone());
    server.handle.set_log(Level::Debug, move |_| drop(calls.0.connection_count())).unwrap();
    server.open();
    let calls = Calls(server.handle.clone(), sender);
    server.handle.set_log(Level::Debug, move |_| drop(calls.0.connection_count())).unwrap();
    assert!(dropped.recv_timeout(DEADLINE).unwrap());
    server.handle.set_log(Level::Off, |_| unreachable!("there is no log")).unwrap();
    assert!(dropped.recv_timeout(DEADLINE).unwrap());
    server.open();
    let records = keep(&server.handle, Level::Debug);
    drop(server);
    assert!(!records.lock().unwrap().is_empty(), "what a drop ends is logged");
}

#[test]
fn every_thread_of_a_loop_has_the_log() {
    let mut options = LoopOptions::default();
    options.threads = 3;
    let event_loop = EventLoop::with_options(&options).unwrap();
    let records = keep(&event_loop, Level::Error);
    assert_eq!(Arc::strong_count(&records), 2, "one sink for all threads");
    drop(event_loop);
    eventually("the sink is dropped", || Arc::strong_count(&records) == 1);
}
