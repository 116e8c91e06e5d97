//! A server under attack, with a well-behaved connection that must be served all along.

use std::cell::RefCell;

use wsx_core::{Address, Connection, LoopOptions, Options};

use super::{Answer, Ended, Events, RawPeer, Recorder, Running, Script, eventually};

/// Echoes; the good connection comes by a listener of its own.
pub struct Siege {
    running: Running,
    listener: wsx_core::Listener,
    /// What the program hears of the hostile connections.
    pub events: Events,
    address: std::net::SocketAddr,
    good: RefCell<RawPeer>,
    // Kept, so that what is told of the good one has somewhere to go.
    _good_events: Events,
}

impl Siege {
    /// Hostile connections get these options, and the good one the defaults.
    pub fn begin(options: &Options) -> Self {
        Self::begin_with(options, Script::echo())
    }

    /// The same with another program than an echo for the hostile ones.
    pub fn begin_with(options: &Options, script: Script) -> Self {
        let options = options.clone();
        let (recorder, events) = Recorder::new(script);
        let (good_recorder, good_events) = Recorder::new(Script::echo().quiet());
        let (running, (listener, hostile, good)) = Running::start(&LoopOptions::default(), move |handle| {
            let listener = handle.listen("127.0.0.1:0", &options, recorder).unwrap();
            let good = handle.listen("127.0.0.1:0", &Options::default(), good_recorder).unwrap();
            (listener, listener.local_address().unwrap(), good.local_address().unwrap())
        });
        let (Address::Tcp(address), Address::Tcp(good)) = (hostile, good) else { panic!("not TCP") };
        let good = RefCell::new(RawPeer::open(good));
        Self { running, listener, events, address, good, _good_events: good_events }
    }

    /// A hostile TCP connection that has sent nothing.
    #[track_caller]
    pub fn connect(&self) -> RawPeer {
        RawPeer::connect(self.address)
    }

    /// A hostile connection that is open.
    #[track_caller]
    pub fn open(&self) -> RawPeer {
        RawPeer::open(self.address)
    }

    /// One with a small receive buffer, and its number.
    #[track_caller]
    pub fn open_narrow(&self) -> (RawPeer, Connection) {
        let peer = RawPeer::open_narrow(self.address);
        (peer, self.events.opened())
    }

    /// The HTTP answer to these bytes.
    #[track_caller]
    pub fn ask(&self, request: &str) -> Answer {
        let mut peer = self.connect();
        peer.write(request.as_bytes());
        peer.read_answer()
    }

    /// Runs `call` on the loop's thread.
    #[track_caller]
    pub fn on_loop<T: Send + 'static>(&self, call: impl FnOnce() -> T + Send + 'static) -> T {
        self.running.on_loop(call)
    }

    /// The good connection gets its echo.
    #[track_caller]
    pub fn is_served_on(&self) {
        let mut good = self.good.borrow_mut();
        good.send_text("served?");
        good.expect_text("served?");
    }

    /// How the next hostile connection that ends has ended.
    #[track_caller]
    pub fn closed(&self) -> Ended {
        self.events.closed()
    }

    /// The hostile ones have gone, by the test's own hand or the server's. The good connection is served on, is the
    /// only one that is open, and no record is left: the hostile ones' listener is freed with the last of them.
    #[track_caller]
    pub fn end(self) {
        self.is_served_on();
        eventually("only the good connection is left", || self.running.connection_count() == 1);
        self.listener.close().unwrap();
        loop {
            match self.events.received.recv_timeout(super::DEADLINE) {
                Ok(_) => {}
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(error) => panic!("something of the hostile connections is left: {error}"),
            }
        }
        self.is_served_on();
    }
}
