//! An HTTP proxy: CONNECT, and its answer.

use std::mem::MaybeUninit;

use super::{Destination, Limits, Progress, Proxy, advice, authority, failure};
use crate::error::{Failure, FailureKind};
use crate::event::Headers;
use crate::protocol::credentials::Credentials;
use crate::protocol::http::{self, HttpError, MAX_HEADERS};

pub(super) fn write_request(out: &mut Vec<u8>, proxy: &Proxy, destination: &Destination) {
    let target = authority(&destination.host, destination.port);
    out.extend_from_slice(format!("CONNECT {target} HTTP/1.1\r\n").as_bytes());
    http::write_header(out, "Host", &target);
    if let Some(Ok(basic)) = proxy.credentials.as_ref().map(Credentials::basic) {
        http::write_header(out, "Proxy-Authorization", &basic);
    }
    out.extend_from_slice(b"\r\n");
}

/// Looks for the end of the answer's head, behind which everything belongs to the tunnel (RFC 9110 section 9.3.6).
pub(super) fn receive(
    head: &mut Vec<u8>,
    scanned: &mut usize,
    bytes: &[u8],
    limits: Limits,
    proxy: &Proxy,
    destination: &Destination,
) -> Result<Progress, Failure> {
    let kept = head.len();
    // No more than the limit is kept, whatever came behind it.
    head.extend_from_slice(&bytes[..bytes.len().min(limits.max_head.saturating_sub(kept).saturating_add(1))]);
    let bad = |error: HttpError| {
        let kind = if error.limit.is_some() { FailureKind::Limit } else { FailureKind::Protocol };
        let what = format_args!("gave a bad answer: {}", error.message);
        Failure { limit: error.limit, ..failure(kind, proxy, what) }
    };
    // A proxy that speaks something else may wait for more than it gets.
    if !head.iter().zip(b"HTTP/").all(|(came, due)| came == due) {
        return Err(bad(HttpError::new(400, "this is not HTTP")));
    }
    match http::scan_head(head, scanned, limits.max_head) {
        Ok(Some(end)) => {
            let mut storage = [const { MaybeUninit::uninit() }; MAX_HEADERS];
            let storage = &mut storage[..limits.max_headers];
            let answer = http::parse_response(&head[..end], storage).map_err(bad)?;
            match answer.status {
                200..=299 => Ok(Progress { used: end - kept, is_open: true }),
                status => Err(refused(proxy, destination, status, answer.reason, Headers(answer.headers))),
            }
        }
        Ok(None) => Ok(Progress { used: bytes.len(), is_open: false }),
        Err(error) => Err(bad(error)),
    }
}

