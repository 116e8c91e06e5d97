//! The engine's callbacks: each appends an event for JavaScript. Only a request that JavaScript answers calls it at once.

use std::rc::Rc;
use std::time::Duration;

use napi::bindgen_prelude::FromNapiValue;
use wsx_core::{
    BacklogPolicy, Client, Close, Connection, Failure, FailureKind, Figure, Fragment, GiveUp, GiveUpKind, Handler,
    Listener, Message, Opening, Options, Reconnecting, Request, Response, Side, Stage,
};

use crate::connections::index_of;
use crate::engine::Engine;
use crate::event;
use crate::listeners::Listening;
use crate::request::{Answer, agreed, lines, write_headers};

/// The handler of a listener, or of a client.
pub struct Events {
    engine: Rc<Engine>,
    /// The listener's number and state; none for a client.
    listening: Option<(u32, Rc<Listening>)>,
    /// The index of a client that connects again.
    client: Option<u32>,
    /// Whether the engine chooses the subprotocol, from a list of its own.
    chooses: bool,
    /// The connection of the last message, and its index: the next one is often the same.
    last: (Connection, i32),
    /// So many bytes of messages at most wait for JavaScript, so that their replies cannot pass what `pause` allows.
    most: usize,
}

// SAFETY: `Engine::new` settles the event loop on its thread before anything is made with it, and the loop is turned and
// dropped there only; so a handler is made, called and dropped on one thread.
unsafe impl Send for Events {}

impl Events {
    /// The handler of a listener, whose number it will be.
    pub fn of_listener(
        engine: Rc<Engine>,
        number: u32,
        listening: Rc<Listening>,
        chooses: bool,
        options: &Options,
    ) -> Self {
        Self {
            engine,
            listening: Some((number, listening)),
            client: None,
            chooses,
            last: (Connection::from_id(0), -1),
            most: most(options),
        }
    }

    /// The handler of a client; of one that connects again, with its index.
    pub fn of_client(engine: Rc<Engine>, client: Option<u32>, options: &Options) -> Self {
        let last = (Connection::from_id(0), -1);
        Self { engine, listening: None, client, chooses: true, last, most: most(options) }
    }

    /// The index of a connection that may be the next one of a client.
    fn index(&self, connection: Connection) -> i32 {
        match self.client {
            Some(index) => {
                self.engine.connections.borrow_mut().attempt(index, connection);
                index as i32
            }
            None => index_of(connection),
        }
    }

    #[inline]
    fn message(&mut self, kind: i32, connection: Connection, payload: &[u8]) {
        if self.last.0 != connection {
            self.last = (connection, index_of(connection));
        }
        if !self.engine.append_message(kind, self.last.1, payload) {
            let _ = connection.close(wsx_core::close::TOO_BIG, "no memory for the message");
        }
        if self.engine.waiting() > self.most {
            self.engine.dispatch();
        }
    }
}

impl Handler for Events {
    fn on_request(&mut self, request: &Request<'_>) -> Response {
        let Some((number, listening)) = &self.listening else { return Response::accept() };
        if listening.closed.get() {
            return Response::reject(503, "the server is closed\n");
        }
        if listening.hooked.get() {
            let _scope = self.engine.scope();
            self.engine.dispatch();
            let answer = self.engine.ask(*number, &lines(request, agreed("", "")));
            // SAFETY: the value is of the scope above.
            let answer = answer.map(|value| unsafe { Answer::from_napi_value(self.engine.env(), value) });
            return match answer {
                Some(Ok(answer)) => answer.into(),
                _ => Response::reject(500, "internal server error\n"),
            };
        }
        let response = Response::accept();
        match request.subprotocols().next() {
            Some(first) if !self.chooses => response.subprotocol(first),
            _ => response,
        }
    }

    fn after_deferral(&mut self, connection: Connection, is_answered: bool) {
        if let Some((number, _)) = &self.listening {
            let kind = event::DEFERRAL_ENDED | if is_answered { event::ANSWERED } else { 0 };
            self.engine.append(kind, *number as i32, connection.id().to_string().as_bytes());
        }
    }

