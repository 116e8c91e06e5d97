//! Routes: several paths of one listener, each with options and a handler of its own.

mod support;

use std::sync::mpsc;
use std::time::Duration;

use support::{DEADLINE, Events, MASK, RawPeer, Recorder, Script, Server, TEXT, eventually, frame, status, upgrade};
use wsx_core::{
    BacklogPolicy, Connection, Error, FailureKind, Handler, Listener, LoopOptions, Message, Opening, Options, Origins,
    Response, Tls,
};

fn options() -> Options {
    Options::default()
}

/// Begins a route of a server's listener.
fn route(server: &Server, path: &str, options: &Options, script: Script) -> (Listener, Events) {
    let (recorder, events) = Recorder::new(script);
    let (handle, listener) = (server.handle.clone(), server.listener);
    let (path, options) = (path.to_owned(), options.clone());
    (server.on_loop(move || handle.route(listener, &path, &options, recorder).unwrap()), events)
}

/// Why a route cannot begin.
fn refused(server: &Server, listener: Listener, path: &str, options: &Options) -> Error {
    let (handle, path, options) = (server.handle.clone(), path.to_owned(), options.clone());
    server.on_loop(move || handle.route(listener, &path, &options, Recorder::new(Script::new()).0).unwrap_err())
}

fn open(server: &Server, path: &str) -> RawPeer {
    let mut peer = RawPeer::connect(server.address());
    peer.write(upgrade("a", path, "").as_bytes());
    peer.expect_upgrade();
    peer
}

/// A script that answers each message with this.
fn saying(text: &'static str) -> Script {
    Script::new().on_message(move |connection, _| connection.send(text).unwrap())
}

#[test]
fn each_path_has_a_handler_and_options_of_its_own() {
    let server = Server::start(&options(), saying("listener"));
    let mut small = options();
    small.max_message = 10;
    small.subprotocols = vec!["chat".into()];
    let (_, chat) = route(&server, "/chat", &small, saying("chat"));
    let (_, rooms) = route(&server, "/rooms/*", &options(), saying("rooms"));
    for (path, said) in [
        ("/", "listener"),
        ("/chat?x=1", "chat"),
        ("/chat/", "listener"),
        ("/rooms", "listener"),
        ("/rooms/", "rooms"),
        ("/rooms/7/x?/chat", "rooms"),
        ("/rooms/../chat", "rooms"),
    ] {
        let mut peer = open(&server, path);
        peer.send_text("who?");
        peer.expect_text(said);
        peer.send_close(Some(1000), "");
        peer.expect_close(1000);
    }
    assert!(chat.closed().was_clean && rooms.closed().was_clean && server.events.closed().was_clean);

    let mut peer = RawPeer::connect(server.address());
    peer.write(upgrade("a", "/chat", "Sec-WebSocket-Protocol: chat\r\n").as_bytes());
    assert!(peer.expect_upgrade().contains("\r\nSec-WebSocket-Protocol: chat\r\n"));
    peer.send_text("more than ten");
    peer.expect_close(1009);
    let mut peer = open(&server, "/");
    peer.send_text("more than ten");
    peer.expect_text("listener");
}

#[test]
fn the_hook_and_the_origins_are_the_routes_and_so_are_its_errors() {
    let mut strict = options();
    strict.path = Some("/only".into());
    let server = Server::start(&strict, Script::new());
    let mut public = options();
    public.origins = Origins::Any;
    let answer = || Response::page("text/plain", "of the route").header("X-A", "b");
    let (_, events) = route(&server, "/page", &public, Script::new().on_request(move |_| answer()));
    let (_, bad) = route(&server, "/bad", &options(), Script::new().on_request(|_| Response::reject(99, "")));
    let foreign = "Origin: https://evil.example\r\n";
    assert_eq!(server.ask("GET /page HTTP/1.1\r\nHost: a\r\n\r\n").body, "of the route");
    assert_eq!(server.ask(&upgrade("a", "/page", foreign)).body, "of the route");
    assert_eq!(server.ask(&upgrade("a", "/bad", foreign)).status, 403);
    assert_eq!(server.ask(&upgrade("a", "/bad", "")).status, 500);
    assert_eq!(bad.listener_error().kind, FailureKind::Callback);
    assert_eq!(server.ask(&upgrade("a", "/other", "")).status, 404);
    assert_eq!(server.status_of(&upgrade("a", "/only", "")), 101);
    server.events.opened();
    assert!(events.try_next().is_none());
    // A plain request that no hook answers is told what is served where it asked.
    let (_, _socket) = route(&server, "/socket", &options(), Script::new());
    assert_eq!(server.ask("GET /socket HTTP/1.1\r\nHost: a\r\n\r\n").status, 426);
    assert_eq!(server.ask("GET /other HTTP/1.1\r\nHost: a\r\n\r\n").status, 404);
}

