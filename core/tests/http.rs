//! The request hook and its answers: opening, rejecting, whole pages, and streams that stay open.

mod support;

use std::io::Read;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use support::{DEADLINE, Event, MASK, PING, PONG, RawPeer, Script, Server, TEXT, frame, upgrade};
use wsx_core::{Address, Connection, Error, FailureKind, Options, ReadyState, Response, Side, Stage};

fn options() -> Options {
    Options::default()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// A server whose hook answers so.
fn answering(answer: impl Fn() -> Response + Send + 'static) -> Server {
    Server::start(&options(), Script::new().on_request(move |_| answer()))
}

/// A server whose hook answers with a stream, and tells its number.
fn streaming(options: &Options) -> (Server, mpsc::Receiver<Connection>) {
    let (sender, receiver) = mpsc::channel();
    let script = Script::new().on_request(move |request| {
        sender.send(request.connection()).unwrap();
        Response::stream("text/event-stream").header("Cache-Control", "no-store")
    });
    (Server::start(options, script), receiver)
}

/// A client of a stream that has read its head, and the stream's number.
fn follow(server: &Server, streams: &mpsc::Receiver<Connection>, request: &str) -> (RawPeer, Connection, String) {
    let mut peer = RawPeer::connect(server.address());
    peer.write(request.as_bytes());
    let head = peer.read_head();
    (peer, streams.recv_timeout(DEADLINE).unwrap(), head)
}

/// One chunk of a chunked body; none at its end.
fn chunk(peer: &mut RawPeer) -> Option<Vec<u8>> {
    let mut size = String::new();
    while !size.ends_with("\r\n") {
        size.push(peer.read_bytes(1)[0] as char);
    }
    let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
    let bytes = peer.read_bytes(size);
    assert_eq!(peer.read_bytes(2), b"\r\n");
    (size != 0).then_some(bytes)
}

#[test]
fn the_hook_sees_the_whole_request() {
    let (sender, receiver) = mpsc::channel();
    let script = Script::new().on_request(move |request| {
        sender
            .send((
                (request.method().to_owned(), request.path().to_owned(), request.query().map(str::to_owned)),
                request.is_upgrade(),
                request.subprotocols().map(str::to_owned).collect::<Vec<_>>(),
                (request.header("x-ONE").map(str::to_owned), request.headers().all("x-two").count()),
                request.headers().iter().len(),
                request.peer().clone(),
                request.connection(),
            ))
            .unwrap();
        // The number is known, and belongs to nothing that can be used yet.
        assert_eq!(request.connection().ready_state().unwrap(), ReadyState::Connecting);
        assert!(matches!(request.connection().send("early"), Err(Error::NotOpen)));
        assert!(matches!(request.connection().close(1000, ""), Err(Error::NotOpen)));
        assert!(matches!(request.connection().terminate(), Err(Error::NotOpen)));
        request.connection().set_user_data(42).unwrap();
        Response::accept()
    });
    let server = Server::start(&options(), script);
    let mut peer = RawPeer::connect(server.address());
    let more = "Sec-WebSocket-Protocol: a, b\r\nX-One: 1\r\nx-two: x\r\nX-Two: y\r\nSec-WebSocket-Protocol: c\r\n";
    peer.write(upgrade("a", "/p%20q?x=1?&y", more).as_bytes());
    peer.expect_upgrade();
    let (line, is_upgrade, subprotocols, headers, count, address, number) = receiver.recv().unwrap();
    assert_eq!(line, ("GET".into(), "/p%20q".into(), Some("x=1?&y".into())));
    assert!(is_upgrade);
    assert_eq!(subprotocols, ["a", "b", "c"]);
    assert_eq!((headers.0.as_deref(), headers.1, count), (Some("1"), 2, 10));
    assert_eq!(address, Address::Tcp(peer.stream.local_addr().unwrap()));
    let opened = server.events.opened();
    assert_eq!(opened, number, "the number of the request is that of its connection");
    assert_eq!(server.on_loop(move || opened.user_data().unwrap()), 42);
}

#[test]
fn an_accepted_request_gets_the_chosen_subprotocol_and_headers() {
    let server = answering(|| Response::accept().subprotocol("b").header("X-Served-By", "tests").header("X-Empty", ""));
    let mut peer = RawPeer::connect(server.address());
    peer.write(upgrade("a", "/", "Sec-WebSocket-Protocol: a, b\r\n").as_bytes());
    let head = peer.expect_upgrade();
    assert!(
        head.contains("\r\nSec-WebSocket-Protocol: b\r\n") && head.contains("\r\nX-Served-By: tests\r\n"),
        "{head}"
    );
    assert!(matches!(server.events.next(), Event::Opened(_, Some(name)) if name == "b"));

    // What was not offered cannot be chosen.
    assert_eq!(server.ask(&upgrade("a", "/", "")).status, 500);
    assert!(server.events.listener_error().message.contains("not offered"));
}

#[test]
fn a_rejected_request_gets_status_headers_and_body() {
    let server = answering(|| Response::reject(401, "who are you?").header("WWW-Authenticate", "Bearer"));
    for request in [upgrade("a", "/", ""), get("/")] {
        let answer = server.ask(&request);
        assert_eq!((answer.status, answer.body.as_str()), (401, "who are you?"));
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        assert_eq!(answer.header("content-length"), Some("12"));
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    }
    assert!(server.events.try_next().is_none(), "what is not opened is not announced");
}

#[test]
fn a_page_is_served_to_get_and_its_head_to_head() {
    let server = answering(|| Response::page("text/html", "<p>hällo"));
    let answer = server.ask(&get("/"));
    assert_eq!((answer.status, answer.body.as_str()), (200, "<p>hällo"));
    assert_eq!((answer.header("content-length"), answer.header("content-type")), (Some("9"), Some("text/html")));
    let answer = server.ask("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((answer.status, answer.body.as_str(), answer.header("content-length")), (200, "", Some("9")));
    // A client that has said all it has to say is answered as well, and so is one of HTTP/1.0.
    let mut peer = RawPeer::connect(server.address());
    server.meanwhile(|| {
        peer.write(b"GET / HTTP/1.0\r\n\r\n");
        peer.finish();
    });
    assert_eq!(peer.read_answer().body, "<p>hällo");
}

#[test]
fn a_large_page_arrives_whole_at_a_reader_that_begins_late() {
    let page: String = (0..600_000).map(|number| format!("{number:08}\n")).collect();
    let body = page.clone();
    let server = answering(move || Response::page("text/plain", body.clone()));
    let mut readers: Vec<RawPeer> = (0..3).map(|_| RawPeer::connect(server.address())).collect();
    for reader in &mut readers {
        reader.write(get("/").as_bytes());
        // Says that it sends no more, as HTTP clients may.
        reader.stream.shutdown(Shutdown::Write).unwrap();
    }
    // The server is at it while nobody reads, and serves others.
    for _ in 0..3 {
        server.on_loop(|| ());
    }
    for reader in &mut readers {
        let answer = reader.read_answer();
        assert_eq!(answer.header("content-length"), Some(page.len().to_string().as_str()));
        assert!(answer.body == page, "{} of {} bytes, or others", answer.body.len(), page.len());
    }
}

#[test]
fn a_page_for_a_reader_slower_than_the_closing_timeout_is_not_cut() {
    let mut hasty = options();
    hasty.close_timeout = Duration::from_millis(40);
    hasty.handshake_timeout = Duration::from_millis(300);
    let page = "x".repeat(12_000_000);
    let body = page.clone();
    let server = Server::start(&hasty, Script::new().on_request(move |_| Response::page("text/plain", body.clone())));
    let mut reader = RawPeer::connect(server.address());
    reader.write(get("/").as_bytes());
    let (mut read, mut piece) = (0, vec![0; 200_000]);
    loop {
        let count = reader.stream.read(&mut piece).unwrap();
        read += count;
        if count == 0 {
            break;
        }
        // Slowness is what this test is about: it takes several times the timeouts.
        thread::sleep(Duration::from_millis(10));
    }
    assert!(read > page.len(), "the page was cut after {read} bytes");
}

#[test]
fn requests_that_are_not_for_this_server_get_the_right_status() {
    let mut only = options();
    only.path = Some("/ws".into());
    let server = Server::start(&only, Script::new());
    let answer = server.ask(&upgrade("a", "/other", ""));
    assert_eq!(answer.status, 404);
    assert_eq!(server.ask(&get("/other")).status, 404);
    let answer = server.ask(&get("/ws"));
    assert_eq!((answer.status, answer.header("sec-websocket-version")), (426, Some("13")));
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    let answer = server.ask("POST /ws HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")));
    assert_eq!(server.ask("nonsense\r\n\r\n").status, 400);
    assert_eq!(server.ask("GET / HTTP/1.1\r\n\r\n").status, 400);
    assert_eq!(server.ask(&upgrade("a", "/ws", "").replace("Version: 13", "Version: 8")).status, 426);
    let mut peer = RawPeer::connect(server.address());
    peer.write(upgrade("a", "/ws?query", "").as_bytes());
    peer.expect_upgrade();
}

