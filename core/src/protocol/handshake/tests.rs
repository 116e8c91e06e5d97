//! Tests of the opening handshake: heads as they come, and what is answered.

use std::mem::MaybeUninit;

use super::*;
use crate::config::Origins;
use crate::protocol::origin::check_origin;
use crate::protocol::url::parse_url;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The outcome for a request: the key, or the status.
fn request(head: &str) -> Result<Option<String>, u16> {
    let mut storage = [MaybeUninit::uninit(); 50];
    let head = http::parse_request(head.as_bytes(), &mut storage).map_err(|error| error.status)?;
    check_request(&head).map(|key| key.map(|key| String::from_utf8(key.into()).unwrap())).map_err(|error| error.status)
}

/// A good request, where each line that begins with one of `left_out` is replaced by `lines`.
fn changed(left_out: &str, lines: &str) -> Result<Option<String>, u16> {
    let good = [
        "Host: server.example.com",
        "Upgrade: websocket",
        "Connection: keep-alive, Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ];
    let mut head = "GET /chat HTTP/1.1\r\n".to_owned();
    for line in good {
        if left_out.is_empty() || !line.starts_with(left_out) {
            head.push_str(&format!("{line}\r\n"));
        }
    }
    request(&format!("{head}{lines}\r\n"))
}

fn headers<'a>(lines: &'a [(&'a str, &'a str)]) -> Vec<Header<'a>> {
    lines.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect()
}

