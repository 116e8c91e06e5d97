//! What the program hears, told as lines, and what it does in its callbacks.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use wsx_core::statistics::CONTENT_TYPE;
use wsx_core::{
    Client, Close, Connection, Failure, Fragment, GiveUp, GiveUpKind, Handler, Listener, Message, Opening,
    Reconnecting, Request, Response, Result, Side,
};

use crate::{Program, bytes, code_of, failure_fields, hex, hex_or_none, pair, say, text, yes};

/// What the program does in its callbacks, for one listener or client.
pub struct Does {
    pub program: Program,
    pub words: HashMap<String, String>,
    pub number: usize,
}

impl Does {
    pub fn word(&self, key: &str) -> &str {
        self.words.get(key).map_or("", String::as_str)
    }

    fn text(&self, key: &str) -> Option<String> {
        self.words.get(key).map(|word| text(word))
    }

    fn act_one(&self, verb: &str, connection: Connection, message: Message<'_>) -> Result<()> {
        let handle = &self.program.handle;
        match verb {
            "echo" => connection.send(message),
            "broadcast" => handle.broadcast(message, Some(connection)),
            "publish" => handle.publish("room", message, Some(connection)),
            "greet" => connection.send("welcome"),
            "subscribe" => connection.subscribe("room"),
            "close" => connection.close(4000, "done"),
            "terminate" => connection.terminate(),
            "pause" => connection.pause(),
            "shutdown" => handle.shutdown(Duration::from_secs(5)),
            "stop" => handle.stop(),
            "fail" => std::panic::resume_unwind(Box::new("a secret of the program")),
            other => panic!("{other} is nothing a callback does"),
        }
    }

    /// Does what the options say for this event, verb by verb, and tells what was refused.
    fn act(&self, key: &str, connection: Connection, message: Message<'_>) {
        for verb in self.word(key).split(',').filter(|verb| !verb.is_empty()) {
            if let Err(error) = self.act_one(verb, connection, message) {
                let (number, code) = (self.program.number(connection), code_of(&error));
                say(&format!("refused {number} verb={verb} code={code} text={}", hex(error.to_string().as_bytes())));
            }
        }
    }

    fn shown(&self, value: impl FnOnce(&str) -> Option<String>) -> String {
        self.text("show").map_or(String::new(), |name| format!(" header={}", hex_or_none(value(&name).as_deref())))
    }
}

/// ` cookie=… cookies=… parameter=… parameters=…`, where cookies or parameters of a name are to be shown.
fn parsed(does: &Does, request: &Request<'_>) -> String {
    let joined = |pairs: &mut dyn Iterator<Item = (String, String)>| {
        hex(pairs.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("|").as_bytes())
    };
    let mut shown = String::new();
    if let Some(name) = does.text("show_cookie") {
        let all = joined(&mut request.cookies().map(|(name, value)| (name.into(), value.into())));
        let _ = write!(shown, " cookie={} cookies={all}", hex_or_none(request.cookie(&name)));
    }
    if let Some(name) = does.text("show_parameter") {
        let all = joined(&mut request.query_parameters().map(|(name, value)| (name.into(), value.into())));
        let value = request.query_parameter(&name);
        let _ = write!(shown, " parameter={} parameters={all}", hex_or_none(value.as_deref()));
    }
    shown
}

/// An answer to a request, in the hook or later.
pub fn answer_of(kind: &str, words: &HashMap<String, String>) -> Response {
    let word = |key: &str| words.get(key).map_or("", String::as_str);
    let (status, body) = (word("status").parse().unwrap_or(200), bytes(word("body")));
    let mut response = match kind {
        "later" => Response::later(),
        "reject" => Response::reject(status, body),
        "page" => Response::whole(status, &text(word("content_type")), body),
        "stream" => Response::stream(&text(word("content_type"))),
        _ => Response::accept(),
    };
    if words.contains_key("accept") {
        response = response.subprotocol(text(word("accept")));
    }
    if let Some(header) = words.get("answer_header") {
        let (name, value) = pair(header);
        response = response.header(&name, &value);
    }
    response
}

impl Handler for Does {
    fn on_request(&mut self, request: &Request<'_>) -> Response {
        if self.words.contains_key("tell") {
            let offered: Vec<_> = request.subprotocols().collect();
            say(&format!(
                "request {} method={} upgrade={} path={} query={} offered={} secure={} server_name={} certificate={}{}{}",
                self.number,
                request.method(),
                yes(request.is_upgrade()),
                hex(request.path().as_bytes()),
                hex_or_none(request.query()),
                offered.join(","),
                yes(request.is_secure()),
                hex_or_none(request.server_name()),
                request.peer_certificates().first().map_or("-".into(), |der| hex(der)),
                self.shown(|name| request.header(name).map(str::to_owned)),
                parsed(self, request)
            ));
        }
        match self.word("request") {
            "metrics" if !request.is_upgrade() => {
                return Response::whole(200, CONTENT_TYPE, self.program.handle.metrics().unwrap());
            }
            "stream" | "later" => drop(self.program.number(request.connection())),
            "fail" => std::panic::resume_unwind(Box::new("a secret of the program")),
            _ => {}
        }
        answer_of(self.word("request"), &self.words)
    }

