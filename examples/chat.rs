//! A chat room: the page at /, its WebSocket at /chat, on one port.
//!
//! ```text
//! chat [--host HOST] [--port PORT] [--page FILE]
//! ```
//!
//! Every message is a JSON object of four strings: type ("enter", "leave" or "message"), sender, text and time. The
//! first one of a connection enters with a name. The server hands each to everybody in the room, the sender included,
//! and adds "people", the number of those in the room. Who vanishes without leaving is said to leave. Whatever else is
//! sent ends the connection with 1008 and the reason.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use humantime::format_rfc3339_millis;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use wsx_core::{Close, Connection, EventLoop, Handle, Handler, Message, Options, Request, Response, close};

const ROOM: &str = "room";
const MAX_NAME: usize = 40;
const MAX_TEXT: usize = 4000;

struct Chat {
    event_loop: Handle,
    page: Vec<u8>,
    /// The names of those in the room.
    people: HashMap<Connection, String>,
}

impl Chat {
    /// Hands a message to everybody; what is wrong with it is the error.
    fn take(&mut self, connection: Connection, message: Message<'_>) -> Result<(), &'static str> {
        let message: Value = serde_json::from_slice(message.payload()).map_err(|_| "a message is a JSON object")?;
        let field = |name: &str| message[name].as_str().ok_or("type, sender, text and time are strings");
        let (kind, sender, text, time) = (field("type")?, field("sender")?, field("text")?, field("time")?);
        if text.chars().count() > MAX_TEXT {
            return Err("a text has at most 4,000 characters");
        }
        match (kind, self.people.get(&connection)) {
            ("enter", Some(_)) => return Err("entered already"),
            ("enter", None) if !(1..=MAX_NAME).contains(&sender.chars().count()) => {
                return Err("a name has 1 to 40 characters");
            }
            ("enter", None) => {
                self.people.insert(connection, sender.to_owned());
                let _ = connection.subscribe(ROOM);
            }
            (_, None) => return Err("enter first"),
            (_, Some(name)) if name != sender => return Err("that is not your name"),
            ("leave", Some(_)) => {
                self.people.remove(&connection);
            }
            ("message", Some(_)) => {}
            _ => return Err("the type is enter, leave or message"),
        }
        self.tell_everybody(kind, sender, text, time);
        if kind == "leave" {
            let _ = connection.unsubscribe(ROOM);
        }
        Ok(())
    }

    fn tell_everybody(&self, kind: &str, sender: &str, text: &str, time: &str) {
        let people = self.people.len();
        let message = json!({"type": kind, "sender": sender, "text": text, "time": time, "people": people});
        let _ = self.event_loop.publish(ROOM, &message.to_string(), None);
    }
}

impl Handler for Chat {
    fn on_request(&mut self, request: &Request<'_>) -> Response {
        match (request.path(), request.is_upgrade()) {
            ("/chat", true) => Response::accept(),
            ("/", false) => Response::page("text/html; charset=utf-8", self.page.clone()),
            _ => Response::reject(404, "there is the page at / and its WebSocket at /chat\n"),
        }
    }

    fn on_message(&mut self, connection: Connection, message: Message<'_>) {
        if let Err(reason) = self.take(connection, message) {
            let _ = connection.close(close::POLICY, reason);
        }
    }

    fn on_close(&mut self, connection: Connection, _: &Close<'_>) {
        if let Some(name) = self.people.remove(&connection) {
            self.tell_everybody("leave", &name, "", &format_rfc3339_millis(SystemTime::now()).to_string());
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut host, mut port, mut page) = ("127.0.0.1".to_owned(), 8080, "examples/chat.html".to_owned());
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{option} needs a value"));
        match option.as_str() {
            "--host" => host = value()?,
            "--port" => port = value()?.parse::<u16>()?,
            "--page" => page = value()?,
            _ => return Err(format!("unknown option {option}").into()),
        }
    }
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let page = std::fs::read(&page).map_err(|error| format!("cannot read the page {page}: {error}"))?;

    // Each connection is a descriptor: as many as the system allows.
    let descriptors = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: descriptors.maximum, ..descriptors });

    let mut event_loop = EventLoop::new()?;
    let chat = Chat { event_loop: event_loop.handle(), page, people: HashMap::new() };
    let mut options = Options::default();
    options.max_message = 32 * 1024;
    let listener = event_loop.listen(&format!("{host}:{port}"), &options, chat)?;
    let handle = event_loop.handle();
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || signals.forever().next().map(|_| handle.shutdown(Duration::from_secs(1))));
    println!("listening on http://{}", listener.local_address()?);
    event_loop.run()?;
    Ok(())
}
