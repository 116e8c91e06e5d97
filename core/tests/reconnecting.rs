//! A client that connects again: against servers that die and come back, refuse, and say when to come back.

mod support;

use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::clients::{HOUR, connect, late, listen, nobody, soon, url_of, with_queue};
use support::{CLOSE, DEADLINE, Event, RawPeer, Recorder, Running, Script, Server, eventually};
use wsx_core::{Client, Error, EventLoop, FailureKind, GiveUpKind, LoopOptions, Options, Side, Stage, close};

/// Answers the next attempt so, and ends its connection.
#[track_caller]
fn answer(listener: &TcpListener, answer: &str) {
    let mut peer = RawPeer::accept(listener);
    peer.read_head();
    peer.write(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes());
    peer.expect_end();
}

/// Accepts the next attempt, and closes it with this code.
#[track_caller]
fn accept_and_close(listener: &TcpListener, code: u16) {
    let (mut peer, _) = RawPeer::accept_upgrade(listener);
    peer.send_close(Some(code), "bye");
    assert_eq!(peer.read_frame().opcode, CLOSE);
}

#[test]
fn one_number_stays_over_a_server_that_dies_and_comes_back_on_its_port() {
    let (listener, url) = listen();
    let address = listener.local_addr().unwrap();
    let running = Running::idle();
    let (client, events) = running.connect_persistently(&url, &Options::default(), &soon(), Script::new());
    let mut connections = HashSet::new();
    let mut listener = Some(listener);
    for _ in 0..3 {
        let (mut peer, _) = RawPeer::accept_upgrade(listener.as_ref().unwrap());
        let connection = events.opened();
        connections.insert(connection);
        client.send("hello").unwrap();
        peer.expect_text("hello");
        assert_eq!(running.on_loop(move || client.connection().unwrap()), Some(connection));
        // It dies; nobody listens for a while, and attempts fail.
        drop(listener.take());
        peer.reset();
        assert_eq!(events.closed_of(connection).code, 1006);
        let mut failed = 0;
        while failed < 3 {
            match events.next() {
                Event::Reconnecting(of, _, _, cause) => {
                    assert_eq!((of, cause.code), (client, 1006));
                    failed += 1;
                }
                Event::Error(of, failure) => {
                    assert_eq!((failure.stage, failure.os_error), (Stage::Connect, Some(libc_refused())));
                    assert_ne!(of, connection);
                }
                Event::Closed(of, _) => assert!(connections.insert(of), "each attempt has a number of its own"),
                event => panic!("{event:?}"),
            }
        }
        listener = Some(TcpListener::bind(address).unwrap());
    }
    let (mut peer, _) = RawPeer::accept_upgrade(listener.as_ref().unwrap());
    events.opened();
    client.close(1000, "done").unwrap();
    assert_eq!(peer.expect_close(1000), "done");
    peer.send_close(Some(1000), "");
    drop(peer);
    assert_eq!(events.gave_up().kind, GiveUpKind::Closed);
}

fn libc_refused() -> i32 {
    std::io::Error::from(rustix::io::Errno::CONNREFUSED).raw_os_error().unwrap()
}

