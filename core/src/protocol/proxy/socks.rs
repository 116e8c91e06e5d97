//! SOCKS5: greeting, user name and password where the proxy asks for them, and the request to connect.

use std::net::IpAddr;

use super::{Destination, Progress, Proxy, Scheme, advice, authority, failure};
use crate::error::{Failure, FailureKind, Limit};
use crate::protocol::credentials::Credentials;

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const DOMAIN: u8 = 3;
const IPV6: u8 = 4;
/// The method of authentication that is none: the proxy takes none of those it was offered.
const NO_METHOD: u8 = 0xff;
/// The reply that its rules do not allow the connection.
const NOT_ALLOWED: u8 = 2;

/// What the proxy is to answer next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Which way of authentication it chooses.
    Method,
    /// Whether it takes user name and password.
    Authenticated,
    /// What became of the request.
    Reply,
}

/// Whether user name and password can be sent (RFC 1929 section 2).
pub(super) fn check(credentials: &Credentials) -> Result<(), &'static str> {
    let fits = |part: &[u8]| (1..=255).contains(&part.len());
    if fits(&credentials.user) && fits(&credentials.password) {
        return Ok(());
    }
    Err("has a user name or password that is empty or longer than 255 bytes, which SOCKS5 cannot send (RFC 1929)")
}

/// Greets, and offers no more ways of authentication than can be gone.
pub(super) fn greet(out: &mut Vec<u8>, proxy: &Proxy) -> Step {
    out.extend_from_slice(match proxy.credentials {
        None => &[VERSION, 1, NO_AUTHENTICATION],
        Some(_) => &[VERSION, 2, NO_AUTHENTICATION, USER_AND_PASSWORD],
    });
    Step::Method
}

/// Takes one answer at a time, once all of it is there.
pub(super) fn receive(
    step: &mut Step,
    bytes: &[u8],
    proxy: &Proxy,
    destination: &Destination,
    out: &mut Vec<u8>,
) -> Result<Progress, Failure> {
    let &[version, answer, ..] = bytes else { return Ok(Progress { used: 0, is_open: false }) };
    // Who answers authentication with another version than its own, as some do, is understood all the same.
    if version != VERSION && !matches!(step, Step::Authenticated) {
        let what = match version {
            b'H' => "answered in HTTP: it is an http:// proxy",
            _ => "answered something that is not SOCKS5",
        };
        return Err(failure(FailureKind::Protocol, proxy, what));
    }
    match (*step, answer, &proxy.credentials) {
        (Step::Method, NO_AUTHENTICATION, _) | (Step::Authenticated, 0, _) => request(step, proxy, destination, out),
        (Step::Method, USER_AND_PASSWORD, Some(credentials)) => {
            out.push(1);
            for part in [&credentials.user, &credentials.password] {
                // Both have been checked.
                out.push(part.len() as u8);
                out.extend_from_slice(part);
            }
            *step = Step::Authenticated;
            Ok(Progress { used: 2, is_open: false })
        }
        (Step::Method, NO_METHOD, None) | (Step::Authenticated, _, _) => {
            Err(refused(proxy, true, format_args!("refuses us: {}", advice(proxy))))
        }
        (Step::Method, NO_METHOD, Some(_)) => {
            let what = "refuses us: it wants another kind of authentication than user name and password, and that is all \
                        there is";
            Err(refused(proxy, true, what))
        }
        (Step::Method, method, _) => {
            let what = format_args!("chose the authentication {method}, which was not offered");
            Err(failure(FailureKind::Protocol, proxy, what))
        }
        (Step::Reply, 0, _) => replied(bytes, proxy),
        (Step::Reply, code, _) => {
            let target = authority(&destination.host, destination.port);
            let what = format_args!("could not connect to {target}: {}", meaning(code));
            Err(refused(proxy, code == NOT_ALLOWED, what))
        }
    }
}

