"""With `websockets` and `aiohttp`, in both directions, on asyncio and on uvloop: plain, compressed, and over TLS."""
import asyncio
import contextlib

import aiohttp
import aiohttp.web
import pytest
import websockets
from conftest import SERVING, TRUSTING, their_client, their_server

import wsx

MESSAGES = ["", "Hello", "Grüße, 日本語, 👩‍🚀", "a\0b", b"", bytes(range(256)), "x" * 125, "x" * 126, b"x" * 65_535,
            b"x" * 65_536, "é" * (1 << 19), b"x" * (1 << 20)]


# How they talk: the scheme, and the options of our servers and clients. The others compress with whoever will.
OVER = {
    "tcp": ("ws", {}, {}),
    "deflate": ("ws", {"compression": "deflate"}, {"compression": "deflate"}),
    "tls": ("wss", {"ssl": SERVING}, {"ssl": TRUSTING}),
}


# --- Our servers

@contextlib.asynccontextmanager
async def served_by_coroutines(over):
    async def echo(ws):
        async for message in ws:
            await ws.send(message)
    scheme, options, _ = OVER[over]
    async with wsx.serve(echo, "127.0.0.1", 0, subprotocols=["chat"], **options) as server:
        yield "%s://%s:%d/" % (scheme, *server.addresses[0])


@contextlib.asynccontextmanager
async def served_by_callbacks(over):
    scheme, options, _ = OVER[over]
    listener = wsx.event_loop().listen("127.0.0.1:0", subprotocols=["chat"], backlog_policy="pause", **options,
                                       on_message=lambda connection, message: connection.send(message))
    yield f"{scheme}://{listener}/"
    listener.close()


# --- Theirs

@contextlib.asynccontextmanager
async def served_by_websockets(over="tcp"):
    async def echo(ws):
        async for message in ws:
            if message == "close":
                await ws.close(4000, "as you wish")
            else:
                await ws.send(message)
    context = their_server() if over == "tls" else None
    async with websockets.serve(echo, "127.0.0.1", 0, subprotocols=["chat"], ssl=context) as server:
        yield "%s://%s:%d/" % (OVER[over][0], *server.sockets[0].getsockname())


@contextlib.asynccontextmanager
async def served_by_aiohttp(over):
    async def echo(request):
        ws = aiohttp.web.WebSocketResponse(protocols=["chat"], max_msg_size=1 << 21)
        await ws.prepare(request)
        async for message in ws:
            if message.data == "close":
                await ws.close(code=4000, message=b"as you wish")
            elif message.type is aiohttp.WSMsgType.TEXT:
                await ws.send_str(message.data)
            else:
                await ws.send_bytes(message.data)
        return ws

    app = aiohttp.web.Application()
    app.router.add_get("/", echo)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0, ssl_context=their_server() if over == "tls" else None)
    await site.start()
    yield "%s://%s:%d/" % (OVER[over][0], *site._server.sockets[0].getsockname())
    await runner.cleanup()


# --- Their clients

class Websockets:
    @staticmethod
    @contextlib.asynccontextmanager
    async def open(uri, over):
        context = their_client() if over == "tls" else None
        async with websockets.connect(uri, subprotocols=["chat"], ssl=context) as ws:
            assert ws.subprotocol == "chat"
            assert bool(ws.protocol.extensions) == (over == "deflate")
            yield ws.send, ws.recv, ws.close


class Aiohttp:
    @staticmethod
    @contextlib.asynccontextmanager
    async def open(uri, over):
        context = their_client() if over == "tls" else True
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(uri, protocols=["chat"], max_msg_size=1 << 21, compress=15, ssl=context) as ws:
                assert ws.protocol == "chat"
                assert bool(ws.compress) == (over == "deflate")

                async def send(message):
                    await (ws.send_str if isinstance(message, str) else ws.send_bytes)(message)

                async def receive():
                    return (await ws.receive()).data

                yield send, receive, ws.close


ours = pytest.mark.parametrize("served", [served_by_coroutines, served_by_callbacks], ids=["coroutines", "callbacks"])
theirs = pytest.mark.parametrize("served", [served_by_websockets, served_by_aiohttp], ids=["websockets", "aiohttp"])
over = pytest.mark.parametrize("over", OVER)
clients = pytest.mark.parametrize("client", [Websockets, Aiohttp], ids=["websockets", "aiohttp"])


@ours
@clients
@over
async def test_their_client_and_our_server(served, client, over):
    async with served(over) as uri, client.open(uri, over) as (send, receive, close):
        for message in MESSAGES:
            await send(message)
            assert await receive() == message
        await close()


@ours
@clients
@over
async def test_their_client_sends_ahead(served, client, over):
    async with served(over) as uri, client.open(uri, over) as (send, receive, close):
        sent = [f"{number} {'x' * (number * 37 % 3000)}" for number in range(500)]

        async def ahead():
            for message in sent:
                await send(message)

        task = asyncio.create_task(ahead())
        assert [await receive() for _ in sent] == sent
        await task


@theirs
@over
async def test_our_client_and_their_server(served, over):
    async with served(over) as uri, wsx.connect(uri, subprotocols=["chat"], **OVER[over][2]) as ws:
        assert ws.subprotocol == "chat"
        assert bool(ws.extensions) == (over == "deflate")
        for message in MESSAGES:
            await ws.send(message)
            assert await ws.recv() == message
        assert await (await ws.ping(b"there?")) >= 0
        await ws.close(4001, "enough")
        assert (ws.close_code, ws.close_info.was_clean) == (4001, True)


@theirs
@over
async def test_our_client_hears_that_their_server_closes(served, over):
    async with served(over) as uri, wsx.connect(uri, subprotocols=["chat"], **OVER[over][2]) as ws:
        await ws.send("close")
        with pytest.raises(wsx.ConnectionClosedError, match="received 4000 as you wish; then sent 4000 as you wish"):
            await ws.recv()


@theirs
@over
async def test_our_callbacks_and_their_server(served, over):
    came = asyncio.Queue()
    async with served(over) as uri:
        client = wsx.event_loop().connect(
            uri, subprotocols=["chat"], backlog_limit=None, **OVER[over][2],
            on_open=lambda connection, _: [connection.send(message) for message in MESSAGES],
            on_message=lambda _, message: came.put_nowait(message),
            on_close=lambda _, close: came.put_nowait(close.code))
        for message in MESSAGES:
            assert await came.get() == message
        client.close()
        assert await came.get() == 1000


async def test_close_codes_of_websockets_and_ours_are_told_alike():
    """The same ends make exceptions of the same kind, with the same codes and the same order."""
    async def told(connect, uri, package):
        async with connect(uri, subprotocols=["chat"]) as ws:
            await ws.send("close")
            try:
                await ws.recv()
            except package.ConnectionClosed as error:
                sides = [frame and (frame.code, frame.reason) for frame in (error.rcvd, error.sent)]
                return type(error).__name__, sides, error.rcvd_then_sent, str(error).replace("(private use) ", "")

    async with served_by_websockets() as uri:
        assert await told(wsx.connect, uri, wsx) == await told(websockets.connect, uri, websockets.exceptions)
