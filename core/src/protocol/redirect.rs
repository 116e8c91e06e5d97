//! Redirects of a client: where an answer points to, and what may not follow there.

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

use crate::error::Error;
use crate::protocol::http::{self, ResponseHead};
use crate::protocol::url::{Url, resolve};

/// What a Location may have in it though no URL can (RFC 3986 section 2): browsers encode it as well.
const UNSAFE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`');

/// Where an answer points to; none where it is no redirect (RFC 9110 section 15.4), or not one Location.
pub fn location(head: &ResponseHead<'_, '_>) -> Option<String> {
    let mut locations = http::values(head.headers, "location");
    match (head.status, locations.next(), locations.next()) {
        (301 | 302 | 303 | 307 | 308, Some(location), None) => Some(percent_encode(location, UNSAFE).to_string()),
        _ => None,
    }
}

/// The URL that a redirect leads to. User name and password stay where the origin does.
///
/// # Errors
/// [`Error::InvalidArgument`]: it leads nowhere, or from TLS to where everybody can read.
pub fn follow(url: &Url, location: &str) -> Result<Url, Error> {
    let mut next = resolve(url, location)?;
    if url.secure && !next.secure {
        return Err(Error::invalid("it would leave TLS: from wss:// to ws://"));
    }
    if next.credentials.is_none() && is_same_origin(url, &next) {
        next.credentials.clone_from(&url.credentials);
    }
    Ok(next)
}

/// Whether what is told to one may be told to the other (RFC 6454 section 5).
pub fn is_same_origin(one: &Url, other: &Url) -> bool {
    let host = |url: &Url| url.host.to_ascii_lowercase();
    (one.secure, host(one), one.port, &one.unix) == (other.secure, host(other), other.port, &other.unix)
}

/// Whether a header is likely to be a secret between a program and its server: its name says so.
pub fn is_credential(name: &str) -> bool {
    const SIGNS: [&str; 8] = ["auth", "cookie", "token", "secret", "key", "session", "password", "credential"];
    let name = name.to_ascii_lowercase();
    SIGNS.iter().any(|sign| name.contains(sign))
}

#[cfg(test)]
mod tests {
    use httparse::Header;

    use super::*;
    use crate::protocol::url::parse_url;

    fn found(status: u16, locations: &[&str]) -> Option<String> {
        let headers: Vec<Header<'_>> =
            locations.iter().map(|value| Header { name: "location", value: value.as_bytes() }).collect();
        location(&ResponseHead { status, reason: "", version: 1, headers: &headers })
    }

    #[test]
    fn five_statuses_are_redirects_where_they_say_where_to() {
        for status in 100..600 {
            let is_redirect = [301, 302, 303, 307, 308].contains(&status);
            assert_eq!(found(status, &["/x"]).is_some(), is_redirect, "{status}");
        }
        assert_eq!(found(302, &[]), None);
        assert_eq!(found(302, &["/a", "/b"]), None);
        let location = found(302, &["/a b/\u{e4}?<%20>"]);
        assert_eq!(location.as_deref(), Some("/a%20b/%C3%A4?%3C%20%3E"));
    }

    #[test]
    fn credentials_stay_with_the_origin_and_tls_is_not_left() {
        let url = parse_url("ws://user:secret@a.org/x").unwrap();
        assert!(follow(&url, "/y").unwrap().credentials.is_some());
        assert!(follow(&url, "http://A.org:80/y").unwrap().credentials.is_some());
        for elsewhere in ["ws://b.org/", "ws://a.org:81/", "wss://a.org/", "//sub.a.org/"] {
            assert_eq!(follow(&url, elsewhere).unwrap().credentials, None, "{elsewhere}");
        }
        let secure = parse_url("wss://a.org/x").unwrap();
        assert!(follow(&secure, "https://b.org/").unwrap().secure);
        assert!(follow(&secure, "http://a.org/").unwrap_err().to_string().contains("leave TLS"));
    }

    #[test]
    fn headers_that_are_secrets_are_known_by_their_names() {
        for name in ["Authorization", "COOKIE", "Proxy-Authorization", "X-Api-Key", "X-Auth-Token", "X-Session"] {
            assert!(is_credential(name), "{name}");
        }
        for name in ["Origin", "User-Agent", "Accept-Language", "X-Request-Id"] {
            assert!(!is_credential(name), "{name}");
        }
    }
}
