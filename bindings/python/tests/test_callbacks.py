"""The callback layer: what is heard, in which order, and what calls do."""
import gc
import socket
import weakref

import pytest

import wsx

HANDSHAKE = (b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
MESSAGES = ["", "text", "Grüße, 日本語, 👩‍🚀", "a\0b", b"", bytes(range(256)), "x" * 70_000, b"y" * 1_000_000]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: f"{type(message).__name__} {len(message)}")
def test_a_message_comes_back_with_its_type(turns, message):
    def heard(connection, message):
        turns.say("came", message)

    _, client = turns.pair(server={"on_message": lambda connection, message: connection.send(message)},
                           client={"on_message": heard})
    client.send(message)
    turns.until_heard("came", message)


@pytest.mark.parametrize("message", [bytearray(b"abc"), memoryview(b"xabcx")[1:4], memoryview(b"a-b-c")[::2]],
                         ids=["bytearray", "memoryview", "strided memoryview"])
def test_whatever_has_bytes_is_sent_as_binary(turns, message):
    server, client = turns.pair(server={"on_message": lambda _, message: turns.say("came", message)})
    client.send(message)
    turns.until_heard("came", b"abc")


@pytest.mark.parametrize("message", [None, 5, ["a"], [1, 2], object()], ids=repr)
def test_what_is_neither_text_nor_bytes_is_refused(turns, message):
    _, client = turns.pair()
    with pytest.raises(TypeError, match="str or bytes-like"):
        client.send(message)
    with pytest.raises(UnicodeEncodeError):
        client.send("\ud800")


def test_a_connection_is_heard_of_from_open_to_close_in_order(turns):
    class Server(wsx.Handler):
        def on_open(self, connection, opening):
            turns.say("open", opening.request.path, opening.request.query, opening.request.headers["HOST"])

        def on_message(self, connection, message):
            turns.say("message", message)

        def on_close(self, connection, close):
            turns.say("close", close.code, close.reason, close.was_clean, close.by, close.failure)

    listener = turns.loop.listen("127.0.0.1:0", Server())
    client = turns.loop.connect(f"ws://{listener}/path?query=1", on_open=lambda connection, _: connection.send("hello"))
    turns.until_heard("message", "hello")
    client.close(4000, "enough")
    turns.until(lambda: turns.heard[-1][0] == "close")
    assert turns.heard == [("open", "/path", "query=1", str(listener)), ("message", "hello"),
                           ("close", 4000, "enough", True, "peer", None)]


def test_a_function_goes_before_the_method(turns):
    class Server(wsx.Handler):
        def on_message(self, connection, message):
            turns.say("method")

    listener = turns.loop.listen("127.0.0.1:0", Server(), on_message=lambda *_: turns.say("function"))
    turns.loop.connect(f"ws://{listener}/", on_open=lambda connection, _: connection.send("hello"))
    turns.until_heard("function")
    assert ("method",) not in turns.heard


def test_any_object_with_the_methods_is_a_handler(turns):
    class Duck:
        def on_message(self, connection, message):
            turns.say("quack")

    listener = turns.loop.listen("127.0.0.1:0", Duck())
    turns.loop.connect(f"ws://{listener}/", on_open=lambda connection, _: connection.send("hello"))
    turns.until_heard("quack")


def test_a_connection_is_one_object_with_a_place_for_data(turns):
    seen = []

    class Server(wsx.Handler):
        def on_request(self, request):
            seen.append(request.connection)
            request.connection.data = "from the request"

        def on_open(self, connection, opening):
            seen.extend([connection, opening.request.connection])

        def on_message(self, connection, message):
            seen.append(connection)

        def on_close(self, connection, close):
            seen.append(connection)

    listener = turns.loop.listen("127.0.0.1:0", Server())
    client = turns.loop.connect(f"ws://{listener}/", on_open=lambda connection, _: connection.send("hello"))
    turns.until(lambda: len(seen) == 4)
    seen.extend(turns.loop.connections + listener.connections)
    assert turns.loop.connection_count == listener.connection_count == 1
    client.close()
    turns.until(lambda: len(seen) == 7)
    assert len(set(map(id, seen))) == 1 and seen[0].data == "from the request"


def test_the_memory_of_a_connection_goes_with_it(turns):
    class Data:
        pass

    def on_open(connection, opening):
        data = connection.data = Data()
        data.connection, data.opening = connection, opening   # a cycle
        kept.append(weakref.ref(data))

    kept = []
    listener = turns.loop.listen("127.0.0.1:0", on_open=on_open, on_close=lambda *_: turns.say("close"))
    client = turns.loop.connect(f"ws://{listener}/", on_open=lambda *_: turns.say("open"))
    turns.until_heard("open")
    assert kept[0]() is not None
    client.close()
    turns.until_heard("close")
    gc.collect()
    assert kept[0]() is None