fn refused(proxy: &Proxy, destination: &Destination, status: u16, reason: &str, headers: Headers<'_>) -> Failure {
    let answered = format!("answered {}", format!("{status} {reason}").trim_end());
    let mut basic = headers.all("proxy-authenticate").filter_map(|challenge| challenge.split(' ').next());
    let what = if status != 407 {
        let target = authority(&destination.host, destination.port);
        format!("{answered} instead of opening a tunnel to {target}")
    } else if headers.header("proxy-authenticate").is_some()
        && !basic.any(|scheme| scheme.eq_ignore_ascii_case("basic"))
    {
        format!("{answered}: it wants another kind of authentication than Basic, and that is all there is")
    } else {
        format!("{answered}: {}", advice(proxy))
    };
    Failure { http_status: Some(status), ..failure(FailureKind::Refused, proxy, what) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::proxy::Negotiation;

    const LIMITS: Limits = Limits { max_head: 200, max_headers: 5 };

    fn begun(url: &str, host: &str) -> (Negotiation, String) {
        let mut out = Vec::new();
        let destination = Destination { host: host.into(), address: None, port: 443 };
        let negotiation = Negotiation::begin(Proxy::parse(url).unwrap(), destination, LIMITS, &mut out);
        (negotiation, String::from_utf8(out).unwrap())
    }

    fn answered(url: &str, answer: &str) -> Result<Progress, Failure> {
        let mut out = Vec::new();
        let result = begun(url, "a.org").0.receive(answer.as_bytes(), &mut out);
        assert!(out.is_empty());
        result
    }

    #[test]
    fn connect_names_the_host_and_always_the_port() {
        let (_, asked) = begun("http://proxy", "a.org");
        assert_eq!(asked, "CONNECT a.org:443 HTTP/1.1\r\nHost: a.org:443\r\n\r\n");
        let (_, asked) = begun("http://Aladdin:open%20sesame@proxy", "::1");
        assert_eq!(
            asked,
            "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\
             Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"
        );
    }

    #[test]
    fn any_2xx_opens_the_tunnel_at_every_cut_and_what_follows_is_the_servers() {
        let answer = b"HTTP/1.0 204 whatever\r\nContent-Length: 5\r\n\r\n\x16\x03server";
        let end = answer.len() - 8;
        for cut in 0..=end {
            let (mut negotiation, _) = begun("http://proxy", "a.org");
            let first = negotiation.receive(&answer[..cut], &mut Vec::new()).unwrap();
            assert_eq!(first, Progress { used: cut, is_open: cut == end });
            if cut < end {
                let second = negotiation.receive(&answer[cut..], &mut Vec::new()).unwrap();
                assert_eq!(second, Progress { used: end - cut, is_open: true });
            }
        }
    }

    #[test]
    fn a_head_may_be_as_large_as_the_program_wants() {
        let limits = Limits { max_head: usize::MAX, max_headers: 5 };
        let destination = Destination { host: "a.org".into(), address: None, port: 443 };
        let proxy = Proxy::parse("http://proxy").unwrap();
        let mut negotiation = Negotiation::begin(proxy, destination, limits, &mut Vec::new());
        let answer = b"HTTP/1.1 200 ok\r\n\r\n";
        let progress = negotiation.receive(answer, &mut Vec::new()).unwrap();
        assert_eq!(progress, Progress { used: answer.len(), is_open: true });
    }

    #[test]
    fn a_refusal_is_told_with_its_status_and_what_to_do() {
        for (url, answer, status, says) in [
            (
                "http://proxy",
                "HTTP/1.1 403 Filtered\r\n\r\n",
                403,
                "403 Filtered instead of opening a tunnel to a.org:443",
            ),
            ("http://proxy", "HTTP/1.1 502 \r\n\r\n", 502, "answered 502 instead"),
            (
                "http://proxy",
                "HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=x\r\n\r\n",
                407,
                "put them into its URL",
            ),
            ("http://u:secret@proxy", "HTTP/1.1 407 Who\r\n\r\n", 407, "does not take the user name"),
            ("http://u:secret@proxy", "HTTP/1.1 407 Who\r\nProxy-Authenticate: Negotiate\r\n\r\n", 407, "than Basic"),
            ("http://proxy", "HTTP/1.1 101 Switching Protocols\r\n\r\n", 101, "instead of"),
        ] {
            let failure = answered(url, answer).unwrap_err();
            assert_eq!((failure.kind, failure.http_status), (FailureKind::Refused, Some(status)), "{answer}");
            assert!(failure.message.contains(says) && !failure.message.contains("secret"), "{failure}");
        }
    }

    #[test]
    fn what_is_not_http_or_too_much_is_told() {
        for (answer, kind) in [
            ("SSH-2.0-OpenSSH no HTTP\r\n", FailureKind::Protocol),
            ("\u{5}\u{ff}", FailureKind::Protocol),
            ("HTTP/1.1 200\n\n", FailureKind::Protocol),
            ("HTTP/1.1 200 ok\r\na: b\r\na: b\r\na: b\r\na: b\r\na: b\r\na: b\r\n\r\n", FailureKind::Limit),
        ] {
            assert_eq!(answered("http://proxy", answer).unwrap_err().kind, kind, "{answer:?}");
        }
        let (mut negotiation, _) = begun("http://proxy", "a.org");
        let drip = format!("HTTP/1.1 200 ok\r\nX: {}", "x".repeat(400));
        let mut taken = 0;
        let failure = loop {
            match negotiation.receive(&drip.as_bytes()[taken..][..1], &mut Vec::new()) {
                Ok(progress) => taken += progress.used,
                Err(failure) => break failure,
            }
        };
        assert_eq!((failure.kind, taken), (FailureKind::Limit, LIMITS.max_head - 1));
    }
}
