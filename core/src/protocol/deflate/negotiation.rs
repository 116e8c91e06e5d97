//! What the opening handshake says about permessage-deflate (RFC 7692 section 7.1): offers, answers, and what they mean.

use std::borrow::Cow;
use std::fmt;

use httparse::Header;

use super::Sending;
use super::codec;
use crate::config::Compression;
use crate::error::{Error, Result};
use crate::event::is_token;
use crate::protocol::frame::Role;
use crate::protocol::http;

const HEADER: &str = "sec-websocket-extensions";
const NAME: &str = "permessage-deflate";
/// The largest window, which is what is used where nothing is said.
const MAX_BITS: u8 = 15;
/// The smallest window that can be agreed on. No compressor here has it: zlib's uses 9 bits where 8 are asked for.
const TINY_BITS: u8 = 8;

/// What was agreed on for a connection: the parameters of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    /// 0 where the answer does not say.
    server_bits: u8,
    client_bits: u8,
}

// It has the room in a connection that was free.
const _: () = assert!(size_of::<Option<Agreement>>() == 4);

/// As the answer says it.
impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)?;
        if self.server_no_context_takeover {
            f.write_str("; server_no_context_takeover")?;
        }
        if self.client_no_context_takeover {
            f.write_str("; client_no_context_takeover")?;
        }
        if self.server_bits != 0 {
            write!(f, "; server_max_window_bits={}", self.server_bits)?;
        }
        if self.client_bits != 0 {
            write!(f, "; client_max_window_bits={}", self.client_bits)?;
        }
        Ok(())
    }
}

impl Agreement {
    /// Whether the peer's messages may refer to earlier ones; `role` is ours.
    pub fn keeps_received(self, role: Role) -> bool {
        match role {
            Role::Server => !self.client_no_context_takeover,
            Role::Client => !self.server_no_context_takeover,
        }
    }

    /// How messages of this end are compressed; none where the window agreed on is smaller than any compressor's here.
    pub fn sending(self, role: Role, options: &Compression) -> Option<Sending> {
        let (agreed, own, no_context) = match role {
            Role::Server => (self.server_bits, options.server_max_window_bits, self.server_no_context_takeover),
            // It may always do with less than it was granted.
            Role::Client => (
                self.client_bits,
                options.client_max_window_bits,
                self.client_no_context_takeover || options.client_no_context_takeover,
            ),
        };
        let window_bits = if agreed == 0 { own } else { agreed.min(own) };
        (window_bits > TINY_BITS).then_some(Sending {
            level: options.level,
            window_bits,
            threshold: options.threshold,
            keeps_context: !no_context,
        })
    }
}

/// Whether a program can ask for this.
pub fn check(options: &Compression) -> Result<()> {
    if !codec::IS_BUILT_IN {
        return Err(Error::Unsupported("compression: it was built without the feature deflate"));
    }
    if !(1..=9).contains(&options.level) {
        return Err(Error::invalid(format!("the level of compression is 1 to 9, not {}", options.level)));
    }
    let windows = [
        ("server_max_window_bits", options.server_max_window_bits),
        ("client_max_window_bits", options.client_max_window_bits),
    ];
    match windows.into_iter().find(|(_, bits)| !(TINY_BITS + 1..=MAX_BITS).contains(bits)) {
        Some((name, bits)) => Err(Error::invalid(format!("{name} is 9 to 15, not {bits}"))),
        None => Ok(()),
    }
}

/// A server's answer: to the first offer that it can keep. A header that cannot be read is no offer.
pub fn accept(headers: &[Header<'_>], options: &Compression) -> Option<Agreement> {
    let offers = parse(headers)?;
    offers.iter().filter(|offer| offer.name == NAME).find_map(|offer| accept_one(offer, options))
}

fn accept_one(offer: &Extension<'_>, options: &Compression) -> Option<Agreement> {
    let offered = Parameters::read(offer, true).ok()?;
    let server_bits = match offered.server_bits {
        Some(TINY_BITS) => return None,
        Some(bits) => bits.min(options.server_max_window_bits),
        None => said_below_max(options.server_max_window_bits),
    };
    let client_bits = match offered.client_bits {
        // It may be told only where the client says that it understands.
        None => 0,
        Some(bits) => said_below_max(bits.min(options.client_max_window_bits)),
    };
    Some(Agreement {
        server_no_context_takeover: offered.server_no_context_takeover || options.server_no_context_takeover,
        client_no_context_takeover: offered.client_no_context_takeover || options.client_no_context_takeover,
        server_bits,
        client_bits,
    })
}

/// The largest window need not be said.
fn said_below_max(bits: u8) -> u8 {
    if bits < MAX_BITS { bits } else { 0 }
}

/// A client's offer: the value of the header.
pub fn offer(options: &Compression) -> String {
    let said = Agreement {
        server_no_context_takeover: options.server_no_context_takeover,
        client_no_context_takeover: options.client_no_context_takeover,
        server_bits: said_below_max(options.server_max_window_bits),
        client_bits: said_below_max(options.client_max_window_bits),
    };
    // A server may tell a client its window only where that one has said that it understands.
    format!("{said}{}", if said.client_bits == 0 { "; client_max_window_bits" } else { "" })
}

/// Checks a server's answer to [`offer`]: none where it declines.
///
/// # Errors
/// What is wrong with it, to follow "the server's answer".
pub fn check_answer(
    headers: &[Header<'_>],
    offered: Option<&Compression>,
) -> std::result::Result<Option<Agreement>, Cow<'static, str>> {
    let Some(extensions) = parse(headers) else {
        return Err("has a malformed header Sec-WebSocket-Extensions".into());
    };
    let (Some(offered), Some((answer, further))) = (offered, extensions.split_first()) else {
        return if extensions.is_empty() { Ok(None) } else { Err("names an extension that was not offered".into()) };
    };
    if answer.name != NAME {
        return Err("names an extension that was not offered".into());
    }
    if !further.is_empty() {
        return Err("names more than one extension".into());
    }
    let granted = Parameters::read(answer, false).map_err(|what| format!("agrees to {NAME} with {what}"))?;
    if offered.server_no_context_takeover && !granted.server_no_context_takeover {
        return Err("does not grant server_no_context_takeover: unset that option to keep a context for it".into());
    }
    let asked = offered.server_max_window_bits;
    if asked < MAX_BITS && granted.server_bits.is_none_or(|bits| bits > asked) {
        return Err(format!("does not grant server_max_window_bits={asked}, which was asked for").into());
    }
    Ok(Some(Agreement {
        server_no_context_takeover: granted.server_no_context_takeover,
        client_no_context_takeover: granted.client_no_context_takeover,
        server_bits: granted.server_bits.unwrap_or(0),
        client_bits: granted.client_bits.unwrap_or(0),
    }))
}

/// The parameters of an offer or an answer, each at most once and with a value that it can have.
#[derive(Default)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_bits: Option<u8>,
    client_bits: Option<u8>,
}

