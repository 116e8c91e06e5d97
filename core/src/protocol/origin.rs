//! Origins of web pages (RFC 6454, RFC 6455 section 10.2): which of them may open a connection.

use crate::config::Origins;
use crate::error::Error;
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
        Origins::List(list) => list.iter().any(|allowed| is_one_of(origin, allowed)),
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

/// Whether an origin is the one of the list, or one of those its wildcard stands for.
fn is_one_of(origin: &str, allowed: &str) -> bool {
    match (split_origin(origin), split_origin(allowed)) {
        (Some((scheme, host, port)), Some((allowed_scheme, allowed_host, allowed_port))) => {
            scheme.eq_ignore_ascii_case(allowed_scheme)
                && port == allowed_port
                && match allowed_host.strip_prefix("*.") {
                    Some(domain) => is_subdomain(host, domain),
                    None => host.eq_ignore_ascii_case(allowed_host),
                }
        }
        (None, None) => origin == allowed,
        _ => false,
    }
}

/// Whether a host is below a domain, however deep. What stands before the domain must be labels of a name: an origin that
/// a browser would never send ends like one that it would.
fn is_subdomain(host: &str, domain: &str) -> bool {
    let Some(end) = host.len().checked_sub(domain.len()) else { return false };
    let (Some(labels), Some(rest)) = (host.get(..end), host.get(end..)) else { return false };
    rest.eq_ignore_ascii_case(domain) && labels.strip_suffix('.').is_some_and(are_labels)
}

fn are_labels(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.split('.').all(is_label)
}

/// Whether every origin of a list can be met: one with a typing error would refuse everybody, or allow whom nobody meant.
///
/// # Errors
/// [`Error::InvalidArgument`] names the origin, and says how one is written.
pub fn check_origins(origins: &Origins) -> Result<(), Error> {
    let Origins::List(list) = origins else { return Ok(()) };
    match list.iter().find(|origin| !can_be_met(origin)) {
        None => Ok(()),
        Some(origin) => Err(Error::invalid(format!(
            "{origin:?} is no origin: one is written https://example.org, https://example.org:8443 or null, and \
             https://*.example.org stands for every subdomain"
        ))),
    }
}

fn can_be_met(origin: &str) -> bool {
    if origin == "null" {
        return true;
    }
    let Some((scheme, host, _)) = split_origin(origin) else { return false };
    let is_scheme =
        !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_scheme
        && match host.strip_prefix("*.") {
            Some(domain) => are_labels(domain),
            // What browsers call the host of an extension is their own affair.
            None => host.bytes().all(|byte| byte.is_ascii_graphic() && !b"*/?#@\\,".contains(&byte)),
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

    #[test]
    fn a_wildcard_stands_for_every_subdomain_and_for_nothing_else() {
        let list = Origins::List(vec!["https://*.example.org".into(), "http://*.Dev.example.net:8080".into()]);
        for page in [
            "https://a.example.org",
            "https://a.b.c.example.org",
            "https://A.EXAMPLE.org:443",
            "HTTPS://x-1_y.example.org",
            "https://*.example.org".replace('*', "xn--bcher-kva").as_str(),
            "http://a.dev.example.net:8080",
        ] {
            assert!(origin(page, "b", &list, false), "{page}");
        }
        for page in [
            "https://example.org",
            "https://evil-example.org",
            "https://example.org.evil.com",
            "https://a.example.org.evil.com",
            "https://.example.org",
            "https://a..example.org",
            "https://..example.org",
            "https://a.example.org.",
            "https://evil.com/.example.org",
            "https://evil.com?.example.org",
            "https://evil.com#.example.org",
            "https://evil.com\\.example.org",
            "https://evil.com@a.example.org",
            "https://evil.com:443.example.org",
            "https://evil.com:443/.example.org",
            "https://[::1].example.org",
            "https://*.example.org",
            "https://ü.example.org",
            "https://a.example.org:8443",
            "http://a.example.org",
            "http://a.dev.example.net",
            "null",
            "",
            ".example.org",
        ] {
            assert!(!origin(page, "b", &list, false), "{page}");
        }
    }

    #[test]
    fn an_origin_that_no_browser_would_send_cannot_be_listed() {
        let check = |origin: &str| check_origins(&Origins::List(vec!["https://good.org".into(), origin.into()]));
        for good in [
            "null",
            "https://example.org",
            "https://*.example.org",
            "https://*.example.org:8443",
            "http://*.localhost",
            "http://[::1]:8080",
            "http://127.0.0.1",
            "chrome-extension://abcdefgh",
            "file://",
        ] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in [
            "https://*",
            "https://*.",
            "https://*:443",
            "https://*.*",
            "https://*.*.org",
            "https://*.org.*",
            "https://a.*.org",
            "https://a*.example.org",
            "https://**.example.org",
            "https://*example.org",
            "https://*..example.org",
            "https://*.example.org.",
            "https://*.example.org:*",
            "https://*.example.org/",
            "https://*.ü.org",
            "*://example.org",
            "://example.org",
            "*.org.*",
            "*.example.org",
            "*",
            "example.org",
            "any",
            "",
            "https://example.org/",
            "https://example.org/path",
            "https://example.org:99999",
            "https://a.org, https://b.org",
            "https://user@example.org",
            "https://exam ple.org",
        ] {
            let error = check(bad).unwrap_err();
            assert!(error.to_string().contains(&format!("{bad:?} is no origin")), "{bad}: {error}");
        }
    }
}
