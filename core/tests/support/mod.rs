//! What the integration tests share: a loop on a thread of its own whose events a test waits for, and a raw peer that
//! speaks byte by byte.
//!
//! Nothing here sleeps: a test waits for an event, or for bytes, until [`DEADLINE`]. What a test starts it also ends:
//! dropping a [`Running`] or a [`Server`] stops its loop, joins its thread, and passes on what panicked there.

// Each test binary uses its own part of this.
#![allow(dead_code)]

mod history;

#[cfg(feature = "deflate")]
pub mod deflate;
pub mod siege;
#[cfg(feature = "tls")]
pub mod tls;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Deref;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use wsx_core::{
    Address, Client, Close, Connection, EventLoop, Failure, Figure, Fragment, GiveUp, Handle, Handler, Listener,
    LoopOptions, Message, Opening, Options, Reconnect, Reconnecting, Request, Response, Side,
};

use history::{History, Step};

/// How long a test waits for what must happen.
pub const DEADLINE: Duration = Duration::from_secs(30);

pub const FIN: u8 = 0x80;
pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// What a program heard, in the order it heard it.
#[derive(Clone, Debug)]
pub enum Event {
    /// With the subprotocol agreed on.
    Opened(Connection, Option<String>),
    Text(Connection, String),
    Binary(Connection, Vec<u8>),
    /// Payload, text, first, last.
    Fragment(Connection, Vec<u8>, bool, bool, bool),
    Ping(Connection, Vec<u8>),
    Pong(Connection, Vec<u8>),
    Drain(Connection),
    Error(Connection, Failure),
    Closed(Connection, Ended),
    ListenerError(Failure),
    /// With the number of the attempt in a row, the delay, and how the connection before ended.
    Reconnecting(Client, u32, Duration, Ended),
    GaveUp(Client, GiveUp),
}

impl Event {
    /// The connection it is about.
    pub fn connection(&self) -> Option<Connection> {
        match self {
            Self::Opened(connection, _)
            | Self::Text(connection, _)
            | Self::Binary(connection, _)
            | Self::Fragment(connection, ..)
            | Self::Ping(connection, _)
            | Self::Pong(connection, _)
            | Self::Drain(connection)
            | Self::Error(connection, _)
            | Self::Closed(connection, _) => Some(*connection),
            Self::ListenerError(_) | Self::Reconnecting(..) | Self::GaveUp(..) => None,
        }
    }
}

/// A [`Close`] that outlives its callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub code: u16,
    pub reason: String,
    pub was_clean: bool,
    pub by: Side,
    pub failure: Option<Failure>,
    pub undelivered_messages: u64,
    pub lost_messages: u32,
    pub unsent_bytes: u64,
}

impl Ended {
    fn new(close: &Close<'_>) -> Self {
        Self {
            code: close.code,
            reason: close.reason.to_owned(),
            was_clean: close.was_clean,
            by: close.by,
            failure: close.failure.cloned(),
            undelivered_messages: close.undelivered_messages,
            lost_messages: close.lost_messages,
            unsent_bytes: close.unsent_bytes,
        }
    }

    /// The failure's sentence; panics where nothing failed.
    pub fn cause(&self) -> &str {
        match &self.failure {
            Some(failure) => &failure.message,
            None => panic!("nothing failed: {self:?}"),
        }
    }
}

/// A failure's limit or timeout: the option, its figure, what was reached.
pub fn limit_of(failure: &Failure) -> Option<(&'static str, Figure, Option<u64>)> {
    failure.limit.map(|limit| (limit.option, limit.figure, limit.reached))
}

