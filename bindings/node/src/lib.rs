//! The Node door: `wsx-core` on libuv, as the JavaScript in `lib/` uses it.
//!
//! The door translates and never decides. [`engine`] turns the event loop inside Node's; [`handler`] makes events of its
//! callbacks; [`memory`] is how both cross the border, many at once. This file has the calls that JavaScript makes
//! directly: those that are rare, that answer something, or whose payload is large. Nothing here is for programs: their
//! door is `index.js`.

#![allow(missing_docs, reason = "what is public here is the private half of lib/border.js")]

mod command;
mod connections;
mod engine;
mod event;
mod handler;
mod js;
mod listeners;
mod log;
mod memory;
mod options;
mod request;
mod uv;

use std::rc::Rc;

use napi::Env;
use napi::bindgen_prelude::{Object, Uint8ArraySlice};
use napi_derive::napi;
use wsx_core::statistics::Figure;
use wsx_core::{Address, Client, Connection, Error, Message, MessageKind, Options, Reconnect, SharedMessage, Tls};

use crate::engine::Engine;
use crate::handler::Events;
use crate::listeners::Listening;
use crate::options::{DoorOptions, DoorReconnect, DoorTls};
use crate::request::Answer;

/// What a call answers: errors have a code.
type Result<T> = std::result::Result<T, napi::Error<String>>;

/// An error for JavaScript. The system's have its number in their code; `lib/errors.js` makes a name of it.
fn error(error: Error) -> napi::Error<String> {
    let code = match &error {
        Error::Closed => "WSX_ERR_CLOSED".to_owned(),
        Error::NotOpen => "WSX_ERR_NOT_OPEN".to_owned(),
        Error::InvalidArgument(_) => "ERR_INVALID_ARG_VALUE".to_owned(),
        Error::WrongKind(_) => "WSX_ERR_WRONG_KIND".to_owned(),
        Error::BacklogFull { .. } => "WSX_ERR_BACKLOG_FULL".to_owned(),
        Error::MessageInProgress => "WSX_ERR_MESSAGE_IN_PROGRESS".to_owned(),
        Error::Unsupported(_) => "WSX_ERR_UNSUPPORTED".to_owned(),
        Error::Io { source, .. } => format!("SYSTEM {}", source.raw_os_error().unwrap_or(0)),
        _ => "WSX_ERR_ENGINE".to_owned(),
    };
    napi::Error::new(code, error.to_string())
}

/// Bytes as a message. Text must be UTF-8.
fn message(is_text: bool, payload: &[u8]) -> Result<Message<'_>> {
    if !is_text {
        return Ok(Message::Binary(payload));
    }
    match simdutf8::basic::from_utf8(payload) {
        Ok(text) => Ok(Message::Text(text)),
        Err(_) => Err(napi::Error::new("WS_ERR_INVALID_UTF8".to_owned(), "the text is not UTF-8")),
    }
}

/// The cookies of a header: name, value, name, value.
#[napi]
pub fn parse_cookies(header: Uint8ArraySlice<'_>) -> Vec<String> {
    let pairs = wsx_core::parse_cookies(&header);
    pairs.flat_map(|(name, value)| [name.to_owned(), value.to_owned()]).collect()
}

/// A message that is encoded once.
#[napi]
pub struct Encoded {
    message: SharedMessage,
    /// Bytes of its payload.
    pub length: u32,
}

#[napi]
impl Encoded {
    #[napi(constructor)]
    pub fn new(is_text: bool, payload: Uint8ArraySlice<'_>) -> Result<Self> {
        let length = payload.len() as u32;
        Ok(Self { message: SharedMessage::new(message(is_text, &payload)?), length })
    }
}

/// A figure of statistics.
#[napi(object)]
pub struct DoorFigure {
    pub field: String,
    pub labels: Vec<String>,
    pub value: f64,
}

impl From<Figure> for DoorFigure {
    fn from(figure: Figure) -> Self {
        Self { field: figure.field.to_owned(), labels: figure.labels, value: figure.value as f64 }
    }
}

