//! The actor of the Rust door: does what the lines on standard input say, and tells every event as a line on standard
//! output. The protocol is in README.md.
//!
//! The loop runs by `run`; a thread reads the lines and posts each to it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::time::Duration;

use wsx_core::log::Level;
use wsx_core::{
    Address, Client, Connection, Error, EventLoop, Failure, FailureKind, Figure, Handle, Listener, LoopOptions,
    Message, MessageKind, Options, ReadyState, Reconnect, Result, SharedMessage, Stage,
};

mod events;
mod options;

use events::{Does, answer_of};

// --- Values on lines: a payload or text is hex, `.` where it is empty, `-` where there is none

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return ".".into();
    }
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn hex_or_none(text: Option<&str>) -> String {
    text.map_or("-".into(), |text| hex(text.as_bytes()))
}

fn bytes(word: &str) -> Vec<u8> {
    let digits: Vec<u8> = word.bytes().filter(|digit| !b".-".contains(digit)).collect();
    let digit = |digit: u8| (digit as char).to_digit(16).unwrap() as u8;
    digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn text(word: &str) -> String {
    String::from_utf8(bytes(word)).unwrap()
}

fn pair(word: &str) -> (String, String) {
    let (name, value) = word.split_once(':').unwrap();
    (text(name), text(value))
}

fn yes(is_so: bool) -> &'static str {
    if is_so { "yes" } else { "no" }
}

fn code_of(error: &Error) -> &'static str {
    match error {
        Error::InvalidArgument(_) => "invalid",
        Error::Closed => "closed",
        Error::NotOpen => "not_open",
        Error::WrongKind(_) => "wrong_kind",
        Error::BacklogFull { .. } => "backlog_full",
        Error::MessageInProgress => "message_in_progress",
        Error::Full(_) => "full",
        Error::WrongThread => "wrong_thread",
        Error::Reentrant => "reentrant",
        Error::LoopGone => "loop_gone",
        Error::Unsupported(_) => "unsupported",
        Error::Io { .. } => "system",
        _ => "unknown",
    }
}

fn refusal(error: &Error) -> String {
    let os_error = match error {
        Error::Io { source, .. } => source.raw_os_error().unwrap_or(0),
        _ => 0,
    };
    format!("error {} os={os_error} text={}", code_of(error), hex(error.to_string().as_bytes()))
}

fn failure_fields(failure: Option<&Failure>, key: &str) -> String {
    let Some(failure) = failure else {
        return format!("stage=none kind=none os_error=0 http_status=0 limit=- {key}=-");
    };
    let stage = match failure.stage {
        Stage::Resolve => "resolve",
        Stage::Connect => "connect",
        Stage::Tls => "tls",
        Stage::Http => "http",
        Stage::Proxy => "proxy",
        Stage::WebSocket => "websocket",
        _ => "unknown",
    };
    let kind = match failure.kind {
        FailureKind::Protocol => "protocol",
        FailureKind::Refused => "refused",
        FailureKind::Limit => "limit",
        FailureKind::Timeout => "timeout",
        FailureKind::Transport => "transport",
        FailureKind::Shutdown => "shutdown",
        FailureKind::Callback => "callback",
        _ => "unknown",
    };
    let (os_error, http_status) = (failure.os_error.unwrap_or(0), failure.http_status.unwrap_or(0));
    let message = hex(failure.message.as_bytes());
    let limit = failure.limit.map_or("-".to_owned(), |limit| {
        let (unit, figure) = match limit.figure {
            Figure::Bytes(bytes) => ("bytes", bytes),
            Figure::Count(count) => ("count", count),
            Figure::Time(time) => ("ms", time.as_millis() as u64),
            _ => ("unknown", 0),
        };
        format!("{}:{unit}:{figure}:{}", limit.option, limit.reached.unwrap_or(0))
    });
    format!("stage={stage} kind={kind} os_error={os_error} http_status={http_status} limit={limit} {key}={message}")
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).unwrap();
}

// --- The program: numbers as the lines spell them, 1, 2, … in the order the program hears of them