impl Parameters {
    /// Fails with what is wrong.
    fn read(extension: &Extension<'_>, is_offer: bool) -> std::result::Result<Self, String> {
        let mut read = Self::default();
        for (name, value) in &extension.parameters {
            let value = value.as_deref();
            let is_new = match (*name, value) {
                ("server_no_context_takeover", None) => !std::mem::replace(&mut read.server_no_context_takeover, true),
                ("client_no_context_takeover", None) => !std::mem::replace(&mut read.client_no_context_takeover, true),
                ("server_max_window_bits", Some(value)) => read.server_bits.replace(bits(name, value)?).is_none(),
                ("client_max_window_bits", Some(value)) => read.client_bits.replace(bits(name, value)?).is_none(),
                // Without a value an offer says that the client understands it (RFC 7692 section 7.1.2.2).
                ("client_max_window_bits", None) if is_offer => read.client_bits.replace(MAX_BITS).is_none(),
                ("server_max_window_bits" | "client_max_window_bits", None) => {
                    return Err(format!("{name} without a value"));
                }
                ("server_no_context_takeover" | "client_no_context_takeover", Some(_)) => {
                    return Err(format!("{name} with a value"));
                }
                _ => return Err("a parameter that is unknown".to_owned()),
            };
            if !is_new {
                return Err(format!("{name} twice"));
            }
        }
        Ok(read)
    }
}

/// A number from 8 to 15, without a leading zero (RFC 7692 section 7.1.2).
fn bits(name: &str, value: &str) -> std::result::Result<u8, String> {
    const VALUES: [&str; 8] = ["8", "9", "10", "11", "12", "13", "14", "15"];
    let place = VALUES.iter().position(|one| *one == value);
    place.map(|place| TINY_BITS + place as u8).ok_or_else(|| format!("a {name} that is not 8 to 15"))
}

/// An element of the header (RFC 6455 section 9.1).
struct Extension<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, Option<Cow<'a, str>>)>,
}

/// All elements of the header, several of which are one list; none where anything in it is malformed.
fn parse<'a>(headers: &[Header<'a>]) -> Option<Vec<Extension<'a>>> {
    let mut extensions = Vec::new();
    for value in http::values(headers, HEADER) {
        let mut rest = Rest(std::str::from_utf8(value).ok()?);
        loop {
            rest.skip_space();
            // Empty elements are allowed (RFC 9110 section 5.6.1.2).
            if !rest.0.is_empty() && !rest.0.starts_with(',') {
                extensions.push(rest.extension()?);
            }
            if rest.0.is_empty() {
                break;
            }
            rest.take(',')?;
        }
    }
    Some(extensions)
}

/// What is left to be read of a value; each method takes something off its begin.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn skip_space(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    fn take(&mut self, character: char) -> Option<()> {
        self.0 = self.0.strip_prefix(character)?;
        Some(())
    }

    fn token(&mut self) -> Option<&'a str> {
        let end = self.0.find([',', ';', '=', '"', ' ', '\t']).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        is_token(token).then_some(token)
    }

    fn extension(&mut self) -> Option<Extension<'a>> {
        let mut extension = Extension { name: self.token()?, parameters: Vec::new() };
        self.skip_space();
        while self.take(';').is_some() {
            self.skip_space();
            let name = self.token()?;
            let value = if self.take('=').is_some() { Some(self.value()?) } else { None };
            extension.parameters.push((name, value));
            self.skip_space();
        }
        Some(extension)
    }

    /// A token, or one between quotes, where any character may be escaped.
    fn value(&mut self) -> Option<Cow<'a, str>> {
        if self.take('"').is_none() {
            return self.token().map(Cow::Borrowed);
        }
        let mut value = String::new();
        let mut characters = self.0.char_indices();
        loop {
            match characters.next()? {
                (at, '"') => {
                    self.0 = &self.0[at + 1..];
                    return is_token(&value).then_some(Cow::Owned(value));
                }
                (_, '\\') => value.push(characters.next()?.1),
                (_, character) => value.push(character),
            }
        }
    }
}

#[cfg(test)]
mod tests;