    fn after_deferral(&mut self, connection: Connection, is_answered: bool) {
        if self.words.contains_key("tell_deferral") {
            say(&format!("waited {} answered={}", self.program.number(connection), yes(is_answered)));
        }
    }

    fn on_open(&mut self, connection: Connection, opening: &Opening<'_>) {
        let request = opening.request;
        say(&format!(
            "open {} role={} path={} query={} subprotocol={}{}",
            self.program.number(connection),
            if request.is_some() { "server" } else { "client" },
            hex_or_none(request.map(|request| request.path())),
            hex_or_none(request.and_then(|request| request.query())),
            hex_or_none(opening.subprotocol),
            self.shown(|name| opening.headers.header(name).map(str::to_owned))
        ));
        self.act("on_open", connection, Message::Text(""));
    }

    fn on_message(&mut self, connection: Connection, message: Message<'_>) {
        let kind = if message.is_text() { "text" } else { "binary" };
        say(&format!("message {} kind={kind} payload={}", self.program.number(connection), hex(message.payload())));
        self.act("on_message", connection, message);
    }

    fn on_fragment(&mut self, connection: Connection, fragment: Fragment<'_>) {
        say(&format!(
            "fragment {} kind={} first={} last={} payload={}",
            self.program.number(connection),
            if fragment.is_text { "text" } else { "binary" },
            yes(fragment.is_first),
            yes(fragment.is_last),
            hex(fragment.payload)
        ));
    }

    fn on_ping(&mut self, connection: Connection, payload: &[u8]) {
        say(&format!("ping {} payload={}", self.program.number(connection), hex(payload)));
    }

    fn on_pong(&mut self, connection: Connection, payload: &[u8], _: Option<Duration>) {
        say(&format!("pong {} payload={}", self.program.number(connection), hex(payload)));
    }

    fn on_drain(&mut self, connection: Connection) {
        say(&format!("drain {}", self.program.number(connection)));
    }

    fn on_error(&mut self, connection: Connection, failure: &Failure) {
        say(&format!("error {} {}", self.program.number(connection), failure_fields(Some(failure), "text")));
    }

    fn on_close(&mut self, connection: Connection, close: &Close<'_>) {
        say(&format!(
            "close {} code={} clean={} by={} lost={} unsent={} undelivered={} reason={} {} text={}",
            self.program.number(connection),
            close.code,
            yes(close.was_clean),
            if close.by == Side::Us { "us" } else { "peer" },
            close.lost_messages,
            close.unsent_bytes,
            close.undelivered_messages,
            hex(close.reason.as_bytes()),
            failure_fields(close.failure, "cause"),
            hex(close.to_string().as_bytes())
        ));
    }

    fn on_reconnecting(&mut self, client: Client, reconnecting: &Reconnecting<'_>) {
        say(&format!(
            "reconnecting {} attempt={} delay={} code={} {}",
            self.program.client_number(client),
            reconnecting.attempt,
            reconnecting.delay.as_millis(),
            reconnecting.cause.code,
            failure_fields(reconnecting.cause.failure, "cause")
        ));
    }

    fn on_give_up(&mut self, client: Client, give_up: &GiveUp) {
        let kind = match give_up.kind {
            GiveUpKind::Finished => "finished",
            GiveUpKind::CloseCode => "close_code",
            GiveUpKind::HttpStatus => "http_status",
            GiveUpKind::SocksRefusal => "socks_refusal",
            GiveUpKind::Attempts => "attempts",
            GiveUpKind::Closed => "closed",
            GiveUpKind::Shutdown => "shutdown",
            _ => "unknown",
        };
        say(&format!(
            "gave_up {} kind={kind} close_code={} http_status={} attempts={} lost={} text={}",
            self.program.client_number(client),
            give_up.close_code.unwrap_or(0),
            give_up.http_status.unwrap_or(0),
            give_up.attempts,
            give_up.lost_messages,
            hex(give_up.message.as_bytes())
        ));
    }

    fn on_listener_error(&mut self, _: Listener, failure: &Failure) {
        say(&format!("listener_error {} {}", self.number, failure_fields(Some(failure), "text")));
    }
}
