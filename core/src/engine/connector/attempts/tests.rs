//! Names with several addresses: here the resolver's answer is made up, for no name of a machine has such addresses.

use std::net::TcpListener;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::*;
use crate::close::Close;
use crate::config::Options;
use crate::engine::event_loop::EventLoop;
use crate::engine::shared::with_state;
use crate::error::FailureKind;
use crate::event::{Address, Connection, Handler, Opening, ReadyState};

const DEADLINE: Duration = Duration::from_secs(30);

#[test]
fn the_families_take_turns_and_the_systems_first_goes_first() {
    let ordered = |found: &[&str]| -> Vec<String> {
        let found = found.iter().map(|address| format!("{address}:1").parse().unwrap()).collect();
        in_turns(found).iter().map(|address| address.as_socket().unwrap().ip().to_string()).collect()
    };
    assert_eq!(
        ordered(&["[::1]", "[::2]", "[::3]", "1.1.1.1", "2.2.2.2"]),
        ["::1", "1.1.1.1", "::2", "2.2.2.2", "::3"]
    );
    assert_eq!(ordered(&["1.1.1.1", "[::1]", "[::2]"]), ["1.1.1.1", "::1", "::2"]);
    assert_eq!(ordered(&["1.1.1.1", "1.1.1.1", "[::1]"]), ["1.1.1.1", "::1"]);
    assert_eq!(ordered(&[]), Vec::<String>::new());
    let many: Vec<String> = (0..100).map(|n| format!("1.1.1.{n}")).collect();
    assert_eq!(ordered(&many.iter().map(String::as_str).collect::<Vec<_>>()).len(), MAX_ADDRESSES);
}

/// Tells how a client has ended, or that it has not.
struct Told(mpsc::Sender<Option<Failure>>);

impl Handler for Told {
    fn on_open(&mut self, _: Connection, _: &Opening<'_>) {
        self.0.send(None).unwrap();
    }

    fn on_close(&mut self, _: Connection, close: &Close<'_>) {
        let _ = self.0.send(close.failure.cloned());
    }
}

/// A loop, a client on it whose name has these addresses, and what it is told.
fn client(addresses: &[SocketAddr], options: &Options) -> (EventLoop, Connection, mpsc::Receiver<Option<Failure>>) {
    let mut event_loop = EventLoop::new().unwrap();
    // From now on it belongs to this thread.
    event_loop.flush().unwrap();
    let (sender, told) = mpsc::channel();
    let client = event_loop.connect("ws://a.invalid/", options, Told(sender)).unwrap();
    // The resolver's own answer waits for a turn, and comes too late.
    let found = addresses.to_vec();
    let index = crate::engine::registry::loop_index(client.0);
    with_state(index, |state| state.resolved(client, Ok(found))).unwrap();
    (event_loop, client, told)
}

/// Turns until something is told.
fn hear(event_loop: &mut EventLoop, told: &mpsc::Receiver<Option<Failure>>) -> Option<Failure> {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Ok(told) = told.try_recv() {
            return told;
        }
        assert!(Instant::now() < end, "nothing is told");
        event_loop.turn(Some(Duration::from_millis(20))).unwrap();
    }
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// An address that never answers: its queue is full, and the system drops whoever else comes.
struct BlackHole {
    address: SocketAddr,
    _sockets: Vec<Socket>,
}

impl BlackHole {
    fn new() -> Self {
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let listener = socket();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut sockets = vec![listener];
        // The first is taken in; which of the others is left outside is the system's choice.
        for _ in 0..4 {
            let filling = socket();
            filling.set_nonblocking(true).unwrap();
            let _ = filling.connect(&address);
            sockets.push(filling);
        }
        Self { address: address.as_socket().unwrap(), _sockets: sockets }
    }
}

/// A thread that opens one WebSocket here.
fn server() -> (SocketAddr, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    SockRef::from(&listener).set_read_timeout(Some(DEADLINE)).unwrap();
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut peer = tungstenite::accept(stream).unwrap();
        // Until the client leaves.
        while peer.read().is_ok() {}
    });
    (address, thread)
}