#[test]
fn headers_that_would_inject_others_are_refused() {
    for (name, value) in [
        ("X", "a\r\nSet-Cookie: b"),
        ("X", "a\nb"),
        ("X", "a\0b"),
        ("X\r\nY", "a"),
        ("X Y", "a"),
        ("", "a"),
        ("Content-Length", "5"),
        ("Transfer-Encoding", "chunked"),
        ("Sec-WebSocket-Accept", "x"),
    ] {
        for response in [Response::accept, || Response::page("text/plain", "page"), || Response::stream("text/plain")] {
            let (name, value) = (name.to_owned(), value.to_owned());
            let server = answering(move || response().header(&name, &value));
            let answer = server.ask(&upgrade("a", "/", ""));
            assert_eq!(answer.status, 500);
            assert!(!answer.head.contains("Set-Cookie"), "{}", answer.head);
            assert_eq!(server.events.listener_error().kind, FailureKind::Callback);
        }
    }
    let server = answering(|| Response::page("text/plain\r\nX: y", "page"));
    assert_eq!(server.ask(&get("/")).status, 500);
    let server = answering(|| Response::reject(101, "no final status"));
    assert_eq!(server.ask(&get("/")).status, 500);
}

#[test]
fn frames_in_the_segment_of_the_request_are_not_lost() {
    let server = Server::start(&options(), Script::echo());
    let mut peer = RawPeer::connect(server.address());
    let mut bytes = upgrade("a", "/", "").into_bytes();
    bytes.extend(frame(0x80 | TEXT, b"early", Some(MASK)));
    bytes.extend(frame(0x80 | PING, b"bird", Some(MASK)));
    // More than max_head: frames do not count for it.
    bytes.extend(frame(0x80 | TEXT, &[b'x'; 100_000], Some(MASK)));
    peer.write(&bytes);
    peer.expect_upgrade();
    peer.expect_text("early");
    assert_eq!(peer.read_frame().opcode, PONG);
    assert_eq!(peer.read_frame().payload.len(), 100_000);
    assert!(matches!(server.events.next(), Event::Opened(..)));
}

