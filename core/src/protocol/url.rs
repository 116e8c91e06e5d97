//! The URLs of clients (RFC 6455 section 3, RFC 3986).

use std::path::PathBuf;

use tungstenite::http::Uri;

use crate::error::Error;
use crate::protocol::credentials::{Credentials, without_credentials};
use crate::protocol::origin::split_port;

/// Where a client connects, and what it asks for there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// TLS is spoken.
    pub secure: bool,
    /// The name or address of the host, without brackets; `localhost` for a Unix socket.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The value of the header Host: without the port if it is the default.
    pub authority: String,
    /// Path and query.
    pub target: String,
    /// The Unix socket, if it is one.
    pub unix: Option<PathBuf>,
    /// User name and password, if it has some; Basic authentication can send them.
    pub credentials: Option<Credentials>,
}

/// Parses a URL (RFC 6455 section 3): `ws://host:port/path?query`, `wss://host:port/path?query`, or
/// `ws+unix:/path/of/socket:/path?query` for a Unix socket. Before the host may stand `user:password@`.
///
/// # Errors
/// [`Error::InvalidArgument`] says what is wrong, and shows no password.
pub fn parse_url(url: &str) -> Result<Url, Error> {
    let invalid = |why: &str| Error::invalid(format!("the URL {:?} {why}", without_credentials(url)));
    if url.contains('#') {
        return Err(invalid("has a fragment, which a WebSocket URL cannot have"));
    }
    let Some((scheme, rest)) = url.split_once(':') else {
        return Err(invalid("has no scheme: it begins with ws:// or wss://"));
    };
    let secure = match scheme.to_ascii_lowercase().as_str() {
        "ws" => false,
        "wss" => true,
        "ws+unix" => {
            return parse_unix(rest).ok_or_else(|| invalid("is not of the form ws+unix:/path/to/socket:/target"));
        }
        _ => return Err(invalid("has another scheme than ws:// and wss://")),
    };
    let uri: Uri = url.parse().map_err(|error| invalid(&format!("is malformed: {error}")))?;
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let (userinfo, authority) = authority.rsplit_once('@').unwrap_or(("", authority));
    let credentials = match userinfo {
        "" | ":" => None,
        userinfo => Some(Credentials::parse(userinfo).map_err(invalid)?),
    };
    credentials.as_ref().map(Credentials::basic).transpose().map_err(invalid)?;
    let Some((host, port)) = split_port(authority) else { return Err(invalid("has a malformed port")) };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if bare.is_empty() {
        return Err(invalid("has no host"));
    }
    if port == Some(0) {
        return Err(invalid("has the port 0"));
    }
    let default = if secure { 443 } else { 80 };
    let port = port.unwrap_or(default);
    Ok(Url {
        secure,
        host: bare.to_owned(),
        port,
        authority: if port == default { host.to_owned() } else { format!("{host}:{port}") },
        target: target_of(&uri),
        unix: None,
        credentials,
    })
}

/// The path ends at the first `:/`, where the target begins; without one the target is `/`.
fn parse_unix(rest: &str) -> Option<Url> {
    let (path, target) = match rest.find(":/") {
        Some(colon) => (&rest[..colon], &rest[colon + 1..]),
        None => (rest, "/"),
    };
    let uri: Uri = target.parse().ok()?;
    if path.is_empty() || path.contains('\0') {
        return None;
    }
    let localhost = "localhost".to_owned();
    let unix = Some(PathBuf::from(path));
    Some(Url {
        secure: false,
        host: localhost.clone(),
        port: 80,
        authority: localhost,
        target: target_of(&uri),
        unix,
        credentials: None,
    })
}

fn target_of(uri: &Uri) -> String {
    match uri.query() {
        Some(query) => format!("{}?{query}", uri.path()),
        None => uri.path().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (url, host, port, authority, target) in [
            ("ws://example.org", "example.org", 80, "example.org", "/"),
            ("WS://example.org:80/", "example.org", 80, "example.org", "/"),
            ("ws://example.org:/a", "example.org", 80, "example.org", "/a"),
            ("ws://127.0.0.1:9001/a/b?c=d", "127.0.0.1", 9001, "127.0.0.1:9001", "/a/b?c=d"),
            ("ws://[::1]:9001/", "::1", 9001, "[::1]:9001", "/"),
            ("ws://[::1]?q", "::1", 80, "[::1]", "/?q"),
            ("ws://example.org:443", "example.org", 443, "example.org:443", "/"),
            ("wss://example.org/a", "example.org", 443, "example.org", "/a"),
            ("WSS://example.org:443", "example.org", 443, "example.org", "/"),
            ("wss://example.org:80", "example.org", 80, "example.org:80", "/"),
        ] {
            let parsed = parse_url(url).unwrap();
            assert_eq!(parsed.secure, url.to_ascii_lowercase().starts_with("wss:"), "{url}");
            let found =
                (parsed.host.as_str(), parsed.port, parsed.authority.as_str(), parsed.target.as_str(), parsed.unix);
            assert_eq!(found, (host, port, authority, target, None), "{url}");
        }
        let unix = parse_url("ws+unix:/run/a.sock:/chat?x=1").unwrap();
        assert_eq!((unix.unix, unix.target.as_str()), (Some(PathBuf::from("/run/a.sock")), "/chat?x=1"));
        assert_eq!((unix.host.as_str(), unix.authority.as_str()), ("localhost", "localhost"));
        assert_eq!(parse_url("ws+unix:a.sock").unwrap().target, "/");
    }

    #[test]
    fn a_user_name_is_taken_out_of_the_authority() {
        let url = parse_url("wss://us%20er:pass@[::1]:9001/x").unwrap();
        assert_eq!((url.host.as_str(), url.authority.as_str()), ("::1", "[::1]:9001"));
        let credentials = url.credentials.unwrap();
        assert_eq!((&credentials.user[..], &credentials.password[..]), (&b"us er"[..], &b"pass"[..]));
        for url in ["ws://a.org", "ws://@a.org", "ws://:@a.org"] {
            assert_eq!(parse_url(url).unwrap().credentials, None, "{url}");
        }
    }

    #[test]
    fn urls_that_cannot_be_are_refused_with_the_reason() {
        for (url, why) in [
            ("example.org", "no scheme"),
            ("http://example.org", "another scheme"),
            ("ws://a/#b", "fragment"),
            ("ws://user:p%0aw@a/", "control character"),
            ("ws://us%3aer:pw@a/", "colon in its user name"),
            ("ws://a:99999/", "malformed"),
            ("ws://a:x/", "malformed"),
            ("ws://a:0/", "port 0"),
            ("ws:///path", "malformed"),
            ("ws://:80/path", "no host"),
            ("ws://a b/", "malformed"),
            ("ws://a/\r\nX: y", "malformed"),
            ("ws:a", "malformed"),
            ("ws+unix:", "of the form"),
            ("ws+unix:/s:/a b", "of the form"),
            ("ws+unix:/s:/a\r\nb", "of the form"),
        ] {
            let message = parse_url(url).expect_err(url).to_string();
            assert!(message.contains(why) && !message.contains("user:"), "{url}: {message}");
        }
    }
}