#[test]
fn a_broadcast_and_a_count_are_those_of_a_route_alone() {
    let server = Server::start(&options(), Script::new());
    let (chat, _events) = route(&server, "/chat", &options(), Script::new());
    let (mut one, mut two, mut other) = (open(&server, "/chat"), open(&server, "/chat"), open(&server, "/"));
    server.expect_connections(3);
    let (listener, handle) = (server.listener, server.handle.clone());
    server.on_loop(move || {
        assert_eq!((chat.connection_count().unwrap(), listener.connection_count().unwrap()), (2, 1));
        assert_eq!(chat.connections().unwrap().len(), 2);
        assert_eq!(chat.local_address().unwrap(), listener.local_address().unwrap());
        let (of_chat, of_listener) = (chat.statistics().unwrap(), listener.statistics().unwrap());
        assert_eq!((of_chat.accepted, of_chat.opened, of_chat.connections, of_chat.handshakes), (0, 2, 2, 0));
        assert_eq!((of_listener.accepted, of_listener.opened, of_listener.handshakes), (3, 1, 0));
        chat.broadcast("to the route", None).unwrap();
        listener.broadcast("to the listener", None).unwrap();
        handle.broadcast("to all", None).unwrap();
    });
    for peer in [&mut one, &mut two] {
        peer.expect_text("to the route");
        peer.expect_text("to all");
    }
    other.expect_text("to the listener");
    other.expect_text("to all");
    drop(one);
    eventually("the count of the route", || server.on_loop(move || chat.connection_count().unwrap() == 1));
}

#[test]
fn a_closed_route_gives_its_path_back_and_keeps_its_connections() {
    let server = Server::start(&options(), saying("listener"));
    let (chat, events) = route(&server, "/chat", &options(), saying("chat"));
    let mut peer = open(&server, "/chat");
    server.on_loop(move || {
        chat.close().unwrap();
        assert!(matches!(chat.close(), Err(Error::Closed)));
        assert!(matches!(chat.local_address(), Err(Error::Closed)));
        assert_eq!(chat.connection_count().unwrap(), 1);
    });
    let mut next = open(&server, "/chat");
    next.send_text("who?");
    next.expect_text("listener");
    peer.send_text("who?");
    peer.expect_text("chat");
    peer.send_close(Some(1000), "");
    peer.expect_close(1000);
    assert!(events.closed().was_clean);
    // The last connection gone, so is the route, and its handler.
    eventually("the number is stale", || server.on_loop(move || matches!(chat.connection_count(), Err(Error::Closed))));
    // The path is free for another.
    let (_, _events) = route(&server, "/chat", &options(), saying("anew"));
    let mut peer = open(&server, "/chat");
    peer.send_text("who?");
    peer.expect_text("anew");
}