#[test]
fn frames_behind_a_request_that_came_in_pieces_are_not_lost() {
    let server = Server::start(&options(), Script::echo());
    let mut peer = RawPeer::connect(server.address());
    let mut bytes = upgrade("a", "/", "").into_bytes();
    bytes.extend(frame(0x80 | TEXT, b"early", Some(MASK)));
    for piece in bytes.chunks(7) {
        peer.write(piece);
    }
    peer.expect_upgrade();
    peer.expect_text("early");
}

#[test]
fn a_second_request_on_the_same_connection_is_not_answered() {
    let server = answering(|| Response::page("text/plain", "once"));
    let mut peer = RawPeer::connect(server.address());
    peer.write((get("/one") + &get("/two") + &get("/three")).as_bytes());
    assert_eq!(peer.read_answer().body, "once");
}

#[test]
fn a_stream_is_written_from_anywhere_and_ends_in_order() {
    let (server, streams) = streaming(&options());
    let (mut peer, stream, head) = follow(&server, &streams, &get("/events"));
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("\r\nTransfer-Encoding: chunked\r\n"), "{head}");
    assert!(
        head.contains("\r\nContent-Type: text/event-stream\r\n") && head.contains("\r\nCache-Control: no-store\r\n")
    );
    let handle = server.handle.clone();
    server.on_loop(move || {
        assert_eq!(stream.ready_state().unwrap(), ReadyState::Open);
        assert!(matches!(stream.send("no message"), Err(Error::WrongKind(_))));
        assert!(matches!(stream.ping(b""), Err(Error::WrongKind(_))));
        assert!(matches!(stream.subscribe("t"), Err(Error::WrongKind(_))));
        stream.write(b"from the loop").unwrap();
        stream.write(b"").unwrap();
        handle.set_timer(Duration::from_millis(1), move || stream.write(b"from a timer").unwrap()).unwrap();
    });
    assert_eq!(chunk(&mut peer).unwrap(), b"from the loop");
    assert_eq!(chunk(&mut peer).unwrap(), b"from a timer");
    thread::spawn(move || stream.write(b"from a thread").unwrap()).join().unwrap();
    assert_eq!(chunk(&mut peer).unwrap(), b"from a thread");
    // Broadcasts are for WebSockets.
    server.handle.broadcast("not for streams", None).unwrap();
    server.on_loop(move || {
        stream.write(&[b'x'; 300_000]).unwrap();
        stream.close(1000, "told").unwrap();
        assert!(matches!(stream.write(b"late"), Err(Error::Closed)));
        assert!(matches!(stream.close(1000, ""), Err(Error::Closed)));
    });
    assert_eq!(chunk(&mut peer).unwrap().len(), 300_000);
    assert_eq!(chunk(&mut peer), None);
    peer.expect_end();
    drop(peer);
    let Event::Closed(connection, ended) = server.events.next() else { panic!("a stream is not opened") };
    assert_eq!(connection, stream);
    assert_eq!((ended.code, ended.reason.as_str(), ended.was_clean, ended.by), (1000, "told", true, Side::Us));
}