type OnRequest = Box<dyn FnMut(&Request<'_>) -> Response + Send>;
type OnConnection = Box<dyn FnMut(Connection) + Send>;
type OnDeferral = Box<dyn FnMut(Connection, bool) + Send>;
type OnMessage = Box<dyn FnMut(Connection, Message<'_>) + Send>;
type OnClient = Box<dyn FnMut(Client) + Send>;
type OnClose = Box<dyn FnMut(Connection, &Ended) + Send>;

/// What a program does in its callbacks; what is not given does nothing but record.
#[derive(Default)]
pub struct Script {
    request: Option<OnRequest>,
    open: Option<OnConnection>,
    message: Option<OnMessage>,
    drain: Option<OnConnection>,
    pong: Option<OnConnection>,
    before_reply: Option<OnConnection>,
    after_deferral: Option<OnDeferral>,
    close: Option<OnClose>,
    reconnecting: Option<OnClient>,
    give_up: Option<OnClient>,
    quiet: bool,
}

impl Script {
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends every message back, whatever `send` answers.
    pub fn echo() -> Self {
        Self::new().on_message(|connection, message| {
            let _ = connection.send(message);
        })
    }

    pub fn on_request(mut self, call: impl FnMut(&Request<'_>) -> Response + Send + 'static) -> Self {
        self.request = Some(Box::new(call));
        self
    }

    pub fn on_open(mut self, call: impl FnMut(Connection) + Send + 'static) -> Self {
        self.open = Some(Box::new(call));
        self
    }

    pub fn on_message(mut self, call: impl FnMut(Connection, Message<'_>) + Send + 'static) -> Self {
        self.message = Some(Box::new(call));
        self
    }

    pub fn on_drain(mut self, call: impl FnMut(Connection) + Send + 'static) -> Self {
        self.drain = Some(Box::new(call));
        self
    }

    pub fn on_pong(mut self, call: impl FnMut(Connection) + Send + 'static) -> Self {
        self.pong = Some(Box::new(call));
        self
    }

    pub fn before_reply(mut self, call: impl FnMut(Connection) + Send + 'static) -> Self {
        self.before_reply = Some(Box::new(call));
        self
    }

    pub fn after_deferral(mut self, call: impl FnMut(Connection, bool) + Send + 'static) -> Self {
        self.after_deferral = Some(Box::new(call));
        self
    }

    pub fn on_close(mut self, call: impl FnMut(Connection, &Ended) + Send + 'static) -> Self {
        self.close = Some(Box::new(call));
        self
    }

    pub fn on_reconnecting(mut self, call: impl FnMut(Client) + Send + 'static) -> Self {
        self.reconnecting = Some(Box::new(call));
        self
    }

    pub fn on_give_up(mut self, call: impl FnMut(Client) + Send + 'static) -> Self {
        self.give_up = Some(Box::new(call));
        self
    }

    /// Records neither messages nor pings: for tests that count allocations, or send very much.
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }
}

/// Runs a [`Script`] and records what it hears: first the script's own closure runs, then the event is recorded, so a
/// test that has seen an event knows that its callback has done its work.
///
/// It also keeps watch over the order of events on each connection, see [`history`].
pub struct Recorder {
    script: Script,
    events: mpsc::Sender<Event>,
    history: History,
}

impl Recorder {
    pub fn new(script: Script) -> (Self, Events) {
        let (events, received) = mpsc::channel();
        let history = History::default();
        (Self { script, events, history: history.clone() }, Events { received, history })
    }

    fn record(&self, event: Event) {
        // A test that has seen enough does not listen any more.
        let _ = self.events.send(event);
    }
}

impl Handler for Recorder {
    fn on_request(&mut self, request: &Request<'_>) -> Response {
        self.script.request.as_mut().map_or_else(Response::accept, |call| call(request))
    }

    fn on_open(&mut self, connection: Connection, opening: &Opening<'_>) {
        self.history.note(connection, Step::Opened);
        if let Some(call) = &mut self.script.open {
            call(connection);
        }
        self.record(Event::Opened(connection, opening.subprotocol.map(str::to_owned)));
    }

    fn on_message(&mut self, connection: Connection, message: Message<'_>) {
        if !self.script.quiet {
            self.history.note(connection, Step::Heard);
        }
        if let Some(call) = &mut self.script.message {
            call(connection, message);
        }
        if !self.script.quiet {
            self.record(match message {
                Message::Text(text) => Event::Text(connection, text.to_owned()),
                Message::Binary(bytes) => Event::Binary(connection, bytes.to_vec()),
            });
        }
    }

    fn on_fragment(&mut self, connection: Connection, fragment: Fragment<'_>) {
        self.history.note(connection, Step::Heard);
        let payload = fragment.payload.to_vec();
        self.record(Event::Fragment(connection, payload, fragment.is_text, fragment.is_first, fragment.is_last));
    }

    fn before_reply(&mut self, connection: Connection) {
        if let Some(call) = &mut self.script.before_reply {
            call(connection);
        }
    }

    fn after_deferral(&mut self, connection: Connection, is_answered: bool) {
        if let Some(call) = &mut self.script.after_deferral {
            call(connection, is_answered);
        }
    }

    fn on_ping(&mut self, connection: Connection, payload: &[u8]) {
        if !self.script.quiet {
            self.history.note(connection, Step::Heard);
            self.record(Event::Ping(connection, payload.to_vec()));
        }
    }

    fn on_pong(&mut self, connection: Connection, payload: &[u8], _: Option<Duration>) {
        self.history.note(connection, Step::Heard);
        if let Some(call) = &mut self.script.pong {
            call(connection);
        }
        self.record(Event::Pong(connection, payload.to_vec()));
    }

    fn on_drain(&mut self, connection: Connection) {
        self.history.note(connection, Step::Drained);
        if let Some(call) = &mut self.script.drain {
            call(connection);
        }
        self.record(Event::Drain(connection));
    }

    fn on_error(&mut self, connection: Connection, failure: &Failure) {
        self.history.note(connection, Step::Failed(failure));
        self.record(Event::Error(connection, failure.clone()));
    }

    fn on_close(&mut self, connection: Connection, close: &Close<'_>) {
        self.history.note(connection, Step::Closed(close.failure));
        let ended = Ended::new(close);
        if let Some(call) = &mut self.script.close {
            call(connection, &ended);
        }
        self.record(Event::Closed(connection, ended));
    }

    fn on_reconnecting(&mut self, client: Client, reconnecting: &Reconnecting<'_>) {
        if let Some(call) = &mut self.script.reconnecting {
            call(client);
        }
        let Reconnecting { attempt, delay, cause, .. } = *reconnecting;
        self.record(Event::Reconnecting(client, attempt, delay, Ended::new(cause)));
    }

    fn on_give_up(&mut self, client: Client, give_up: &GiveUp) {
        if let Some(call) = &mut self.script.give_up {
            call(client);
        }
        self.record(Event::GaveUp(client, give_up.clone()));
    }

    fn on_listener_error(&mut self, _listener: Listener, failure: &Failure) {
        self.record(Event::ListenerError(failure.clone()));
    }
}

/// The events of one [`Recorder`].
pub struct Events {
    received: mpsc::Receiver<Event>,
    history: History,
}

impl Drop for Events {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let handler_is_gone = loop {
                match self.received.try_recv() {
                    Ok(_) => {}
                    Err(error) => break error == mpsc::TryRecvError::Disconnected,
                }
            };
            self.history.check(handler_is_gone);
        }
    }
}

impl Events {
    /// The next event.
    #[track_caller]
    pub fn next(&self) -> Event {
        match self.received.recv_timeout(DEADLINE) {
            Ok(event) => event,
            Err(error) => panic!("no further event: {error}"),
        }
    }

    /// An event that has come already, if there is one.
    pub fn try_next(&self) -> Option<Event> {
        self.received.try_recv().ok()
    }

    /// The next event that `wanted` takes; those before it are dropped.
    #[track_caller]
    pub fn find<T>(&self, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        loop {
            match self.received.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(event) => {
                    if let Some(found) = wanted(event) {
                        return found;
                    }
                }
                Err(error) => panic!("the event did not come: {error}"),
            }
        }
    }

    /// The next connection that opens.
    #[track_caller]
    pub fn opened(&self) -> Connection {
        self.find(|event| match event {
            Event::Opened(connection, _) => Some(connection),
            _ => None,
        })
    }

    /// How the next connection that ends has ended.
    #[track_caller]
    pub fn closed(&self) -> Ended {
        self.find(|event| match event {
            Event::Closed(_, ended) => Some(ended),
            _ => None,
        })
    }

    /// Why this connection was not opened: told by `on_error`, then by `on_close`, and nothing else before.
    #[track_caller]
    pub fn failure_of(&self, connection: Connection) -> Failure {
        let Event::Error(of, failure) = self.next() else { panic!("no on_error") };
        let Event::Closed(and, ended) = self.next() else { panic!("no on_close") };
        assert_eq!((of, and), (connection, connection));
        assert_eq!((ended.code, ended.was_clean, ended.failure.as_ref()), (1006, false, Some(&failure)));
        failure
    }

    /// How this connection has ended.
    #[track_caller]
    pub fn closed_of(&self, wanted: Connection) -> Ended {
        self.find(|event| match event {
            Event::Closed(connection, ended) if connection == wanted => Some(ended),
            _ => None,
        })
    }

    /// The next text message.
    #[track_caller]
    pub fn text(&self) -> String {
        self.find(|event| match event {
            Event::Text(_, text) => Some(text),
            _ => None,
        })
    }

    /// The next `on_reconnecting`: which attempt in a row, after which delay.
    #[track_caller]
    pub fn reconnecting(&self) -> (u32, Duration) {
        self.find(|event| match event {
            Event::Reconnecting(_, attempt, delay, _) => Some((attempt, delay)),
            _ => None,
        })
    }

    /// Why the client gives up.
    #[track_caller]
    pub fn gave_up(&self) -> GiveUp {
        self.find(|event| match event {
            Event::GaveUp(_, give_up) => Some(give_up),
            _ => None,
        })
    }

    /// The next `on_drain`.
    #[track_caller]
    pub fn drain(&self) -> Connection {
        self.find(|event| match event {
            Event::Drain(connection) => Some(connection),
            _ => None,
        })
    }

    /// The next `on_listener_error`.
    #[track_caller]
    pub fn listener_error(&self) -> Failure {
        self.find(|event| match event {
            Event::ListenerError(failure) => Some(failure),
            _ => None,
        })
    }
}

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