fn assert_opens(addresses: &[SocketAddr], reached: SocketAddr, thread: std::thread::JoinHandle<()>) {
    let (mut event_loop, client, told) = client(addresses, &Options::default());
    assert_eq!(hear(&mut event_loop, &told), None);
    assert_eq!(client.ready_state().unwrap(), ReadyState::Open);
    assert_eq!(client.peer_address().unwrap(), Address::Tcp(reached));
    // The sockets of those that have lost are gone, and so is every deadline but the heartbeat's.
    let rest = event_loop.next_deadline().unwrap();
    assert!(rest.is_none_or(|rest| rest > Duration::from_secs(11)), "the loop does not rest: {rest:?}");
    drop(event_loop);
    thread.join().unwrap();
}

#[test]
fn an_address_that_fails_is_followed_by_the_next_at_once() {
    let (address, thread) = server();
    assert_opens(&[nobody(), nobody(), address], address, thread);
}

#[test]
fn an_address_that_does_not_answer_does_not_hold_the_others_up() {
    let (first, second) = (BlackHole::new(), BlackHole::new());
    let (address, thread) = server();
    assert_opens(&[first.address, second.address, address], address, thread);
}

#[test]
fn an_address_that_does_not_answer_is_not_given_up_where_the_others_fail() {
    // It has the whole time.
    let hole = BlackHole::new();
    let options = Options { connect_timeout: Duration::from_millis(700), ..Options::default() };
    let (mut event_loop, _, told) = client(&[hole.address, nobody(), nobody()], &options);
    let failure = hear(&mut event_loop, &told).unwrap();
    assert_eq!((failure.stage, failure.kind), (Stage::Connect, FailureKind::Timeout), "{failure}");
    assert_eq!(failure.message, "no TCP connection came about within 700ms (connect_timeout)");
}

#[test]
fn where_all_fail_it_is_told_how_many_were_tried_and_the_last_error() {
    let (mut event_loop, _, told) = client(&[nobody(), nobody(), nobody()], &Options::default());
    let failure = hear(&mut event_loop, &told).unwrap();
    assert_eq!((failure.stage, failure.os_error), (Stage::Connect, Some(libc::ECONNREFUSED)));
    let says = "cannot connect to a.invalid on any of its 3 addresses, the last: Connection refused";
    assert!(failure.message.starts_with(says), "{failure}");
}

#[test]
fn an_address_that_cannot_be_tried_at_all_is_passed_over() {
    let (address, thread) = server();
    // Nobody may connect there, and the system says so at once.
    let broadcast = SocketAddr::from(([255, 255, 255, 255], 9));
    assert_opens(&[broadcast, address], address, thread);
    let (mut event_loop, _, told) = client(&[broadcast], &Options::default());
    let failure = hear(&mut event_loop, &told).unwrap();
    assert_eq!(failure.stage, Stage::Connect, "{failure}");
}

#[test]
fn one_address_that_does_not_answer_is_given_up_after_either_timeout() {
    let hole = BlackHole::new();
    type Set = fn(&mut Options);
    let handshake: Set = |options| options.handshake_timeout = Duration::from_millis(80);
    let connect: Set = |options| options.connect_timeout = Duration::from_millis(80);
    for (option, set) in [("handshake_timeout", handshake), ("connect_timeout", connect)] {
        let mut options = Options::default();
        set(&mut options);
        let (mut event_loop, _, told) = client(&[hole.address], &options);
        let failure = hear(&mut event_loop, &told).unwrap();
        assert_eq!((failure.stage, failure.kind), (Stage::Connect, FailureKind::Timeout));
        assert_eq!(failure.message, format!("no TCP connection came about within 80ms ({option})"));
    }
}

#[test]
fn an_attempt_that_succeeds_when_the_client_was_ended_is_given_up_unseen() {
    let listeners = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
    let addresses = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
    let (mut event_loop, client, told) = client(&addresses, &Options::default());
    // The kernel has connected; both are told in the same turn, the end first.
    let (accepted, _) = listeners[0].accept().unwrap();
    let phase = with_state(crate::engine::registry::loop_index(client.0), |state| {
        state.terminate(client).unwrap();
        let slot = state.slot(client).unwrap();
        let number = state.attempts(slot).unwrap().next_number;
        state.dialed(slot, number);
        state.connections.get(slot).unwrap().phase
    });
    assert_eq!(phase, Some(Phase::Dead));
    assert_eq!(hear(&mut event_loop, &told), None);
    // It was sent nothing.
    accepted.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(io::Read::read(&mut &accepted, &mut [0; 1]).unwrap(), 0);
}
