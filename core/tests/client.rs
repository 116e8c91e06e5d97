//! The engine as a client: against its own server, and against raw servers that answer byte by byte what no honest
//! server would.

mod support;

use std::collections::HashSet;
use std::net::TcpListener;
use std::time::Duration;

use support::{BINARY, Event, Events, PING, PONG, RawPeer, Recorder, Running, Script, Server, TEXT, frame};
use wsx_core::{
    Connection, Error, EventLoop, Failure, FailureKind, LoopOptions, Options, ReadyState, Response, Side, Stage,
};

fn options() -> Options {
    Options::default()
}

/// A raw server, a loop for its clients, and where to connect.
fn raw() -> (TcpListener, Running, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/chat?room=1", listener.local_addr().unwrap());
    (listener, Running::idle(), url)
}

/// What a client hears when a raw server answers so; `{accept}` is the right Sec-WebSocket-Accept.
#[track_caller]
fn answered(options: &Options, answer: &str) -> Failure {
    let (listener, running, url) = raw();
    let (connection, events) = running.connect(&url, options, Script::new());
    let mut peer = RawPeer::accept(&listener);
    let head = peer.read_head();
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    peer.write(answer.replace("{accept}", &accept).as_bytes());
    let failure = events.failure_of(connection);
    peer.expect_end();
    failure
}

#[track_caller]
fn assert_refused(answer: &str, kind: FailureKind, status: Option<u16>, says: &str) {
    let failure = answered(&options(), answer);
    assert_eq!((failure.stage, failure.kind, failure.http_status), (Stage::Http, kind, status), "{failure:?}");
    assert!(failure.message.contains(says), "{failure}");
}

#[test]
fn the_request_has_what_a_server_needs_and_what_the_program_adds() {
    let (listener, running, url) = raw();
    let mut options = options();
    options.headers = vec![("Authorization".into(), "Bearer x".into()), ("X-More".into(), "ä".into())];
    options.subprotocols = vec!["chat".into(), "superchat".into()];
    let (_, events) = running.connect(&url, &options, Script::new());
    let mut keys = HashSet::new();
    let mut peer = RawPeer::accept(&listener);
    let head = peer.read_head();
    let lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines[0], "GET /chat?room=1 HTTP/1.1");
    for line in [
        &format!("Host: {}", listener.local_addr().unwrap()),
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: chat, superchat",
        "Authorization: Bearer x",
        "X-More: ä",
    ] {
        assert!(lines.contains(&line), "{line} is not in {head}");
    }
    keys.insert(lines.iter().find(|line| line.starts_with("Sec-WebSocket-Key: ")).unwrap().to_string());
    peer.answer_upgrade(&head, "Sec-WebSocket-Protocol: superchat\r\n");
    assert!(matches!(events.next(), Event::Opened(_, Some(name)) if name == "superchat"));

    let (_, _events) = running.connect(&url, &options, Script::new());
    let head = RawPeer::accept(&listener).read_head();
    keys.insert(head.lines().find(|line| line.starts_with("Sec-WebSocket-Key: ")).unwrap().to_owned());
    assert_eq!(keys.len(), 2, "each handshake has a key of its own");
}

#[test]
fn the_user_of_the_url_is_sent_by_basic_authentication_unless_the_program_says_otherwise() {
    let (listener, running, url) = raw();
    let url = url.replace("://", "://Aladdin:open%20sesame@");
    let asked = |options: &Options| {
        let (_, _events) = running.connect(&url, options, Script::new());
        RawPeer::accept(&listener).read_head()
    };
    let head = asked(&options());
    assert!(head.contains("\r\nAuthorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nHost: {}\r\n", listener.local_addr().unwrap())), "{head}");
    let mut own = options();
    own.headers = vec![("authorization".into(), "Bearer x".into())];
    let head = asked(&own);
    assert!(head.contains("\r\nauthorization: Bearer x\r\n") && !head.contains("Basic"), "{head}");
}

