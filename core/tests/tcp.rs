//! What is set on the engine's own sockets, asked of the kernel: `no_delay`, `keep_alive_idle`, `keep_alive_interval`,
//! `keep_alive_count`.

mod support;

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use socket2::Socket;
use support::{RawPeer, Running, Script, Server};
use wsx_core::{Error, Options, Response};

/// The engine's socket whose peer is at this address: found among the descriptors of this process.
fn socket_to(peer: SocketAddr) -> Socket {
    let process = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
        let number = entry.unwrap().file_name().to_str().unwrap().parse().unwrap();
        let Ok(descriptor) = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) else { continue };
        let socket = Socket::from(descriptor);
        if socket.peer_addr().is_ok_and(|address| address.as_socket() == Some(peer)) {
            return socket;
        }
    }
    panic!("no socket of this process is connected to {peer}");
}

#[derive(Debug, PartialEq, Eq)]
struct KeepAlive {
    is_on: bool,
    idle: Duration,
    interval: Duration,
    count: u32,
}

fn keep_alive(socket: &Socket) -> KeepAlive {
    KeepAlive {
        is_on: socket.keepalive().unwrap(),
        idle: socket.tcp_keepalive_time().unwrap(),
        interval: socket.tcp_keepalive_interval().unwrap(),
        count: socket.tcp_keepalive_retries().unwrap(),
    }
}

fn told() -> Options {
    let mut options = Options::default();
    options.no_delay = false;
    options.keep_alive_idle = Duration::from_secs(7);
    // A part of a second is a whole one.
    options.keep_alive_interval = Duration::from_millis(2_001);
    options.keep_alive_count = 5;
    options
}

const TOLD: KeepAlive =
    KeepAlive { is_on: true, idle: Duration::from_secs(7), interval: Duration::from_secs(3), count: 5 };

#[test]
fn a_servers_sockets_have_what_the_options_say() {
    let server = Server::start(&told(), Script::new());
    let (peer, _) = server.open();
    let socket = socket_to(peer.stream.local_addr().unwrap());
    assert_eq!(keep_alive(&socket), TOLD);
    assert!(!socket.tcp_nodelay().unwrap());
}

#[test]
fn a_clients_sockets_have_what_the_options_say() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let running = Running::idle();
    let (_, events) = running.connect(&url, &told(), Script::new());
    let (_peer, _) = RawPeer::accept_upgrade(&listener);
    events.opened();
    let socket = socket_to(listener.local_addr().unwrap());
    assert_eq!(keep_alive(&socket), TOLD);
    assert!(!socket.tcp_nodelay().unwrap());
}

#[test]
fn by_default_small_writes_leave_at_once_and_the_kernel_asks_for_nobody() {
    let server = Server::start(&Options::default(), Script::new());
    let (peer, _) = server.open();
    let socket = socket_to(peer.stream.local_addr().unwrap());
    assert!(!socket.keepalive().unwrap());
    assert!(socket.tcp_nodelay().unwrap());
}

#[test]
fn an_http_stream_is_asked_for_unless_the_options_say_how() {
    for (options, expected) in
        [(Options::default(), (Duration::from_secs(30), Duration::from_secs(30))), (told(), (TOLD.idle, TOLD.interval))]
    {
        let stream = |_: &wsx_core::Request<'_>| Response::stream("text/event-stream");
        let server = Server::start(&options, Script::new().on_request(stream));
        let mut peer = RawPeer::connect(server.address());
        peer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        peer.read_head();
        let KeepAlive { is_on, idle, interval, .. } = keep_alive(&socket_to(peer.stream.local_addr().unwrap()));
        assert!(is_on);
        assert_eq!((idle, interval), expected);
    }
}

#[test]
fn what_the_kernel_would_refuse_is_refused_before() {
    let running = Running::idle();
    let change: [fn(&mut Options); 3] = [
        |options| options.keep_alive_idle = Duration::from_secs(32_768),
        |options| options.keep_alive_interval = Duration::from_secs(40_000),
        |options| options.keep_alive_count = 128,
    ];
    for change in change {
        let (mut options, handle) = (Options::default(), running.handle.clone());
        change(&mut options);
        let refused =
            running.on_loop(move || handle.listen("127.0.0.1:0", &options, support::Recorder::new(Script::new()).0));
        let Err(Error::InvalidArgument(why)) = refused else { panic!("{refused:?}") };
        assert!(why.starts_with("keep_alive_"), "{why}");
    }
}