    fn on_open(&mut self, connection: Connection, opening: &Opening<'_>) {
        let extensions = connection.extensions().unwrap_or_default();
        let agreed = agreed(opening.subprotocol.unwrap_or_default(), &extensions);
        match (&self.listening, opening.request) {
            (Some((number, listening)), Some(request)) => {
                let index = self.engine.connections.borrow_mut().add(connection);
                let hooked = if listening.hooked.get() { event::HOOKED } else { 0 };
                let kind = event::OPEN | hooked | (*number as i32) << 16;
                self.engine.append_message(kind, index as i32, &lines(request, agreed));
            }
            _ => {
                let mut out = agreed;
                write_headers(&mut out, opening.headers);
                self.engine.append_message(event::CONNECTED, self.index(connection), &out);
            }
        }
    }

    #[inline]
    fn on_message(&mut self, connection: Connection, message: Message<'_>) {
        match message {
            Message::Text(text) => self.message(event::TEXT, connection, text.as_bytes()),
            Message::Binary(bytes) => self.message(event::BINARY, connection, bytes),
        }
    }

    fn on_fragment(&mut self, connection: Connection, fragment: Fragment<'_>) {
        let flag = |is: bool, flag: i32| if is { flag } else { 0 };
        let kind = event::FRAGMENT
            | flag(fragment.is_text, event::IS_TEXT)
            | flag(fragment.is_first, event::IS_FIRST)
            | flag(fragment.is_last, event::IS_LAST);
        self.message(kind, connection, fragment.payload);
    }

    fn before_reply(&mut self, connection: Connection) {
        self.engine.settle();
        self.engine.may_be_closing(index_of(connection), connection);
    }

    fn on_ping(&mut self, connection: Connection, payload: &[u8]) {
        self.engine.append(event::PING, index_of(connection), payload);
    }

    fn on_pong(&mut self, connection: Connection, payload: &[u8], _: Option<Duration>) {
        self.engine.append_message(event::PONG, index_of(connection), payload);
    }

    fn on_drain(&mut self, connection: Connection) {
        self.engine.append(event::DRAIN, index_of(connection), &[]);
    }

    fn on_close(&mut self, connection: Connection, close: &Close<'_>) {
        let index = self.index(connection);
        let event = if self.client.is_some() { event::LOST } else { event::CLOSE };
        let kind = event
            | if close.by == Side::Peer { event::BY_PEER } else { 0 }
            | if close.was_clean { event::WAS_CLEAN } else { 0 }
            | i32::from(close.code) << 16;
        self.engine.append(kind, index, &end(close));
        if self.client.is_none() {
            self.engine.connections.borrow_mut().closed(index);
        }
    }

    fn on_reconnecting(&mut self, _: Client, reconnecting: &Reconnecting<'_>) {
        let Some(index) = self.client else { return };
        let mut out = Vec::with_capacity(12);
        out.extend(reconnecting.attempt.to_le_bytes());
        out.extend((reconnecting.delay.as_secs_f64() * 1000.0).to_le_bytes());
        self.engine.append(event::RECONNECTING, index as i32, &out);
    }

    fn on_give_up(&mut self, _: Client, give_up: &GiveUp) {
        let Some(index) = self.client else { return };
        self.engine.append(event::GAVE_UP, index as i32, &gave_up(give_up));
        self.engine.connections.borrow_mut().closed(index as i32);
    }

    fn on_listener_error(&mut self, _: Listener, failure: &Failure) {
        if let Some((number, _)) = &self.listening {
            let mut out = Vec::with_capacity(128);
            write_failure(&mut out, Some(failure));
            self.engine.append(event::LISTENER_ERROR, *number as i32, &out);
        }
    }
}

