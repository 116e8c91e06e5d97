//! The row of the table of limits about connections of one address: `max_connections_per_address`.

mod support;

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};
use support::{RawPeer, Recorder, Running, Script, Server, eventually, upgrade};
use wsx_core::{Address, Handler, LoopOptions, Options, Response};

fn two_each() -> Options {
    let mut options = Options::default();
    options.max_connections_per_address = 2;
    options
}

/// A TCP connection from an address of this machine.
fn connect_from(from: &str, to: SocketAddr) -> RawPeer {
    let from: IpAddr = from.parse().unwrap();
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    RawPeer::new(TcpStream::from(socket), true)
}

fn open_from(from: &str, to: SocketAddr) -> RawPeer {
    let mut peer = connect_from(from, to);
    peer.write(upgrade("x", "/", "").as_bytes());
    peer.expect_upgrade();
    peer
}

/// Whether there is room for one more from this address; it is gone again then.
fn has_room(from: &str, to: SocketAddr) -> bool {
    let mut peer = connect_from(from, to);
    peer.try_write(upgrade("x", "/", "").as_bytes());
    let mut begin = [0; 12];
    // One that was closed at once may be told so by a reset.
    peer.stream.read_exact(&mut begin).is_ok() && begin == *b"HTTP/1.1 101"
}

#[test]
fn one_more_of_an_address_gets_503_that_says_why_and_others_are_served() {
    let server = Server::start(&two_each(), Script::echo());
    let _first = open_from("127.0.0.1", server.address());
    let mut second = open_from("127.0.0.1", server.address());
    let answer = server.ask(&upgrade("x", "/", ""));
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("(max_connections_per_address)"), "{answer:?}");
    let mut other = open_from("127.0.0.2", server.address());
    other.send_text("served");
    other.expect_text("served");

    second.send_close(Some(1000), "");
    second.expect_close(1000);
    second.expect_end();
    eventually("there is room again", || has_room("127.0.0.1", server.address()));
}

#[test]
fn a_crowd_from_one_address_is_closed_at_once_and_holds_nothing() {
    let server = Server::start(&two_each(), Script::echo());
    // Silent ones count as well: each has the handshake's timeout.
    let mut crowd: Vec<_> = (0..20).map(|_| connect_from("127.0.0.1", server.address())).collect();
    let mut closed = 0;
    for peer in &mut crowd[6..] {
        peer.expect_end();
        closed += 1;
    }
    assert_eq!(closed, 14);
    // Those who came first are served, the few behind them are told.
    for (number, peer) in crowd[..6].iter_mut().enumerate() {
        peer.write(upgrade("x", "/", "").as_bytes());
        assert_eq!(support::status(&peer.read_head()), if number < 2 { 101 } else { 503 }, "number {number}");
    }
    drop(crowd);
    eventually("there is room again", || has_room("127.0.0.1", server.address()));
}

#[test]
fn plain_requests_and_streams_count_until_they_end() {
    let stream = |_: &wsx_core::Request<'_>| Response::stream("text/event-stream");
    let server = Server::start(&two_each(), Script::new().on_request(stream));
    let mut streams: Vec<_> = (0..2).map(|_| connect_from("127.0.0.1", server.address())).collect();
    for peer in &mut streams {
        peer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(support::status(&peer.read_head()), 200);
    }
    assert_eq!(server.status_of("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), 503);
    drop(streams);
    eventually("there is room again", || server.status_of("GET / HTTP/1.1\r\nHost: x\r\n\r\n") == 200);
}

#[test]
fn an_address_of_ipv4_is_the_same_where_it_is_mapped_to_ipv6() {
    let options = two_each();
    let (recorder, _events) = Recorder::new(Script::new());
    let (_running, address) = Running::start(&LoopOptions::default(), move |handle| {
        handle.listen("[::]:0", &options, recorder).unwrap().local_address().unwrap()
    });
    let Address::Tcp(address) = address else { panic!("not a TCP address: {address}") };
    let (v4, v6) = (SocketAddr::from(([127, 0, 0, 1], address.port())), "::1");
    let _first = open_from("127.0.0.1", v4);
    let _second = open_from("127.0.0.1", v4);
    assert!(!has_room("127.0.0.1", v4));
    assert!(has_room("127.0.0.2", v4));
    assert!(has_room(v6, SocketAddr::new(v6.parse().unwrap(), address.port())));
}

#[test]
fn unix_sockets_are_not_counted() {
    let path = std::env::temp_dir().join(format!("wsx-addresses-{}.sock", std::process::id()));
    let address = format!("unix:{}", path.display());
    let mut options = two_each();
    options.max_connections_per_address = 1;
    let (recorder, events) = Recorder::new(Script::new());
    let (running, ()) = Running::start(&LoopOptions::default(), move |handle| {
        handle.listen(&address, &options, recorder).unwrap();
    });
    let url = format!("ws+unix:{}:/", path.display());
    let clients: Vec<_> = (0..3).map(|_| running.connect(&url, &Options::default(), Script::new())).collect();
    for (_, client) in &clients {
        client.opened();
        events.opened();
    }
}

#[test]
fn the_count_is_that_of_all_threads() {
    #[derive(Clone)]
    struct Quiet;
    impl Handler for Quiet {
        fn for_another_thread(&self) -> Option<Box<dyn Handler>> {
            Some(Box::new(Self))
        }
    }
    let (mut loop_options, options) = (LoopOptions::default(), two_each());
    loop_options.threads = 3;
    let (_running, address) = Running::start(&loop_options, move |handle| {
        handle.listen("127.0.0.1:0", &options, Quiet).unwrap().local_address().unwrap()
    });
    let Address::Tcp(address) = address else { panic!("not a TCP address: {address}") };
    let _open = [open_from("127.0.0.1", address), open_from("127.0.0.1", address)];
    // Whichever thread it comes to.
    for _ in 0..30 {
        assert!(!has_room("127.0.0.1", address));
    }
}

#[cfg(feature = "tls")]
#[test]
fn over_tls_one_more_is_closed_before_the_handshake() {
    let authority = support::tls::Authority::new("A");
    let mut options = authority.local().server();
    options.max_connections_per_address = 1;
    let server = Server::start(&options, Script::echo());
    let mut first = authority.open(server.address());
    connect_from("127.0.0.1", server.address()).expect_end();
    first.send_text("served");
    first.expect_text("served");
    assert!(matches!(server.events.next(), support::Event::Opened(..)));
}