/// Shared messages, by whether they are text and by their payload.
type Shared = HashMap<(bool, Vec<u8>), SharedMessage>;

#[derive(Clone)]
struct Program {
    handle: Handle,
    connections: Arc<Mutex<Vec<Connection>>>,
    listeners: Arc<Mutex<Vec<Listener>>>,
    clients: Arc<Mutex<Vec<Client>>>,
    /// Each is made once, and sent again and again.
    shared: Arc<Mutex<Shared>>,
}

impl Program {
    fn known(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.connections.lock().unwrap()
    }

    fn number(&self, connection: Connection) -> usize {
        let mut known = self.known();
        if let Some(at) = known.iter().position(|one| *one == connection) {
            return at + 1;
        }
        known.push(connection);
        known.len()
    }

    fn connection(&self, word: &str) -> Connection {
        let at: usize = word.parse().unwrap();
        self.known().get(at.wrapping_sub(1)).copied().unwrap_or(Connection::from_id(0))
    }

    /// A client may be heard of before the call that makes it has answered.
    fn client_number(&self, client: Client) -> usize {
        let mut known = self.clients.lock().unwrap();
        if let Some(at) = known.iter().position(|one| *one == client) {
            return at + 1;
        }
        known.push(client);
        known.len()
    }

    fn client(&self, word: &str) -> Client {
        let at: usize = word.parse().unwrap();
        self.clients.lock().unwrap()[at - 1]
    }

    fn except(&self, word: &str) -> Option<Connection> {
        (word != "0").then(|| self.connection(word))
    }

    fn listener(&self, word: &str) -> Option<Listener> {
        let at: usize = word.parse().unwrap();
        (at != 0).then(|| self.listeners.lock().unwrap().get(at - 1).copied().unwrap_or(Listener::from_id(0)))
    }
}

// --- Options: KEY=VALUE; those of the engine are in options.rs

fn key_and_value(word: &str) -> (&str, &str) {
    word.split_once('=').unwrap()
}

// --- Commands

/// Numbered messages of a size, until one is refused.
fn flood(connection: Connection, size: usize, total: u32) -> String {
    let mut payload = vec![0; size.max(4)];
    for taken in 0..total {
        payload[..4].copy_from_slice(&taken.to_be_bytes());
        if let Err(error) = connection.send(&payload[..size]) {
            return format!("ok taken={taken} refused={} text={}", code_of(&error), hex(error.to_string().as_bytes()));
        }
    }
    format!("ok taken={total} refused=none text=-")
}

impl Program {
    fn perform(&self, words: &[&str]) -> String {
        if words[0] == "thread" {
            // Any thread: another one does it while this one waits.
            return std::thread::scope(|scope| scope.spawn(|| self.perform(&words[1..])).join().unwrap());
        }
        self.answer(words).unwrap_or_else(|error| refusal(&error))
    }

