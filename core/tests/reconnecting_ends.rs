//! How a client that connects again ends: closed by the program, at any time and from anywhere, or with its loop; and what is
//! not begun at all.

mod support;

use std::sync::{Arc, Mutex};

use support::clients::{HOUR, connect, late, listen, nobody, soon, with_queue};
use support::{DEADLINE, Event, RawPeer, Recorder, Running, Script, Server};
use wsx_core::{Client, Connection, Error, EventLoop, FailureKind, GiveUpKind, Options, ReadyState, Reconnect};

#[test]
fn closing_the_connection_alone_is_to_connect_again_unless_the_code_says_otherwise() {
    let (listener, _running, client, events) = connect(&soon(), Script::new());
    let (mut peer, _) = RawPeer::accept_upgrade(&listener);
    events.opened().close(4000, "again").unwrap();
    peer.expect_close(4000);
    peer.send_close(Some(4000), "");
    drop(peer);
    events.reconnecting();
    let (peer, _) = RawPeer::accept_upgrade(&listener);
    events.opened().terminate().unwrap();
    events.reconnecting();
    drop(peer);
    let (mut peer, _) = RawPeer::accept_upgrade(&listener);
    events.opened().close(1000, "").unwrap();
    peer.expect_close(1000);
    peer.send_close(Some(1000), "");
    drop(peer);
    assert_eq!(events.gave_up().kind, GiveUpKind::Finished);
    assert!(matches!(client.close(1000, ""), Err(Error::Closed)) || events.try_next().is_none());
}

#[test]
fn a_client_that_waits_ends_at_once() {
    for end in [|client: Client| client.close(1000, ""), Client::terminate] {
        let (_, url) = nobody();
        let running = Running::idle();
        let (client, events) = running.connect_persistently(&url, &Options::default(), &late(), Script::new());
        events.reconnecting();
        assert_eq!(running.on_loop(move || client.connection().unwrap()), None);
        // From another thread, as this is.
        end(client).unwrap();
        let give_up = events.gave_up();
        assert_eq!((give_up.kind, give_up.close_code, give_up.attempts), (GiveUpKind::Closed, None, 1));
    }
}

#[test]
fn a_client_whose_server_does_not_answer_the_close_can_be_cut() {
    let (listener, running, client, events) = connect(&soon(), Script::new());
    let (mut peer, _) = RawPeer::accept_upgrade(&listener);
    let connection = events.opened();
    let told = running.on_loop(move || {
        let closed = [client.close(1000, ""), client.close(1000, "")];
        (closed, [client.terminate(), client.terminate(), client.close(1000, "")])
    });
    assert!(
        matches!(told, ([Ok(()), Err(Error::Closed)], [Ok(()), Err(Error::Closed), Err(Error::Closed)])),
        "{told:?}"
    );
    peer.expect_end();
    // Nor has it waited for the closing timeout, which would be a failure.
    let close = events.closed_of(connection);
    assert_eq!((close.code, close.failure), (1006, None));
    assert_eq!(events.gave_up().kind, GiveUpKind::Closed);
}

#[test]
fn a_client_that_connects_gives_that_up() {
    let (listener, _running, client, events) = connect(&soon(), Script::new());
    let mut peer = RawPeer::accept(&listener);
    peer.read_head();
    client.close(1000, "").unwrap();
    let Event::Closed(_, ended) = events.next() else { panic!("no on_close") };
    assert_eq!((ended.code, ended.failure), (1006, None));
    assert!(matches!(events.next(), Event::GaveUp(_, give_up) if give_up.kind == GiveUpKind::Closed));
    peer.expect_end();
}

#[test]
fn a_client_may_be_closed_in_each_of_its_callbacks() {
    // The client's number, once it is known; the first callback comes later.
    let known = Arc::new(Mutex::new(None::<Client>));
    let close = |known: &Arc<Mutex<Option<Client>>>| {
        let known = known.clone();
        move || known.lock().unwrap().unwrap().close(1000, "").unwrap()
    };
    type Closes = fn(Box<dyn Fn() + Send>) -> Script;
    let scripts: [Closes; 3] = [
        |close| Script::new().on_open(move |_| close()),
        |close| Script::new().on_close(move |_, _| close()),
        |close| Script::new().on_reconnecting(move |_| close()),
    ];
    for script in scripts {
        let (listener, url) = listen();
        let running = Running::idle();
        let (recorder, events) = Recorder::new(script(Box::new(close(&known))));
        let (handle, number) = (running.handle.clone(), known.clone());
        running.on_loop(move || {
            let client = handle.connect_persistently(&url, &Options::default(), &soon(), recorder).unwrap();
            *number.lock().unwrap() = Some(client);
        });
        let (mut peer, _) = RawPeer::accept_upgrade(&listener);
        peer.send_close(Some(1011), "");
        drop(peer);
        assert_eq!(events.gave_up().kind, GiveUpKind::Closed);
    }
}

#[test]
fn in_its_last_event_a_client_is_closed_and_the_program_may_begin_another() {
    let (_, url) = nobody();
    let running = Running::idle();
    let (again, handle) = (url.clone(), running.handle.clone());
    let mut reconnect = soon();
    reconnect.max_attempts = 1;
    let (recorder, second) = Recorder::new(Script::new());
    let mut recorder = Some(recorder);
    let more = reconnect.clone();
    let script = Script::new().on_give_up(move |client| {
        assert!(matches!(client.send("x"), Err(Error::Closed)));
        assert!(matches!(client.close(1000, ""), Err(Error::Closed)));
        assert!(matches!(client.terminate(), Err(Error::Closed)));
        assert!(matches!(client.connection(), Err(Error::Closed)));
        assert!(matches!(client.buffered_amount(), Err(Error::Closed)));
        handle.connect_persistently(&again, &Options::default(), &more, recorder.take().unwrap()).unwrap();
    });
    let (_, events) = running.connect_persistently(&url, &Options::default(), &reconnect, script);
    assert_eq!(events.gave_up().kind, GiveUpKind::Attempts);
    assert_eq!(second.gave_up().kind, GiveUpKind::Attempts);
}