#[test]
fn the_user_of_the_url_is_never_shown() {
    let event_loop = EventLoop::new().unwrap();
    for url in ["ws://user:secret@localhost:x/", "ws://user:sec/ret@localhost/", "http://user:secret@localhost/"] {
        let error = event_loop.connect(url, &options(), Recorder::new(Script::new()).0).unwrap_err().to_string();
        assert!(!error.contains("sec") && !error.contains("user"), "{error}");
    }
    let (listener, running, url) = raw();
    drop(listener);
    let url = url.replace("://", "://user:secret@");
    let (connection, events) = running.connect(&url, &options(), Script::new());
    let failure = events.failure_of(connection);
    assert!(!failure.message.contains("secret"), "{failure}");
}

#[test]
fn a_client_and_a_server_agree_on_the_servers_first_choice() {
    let mut serving = options();
    serving.subprotocols = vec!["v3".into(), "v2".into(), "v1".into()];
    let server = Server::start(&serving, Script::new());
    let url = format!("ws://{}/", server.address());
    let mut offering = options();
    offering.subprotocols = vec!["v1".into(), "v2".into()];
    let (client, events) = server.connect(&url, &offering, Script::new());
    assert!(matches!(events.next(), Event::Opened(_, Some(name)) if name == "v2"));
    assert_eq!(server.on_loop(move || client.subprotocol().unwrap()), Some("v2".into()));
    assert!(matches!(server.events.next(), Event::Opened(_, Some(name)) if name == "v2"));

    offering.subprotocols = vec!["v9".into()];
    let (_, events) = server.connect(&url, &offering, Script::new());
    assert!(matches!(events.next(), Event::Opened(_, None)));
}

#[test]
fn frames_in_the_segment_of_the_answer_are_not_lost() {
    let (listener, running, url) = raw();
    let (_, events) = running.connect(&url, &options(), Script::echo());
    let mut peer = RawPeer::accept(&listener);
    let head = peer.read_head();
    running.meanwhile(|| {
        peer.answer_upgrade(&head, "");
        peer.send_text("early");
        peer.send(PING, b"bird");
        peer.send_text("second");
    });
    assert!(matches!(events.next(), Event::Opened(..)));
    assert!(matches!(events.next(), Event::Text(_, text) if text == "early"));
    assert!(matches!(events.next(), Event::Ping(_, payload) if payload == b"bird"));
    assert!(matches!(events.next(), Event::Text(_, text) if text == "second"));
    peer.expect_text("early");
    assert_eq!(peer.read_frame().opcode, PONG);
    peer.expect_text("second");
}

#[test]
fn an_answer_that_drips_in_is_an_answer() {
    let (listener, running, url) = raw();
    let (_, events) = running.connect(&url, &options(), Script::new());
    let mut peer = RawPeer::accept(&listener);
    let head = peer.read_head();
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let mut bytes = format!(
        "HTTP/1.1 101 \r\nconnection: keep-alive, UPGRADE\r\nupgrade: WebSocket\r\nsec-websocket-accept: {}\r\n\r\n",
        tungstenite::handshake::derive_accept_key(key.as_bytes())
    )
    .into_bytes();
    bytes.extend(frame(0x80 | TEXT, b"dripped", None));
    for byte in bytes {
        peer.write(&[byte]);
    }
    assert_eq!(events.text(), "dripped");
}

#[test]
fn a_refused_connect_tells_the_stage_and_the_systems_error() {
    let (listener, running, url) = raw();
    drop(listener);
    let (connection, events) = running.connect(&url, &options(), Script::new());
    let failure = events.failure_of(connection);
    assert_eq!((failure.stage, failure.kind), (Stage::Connect, FailureKind::Transport));
    assert_eq!(failure.os_error, Some(libc::ECONNREFUSED));
}

#[test]
fn a_name_that_does_not_exist_fails_at_the_lookup_and_the_loop_goes_on_meanwhile() {
    let running = Running::idle();
    let (connection, events) = running.connect("ws://nonexistent.invalid/", &options(), Script::new());
    let state = running.on_loop(move || connection.ready_state().unwrap());
    assert!(matches!(state, ReadyState::Connecting | ReadyState::Closed));
    let failure = events.failure_of(connection);
    assert_eq!((failure.stage, failure.kind), (Stage::Resolve, FailureKind::Transport));
    assert!(failure.message.contains("nonexistent.invalid"), "{failure}");
}

#[test]
fn many_lookups_at_once_are_all_answered() {
    let server = Server::start(&options(), Script::new());
    let url = format!("ws://localhost:{}/", server.address().port());
    let clients: Vec<_> = (0..20).map(|_| server.connect(&url, &options(), Script::new())).collect();
    for (client, events) in &clients {
        assert_eq!(events.opened(), *client);
    }
}