def test_a_loop_that_is_only_forgotten_is_collected_with_its_cycles():
    class Server(wsx.Handler):
        def __init__(self, loop):
            self.loop = loop

        def on_close(self, connection, close):
            told.append(close)

    told = []
    loop = wsx.EventLoop()
    handler = Server(loop)
    listener = loop.listen("127.0.0.1:0", handler)
    address = listener.local_address
    loop.connect(f"ws://{listener}/", handler)
    for _ in range(10):
        loop.turn(0)
    gone = weakref.ref(loop), weakref.ref(handler)
    del loop, handler, listener
    gc.collect()
    assert [one() for one in gone] == [None, None] and told == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_what_is_done_after_the_end_is_told_by_an_exception(turns):
    server, client = turns.pair(client={"on_close": lambda connection, _: turns.say("close", connection.ready_state)})
    client.close()
    with pytest.raises(wsx.ConnectionClosed, match="closed"):
        client.close()
    with pytest.raises(wsx.ConnectionClosed):
        client.send("too late")
    turns.until(lambda: turns.heard)
    for call in (lambda: client.send("x"), client.ping, client.terminate, client.pause, lambda: client.subscribe("x"),
                 lambda: client.remote_address, lambda: client.buffered_amount, lambda: client.subprotocol):
        with pytest.raises(wsx.ConnectionClosed, match="the connection or listener is closed"):
            call()
    assert client.ready_state is wsx.State.CLOSED and "CLOSED" in repr(client)


def test_a_closed_loop_says_so():
    loop = wsx.EventLoop()
    loop.close()
    loop.close()
    assert loop.is_closed
    for call in (loop.run, lambda: loop.turn(0), lambda: loop.listen("127.0.0.1:0"), loop.flush, loop.next_deadline,
                 lambda: loop.broadcast("x"), loop.stop, lambda: loop.post(print), lambda: loop.call_later(1, print)):
        with pytest.raises(wsx.LoopClosed, match="the event loop is gone"):
            call()


def test_closing_a_loop_tells_every_connection(turns):
    turns.pair(server={"on_close": lambda _, close: turns.say("server", close.code)},
               client={"on_close": lambda _, close: turns.say("client", close.code)})
    turns.loop.close()
    assert sorted(name for name, _ in turns.heard) == ["client", "server"]


def test_a_loop_can_be_closed_from_its_own_callback(turns):
    def on_message(connection, message):
        turns.loop.close()
        turns.say("closing")

    _, client = turns.pair(server={"on_message": on_message, "on_close": lambda *_: turns.say("close")})
    client.send("x")
    turns.loop.run()
    assert turns.heard == [("closing",), ("close",)] and turns.loop.is_closed


def test_turns_do_not_nest(turns):
    def on_message(connection, message):
        for call in (turns.loop.run, lambda: turns.loop.turn(0)):
            with pytest.raises(RuntimeError, match="cannot be called from inside a callback"):
                call()
        turns.say("refused")

    _, client = turns.pair(server={"on_message": on_message})
    client.send("x")
    turns.until_heard("refused")


def test_pings_and_pongs_are_heard(turns):
    server, client = turns.pair(server={"on_ping": lambda _, payload: turns.say("ping", payload)},
                                client={"on_pong": lambda _, payload: turns.say("pong", payload)})
    client.ping(b"there?")
    turns.until_heard("pong", b"there?")
    assert ("ping", b"there?") in turns.heard
    server.pong(b"unasked")
    turns.until_heard("pong", b"unasked")
    with pytest.raises(ValueError, match="125"):
        client.ping(b"x" * 126)


def test_fragments_are_handed_over_where_they_are_asked_for(turns):
    def on_fragment(connection, fragment):
        turns.say("fragment", fragment.payload, fragment.is_text, fragment.is_first, fragment.is_last)

    listener = turns.loop.listen("127.0.0.1:0", on_fragment=on_fragment, deliver_fragments=True)
    with socket.create_connection(listener.local_address) as peer:
        peer.sendall(HANDSHAKE + b"\x01\x81\0\0\0\0a\x80\x81\0\0\0\0b")
        turns.until(lambda: len(turns.heard) == 2)
    assert turns.heard == [("fragment", b"a", True, True, False), ("fragment", b"b", True, False, True)]


def test_a_fragment_callback_that_raises_closes_with_1011(turns, logged):
    def on_fragment(connection, fragment):
        raise ValueError(fragment.payload)

    listener = turns.loop.listen("127.0.0.1:0", on_fragment=on_fragment, deliver_fragments=True,
                                 on_error=lambda _, failure: turns.say("failed", failure.kind))
    with socket.create_connection(listener.local_address) as peer:
        peer.sendall(HANDSHAKE + b"\x01\x81\0\0\0\0a")
        turns.until(lambda: logged)
        peer.shutdown(socket.SHUT_WR)
        turns.until_heard("failed", "callback")