/// The status of an HTTP answer.
#[track_caller]
pub fn status(head: &str) -> u16 {
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("no status: {head}"))
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

/// A frame as it came over the wire, unmasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub fin: bool,
    /// The three reserved bits, in the low bits of this.
    pub rsv: u8,
    pub opcode: u8,
    pub masked: bool,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code and reason of a Close.
    #[track_caller]
    pub fn close(&self) -> (Option<u16>, String) {
        assert_eq!(self.opcode, CLOSE, "not a Close: {self:?}");
        match self.payload.split_first_chunk::<2>() {
            None => (None, String::new()),
            Some((code, reason)) => (Some(u16::from_be_bytes(*code)), String::from_utf8(reason.to_vec()).unwrap()),
        }
    }

    /// The payload as text; panics where it is another kind of frame.
    #[track_caller]
    pub fn text(self) -> String {
        assert_eq!((self.opcode, self.fin), (TEXT, true), "not a whole text");
        String::from_utf8(self.payload).unwrap()
    }
}

/// An HTTP answer: status, head as text, and the body up to the end of the connection (or its `Content-Length`).
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// The key of RFC 6455 section 1.3.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What a server answers to it.
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A valid opening handshake, with further header lines (each ended by CRLF).
pub fn upgrade(host: &str, path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
}