#[test]
fn each_attempt_has_the_events_of_a_connection_and_one_that_tells_of_the_next() {
    let (listener, running, client, events) = connect(&soon(), Script::new());
    answer(&listener, "500 Oh");
    let Event::Error(first, failure) = events.next() else { panic!("no on_error") };
    assert_eq!((failure.stage, failure.kind, failure.http_status), (Stage::Http, FailureKind::Refused, Some(500)));
    let Event::Closed(of, ended) = events.next() else { panic!("no on_close") };
    assert_eq!((of, ended.code), (first, 1006));
    let Event::Reconnecting(of, 1, delay, cause) = events.next() else { panic!("no on_reconnecting") };
    assert_eq!((of, cause), (client, ended));
    assert!(delay <= Duration::from_millis(2));

    accept_and_close(&listener, 1012);
    let Event::Opened(second, _) = events.next() else { panic!("no on_open") };
    assert_ne!(first, second);
    let Event::Closed(of, ended) = events.next() else { panic!("no on_close") };
    assert_eq!((of, ended.code, ended.was_clean, ended.by), (second, 1012, true, Side::Peer));
    // It was open for less than `reset_after`.
    assert!(matches!(events.next(), Event::Reconnecting(of, 2, _, _) if of == client));

    accept_and_close(&listener, 1000);
    assert!(matches!(events.next(), Event::Opened(..)));
    assert!(matches!(events.next(), Event::Closed(_, ended) if ended.code == 1000));
    let Event::GaveUp(of, give_up) = events.next() else { panic!("no on_give_up") };
    assert_eq!((of, give_up.kind, give_up.close_code), (client, GiveUpKind::Finished, Some(1000)));
    assert!(give_up.message.contains("1000"), "{give_up}");
    // Nothing comes after it: the handler is gone.
    drop(running);
    assert!(events.try_next().is_none());
}

#[test]
fn a_connection_that_lasted_begins_the_count_anew() {
    let mut reconnect = soon();
    reconnect.reset_after = Duration::ZERO;
    let (listener, _running, _, events) = connect(&reconnect, Script::new());
    for _ in 0..3 {
        accept_and_close(&listener, 1011);
        assert_eq!(events.reconnecting().0, 1);
    }
    answer(&listener, "500 Oh");
    assert_eq!(events.reconnecting().0, 2, "one that was never open has not lasted");
}

#[test]
fn the_client_gives_up_after_so_many_attempts_in_a_row() {
    let (_, url) = nobody();
    let running = Running::idle();
    let mut reconnect = soon();
    reconnect.max_attempts = 3;
    let (_, events) = running.connect_persistently(&url, &Options::default(), &reconnect, Script::new());
    for attempt in 1..=3 {
        assert_eq!(events.reconnecting().0, attempt);
    }
    let give_up = events.gave_up();
    assert_eq!((give_up.kind, give_up.attempts, give_up.http_status), (GiveUpKind::Attempts, 3, None));
    assert!(give_up.message.contains("max_attempts"), "{give_up}");
}

#[test]
fn after_final_close_codes_there_is_no_further_attempt() {
    for code in [1002, 1003, 1007, 1008, 1010, 3500, 4999] {
        let (listener, running, client, events) = connect(&soon(), Script::new());
        accept_and_close(&listener, code);
        let give_up = events.gave_up();
        assert_eq!((give_up.kind, give_up.close_code), (GiveUpKind::CloseCode, Some(code)));
        assert!(give_up.message.contains(&code.to_string()), "{give_up}");
        assert!(running.on_loop(move || matches!(client.send("x"), Err(Error::Closed))));
    }
    for code in [1001, 1009, 1011, 1013, 3000, 4499] {
        let (listener, _running, _, events) = connect(&soon(), Script::new());
        accept_and_close(&listener, code);
        assert_eq!(events.reconnecting().0, 1, "{code}");
        let (_peer, _) = RawPeer::accept_upgrade(&listener);
        events.opened();
    }
}

#[test]
fn a_violation_by_the_server_is_final_as_well() {
    let (listener, _running, _, events) = connect(&soon(), Script::new());
    let (mut peer, _) = RawPeer::accept_upgrade(&listener);
    peer.send_frame(0xff, b"?");
    peer.expect_close(1002);
    assert_eq!(events.gave_up().close_code, Some(1002));
}

#[test]
fn after_final_statuses_there_is_no_further_attempt() {
    for status in [400, 401, 403, 404, 407, 410, 426] {
        let (listener, _running, _, events) = connect(&soon(), Script::new());
        answer(&listener, &format!("{status} No\r\nRetry-After: 1"));
        let give_up = events.gave_up();
        assert_eq!((give_up.kind, give_up.http_status), (GiveUpKind::HttpStatus, Some(status)));
        assert!(give_up.message.contains(&status.to_string()), "{give_up}");
    }
}