    fn answer(&self, words: &[&str]) -> Result<String> {
        let handle = &self.handle;
        let is_text = words.get(2) == Some(&"text");
        let payload = words.get(3).filter(|_| words.get(2).is_some_and(|kind| ["text", "binary"].contains(kind)));
        let payload = payload.map(|word| bytes(word)).unwrap_or_default();
        let spelt = if is_text { std::str::from_utf8(&payload).unwrap_or_default() } else { "" };
        let message = if is_text { Message::Text(spelt) } else { Message::Binary(&payload) };
        let connection = || self.connection(words[1]);
        match words[0] {
            "send" => connection().send(message)?,
            "owned" if is_text => connection().send_owned(String::from_utf8(payload).unwrap())?,
            "owned" => connection().send_owned(payload)?,
            "shared" => {
                let mut known = self.shared.lock().unwrap();
                let key = (is_text, payload.clone());
                connection().send_shared(known.entry(key).or_insert_with(|| SharedMessage::new(message)))?;
            }
            "fragment" => {
                let kind = if is_text { MessageKind::Text } else { MessageKind::Binary };
                connection().send_fragment(kind, &payload, words[4] == "last")?;
            }
            "ping" => connection().ping(&bytes(words[2]))?,
            "pong" => connection().pong(&bytes(words[2]))?,
            "close" => connection().close(words[2].parse().unwrap(), &text(words[3]))?,
            "terminate" => connection().terminate()?,
            "write" => connection().write(&bytes(words[2]))?,
            "respond" => {
                let given = words[3..].iter().map(|word| key_and_value(word));
                let given = given.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
                connection().respond(answer_of(words[2], &given))?;
            }
            "flood" => return Ok(flood(connection(), words[2].parse().unwrap(), words[3].parse().unwrap())),
            "broadcast" => match self.listener(words[1]) {
                Some(listener) => listener.broadcast(message, self.except(words[4]))?,
                None => handle.broadcast(message, self.except(words[4]))?,
            },
            "publish" => handle.publish(&text(words[1]), message, self.except(words[4]))?,
            "subscribe" => connection().subscribe(&text(words[2]))?,
            "unsubscribe" => connection().unsubscribe(&text(words[2]))?,
            "subscribers" => return Ok(format!("ok {}", handle.subscriber_count(&text(words[1]))?)),
            "count" => {
                let count = match self.listener(words[1]) {
                    Some(listener) => listener.connection_count()?,
                    None => handle.connection_count()?,
                };
                return Ok(format!("ok {count}"));
            }
            "log" => {
                let level = match words[1] {
                    "error" => Level::Error,
                    "warning" => Level::Warning,
                    "information" => Level::Information,
                    "debug" => Level::Debug,
                    _ => Level::Off,
                };
                handle.set_log(level, |record| {
                    let (level, topic) = (format!("{:?}", record.level), format!("{:?}", record.topic));
                    let (level, topic) = (level.to_lowercase(), topic.to_lowercase());
                    say(&format!("log 0 level={level} topic={topic} text={}", hex(record.message.as_bytes())));
                })?;
            }
            "statistics" => {
                let counted = match self.listener(words[1]) {
                    Some(listener) => listener.statistics()?,
                    None => handle.statistics()?,
                };
                let figures = counted.figures().into_iter().filter(|figure| figure.value != 0);
                let told = figures.map(|figure| {
                    let labels = figure.labels.iter().map(|label| format!("_{label}"));
                    format!(" {}{}={}", figure.field, labels.collect::<String>(), figure.value)
                });
                return Ok(format!("ok{}", told.collect::<String>()));
            }
            "connections" => {
                let connections = match self.listener(words[1]) {
                    Some(listener) => listener.connections()?,
                    None => handle.connections()?,
                };
                let numbers = connections.iter().map(|one| format!(" {}", self.number(*one)));
                return Ok(format!("ok{}", numbers.collect::<String>()));
            }
            "pause" => connection().pause()?,
            "resume" => connection().resume()?,
            "state" => {
                let state = match connection().ready_state()? {
                    ReadyState::Connecting => "connecting",
                    ReadyState::Open => "open",
                    ReadyState::Closing => "closing",
                    ReadyState::Closed => "closed",
                };
                return Ok(format!("ok {state}"));
            }
            "buffered" => return Ok(format!("ok {}", connection().buffered_amount()?)),
            "latency" => {
                let latency = connection().latency()?;
                return Ok(latency.map_or("ok none".into(), |latency| format!("ok {}", latency.as_micros())));
            }
            "subprotocol" => return Ok(format!("ok {}", hex_or_none(connection().subprotocol()?.as_deref()))),
            "extensions" => {
                let extensions = connection().extensions()?;
                return Ok(format!("ok {}", hex_or_none(Some(&*extensions).filter(|text| !text.is_empty()))));
            }
            "peer" => return Ok(format!("ok {}", hex(connection().peer_address()?.to_string().as_bytes()))),
            "client_send" => self.client(words[1]).send(message)?,
            "client_close" => self.client(words[1]).close(words[2].parse().unwrap(), &text(words[3]))?,
            "client_terminate" => self.client(words[1]).terminate()?,
            "client_buffered" => return Ok(format!("ok {}", self.client(words[1]).buffered_amount()?)),
            "client_connection" => {
                let connection = self.client(words[1]).connection()?;
                return Ok(format!("ok {}", connection.map_or(0, |connection| self.number(connection))));
            }
            "listen" | "connect" | "persist" | "route" => return self.listen_or_connect(words),
            "reload" => {
                let mut options = Options::default();
                for (key, value) in words[2..].iter().map(|word| key_and_value(word)) {
                    options::set(&mut options, key, value)?;
                }
                handle.reload_tls(self.listener(words[1]).unwrap(), &options.tls.unwrap())?;
            }
            "close_listener" => self.listener(words[1]).unwrap().close()?,
            "stop" => handle.stop()?,
            "shutdown" => handle.shutdown(Duration::from_millis(words[1].parse().unwrap()))?,
            other => panic!("{other} is no command"),
        }
        Ok("ok".into())
    }