#[test]
fn a_stream_may_be_written_and_ended_inside_the_turn_of_its_request() {
    let waiting = Arc::new(Mutex::new(None::<wsx_core::Handle>));
    let door = waiting.clone();
    let script = Script::new().on_request(move |request| {
        let (stream, handle) = (request.connection(), door.lock().unwrap().clone().unwrap());
        assert!(matches!(stream.write(b"too early"), Err(Error::NotOpen)));
        handle
            .set_timer(Duration::ZERO, move || {
                stream.write(b"at once").unwrap();
                stream.close(1000, "").unwrap();
            })
            .unwrap();
        Response::stream("text/plain")
    });
    let server = Server::start(&options(), script);
    *waiting.lock().unwrap() = Some(server.handle.clone());
    let answer = server.ask(&get("/"));
    assert_eq!((answer.status, answer.body.as_str()), (200, "7\r\nat once\r\n0\r\n\r\n"));
    assert!(server.events.closed().was_clean);
}

#[test]
fn a_client_of_http_1_0_gets_a_stream_without_chunks() {
    let (server, streams) = streaming(&options());
    let (mut peer, stream, head) = follow(&server, &streams, "GET / HTTP/1.0\r\n\r\n");
    assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
    server.on_loop(move || {
        stream.write(b"plain ").unwrap();
        stream.write(b"bytes").unwrap();
        stream.close(1000, "").unwrap();
    });
    assert_eq!(peer.read_to_end(), b"plain bytes");
    drop(peer);
    assert!(server.events.closed().was_clean);
}

