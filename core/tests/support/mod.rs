//! What the integration tests share: a loop on a thread of its own ([`Running`], [`Server`]), a program that records what it
//! hears ([`Recorder`], [`Events`]), and a raw peer that speaks byte by byte ([`RawPeer`]).
//!
//! Nothing here sleeps: a test waits for an event, or for bytes, until [`DEADLINE`]. What a test starts it also ends:
//! dropping a [`Running`] or a [`Server`] stops its loop, joins its thread, and passes on what panicked there.

// Each test binary uses its own part of this.
#![allow(dead_code)]

mod history;
mod peer;
mod recorder;

pub mod clients;
#[cfg(feature = "deflate")]
pub mod deflate;
pub mod siege;
#[cfg(feature = "tls")]
pub mod tls;

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use wsx_core::{Address, Client, Connection, EventLoop, Handle, Listener, LoopOptions, Options, Reconnect};

pub use peer::*;
pub use recorder::*;

/// How long a test waits for what must happen.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A loop that runs on a thread of its own until this is dropped.
pub struct Running {
    pub handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts a loop; `set_up` runs on its thread before its first turn.
    pub fn start<T: Send + 'static>(
        options: &LoopOptions,
        set_up: impl FnOnce(&Handle) -> T + Send + 'static,
    ) -> (Self, T) {
        let options = options.clone();
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut event_loop = EventLoop::with_options(&options).unwrap();
            let made = set_up(&event_loop);
            sender.send((event_loop.handle(), made)).unwrap();
            event_loop.run().unwrap();
        });
        match receiver.recv() {
            Ok((handle, made)) => (Self { handle, thread: Some(thread) }, made),
            Err(_) => match thread.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => panic!("the loop ended before it began"),
            },
        }
    }

    /// Runs `call` on the loop's thread and waits for what it answers.
    #[track_caller]
    pub fn on_loop<T: Send + 'static>(&self, call: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = mpsc::channel();
        self.handle.post(move || sender.send(call()).unwrap()).unwrap();
        match receiver.recv_timeout(DEADLINE) {
            Ok(answer) => answer,
            Err(error) => panic!("the loop does not answer: {error}"),
        }
    }

    /// A loop with nothing on it.
    pub fn idle() -> Self {
        Self::start(&LoopOptions::default(), |_| ()).0
    }

    /// A client of this loop.
    #[track_caller]
    pub fn connect(&self, url: &str, options: &Options, script: Script) -> (Connection, Events) {
        let (url, options, handle) = (url.to_owned(), options.clone(), self.handle.clone());
        let (recorder, events) = Recorder::new(script);
        (self.on_loop(move || handle.connect(&url, &options, recorder).unwrap()), events)
    }

    /// A client of this loop that connects again.
    #[track_caller]
    pub fn connect_persistently(
        &self,
        url: &str,
        options: &Options,
        reconnect: &Reconnect,
        script: Script,
    ) -> (Client, Events) {
        let (url, options, reconnect) = (url.to_owned(), options.clone(), reconnect.clone());
        let (recorder, events) = Recorder::new(script);
        let handle = self.handle.clone();
        let connect = move || handle.connect_persistently(&url, &options, &reconnect, recorder).unwrap();
        (self.on_loop(connect), events)
    }

    /// Keeps the loop busy while `call` runs, so that it finds everything that came meanwhile in one turn.
    #[track_caller]
    pub fn meanwhile<T>(&self, call: impl FnOnce() -> T) -> T {
        let (begin, begun) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        self.handle
            .post(move || {
                begin.send(()).unwrap();
                // It ends by being dropped, too.
                let _ = released.recv_timeout(DEADLINE);
            })
            .unwrap();
        begun.recv_timeout(DEADLINE).expect("the loop does not answer");
        let result = call();
        drop(release);
        result
    }

    /// How many server connections are open.
    #[track_caller]
    pub fn connection_count(&self) -> usize {
        let handle = self.handle.clone();
        self.on_loop(move || handle.connection_count().unwrap())
    }

    /// Waits until the loop ends by itself, as after `shutdown`.
    #[track_caller]
    pub fn join(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        let end = Instant::now() + DEADLINE;
        while !thread.is_finished() {
            assert!(Instant::now() < end, "the loop does not end");
            std::thread::yield_now();
        }
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        // It may have ended already.
        let _ = self.handle.stop();
        if let Err(panic) = thread.join()
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// A loop with one listener on 127.0.0.1.
pub struct Server {
    // Dropped first: what the loop tells while it ends finds its listener still there.
    pub running: Running,
    pub listener: Listener,
    pub events: Events,
    address: SocketAddr,
}

impl Deref for Server {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

impl Server {
    pub fn start(options: &Options, script: Script) -> Self {
        Self::start_with(&LoopOptions::default(), options, script)
    }

    pub fn start_with(loop_options: &LoopOptions, options: &Options, script: Script) -> Self {
        let options = options.clone();
        let (recorder, events) = Recorder::new(script);
        let (running, (listener, address)) = Running::start(loop_options, move |handle| {
            let listener = handle.listen("127.0.0.1:0", &options, recorder).unwrap();
            (listener, listener.local_address().unwrap())
        });
        let Address::Tcp(address) = address else { panic!("not a TCP address: {address}") };
        Self { running, listener, events, address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A raw client that is open, and its number.
    #[track_caller]
    pub fn open(&self) -> (RawPeer, Connection) {
        let peer = RawPeer::open(self.address);
        (peer, self.events.opened())
    }

    /// A raw client that is open and takes in little before it reads, and its number.
    #[track_caller]
    pub fn open_narrow(&self) -> (RawPeer, Connection) {
        let peer = RawPeer::open_narrow(self.address);
        (peer, self.events.opened())
    }

    /// The status of the answer to these bytes; the connection is given up then.
    #[track_caller]
    pub fn status_of(&self, request: &str) -> u16 {
        let mut peer = RawPeer::connect(self.address);
        peer.write(request.as_bytes());
        status(&peer.read_head())
    }

    /// Waits until so many server connections are open.
    #[track_caller]
    pub fn expect_connections(&self, count: usize) {
        eventually("the number of connections", || self.connection_count() == count);
    }

    /// The HTTP answer to these bytes.
    #[track_caller]
    pub fn ask(&self, request: &str) -> Answer {
        let mut peer = RawPeer::connect(self.address);
        peer.write(request.as_bytes());
        peer.read_answer()
    }
}

/// Asks again and again, until it is so.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < end, "this did not come about: {what}");
        std::thread::yield_now();
    }
}