/// A frame: `first` is the whole first byte (FIN, reserved bits, opcode).
pub fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut bytes = frame_header(first, payload.len() as u64, mask);
    bytes.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ mask.map_or(0, |mask| mask[index % 4])));
    bytes
}

/// The header of a frame that announces `length` bytes.
pub fn frame_header(first: u8, length: u64, mask: Option<[u8; 4]>) -> Vec<u8> {
    let bit = if mask.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(bit | length as u8),
        126..=0xffff => {
            bytes.push(bit | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(bit | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes.extend(mask.unwrap_or_default().iter().take(if mask.is_some() { 4 } else { 0 }));
    bytes
}

/// The masking key of every frame a raw client sends.
pub const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// One end of a TCP connection, or of TLS on it, that a test scripts byte by byte.
pub struct RawPeer<S = TcpStream> {
    pub stream: S,
    received: Vec<u8>,
    /// Whether frames are sent masked, as a client does.
    pub masks: bool,
}

impl RawPeer {
    pub fn new(stream: TcpStream, masks: bool) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, received: Vec::new(), masks }
    }

    /// The same peer, speaking by this.
    pub fn over<S>(self, speak: impl FnOnce(TcpStream) -> S) -> RawPeer<S> {
        RawPeer { stream: speak(self.stream), received: self.received, masks: self.masks }
    }

    /// A client's TCP connection that has sent nothing.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect_timeout(&address, DEADLINE).unwrap(), true)
    }

    /// A client whose opening handshake is done.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        let mut peer = Self::connect(address);
        peer.write(upgrade(&address.to_string(), "/", "").as_bytes());
        peer.expect_upgrade();
        peer
    }

    /// A client's TCP connection with a receive buffer as small as can be: little that is sent to it leaves its sender
    /// before it reads.
    #[track_caller]
    pub fn connect_narrow(address: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::new(socket.into(), true)
    }

    /// The same, with its opening handshake done.
    #[track_caller]
    pub fn open_narrow(address: SocketAddr) -> Self {
        let mut peer = Self::connect_narrow(address);
        peer.write(upgrade(&address.to_string(), "/", "").as_bytes());
        peer.expect_upgrade();
        peer
    }

    /// The server's end of the next connection, which has read nothing.
    #[track_caller]
    pub fn accept(listener: &TcpListener) -> Self {
        socket2::SockRef::from(listener).set_read_timeout(Some(DEADLINE)).unwrap();
        Self::new(listener.accept().expect("nobody connects").0, false)
    }

    /// The server's end of the next connection, with its opening handshake done; and the client's request head.
    #[track_caller]
    pub fn accept_upgrade(listener: &TcpListener) -> (Self, String) {
        let mut peer = Self::accept(listener);
        let head = peer.read_head();
        peer.answer_upgrade(&head, "");
        (peer, head)
    }

    /// Says that no more will be sent: FIN.
    #[track_caller]
    pub fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Ends the connection with a reset instead of a FIN.
    #[track_caller]
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

