//! An HTTP request and its answer: what the request hook sees, and what it says.

use std::borrow::Cow;
use std::fmt;

use super::{Address, Connection};
use crate::error::{Error, Result};

/// The headers of an HTTP head, in order.
#[derive(Clone, Copy)]
pub struct Headers<'a>(pub(crate) &'a [httparse::Header<'a>]);

impl<'a> Headers<'a> {
    /// All of them, as name and value, in the order they came.
    pub fn iter(self) -> impl ExactSizeIterator<Item = (&'a str, &'a [u8])> {
        self.0.iter().map(|header| (header.name, header.value))
    }

    /// The value of the first header of this name, without regard to case, if it is text.
    pub fn header(self, name: &str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// The values of every header of this name that are text.
    pub fn all(self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .filter_map(|header| std::str::from_utf8(header.value).ok())
    }

    /// The elements of a comma-separated list that may span several headers (RFC 9110 section 5.6.1), trimmed, without
    /// empty ones. Not for headers with quoted commas.
    pub fn list(self, name: &str) -> impl Iterator<Item = &'a str> {
        self.all(name).flat_map(|value| value.split(',')).map(trim).filter(|item| !item.is_empty())
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(name, value)| (name, String::from_utf8_lossy(value)))).finish()
    }
}

/// An HTTP request that reached a listener: what the request hook sees. Borrowed until the hook returns.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub(crate) connection: Connection,
    pub(crate) peer: &'a Address,
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    pub(crate) headers: Headers<'a>,
    pub(crate) is_upgrade: bool,
    pub(crate) secured: Option<&'a Secured>,
}

/// The cookies of one header `Cookie`, as [`Request::cookies`] has them.
pub fn parse_cookies(value: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    // One that is no text must not hide the others, which another program may have set.
    let pairs = value.split(|byte| *byte == b';').filter_map(|pair| std::str::from_utf8(pair).ok());
    pairs.filter_map(|pair| pair.split_once('=')).map(|(name, value)| (trim(name), trim(value)))
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// The parameters of a query, as [`Request::query_parameters`] has them.
pub fn parse_query(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(query.as_bytes())
}

/// What the TLS handshake has told of a client.
#[derive(Debug, Default)]
pub(crate) struct Secured {
    pub(crate) certificates: Vec<Vec<u8>>,
    pub(crate) server_name: Option<String>,
}

impl<'a> Request<'a> {
    /// The number this connection will have if it is accepted, or answered with a stream.
    pub fn connection(&self) -> Connection {
        self.connection
    }

    /// Where the peer is.
    pub fn peer(&self) -> &'a Address {
        self.peer
    }

    /// The method; always `GET` where [`is_upgrade`](Self::is_upgrade).
    pub fn method(&self) -> &'a str {
        self.method
    }

    /// The path, as it came (percent signs are not decoded), without the query.
    pub fn path(&self) -> &'a str {
        self.target.split_once('?').map_or(self.target, |(path, _)| path)
    }

    /// The query, as it came, without the question mark.
    pub fn query(&self) -> Option<&'a str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    /// The parameters of the query, as name and value, in the order they came: `application/x-www-form-urlencoded`
    /// (the WHATWG's URL standard), with percent signs and `+` decoded. What is no UTF-8 comes with U+FFFD for it. Parsed
    /// when this is called.
    pub fn query_parameters(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + use<'a> {
        parse_query(self.query().unwrap_or_default())
    }

    /// The value of the first parameter of this name in the query, decoded; empty where it has none.
    pub fn query_parameter(&self, name: &str) -> Option<Cow<'a, str>> {
        self.query_parameters().find(|(one, _)| one == name).map(|(_, value)| value)
    }

    /// The cookies, as name and value, in the order they came (RFC 6265 section 5.4). Values are not decoded: what is in
    /// them, quotes too, is the program's affair. What is no cookie or no UTF-8 is left out. Parsed when this is called.
    pub fn cookies(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let fields = self.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("cookie"));
        fields.flat_map(|(_, value)| parse_cookies(value))
    }

    /// The value of the first cookie of this name. Names are compared letter by letter.
    pub fn cookie(&self, name: &str) -> Option<&'a str> {
        self.cookies().find(|(one, _)| *one == name).map(|(_, value)| value)
    }

    /// The headers.
    pub fn headers(&self) -> Headers<'a> {
        self.headers
    }

    /// The value of the first header of this name, without regard to case.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.header(name)
    }

    /// The subprotocols the client offers, in its order.
    pub fn subprotocols(&self) -> impl Iterator<Item = &'a str> {
        self.headers.list("sec-websocket-protocol")
    }

    /// Whether this is a valid request for a WebSocket, rather than a plain HTTP request.
    pub fn is_upgrade(&self) -> bool {
        self.is_upgrade
    }

    /// Whether the request came over TLS that ends here, rather than at a proxy.
    pub fn is_secure(&self) -> bool {
        self.secured.is_some()
    }

    /// The client's certificate and those of its issuers that it sent, in DER, the client's own first. It is verified: from
    /// an issuer in [`Tls::ca`](crate::Tls::ca), valid now, and the client has its key. Empty where it showed none, or was
    /// not asked (see [`Tls::client_auth`](crate::Tls::client_auth)).
    pub fn peer_certificates(&self) -> &'a [Vec<u8>] {
        self.secured.map_or(&[], |secured| &secured.certificates)
    }

    /// The name that the client asked for in the TLS handshake (SNI, RFC 6066 section 3), in lower case; none without TLS,
    /// and for an address.
    pub fn server_name(&self) -> Option<&'a str> {
        self.secured.and_then(|secured| secured.server_name.as_deref())
    }
}