#[test]
fn every_address_of_a_name_is_tried() {
    // A server on one address of localhost only, whichever comes first.
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(address) else { continue };
        let port = listener.local_addr().unwrap().port();
        if address.starts_with('[') && std::fs::read_to_string("/etc/hosts").is_ok_and(|hosts| !hosts.contains("::1")) {
            continue;
        }
        let running = Running::idle();
        let (client, events) = running.connect(&format!("ws://localhost:{port}/"), &options(), Script::new());
        let (_peer, head) = RawPeer::accept_upgrade(&listener);
        assert!(head.contains(&format!("Host: localhost:{port}\r\n")));
        assert_eq!(events.opened(), client);
    }
}

#[test]
fn answers_that_open_nothing_are_told_with_their_status() {
    let refused = FailureKind::Refused;
    assert_refused("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", refused, Some(404), "404 Not Found");
    assert_refused("HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", refused, Some(302), "302");
    assert_refused("HTTP/1.1 200 OK\r\n\r\nhello", refused, Some(200), "200");
    assert_refused("HTTP/1.0 503 \r\n\r\n", refused, Some(503), "503");
}

#[test]
fn answers_that_are_wrong_are_told_as_protocol_failures() {
    let wrong = |lines: &str, says: &str| {
        assert_refused(&format!("HTTP/1.1 101 ok\r\n{lines}\r\n"), FailureKind::Protocol, Some(101), says);
    };
    const RIGHT: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n";
    wrong(&RIGHT.replace("{accept}", support::ACCEPT), "Sec-WebSocket-Accept");
    wrong(&RIGHT.replace("{accept}", "{accept}x"), "Sec-WebSocket-Accept");
    wrong(&RIGHT.replace("websocket", "h2c"), "Upgrade");
    wrong(&RIGHT.replace("Connection: Upgrade", "Connection: close"), "Connection");
    wrong("Upgrade: websocket\r\nConnection: Upgrade\r\n", "Sec-WebSocket-Accept");
    wrong(&format!("{RIGHT}Sec-WebSocket-Protocol: chat\r\n"), "subprotocol");
    wrong(&format!("{RIGHT}Sec-WebSocket-Extensions: permessage-deflate\r\n"), "extension");
    assert_refused("this is not HTTP\r\n\r\n", FailureKind::Protocol, None, "");
    assert_refused("\x16\x03\x01\x02\x00", FailureKind::Protocol, None, "TLS");
}

#[test]
fn an_answer_that_never_ends_is_stopped_at_max_head() {
    let endless = format!("HTTP/1.1 101 ok\r\nX: {}", "x".repeat(20_000));
    let failure = answered(&options(), &endless);
    assert_eq!(failure.stage, Stage::Http);
    assert!(failure.message.contains("max_head"), "{failure}");
}

/// A client whose raw server has accepted and done something before the client's loop sees that TCP is there.
fn server_first(act: impl FnOnce(&mut RawPeer) + Send + 'static) -> (Running, RawPeer, Connection, Events) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    // Nothing but the server's bytes can end this.
    let mut patient = options();
    patient.handshake_timeout = Duration::ZERO;
    let (running, (peer, connection, events)) = Running::start(&LoopOptions::default(), move |handle| {
        let (recorder, events) = Recorder::new(Script::new());
        let connection = handle.connect(&url, &patient, recorder).unwrap();
        let mut peer = RawPeer::accept(&listener);
        act(&mut peer);
        (peer, connection, events)
    });
    (running, peer, connection, events)
}

#[test]
fn a_server_that_speaks_first_and_wrongly_is_noticed_at_once() {
    let speak = |peer: &mut RawPeer| peer.write(b"SSH-2.0-OpenSSH_9.6 no HTTP\n");
    let (_running, _peer, connection, events) = server_first(speak);
    let failure = events.failure_of(connection);
    assert_eq!((failure.stage, failure.kind), (Stage::Http, FailureKind::Protocol));
}

#[test]
fn a_server_that_says_goodbye_before_the_request_is_noticed_at_once() {
    let (_running, _peer, connection, events) = server_first(RawPeer::finish);
    let failure = events.failure_of(connection);
    assert_eq!((failure.stage, failure.kind), (Stage::Http, FailureKind::Transport));
}

