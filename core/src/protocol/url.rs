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
    let Authority { host, bare, port, credentials } = Authority::of(&uri).map_err(invalid)?;
    credentials.as_ref().map(Credentials::basic).transpose().map_err(invalid)?;
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

/// What stands between the scheme and the path of a URL.
pub(super) struct Authority<'a> {
    /// An address of IPv6 is in brackets.
    host: &'a str,
    /// The host without them.
    pub(super) bare: &'a str,
    pub(super) port: Option<u16>,
    pub(super) credentials: Option<Credentials>,
}

impl<'a> Authority<'a> {
    pub(super) fn of(uri: &'a Uri) -> Result<Self, &'static str> {
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let (userinfo, authority) = authority.rsplit_once('@').unwrap_or(("", authority));
        let credentials = match userinfo {
            "" | ":" => None,
            userinfo => Some(Credentials::parse(userinfo)?),
        };
        let (host, port) = split_port(authority).ok_or("has a malformed port")?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if bare.is_empty() {
            return Err("has no host");
        }
        if port == Some(0) {
            return Err("has the port 0");
        }
        Ok(Self { host, bare, port, credentials })
    }
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

/// The URL that a reference in an answer means (RFC 3986 section 5.2, RFC 9110 section 10.2.2). What it says of HTTP holds
/// for WebSocket; a fragment is left out.
///
/// # Errors
/// [`Error::InvalidArgument`]: there is no such URL.
pub fn resolve(base: &Url, reference: &str) -> Result<Url, Error> {
    let reference = reference.split('#').next().unwrap_or_default();
    let scheme_end = reference.find([':', '/', '?']).filter(|&end| reference[end..].starts_with(':'));
    if let Some((scheme, rest)) = scheme_end.map(|end| (&reference[..end], &reference[end + 1..])) {
        return match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => absolute("ws", rest),
            "https" | "wss" => absolute("wss", rest),
            _ => {
                let shown = without_credentials(reference);
                Err(Error::invalid(format!("the URL {shown:?} has another scheme than those of HTTP and WebSocket")))
            }
        };
    }
    if reference.starts_with("//") {
        return absolute(if base.secure { "wss" } else { "ws" }, reference);
    }
    let (path, query) = split_query(reference);
    let (base_path, base_query) = split_query(&base.target);
    let (path, query) = match path {
        "" => (base_path.to_owned(), query.or(base_query)),
        path if path.starts_with('/') => (without_dots(path), query),
        path => {
            let folder = &base_path[..base_path.rfind('/').map_or(0, |slash| slash + 1)];
            (without_dots(&format!("{folder}{path}")), query)
        }
    };
    let target = with_query(path, query);
    match target.parse::<Uri>() {
        Ok(_) => Ok(Url { target, credentials: None, ..base.clone() }),
        Err(error) => Err(Error::invalid(format!("the URL {reference:?} is malformed: {error}"))),
    }
}

fn absolute(scheme: &str, rest: &str) -> Result<Url, Error> {
    let url = parse_url(&format!("{scheme}:{rest}"))?;
    let (path, query) = split_query(&url.target);
    Ok(Url { target: with_query(without_dots(path), query), ..url })
}

fn split_query(target: &str) -> (&str, Option<&str>) {
    target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)))
}

fn with_query(path: String, query: Option<&str>) -> String {
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path,
    }
}

/// A path without `.` and `..` (RFC 3986 section 5.2.4). It begins with a slash.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
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
    fn references_are_resolved_as_rfc_3986_says() {
        let base = parse_url("ws://a/b/c/d;p?q").unwrap();
        // Sections 5.4.1 and 5.4.2; fragments are left out, and another scheme is none of ours.
        for (reference, target) in [
            ("g", "/b/c/g"),
            ("./g", "/b/c/g"),
            ("g/", "/b/c/g/"),
            ("/g", "/g"),
            ("?y", "/b/c/d;p?y"),
            ("g?y", "/b/c/g?y"),
            ("#s", "/b/c/d;p?q"),
            ("g#s", "/b/c/g"),
            ("g?y#s", "/b/c/g?y"),
            (";x", "/b/c/;x"),
            ("g;x", "/b/c/g;x"),
            ("g;x?y#s", "/b/c/g;x?y"),
            ("", "/b/c/d;p?q"),
            (".", "/b/c/"),
            ("./", "/b/c/"),
            ("..", "/b/"),
            ("../", "/b/"),
            ("../g", "/b/g"),
            ("../..", "/"),
            ("../../", "/"),
            ("../../g", "/g"),
            ("../../../g", "/g"),
            ("../../../../g", "/g"),
            ("/./g", "/g"),
            ("/../g", "/g"),
            ("g.", "/b/c/g."),
            (".g", "/b/c/.g"),
            ("g..", "/b/c/g.."),
            ("..g", "/b/c/..g"),
            ("./../g", "/b/g"),
            ("./g/.", "/b/c/g/"),
            ("g/./h", "/b/c/g/h"),
            ("g/../h", "/b/c/h"),
            ("g;x=1/./y", "/b/c/g;x=1/y"),
            ("g;x=1/../y", "/b/c/y"),
            ("g?y/./x", "/b/c/g?y/./x"),
            ("g?y/../x", "/b/c/g?y/../x"),
            ("g#s/../x", "/b/c/g"),
            ("g?x:y", "/b/c/g?x:y"),
        ] {
            let url = resolve(&base, reference).unwrap();
            assert_eq!((url.host.as_str(), url.target.as_str()), ("a", target), "{reference:?}");
        }
        let url = resolve(&base, "//g").unwrap();
        assert_eq!((url.host.as_str(), url.target.as_str()), ("g", "/"));
        assert!(resolve(&base, "g:h").is_err());
    }

    #[test]
    fn an_absolute_location_of_http_is_one_of_websocket() {
        let base = parse_url("wss://user:pass@a:1/b").unwrap();
        for (reference, secure, authority, target) in [
            ("http://b/x/../y", false, "b", "/y"),
            ("HTTPS://b:8443", true, "b:8443", "/"),
            ("wss://b/?q#f", true, "b", "/?q"),
            ("//b/c", true, "b", "/c"),
            ("/c", true, "a:1", "/c"),
        ] {
            let url = resolve(&base, reference).unwrap();
            let found = (url.secure, url.authority.as_str(), url.target.as_str(), url.credentials);
            assert_eq!(found, (secure, authority, target, None), "{reference}");
        }
        for reference in ["ftp://u:secret@b/", "ws+unix:/run/a.sock", "http://", "http:b", "http://b:x", "javascript:0"]
        {
            let error = resolve(&base, reference).expect_err(reference).to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        let unix = parse_url("ws+unix:/run/a.sock:/x").unwrap();
        let url = resolve(&unix, "/y").unwrap();
        assert_eq!((url.unix, url.target.as_str()), (unix.unix.clone(), "/y"));
        assert_eq!(resolve(&unix, "http://b/").unwrap().unix, None);
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