#[test]
fn what_a_proxy_answers_counts_as_the_servers_answer_does() {
    for (status, is_final) in
        [(401, true), (403, true), (404, true), (407, true), (410, true), (426, true), (502, false)]
    {
        let (listener, _) = listen();
        let mut options = Options::default();
        options.proxy = Some(format!("http://{}", listener.local_addr().unwrap()).into());
        let running = Running::idle();
        let (client, events) = running.connect_persistently("ws://a.invalid/", &options, &soon(), Script::new());
        answer(&listener, &format!("{status} No"));
        if is_final {
            let give_up = events.gave_up();
            assert_eq!((give_up.kind, give_up.http_status), (GiveUpKind::HttpStatus, Some(status)));
        } else {
            let Event::Error(_, failure) = events.next() else { panic!("no on_error") };
            assert_eq!((failure.stage, failure.http_status), (Stage::Proxy, Some(status)));
            events.reconnecting();
            client.terminate().unwrap();
        }
    }
}

#[test]
fn retry_after_is_honoured_once() {
    let (listener, _running, _, events) = connect(&soon(), Script::new());
    answer(&listener, "503 Busy\r\nRetry-After: 1");
    let (attempt, delay) = events.reconnecting();
    assert_eq!(attempt, 1);
    assert!((Duration::from_secs(1)..=Duration::from_millis(1002)).contains(&delay), "{delay:?}");
    answer(&listener, "429 Slow\r\nDate: Sun, 07 Jun 2026 12:00:00 GMT\r\nRetry-After: Sun, 07 Jun 2026 12:00:01 GMT");
    let (attempt, delay) = events.reconnecting();
    assert_eq!(attempt, 2);
    assert!((Duration::from_secs(1)..=Duration::from_millis(1004)).contains(&delay), "{delay:?}");
    accept_and_close(&listener, 1012);
    assert!(events.reconnecting().1 < Duration::from_secs(1));
    answer(&listener, "503 Busy");
    assert!(events.reconnecting().1 < Duration::from_secs(1));
}

#[test]
fn a_retry_after_without_end_is_cut_to_an_hour() {
    let (listener, _running, client, events) = connect(&soon(), Script::new());
    answer(&listener, "503 Busy\r\nRetry-After: 99999999999999999999");
    let (_, delay) = events.reconnecting();
    assert!((HOUR..HOUR + Duration::from_secs(1)).contains(&delay), "{delay:?}");
    client.close(1000, "").unwrap();
    assert_eq!(events.gave_up().kind, GiveUpKind::Closed);
}

#[test]
fn without_a_queue_what_is_sent_offline_is_refused() {
    let (listener, _running, client, events) = connect(&late(), Script::new());
    // From another thread that is found out on the loop, and told at the end.
    client.send("before it opens").unwrap();
    let (mut peer, _) = RawPeer::accept_upgrade(&listener);
    events.opened();
    client.send("open").unwrap();
    peer.expect_text("open");
    drop(peer);
    events.reconnecting();
    client.send("after it closed").unwrap();
    client.close(1000, "").unwrap();
    assert_eq!(events.gave_up().lost_messages, 2);
}

#[test]
fn what_waits_leaves_in_order_before_what_on_open_sends() {
    let script = Script::new().on_open(|connection| connection.send("from on_open").unwrap());
    let (listener, running, client, events) = connect(&with_queue(soon(), 64 * 1024), script);
    for n in 0..100 {
        client.send(&format!("early {n}")).unwrap();
    }
    // All of them have reached the loop.
    assert!(running.on_loop(move || client.buffered_amount().unwrap()) > 100 * 32);
    let (mut peer, _) = RawPeer::accept_upgrade(&listener);
    for n in 0..100 {
        peer.expect_text(&format!("early {n}"));
    }
    peer.expect_text("from on_open");
    drop(peer);
    events.reconnecting();
    running.on_loop(move || {
        client.send(b"bytes").unwrap();
        client.send("text").unwrap();
    });
    let (mut peer, _) = RawPeer::accept_upgrade(&listener);
    assert_eq!(peer.read_frame().payload, b"bytes");
    peer.expect_text("text");
    peer.expect_text("from on_open");
    assert_eq!(running.on_loop(move || client.buffered_amount().unwrap()), 0);
}