/// The engine of an environment.
#[napi]
pub struct Border {
    engine: Rc<Engine>,
}

#[napi]
impl Border {
    /// Begins, with the arrays and functions of `lib/border.js`.
    #[napi(constructor)]
    pub fn new(env: Env, memory: Object<'_>) -> napi::Result<Self> {
        Ok(Self { engine: Engine::new(env, &memory)? })
    }

    /// Takes what was sent up to here, then finds a connection.
    fn at(&self, index: i32) -> Connection {
        self.engine.commit();
        self.engine.is_touched.set(true);
        self.engine.connections.borrow().at(index)
    }

    /// The client of an index, if it is one that connects again.
    fn client(&self, index: i32) -> Option<Client> {
        self.engine.connections.borrow().client(index)
    }

    #[napi]
    pub fn listen(&self, address: String, options: DoorOptions) -> Result<u32> {
        self.serve(options, |options, events| self.engine.handle.listen(&address, options, events))
    }

    /// Serves a path of a listener.
    #[napi]
    pub fn route(&self, listener: u32, path: String, options: DoorOptions) -> Result<u32> {
        let listener = self.engine.listener(listener).map_err(error)?;
        self.serve(options, |options, events| listener.route(&path, options, events))
    }

    /// Gives a number to a listener, or to a route, that begins so.
    fn serve(
        &self,
        options: DoorOptions,
        begin: impl FnOnce(&Options, Events) -> wsx_core::Result<wsx_core::Listener>,
    ) -> Result<u32> {
        let engine = &self.engine;
        engine.is_touched.set(true);
        let chooses = options.subprotocols.is_some();
        let listening = Rc::new(Listening::default());
        let number = engine.listeners.borrow_mut().reserve(listening.clone());
        let options = Options::from(options);
        let events = Events::of_listener(engine.clone(), number, listening.clone(), chooses, &options);
        match begin(&options, events) {
            Ok(listener) => listening.listener.set(Some(listener)),
            Err(refused) => {
                engine.listeners.borrow_mut().forget(number);
                return Err(error(refused));
            }
        }
        Ok(number)
    }

    /// Whether JavaScript answers the requests of a listener.
    #[napi]
    pub fn hook(&self, listener: u32, hooked: bool) {
        if let Some(listening) = self.engine.listeners.borrow().at(listener) {
            listening.hooked.set(hooked);
        }
    }

    /// Host and port, or path and 0.
    #[napi]
    pub fn address(&self, listener: u32) -> Result<Vec<String>> {
        let listener = self.engine.listener(listener).map_err(error)?;
        Ok(match listener.local_address().map_err(error)? {
            Address::Tcp(address) => vec![address.ip().to_string(), address.port().to_string()],
            Address::Unix(path) => vec![path.unwrap_or_default().display().to_string()],
        })
    }

    /// Answers a request that was deferred, by the connection's number.
    #[napi]
    pub fn respond(&self, number: String, answer: Answer) -> Result<()> {
        self.engine.commit();
        self.engine.is_touched.set(true);
        let connection = Connection::from_id(number.parse().unwrap_or(0));
        connection.respond(answer.into()).map_err(error)
    }

    /// Begins TLS anew with other choices.
    #[napi]
    pub fn reload_tls(&self, listener: u32, tls: DoorTls) -> Result<()> {
        self.engine.listener(listener).and_then(|listener| listener.reload_tls(&Tls::from(tls))).map_err(error)
    }

    #[napi]
    pub fn close_listener(&self, listener: u32) -> Result<()> {
        self.engine.is_touched.set(true);
        if let Some(listening) = self.engine.listeners.borrow().at(listener) {
            listening.closed.set(true);
        }
        self.engine.listener(listener).and_then(|listener| listener.close()).map_err(error)
    }

    /// The last connection of a closed listener has ended: its number may be another's.
    #[napi]
    pub fn forget_listener(&self, listener: u32) {
        self.engine.listeners.borrow_mut().forget(listener);
    }