/// The opening handshake that made a connection open: told by `on_open`, borrowed until it returns.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// Server: the client's request. Client: `None`.
    pub request: Option<&'a Request<'a>>,
    /// Client: the headers of the server's answer. Server: the headers of the request.
    pub headers: Headers<'a>,
    /// The subprotocol agreed on.
    pub subprotocol: Option<&'a str>,
}

/// The answer of a request hook.
#[derive(Clone, Debug)]
pub struct Response {
    pub(crate) kind: ResponseKind,
    pub(crate) status: u16,
    pub(crate) subprotocol: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) error: Option<Cow<'static, str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseKind {
    Accept,
    Later,
    Whole,
    Stream,
}

impl Response {
    fn new(kind: ResponseKind, status: u16, body: Vec<u8>) -> Self {
        Self { kind, status, subprotocol: None, headers: Vec::new(), body, error: None }
    }

    /// Open the WebSocket. A plain HTTP request that is answered so gets 426.
    pub fn accept() -> Self {
        Self::new(ResponseKind::Accept, 101, Vec::new())
    }

    /// Answer later, from any thread, with [`Connection::respond`] under the number of [`Request::connection`]: who the
    /// client is has to be looked up somewhere.
    ///
    /// The client is not read meanwhile; what came behind its request is kept, up to
    /// [`max_head`](crate::Options::max_head), and delivered after `on_open`, which sees the request as the hook did. Where
    /// no answer comes within [`handshake_timeout`](crate::Options::handshake_timeout) the client gets 503, and
    /// `on_listener_error` says so. A client that ends its side of TCP meanwhile has left: what was kept is freed, and
    /// nothing more is told.
    pub fn later() -> Self {
        Self::new(ResponseKind::Later, 0, Vec::new())
    }

    /// Refuse, or answer, with this status (200 to 599) and a body of plain text.
    pub fn reject(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::whole(status, "text/plain; charset=utf-8", body)
    }

    /// Answer with 200 and a body: a page, a health check.
    pub fn page(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::whole(200, content_type, body)
    }