/// The proxy refuses; for good where it would refuse another attempt as well, as an HTTP proxy that answers 403 or 407.
fn refused(proxy: &Proxy, is_final: bool, what: impl std::fmt::Display) -> Failure {
    Failure { is_final, ..failure(FailureKind::Refused, proxy, what) }
}

/// Asks for the connection (RFC 1928 section 4).
fn request(step: &mut Step, proxy: &Proxy, destination: &Destination, out: &mut Vec<u8>) -> Result<Progress, Failure> {
    out.extend_from_slice(&[VERSION, CONNECT, 0]);
    match destination.address {
        Some(IpAddr::V4(address)) => {
            out.push(IPV4);
            out.extend_from_slice(&address.octets());
        }
        Some(IpAddr::V6(address)) => {
            out.push(IPV6);
            out.extend_from_slice(&address.octets());
        }
        None => {
            debug_assert_eq!(proxy.scheme, Scheme::Socks5h);
            let Ok(length) = u8::try_from(destination.host.len()) else {
                let what = "cannot be told a host's name of more than 255 bytes (RFC 1928)";
                let limit = Limit::new("socks_host_name", usize::from(u8::MAX)).reached(destination.host.len() as u64);
                return Err(Failure { limit: Some(limit), ..failure(FailureKind::Limit, proxy, what) });
            };
            out.extend_from_slice(&[DOMAIN, length]);
            out.extend_from_slice(destination.host.as_bytes());
        }
    }
    out.extend_from_slice(&destination.port.to_be_bytes());
    *step = Step::Reply;
    Ok(Progress { used: 2, is_open: false })
}

/// The connection is there, once the address that nobody needs has come (RFC 1928 section 6).
fn replied(bytes: &[u8], proxy: &Proxy) -> Result<Progress, Failure> {
    let address = match *bytes {
        [_, _, _, IPV4, ..] => 4,
        [_, _, _, IPV6, ..] => 16,
        [_, _, _, DOMAIN, length, ..] => 1 + usize::from(length),
        [_, _, _, kind, ..] if kind != DOMAIN => {
            return Err(failure(
                FailureKind::Protocol,
                proxy,
                format_args!("answered with an address of the kind {kind}"),
            ));
        }
        _ => return Ok(Progress { used: 0, is_open: false }),
    };
    let end = 4 + address + 2;
    let is_open = bytes.len() >= end;
    Ok(Progress { used: if is_open { end } else { 0 }, is_open })
}