#[test]
fn a_closed_listener_ends_its_routes_when_the_last_connection_has_gone() {
    let server = Server::start(&options(), Script::new());
    let (ends, ended) = mpsc::channel();
    struct Tells(mpsc::Sender<&'static str>);
    impl Drop for Tells {
        fn drop(&mut self) {
            let _ = self.0.send("dropped");
        }
    }
    impl Handler for Tells {
        fn on_close(&mut self, _: Connection, _: &wsx_core::Close<'_>) {
            self.0.send("closed").unwrap();
        }
    }
    let (handle, listener, idle) = (server.handle.clone(), server.listener, ends.clone());
    let chat = server.on_loop(move || {
        handle.route(listener, "/idle", &options(), Tells(idle)).unwrap();
        handle.route(listener, "/chat", &options(), Tells(ends)).unwrap()
    });
    let mut peer = open(&server, "/chat");
    server.expect_connections(1);
    let address = server.address();
    server.on_loop(move || {
        listener.close().unwrap();
        assert!(matches!(chat.close(), Err(Error::Closed)));
        assert_eq!(chat.connection_count().unwrap(), 1);
        chat.broadcast("still there", None).unwrap();
    });
    assert!(std::net::TcpStream::connect(address).is_err());
    assert!(ended.try_recv().is_err());
    peer.expect_text("still there");
    peer.send_close(Some(1000), "");
    peer.expect_close(1000);
    let order: Vec<_> = (0..3).map(|_| ended.recv_timeout(DEADLINE).unwrap()).collect();
    assert_eq!(order, ["closed", "dropped", "dropped"]);
}

#[test]
fn the_head_of_a_request_that_a_route_answers_later_may_be_what_the_listener_allows() {
    let mut large = options();
    (large.max_head, large.max_headers) = (64 * 1024, 200);
    let server = Server::start(&large, Script::new());
    let (asks, asked) = mpsc::channel();
    let script = Script::echo().on_request(move |request| {
        asks.send(request.connection()).unwrap();
        Response::later()
    });
    let (_, _events) = route(&server, "/later", &options(), script);
    let mut peer = RawPeer::connect(server.address());
    let headers: String = (0..150).map(|number| format!("X-{number}: {number}\r\n")).collect();
    let mut bytes = upgrade("a", "/later", &headers).into_bytes();
    // What comes behind it is kept up to the same limit.
    let message = "x".repeat(20_000);
    bytes.extend(frame(0x80 | TEXT, message.as_bytes(), Some(MASK)));
    peer.write(&bytes);
    let connection = asked.recv_timeout(DEADLINE).unwrap();
    connection.respond(Response::accept()).unwrap();
    peer.expect_upgrade();
    peer.expect_text(&message);
}

#[test]
fn what_cannot_be_a_route_is_refused_with_the_reason() {
    let server = Server::start(&options(), Script::new());
    let (chat, _events) = route(&server, "/chat", &options(), Script::new());
    let why = |error: Error| match error {
        Error::InvalidArgument(why) => why.into_owned(),
        error => panic!("{error}"),
    };
    let listener = server.listener;
    assert!(why(refused(&server, listener, "/chat", &options())).contains("a route to /chat already"));
    assert!(why(refused(&server, listener, "chat", &options())).contains("is no path of a route"));
    assert!(why(refused(&server, listener, "/a*", &options())).contains("is no path of a route"));
    assert!(why(refused(&server, chat, "/chat/x", &options())).contains("give the listener that it belongs to"));
    type Set = fn(&mut Options);
    let set: [(&str, Set); 11] = [
        ("tls", |options| options.tls = Some(Tls::default())),
        ("path", |options| options.path = Some("/".into())),
        ("listen_backlog", |options| options.listen_backlog = 1),
        ("reuse_port", |options| options.reuse_port = true),
        ("no_delay", |options| options.no_delay = false),
        ("keep_alive_idle", |options| options.keep_alive_idle += Duration::from_secs(1)),
        ("keep_alive_interval", |options| options.keep_alive_interval += Duration::from_secs(1)),
        ("keep_alive_count", |options| options.keep_alive_count += 1),
        ("max_head", |options| options.max_head = 1000),
        ("max_headers", |options| options.max_headers = 10),
        ("max_connections_per_address", |options| options.max_connections_per_address = 1),
    ];
    for (name, set) in set {
        let mut options = options();
        set(&mut options);
        let why = why(refused(&server, listener, "/x", &options));
        assert_eq!(why, format!("the option {name} is the listener's, and no route has its own"));
    }
    let mut bad = options();
    bad.origins = Origins::List(vec!["https://*".into()]);
    assert!(why(refused(&server, listener, "/x", &bad)).contains("is no origin"));
    let reload = server.on_loop(move || chat.reload_tls(&Tls::default()).unwrap_err());
    assert!(matches!(reload, Error::InvalidArgument(_) | Error::Unsupported(_)), "{reload}");
    server.on_loop(move || listener.close().unwrap());
    assert!(matches!(refused(&server, listener, "/x", &options()), Error::Closed));
    // A number of the same loop that is no listener's.
    let stale = Listener::from_id(listener.id() + (1 << 24));
    assert!(matches!(refused(&server, stale, "/x", &options()), Error::Closed));
    // From a thread that is not the loop's.
    let (recorder, _events) = Recorder::new(Script::new());
    assert!(matches!(server.handle.route(listener, "/x", &options(), recorder), Err(Error::WrongThread)));
}

#[test]
fn the_listeners_limit_holds_for_all_and_a_route_may_have_one_beside_it() {
    let mut three = options();
    three.max_connections = 3;
    let server = Server::start(&three, Script::new());
    let mut one = options();
    one.max_connections = 1;
    let (_, _events) = route(&server, "/one", &one, Script::new());
    let (_, _events) = route(&server, "/any", &options(), Script::new());
    let first = open(&server, "/one");
    assert_eq!(server.status_of(&upgrade("a", "/one", "")), 503);
    let (_second, _third) = (open(&server, "/any"), open(&server, "/"));
    for path in ["/", "/any", "/one"] {
        assert_eq!(server.status_of(&upgrade("a", path, "")), 503, "{path}");
    }
    drop(first);
    eventually("there is room again", || server.status_of(&upgrade("a", "/any", "")) == 101);
}

#[test]
fn a_connection_that_is_refused_counts_until_it_has_ended() {
    let server = Server::start(&options(), Script::new());
    let mut one = options();
    one.max_connections = 1;
    let (_, _events) = route(&server, "/one", &one, Script::new());
    let mut refused = RawPeer::connect(server.address());
    refused.write(upgrade("a", "/one", "Origin: https://elsewhere.example\r\n").as_bytes());
    assert_eq!(status(&refused.read_head()), 403);
    assert_eq!(server.status_of(&upgrade("a", "/one", "")), 503);
    drop(refused);
    eventually("there is room again", || server.status_of(&upgrade("a", "/one", "")) == 101);
}

#[test]
fn an_answer_of_a_route_may_come_later_within_its_own_timeout() {
    let server = Server::start(&options(), Script::new());
    let mut short = options();
    short.handshake_timeout = Duration::from_millis(100);
    short.backlog_policy = BacklogPolicy::Refuse;
    let (asks, asked) = mpsc::channel();
    let script = saying("later").on_request(move |request| {
        asks.send(request.connection()).unwrap();
        Response::later()
    });
    let (later, events) = route(&server, "/later", &short, script);
    let mut peer = RawPeer::connect(server.address());
    peer.write(upgrade("a", "/later", "").as_bytes());
    asked.recv_timeout(DEADLINE).unwrap();
    assert_eq!(peer.read_answer().status, 503);
    assert_eq!(events.listener_error().kind, FailureKind::Timeout);
    let mut peer = RawPeer::connect(server.address());
    peer.write(upgrade("a", "/later", "").as_bytes());
    let connection = asked.recv_timeout(DEADLINE).unwrap();
    // The route may close meanwhile: who has asked is answered.
    server.on_loop(move || later.close().unwrap());
    let _ = connection.respond(Response::accept());
    if status(&peer.read_head()) == 101 {
        peer.send_text("who?");
        peer.expect_text("later");
    }
}

#[test]
fn several_threads_serve_a_route() {
    #[derive(Clone)]
    struct Says(&'static str);
    impl Handler for Says {
        fn on_open(&mut self, connection: Connection, _: &Opening<'_>) {
            connection.send(self.0).unwrap();
        }
        fn on_message(&mut self, connection: Connection, message: Message<'_>) {
            connection.send(message).unwrap();
        }
        fn for_another_thread(&self) -> Option<Box<dyn Handler>> {
            Some(Box::new(self.clone()))
        }
    }
    let mut threads = LoopOptions::default();
    threads.threads = 3;
    let (running, (listener, chat, address)) = support::Running::start(&threads, |handle| {
        let listener = handle.listen("127.0.0.1:0", &options(), Says("listener")).unwrap();
        let alone = Recorder::new(Script::new()).0;
        let refused = handle.route(listener, "/alone", &options(), alone);
        assert!(matches!(refused, Err(Error::InvalidArgument(why)) if why.contains("for_another_thread")));
        let chat = handle.route(listener, "/chat", &options(), Says("chat")).unwrap();
        (listener, chat, listener.local_address().unwrap())
    });
    let wsx_core::Address::Tcp(address) = address else { panic!() };
    let open = |path: &str, said: &str| {
        let mut peer = RawPeer::connect(address);
        peer.write(upgrade("a", path, "").as_bytes());
        peer.expect_upgrade();
        peer.expect_text(said);
        peer
    };
    let mut peers: Vec<_> = (0..20).map(|_| open("/chat", "chat")).collect();
    let mut others: Vec<_> = (0..4).map(|_| open("/", "listener")).collect();
    assert_eq!(running.on_loop(move || chat.connection_count().unwrap()), 20);
    assert_eq!(running.on_loop(move || listener.connection_count().unwrap()), 4);
    chat.broadcast("to the route", None).unwrap();
    listener.broadcast("to the listener", None).unwrap();
    for peer in &mut peers {
        peer.expect_text("to the route");
    }
    for peer in &mut others {
        peer.expect_text("to the listener");
    }
    chat.close().unwrap();
    eventually("every thread has closed the route", || {
        let mut peer = RawPeer::connect(address);
        peer.write(upgrade("a", "/chat", "").as_bytes());
        peer.expect_upgrade();
        peer.read_frame().text() == "listener"
    });
    drop(peers);
    drop(others);
    running.handle.shutdown(DEADLINE).unwrap();
}

#[cfg(feature = "tls")]
#[test]
fn a_route_is_served_over_the_listeners_tls() {
    use support::tls::{Authority, VERSIONS, connect};
    let authority = Authority::new("A");
    let server = Server::start(&authority.local().server(), saying("listener"));
    let (chat, events) = route(&server, "/chat", &options(), saying("chat"));
    let reload = authority.local().server().tls.unwrap();
    let error = server.on_loop(move || chat.reload_tls(&reload).unwrap_err());
    assert!(error.to_string().contains("a route has no TLS of its own"), "{error}");
    for version in VERSIONS {
        let mut peer = connect(server.address(), authority.raw_client(&[version], None), "localhost");
        peer.write(upgrade("a", "/chat", "").as_bytes());
        peer.expect_upgrade();
        peer.send_text("who?");
        peer.expect_text("chat");
    }
    events.opened();
}
