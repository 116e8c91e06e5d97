//! The opening handshake (RFC 6455 section 4) as text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::Result;
use crate::payload::mix;
use crate::settings::{Compression, Settings};

/// A request, and the answer that it must get.
pub struct Opening {
    pub request: Vec<u8>,
    accept: String,
    compression: Option<Compression>,
}

const DEFLATE: &str = "permessage-deflate";
/// The parameters that ask a side to compress each message for itself (RFC 7692 section 7.1.1).
const ALONE: [&str; 2] = ["server_no_context_takeover", "client_no_context_takeover"];
/// The one that a server may add without being asked.
const WINDOW: &str = "server_max_window_bits";

impl Opening {
    /// With the headers of a browser, what is to be offered, and another key for each `number`.
    pub fn new(settings: &Settings, number: u64) -> Self {
        let server = settings.server;
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        let key = STANDARD.encode([mix(number), mix(!number)].map(u64::to_ne_bytes).concat());
        let extensions = match settings.compression {
            None => String::new(),
            Some(Compression::EachMessageAlone) => {
                format!("Sec-WebSocket-Extensions: {DEFLATE}; {}\r\n", ALONE.join("; "))
            }
            Some(Compression::ContextTakeover) => format!("Sec-WebSocket-Extensions: {DEFLATE}\r\n"),
        };
        let request = format!(
            "GET / HTTP/1.1\r\n\
             Host: {server}\r\n\
             Connection: Upgrade\r\n\
             Pragma: no-cache\r\n\
             Cache-Control: no-cache\r\n\
             User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
             Chrome/126.0.0.0 Safari/537.36\r\n\
             Upgrade: websocket\r\n\
             Origin: {scheme}://{server}\r\n\
             Sec-WebSocket-Version: 13\r\n\
             Accept-Encoding: gzip, deflate, br, zstd\r\n\
             Accept-Language: en-US,en;q=0.9\r\n\
             Sec-WebSocket-Key: {key}\r\n\
             {extensions}\r\n"
        );
        Self { request: request.into_bytes(), accept: accept(&key), compression: settings.compression }
    }

    /// Checks a whole head, the empty line included; a raw server's status alone.
    pub fn check(&self, head: &[u8], raw: bool) -> Result<()> {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.split("\r\n");
        let status = lines.next().unwrap_or_default();
        if !status.starts_with("HTTP/1.1 101") {
            return Err(format!("the server answered the handshake with '{status}'"));
        }
        if raw {
            return Ok(());
        }
        let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(':')).collect();
        let values = |name: &str| -> Vec<&str> {
            headers
                .iter()
                .filter(|(other, _)| other.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim())
                .collect()
        };
        if values("sec-websocket-accept") != [&self.accept] {
            return Err("the server's Sec-WebSocket-Accept is wrong or missing".into());
        }
        self.check_extensions(&values("sec-websocket-extensions").join(", "))
    }

    /// That what was offered is agreed on, and nothing else.
    fn check_extensions(&self, answer: &str) -> Result<()> {
        let mut parts = answer.split(';').map(str::trim);
        let is_deflate = parts.next() == Some(DEFLATE);
        let parameters: Vec<&str> = parts.map(|part| part.split('=').next().unwrap_or_default().trim()).collect();
        let is_known = parameters.iter().all(|name| ALONE.contains(name) || *name == WINDOW);
        let server_is_alone = parameters.contains(&ALONE[0]);
        let (is_right, offered) = match self.compression {
            None => (answer.is_empty(), "nothing"),
            Some(Compression::EachMessageAlone) => {
                (is_deflate && is_known && server_is_alone, "permessage-deflate without context takeover")
            }
            Some(Compression::ContextTakeover) => {
                (is_deflate && is_known && !server_is_alone, "permessage-deflate with context takeover")
            }
        };
        match is_right {
            true => Ok(()),
            false => Err(format!("{offered} was offered, and the server's extensions are '{answer}'")),
        }
    }
}

/// Where the head at the begin of `input` ends.
pub fn end_of_head(input: &[u8]) -> Option<usize> {
    input.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// RFC 6455 section 4.2.2.
fn accept(key: &str) -> String {
    let digest = sha1_smol::Sha1::from(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")).digest();
    STANDARD.encode(digest.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_rfc_is_accepted() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn an_extension_is_what_was_offered() {
        for (options, passes, fails) in [
            ("", &[""][..], &["permessage-deflate"][..]),
            (
                " --compression",
                &[
                    "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
                    "permessage-deflate;server_no_context_takeover; server_max_window_bits=12",
                ],
                &[
                    "",
                    "permessage-deflate",
                    "permessage-deflate; client_no_context_takeover",
                    "permessage-deflate; server_no_context_takeover; client_max_window_bits=12",
                    "permessage-deflate; server_no_context_takeover, permessage-deflate",
                    "x-webkit-deflate-frame; server_no_context_takeover",
                ],
            ),
            (
                " --compression --context-takeover",
                &["permessage-deflate", "permessage-deflate; client_no_context_takeover"],
                &["", "permessage-deflate; server_no_context_takeover"],
            ),
        ] {
            let opening = Opening::new(&Settings::of(&format!("idle --port 80 --pid 1{options}")), 1);
            let request = String::from_utf8_lossy(&opening.request);
            assert_eq!(request.contains("Sec-WebSocket-Extensions: permessage-deflate"), !options.is_empty());
            for answer in passes {
                assert_eq!(opening.check_extensions(answer), Ok(()), "{options}");
            }
            for answer in fails {
                assert!(opening.check_extensions(answer).is_err(), "{options}: {answer}");
            }
        }
    }

    #[test]
    fn only_the_right_answer_passes() {
        let settings = Settings::of("echo --port 80 --pid 1");
        let opening = Opening::new(&settings, 1);
        let answer =
            |accept: &str| format!("HTTP/1.1 101 Switching Protocols\r\nsec-websocket-ACCEPT:{accept} \r\n\r\n");
        let right = answer(&opening.accept);
        assert_eq!(end_of_head(right.as_bytes()), Some(right.len()));
        assert!(opening.check(right.as_bytes(), false).is_ok());
        let wrong = answer(&Opening::new(&settings, 2).accept);
        assert!(opening.check(wrong.as_bytes(), false).is_err());
        assert!(opening.check(wrong.as_bytes(), true).is_ok());
        assert!(opening.check(b"HTTP/1.1 403 Forbidden\r\n\r\n", true).is_err());
    }
}
