//! Several threads that serve as one: shares of every listener's connections, one set of topics, one end.

mod support;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::ThreadId;
use std::time::Duration;

use support::{DEADLINE, RawPeer, eventually};
use wsx_core::{
    Address, Close, Connection, Error, EventLoop, Handle, Handler, Listener, LoopOptions, Message, Opening, Options,
};

/// What the handlers of all threads have seen.
#[derive(Default)]
struct Seen {
    threads: HashMap<Connection, ThreadId>,
    closed: Vec<Connection>,
    wrong_thread: usize,
}

/// Subscribes everybody to "all", and does what it is told: `publish`, `broadcast`, `tell everyone`.
#[derive(Clone)]
struct Chat {
    seen: Arc<Mutex<Seen>>,
    handle: Arc<Mutex<Option<(Handle, Listener)>>>,
    gate: Arc<Mutex<()>>,
}

impl Chat {
    fn door(&self) -> (Handle, Listener) {
        self.handle.lock().unwrap().clone().unwrap()
    }

    /// Notes a callback on a thread that is not the connection's.
    fn check_thread(&self, connection: Connection) {
        let mut seen = self.seen.lock().unwrap();
        if seen.threads.get(&connection) != Some(&std::thread::current().id()) {
            seen.wrong_thread += 1;
        }
    }
}

impl Handler for Chat {
    fn on_open(&mut self, connection: Connection, _: &Opening<'_>) {
        connection.subscribe("all").unwrap();
        self.seen.lock().unwrap().threads.insert(connection, std::thread::current().id());
        connection.send("welcome").unwrap();
    }

    fn on_message(&mut self, connection: Connection, message: Message<'_>) {
        self.check_thread(connection);
        let (handle, listener) = self.door();
        let Message::Text(text) = message else { return };
        match text.split_once(' ') {
            Some(("publish", text)) => handle.publish("all", text, Some(connection)).unwrap(),
            Some(("broadcast", text)) => handle.broadcast(text, None).unwrap(),
            Some(("listener", text)) => listener.broadcast(text, Some(connection)).unwrap(),
            Some(("mixed", count)) => {
                let all: Vec<_> = self.seen.lock().unwrap().threads.keys().copied().collect();
                for n in 0..count.parse().unwrap() {
                    handle.publish("all", &format!("{n} published"), None).unwrap();
                    all.iter().for_each(|other| other.send(&format!("{n} sent")).unwrap());
                    listener.broadcast(&format!("{n} broadcast"), None).unwrap();
                }
            }
            Some(("wait", _)) => drop(self.gate.lock().unwrap()),
            Some(("count", _)) => {
                let counts = (handle.connection_count().unwrap(), listener.connection_count().unwrap());
                connection.send(&format!("{counts:?} {:?}", listener.local_address().is_ok())).unwrap();
            }
            _ => panic!("{text}"),
        }
    }

    fn on_close(&mut self, connection: Connection, _: &Close<'_>) {
        self.check_thread(connection);
        self.seen.lock().unwrap().closed.push(connection);
    }

    fn for_another_thread(&self) -> Option<Box<dyn Handler>> {
        Some(Box::new(self.clone()))
    }
}

struct Several {
    address: SocketAddr,
    listener: Listener,
    handle: Handle,
    seen: Arc<Mutex<Seen>>,
    gate: Arc<Mutex<()>>,
    ended: mpsc::Receiver<wsx_core::Result<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

fn options(threads: usize) -> LoopOptions {
    let mut options = LoopOptions::default();
    options.threads = threads;
    options
}

impl Several {
    fn start(threads: usize) -> Self {
        Self::start_with(&options(threads))
    }

    fn start_with(options: &LoopOptions) -> Self {
        let options = options.clone();
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let seen = Arc::<Mutex<Seen>>::default();
        let gate = Arc::<Mutex<()>>::default();
        let chat = Chat { seen: seen.clone(), handle: Arc::default(), gate: gate.clone() };
        let thread = std::thread::spawn(move || {
            let mut event_loop = EventLoop::with_options(&options).unwrap();
            let listener = event_loop.listen("127.0.0.1:0", &Options::default(), chat.clone()).unwrap();
            *chat.handle.lock().unwrap() = Some((event_loop.handle(), listener));
            let Address::Tcp(address) = listener.local_address().unwrap() else { panic!("no TCP address") };
            tell.send((address, listener, event_loop.handle())).unwrap();
            let result = event_loop.run();
            // Its own drop is part of what is awaited.
            drop(event_loop);
            end.send(result).unwrap();
        });
        let (address, listener, handle) = told.recv_timeout(DEADLINE).unwrap();
        Self { address, listener, handle, seen, gate, ended, thread: Some(thread) }
    }

    /// Clients on at least two threads, each of which has had its welcome.
    fn open(&self) -> Vec<RawPeer> {
        let mut peers = Vec::new();
        while peers.len() < 24 || self.threads() < 2 {
            let mut peer = RawPeer::open(self.address);
            peer.expect_text("welcome");
            peers.push(peer);
        }
        peers
    }