fn meaning(code: u8) -> String {
    match code {
        1 => "general failure".into(),
        NOT_ALLOWED => "its rules do not allow it".into(),
        3 => "the network is unreachable".into(),
        4 => "the host is unreachable".into(),
        5 => "the connection was refused".into(),
        6 => "the time to live has expired".into(),
        7 => "it does not know the command".into(),
        8 => "it does not know this kind of address".into(),
        code => format!("the unknown code {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::proxy::{Limits, Negotiation};

    fn begun(url: &str, destination: &Destination) -> (Negotiation, Vec<u8>) {
        let mut out = Vec::new();
        let limits = Limits { max_head: 100, max_headers: 1 };
        let negotiation = Negotiation::begin(Proxy::parse(url).unwrap(), destination.clone(), limits, &mut out);
        (negotiation, out)
    }

    fn name(host: &str) -> Destination {
        Destination { host: host.into(), address: None, port: 0x1234 }
    }

    /// What is sent in answer to each of these; every answer comes in two parts at first.
    fn spoken(url: &str, destination: &Destination, answers: &[&[u8]]) -> Result<Vec<Vec<u8>>, Failure> {
        let (mut negotiation, greeting) = begun(url, destination);
        let mut said = vec![greeting];
        let mut is_open = false;
        for answer in answers {
            assert!(!is_open);
            let mut out = Vec::new();
            let progress = negotiation.receive(&answer[..1], &mut out).unwrap();
            assert_eq!((progress, &out[..]), (Progress { used: 0, is_open: false }, &[][..]));
            let progress = negotiation.receive(&[answer, &b"\x16server"[..]].concat()[..], &mut out)?;
            assert_eq!(progress.used, answer.len());
            is_open = progress.is_open;
            said.push(out);
        }
        assert!(is_open, "no tunnel");
        Ok(said)
    }

    /// What is told of a refusal that is final, or not.
    fn refused(url: &str, is_final: bool, answers: &[&[u8]]) -> String {
        let failure = spoken(url, &name("a.org"), answers).unwrap_err();
        assert_eq!((failure.kind, failure.is_final), (FailureKind::Refused, is_final), "{failure}");
        failure.message.into_owned()
    }

    const OPEN: &[u8] = b"\x05\0\0\x01\x7f\0\0\x01\x12\x34";

    #[test]
    fn a_name_is_sent_where_the_proxy_looks_it_up() {
        let said = spoken("socks5h://proxy", &name("a.org"), &[b"\x05\0", OPEN]).unwrap();
        assert_eq!(said, [&b"\x05\x01\0"[..], b"\x05\x01\0\x03\x05a.org\x12\x34", b""]);
    }

    #[test]
    fn an_address_is_sent_where_it_is_known() {
        let mut destination = name("a.org");
        destination.address = Some([1, 2, 3, 4].into());
        let said = spoken("socks5://proxy", &destination, &[b"\x05\0", OPEN]).unwrap();
        assert_eq!(said[1], b"\x05\x01\0\x01\x01\x02\x03\x04\x12\x34");
        destination.address = Some(IpAddr::V6(1_u128.into()));
        let six = [&b"\x05\0\0\x04"[..], &[0; 18]].concat();
        let said = spoken("socks5://proxy", &destination, &[b"\x05\0", &six]).unwrap();
        assert_eq!(said[1], [&b"\x05\x01\0\x04"[..], &[0; 15], b"\x01\x12\x34"].concat());
    }

    #[test]
    fn user_and_password_are_sent_where_the_proxy_wants_them() {
        let named = b"\x05\0\0\x03\x02hi\x12\x34";
        let said = spoken("socks5h://user:pass@proxy", &name("a.org"), &[b"\x05\x02", b"\x01\0", named]).unwrap();
        assert_eq!(said[..2], [&b"\x05\x02\0\x02"[..], b"\x01\x04user\x04pass"]);
        assert_eq!(spoken("socks5h://user:pass@proxy", &name("a.org"), &[b"\x05\0", OPEN]).unwrap().len(), 3);
    }

    #[test]
    fn refusals_are_told_in_words() {
        assert!(refused("socks5h://proxy", true, &[b"\x05\xff"]).ends_with("as in user:password@host"));
        assert!(refused("socks5h://u:secret@proxy", true, &[b"\x05\xff"]).contains("another kind of authentication"));
        let message = refused("socks5h://u:secret@proxy", true, &[b"\x05\x02", b"\x01\x01"]);
        assert!(message.contains("does not take the user name") && !message.contains("secret"), "{message}");
        for code in 1..=9 {
            let reply = [5, code, 0, 1, 0, 0, 0, 0, 0, 0];
            let message = refused("socks5h://proxy", code == 2, &[b"\x05\0", &reply]);
            assert_eq!(message, format!("the proxy proxy:1080 could not connect to a.org:4660: {}", meaning(code)));
        }
        assert_eq!(meaning(5), "the connection was refused");
    }

    #[test]
    fn what_is_not_socks_is_told() {
        for answers in [
            &[&b"HTTP/1.1 400"[..]][..],
            &[b"\x04\0"],
            &[b"\x05\x02"],
            &[b"\x05\x07"],
            &[b"\x05\0", b"\x04\0"],
            &[b"\x05\0", b"\x05\0\0\x02\0\0\0\0\0\0"],
        ] {
            let failure = spoken("socks5h://proxy", &name("a.org"), answers).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Protocol, "{answers:?}");
        }
        let failure = spoken("socks5h://proxy", &name(&"a".repeat(256)), &[b"\x05\0"]).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Limit);
    }
}