#[test]
fn a_callback_that_panics_costs_its_connection_and_not_the_client() {
    let script = Script::new()
        .on_reconnecting(|_| std::panic::resume_unwind(Box::new("reconnecting")))
        .on_open(|_| std::panic::resume_unwind(Box::new("open")));
    let (listener, _running, client, events) = connect(&soon(), script);
    for _ in 0..2 {
        let (mut peer, _) = RawPeer::accept_upgrade(&listener);
        peer.expect_close(1011);
        peer.send_close(Some(1011), "");
        drop(peer);
        let ended = events.closed();
        assert_eq!((ended.code, ended.failure.unwrap().kind), (1011, FailureKind::Callback));
    }
    client.close(1000, "").unwrap();
    assert_eq!(events.gave_up().kind, GiveUpKind::Closed);
}

#[test]
fn a_shutdown_ends_clients_at_once() {
    let (listener, url) = listen();
    let (_, dead) = nobody();
    let mut running = Running::idle();
    let (_, open) = running.connect_persistently(&url, &Options::default(), &soon(), Script::new());
    let (mut peer, _) = RawPeer::accept_upgrade(&listener);
    open.opened();
    let (_, waiting) = running.connect_persistently(&dead, &Options::default(), &late(), Script::new());
    waiting.reconnecting();
    let (_, connecting) = running.connect_persistently(&url, &Options::default(), &soon(), Script::new());
    let mut silent = RawPeer::accept(&listener);
    silent.read_head();
    running.handle.shutdown(HOUR).unwrap();
    let give_up = waiting.gave_up();
    assert_eq!((give_up.kind, give_up.close_code), (GiveUpKind::Shutdown, None));
    assert_eq!(connecting.gave_up().kind, GiveUpKind::Shutdown);
    peer.expect_close(1001);
    peer.send_close(Some(1001), "");
    drop(peer);
    assert_eq!(open.gave_up().kind, GiveUpKind::Shutdown);
    running.join();
}

#[test]
fn a_loop_that_is_dropped_ends_its_clients() {
    let (_, url) = nobody();
    let mut event_loop = EventLoop::new().unwrap();
    let (recorder, events) = Recorder::new(Script::new());
    let client = event_loop.connect_persistently(&url, &Options::default(), &late(), recorder).unwrap();
    let heard = || std::iter::from_fn(|| events.try_next());
    while !heard().any(|event| matches!(event, Event::Reconnecting(..))) {
        event_loop.turn(Some(DEADLINE)).unwrap();
    }
    drop(event_loop);
    assert_eq!(events.gave_up().kind, GiveUpKind::Shutdown);
    assert!(matches!(client.send("x"), Err(Error::Closed)));
    assert!(matches!(client.close(1000, ""), Err(Error::Closed)));
}

#[test]
fn a_stale_number_says_closed_and_is_never_a_connections() {
    let (listener, running, client, events) = connect(&soon(), Script::new());
    let (_peer, _) = RawPeer::accept_upgrade(&listener);
    events.opened();
    let mistaken = Connection::from_id(client.id());
    running.on_loop(move || {
        assert!(matches!(mistaken.send("x"), Err(Error::Closed)));
        assert_eq!(mistaken.ready_state().unwrap(), ReadyState::Closed);
        let connection = client.connection().unwrap().unwrap();
        assert!(matches!(Client::from_id(connection.id()).send("x"), Err(Error::Closed)));
    });
    client.terminate().unwrap();
    events.gave_up();
    // Another client may have its place, but never its number.
    let (_, url) = nobody();
    let (next, _events) = running.connect_persistently(&url, &Options::default(), &late(), Script::new());
    assert_ne!(client, next);
    running.on_loop(move || {
        assert!(matches!(client.send("x"), Err(Error::Closed)));
        assert!(matches!(client.close(1000, ""), Err(Error::Closed)));
        assert!(matches!(client.connection(), Err(Error::Closed)));
    });
}

#[test]
fn a_client_of_a_listener_or_a_plain_connection_is_none() {
    let server = Server::start(&Options::default(), Script::new());
    let listener = Client::from_id(server.listener.id());
    assert!(matches!(server.on_loop(move || listener.send("x")), Err(Error::Closed)));
}

#[test]
fn what_cannot_be_is_refused_where_the_client_is_made() {
    let event_loop = EventLoop::new().unwrap();
    let refused = |url: &str, reconnect: &Reconnect| {
        let (recorder, _events) = Recorder::new(Script::new());
        match event_loop.connect_persistently(url, &Options::default(), reconnect, recorder) {
            Err(Error::InvalidArgument(why)) => why.into_owned(),
            other => panic!("{other:?}"),
        }
    };
    let mut reconnect = soon();
    reconnect.base_delay = HOUR;
    assert!(refused("ws://127.0.0.1/", &reconnect).contains("base_delay"));
    let queue = with_queue(soon(), 2 * 1024 * 1024);
    assert!(refused("ws://127.0.0.1/", &queue).contains("offline_limit"));
    assert!(refused("http://127.0.0.1/", &soon()).contains("ws://"));
}
