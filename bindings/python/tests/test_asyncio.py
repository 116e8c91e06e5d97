"""`connect` and `serve` on asyncio and uvloop."""
import asyncio
import contextlib
import gc
import logging
import socket
import threading
import weakref

import pytest
import websockets
from conftest import DEADLINE, wake_ups

import wsx
import wsx.asyncio


async def echo(ws):
    async for message in ws:
        await ws.send(message)


@contextlib.asynccontextmanager
async def served(handler=echo, **options):
    """A server, and the URI to connect to."""
    async with wsx.serve(handler, "127.0.0.1", 0, **options) as server:
        yield server, "ws://%s:%d/" % server.addresses[0]


async def until(condition):
    """Waits until something holds that no event tells of."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("message", ["", "Grüße, 👩‍🚀", b"", bytes(range(256)), "x" * 1_000_000], ids=len)
async def test_a_message_comes_back_with_its_type(message):
    async with served() as (_, uri), wsx.connect(uri) as ws:
        await ws.send(message)
        assert await ws.recv() == message


async def test_many_messages_come_back_in_order():
    async with served() as (_, uri), wsx.connect(uri) as ws:
        sent = [f"{number} {'x' * (number * 37 % 3000)}" for number in range(2000)]

        async def send():
            for message in sent:
                await ws.send(message)

        task = asyncio.create_task(send())
        assert [await ws.recv() for _ in sent] == sent
        await task


async def test_connect_and_serve_may_be_awaited():
    server = await wsx.serve(echo, "127.0.0.1", 0)
    ws = await wsx.connect("ws://%s:%d/" % server.addresses[0])
    async with ws:
        await ws.send("x")
        assert await ws.recv() == "x"
        assert ws.state is wsx.State.OPEN and server.is_serving() and len(server.connections) == 1
    assert ws.state is wsx.State.CLOSED
    server.close()
    await server.wait_closed()
    assert not server.is_serving() and not server.connections


async def test_every_interface_and_several_are_listened_on():
    async with wsx.serve(echo) as server:
        port = server.addresses[0][1]
        for host in ("127.0.0.1", "[::1]") if socket.has_dualstack_ipv6() else ("127.0.0.1",):
            async with wsx.connect(f"ws://{host}:{port}/") as ws:
                await ws.send("x")
                assert await ws.recv() == "x"
    async with wsx.serve(echo, ["127.0.0.1", "127.0.0.2"]) as server:
        for address in server.addresses:
            async with wsx.connect("ws://%s:%d/" % address):
                server.broadcast("to all")
    with pytest.raises(OSError, match="192.0.2.1"):
        await wsx.serve(echo, ["127.0.0.1", "192.0.2.1"])


async def test_iteration_ends_in_order():
    async def talk(ws):
        for number in range(3):
            await ws.send(str(number))
        await ws.close(1001, "no more")

    async with served(talk) as (_, uri), wsx.connect(uri) as ws:
        assert [message async for message in ws] == ["0", "1", "2"]
        with pytest.raises(wsx.ConnectionClosedOK) as closed:
            await ws.recv()
        assert (closed.value.code, closed.value.reason) == (1001, "no more")
        assert closed.value.rcvd == closed.value.sent == wsx.CloseFrame(1001, "no more")
        assert closed.value.rcvd_then_sent is True and "received 1001 no more; then sent" in str(closed.value)
        assert (ws.close_code, ws.close_reason) == (1001, "no more") and ws.close_info.by == "peer"


async def test_iteration_tells_an_end_out_of_order():
    async def fail(ws):
        await ws.send("last words")
        await ws.close(4000, "trouble")

    async with served(fail) as (_, uri), wsx.connect(uri) as ws:
        with pytest.raises(wsx.ConnectionClosedError, match="4000 trouble"):
            async for message in ws:
                assert message == "last words"


async def test_a_connection_that_is_cut_is_told_with_its_cause():
    async def cut(ws):
        ws.terminate()
        await ws.wait_closed()

    async with served(cut) as (_, uri), wsx.connect(uri) as ws:
        with pytest.raises(wsx.ConnectionClosedError) as closed:
            await ws.recv()
        assert closed.value.code == 1006 and closed.value.rcvd is None and closed.value.sent is None
        assert closed.value.cause and closed.value.cause in str(closed.value)
        with pytest.raises(wsx.ConnectionClosedError):
            await ws.send("too late")
        with pytest.raises(wsx.ConnectionClosedError):
            await ws.ping()
        await ws.close()


async def test_a_limit_is_told_to_both_sides():
    seen = []

    async def handler(ws):
        try:
            await ws.recv()
        except wsx.ConnectionClosed as error:
            seen.append(error)

    async with served(handler, max_size=10) as (server, uri):
        async with wsx.connect(uri) as ws:
            await ws.send("x" * 11)
            with pytest.raises(wsx.ConnectionClosedError) as closed:
                await ws.recv()
            assert closed.value.rcvd.code == 1009
        await until(lambda: seen)
        assert seen[0].sent.code == 1009 and "10" in seen[0].cause
        close, failure = seen[0].close, seen[0].failure
        assert (close.code, close.by, close.undelivered_messages, str(close)) == (1009, "us", 0, close.text)
        assert close.text.startswith("closed by us with 1009 (message too big), not clean; failed at WebSocket: ")
        assert (failure.stage, failure.kind, failure.os_error, failure.http_status) == ("websocket", "limit", None, None)
        limit = failure.limit
        assert (limit.option, limit.unit, limit.value, limit.reached) == ("max_message", "bytes", 10, 11)
        assert repr(limit) == "<Limit: max_message 10 bytes>"


async def test_a_connection_that_could_not_be_opened_tells_all_that_is_known():
    async with served(process_request=lambda *_: wsx.Response.reject(503)) as (_, uri):
        with pytest.raises(wsx.InvalidStatus) as refused:
            await wsx.connect(uri)
        assert refused.value.close.failure.http_status == 503
    with pytest.raises(ConnectionRefusedError) as nobody:
        await wsx.connect(uri)
    failure = nobody.value.close.failure
    assert (failure.stage, failure.kind, failure.limit) == ("connect", "transport", None) and failure.os_error == nobody.value.errno
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimeoutError) as late:
        await wsx.connect(f"ws://127.0.0.1:{silent.getsockname()[1]}", open_timeout=0.1)
    limit = late.value.close.failure.limit
    assert (limit.option, limit.unit, limit.value, limit.reached) == ("handshake_timeout", "seconds", 0.1, None)


async def test_messages_that_were_not_delivered_are_told_by_the_exception():
    async with served(lambda ws: ws.wait_closed()) as (_, uri), wsx.connect(uri, backlog_policy="close", backlog_limit=0) as ws:
        for _ in range(10):
            ws._raw.send(b"x" * 5_000_000)
        ws.terminate()
        with pytest.raises(wsx.ConnectionClosedError, match="messages were not delivered") as closed:
            await ws.recv()
        assert closed.value.close.undelivered_messages > 1


async def test_a_cancelled_recv_loses_nothing():
    async with served() as (_, uri), wsx.connect(uri) as ws:
        for number in range(50):
            receiving = asyncio.create_task(ws.recv())
            await asyncio.sleep(0)
            await ws.send(str(number))
            for _ in range(number % 5):
                await asyncio.sleep(0)
            receiving.cancel()
            try:
                assert await receiving == str(number)
            except asyncio.CancelledError:
                assert await ws.recv() == str(number)


async def test_a_recv_that_times_out_can_be_repeated():
    async with served() as (_, uri), wsx.connect(uri) as ws:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await ws.recv()
        await ws.send("still here")
        assert await ws.recv() == "still here"


async def test_two_tasks_cannot_receive_at_once():
    async with served() as (_, uri), wsx.connect(uri) as ws:
        first = asyncio.create_task(ws.recv())
        await asyncio.sleep(0)
        with pytest.raises(wsx.ConcurrencyError):
            await ws.recv()
        await ws.send("for the first")
        assert await first == "for the first"


async def test_a_cancelled_iteration_loses_nothing_and_another_goes_on():
    async with served() as (_, uri), wsx.connect(uri) as ws:
        async def first():
            async for message in ws:
                return message

        for number in range(20):
            task = asyncio.create_task(first())
            await asyncio.sleep(0)
            await ws.send(str(number))
            if number % 2:
                task.cancel()                               # before the echo is there
            else:
                await until(lambda: len(ws._inbox) or task.done())
                task.cancel()                               # between the echo and the task's next step, or too late
            got = (await asyncio.gather(task, return_exceptions=True))[0]
            if isinstance(got, asyncio.CancelledError):
                got = await first()
            assert got == str(number)


async def test_one_iteration_excludes_another_and_goes_on():
    async with served() as (_, uri), wsx.connect(uri) as ws:
        messages = aiter(ws)
        first = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(0)
        for other in (anext(messages), anext(aiter(ws)), ws.recv()):
            with pytest.raises(wsx.ConcurrencyError):
                await other
        await ws.send("one")
        assert await first == "one"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(messages), 0.01)
        await ws.send("two")
        assert await anext(messages) == "two"
        await ws.close()
        with pytest.raises(StopAsyncIteration):
            await anext(messages)
        with pytest.raises(wsx.ConnectionClosedOK):
            await ws.recv()


async def test_a_connection_that_has_ended_is_freed_without_the_collector():
    async with served() as (_, uri):
        async with wsx.connect(uri) as ws:
            await ws.send("x")
            assert [message async for message in until_one(ws)] == ["x"]
        gone, inbox = weakref.ref(ws), ws._inbox
        gc.disable()
        try:
            del ws
            await asyncio.sleep(0)
            assert gone() is None and len(inbox) == 0
        finally:
            gc.enable()


async def until_one(ws):
    async for message in ws:
        yield message
        return


async def test_recv_decodes_as_it_is_told():
    async with served() as (_, uri), wsx.connect(uri) as ws:
        for message in ("é", b"\xc3\xa9"):
            for decode, expected in ((None, message), (True, "é"), (False, b"\xc3\xa9")):
                await ws.send(message)
                assert await ws.recv(decode=decode) == expected


async def test_who_does_not_receive_is_not_sent_to_without_end():
    sent = 0

    async def flood(ws):
        nonlocal sent
        while True:
            await ws.send(b"x" * 50_000)
            sent += 1
            await asyncio.sleep(0)

    async with served(flood, backlog_limit=200_000) as (server, uri):
        async with wsx.connect(uri, max_queue=4) as ws:
            last = -1
            while last != (last := sent) or sent == 0:   # until it gets no further
                await asyncio.sleep(0.2)
            assert sent * 50_000 < 30_000_000 and len(ws._inbox) <= 5
            for _ in range(sent):
                assert len(await ws.recv()) == 50_000


async def test_a_ping_is_answered_with_its_latency():
    async with served() as (_, uri), wsx.connect(uri) as ws:
        first, second = await ws.ping(), await ws.ping(b"data")
        with pytest.raises(wsx.ConcurrencyError):
            await ws.ping("data")
        assert 0 < await second < DEADLINE and 0 < await first < DEADLINE and ws.latency > 0
        await ws.pong("unasked")


async def test_latency_is_that_of_the_heartbeat_as_well_and_stays_known():
    async with served() as (_, uri):
        async with wsx.connect(uri, ping_interval=0.05) as ws:
            assert ws.latency == 0
            await until(lambda: ws.latency > 0)
        assert ws.latency > 0


async def test_64_pings_may_wait_for_their_pongs():
    async with served() as (server, uri), wsx.connect(uri) as ws:
        await until(lambda: server.connections)
        for connection in server.connections:
            connection._raw.pause()
        for _ in range(64):
            await ws.ping()
        with pytest.raises(wsx.ConcurrencyError, match="64 pings"):
            await ws.ping()
        ws.terminate()


@contextlib.asynccontextmanager
async def in_pieces():
    """A client of a server of the websockets package, and the messages that it gets, each as the list of its fragments."""
    came = asyncio.Queue()

    async def handler(ws):
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                came.put_nowait([piece async for piece in ws.recv_streaming()])

    async with websockets.serve(handler, "127.0.0.1", 0, compression=None) as server:
        async with wsx.connect("ws://%s:%d/" % server.sockets[0].getsockname()) as ws:
            yield ws, came


async def test_an_iterable_is_sent_in_fragments():
    async def slowly(pieces):
        for piece in pieces:
            await asyncio.sleep(0.001)
            yield piece

    async with in_pieces() as (ws, came):
        for pieces in (["one", "", "zwö"], [b"1", bytearray(b"2"), memoryview(b"3")]):
            end = "" if isinstance(pieces[0], str) else b""
            for message in (pieces, iter(pieces), slowly(pieces)):
                await ws.send(message)
                assert await came.get() == [*pieces, end]
        await ws.send([])
        await ws.send(slowly([]))
        await ws.send("whole")
        assert await came.get() == ["whole"]


async def test_a_shared_message_is_sent_by_whoever_has_it():
    shared = [wsx.SharedMessage("Grüße"), wsx.SharedMessage(bytearray(b"x" * 70_000))]
    assert [repr(one) for one in shared] == ["<SharedMessage text 7 bytes>", "<SharedMessage binary 70000 bytes>"]

    async def handler(ws):
        for one in [*shared, *shared]:
            await ws.send(one)
        async for message in ws:
            await ws.send(wsx.SharedMessage(message))

    async with served(handler) as (_, uri), wsx.connect(uri) as ws:
        for _ in range(2):
            assert await ws.recv() == "Grüße"
            assert await ws.recv() == b"x" * 70_000
        await ws.send(shared[0])
        assert await ws.recv() == "Grüße"
    with pytest.raises(TypeError):
        wsx.SharedMessage(1)
    with pytest.raises(wsx.ConnectionClosed):
        await ws.send(shared[0])


async def test_a_message_waits_for_the_end_of_another_ones_fragments():
    async with in_pieces() as (ws, came):
        goes_on = asyncio.Event()

        async def slowly():
            yield "one"
            await goes_on.wait()
            yield "two"

        first = asyncio.create_task(ws.send(slowly()))
        await until(lambda: ws._in_message is not None)
        await asyncio.sleep(0.01)
        others = [asyncio.create_task(ws.send("whole")), asyncio.create_task(ws.send(["in", "pieces"]))]
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in [first, *others]) and came.empty()
        goes_on.set()
        await asyncio.gather(first, *others)
        assert await came.get() == ["one", "two", ""]
        rest = [await came.get(), await came.get()]
        assert sorted(rest) == [["in", "pieces", ""], ["whole"]]


async def test_a_message_that_can_never_be_whole_ends_the_connection():
    def fails():
        yield "one"
        raise ZeroDivisionError

    for message, error in ((fails(), ZeroDivisionError), (["one", b"two"], TypeError), (["one", 2], TypeError)):
        async with in_pieces() as (ws, _):
            with pytest.raises(error):
                await ws.send(message)
            with pytest.raises(wsx.ConnectionClosedError):
                await ws.send("more")
            assert ws.close_code == 1011


@pytest.mark.parametrize("message", [{"a": 1}, 1, None, [1], [None]])
async def test_what_is_no_message_is_refused_and_hurts_nobody(message):
    async with in_pieces() as (ws, came):
        with pytest.raises(TypeError):
            await ws.send(message)
        await ws.send("whole")
        assert await came.get() == ["whole"]


async def test_a_ping_that_is_never_answered_ends_with_the_connection():
    async with served() as (server, uri), wsx.connect(uri) as ws:
        await until(lambda: server.connections)
        for connection in server.connections:
            connection._raw.pause()
        pong = await ws.ping()
        ws.terminate()
        with pytest.raises(wsx.ConnectionClosedError):
            await pong


@pytest.mark.parametrize(("uri", "error", "text"), [
    ("http://127.0.0.1/", wsx.InvalidURI, "isn't a valid URI"), ("ws://", wsx.InvalidURI, "isn't a valid URI"),
    ("ws://127.0.0.1/#fragment", wsx.InvalidURI, "fragment"), ("wss://127.0.0.1:1/", OSError, "refused"),
    ("ws://host.invalid/", OSError, "host.invalid"),
])
async def test_a_uri_that_leads_nowhere_is_named(uri, error, text):
    with pytest.raises(error, match=text):
        await wsx.connect(uri)


async def test_a_refused_connection_is_an_os_error():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(ConnectionRefusedError, match=str(port)):
        async with wsx.connect(f"ws://127.0.0.1:{port}/"):
            pass


async def test_a_server_that_does_not_answer_times_out():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = "ws://127.0.0.1:%d/" % silent.getsockname()[1]
        with pytest.raises(TimeoutError, match="handshake_timeout"):
            await wsx.connect(uri, open_timeout=0.05)
        connecting = asyncio.create_task(wsx.connect(uri)._connect())
        await asyncio.sleep(0.01)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting


async def test_a_server_that_does_not_speak_it_is_told():
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HELLO\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    with pytest.raises(wsx.InvalidHandshake, match="answer"):
        await wsx.connect("ws://127.0.0.1:%d/" % server.sockets[0].getsockname()[1])
    server.close()


async def test_the_server_sees_the_request_and_may_refuse():
    seen = []

    def process_request(connection, request):
        seen.append((connection.remote_address[0], request.path, request.headers["X-A"], request.headers["User-Agent"]))
        if request.path == "/secret":
            return connection.respond(403, "members only")

    async def path(ws):
        await ws.send(ws.request.path)

    async with served(path, process_request=process_request) as (_, uri):
        async with wsx.connect(uri + "open", additional_headers={"X-A": "1"}, user_agent_header="agent") as ws:
            assert await ws.recv() == "/open"
        with pytest.raises(wsx.InvalidStatus, match="403") as refused:
            await wsx.connect(uri + "secret", additional_headers=[("X-A", "2")], headers={"X-B": "3"})
        assert refused.value.response.status_code == 403
    assert seen[0] == ("127.0.0.1", "/open", "1", "agent") and seen[1][2] == "2" and "libwsx" in seen[1][3]


async def test_subprotocols_are_agreed_on():
    async with served(subprotocols=["b", "a"]) as (_, uri), wsx.connect(uri, subprotocols=["a", "b"]) as ws:
        assert ws.subprotocol == "b"
    async with served(select_subprotocol=lambda _, offered: offered[-1]) as (_, uri):
        async with wsx.connect(uri, subprotocols=["a", "b", "c"]) as ws:
            assert ws.subprotocol == "c"
    async with served() as (_, uri), wsx.connect(uri, subprotocols=["a"]) as ws:
        assert ws.subprotocol is None


async def test_a_handler_that_raises_is_logged_and_hurts_nobody_else(logged):
    async def handler(ws):
        if await ws.recv() == "fail":
            raise ZeroDivisionError("on purpose")
        await echo(ws)

    async with served(handler) as (_, uri), wsx.connect(uri) as other, wsx.connect(uri) as ws:
        await other.send("first")
        await ws.send("fail")
        with pytest.raises(wsx.ConnectionClosedError) as closed:
            await ws.recv()
        assert closed.value.code == 1011
        await other.send("still here")
        assert await other.recv() == "still here"
    errors = [record for record in logged if record.levelno >= logging.ERROR]
    assert [record.exc_info[0] for record in errors] == [ZeroDivisionError]


async def test_a_handler_whose_peer_goes_is_no_error(logged):
    async with served() as (server, uri):
        ws = await wsx.connect(uri)
        ws.terminate()
        await ws.wait_closed()
        await until(lambda: not server._tasks)
    assert [record for record in logged if record.levelno >= logging.WARNING] == []


async def test_a_server_that_closes_ends_its_connections_and_waits_for_their_handlers():
    ended = []

    async def handler(ws):
        with contextlib.suppress(wsx.ConnectionClosed):
            await ws.recv()
        await asyncio.sleep(0.01)
        ended.append(ws.close_code)

    async with served(handler) as (server, uri):
        clients = [await wsx.connect(uri) for _ in range(3)]
        await until(lambda: len(server.connections) == 3)
        server.close(code=1012, reason="restart")
        await server.wait_closed()
        assert ended == [1012] * 3
        for ws in clients:
            with pytest.raises(wsx.ConnectionClosedError, match="1012 restart"):
                await ws.recv()
        with pytest.raises(OSError):
            await wsx.connect(uri)


async def test_a_cancelled_serve_forever_closes_the_server():
    async with served() as (server, uri):
        serving = asyncio.create_task(server.serve_forever())
        ws = await wsx.connect(uri)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        with pytest.raises(wsx.ConnectionClosedOK):
            await ws.recv()


async def test_broadcast_publish_and_topics():
    async def subscribed(ws):
        ws.subscribe("news")
        ws.subscribe("news")
        async for message in ws:
            ws.publish("news", message)

    async with served(subscribed) as (server, uri):
        clients = [await wsx.connect(uri) for _ in range(3)]
        await until(lambda: wsx.event_loop().subscriber_count("news") == 3)
        server.broadcast("to all")
        server.publish("news", b"to all")
        wsx.broadcast(server.connections, "one by one")
        await clients[0].send("to the others")
        for ws in clients:
            assert [await ws.recv() for _ in range(3)] == ["to all", b"to all", "one by one"]
        for ws in clients[1:]:
            assert await ws.recv() == "to the others"
        for connection in server.connections:
            connection.unsubscribe("news")
        assert wsx.event_loop().subscriber_count("news") == 0
        for ws in clients:
            await ws.close()


async def test_broadcast_skips_who_does_not_read(logged):
    async def wait(ws):
        await ws.wait_closed()

    async with served(wait, backlog_limit=1000) as (server, uri), wsx.connect(uri, max_queue=1) as ws:
        await until(lambda: server.connections)
        with pytest.raises(ExceptionGroup, match="skipped broadcast"):
            while True:
                wsx.broadcast(server.connections, b"x" * 100_000, raise_exceptions=True)
        wsx.broadcast(server.connections, b"x" * 100_000)
        assert "skipped broadcast" in logged[-1].getMessage()
        ws.terminate()
        await until(lambda: not server.connections)


async def test_the_loop_inside_asyncio_begins_with_the_options_of_its_first_call():
    loop = wsx.event_loop(max_commands=1)
    with pytest.raises(RuntimeError, match="first call"):
        wsx.event_loop(max_commands=2)

    def post_two():
        loop.post(lambda: None)
        with pytest.raises(wsx.QueueFull):
            loop.post(lambda: None)
        refused.append(True)

    refused = []
    thread = threading.Thread(target=post_two)
    thread.start()
    thread.join()                   # the loop takes nothing meanwhile
    assert refused


async def test_callbacks_run_inside_asyncio_and_what_is_sent_between_turns_leaves():
    loop, came = wsx.event_loop(), asyncio.Queue()
    assert wsx.event_loop() is loop
    opened = asyncio.get_running_loop().create_future()
    listener = loop.listen("127.0.0.1:0", on_message=lambda connection, message: connection.send(message),
                           on_open=lambda connection, _: opened.set_result(connection))
    client = loop.connect(f"ws://{listener}/", on_message=lambda _, message: came.put_nowait(message))
    server = await opened
    for message in ("after an await", "and again"):
        await asyncio.sleep(0.01)
        client.send(message)
        assert await came.get() == message
    loop.call_later(0.01, server.send, "by a timer of the engine")
    assert await came.get() == "by a timer of the engine"
    asyncio.get_running_loop().call_later(0.01, server.send, "by a timer of the host")
    assert await came.get() == "by a timer of the host"
    await asyncio.to_thread(server.send, "from another thread")
    assert await came.get() == "from another thread"
    await asyncio.to_thread(loop.post, came.put_nowait, "posted")
    assert await came.get() == "posted"
    client.close()
    listener.close()


async def test_what_is_sent_in_a_tick_leaves_by_one_flush():
    flushes = 0

    async with served() as (_, uri), wsx.connect(uri) as ws:
        engine = wsx.asyncio.engine.Engine.here()
        flush = engine._flush

        def counted():
            nonlocal flushes
            flushes += 1
            flush()

        engine._flush = counted
        for _ in range(100):
            await ws.send("x")   # it waits for nothing: all of it happens in one tick
        assert flushes == 0
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert flushes == 1
        assert [await ws.recv() for _ in range(100)] == ["x"] * 100


async def test_an_idle_server_does_not_wake():
    async with served() as (_, uri), wsx.connect(uri) as ws:
        await ws.send("x")
        await ws.recv()
        await asyncio.sleep(0.2)
        before = wake_ups()
        await asyncio.sleep(1)
        assert wake_ups() - before <= 2, "only this test's own timer"


async def test_timeouts_of_the_engine_run_out():
    async with served(ping_interval=0.05, ping_timeout=0.05) as (server, uri):
        ws = await wsx.connect(uri)
        ws._raw.pause()   # so that it answers no ping
        await until(lambda: server._connections)
        connection, = server.connections
        await connection.wait_closed()
        assert connection.close_code == 1006 and connection.close_info.failure.kind == "timeout"
        ws.terminate()


def test_an_engine_goes_with_its_loop():
    async def main():
        server = await wsx.serve(echo, "127.0.0.1", 0)   # never closed
        ws = await wsx.connect("ws://%s:%d/" % server.addresses[0])
        await ws.send("x")
        await ws.recv()
        return weakref.ref(wsx.asyncio.engine.Engine.here()), server.addresses[0]

    for _ in range(3):
        with asyncio.Runner() as runner:
            engine, address = runner.run(main())
        gc.collect()
        assert engine() is None
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)


def test_a_loop_on_each_thread():
    async def main(results):
        async with served() as (_, uri), wsx.connect(uri) as ws:
            for number in range(100):
                await ws.send(str(number))
                results.append(await ws.recv())

    import threading
    all_results = [[] for _ in range(4)]
    threads = [threading.Thread(target=lambda results=results: asyncio.run(main(results))) for results in all_results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert all_results == [list(map(str, range(100)))] * 4


async def test_a_coroutine_may_decide_on_requests(logged):
    async def process_request(connection, request):
        user = request.query_parameter("user")
        await asyncio.sleep(0)
        if user == "bug":
            raise ZeroDivisionError("on purpose")
        if user == "odd":
            return 403
        if user is None:
            return connection.respond(401, "who are you?\n")
        connection.user = user

    async def greet(ws):
        await ws.send(f"hello {ws.user}, {ws.request.path}, {ws.subprotocol}")

    async with served(greet, process_request=process_request, select_subprotocol=lambda _, offered: offered[-1]) as (_, uri):
        async def greeting(user):
            async with wsx.connect(uri + f"?user={user}", subprotocols=["a", "b"]) as ws:
                return await ws.recv()

        greetings = await asyncio.gather(*(greeting(f"u{number}") for number in range(20)))
        assert greetings == [f"hello u{number}, /, b" for number in range(20)]
        for query, status in (("", 401), ("?user=bug", 500), ("?user=odd", 500)):
            with pytest.raises(wsx.InvalidStatus) as refused:
                await wsx.connect(uri + query)
            assert refused.value.response.status_code == status
    assert [record.getMessage() for record in logged] == ["opening handshake failed"] * 2


async def test_a_decision_is_given_up_where_the_client_left_or_its_time_is_over(logged):
    given_up, begun = [], asyncio.Event()

    async def process_request(connection, request):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            given_up.append(request.path)

    async with served(process_request=process_request, open_timeout=0.2) as (server, uri):
        _, writer = await asyncio.open_connection(*server.addresses[0][:2])
        writer.write(b"GET /left HTTP/1.1\r\nHost: a\r\n\r\n")
        await begun.wait()
        writer.close()
        await until(lambda: given_up == ["/left"])
        with pytest.raises(wsx.InvalidStatus, match="503"):
            await wsx.connect(uri + "slow")
        await until(lambda: given_up == ["/left", "/slow"])
        assert not server._deciding
    assert "did not come within" in logged[0].getMessage()


@pytest.mark.filterwarnings("error")
async def test_a_client_that_left_before_its_decision_began_leaves_no_coroutine_that_was_never_awaited():
    asked = []

    def process_request(connection, request):
        asked.append(request.path)
        return decide()

    async def decide():
        await asyncio.sleep(0)

    async with served(process_request=process_request) as (server, _):
        # Request and end come in one turn of the loop, which is not turned meanwhile.
        with socket.create_connection(server.addresses[0][:2]) as client:
            client.sendall(b"GET /left HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: asked and not server._deciding)
        gc.collect()
    assert asked == ["/left"]


async def test_a_server_that_closes_answers_who_waits_for_a_decision():
    begun, given_up = asyncio.Event(), []

    async def process_request(connection, request):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            given_up.append(request.path)

    async with served(process_request=process_request) as (server, uri):
        async def connect():
            with pytest.raises(wsx.InvalidStatus, match="503"):
                await wsx.connect(uri)

        client = asyncio.create_task(connect())
        await begun.wait()
        server.close()
        await client
        await server.wait_closed()
    await until(lambda: given_up == ["/"])


async def test_an_iteration_can_be_ended_and_what_has_come_stays():
    async with served() as (_, uri), wsx.connect(uri) as ws:
        for number in range(3):
            await ws.send(str(number))
        async with contextlib.aclosing(aiter(ws)) as messages:
            assert await anext(messages) == "0"
        with pytest.raises(StopAsyncIteration):
            await anext(messages)
        await messages.aclose()
        assert [await ws.recv(), await anext(aiter(ws))] == ["1", "2"]
        messages = aiter(ws)
        waiting = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="waiting"):
            await messages.aclose()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await messages.aclose()
        await ws.send("last")
        assert await ws.recv() == "last"


async def test_an_engine_that_is_gone_is_told_once_and_called_no_more():
    told, host = [], asyncio.get_running_loop()
    host.set_exception_handler(lambda _, context: told.append(context["exception"]))
    events = wsx.event_loop()
    descriptor = events.fileno()
    events.call_later(0.001, lambda: None)
    events.post(lambda: host.call_soon(events.close))
    await until(lambda: told)
    assert [type(error) for error in told] == [wsx.LoopClosed]
    assert not host.remove_reader(descriptor)


async def test_routes_have_handlers_of_their_own():
    async def name(ws, name):
        await ws.send(f"{name} {ws.request.path}")
        await ws.wait_closed()

    def named(text):
        return lambda ws: name(ws, text)

    async with served(named("server")) as (server, uri):
        chat = server.route("/chat", named("chat"), max_size=10, subprotocols=["v1"])
        rooms = server.route("/rooms/*", named("rooms"), process_request=lambda connection, request:
                             connection.respond(403, "no") if request.path == "/rooms/secret" else None)
        assert chat.addresses == server.addresses and chat.is_serving()
        sockets = []
        for path, expected in (("", "server"), ("chat", "chat"), ("rooms/7", "rooms"), ("rooms", "server")):
            ws = await wsx.connect(uri + path, subprotocols=["v1"])
            assert await ws.recv() == f"{expected} /{path}"
            assert ws.subprotocol == ("v1" if expected == "chat" else None)
            sockets.append(ws)
        with pytest.raises(wsx.InvalidStatus, match="403"):
            await wsx.connect(uri + "rooms/secret")
        assert (len(server.connections), len(chat.connections), len(rooms.connections)) == (2, 1, 1)
        chat.broadcast("to the chat")
        assert await sockets[1].recv() == "to the chat"
        await sockets[1].send("more than ten")
        with pytest.raises(wsx.ConnectionClosed, match="1009"):
            await sockets[1].recv()
        for path, options in (("chat", {}), ("/chat", {}), ("/x", {"path": "/y"}), ("/x", {"max_head": 1000})):
            with pytest.raises(ValueError):
                server.route(path, echo, **options)
        chat.close()
        async with wsx.connect(uri + "chat") as ws:
            assert await ws.recv() == "server /chat"
        server.close()
        await server.wait_closed()
        assert not rooms.connections and not rooms.is_serving()
        with pytest.raises(wsx.ConnectionClosed, match="1001"):
            await sockets[2].recv()


async def test_a_route_that_has_ended_is_forgotten():
    async def wait(ws):
        await ws.wait_closed()

    async with served() as (server, uri):
        route = server.route("/chat", wait)
        async with wsx.connect(uri + "chat") as ws:
            # It stays as long as its connections: closing the server closes those, too.
            route.close(close_connections=False)
            server.close()
            with pytest.raises(wsx.ConnectionClosed, match="1001"):
                await ws.recv()
            await server.wait_closed()

    async with served() as (server, uri):
        ended = []
        for _ in range(5):
            route = server.route("/chat", wait)
            async with wsx.connect(uri + "chat"):
                pass
            route.close()
            await route.wait_closed()
            ended.append(weakref.ref(route))
        del route

        def are_gone():
            gc.collect()
            return not any(route() for route in ended)

        await until(are_gone)