#[test]
fn a_server_that_never_answers_is_given_up_after_the_handshake_timeout() {
    let (listener, running, url) = raw();
    let mut hasty = options();
    hasty.handshake_timeout = Duration::from_millis(80);
    let (connection, events) = running.connect(&url, &hasty, Script::new());
    let mut peer = RawPeer::accept(&listener);
    peer.read_head();
    peer.write(b"HTTP/1.1 101 ");
    let failure = events.failure_of(connection);
    assert_eq!((failure.stage, failure.kind), (Stage::Http, FailureKind::Timeout));
    assert!(failure.message.contains("handshake_timeout"), "{failure}");
    peer.expect_end();
}

#[test]
fn a_server_that_ends_before_it_answers_is_told() {
    let (listener, running, url) = raw();
    let (connection, events) = running.connect(&url, &options(), Script::new());
    let mut peer = RawPeer::accept(&listener);
    peer.read_head();
    drop(peer);
    let failure = events.failure_of(connection);
    assert_eq!((failure.stage, failure.kind), (Stage::Http, FailureKind::Transport));
}

#[cfg(not(feature = "tls"))]
#[test]
fn a_build_without_tls_never_speaks_plain_text_instead() {
    let event_loop = EventLoop::new().unwrap();
    let mut options = options();
    let refused = event_loop.connect("wss://127.0.0.1:1/", &options, Recorder::new(Script::new()).0);
    assert!(matches!(refused, Err(Error::Unsupported(_))));
    options.tls = Some(wsx_core::Tls::server("chain.pem", "key.pem"));
    let refused = event_loop.listen("127.0.0.1:0", &options, Recorder::new(Script::new()).0);
    assert!(refused.unwrap_err().to_string().starts_with("this build has no TLS"));
}

#[test]
fn urls_that_cannot_be_used_are_refused_by_the_call() {
    let event_loop = EventLoop::new().unwrap();
    let try_url = |url: &str| event_loop.connect(url, &options(), Recorder::new(Script::new()).0).unwrap_err();
    for url in [
        "http://localhost/",
        "localhost:80",
        "ws://localhost/#part",
        "ws://",
        "ws://u:p%0a@localhost/",
        "",
        "ws://a:x/",
        "ws://a:0/",
        "ws+unix:",
    ] {
        assert!(matches!(try_url(url), Error::InvalidArgument(_)), "{url}");
    }
    let mut smuggling = options();
    smuggling.headers = vec![("X".into(), "a\r\nInjected: b".into())];
    let refused = event_loop.connect("ws://localhost/", &smuggling, Recorder::new(Script::new()).0);
    assert!(matches!(refused, Err(Error::InvalidArgument(_))));
    smuggling.headers = vec![("Host".into(), "other".into())];
    let refused = event_loop.connect("ws://localhost/", &smuggling, Recorder::new(Script::new()).0);
    assert!(matches!(refused, Err(Error::InvalidArgument(_))));
}

/// The signals that a thread has blocked, as bits; none where the thread has ended.
fn blocked_signals(task: &std::path::Path) -> Option<u64> {
    let status = std::fs::read_to_string(task.join("status")).ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

#[test]
fn the_threads_that_look_up_names_take_no_signals_and_the_others_still_do() {
    // All but those that cannot be blocked.
    let all = (1..32).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal));
    let all = all.fold(0_u64, |mask, signal| mask | 1 << (signal - 1));
    let running = Running::idle();
    let own = || blocked_signals("/proc/thread-self".as_ref()).unwrap();
    let before = running.on_loop(own);
    assert_ne!(before & all, all);
    let handle = running.handle.clone();
    let mut found = None;
    support::eventually("a resolver is seen", || {
        let handle = handle.clone();
        let number = running.on_loop(move || {
            // Enough to keep the threads alive for a while.
            for _ in 0..50 {
                let recorder = Recorder::new(Script::new()).0;
                handle.connect("ws://localhost:1/", &options(), recorder).unwrap();
            }
            50
        });
        assert_eq!(number, 50);
        for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
            // Seen twice, so that the mask is that of the thread with this name.
            let is_resolver =
                || std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "wsx-resolver");
            if is_resolver()
                && let Some(mask) = blocked_signals(&task.path())
                && is_resolver()
            {
                found = Some(mask);
            }
        }
        found.is_some()
    });
    let mask = found.unwrap();
    assert_eq!(mask & all, all, "{mask:#x}");
    assert_eq!(running.on_loop(own), before);
}

