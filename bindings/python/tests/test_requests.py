"""The request hook: what it sees, and each of its answers."""
import http.client
import socket
import weakref

import pytest
from conftest import DEADLINE

import wsx


def asked(turns, hook, path="/", method="GET", headers=(), **options):
    """A plain HTTP request, and its answer as status, headers, body."""
    listener = turns.loop.listen("127.0.0.1:0", on_request=hook, **options)
    peer = http.client.HTTPConnection(*listener.local_address, timeout=DEADLINE)
    peer.request(method, path, headers=dict(headers))
    peer.sock.setblocking(False)
    received = b""

    def ended():
        nonlocal received
        try:
            more = peer.sock.recv(65536)
        except BlockingIOError:
            return False
        received += more
        return not more

    turns.until(ended)
    peer.sock.close()
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    return int(lines[0].split()[1]), wsx.Headers(tuple(line.split(": ", 1)) for line in lines[1:]), body


def test_the_hook_sees_the_request(turns):
    def hook(request):
        turns.say(request.method, request.path, request.query, request.is_upgrade, request.subprotocols)
        turns.say(request.remote_address[0], request.headers["x-one"], request.headers.get_all("X-Two"),
                  request.headers.get("nothing"), "cookie" in request.headers)
        return wsx.Response.reject(418, "short and stout\n", headers={"X-Pot": "tea"})

    status, headers, body = asked(turns, hook, "/a%20b?c=d&e", "HEAD", {"X-One": "1", "X-Two": "2", "Cookie": "a=b"})
    assert turns.heard == [("HEAD", "/a%20b", "c=d&e", False, []), ("127.0.0.1", "1", ["2"], None, True)]
    assert (status, body, headers["x-pot"]) == (418, b"", "tea")


def test_a_page_is_served(turns):
    page = wsx.Response.page("<p>Grüße</p>", headers=[("X-A", "1"), ("X-A", "2")])
    status, headers, body = asked(turns, lambda request: page)
    assert (status, body.decode(), headers["content-type"]) == (200, "<p>Grüße</p>", "text/html; charset=utf-8")
    assert headers.get_all("X-A") == ["1", "2"]
    status, headers, body = asked(turns, lambda _: wsx.Response.page(b"\0\1", "application/octet-stream", 404))
    assert (status, body, headers["content-type"]) == (404, b"\0\1", "application/octet-stream")


def test_a_stream_is_written_to_and_ends(turns):
    def hook(request):
        def write():
            request.connection.write("data: one\n\n")
            request.connection.write(b"data: two\n\n")
            request.connection.close()
        turns.loop.post(write)
        return wsx.Response.stream("text/event-stream")

    status, headers, body = asked(turns, hook)
    assert status == 200 and headers["content-type"] == "text/event-stream"
    assert b"data: one\n\n" in body and b"data: two\n\n" in body


def test_none_accepts_and_a_plain_request_gets_426(turns):
    status, _, body = asked(turns, lambda request: None)
    assert status == 426 and b"WebSocket" in body


def test_a_subprotocol_and_headers_are_chosen(turns):
    listener = turns.loop.listen(
        "127.0.0.1:0", on_request=lambda request: wsx.Response.accept(request.subprotocols[1], {"X-Room": "1"}))
    turns.loop.connect(f"ws://{listener}/", subprotocols=["one", "two"], on_open=lambda connection, opening: turns.say(
        "open", opening.subprotocol, connection.subprotocol, opening.headers["x-room"], opening.request))
    turns.until_heard("open", "two", "two", "1", None)


def test_a_client_hears_that_it_was_rejected(turns):
    listener = turns.loop.listen("127.0.0.1:0", on_request=lambda _: wsx.Response.reject(403, "members only"))
    turns.loop.connect(f"ws://{listener}/", on_error=lambda _, failure: turns.say(failure.kind, failure.http_status))
    turns.until_heard("refused", 403)


@pytest.mark.parametrize("answer", [5, "yes", wsx.State.OPEN], ids=repr)
def test_what_is_no_answer_is_a_500_and_logged(turns, logged, answer):
    status, _, _ = asked(turns, lambda request: answer)
    assert status == 500
    assert [record.exc_info[0] for record in logged] == [TypeError]


def test_a_hook_that_raises_is_a_500_and_logged_once(turns, logged):
    def hook(request):
        raise KeyError("nothing there")

    status, _, _ = asked(turns, hook)
    assert status == 500
    turns.loop.turn(0)
    assert [record.exc_info[0] for record in logged] == [KeyError]


def test_a_subprotocol_nobody_offered_is_a_500_and_logged(turns, logged):
    listener = turns.loop.listen("127.0.0.1:0", on_request=lambda _: wsx.Response.accept("unheard-of"))
    turns.loop.connect(f"ws://{listener}/", on_error=lambda _, failure: turns.say(failure.http_status))
    turns.until_heard(500)
    turns.until(lambda: logged)
    assert "unheard-of" in logged[0].getMessage()


