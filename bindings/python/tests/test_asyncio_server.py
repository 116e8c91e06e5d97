"""`serve`: handlers, requests and their answers, routes, broadcasts, and its end."""
import asyncio
import contextlib
import gc
import logging
import socket
import weakref

import pytest
from conftest import echo, served, until

import wsx


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


def never_decides(begun, given_up):
    async def process_request(connection, request):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            given_up.append(request.path)

    return process_request


async def test_a_decision_is_given_up_where_the_client_left_or_its_time_is_over(logged):
    begun, given_up = asyncio.Event(), []
    async with served(process_request=never_decides(begun, given_up), open_timeout=0.2) as (server, uri):
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
    async with served(process_request=never_decides(begun, given_up)) as (server, uri):
        async def connect():
            with pytest.raises(wsx.InvalidStatus, match="503"):
                await wsx.connect(uri)

        client = asyncio.create_task(connect())
        await begun.wait()
        server.close()
        await client
        await server.wait_closed()
    await until(lambda: given_up == ["/"])


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