    /// Begins to connect; answers the connection's index.
    #[napi]
    pub fn connect(&self, url: String, options: DoorOptions) -> Result<u32> {
        let engine = &self.engine;
        engine.commit();
        engine.is_touched.set(true);
        let options = Options::from(options);
        let events = Events::of_client(engine.clone(), None, &options);
        let connection = engine.handle.connect(&url, &options, events).map_err(error)?;
        Ok(engine.connections.borrow_mut().add(connection))
    }

    /// Begins to connect, and connects again; answers the index of the client and all its connections.
    #[napi]
    pub fn connect_persistently(&self, url: String, options: DoorOptions, reconnect: DoorReconnect) -> Result<u32> {
        let engine = &self.engine;
        engine.commit();
        engine.is_touched.set(true);
        let (options, reconnect) = (Options::from(options), Reconnect::from(reconnect));
        let index = engine.connections.borrow_mut().reserve();
        let events = Events::of_client(engine.clone(), Some(index), &options);
        match engine.handle.connect_persistently(&url, &options, &reconnect, events) {
            Ok(client) => {
                engine.connections.borrow_mut().bind(index, client);
                Ok(index)
            }
            Err(refused) => {
                engine.connections.borrow_mut().give_back(index);
                Err(error(refused))
            }
        }
    }

    /// Closes the connection of a client that connects again, but not the client.
    #[napi]
    pub fn close_connection(&self, index: i32, code: u32, reason: String) -> Result<()> {
        self.at(index).close(u16::try_from(code).unwrap_or(0), &reason).map_err(error)
    }

    /// Sends a message that is large, or whose sender wants to know whether it was taken.
    #[napi]
    pub fn send(&self, index: i32, is_text: bool, payload: Uint8ArraySlice<'_>) -> Result<()> {
        let connection = self.at(index);
        let message = message(is_text, &payload)?;
        if let Some(client) = self.client(index) {
            return client.send(message).map_err(error);
        }
        connection.send(message).map_err(|refused| {
            self.engine.may_be_closing(index, connection);
            error(refused)
        })
    }

    /// Sends a message that was encoded before.
    #[napi]
    pub fn send_shared(&self, index: i32, shared: &Encoded) -> Result<()> {
        let connection = self.at(index);
        if let Some(client) = self.client(index) {
            return client.send(shared.message.message()).map_err(error);
        }
        connection.send_shared(&shared.message).map_err(|refused| {
            self.engine.may_be_closing(index, connection);
            error(refused)
        })
    }

    /// Sends a fragment of a message.
    #[napi]
    pub fn send_fragment(&self, index: i32, is_text: bool, payload: Uint8ArraySlice<'_>, is_last: bool) -> Result<()> {
        let kind = if is_text { MessageKind::Text } else { MessageKind::Binary };
        let connection = self.at(index);
        connection.send_fragment(kind, &payload, is_last).map_err(|refused| {
            self.engine.may_be_closing(index, connection);
            error(refused)
        })
    }

    #[napi]
    pub fn publish(&self, topic: String, is_text: bool, payload: Uint8ArraySlice<'_>, except: i32) -> Result<()> {
        let except = (except >= 0).then(|| self.at(except));
        self.engine.commit();
        self.engine.is_touched.set(true);
        self.engine.handle.publish(&topic, message(is_text, &payload)?, except).map_err(error)
    }

    #[napi]
    pub fn broadcast(&self, listener: u32, is_text: bool, payload: Uint8ArraySlice<'_>, except: i32) -> Result<()> {
        let except = (except >= 0).then(|| self.at(except));
        self.engine.commit();
        self.engine.is_touched.set(true);
        let listener = self.engine.listener(listener).map_err(error)?;
        listener.broadcast(message(is_text, &payload)?, except).map_err(error)
    }

    #[napi]
    pub fn ping(&self, index: i32, payload: Uint8ArraySlice<'_>) -> Result<()> {
        self.at(index).ping(&payload).map_err(error)
    }

    #[napi]
    pub fn pong(&self, index: i32, payload: Uint8ArraySlice<'_>) -> Result<()> {
        self.at(index).pong(&payload).map_err(error)
    }