#[test]
fn the_queue_is_bounded() {
    let (_, url) = nobody();
    let running = Running::idle();
    let reconnect = with_queue(late(), 1000);
    let (client, events) = running.connect_persistently(&url, &Options::default(), &reconnect, Script::new());
    events.reconnecting();
    running.on_loop(move || {
        client.send(&vec![0; 968 - 32]).unwrap();
        assert!(matches!(client.send("x"), Err(Error::BacklogFull { backlog: 968, limit: 1000 })));
        client.send("").unwrap();
        assert!(matches!(client.send(""), Err(Error::BacklogFull { backlog: 1000, limit: 1000 })));
        assert_eq!(client.buffered_amount().unwrap(), 1000);
    });
    client.close(1000, "").unwrap();
    assert_eq!(events.gave_up().lost_messages, 2);
}

#[test]
fn a_full_queue_goes_through_to_a_peer_whatever_the_policy() {
    let limit = Options::default().backlog_limit;
    let (listener, running, client, events) = connect(&with_queue(soon(), limit), Script::new());
    let count = running.on_loop(move || (0..limit).take_while(|_| client.send(&[7; 1]).is_ok()).count());
    assert_eq!(count, limit / 33);
    let (mut peer, _) = RawPeer::accept_upgrade(&listener);
    for _ in 0..count {
        assert_eq!(peer.read_frame().payload, [7]);
    }
    events.opened();
}

#[test]
fn a_message_that_was_on_its_way_is_not_sent_again() {
    const SIZE: usize = 32 * 1024 * 1024;
    let (listener, running, client, events) = connect(&with_queue(soon(), 1024), Script::new());
    let (peer, _) = RawPeer::accept_upgrade(&listener);
    let connection = events.opened();
    // More than the kernel takes of a peer that does not read.
    running.on_loop(move || client.send(&vec![1; SIZE]).unwrap());
    peer.reset();
    let ended = events.closed_of(connection);
    assert!((1..SIZE as u64).contains(&ended.unsent_bytes), "{ended:?}");
    let (mut peer, _) = RawPeer::accept_upgrade(&listener);
    events.opened();
    client.send("fresh").unwrap();
    peer.expect_text("fresh");
}

#[test]
fn each_attempt_begins_at_the_first_url_whereto_the_last_was_redirected() {
    let (first, url) = listen();
    let (second, elsewhere) = listen();
    let running = Running::idle();
    let mut options = Options::default();
    options.max_redirects = 1;
    let (_, events) = running.connect_persistently(&url, &options, &soon(), Script::new());
    for _ in 0..2 {
        answer(&first, &format!("302 Found\r\nLocation: {elsewhere}"));
        accept_and_close(&second, 1012);
        events.reconnecting();
    }
}

#[cfg(feature = "tls")]
#[test]
fn over_tls_a_client_comes_back_as_well() {
    let authority = support::tls::Authority::new("A");
    let issued = authority.local();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("wss://{}/", listener.local_addr().unwrap());
    let running = Running::idle();
    let (client, events) = running.connect_persistently(&url, &authority.client(), &soon(), Script::new());
    for _ in 0..3 {
        let mut peer = issued.accept_upgrade(&listener);
        events.opened();
        client.send("hello").unwrap();
        peer.expect_text("hello");
        drop(peer);
        events.reconnecting();
    }
}

#[test]
fn each_attempt_looks_the_name_up_anew() {
    let running = Running::idle();
    // A name that never exists (RFC 6761 section 6.4).
    let (_, events) = running.connect_persistently("ws://host.invalid/", &Options::default(), &soon(), Script::new());
    for attempt in 1..=3 {
        let failure = events.find(|event| match event {
            Event::Error(_, failure) => Some(failure),
            _ => None,
        });
        assert_eq!(failure.stage, Stage::Resolve);
        assert_eq!(events.reconnecting().0, attempt);
    }
}

