//! Heads that are read, refused and written, each as a peer may send it.

use super::*;

const MAX: usize = 16 * 1024;

fn status(head: &str) -> u16 {
    let mut scanned = 0;
    match scan_head(head.as_bytes(), &mut scanned, MAX) {
        Ok(end) => assert_eq!(end, Some(head.len()), "{head:?}"),
        Err(error) => return error.status,
    }
    let mut storage = [MaybeUninit::uninit(); 100];
    parse_request(head.as_bytes(), &mut storage).map_or_else(|error| error.status, |_| 200)
}

fn with_header(line: &str) -> u16 {
    status(&format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"))
}

#[test]
fn a_request_is_parsed() {
    let head = b"GET /chat?room=1 HTTP/1.1\r\nHost: example.org:80\r\nX-Empty:\r\nX-Tab: \ta b\t\r\n\r\n";
    let mut storage = [MaybeUninit::uninit(); 3];
    let request = parse_request(head, &mut storage).unwrap();
    assert_eq!((request.method, request.target, request.version), ("GET", "/chat?room=1", 1));
    let values: Vec<&[u8]> = request.headers.iter().map(|header| header.value).collect();
    assert_eq!(values, [&b"example.org:80"[..], b"", b"a b"]);
}

#[test]
fn the_target_is_a_path_or_reduced_to_one() {
    for (target, expected) in [("/a?b", "/a?b"), ("http://h/p?q", "/p?q"), ("ws://h:1", "/"), ("/x://y", "/x://y")] {
        assert_eq!(origin_form(target).unwrap(), expected);
    }
    for target in ["*", "h:80", "http://h?q", "https://h/", "ftp://h/", "/a#b", "chat"] {
        assert_eq!(origin_form(target).unwrap_err().status, 400, "{target}");
    }
}

#[test]
fn http_1_0_needs_no_host() {
    assert_eq!(status("GET / HTTP/1.0\r\n\r\n"), 200);
    assert_eq!(status("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), 400);
}

#[test]
fn hostile_1_a_dripped_head_is_scanned_once_and_stops_at_the_limit() {
    let mut head = b"GET / HTTP/1.1\r\nX: ".to_vec();
    head.resize(MAX + 1, b'a');
    let mut scanned = 0;
    for end in 0..MAX {
        assert_eq!(scan_head(&head[..end], &mut scanned, MAX).unwrap(), None);
        assert_eq!(scanned, end);
    }
    assert_eq!(scan_head(&head[..MAX], &mut scanned, MAX).unwrap_err().status, 431);
    assert_eq!(scan_head(&head, &mut 0, MAX).unwrap_err().status, 431);
}

#[test]
fn a_head_is_found_at_every_cut() {
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\x81\x80";
    let end = bytes.len() - 2;
    for cut in 0..end {
        let mut scanned = 0;
        assert_eq!(scan_head(&bytes[..cut], &mut scanned, end).unwrap(), None);
        assert_eq!(scan_head(bytes, &mut scanned, end).unwrap(), Some(end));
    }
}

#[test]
fn hostile_2_too_many_headers_are_431() {
    let head = |count| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(count));
    assert_eq!(status(&head(99)), 200);
    assert_eq!(status(&head(100)), 431);
    assert_eq!(status(&head(2000)), 431);
}

#[test]
fn hostile_12_and_13_announced_bodies_are_refused() {
    for line in [
        "Content-Length: 5",
        "Content-Length: +0",
        "Content-Length: 0, 0",
        "Content-Length: 0\r\nContent-Length: 5",
        "Transfer-Encoding: chunked",
        "transfer-encoding: chunked, identity",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
    ] {
        assert_eq!(with_header(line), 400, "{line}");
    }
    assert_eq!(with_header("Content-Length: 0"), 200);
}

#[test]
fn hostile_14_what_parsers_disagree_on_is_refused() {
    for line in ["X: a\r\n b", "X : a", " X: a", "X: a\0b", "X: a\rb", "X: a\nY: b", "X", ": a", "Host: b", "X: \x7f"] {
        assert_eq!(with_header(line), 400, "{line:?}");
    }
    assert_eq!(status("GET / HTTP/1.1\r\nX: y\r\n\r\n"), 400);
    assert_eq!(status("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), 400);
    assert_eq!(status("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), 400);
    assert_eq!(status("GET / HTTP/1.1\nHost: a\n\n"), 400);
    assert_eq!(status("GET  / HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    assert_eq!(status("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
}

#[test]
fn hostile_15_bytes_after_the_head_do_not_count() {
    let mut bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    let end = bytes.len();
    bytes.resize(100_000, b'\n');
    assert_eq!(scan_head(&bytes, &mut 0, end).unwrap(), Some(end));
    assert_eq!(scan_head(&bytes, &mut 0, end - 1).unwrap_err().status, 431);
}

#[test]
fn hostile_17_what_is_not_http_is_refused_at_once() {
    for junk in [&b"\x16\x03\x01\x02\0\x01"[..], b"\x16", b"\0", b" GET", b"\x81\x85", b"GET\0", b"GET\t/", b"\r\n"] {
        assert_eq!(scan_head(junk, &mut 0, MAX).unwrap_err().status, 400, "{junk:x?}");
    }
    assert_eq!(scan_head(&[b'A'; 32], &mut 0, MAX).unwrap_err().status, 400);
    assert_eq!(scan_head(b"HTTP/1.1 101", &mut 0, MAX).unwrap(), None);
}

#[test]
fn a_response_is_parsed_or_explained() {
    let mut storage = [MaybeUninit::uninit(); 1];
    let response = parse_response(b"HTTP/1.1 403 Go away\r\nA: b\r\n\r\n", &mut storage).unwrap();
    assert_eq!((response.status, response.reason, response.version), (403, "Go away", 1));
    assert_eq!(response.headers[0].value, b"b");
    for bad in ["HTTP/2 200 OK\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "HTTP/1.1 200"] {
        assert!(parse_response(bad.as_bytes(), &mut [MaybeUninit::uninit(); 1]).is_err(), "{bad}");
    }
    let error =
        parse_response(b"HTTP/1.1 200 OK\r\nA: b\r\nC: d\r\n\r\n", &mut [MaybeUninit::uninit(); 1]).unwrap_err();
    assert!(error.message.contains("max_headers (1)"));
    assert_eq!(error.limit, Some(Limit::new("max_headers", Figure::Count(1))));
}

fn written(status: u16, body: Body<'_>) -> String {
    let mut out = Vec::new();
    write_response(&mut out, status, &[("Content-Type", "text/plain")], body);
    String::from_utf8(out).unwrap()
}

#[test]
fn responses_are_written_with_the_headers_of_their_body() {
    let expected =
        "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
    assert_eq!(written(404, Body::Whole(b"no")), expected);
    assert_eq!(written(404, Body::Omitted(2)), &expected[..expected.len() - 2]);
    assert!(written(200, Body::Chunked).contains("\r\nTransfer-Encoding: chunked\r\n"));
    assert!(!written(200, Body::UntilClose).contains("chunked"));
    let upgrade = written(426, Body::Whole(b""));
    assert!(upgrade.contains("\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nConnection: upgrade, close\r\n"));
    let empty = written(204, Body::Whole(b"lost"));
    assert!(empty.ends_with("Connection: close\r\n\r\n") && !empty.contains("Content-Length"));
    assert_eq!((reason_phrase(431), reason_phrase(599)), ("Request Header Fields Too Large", ""));
}

#[test]
fn a_list_names_its_items_without_regard_to_case_space_and_headers() {
    let header = |value| Header { name: "Connection", value };
    let headers = [header(&b"Keep-ALIVE,\tUpgrade "[..]), header(b"\xff,,close")];
    for (item, is_there) in [("upgrade", true), ("keep-alive", true), ("close", true), ("up", false), ("", true)] {
        assert_eq!(lists(&headers, "connection", item), is_there, "{item}");
    }
    assert!(!lists(&headers, "upgrade", "upgrade") && !lists(&[header(b"upgraded")], "connection", "upgrade"));
}

#[test]
fn chunks_are_written_and_an_empty_one_is_not() {
    let mut out = Vec::new();
    write_chunk(&mut out, b"");
    write_chunk(&mut out, &[b'x'; 17]);
    out.extend_from_slice(LAST_CHUNK);
    assert_eq!(out, b"11\r\nxxxxxxxxxxxxxxxxx\r\n0\r\n\r\n");
}