    fn listen_or_connect(&self, words: &[&str]) -> Result<String> {
        let (mut options, mut reconnect) = (Options::default(), Reconnect::default());
        let number = self.listeners.lock().unwrap().len() + 1;
        let mut does = Does { program: self.clone(), words: HashMap::new(), number };
        for (key, value) in words[2..].iter().map(|word| key_and_value(word)) {
            if let Some(key) = key.strip_prefix("reconnect") {
                options::set_reconnect(&mut reconnect, key.trim_start_matches('_'), value);
            } else if !options::set(&mut options, key, value)? {
                does.words.insert(key.to_owned(), value.to_owned());
            }
        }
        let address = text(words[1]);
        if words[0] == "persist" {
            let client = self.handle.connect_persistently(&address, &options, &reconnect, does)?;
            let connection = client.connection()?.map_or(0, |connection| self.number(connection));
            return Ok(format!("ok {} {connection}", self.client_number(client)));
        }
        if words[0] == "connect" {
            return Ok(format!("ok {}", self.number(self.handle.connect(&address, &options, does)?)));
        }
        let listener = match words[0] {
            "route" => {
                let within = self.listener(does.word("within")).unwrap();
                self.handle.route(within, &address, &options, does)?
            }
            _ => self.handle.listen(&address, &options, does)?,
        };
        let port = match listener.local_address()? {
            Address::Tcp(address) => address.port(),
            Address::Unix(_) => 0,
        };
        self.listeners.lock().unwrap().push(listener);
        Ok(format!("ok {number} {port}"))
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["hello"] {
        return println!("rust {}", env!("CARGO_PKG_VERSION"));
    }
    let mut loop_options = LoopOptions::default();
    for (key, value) in arguments.iter().map(|word| key_and_value(word)) {
        options::set_loop(&mut loop_options, key, value);
    }
    let mut event_loop = EventLoop::with_options(&loop_options).unwrap();
    let program = Program {
        handle: event_loop.handle(),
        connections: Arc::default(),
        listeners: Arc::default(),
        clients: Arc::default(),
        shared: Arc::default(),
    };

    // Lines come over a channel; a post takes each to the loop's thread while the loop runs.
    let (sender, lines) = mpsc::channel::<String>();
    let lines = Arc::new(Mutex::new(lines));
    let (there, waiting) = (program.clone(), lines.clone());
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            sender.send(line.unwrap()).unwrap();
            let (program, waiting) = (there.clone(), waiting.clone());
            let _ = there.handle.post(move || {
                while let Ok(line) = { waiting.lock().unwrap().try_recv() } {
                    say(&program.perform(&line.split(' ').collect::<Vec<_>>()));
                }
            });
        }
        let _ = there.handle.stop();
    });
    event_loop.run().unwrap();
    say("stopped 0");
    // The loop has stopped and is still there, until a line frees it.
    let mut event_loop = Some(event_loop);
    loop {
        let line = lines.lock().unwrap().recv();
        match line.as_deref() {
            Err(_) => break,
            Ok("free") => {
                drop(event_loop.take());
                say("ok");
            }
            Ok(line) => say(&program.perform(&line.split(' ').collect::<Vec<_>>())),
        }
    }
}