#[test]
fn a_thousand_clients_that_wait_are_spread_and_cost_no_wake_ups() {
    const COUNT: usize = 1000;
    let (_, url) = nobody();
    let mut event_loop = EventLoop::new().unwrap();
    let (recorder, events) = Recorder::new(Script::new().quiet());
    let shared = Arc::new(Mutex::new(recorder));
    for _ in 0..COUNT {
        event_loop.connect_persistently(&url, &Options::default(), &late(), SharedRecorder(shared.clone())).unwrap();
    }
    let mut delays = Vec::new();
    while delays.len() < COUNT {
        event_loop.turn(Some(DEADLINE)).unwrap();
        while let Some(event) = events.try_next() {
            if let Event::Reconnecting(_, 1, delay, _) = event {
                delays.push(delay);
            }
        }
    }
    // The jitter is proven with the rule itself; here it is used: no two thirds of them within a tenth of the time.
    let tenth = |delay: &Duration| (delay.as_secs_f64() / (1000 * HOUR).as_secs_f64() * 10.0) as usize;
    let tenths: HashSet<usize> = delays.iter().map(tenth).collect();
    assert!(tenths.len() >= 9, "{tenths:?}");
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    // The loop sleeps until the first of them is due.
    let first = *delays.iter().min().unwrap();
    let deadline = event_loop.next_deadline().unwrap().unwrap();
    assert!(deadline > first / 2 && deadline <= first + Duration::from_secs(1), "{deadline:?} of {first:?}");
    event_loop.shutdown(HOUR).unwrap();
    event_loop.run().unwrap();
    let ended = std::iter::from_fn(|| events.try_next()).filter(|event| matches!(event, Event::GaveUp(..))).count();
    assert_eq!(ended, COUNT);
}

/// One recorder for many clients.
struct SharedRecorder(Arc<Mutex<Recorder>>);

impl wsx_core::Handler for SharedRecorder {
    fn on_reconnecting(&mut self, client: Client, reconnecting: &wsx_core::Reconnecting<'_>) {
        self.0.lock().unwrap().on_reconnecting(client, reconnecting);
    }

    fn on_give_up(&mut self, client: Client, give_up: &wsx_core::GiveUp) {
        self.0.lock().unwrap().on_give_up(client, give_up);
    }
}

#[test]
fn clients_work_on_every_thread_of_a_loop() {
    let mut options = LoopOptions::default();
    options.threads = 2;
    let (listener, url) = listen();
    let (recorder, events) = Recorder::new(Script::new());
    let (running, client) = Running::start(&options, move |handle| {
        handle.connect_persistently(&url, &Options::default(), &soon(), recorder).unwrap()
    });
    for _ in 0..2 {
        let (mut peer, _) = RawPeer::accept_upgrade(&listener);
        events.opened();
        client.send("hello").unwrap();
        peer.expect_text("hello");
    }
    running.handle.shutdown(Duration::ZERO).unwrap();
    assert_eq!(events.gave_up().kind, GiveUpKind::Shutdown);
}

#[test]
fn the_engines_own_server_is_found_again() {
    let server = Server::start(&Options::default(), Script::echo());
    let address = server.address();
    let running = Running::idle();
    let reconnect = with_queue(soon(), 1024);
    let (client, events) =
        running.connect_persistently(&url_of(address), &Options::default(), &reconnect, Script::new());
    client.send("one").unwrap();
    assert_eq!(events.text(), "one");
    server.handle.shutdown(Duration::ZERO).unwrap();
    assert!([close::GOING_AWAY, close::ABNORMAL].contains(&events.closed().code));
    drop(server);
    events.reconnecting();
    client.send("two").unwrap();
    let (recorder, _server_events) = Recorder::new(Script::echo());
    let (_again, _) = Running::start(&LoopOptions::default(), move |handle| {
        handle.listen(&address.to_string(), &Options::default(), recorder).unwrap()
    });
    assert_eq!(events.text(), "two");
    eventually("an empty queue", || running.on_loop(move || client.buffered_amount().unwrap()) == 0);
}
