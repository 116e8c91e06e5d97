//! Where a listener listens: paths of Unix sockets, IPv6, descriptors that it adopts, and one that is shut underneath.

mod support;

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use support::{Event, Events, RawPeer, Recorder, Running, Script};
use wsx_core::{Address, Error, EventLoop, FailureKind, Handle, Listener, Options, Stage};

fn options() -> Options {
    Options::default()
}

fn directory(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("wsx-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir(&path).unwrap();
    path
}

/// Listens on this address with an echo server.
fn listen(running: &Running, address: &str) -> (Result<Listener, Error>, Events) {
    let (address, handle): (String, Handle) = (address.into(), running.handle.clone());
    let (recorder, events) = Recorder::new(Script::echo());
    (running.on_loop(move || handle.listen(&address, &options(), recorder)), events)
}

#[test]
fn a_unix_socket_serves_is_replaced_when_stale_and_removed_at_the_end() {
    let directory = directory("unix");
    let path = directory.join("socket");
    // Left behind by a program that has crashed.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let running = Running::idle();
    let address = format!("unix:{}", path.display());
    let (listener, served) = listen(&running, &address);
    let listener = listener.unwrap();
    let found = running.on_loop(move || listener.local_address().unwrap());
    assert_eq!(found, Address::Unix(Some(path.clone())));
    assert_eq!(found.to_string(), address);

    // One that is in use is not replaced.
    let (second, _) = listen(&running, &address);
    assert!(matches!(second, Err(Error::Io { .. })), "{second:?}");

    let url = format!("ws+unix:{}:/path?query", path.display());
    let script = Script::new().on_open(|client| client.send("by path").unwrap());
    let (client, events) = running.connect(&url, &options(), script);
    assert_eq!(events.text(), "by path");
    let server_side = served.opened();
    running.on_loop(move || {
        assert!(matches!(client.peer_address(), Ok(Address::Unix(Some(_)))));
        assert!(matches!(server_side.peer_address(), Ok(Address::Unix(None))));
        client.close(1000, "").unwrap();
    });
    assert!(events.closed().was_clean && served.closed().was_clean);
    running.on_loop(move || listener.close().unwrap());
    assert!(!path.exists(), "the path is removed with its listener");

    let (connection, events) = running.connect(&url, &options(), Script::new());
    let failure = events.failure_of(connection);
    assert_eq!((failure.stage, failure.os_error), (Stage::Connect, Some(libc::ENOENT)));

    // A file that is no socket is never removed.
    std::fs::write(&path, "precious").unwrap();
    assert!(listen(&running, &address).0.is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn ipv6_serves_and_is_reached_by_address() {
    let running = Running::idle();
    let (listener, served) = listen(&running, "[::1]:0");
    let Ok(listener) = listener else {
        assert!(TcpListener::bind("[::1]:0").is_err(), "IPv6 works, but not for the engine");
        return;
    };
    let address = running.on_loop(move || listener.local_address().unwrap());
    let script = Script::new().on_open(|client| client.send("six").unwrap());
    let (client, events) = running.connect(&format!("ws://{address}/"), &options(), script);
    assert_eq!(events.text(), "six");
    assert_eq!(served.text(), "six");
    let peer = running.on_loop(move || client.peer_address().unwrap());
    assert_eq!(peer, address);
}

#[test]
fn a_descriptor_that_is_bound_is_adopted_and_another_is_not() {
    let running = Running::idle();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let (recorder, _events) = Recorder::new(Script::echo());
    let handle = running.handle.clone();
    let listener = running.on_loop(move || handle.adopt(OwnedFd::from(tcp), &options(), recorder).unwrap());
    assert_eq!(running.on_loop(move || listener.local_address().unwrap()), Address::Tcp(address));
    let mut peer = RawPeer::open(address);
    peer.send_text("adopted");
    peer.expect_text("adopted");

    let directory = directory("adopt");
    let path = directory.join("socket");
    let unix = UnixListener::bind(&path).unwrap();
    let (recorder, _unix_events) = Recorder::new(Script::echo());
    let handle = running.handle.clone();
    let unix = running.on_loop(move || handle.adopt(OwnedFd::from(unix), &options(), recorder).unwrap());
    let script = Script::new().on_open(|client| client.send("unix").unwrap());
    let (_, events) = running.connect(&format!("ws+unix:{}", path.display()), &options(), script);
    assert_eq!(events.text(), "unix");
    running.on_loop(move || unix.close().unwrap());
    assert!(path.exists(), "the path is not ours to remove");
    std::fs::remove_dir_all(directory).unwrap();

    let adopt = |socket: OwnedFd| {
        let (handle, recorder) = (running.handle.clone(), Recorder::new(Script::echo()).0);
        running.on_loop(move || handle.adopt(socket, &options(), recorder))
    };
    let socket = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    // One that is bound only is made to listen.
    let bound = socket();
    bound.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let address = bound.local_addr().unwrap().as_socket().unwrap();
    adopt(bound.into()).unwrap();
    RawPeer::open(address);
    assert!(matches!(adopt(socket().into()), Err(Error::InvalidArgument(_))), "an unbound socket was adopted");
    let connected = peer.stream.try_clone().unwrap();
    assert!(matches!(adopt(connected.into()), Err(Error::Io { .. } | Error::InvalidArgument(_))));
    peer.send_text("still here");
    peer.expect_text("still here");
}

#[test]
fn a_listening_socket_that_is_shut_underneath_is_told_once_and_closed_and_the_loop_rests() {
    let original = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = original.local_addr().unwrap();
    let mut event_loop = EventLoop::new().unwrap();
    let (recorder, events) = Recorder::new(Script::echo());
    let listener = event_loop.adopt(original.try_clone().unwrap().into(), &options(), recorder).unwrap();
    let client = std::thread::spawn(move || RawPeer::open(address));
    while listener.connection_count().unwrap() == 0 {
        event_loop.turn(Some(Duration::from_millis(20))).unwrap();
    }
    let mut peer = client.join().unwrap();
    socket2::SockRef::from(&original).shutdown(std::net::Shutdown::Both).unwrap();
    // Far more turns than it takes: nobody is left to be told anything by a loop that rests.
    for _ in 0..20 {
        event_loop.turn(Some(Duration::ZERO)).unwrap();
    }
    assert!(matches!(events.next(), Event::Opened(..)));
    let failure = events.listener_error();
    assert_eq!((failure.stage, failure.kind), (Stage::Connect, FailureKind::Transport), "{failure:?}");
    assert_eq!(failure.os_error, Some(libc::EINVAL));
    assert!(events.try_next().is_none(), "it is told once");
    assert!(matches!(listener.local_address(), Err(Error::Closed)));
    // The next turn is not due because of anything that waits: the loop would sleep until a heartbeat.
    let rest = event_loop.next_deadline().unwrap();
    assert!(rest.is_some_and(|rest| rest > Duration::from_secs(1)), "the loop does not rest: {rest:?}");
    peer.send_text("served");
    event_loop.turn(Some(support::DEADLINE)).unwrap();
    peer.expect_text("served");
}