def test_headers_that_would_smuggle_are_refused():
    for headers in ({"X-A": "1\r\nX-B: 2"}, {"X A": "1"}, {"Connection": "close"}, [("Upgrade", "x")]):
        with pytest.raises(ValueError, match="header"):
            wsx.Response.accept(headers=headers)
    with pytest.raises(ValueError, match="header"):
        wsx.Response.page("", "text/html\r\nX-A: 1")


def test_an_origin_that_is_not_listed_gets_403(turns):
    headers = {"Origin": "https://elsewhere.example", "Upgrade": "websocket", "Connection": "Upgrade",
               "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}
    assert asked(turns, None, headers=headers)[0] == 403
    listener = turns.loop.listen("127.0.0.1:0", origins=["https://elsewhere.example"])
    turns.loop.connect(f"ws://{listener}/", headers=[("Origin", "https://elsewhere.example")],
                       on_open=lambda *_: turns.say("open"))
    turns.until_heard("open")


def test_a_listener_that_is_closed_frees_its_address(turns):
    listener = turns.loop.listen("127.0.0.1:0")
    address = listener.local_address
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    with pytest.raises(wsx.ConnectionClosed):
        listener.local_address


def test_an_answer_comes_later_and_the_connection_is_the_same(turns):
    waiting = []

    def hook(request):
        request.connection.data = request.cookies
        waiting.append(request.connection)
        return wsx.LATER

    def on_open(connection, opening):
        turns.say(connection is waiting[0], connection.data, opening.request.path)

    listener = turns.loop.listen("127.0.0.1:0", on_request=hook, on_open=on_open,
                                 after_deferral=lambda connection, is_answered: turns.say(connection in waiting, is_answered))
    port = listener.local_address[1]
    turns.loop.connect(f"ws://127.0.0.1:{port}/first", headers={"Cookie": "a=b; c"})
    turns.until(lambda: len(waiting) == 1)
    # Others that ask meanwhile are others.
    turns.loop.connect(f"ws://127.0.0.1:{port}/second", on_error=lambda _, failure: turns.say(failure.http_status))
    turns.until(lambda: len(waiting) == 2)
    assert turns.heard == [] and waiting[0].ready_state == wsx.State.CONNECTING
    waiting[0].respond()
    turns.until(lambda: len(turns.heard) == 2)
    assert turns.heard == [(True, True), (True, {"a": "b"}, "/first")]
    with pytest.raises(wsx.InvalidState, match="no answer is awaited"):
        waiting[0].respond()
    with pytest.raises(TypeError):
        waiting[1].respond(403)
    with pytest.raises(ValueError, match="cannot be deferred again"):
        waiting[1].respond(wsx.LATER)
    waiting[1].respond(wsx.Response.reject(403))
    turns.until(lambda: len(turns.heard) == 4)
    assert turns.heard[2:] == [(True, True), (403,)]
    with pytest.raises(wsx.ConnectionClosed):
        turns.loop.turn(0)
        waiting[1].respond()


@pytest.mark.parametrize("answers", ["before the hook returns", "later"])
def test_a_stream_that_is_answered_with_later_keeps_its_connection(turns, answers):
    """Also where the program forgets it, and others ask meanwhile."""
    def hook(request):
        connection = request.connection
        if request.path == "/other":
            return wsx.Response.reject(404)
        connection.data = "what was kept"
        if answers == "later":
            turns.loop.post(connection.respond, wsx.Response.stream("text/plain"))
        else:
            connection.respond(wsx.Response.stream("text/plain"))
        return wsx.LATER

    listener = turns.loop.listen("127.0.0.1:0", on_request=hook, after_deferral=lambda *_: turns.say("deferred"),
                                 on_close=lambda connection, close: turns.say("close", connection.data))
    with socket.create_connection(listener.local_address) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        turns.until_heard("deferred")
        turns.loop.connect(f"ws://{listener}/other", on_error=lambda _, failure: turns.say(failure.http_status))
        turns.until_heard(404)
    turns.until_heard("close", "what was kept")


def test_a_stream_that_was_no_answer_is_not_kept(turns):
    asked = []

    def answer(connection):
        connection.respond(wsx.Response.reject(403))
        with pytest.raises(wsx.InvalidState):
            connection.respond(wsx.Response.stream("text/plain"))

    def hook(request):
        asked.append(weakref.ref(request.connection))
        turns.loop.post(answer, request.connection)
        return wsx.LATER

    listener = turns.loop.listen("127.0.0.1:0", on_request=hook)
    for number in range(2):
        turns.loop.connect(f"ws://{listener}/", on_error=lambda _, failure: turns.say(failure.http_status))
        turns.until(lambda: len(turns.heard) == number + 1)
    assert turns.heard == [(403,)] * 2 and asked[0]() is None


def test_requests_that_come_to_nothing_are_forgotten(turns):
    asked = []

    def hook(request):
        asked.append(weakref.ref(request.connection))
        return wsx.LATER

    listener = turns.loop.listen("127.0.0.1:0", on_request=hook)
    for number in range(20):
        with socket.create_connection(listener.local_address) as peer:
            peer.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            turns.until(lambda: len(asked) == number + 1)
            assert asked[number]() is not None
    turns.until(lambda: asked[-1]() is None)
    assert [reference() for reference in asked] == [None] * 20