#[test]
fn a_good_request_yields_its_key_and_a_plain_one_none() {
    assert_eq!(changed("", ""), Ok(Some(KEY.into())));
    assert_eq!(changed("Upgrade", "upgrade: h2c, WebSocket/13\r\nUPGRADE: WEBSOCKET\r\n"), Ok(Some(KEY.into())));
    assert_eq!(request("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"), Ok(None));
    assert_eq!(request("GET / HTTP/1.0\r\n\r\n"), Ok(None));
    assert_eq!(request("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(None));
}

#[test]
fn hostile_2_thousands_of_headers_are_431() {
    let lines: String = (0..2000).map(|n| format!("{:02x}: v\r\n", n % 256)).collect();
    assert_eq!(changed("", &lines), Err(431));
}

#[test]
fn hostile_3_spaces_in_a_subprotocol_cost_linear_time() {
    let value = format!("b{}x", " ".repeat(32_000));
    let offered = [("Sec-WebSocket-Protocol", value.as_str())];
    assert_eq!(choose_subprotocol(Headers(&headers(&offered)), &["b".into(), "x".into()]), None);
    assert_eq!(changed("", &format!("Sec-WebSocket-Protocol: {value}\r\n")), Ok(Some(KEY.into())));
}

#[test]
fn hostile_4_to_7_extensions_are_not_looked_at() {
    let unclosed = format!("a; b=\"{}", "\\c".repeat(5_000));
    let offers = [unclosed.as_str(), ",;constructor", "permessage-deflate; server_max_window_bits=abc"];
    for offer in offers {
        assert_eq!(changed("", &format!("Sec-WebSocket-Extensions: {offer}\r\n")), Ok(Some(KEY.into())));
    }
}

#[test]
fn hostile_8_keys_that_are_not_16_bytes_in_base64_are_400() {
    let long = "A".repeat(10_000);
    let keys =
        ["", "A", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25j!Q==", "dGhlIHNhbXBsZSBub25jZQ", long.as_str()];
    for key in keys.into_iter().chain(["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "\u{e9}GhlIHNhbXBsZSBub25jZ=="])
    {
        assert_eq!(changed("Sec-WebSocket-Key", &format!("Sec-WebSocket-Key: {key}\r\n")), Err(400), "{key}");
    }
    assert_eq!(changed("Sec-WebSocket-Key", ""), Err(400));
}

#[test]
fn hostile_9_a_repeated_key_or_version_is_400() {
    assert_eq!(changed("", &format!("sec-websocket-key: {KEY}\r\n")), Err(400));
    assert_eq!(changed("", "Sec-WebSocket-Version: 13\r\n"), Err(400));
}

#[test]
fn hostile_10_and_38_other_versions_are_426() {
    for lines in
        ["", "Sec-WebSocket-Version: 12\r\n", "Sec-WebSocket-Version: 13, 8\r\n", "Sec-WebSocket-Version: 013\r\n"]
    {
        assert_eq!(changed("Sec-WebSocket-Version", lines), Err(426), "{lines}");
    }
    let draft_76 =
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key1: 1 2\r\n\r\n";
    assert_eq!(request(draft_76), Err(426));
}

#[test]
fn hostile_11_other_methods_versions_and_upgrades_are_refused() {
    assert_eq!(request("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"), Err(405));
    let upgrade = "Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n";
    assert_eq!(request(&format!("POST / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: {KEY}\r\n{upgrade}")), Err(405));
    assert_eq!(request(&format!("HEAD / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: {KEY}\r\n{upgrade}")), Err(405));
    assert_eq!(request(&format!("GET / HTTP/1.0\r\nHost: a\r\nSec-WebSocket-Key: {KEY}\r\n{upgrade}")), Err(400));
    assert_eq!(changed("Connection", ""), Err(400));
    assert_eq!(changed("Connection", "Connection: close\r\n"), Err(400));
    assert_eq!(changed("Upgrade", "Upgrade: h2c\r\n"), Err(400));
    assert_eq!(changed("Upgrade", ""), Err(426));
}

#[test]
fn the_first_supported_subprotocol_that_is_offered_is_chosen() {
    let lines = [("Sec-WebSocket-Protocol", "a,\tb"), ("sec-websocket-protocol", " c ,, d")];
    let offered = headers(&lines);
    let choose = |supported: &[&str]| {
        let supported: Vec<String> = supported.iter().map(|&name| name.to_owned()).collect();
        choose_subprotocol(Headers(&offered), &supported).map(str::to_owned)
    };
    assert_eq!(choose(&["d", "a"]).as_deref(), Some("d"));
    assert_eq!(choose(&["x", "b"]).as_deref(), Some("b"));
    assert_eq!(choose(&["A"]), None);
    assert_eq!(choose(&[]), None);
}

#[test]
fn the_answer_of_rfc_6455_section_1_3_is_written() {
    let mut out = Vec::new();
    write_accept(&mut out, KEY.as_bytes(), Some("chat"), None, &[("X-Server".into(), "wsx".into())]);
    let expected = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\nSec-WebSocket-Protocol: chat\r\nX-Server: wsx\r\n\r\n"
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn errors_are_answered_with_the_headers_of_their_status() {
    let answer = |status| {
        let mut out = Vec::new();
        error_response(&mut out, &HttpError::new(status, "why"));
        String::from_utf8(out).unwrap()
    };
    assert!(answer(400).ends_with("\r\nContent-Length: 4\r\nConnection: close\r\n\r\nwhy\n"));
    assert!(answer(405).contains("\r\nAllow: GET, HEAD\r\n"));
    let upgrade = answer(426);
    for line in ["Sec-WebSocket-Version: 13", "Upgrade: websocket", "Connection: upgrade, close"] {
        assert!(upgrade.contains(&format!("\r\n{line}\r\n")), "{upgrade}");
    }
}

#[test]
fn a_request_is_written_and_our_own_server_takes_it() {
    let options = Options {
        subprotocols: vec!["a".into(), "b".into()],
        headers: vec![("Origin".into(), "http://a.org:81".into())],
        ..Options::default()
    };
    let url = parse_url("ws://a.org:81/x?y").unwrap();
    let key = tungstenite::handshake::client::generate_key();
    let mut out = Vec::new();
    write_request(&mut out, &url, &key, &options).unwrap();
    assert!(out.starts_with(b"GET /x?y HTTP/1.1\r\nHost: a.org:81\r\n"));
    let mut storage = [MaybeUninit::uninit(); 20];
    let head = http::parse_request(&out, &mut storage).unwrap();
    assert_eq!(check_request(&head), Ok(Some(key.as_bytes())));
    assert!(check_origin(Headers(head.headers), &Origins::SameHost, false).is_ok());
    assert_eq!(choose_subprotocol(Headers(head.headers), &["b".into()]), Some("b"));
}

#[test]
fn hostile_44_nothing_is_written_where_a_header_or_subprotocol_cannot_be_sent() {
    let url = parse_url("ws://a").unwrap();
    let header = |name: &str, value: &str| Options { headers: vec![(name.into(), value.into())], ..Options::default() };
    let offer = |names: &[&str]| Options {
        subprotocols: names.iter().map(|&name| name.into()).collect(),
        ..Options::default()
    };
    let bad = [header("X", "a\r\nY: b"), header("X\r\n", "a"), header("Host", "b"), header("", "a")];
    for options in bad.into_iter().chain([offer(&["a\r\nX: y"]), offer(&["a", "a"]), offer(&[""]), offer(&["a, b"])]) {
        let mut out = Vec::new();
        assert!(matches!(write_request(&mut out, &url, KEY, &options), Err(Error::InvalidArgument(_))));
        assert!(out.is_empty());
    }
}

/// A client's outcome: the subprotocol, or kind, status and message of the failure.
fn response(head: &str, offered: &[&str]) -> Result<Option<String>, (FailureKind, Option<u16>, String)> {
    let mut storage = [MaybeUninit::uninit(); 20];
    let head = http::parse_response(head.as_bytes(), &mut storage).unwrap();
    let subprotocols = offered.iter().map(|&name| name.into()).collect();
    check_response(&head, KEY, &Options { subprotocols, ..Options::default() })
        .map(|agreed| agreed.subprotocol)
        .map_err(|failure| (failure.kind, failure.http_status, failure.message.into_owned()))
}

#[test]
fn a_good_response_opens_and_names_the_subprotocol() {
    let good =
        format!("HTTP/1.1 101 OK\r\nupgrade: WebSocket\r\nconnection: upgrade\r\nsec-websocket-accept: {ACCEPT}\r\n");
    assert_eq!(response(&format!("{good}\r\n"), &[]), Ok(None));
    assert_eq!(response(&format!("{good}\r\n"), &["a"]), Ok(None));
    assert_eq!(response(&format!("{good}Sec-WebSocket-Protocol: b\r\n\r\n"), &["a", "b"]), Ok(Some("b".into())));
    for (line, why) in [
        ("Sec-WebSocket-Protocol: c", "which was not offered"),
        ("Sec-WebSocket-Protocol: a, b", "which was not offered"),
        ("Sec-WebSocket-Protocol: A", "which was not offered"),
        ("Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b", "more than one"),
        ("Sec-WebSocket-Extensions: permessage-deflate", "extension that was not offered"),
        ("Sec-WebSocket-Accept: again", "does not belong"),
    ] {
        let (kind, status, message) = response(&format!("{good}{line}\r\n\r\n"), &["a", "b"]).unwrap_err();
        assert_eq!((kind, status), (FailureKind::Protocol, Some(101)));
        assert!(message.contains(why), "{line}: {message}");
    }
}

#[test]
fn a_bad_response_is_explained() {
    let refused = response("HTTP/1.1 403 Forbidden\r\n\r\n", &[]).unwrap_err();
    let message = "the server answered 403 Forbidden instead of opening the WebSocket";
    assert_eq!(refused, (FailureKind::Refused, Some(403), message.into()));
    let (upgrade, connection) = ("Upgrade: websocket\r\n", "Connection: Upgrade\r\n");
    let accept = format!("Sec-WebSocket-Accept: {ACCEPT}\r\n");
    for (lines, why) in [
        (format!("{connection}{accept}"), "header Upgrade"),
        (format!("{upgrade}{accept}"), "header Connection"),
        (format!("{upgrade}{connection}"), "no header Sec-WebSocket-Accept"),
        (format!("{upgrade}{connection}Sec-WebSocket-Accept: AAAA\r\n"), "does not belong"),
    ] {
        let (kind, status, message) = response(&format!("HTTP/1.1 101 X\r\n{lines}\r\n"), &[]).unwrap_err();
        assert_eq!((kind, status), (FailureKind::Protocol, Some(101)));
        assert!(message.contains(why), "{message}");
    }
    assert!(response(&format!("HTTP/1.0 101 X\r\n{upgrade}{connection}{accept}\r\n"), &[]).is_err());
}