    #[napi]
    pub fn close(&self, index: i32, code: u32, reason: String) -> Result<()> {
        let (connection, code) = (self.at(index), u16::try_from(code).unwrap_or(0));
        let closed = self.client(index).map_or_else(|| connection.close(code, &reason), |it| it.close(code, &reason));
        closed.map_err(error)
    }

    #[napi]
    pub fn terminate(&self, index: i32) -> Result<()> {
        let connection = self.at(index);
        self.client(index).map_or_else(|| connection.terminate(), Client::terminate).map_err(error)
    }

    #[napi]
    pub fn pause(&self, index: i32) -> Result<()> {
        self.at(index).pause().map_err(error)
    }

    #[napi]
    pub fn resume(&self, index: i32) -> Result<()> {
        self.at(index).resume().map_err(error)
    }

    #[napi]
    pub fn subscribe(&self, index: i32, topic: String) -> Result<()> {
        self.at(index).subscribe(&topic).map_err(error)
    }

    #[napi]
    pub fn unsubscribe(&self, index: i32, topic: String) -> Result<()> {
        self.at(index).unsubscribe(&topic).map_err(error)
    }

    #[napi]
    pub fn subscriber_count(&self, topic: String) -> Result<u32> {
        self.engine.handle.subscriber_count(&topic).map(|count| count as u32).map_err(error)
    }

    /// Where the peer of a connection is, as in a request; none where that is not known.
    #[napi]
    pub fn peer(&self, index: i32) -> Option<String> {
        self.at(index).peer_address().ok().map(|address| address.to_string())
    }

    /// Milliseconds that the newest ping took that was answered; none before.
    #[napi]
    pub fn latency(&self, index: i32) -> Option<f64> {
        let latency = self.engine.connections.borrow().at(index).latency();
        latency.ok().flatten().map(|latency| latency.as_secs_f64() * 1000.0)
    }

    /// Bytes that wait on a connection.
    #[napi]
    pub fn buffered(&self, index: i32) -> f64 {
        let connection = self.at(index);
        let amount = self.client(index).map_or_else(|| connection.buffered_amount(), Client::buffered_amount);
        amount.unwrap_or(0) as f64
    }

    /// Bytes that wait after what can be written was written.
    #[napi]
    pub fn pressure(&self, index: i32) -> f64 {
        self.engine.flush();
        self.buffered(index)
    }

    /// Wants to know how much waits on a connection until nothing does.
    #[napi]
    pub fn watch(&self, index: i32) {
        self.engine.is_touched.set(true);
        self.engine.connections.borrow_mut().watch(index);
    }

    /// What was counted of a listener, or of everybody where it is negative.
    #[napi]
    pub fn statistics(&self, listener: i32) -> Result<Vec<DoorFigure>> {
        let engine = &self.engine;
        engine.commit();
        let counted = match u32::try_from(listener) {
            Ok(listener) => engine.listener(listener).and_then(|listener| listener.statistics()),
            Err(_) => engine.handle.statistics(),
        };
        // Callbacks are JavaScript's, and called later: what the engine could measure is not how long they take.
        let figures = counted.map_err(error)?.figures().into_iter().filter(|figure| figure.field != "longest_callback");
        Ok(figures.map(DoorFigure::from).collect())
    }

    /// Has the log told up to a level.
    #[napi]
    pub fn log(&self, level: u32) -> Result<()> {
        self.engine.is_touched.set(true);
        self.engine.log.begin(&self.engine.handle, level).map_err(error)
    }

    /// Everything that was counted, for Prometheus.
    #[napi]
    pub fn metrics(&self) -> Result<String> {
        self.engine.commit();
        self.engine.handle.metrics().map_err(error)
    }

    /// Takes what was sent up to here.
    #[napi]
    pub fn commit(&self) {
        self.engine.commit();
    }

    /// Writes what was sent up to here.
    #[napi]
    pub fn flush(&self) {
        self.engine.flush();
    }

    /// Whether the engine keeps the process alive.
    #[napi]
    pub fn hold(&self, hold: bool) {
        self.engine.hold(hold);
    }
}