#[test]
fn a_client_masks_every_frame_with_a_key_of_its_own() {
    let (listener, running, url) = raw();
    let script = Script::new().on_open(|client| {
        for size in [0, 5, 200, 70_000] {
            client.send(&vec![0; size]).unwrap();
        }
        client.ping(b"ping").unwrap();
        client.close(1000, "").unwrap();
    });
    let (_, _events) = running.connect(&url, &options(), script);
    let (mut peer, _) = RawPeer::accept_upgrade(&listener);
    // The key follows the length, which these sizes put in all three places.
    let mut keys = HashSet::new();
    for header in [2, 2, 4, 10, 2, 2] {
        let start = peer.read_bytes(header);
        assert_eq!(start[1] & 0x80, 0x80, "a frame is not masked");
        let key = peer.read_bytes(4);
        let length = match start[1] & 0x7f {
            126 => usize::from(u16::from_be_bytes([start[2], start[3]])),
            127 => u64::from_be_bytes(start[2..].try_into().unwrap()) as usize,
            length => length.into(),
        };
        let payload = peer.read_bytes(length);
        if start[0] & 15 == BINARY {
            assert!(payload.iter().enumerate().all(|(at, byte)| *byte == key[at % 4]), "masked by another key");
        }
        keys.insert(key);
    }
    assert_eq!(keys.len(), 6, "a key was used twice: {keys:?}");
}

#[test]
fn a_server_that_masks_breaks_the_protocol() {
    let (listener, running, url) = raw();
    let (_, events) = running.connect(&url, &options(), Script::new());
    let (mut peer, _) = RawPeer::accept_upgrade(&listener);
    peer.write(&frame(0x80 | TEXT, b"masked", Some(support::MASK)));
    let close = peer.read_frame();
    assert!(close.masked);
    assert_eq!(close.close().0, Some(1002));
    drop(peer);
    let ended = events.closed();
    assert_eq!((ended.code, ended.by), (1002, Side::Us));
    assert_eq!(ended.failure.unwrap().kind, FailureKind::Protocol);
}

#[test]
fn a_clients_heartbeat_keeps_a_living_server_and_finds_a_dead_one() {
    let mut beating = options();
    beating.ping_interval = Duration::from_millis(10);
    beating.pong_timeout = Duration::from_millis(400);
    let (listener, running, url) = raw();
    let (_, events) = running.connect(&url, &beating, Script::new());
    let (mut peer, _) = RawPeer::accept_upgrade(&listener);
    // Far longer than the timeout.
    for _ in 0..100 {
        let ping = peer.read_frame();
        assert_eq!((ping.opcode, ping.masked), (PING, true));
        peer.send(PONG, &ping.payload);
    }
    peer.send_text("alive");
    assert!(matches!(events.next(), Event::Opened(..)));
    // The answers to the heartbeat are its own business.
    assert!(matches!(events.next(), Event::Text(_, text) if text == "alive"));
    let ended = events.closed();
    assert_eq!((ended.code, ended.by), (1006, Side::Us));
    assert!(ended.cause().contains("pong_timeout"), "{}", ended.cause());
}

#[test]
fn a_request_hook_sees_what_a_client_asks() {
    let server = Server::start(
        &options(),
        Script::new().on_request(|request| match (request.path(), request.query(), request.header("x-token")) {
            ("/private", Some("a=b"), Some("secret")) => Response::accept().header("X-Granted", "yes"),
            _ => Response::reject(401, "who are you?"),
        }),
    );
    let mut knowing = options();
    knowing.headers = vec![("X-Token".into(), "secret".into())];
    let url = format!("ws://{}/private?a=b", server.address());
    let (client, events) = server.connect(&url, &knowing, Script::new());
    assert_eq!(events.opened(), client);
    let (client, events) = server.connect(&url, &options(), Script::new());
    let failure = events.failure_of(client);
    assert_eq!((failure.kind, failure.http_status), (FailureKind::Refused, Some(401)));
}
