//! A program that does what a test scripts, and records what it hears.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use wsx_core::{
    Client, Close, Connection, Failure, Figure, Fragment, GiveUp, Handler, Listener, Message, Opening, Reconnecting,
    Request, Response, Side,
};

use super::DEADLINE;
use super::history::{History, Step};

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
    pub(super) received: mpsc::Receiver<Event>,
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
        assert!(!failure.message.is_empty());
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