impl<S: Read + Write> RawPeer<S> {
    /// Answers a client's opening handshake with 101 and further header lines (each ended by CRLF).
    #[track_caller]
    pub fn answer_upgrade(&mut self, head: &str, more: &str) {
        let key = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
        });
        let accept = tungstenite::handshake::derive_accept_key(key.expect("no key").as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n{more}\r\n"
        );
        self.write(answer.as_bytes());
    }

    /// Reads the 101 that answers [`upgrade`]; and its head.
    #[track_caller]
    pub fn expect_upgrade(&mut self) -> String {
        let head = self.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "no upgrade: {head}");
        assert!(head.to_ascii_lowercase().contains(&format!("sec-websocket-accept: {ACCEPT}").to_ascii_lowercase()));
        head
    }

    #[track_caller]
    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).and_then(|()| self.stream.flush()).unwrap();
    }

    /// Writes, though the other end may have gone already.
    pub fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Writes this again and again until the other end has gone.
    #[track_caller]
    pub fn write_until_the_end(&mut self, bytes: &[u8]) {
        let end = Instant::now() + DEADLINE;
        while self.try_write(bytes) {
            assert!(Instant::now() < end, "the other end stays");
        }
    }

    /// Sends one whole frame with FIN set.
    #[track_caller]
    pub fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.send_frame(0x80 | opcode, payload);
    }

    /// Sends one whole frame; `first` is its whole first byte.
    #[track_caller]
    pub fn send_frame(&mut self, first: u8, payload: &[u8]) {
        let bytes = frame(first, payload, self.masks.then_some(MASK));
        self.write(&bytes);
    }

    #[track_caller]
    pub fn send_text(&mut self, text: &str) {
        self.send(TEXT, text.as_bytes());
    }

    /// Sends a Close; without a code where that is `None`.
    #[track_caller]
    pub fn send_close(&mut self, code: Option<u16>, reason: &str) {
        let mut payload = code.map_or_else(Vec::new, |code| code.to_be_bytes().to_vec());
        payload.extend(reason.as_bytes());
        self.send(CLOSE, &payload);
    }

    /// Reads more; false at the end of the stream. A reset is an end as well.
    #[track_caller]
    fn fill(&mut self) -> bool {
        let mut buffer = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(count) => {
                    self.received.extend(&buffer[..count]);
                    return count != 0;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return false,
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    /// Exactly `count` bytes.
    #[track_caller]
    pub fn read_bytes(&mut self, count: usize) -> Vec<u8> {
        while self.received.len() < count {
            assert!(self.fill(), "the stream ended after {} of {count} bytes", self.received.len());
        }
        self.received.drain(..count).collect()
    }

    /// Everything up to the end of the stream.
    #[track_caller]
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.received)
    }

    /// An HTTP head, with its empty line.
    #[track_caller]
    pub fn read_head(&mut self) -> String {
        loop {
            if let Some(at) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                return String::from_utf8(self.received.drain(..at + 4).collect()).unwrap();
            }
            assert!(self.fill(), "the stream ended within a head: {}", String::from_utf8_lossy(&self.received));
        }
    }

    /// A whole HTTP answer, up to the end of the connection.
    #[track_caller]
    pub fn read_answer(&mut self) -> Answer {
        let head = self.read_head();
        let status = status(&head);
        let body = String::from_utf8(self.read_to_end()).unwrap();
        Answer { status, head, body }
    }

    /// The next frame; `None` at the end of the stream. Panics where the stream ends inside a frame.
    #[track_caller]
    pub fn try_read_frame(&mut self) -> Option<Frame> {
        if self.received.is_empty() && !self.fill() {
            return None;
        }
        let start = self.read_bytes(2);
        let length = match start[1] & 0x7f {
            126 => u16::from_be_bytes(self.read_bytes(2).try_into().unwrap()).into(),
            127 => u64::from_be_bytes(self.read_bytes(8).try_into().unwrap()),
            length => length.into(),
        };
        let masked = start[1] & 0x80 != 0;
        let mask = if masked { self.read_bytes(4) } else { vec![0; 4] };
        let mut payload = self.read_bytes(length as usize);
        for (index, byte) in payload.iter_mut().enumerate() {
            *byte ^= mask[index % 4];
        }
        Some(Frame { fin: start[0] & 0x80 != 0, rsv: start[0] >> 4 & 7, opcode: start[0] & 15, masked, payload })
    }

    /// The next frame.
    #[track_caller]
    pub fn read_frame(&mut self) -> Frame {
        self.try_read_frame().expect("the stream ended where a frame was expected")
    }

    /// Reads a frame and compares it; `first` is its whole first byte.
    #[track_caller]
    pub fn expect_frame(&mut self, first: u8, payload: &[u8]) {
        let Frame { fin, rsv, opcode, payload: found, .. } = self.read_frame();
        assert_eq!(u8::from(fin) << 7 | rsv << 4 | opcode, first, "{} bytes came", found.len());
        assert!(found == payload, "{} bytes came instead of {}, or others", found.len(), payload.len());
    }

    /// Reads a whole text and compares it.
    #[track_caller]
    pub fn expect_text(&mut self, text: &str) {
        assert_eq!(self.read_frame().text(), text);
    }

    /// Reads a Close of this code; and its reason.
    #[track_caller]
    pub fn expect_close(&mut self, code: u16) -> String {
        let (found, reason) = self.read_frame().close();
        assert_eq!(found, Some(code), "the reason given is {reason:?}");
        reason
    }

    /// Nothing more comes, and the stream ends.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let rest = self.read_to_end();
        assert!(rest.is_empty(), "more came: {:?}", String::from_utf8_lossy(&rest));
    }
}