    /// Answer with this status (200 to 599), kind of content, and a body. The TCP connection is closed after it.
    pub fn whole(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let mut response = Self::new(ResponseKind::Whole, status, body.into()).header("Content-Type", content_type);
        if !(200..=599).contains(&status) {
            response.error = Some(format!("{status} is not a final HTTP status (200 to 599)").into());
        }
        response
    }

    /// Answer with 200 and a body that stays open: the program writes to it with
    /// [`Connection::write`](crate::Connection::write) under the number of
    /// [`Request::connection`], ends it with `close`, and hears one `on_close`.
    pub fn stream(content_type: &str) -> Self {
        Self::new(ResponseKind::Stream, 200, Vec::new()).header("Content-Type", content_type)
    }

    /// Whether this can be sent: what was wrong with a header or the status.
    pub fn check(&self) -> Result<()> {
        self.error.clone().map_or(Ok(()), |error| Err(Error::InvalidArgument(error)))
    }

    /// Choose this subprotocol, which the client must have offered.
    pub fn subprotocol(mut self, name: impl Into<String>) -> Self {
        self.subprotocol = Some(name.into());
        self
    }

    /// Add a header. One that cannot stand in an HTTP head makes the answer a 500, and the listener hears why.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        match check_header(name, value) {
            Ok(()) => self.headers.push((name.into(), value.into())),
            Err(Error::InvalidArgument(why)) => self.error = Some(why),
            Err(error) => self.error = Some(error.to_string().into()),
        }
        self
    }
}

/// Whether a header can be sent: no control characters (a line break would smuggle another header), a name of token
/// characters (RFC 9110 section 5.6.2), and none of the headers the engine writes itself.
pub fn check_header(name: &str, value: &str) -> Result<()> {
    const OURS: [&str; 8] = [
        "connection",
        "content-length",
        "host",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
    ];
    if !is_token(name) {
        return Err(Error::invalid(format!("{name:?} is not the name of an HTTP header")));
    }
    if OURS.iter().chain(&["transfer-encoding", "upgrade"]).any(|ours| name.eq_ignore_ascii_case(ours)) {
        return Err(Error::invalid(format!("the header {name} is written by the library")));
    }
    if value.bytes().any(|byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
        return Err(Error::invalid(format!("the value of header {name} has a control character")));
    }
    Ok(())
}

/// Whether `name` is a token, as subprotocols and header names are (RFC 9110 section 5.6.2).
pub(crate) fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookies(value: &[u8]) -> Vec<(&str, &str)> {
        parse_cookies(value).collect()
    }

    #[test]
    fn cookies_are_parsed_as_browsers_send_them() {
        assert_eq!(cookies(b"id=1; theme=dark"), [("id", "1"), ("theme", "dark")]);
        assert_eq!(cookies(b"a=b=c; q=\"x y\"; e="), [("a", "b=c"), ("q", "\"x y\""), ("e", "")]);
        assert_eq!(cookies(b"a=%20;a=2"), [("a", "%20"), ("a", "2")]);
    }

    #[test]
    fn what_is_no_cookie_is_left_out_and_hides_no_other() {
        assert_eq!(cookies(b"; ;;lonely; \t a = 1\t;b=\xff; c=\xc3\xbc;"), [("a", "1"), ("c", "\u{fc}")]);
        assert_eq!(cookies(b""), []);
        assert_eq!(cookies(b"=x"), [("", "x")]);
        let many = "a=;".repeat(100_000);
        assert_eq!(parse_cookies(many.as_bytes()).count(), 100_000);
    }

    #[test]
    fn a_query_is_decoded() {
        let query: Vec<_> = parse_query("room=a+b%26c&n=1&n=2&&empty&=v&bad=%zz%&u=%ff%C3%BC").collect();
        let expected = [
            ("room", "a b&c"),
            ("n", "1"),
            ("n", "2"),
            ("empty", ""),
            ("", "v"),
            ("bad", "%zz%"),
            ("u", "\u{fffd}\u{fc}"),
        ];
        assert_eq!(query, expected.map(|(name, value)| (name.into(), value.into())));
    }
}