    fn threads(&self) -> usize {
        self.seen.lock().unwrap().threads.values().collect::<HashSet<_>>().len()
    }

    fn expect_end(&mut self) {
        self.ended.recv_timeout(DEADLINE).unwrap().unwrap();
        self.thread.take().unwrap().join().unwrap();
        let seen = self.seen.lock().unwrap();
        assert_eq!(seen.closed.len(), seen.threads.len(), "each connection has one close");
        assert_eq!(seen.closed.iter().collect::<HashSet<_>>().len(), seen.closed.len());
        assert_eq!(seen.wrong_thread, 0);
    }
}

impl Drop for Several {
    fn drop(&mut self) {
        let _ = self.handle.stop();
    }
}

#[test]
fn what_is_published_on_any_thread_reaches_all_threads_and_nobody_twice() {
    let mut server = Several::start(3);
    let mut peers = server.open();
    for sender in 0..peers.len() {
        peers[sender].send_text(&format!("publish {sender}"));
        for (index, peer) in peers.iter_mut().enumerate() {
            if index != sender {
                peer.expect_text(&sender.to_string());
            }
        }
    }
    peers[0].send_text("listener to others");
    peers[1..].iter_mut().for_each(|peer| peer.expect_text("to others"));
    peers[1].send_text("broadcast to all");
    peers.iter_mut().for_each(|peer| peer.expect_text("to all"));
    // From a thread that has no loop.
    server.handle.publish("all", "from elsewhere", None).unwrap();
    peers.iter_mut().for_each(|peer| peer.expect_text("from elsewhere"));
    server.handle.publish("nobody", "lost", None).unwrap();
    server.listener.broadcast("the end", None).unwrap();
    peers.iter_mut().for_each(|peer| peer.expect_text("the end"));
    server.handle.stop().unwrap();
    server.expect_end();
}

#[test]
fn each_publisher_is_heard_in_its_order_whatever_call_it_makes() {
    let server = Several::start(2);
    let mut peers = server.open();
    peers[0].send_text("mixed 200");
    for peer in &mut peers {
        for n in 0..200 {
            for how in ["published", "sent", "broadcast"] {
                peer.expect_text(&format!("{n} {how}"));
            }
        }
    }
    // The same from a thread that has no loop.
    let all: Vec<_> = server.seen.lock().unwrap().threads.keys().copied().collect();
    for n in 0..200 {
        server.handle.publish("all", &format!("{n} published"), None).unwrap();
        all.iter().for_each(|connection| connection.send(&format!("{n} sent")).unwrap());
    }
    for peer in &mut peers {
        for n in 0..200 {
            peer.expect_text(&format!("{n} published"));
            peer.expect_text(&format!("{n} sent"));
        }
    }
}

#[test]
fn all_are_counted_on_every_thread() {
    let server = Several::start(2);
    let mut peers = server.open();
    let expected = format!("({0}, {0}) true", peers.len());
    for peer in &mut peers {
        peer.send_text("count them");
        peer.expect_text(&expected);
    }
}

#[test]
fn a_shutdown_ends_all_threads_in_order() {
    let mut server = Several::start(3);
    let mut peers = server.open();
    server.handle.shutdown(DEADLINE).unwrap();
    for peer in &mut peers {
        peer.expect_close(1001);
        peer.send_close(Some(1001), "");
        peer.expect_end();
    }
    server.expect_end();
    assert!(matches!(server.handle.publish("all", "too late", None), Err(Error::LoopGone)));
}

#[test]
fn a_dropped_loop_tells_the_connections_of_all_threads() {
    let mut server = Several::start(3);
    let mut peers = server.open();
    server.handle.stop().unwrap();
    server.expect_end();
    peers.iter_mut().for_each(|peer| assert!(peer.read_to_end().is_empty()));
}

#[test]
fn a_closed_listener_is_closed_on_all_threads_and_its_connections_stay() {
    let server = Several::start(3);
    let mut peers = server.open();
    server.listener.close().unwrap();
    eventually("nobody listens", || std::net::TcpStream::connect(server.address).is_err());
    peers[0].send_text("broadcast still here");
    peers.iter_mut().for_each(|peer| peer.expect_text("still here"));
}

#[test]
fn a_unix_socket_is_served_by_several_threads() {
    let path = std::env::temp_dir().join(format!("wsx-siblings-{}", std::process::id()));
    let address = format!("unix:{}", path.display());
    let mut event_loop = EventLoop::with_options(&options(2)).unwrap();
    let chat = Chat { seen: Arc::default(), handle: Arc::default(), gate: Arc::default() };
    let listener = event_loop.listen(&address, &Options::default(), chat.clone()).unwrap();
    *chat.handle.lock().unwrap() = Some((event_loop.handle(), listener));
    assert!(event_loop.turn(Some(Duration::ZERO)).unwrap());
    let client = chat.clone();
    let url = format!("ws+unix:{}:/", path.display());
    let connection = event_loop.connect(&url, &Options::default(), client).unwrap();
    while !chat.seen.lock().unwrap().threads.keys().any(|open| *open != connection) {
        assert!(event_loop.turn(Some(DEADLINE)).unwrap());
    }
    drop(event_loop);
    assert!(!path.exists());
}

#[test]
fn an_address_that_is_taken_is_not_shared_by_mistake() {
    let server = Several::start(2);
    let event_loop = EventLoop::with_options(&options(2)).unwrap();
    let chat = Chat { seen: Arc::default(), handle: Arc::default(), gate: Arc::default() };
    let address = server.address.to_string();
    let taken = event_loop.listen(&address, &Options::default(), chat.clone()).unwrap_err();
    assert!(taken.to_string().contains(&address), "{taken}");
    let mut shared = Options::default();
    shared.reuse_port = true;
    event_loop.listen(&address, &shared, chat).unwrap();
}

#[test]
fn a_handler_for_one_thread_is_refused_with_a_hint() {
    struct Alone;
    impl Handler for Alone {}
    let event_loop = EventLoop::with_options(&options(2)).unwrap();
    let refused = event_loop.listen("127.0.0.1:0", &Options::default(), Alone).unwrap_err();
    assert!(refused.to_string().contains("for_another_thread"), "{refused}");
    let too_many = EventLoop::with_options(&options(100_000)).unwrap_err();
    assert!(too_many.to_string().contains("1024"), "{too_many}");
}

#[test]
fn what_a_thread_cannot_take_in_is_refused_before_anybody_gets_it() {
    let mut options = options(2);
    options.max_command_bytes = 10_000;
    let server = Several::start_with(&options);
    let mut peers = server.open();
    let gate = server.gate.lock().unwrap();
    peers[0].send_text("wait there");
    // One thread stands still: what waits for it is bounded, and what was taken comes to everybody.
    let publish = |n: usize| server.handle.publish("all", &format!("{n} {}", "x".repeat(1000)), None);
    let mut taken = 0;
    eventually("it is refused", || match publish(taken) {
        Ok(()) => {
            taken += 1;
            false
        }
        Err(Error::Full(_)) => true,
        Err(error) => panic!("{error}"),
    });
    drop(gate);
    for peer in &mut peers {
        for n in 0..taken {
            peer.expect_text(&format!("{n} {}", "x".repeat(1000)));
        }
    }
    eventually("it is taken again", || publish(taken).is_ok());
    peers.iter_mut().for_each(|peer| peer.expect_text(&format!("{taken} {}", "x".repeat(1000))));
}

/// Publishes from a thread without a loop as soon as a connection of a thread that ends is told its close.
#[derive(Clone)]
struct Leaves {
    opened: mpsc::Sender<ThreadId>,
    handle: Arc<Mutex<Option<Handle>>>,
    published: mpsc::Sender<wsx_core::Result<()>>,
    closed: mpsc::Sender<(ThreadId, u64)>,
}

impl Handler for Leaves {
    fn on_open(&mut self, _: Connection, _: &Opening<'_>) {
        self.opened.send(std::thread::current().id()).unwrap();
    }