/// Where replies to messages must be able to pause the reading of the next: a quarter of what may wait.
fn most(options: &Options) -> usize {
    match options.backlog_policy {
        BacklogPolicy::Pause if options.backlog_limit != 0 => options.backlog_limit / 4,
        _ => usize::MAX,
    }
}

/// What a Close tells beside its code: lost messages (32 bits), undelivered ones and unsent bytes (floats, 64), length of
/// the reason (8), the failure, the reason, and all of it as a sentence. Numbers are little-endian and packed.
fn end(close: &Close<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend(close.lost_messages.to_le_bytes());
    out.extend((close.undelivered_messages as f64).to_le_bytes());
    out.extend((close.unsent_bytes as f64).to_le_bytes());
    // A Close has no room for more than 123 bytes.
    out.push(close.reason.len() as u8);
    write_failure(&mut out, close.failure);
    out.extend(close.reason.as_bytes());
    out.extend(close.to_string().as_bytes());
    out
}

/// Why a client connects no more: kind (8 bits), close code (16), HTTP status (16), attempts (32), lost messages (32), the
/// text. A code or status of 0 is none.
fn gave_up(give_up: &GiveUp) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.push(match give_up.kind {
        GiveUpKind::Finished => 0,
        GiveUpKind::CloseCode => 1,
        GiveUpKind::HttpStatus => 2,
        GiveUpKind::SocksRefusal => 3,
        GiveUpKind::Attempts => 4,
        GiveUpKind::Closed => 5,
        _ => 6,
    });
    out.extend(give_up.close_code.unwrap_or(0).to_le_bytes());
    out.extend(give_up.http_status.unwrap_or(0).to_le_bytes());
    out.extend(give_up.attempts.to_le_bytes());
    out.extend(give_up.lost_messages.to_le_bytes());
    out.extend(give_up.message.as_bytes());
    out
}

/// A failure: stage (8 bits), kind (8), HTTP status (16), system's error (32), length of the text (32), unit of the limit
/// (8, 0 for no limit), length of its option's name (8), its figure and what was reached (floats, 64; NaN: unknown), the
/// name, the text.
fn write_failure(out: &mut Vec<u8>, failure: Option<&Failure>) {
    let limit = failure.and_then(|failure| failure.limit);
    let (unit, figure) = match limit.map(|limit| limit.figure) {
        Some(Figure::Bytes(bytes)) => (1, bytes as f64),
        Some(Figure::Count(count)) => (2, count as f64),
        Some(Figure::Time(time)) => (3, time.as_secs_f64() * 1000.0),
        _ => (0, 0.0),
    };
    let option = limit.map_or("", |limit| limit.option);
    let reached = limit.and_then(|limit| limit.reached);
    out.push(failure.map_or(0, |failure| stage(failure.stage)));
    out.push(failure.map_or(0, |failure| kind(failure.kind)));
    out.extend(failure.and_then(|failure| failure.http_status).unwrap_or(0).to_le_bytes());
    out.extend(failure.and_then(|failure| failure.os_error).unwrap_or(0).to_le_bytes());
    let text = failure.map_or(&b""[..], |failure| failure.message.as_bytes());
    out.extend((text.len() as u32).to_le_bytes());
    out.extend([unit, option.len() as u8]);
    out.extend(figure.to_le_bytes());
    out.extend(reached.map_or(f64::NAN, |reached| reached as f64).to_le_bytes());
    out.extend(option.as_bytes());
    out.extend(text);
}

fn stage(stage: Stage) -> u8 {
    match stage {
        Stage::Resolve => 0,
        Stage::Connect => 1,
        Stage::Tls => 2,
        Stage::Http => 3,
        Stage::Proxy => 5,
        _ => 4,
    }
}

/// 0 is for no failure.
fn kind(kind: FailureKind) -> u8 {
    match kind {
        FailureKind::Protocol => 1,
        FailureKind::Refused => 2,
        FailureKind::Limit => 3,
        FailureKind::Timeout => 4,
        FailureKind::Transport => 5,
        FailureKind::Shutdown => 6,
        _ => 7,
    }
}
