//! Origins of web pages (RFC 6454, RFC 6455 section 10.2): which of them may open a connection.

use crate::config::Origins;
use crate::event::Headers;
use crate::protocol::http::{self, HttpError};

/// Whether the web page that asks may connect (RFC 6455 section 10.2); requests of programs have no Origin.
///
/// `secure` says that the listener speaks TLS, so that a `Host` without port means 443. A listener that does not may
/// stand behind a proxy that does: there the origin's own scheme says what `Host` leaves out.
///
/// # Errors
/// 403, with a body that says which option allows the origin.
pub fn check_origin(headers: Headers<'_>, origins: &Origins, secure: bool) -> Result<(), HttpError> {
    if *origins == Origins::Any {
        return Ok(());
    }
    let mut values = http::values(headers.0, "origin");
    let origin = match (values.next(), values.next()) {
        (None, _) => return Ok(()),
        (Some(origin), None) => std::str::from_utf8(origin).unwrap_or_default(),
        (Some(_), Some(_)) => return Err(HttpError::new(400, "the header Origin is repeated")),
    };
    let is_allowed = match origins {
        Origins::Any => true,
        Origins::List(list) => list.iter().any(|allowed| is_same_origin(origin, allowed)),
        Origins::SameHost => headers.header("host").is_some_and(|host| is_of_host(origin, host, secure)),
    };
    if is_allowed {
        return Ok(());
    }
    let why = match origins {
        Origins::List(_) => "is not in the option `origins`: add it there",
        _ => "is not that of this host: list it in the option `origins`, or allow any",
    };
    Err(HttpError::new(403, format!("The origin {origin:?} {why}.")))
}

/// An origin's scheme, host and port; none for `null` and what is no origin.
fn split_origin(origin: &str) -> Option<(&str, &str, Option<u16>)> {
    let (scheme, authority) = origin.split_once("://")?;
    let (host, port) = split_port(authority)?;
    Some((scheme, host, port.or_else(|| default_port(scheme))))
}

/// Host (an IPv6 address in brackets) and port of an authority; none if the port is no number.
pub(crate) fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let host_end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    match authority[host_end..].find(':') {
        None => Some((authority, None)),
        Some(colon) => {
            let (host, port) = authority.split_at(host_end + colon);
            let port = &port[1..];
            if port.is_empty() {
                return Some((host, None));
            }
            // `parse` alone would take a sign.
            let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
            if is_number { port.parse().ok().map(|port| (host, Some(port))) } else { None }
        }
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("ws") {
        Some(80)
    } else if scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss") {
        Some(443)
    } else {
        None
    }
}

fn is_same_origin(one: &str, other: &str) -> bool {
    match (split_origin(one), split_origin(other)) {
        (Some((scheme, host, port)), Some((other_scheme, other_host, other_port))) => {
            scheme.eq_ignore_ascii_case(other_scheme) && host.eq_ignore_ascii_case(other_host) && port == other_port
        }
        (None, None) => one == other,
        _ => false,
    }
}

fn is_of_host(origin: &str, host: &str, secure: bool) -> bool {
    let Some((scheme, origin_host, origin_port)) = split_origin(origin) else { return false };
    let Some((host, port)) = split_port(host) else { return false };
    let port = port.or(if secure { Some(443) } else { default_port(scheme) });
    !host.is_empty() && origin_host.eq_ignore_ascii_case(host) && origin_port == port
}

#[cfg(test)]
mod tests {
    use httparse::Header;

    use super::*;

    fn headers<'a>(lines: &'a [(&'a str, &'a str)]) -> Vec<Header<'a>> {
        lines.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect()
    }

    fn origin(origin: &str, host: &str, origins: &Origins, secure: bool) -> bool {
        let lines = [("host", host), ("origin", origin)];
        match check_origin(Headers(&headers(&lines)), origins, secure) {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error.status, 403);
                assert!(error.message.contains("`origins`"));
                false
            }
        }
    }

    #[test]
    fn hostile_18_a_foreign_origin_is_refused() {
        let same = Origins::SameHost;
        for (page, host) in [
            ("http://a.org", "a.org"),
            ("http://A.org:80", "a.ORG"),
            ("http://a.org", "a.org:80"),
            ("https://a.org", "a.org"),
            ("https://a.org", "a.org:443"),
            ("http://a.org:8080", "a.org:8080"),
            ("http://[::1]:9001", "[::1]:9001"),
            ("http://[::1]", "[::1]:80"),
        ] {
            assert!(origin(page, host, &same, false), "{page} at {host}");
        }
        for (page, host) in [
            ("null", "a.org"),
            ("", "a.org"),
            ("", ""),
            ("http://", ""),
            ("http://b.org", "a.org"),
            ("http://a.org.evil.org", "a.org"),
            ("http://a.org:81", "a.org"),
            ("http://a.org", "a.org:8080"),
            ("https://a.org", "a.org:80"),
            ("http://a.org:+80", "a.org"),
            ("http://a.org/", "a.org"),
            ("http://a.org@b.org", "a.org"),
            ("file://a.org", "a.org:80"),
        ] {
            assert!(!origin(page, host, &same, false), "{page} at {host}");
        }
        assert!(origin("https://a.org", "a.org", &same, true));
        assert!(!origin("http://a.org", "a.org", &same, true));
        let twice = [("host", "a"), ("origin", "http://a"), ("origin", "http://b")];
        assert_eq!(check_origin(Headers(&headers(&twice)), &same, false).unwrap_err().status, 400);
    }

    #[test]
    fn origins_may_be_listed_or_all_allowed_and_programs_have_none() {
        let list = Origins::List(vec!["https://a.org".into(), "null".into(), "chrome-extension://abc".into()]);
        for page in ["https://a.org", "https://A.org:443", "null", "chrome-extension://abc"] {
            assert!(origin(page, "b", &list, false), "{page}");
        }
        for page in ["http://a.org", "https://b.org", "https://a.org:444", "Null", "", "file://", "https://b"] {
            assert!(!origin(page, "b", &list, false), "{page}");
        }
        assert!(origin("null", "b", &Origins::Any, false));
        assert!(check_origin(Headers(&headers(&[("host", "a")])), &list, false).is_ok());
    }
}