def test_a_paused_connection_is_not_read(turns):
    server, client = turns.pair(server={"on_message": lambda _, message: turns.say("came", message)},
                                client={"on_pong": lambda *_: turns.say("pong")})
    server.pause()
    client.send("held")
    second = turns.loop.connect(f"ws://127.0.0.1:{client.remote_address[1]}/", on_open=lambda *_: turns.say("open"))
    turns.until_heard("open")
    assert ("came", "held") not in turns.heard and second is not client
    server.resume()
    turns.until_heard("came", "held")


def test_a_full_backlog_refuses_and_drains(turns):
    server, client = turns.pair(server={"on_drain": lambda _: turns.say("drain")},
                                client={"on_message": lambda _, message: turns.say("came", len(message))},
                                backlog_policy="refuse", backlog_limit=100_000)
    client.pause()
    with pytest.raises(wsx.BacklogFull, match="wait for on_drain") as full:
        for _ in range(1000):
            server.send(b"x" * 90_000)
    assert full.value.limit == 100_000 and full.value.backlog == server.buffered_amount > 10_000
    client.resume()
    turns.until_heard("drain")


def test_broadcast_and_topics_reach_whom_they_name(turns):
    connections = []
    listener = turns.loop.listen("127.0.0.1:0", on_open=lambda connection, _: connections.append(connection))
    for name in "abc":
        turns.loop.connect(f"ws://{listener}/", on_message=lambda _, message, name=name: turns.say(name, message))
    turns.until(lambda: len(connections) == 3)
    turns.loop.broadcast("all", exclude=connections[0])
    listener.broadcast(b"all")
    for connection in connections[:2]:
        connection.subscribe("topic")
    assert turns.loop.subscriber_count("topic") == 2
    turns.loop.publish("topic", "topic")
    turns.loop.publish("topic", "topic but one", exclude=connections[1])
    connections[0].unsubscribe("topic")
    turns.loop.publish("topic", "topic less one")
    turns.until(lambda: len(turns.heard) == 2 + 3 + 2 + 1 + 1)
    texts = [message for _, message in turns.heard]
    assert {text: texts.count(text) for text in texts} == {
        "all": 2, b"all": 3, "topic": 2, "topic but one": 1, "topic less one": 1}
    with pytest.raises(ValueError, match="255"):
        turns.loop.publish("x" * 256, "too long a name")


def test_timers_and_posted_functions_run_once(turns):
    turns.loop.post(turns.say, "posted", 1)
    turns.loop.call_later(0.01, turns.say, "late", 2)
    turns.loop.call_later(0.005, turns.say, "never").cancel()
    turns.until_heard("late", 2)
    assert turns.heard == [("posted", 1), ("late", 2)]


def test_a_failed_connect_is_told_as_error_then_close(turns):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    turns.loop.connect(f"ws://127.0.0.1:{port}/",
                       on_error=lambda _, failure: turns.say("error", failure.stage, failure.kind, failure.os_error),
                       on_close=lambda _, close: turns.say("close", close.code, str(close.failure)))
    turns.until(lambda: len(turns.heard) == 2)
    assert turns.heard[0] == ("error", "connect", "transport", 111)
    assert turns.heard[1][:2] == ("close", 1006) and f"127.0.0.1:{port}" in turns.heard[1][2]


def test_a_socket_of_the_program_can_be_adopted(turns):
    bound = socket.create_server(("127.0.0.1", 0))
    port = bound.getsockname()[1]
    listener = turns.loop.adopt(bound.detach(), on_message=lambda _, message: turns.say("came", message))
    assert listener.local_address == ("127.0.0.1", port)
    turns.loop.connect(f"ws://{listener}/", on_open=lambda connection, _: connection.send("hello"))
    turns.until_heard("came", "hello")


def test_unix_sockets_and_ipv6(turns, tmp_path):
    path = tmp_path / "socket"
    unix = turns.loop.listen(f"unix:{path}", on_message=lambda _, message: turns.say("unix", message))
    assert unix.local_address == str(path) and str(unix) == f"unix:{path}"
    turns.loop.connect(f"ws+unix:{path}:/", on_open=lambda connection, _: connection.send("hello"))
    turns.until_heard("unix", "hello")
    six = turns.loop.listen("[::1]:0", on_open=lambda connection, _: turns.say("six", connection.remote_address[0]))
    assert six.local_address[0] == "::1" and len(six.local_address) == 4
    turns.loop.connect(f"ws://{six}/")
    turns.until_heard("six", "::1")