#[test]
fn a_stream_in_answer_to_head_is_its_head_and_one_close() {
    let (server, streams) = streaming(&options());
    let (mut peer, _, _) = follow(&server, &streams, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    peer.expect_end();
    drop(peer);
    assert!(server.events.closed().was_clean);
}

#[test]
fn a_client_that_leaves_its_stream_is_noticed() {
    let (server, streams) = streaming(&options());
    let (peer, stream, _) = follow(&server, &streams, &get("/"));
    drop(peer);
    let ended = server.events.closed_of(stream);
    assert_eq!((ended.code, ended.by, ended.was_clean, ended.failure), (1001, Side::Peer, true, None));
    let (peer, stream, _) = follow(&server, &streams, &get("/"));
    peer.reset();
    let ended = server.events.closed_of(stream);
    assert_eq!((ended.code, ended.by, ended.was_clean), (1006, Side::Peer, false));
    let failure = ended.failure.unwrap();
    assert_eq!((failure.stage, failure.kind), (Stage::Http, FailureKind::Transport));
    assert!(matches!(server.on_loop(move || stream.write(b"gone")), Err(Error::Closed)));
}

#[test]
fn terminate_cuts_a_stream() {
    let (server, streams) = streaming(&options());
    let (mut peer, stream, _) = follow(&server, &streams, &get("/"));
    server.on_loop(move || stream.terminate().unwrap());
    peer.expect_end();
    let ended = server.events.closed_of(stream);
    assert_eq!((ended.code, ended.by, ended.was_clean, ended.failure), (1006, Side::Us, false, None));
}

#[test]
fn the_backlog_limit_is_a_streams_as_well() {
    let mut small = options();
    small.backlog_limit = 64 * 1024;
    let (server, streams) = streaming(&small);
    let (_peer, stream, _) = follow(&server, &streams, &get("/"));
    let refused = server.on_loop(move || {
        let piece = [b'x'; 60_000];
        (0..10_000).find_map(|_| stream.write(&piece).err())
    });
    assert!(matches!(refused, Some(Error::BacklogFull { limit: 65_536, .. })), "{refused:?}");
    let ended = server.events.closed_of(stream);
    let failure = ended.failure.as_ref().unwrap();
    assert_eq!((failure.stage, failure.kind), (Stage::Http, FailureKind::Limit), "{failure:?}");
    assert!(ended.unsent_bytes > 0 && !ended.was_clean && ended.by == Side::Us);
}

#[test]
fn a_stream_that_was_ended_and_is_not_read_is_cut_by_the_progress_timeout() {
    let mut hasty = options();
    hasty.progress_timeout = Duration::from_millis(80);
    hasty.backlog_limit = 0;
    let (server, streams) = streaming(&hasty);
    let (_peer, stream, _) = follow(&server, &streams, &get("/"));
    server.on_loop(move || {
        stream.write(&vec![b'x'; 30_000_000]).unwrap();
        stream.close(1000, "").unwrap();
    });
    let ended = server.events.closed_of(stream);
    let failure = ended.failure.as_ref().unwrap();
    assert_eq!((failure.stage, failure.kind), (Stage::Http, FailureKind::Timeout), "{failure:?}");
    assert!(ended.cause().contains("progress_timeout") && ended.unsent_bytes > 0, "{}", ended.cause());
}

#[test]
fn what_a_client_sends_on_a_stream_is_of_no_consequence() {
    let (server, streams) = streaming(&options());
    let (mut peer, stream, _) = follow(&server, &streams, &get("/"));
    let mut writer = RawPeer::new(peer.stream.try_clone().unwrap(), true);
    writer.write(&vec![0x81; 300_000]);
    server.on_loop(move || stream.write(b"still here").unwrap());
    assert_eq!(chunk(&mut peer).unwrap(), b"still here");
    let done = Arc::new(AtomicBool::new(false));
    let seen = done.clone();
    server.handle.post(move || seen.store(true, Ordering::SeqCst)).unwrap();
    server.on_loop(move || stream.close(1000, "").unwrap());
    assert!(done.load(Ordering::SeqCst));
    assert_eq!(chunk(&mut peer), None);
}

#[test]
fn writing_nothing_to_a_stream_does_nothing_even_where_its_backlog_is_full() {
    const HUGE: usize = 12 * 1024 * 1024;
    let mut small = options();
    small.backlog_limit = 64 * 1024;
    let (server, streams) = streaming(&small);
    let (mut peer, stream, _) = follow(&server, &streams, &get("/"));
    server.on_loop(move || {
        stream.write(b"").unwrap();
        stream.write(&vec![b'x'; HUGE]).unwrap();
        assert!(stream.buffered_amount().unwrap() > 64 * 1024);
        let before = stream.buffered_amount().unwrap();
        stream.write(b"").unwrap();
        assert_eq!(stream.buffered_amount().unwrap(), before);
        assert_eq!(stream.ready_state().unwrap(), ReadyState::Open);
    });
    // An empty chunk would be the end of the body.
    assert_eq!(chunk(&mut peer).unwrap().len(), HUGE);
    server.on_loop(move || {
        stream.write(b"").unwrap();
        stream.write(b"more").unwrap();
        stream.close(1000, "").unwrap();
    });
    assert_eq!(chunk(&mut peer).unwrap(), b"more");
    assert_eq!(chunk(&mut peer), None);
    peer.expect_end();
    drop(peer);
    assert!(server.events.closed_of(stream).was_clean);
}

/// The timer of the server's end of this connection, as /proc/net/tcp tells it: its kind, and when it is due.
fn kernel_timer(peer: &RawPeer) -> (u8, Duration) {
    let end = |address: std::net::SocketAddr| {
        let std::net::IpAddr::V4(ip) = address.ip() else { panic!("not IPv4") };
        format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port())
    };
    let (local, remote) = (end(peer.stream.peer_addr().unwrap()), end(peer.stream.local_addr().unwrap()));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let found = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|fields| fields[1] == local && fields[2] == remote);
    let fields = found.expect("the connection is not in /proc/net/tcp");
    let (kind, hundredths) = fields[5].split_once(':').unwrap();
    let due = Duration::from_millis(u64::from_str_radix(hundredths, 16).unwrap() * 10);
    (u8::from_str_radix(kind, 16).unwrap(), due)
}

#[test]
fn a_streams_client_that_vanishes_is_looked_for_by_the_kernel_and_a_websockets_by_the_heartbeat() {
    const KEEPALIVE: u8 = 2;
    let (server, streams) = streaming(&options());
    let (peer, _, _) = follow(&server, &streams, &get("/"));
    // What was sent has a timer of its own until it is acknowledged.
    support::eventually("the kernel keeps watch", || {
        let (kind, due) = kernel_timer(&peer);
        kind == KEEPALIVE && due > Duration::ZERO && due <= Duration::from_secs(31)
    });
    let server = Server::start(&options(), Script::new());
    let (websocket, _) = server.open();
    support::eventually("the kernel rests", || kernel_timer(&websocket).0 == 0);
}
