"""Opening handshakes, good and bad: each gets a real HTTP answer, and no other connection notices."""
import pytest

from wire import BINARY, PING, PONG, TEXT, Peer, REQUEST_LINES, frame, request


def without(name):
    return [line for line in REQUEST_LINES if not line.lower().startswith(name)]


def instead(name, line):
    return [line if old.lower().startswith(name) else old for old in REQUEST_LINES]


def closes(head):
    """`Connection` lists `close`, alone or beside `upgrade` (RFC 9110 section 7.8 wants that one on a 426)."""
    values = [line.partition(":")[2] for line in head.splitlines() if line.startswith("connection:")]
    return "close" in [token.strip() for value in values for token in value.split(",")]


def test_the_accept_key_is_that_of_the_rfc(echo):
    with Peer(echo, request()) as peer:
        status, head, _ = peer.response()
        assert status == 101
        assert "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=" in head.splitlines()
        assert "sec-websocket-extensions" not in head


def test_frames_in_the_segment_of_the_request_are_not_lost(echo):
    with Peer(echo, request() + frame(TEXT, "early") + frame(PING, "p") + frame(BINARY, b"\x00" * 20000)) as peer:
        assert peer.response()[0] == 101
        assert [peer.frame() for _ in range(3)] == [(TEXT, b"early"), (PONG, b"p"), (BINARY, b"\x00" * 20000)]


def test_a_request_may_come_byte_by_byte(echo):
    with Peer(echo, b"") as peer:
        for byte in request("X-Long: " + "y" * 200):
            peer.send(bytes([byte]))
        assert peer.response()[0] == 101
        for byte in frame(TEXT, "slowly"):
            peer.send(bytes([byte]))
        assert peer.frame() == (TEXT, b"slowly")


REFUSED = {
    "no upgrade": (request(lines=without("upgrade")), {426}),
    "no connection header": (request(lines=without("connection")), {400, 426}),
    "another protocol": (request(lines=instead("upgrade", "Upgrade: h2c")), {400, 426}),
    "version 12": (request(lines=instead("sec-websocket-version", "Sec-WebSocket-Version: 12")), {426}),
    "no version": (request(lines=without("sec-websocket-version")), {426}),
    "two versions in one": (request(lines=instead("sec-websocket-version", "Sec-WebSocket-Version: 13, 8")), {426}),
    "POST": (request("Content-Length: 0", lines=instead("get", "POST / HTTP/1.1")), {405}),
    "HTTP/1.0": (request(lines=instead("get", "GET / HTTP/1.0")), {400, 426, 505}),
    "no key": (request(lines=without("sec-websocket-key")), {400}),
    "empty key": (request(lines=instead("sec-websocket-key", "Sec-WebSocket-Key:")), {400}),
    "short key": (request(lines=instead("sec-websocket-key", "Sec-WebSocket-Key: QQ==")), {400}),
    "key of 32 bytes": (request(lines=instead("sec-websocket-key", "Sec-WebSocket-Key: " + "A" * 43 + "=")), {400}),
    "key that is not base64": (request(lines=instead("sec-websocket-key", "Sec-WebSocket-Key: " + "!" * 22 + "==")), {400}),
    "two keys": (request("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), {400}),
    "no host": (request(lines=without("host")), {400}),
    "two hosts": (request("Host: elsewhere.example"), {400}),
    "a body": (request("Content-Length: 5") + b"hello", {400}),
    "a chunked body": (request("Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n", {400}),
    "two lengths": (request("Content-Length: 0", "Content-Length: 5"), {400}),
    "a folded header": (request("X-Folded: a", " b"), {400}),
    "space before the colon": (request("X-Space : a"), {400}),
    "NUL in a value": (request("X-Nul: a\0b"), {400}),
    "a bare CR": (request("X-Bare: a\rb"), {400}),
    "not HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n", {400}),
    "101 headers": (request(*(f"X-{i}: v" for i in range(101))), {431}),
    "2,000 short header names": (request(*(f"{chr(97 + i // 26 % 26)}{chr(97 + i % 26)}: v" for i in range(2000))), {431}),
    "a head of 17 KiB": (request("X-Long: " + "y" * 17 * 1024), {431}),
    "a head without end": (request("X-Long: " + "y" * 64 * 1024)[:-2], {431}),
    "a path of 20 KiB": (request(lines=instead("get", "GET /" + "a" * 20480 + " HTTP/1.1")), {431, 414}),
}


@pytest.mark.parametrize(("hello", "statuses"), REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_request_gets_an_http_answer(echo, hello, statuses):
    with Peer(echo) as other, Peer(echo, hello) as peer:
        status, head, _ = peer.response()
        assert status in statuses, head
        assert closes(head)
        assert status != 426 or "sec-websocket-version: 13" in head.splitlines()
        other.send(frame(TEXT, "others are served"))
        assert other.frame() == (TEXT, b"others are served")


ACCEPTED = {
    "unknown extensions": ["Sec-WebSocket-Extensions: constructor"],
    "an unclosed quote": ['Sec-WebSocket-Extensions: a; b="' + "\\c" * 2000],
    "a quoted comma": ['Sec-WebSocket-Extensions: x; y=",permessage-deflate; client_max_window_bits,"'],
    "a window of 7 bits": ["Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=7"],
    "a subprotocol list full of spaces": ["Sec-WebSocket-Protocol: b" + " " * 8000 + "x"],
}


@pytest.mark.parametrize("lines", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_odd_offers_are_declined_or_refused_but_never_chosen(echo, lines):
    with Peer(echo, request(*lines)) as peer:
        status, head, _ = peer.response()
        assert status in (101, 400)
        assert "sec-websocket-extensions" not in head and "sec-websocket-protocol" not in head


def test_header_names_and_tokens_are_compared_without_case(echo):
    lines = ["GET /any/path?a=b HTTP/1.1", "hOsT: localhost", "UPGRADE: WebSocket", "connection: keep-alive, uPGRADE",
             "SEC-WEBSOCKET-KEY: dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-version: 13"]
    with Peer(echo, request(lines=lines)) as peer:
        assert peer.response()[0] == 101


def test_the_answer_to_a_foreign_origin_says_which_option_allows_it(start):
    with Peer(start(), request("Origin: http://elsewhere.example")) as peer:
        status, head, body = peer.response()
        assert status == 403 and closes(head)
        assert b"origin" in body.lower()


def test_a_slow_request_gets_408_and_a_silent_peer_the_end(echo):
    with Peer(echo, request()[:-2]) as slow, Peer(echo, b"") as silent:   # both wait for the same 10 s
        slow.socket.settimeout(20)
        silent.socket.settimeout(20)
        assert slow.response()[0] == 408
        assert silent.rest() == b""


def test_a_reset_behind_the_request_harms_nobody(echo):
    with Peer(echo) as other:
        for _ in range(50):
            Peer(echo, request()).vanish()
        other.send(frame(TEXT, "others are served"))
        assert other.frame() == (TEXT, b"others are served")
