//! The row of the table of limits about descriptors: when the system has none left, accepting pauses, the program is
//! told, and accepting goes on by itself when there are some again.
//!
//! A test binary of its own, for it lowers the limit of its process.

mod support;

use std::fs::File;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use support::{Event, RawPeer, Script, Server, upgrade};
use wsx_core::{FailureKind, Options, Stage};

/// How many connections wait.
const COUNT: usize = 10;

#[test]
fn connections_wait_while_the_system_has_no_descriptors_and_are_accepted_when_it_has() {
    let mut options = Options::default();
    // The default would be below the limit that is set here, and refuse with 503 before it is reached.
    options.max_connections = 100_000;
    let server = Server::start(&options, Script::echo());
    let (mut open, _) = server.open();
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(100), maximum: before.maximum }).unwrap();

    // Their sockets are there before, and are connected when nothing is left.
    let sockets: Vec<_> = (0..COUNT).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).collect();
    let wasted: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    let connect = |socket: Socket| {
        socket.connect(&server.address().into()).unwrap();
        RawPeer::new(socket.into(), true)
    };
    let mut waiting: Vec<RawPeer> = sockets.into_iter().map(connect).collect();
    let request = upgrade("x", "/", "");
    waiting.iter_mut().for_each(|peer| peer.write(request.as_bytes()));

    let failure = server.events.listener_error();
    assert_eq!((failure.stage, failure.kind), (Stage::Connect, FailureKind::Transport));
    assert_eq!(failure.os_error, Some(libc::EMFILE));
    assert!(failure.message.contains("descriptor limit"), "{failure}");
    // The one that is open is served on meanwhile.
    open.send_text("served");
    open.expect_text("served");

    drop(wasted);
    for peer in &mut waiting {
        peer.expect_upgrade();
        peer.send_text("served");
        peer.expect_text("served");
    }
    setrlimit(Resource::Nofile, before).unwrap();
    // The program hears of it while it lasts, and no more than that.
    while let Some(event) = server.events.try_next() {
        if let Event::ListenerError(failure) = event {
            assert_eq!(failure.os_error, Some(libc::EMFILE));
        }
    }
    server.expect_connections(COUNT + 1);
}
