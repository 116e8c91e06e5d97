//! Several threads that serve as one: limits, ends, and what a handler's own drop may do.

mod support;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use support::{DEADLINE, RawPeer, eventually, upgrade};
use wsx_core::{
    Address, Connection, Error, EventLoop, Handle, Handler, Listener, LoopOptions, Message, Opening, Options,
};

type OnMessage = dyn Fn(Connection, Message<'_>) + Send + Sync;

#[derive(Clone)]
struct Program {
    threads: Arc<Mutex<HashMap<Connection, ThreadId>>>,
    on_message: Arc<OnMessage>,
}

impl Handler for Program {
    fn on_open(&mut self, connection: Connection, _: &Opening<'_>) {
        connection.subscribe("all").unwrap();
        self.threads.lock().unwrap().insert(connection, std::thread::current().id());
        connection.send(&format!("{}", connection.id())).unwrap();
    }

    fn on_message(&mut self, connection: Connection, message: Message<'_>) {
        (self.on_message)(connection, message);
    }

    fn for_another_thread(&self) -> Option<Box<dyn Handler>> {
        Some(Box::new(self.clone()))
    }
}

struct Several {
    address: SocketAddr,
    listener: Listener,
    handle: Handle,
    threads: Arc<Mutex<HashMap<Connection, ThreadId>>>,
    first: ThreadId,
    thread: Option<JoinHandle<()>>,
}

impl Several {
    fn start(
        loop_options: &LoopOptions,
        options: &Options,
        on_message: impl Fn(Connection, Message<'_>) + Send + Sync + 'static,
    ) -> Self {
        let (loop_options, options) = (loop_options.clone(), options.clone());
        let (tell, told) = mpsc::channel();
        let threads = Arc::<Mutex<HashMap<_, _>>>::default();
        let program = Program { threads: threads.clone(), on_message: Arc::new(on_message) };
        let thread = std::thread::spawn(move || {
            let mut event_loop = EventLoop::with_options(&loop_options).unwrap();
            let listener = event_loop.listen("127.0.0.1:0", &options, program).unwrap();
            let Address::Tcp(address) = listener.local_address().unwrap() else { panic!("no TCP address") };
            tell.send((address, listener, event_loop.handle(), std::thread::current().id())).unwrap();
            event_loop.run().unwrap();
        });
        let (address, listener, handle, first) = told.recv_timeout(DEADLINE).unwrap();
        Self { address, listener, handle, threads, first, thread: Some(thread) }
    }

    /// Peers until there are `wanted` on the first thread and as many on others: those, and these.
    fn open(&self, wanted: usize) -> (Vec<RawPeer>, Vec<RawPeer>) {
        let (mut here, mut elsewhere) = (Vec::new(), Vec::new());
        while here.len() < wanted || elsewhere.len() < wanted {
            let mut peer = RawPeer::open(self.address);
            let connection = Connection::from_id(peer.read_frame().text().parse().unwrap());
            let is_here = self.threads.lock().unwrap()[&connection] == self.first;
            if is_here { here.push(peer) } else { elsewhere.push(peer) }
        }
        (here, elsewhere)
    }

    fn joins(&mut self) -> bool {
        let Some(thread) = self.thread.take() else { return true };
        let end = Instant::now() + Duration::from_secs(10);
        while !thread.is_finished() {
            if Instant::now() > end {
                return false;
            }
            std::thread::yield_now();
        }
        thread.join().unwrap();
        true
    }
}

impl Drop for Several {
    fn drop(&mut self) {
        let _ = self.handle.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn threads(count: usize) -> LoopOptions {
    let mut options = LoopOptions::default();
    options.threads = count;
    options
}

#[test]
fn max_commands_counts_what_is_published_to_a_thread_that_stands_still() {
    let mut loop_options = threads(2);
    loop_options.max_commands = 100;
    let (gate, waits) = (Arc::new(Mutex::new(())), Arc::new(AtomicBool::new(false)));
    let (closed, waiting) = (gate.clone(), waits.clone());
    let server = Several::start(&loop_options, &Options::default(), move |_, _| {
        waiting.store(true, Ordering::SeqCst);
        drop(closed.lock());
    });
    let (mut here, _elsewhere) = server.open(1);
    let shut = gate.lock().unwrap();
    here[0].send_text("stand still");
    eventually("it stands still", || waits.load(Ordering::SeqCst));
    let refused = (0..100_000).find_map(|_| server.handle.publish("all", "", None).err());
    drop(shut);
    assert!(matches!(refused, Some(Error::Full(_))), "100,000 were taken, max_commands is 100: {refused:?}");
}

#[test]
fn max_commands_counts_what_one_thread_passes_on_to_another() {
    let mut loop_options = threads(2);
    loop_options.max_commands = 100;
    let (gate, waits) = (Arc::new(Mutex::new(())), Arc::new(AtomicBool::new(false)));
    let (closed, waiting) = (gate.clone(), waits.clone());
    let door = Arc::new(Mutex::new(None::<Handle>));
    let handle = door.clone();
    let server = Several::start(&loop_options, &Options::default(), move |_, message| {
        if message.payload() == b"stand still" {
            waiting.store(true, Ordering::SeqCst);
            drop(closed.lock());
        }
    });
    *door.lock().unwrap() = Some(server.handle.clone());
    let (_here, mut elsewhere) = server.open(1);
    let shut = gate.lock().unwrap();
    elsewhere[0].send_text("stand still");
    eventually("it stands still", || waits.load(Ordering::SeqCst));
    let (tell, told) = mpsc::channel();
    server
        .handle
        .post(move || {
            let handle = handle.lock().unwrap().clone().unwrap();
            let refused = (0..50_000).find_map(|n| handle.publish(["one", "two"][n % 2], "", None).err());
            tell.send(refused).unwrap();
        })
        .unwrap();
    let refused = told.recv_timeout(DEADLINE).unwrap();
    drop(shut);
    assert!(matches!(refused, Some(Error::Full(_))), "50,000 were passed on, max_commands is 100: {refused:?}");
}

#[test]
fn a_second_shutdown_cuts_what_the_first_one_waits_for() {
    let mut options = Options::default();
    options.close_timeout = Duration::from_secs(300);
    let mut server = Several::start(&threads(2), &options, |_, _| ());
    let (mut here, elsewhere) = server.open(1);
    // Only the first thread has a connection, which does not answer our Close.
    drop(elsewhere);
    here.truncate(1);
    eventually("only one is left", || {
        let (tell, told) = mpsc::channel();
        let handle = server.handle.clone();
        server.handle.post(move || tell.send(handle.connection_count().unwrap()).unwrap()).unwrap();
        told.recv_timeout(DEADLINE).unwrap() == 1
    });
    server.handle.shutdown(Duration::from_secs(300)).unwrap();
    here[0].expect_close(1001);
    // The other thread, which has nothing to wait for, ends meanwhile.
    std::thread::sleep(Duration::from_millis(300));
    let second = server.handle.shutdown(Duration::ZERO);
    let joined = server.joins();
    if !joined {
        // Lets the test end.
        drop(here);
    }
    assert!(joined, "the second shutdown answered {second:?} and cut nothing");
}

#[test]
fn what_is_published_before_a_shutdown_reaches_every_thread() {
    for round in 0..50 {
        let door = Arc::new(Mutex::new(None::<Handle>));
        let handle = door.clone();
        let server = Several::start(&threads(4), &Options::default(), move |_, _| {
            let handle = handle.lock().unwrap().clone().unwrap();
            handle.publish("all", "the last word", None).unwrap();
            handle.shutdown(Duration::from_millis(50)).unwrap();
        });
        *door.lock().unwrap() = Some(server.handle.clone());
        let (mut here, mut elsewhere) = server.open(2);
        here[0].send_text("say it");
        for peer in here.iter_mut().chain(&mut elsewhere) {
            let heard = peer.read_frame();
            assert!(heard.opcode == support::TEXT, "round {round}: the Close overtook what was published before it");
            assert_eq!(heard.text(), "the last word");
        }
    }
}

#[test]
fn the_connections_of_a_closed_listener_are_reached_from_a_thread_that_has_none_of_them() {
    let server = Several::start(&threads(2), &Options::default(), |_, _| ());
    let (here, mut elsewhere) = server.open(1);
    server.listener.close().unwrap();
    eventually("nobody listens", || std::net::TcpStream::connect(server.address).is_err());
    drop(here);
    let listener = server.listener;
    let handle = server.handle.clone();
    let on_first = |ask: Box<dyn FnOnce() -> usize + Send>| {
        let (tell, told) = mpsc::channel();
        server.handle.post(move || tell.send(ask()).unwrap()).unwrap();
        told.recv_timeout(DEADLINE).unwrap()
    };
    // The listener is forgotten there with the last of its connections.
    eventually("the first thread has none", || {
        let handle = handle.clone();
        on_first(Box::new(move || handle.connections().unwrap().len())) == 0
    });
    let (tell, told) = mpsc::channel();
    server.handle.post(move || tell.send(listener.broadcast("still here", None)).unwrap()).unwrap();
    let answer = told.recv_timeout(DEADLINE).unwrap();
    assert!(answer.is_ok(), "{answer:?}, while {} are open", elsewhere.len());
    elsewhere.iter_mut().for_each(|peer| peer.expect_text("still here"));
}

#[test]
fn max_connections_is_for_all_threads_together() {
    let mut options = Options::default();
    options.max_connections = 1;
    let server = Several::start(&threads(4), &options, |_, _| ());
    let mut peers = Vec::new();
    let mut accepted = 0;
    for _ in 0..40 {
        let mut peer = RawPeer::connect(server.address);
        peer.write(upgrade(&server.address.to_string(), "/", "").as_bytes());
        accepted += usize::from(support::status(&peer.read_head()) == 101);
        peers.push(peer);
    }
    assert_eq!(accepted, 1);
}

/// A handler whose end asks something of the loop, as the end of anything of a program's may.
struct Curious {
    handle: Handle,
    dropped: Arc<AtomicUsize>,
    panics: Arc<AtomicUsize>,
}

impl Handler for Curious {
    fn for_another_thread(&self) -> Option<Box<dyn Handler>> {
        let Self { handle, dropped, panics } = self;
        Some(Box::new(Self { handle: handle.clone(), dropped: dropped.clone(), panics: panics.clone() }))
    }
}

impl Drop for Curious {
    fn drop(&mut self) {
        let handle = self.handle.clone();
        let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || drop(handle.connection_count())));
        self.panics.fetch_add(usize::from(asked.is_err()), Ordering::SeqCst);
        self.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_handler_that_could_not_listen_may_ask_anything_in_its_drop() {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let event_loop = EventLoop::with_options(&threads(2)).unwrap();
        let (dropped, panics) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let curious = Curious { handle: event_loop.handle(), dropped: dropped.clone(), panics: panics.clone() };
        // Before the first turn, from whatever thread.
        event_loop.listen("no address", &Options::default(), curious).unwrap_err();
        tell.send((dropped.load(Ordering::SeqCst), panics.load(Ordering::SeqCst))).unwrap();
    });
    let (dropped, panics) = told.recv_timeout(Duration::from_secs(5)).expect("listen does not return: a deadlock");
    assert_eq!((dropped, panics), (2, 0));
}

#[test]
fn a_handler_that_could_not_listen_may_ask_anything_in_its_drop_on_the_loop_as_well() {
    let mut event_loop = EventLoop::with_options(&threads(2)).unwrap();
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    let (dropped, panics) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let curious = Curious { handle: event_loop.handle(), dropped: dropped.clone(), panics: panics.clone() };
    event_loop.listen("no address", &Options::default(), curious).unwrap_err();
    assert_eq!((dropped.load(Ordering::SeqCst), panics.load(Ordering::SeqCst)), (2, 0));
}

#[test]
fn a_handler_that_comes_to_a_thread_too_late_may_ask_anything_in_its_drop() {
    let (begin, begun) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let (begin, released) = (Mutex::new(begin), Mutex::new(released));
    let (dropped, panics) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let door = Arc::new(Mutex::new(None::<Handle>));
    let (their_door, their_dropped, their_panics) = (door.clone(), dropped.clone(), panics.clone());
    let server = Several::start(&threads(2), &Options::default(), move |_, _| {
        begin.lock().unwrap().send(()).unwrap();
        released.lock().unwrap().recv_timeout(DEADLINE).ok();
        let handle = their_door.lock().unwrap().clone().unwrap();
        let (dropped, panics) = (their_dropped.clone(), their_panics.clone());
        handle.listen("127.0.0.1:0", &Options::default(), Curious { handle: handle.clone(), dropped, panics }).unwrap();
    });
    *door.lock().unwrap() = Some(server.handle.clone());
    let (mut here, mut elsewhere) = server.open(1);
    here[0].send_text("wait, then listen");
    begun.recv_timeout(DEADLINE).unwrap();
    // The other thread shuts down, and waits for the answers to its Closes; the first one is busy.
    server.handle.shutdown(DEADLINE).unwrap();
    elsewhere.iter_mut().for_each(|peer| drop(peer.expect_close(1001)));
    drop(release);
    eventually("both are gone", || dropped.load(Ordering::SeqCst) == 2);
    assert_eq!(panics.load(Ordering::SeqCst), 0);
}

#[test]
fn a_host_that_turns_the_loop_itself_waits_for_the_shutdown_of_all_threads() {
    let threads_of = Arc::<Mutex<HashMap<_, _>>>::default();
    let ended = Arc::new(Mutex::new(Vec::new()));
    struct Told(Program, Arc<Mutex<Vec<(u16, bool)>>>);
    impl Handler for Told {
        fn on_open(&mut self, connection: Connection, opening: &Opening<'_>) {
            self.0.on_open(connection, opening);
        }
        fn on_close(&mut self, _: Connection, close: &wsx_core::Close<'_>) {
            self.1.lock().unwrap().push((close.code, close.was_clean));
        }
        fn for_another_thread(&self) -> Option<Box<dyn Handler>> {
            Some(Box::new(Self(self.0.clone(), self.1.clone())))
        }
    }
    let (told_threads, told_ended) = (threads_of.clone(), ended.clone());
    let (tell, told) = mpsc::channel();
    let turning = std::thread::spawn(move || {
        let mut event_loop = EventLoop::with_options(&threads(2)).unwrap();
        let program = Program { threads: told_threads, on_message: Arc::new(|_, _| ()) };
        let listener = event_loop.listen("127.0.0.1:0", &Options::default(), Told(program, told_ended)).unwrap();
        let Address::Tcp(address) = listener.local_address().unwrap() else { panic!("no TCP address") };
        tell.send((address, event_loop.handle(), std::thread::current().id())).unwrap();
        while event_loop.turn(None).unwrap() {}
    });
    let (address, handle, first) = told.recv_timeout(DEADLINE).unwrap();
    // One connection, on the other thread.
    let mut here = Vec::new();
    let mut peer = loop {
        let mut peer = RawPeer::open(address);
        let connection = Connection::from_id(peer.read_frame().text().parse().unwrap());
        if threads_of.lock().unwrap()[&connection] != first {
            break peer;
        }
        here.push(peer);
    };
    let others = here.len();
    for mut peer in here {
        peer.send_close(Some(1000), "");
        peer.expect_close(1000);
    }
    eventually("the first thread has no connection", || ended.lock().unwrap().len() == others);
    handle.shutdown(DEADLINE).unwrap();
    peer.expect_close(1001);
    std::thread::sleep(Duration::from_millis(200));
    peer.send_close(Some(1001), "");
    peer.expect_end();
    turning.join().unwrap();
    assert_eq!(ended.lock().unwrap().last(), Some(&(1001, true)));
}

#[test]
fn a_message_to_another_thread_does_not_overtake_what_was_published_before() {
    let door = Arc::new(Mutex::new(None::<(Handle, Vec<Connection>)>));
    let known = door.clone();
    let server = Several::start(&threads(2), &Options::default(), move |_, _| {
        let (handle, others) = known.lock().unwrap().clone().unwrap();
        for n in 0..50 {
            handle.publish("all", &format!("{n} published"), None).unwrap();
            others.iter().for_each(|other| other.send(&format!("{n} sent")).unwrap());
        }
    });
    let (mut here, mut elsewhere) = server.open(1);
    // Those of the other thread only: nothing else settles what was published.
    let others = server
        .threads
        .lock()
        .unwrap()
        .iter()
        .filter(|(_, thread)| **thread != server.first)
        .map(|(other, _)| *other)
        .collect();
    *door.lock().unwrap() = Some((server.handle.clone(), others));
    here[0].send_text("begin");
    for peer in &mut elsewhere {
        for n in 0..50 {
            peer.expect_text(&format!("{n} published"));
            peer.expect_text(&format!("{n} sent"));
        }
    }
}

#[test]
fn except_is_heeded_on_whatever_thread_it_is() {
    let door = Arc::new(Mutex::new(None::<(Handle, Connection)>));
    let known = door.clone();
    let server = Several::start(&threads(2), &Options::default(), move |_, _| {
        let (handle, except) = known.lock().unwrap().clone().unwrap();
        handle.publish("all", "for the others", Some(except)).unwrap();
        handle.publish("all", "for all", None).unwrap();
    });
    let (mut here, mut elsewhere) = server.open(1);
    let except = *server.threads.lock().unwrap().iter().find(|(_, thread)| **thread != server.first).unwrap().0;
    *door.lock().unwrap() = Some((server.handle.clone(), except));
    here[0].send_text("begin");
    let heard_both = elsewhere.iter_mut().filter_map(|peer| match &*peer.read_frame().text() {
        "for the others" => {
            peer.expect_text("for all");
            Some(())
        }
        text => {
            assert_eq!(text, "for all");
            None
        }
    });
    let heard_both = heard_both.count();
    assert_eq!(heard_both, elsewhere.len() - 1);
}