    fn on_close(&mut self, _: Connection, close: &Close<'_>) {
        if let Some(handle) = self.handle.lock().unwrap().take() {
            let answer = std::thread::spawn(move || handle.broadcast("late", None)).join().unwrap();
            self.published.send(answer).unwrap();
        }
        self.closed.send((std::thread::current().id(), close.undelivered_messages)).unwrap();
    }

    fn for_another_thread(&self) -> Option<Box<dyn Handler>> {
        Some(Box::new(self.clone()))
    }
}

#[test]
fn what_is_published_from_elsewhere_while_a_thread_is_gone_reaches_the_others() {
    let (opened, opens) = mpsc::channel();
    let (published, answers) = mpsc::channel();
    let (closed, closes) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    let handler = Leaves { opened, handle: Arc::default(), published, closed };
    let kept = handler.handle.clone();
    let thread = std::thread::spawn(move || {
        let mut event_loop = EventLoop::with_options(&options(2)).unwrap();
        let listener = event_loop.listen("127.0.0.1:0", &Options::default(), handler).unwrap();
        tell.send((event_loop.handle(), listener.local_address().unwrap())).unwrap();
        event_loop.run().unwrap();
    });
    let (first, (handle, address)) = (thread.thread().id(), told.recv_timeout(DEADLINE).unwrap());
    let Address::Tcp(address) = address else { panic!("no TCP address") };
    let (mut peers, mut threads) = (Vec::new(), HashSet::new());
    while threads.len() < 2 {
        peers.push(RawPeer::open(address));
        threads.insert(opens.recv_timeout(DEADLINE).unwrap());
    }
    *kept.lock().unwrap() = Some(handle.clone());
    // The further thread ends first; the first one takes what is published meanwhile, and tells that it was in vain.
    handle.stop().unwrap();
    answers.recv_timeout(DEADLINE).unwrap().unwrap();
    thread.join().unwrap();
    for (thread, undelivered) in closes.try_iter() {
        assert_eq!(undelivered, u64::from(thread == first));
    }
}
