"""Clients that connect again: by callbacks, and by `async for`."""
import asyncio
import contextlib
import gc
import logging
import socket

import pytest

import wsx

SOON = wsx.Reconnect(base_delay=0.002, max_delay=0.02)
LATE = wsx.Reconnect(base_delay=3600, max_delay=3600)


def nobody():
    """The URI of a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return "ws://127.0.0.1:%d/" % server.getsockname()[1]


class Client:
    """A client of a loop, and what it hears."""

    def __init__(self, turns, url, reconnect=SOON, **options):
        self.turns, self.heard = turns, []
        self.client = turns.loop.connect(url, self, reconnect=reconnect, **options)

    def on_open(self, connection, opening):
        self.heard.append(("open", connection))

    def on_message(self, connection, message):
        self.heard.append(("message", message))

    def on_close(self, connection, close):
        self.heard.append(("close", close.code))

    def on_reconnecting(self, client, reconnecting):
        self.heard.append(("reconnecting", client, reconnecting))

    def on_give_up(self, client, give_up):
        self.heard.append(("give_up", client, give_up))

    def next(self, word):
        """What was heard under this word; what came before it is dropped."""
        self.turns.until(lambda: any(event[0] == word for event in self.heard))
        while self.heard[0][0] != word:
            self.heard.pop(0)
        return self.heard.pop(0)[1:]


@contextlib.contextmanager
def listening(turns, url=None, **hooks):
    """A server where a client looks for it."""
    address = "127.0.0.1:0" if url is None else url.removeprefix("ws://").rstrip("/")
    listener = turns.loop.listen(address, **hooks)
    yield listener
    listener.close()


def test_one_client_has_many_connections(turns):
    url = nobody()
    client = Client(turns, url)
    again, reconnecting = client.next("reconnecting")
    assert again == client.client and hash(again) == hash(client.client) and again is not client.client
    assert again != client.client.connection and len({again, client.client}) == 1
    assert reconnecting.attempt == 1 and 0 <= reconnecting.delay <= 0.002 and reconnecting.cause.code == 1006
    assert reconnecting.cause.failure.stage == "connect" and "attempt 1 in" in repr(reconnecting)
    opened = []
    with listening(turns, url, on_open=lambda connection, opening: opened.append(connection),
                   on_message=lambda connection, message: connection.send(message)):
        (first,) = client.next("open")
        assert client.client.connection is first
        client.client.send("hello")
        assert client.next("message") == ("hello",)
        opened[0].close(1012)
        _, reconnecting = client.next("reconnecting")
        assert reconnecting.cause.code == 1012 and reconnecting.cause.was_clean
        (second,) = client.next("open")
        assert first is not second
    client.client.close()
    _, give_up = client.next("give_up")
    assert (give_up.kind, give_up.close_code, give_up.http_status) == ("closed", 1000, None)
    assert str(give_up) == give_up.message == "the program closed the client" and "closed" in repr(give_up)
    for call in (client.client.close, client.client.terminate, lambda: client.client.send("x"),
                 lambda: client.client.connection, lambda: client.client.buffered_amount):
        with pytest.raises(wsx.ConnectionClosed):
            call()


def test_what_is_sent_offline_waits_where_there_is_a_queue(turns):
    url = nobody()
    client = Client(turns, url, wsx.Reconnect(base_delay=0.002, max_delay=0.02, offline_limit=100))
    client.next("reconnecting")
    client.client.send("one")
    client.client.send(b"two")
    assert client.client.buffered_amount == 70
    with pytest.raises(wsx.BacklogFull, match="70 bytes wait"):
        client.client.send("three")
    came = []
    with listening(turns, url, on_message=lambda connection, message: came.append(message)):
        turns.until(lambda: len(came) == 2)
        assert came == ["one", b"two"]


def test_without_a_queue_it_is_refused(turns):
    client = Client(turns, nobody(), LATE)
    client.next("reconnecting")
    assert client.client.connection is None
    with pytest.raises(wsx.InvalidState, match="not open yet"):
        client.client.send("x")
    client.client.terminate()
    assert client.next("give_up")[1].kind == "closed"


def test_true_is_the_defaults_and_false_connects_once(turns):
    assert isinstance(turns.loop.connect(nobody(), reconnect=True), type(Client(turns, nobody()).client))
    assert isinstance(turns.loop.connect(nobody(), reconnect=False), wsx.Connection)
    assert isinstance(turns.loop.connect(nobody(), reconnect=None), wsx.Connection)


@pytest.mark.parametrize(("reconnect", "kind", "text"), [
    (1, TypeError, "reconnect: True, False or a wsx.Reconnect, not int"),
    (wsx.Reconnect(base_delay=-1), ValueError, "base_delay: -1 is not a number of seconds"),
    (wsx.Reconnect(base_delay=60), ValueError, "base_delay is 60s, and must not be more than max_delay, 30s"),
    (wsx.Reconnect(offline_limit=2**21), ValueError, "offline_limit is 2097152"),
    (wsx.Reconnect(max_attempts="x"), TypeError, "max_attempts: "),
])
def test_bad_options_are_refused(turns, reconnect, kind, text):
    with pytest.raises(kind, match=text):
        turns.loop.connect(nobody(), reconnect=reconnect)


def test_a_callback_that_raises_is_logged_and_the_client_goes_on(turns, logged):
    class Raises(Client):
        def on_reconnecting(self, client, reconnecting):
            super().on_reconnecting(client, reconnecting)
            raise ZeroDivisionError("in on_reconnecting")

    client = Raises(turns, nobody())
    for attempt in (1, 2, 3):
        assert client.next("reconnecting")[1].attempt == attempt
    assert "exception in on_reconnecting" in logged[0].getMessage()


# --- async for

@contextlib.asynccontextmanager
async def served(handler, uri=None, **options):
    port = 0 if uri is None else int(uri.rstrip("/").rpartition(":")[2])
    async with wsx.serve(handler, "127.0.0.1", port, **options) as server:
        yield "ws://%s:%d/" % server.addresses[0]


async def test_async_for_connects_again():
    async def greet(ws):
        await ws.send("hello")
        await ws.close(1012)

    seen = []
    async with served(greet) as uri:
        async for ws in wsx.connect(uri, reconnect=SOON):
            try:
                async for message in ws:
                    seen.append((ws, message))
            except wsx.ConnectionClosed as error:
                assert error.code == 1012
            if len(seen) == 3:
                break
    assert [message for _, message in seen] == ["hello"] * 3
    assert len({id(ws) for ws, _ in seen}) == 3


async def test_it_waits_for_a_server_that_comes_later_and_logs_it(logged):
    uri = nobody()
    answers = asyncio.Queue()

    async def use():
        async for ws in wsx.connect(uri, reconnect=SOON):
            await ws.send("x")
            answers.put_nowait(await ws.recv())

    async def echo(ws):
        async for message in ws:
            await ws.send(message)

    task = asyncio.create_task(use())
    while not any("connect failed; reconnecting in 0.0 seconds" in record.getMessage() for record in logged):
        await asyncio.sleep(0.001)
    assert logged[0].levelno == logging.INFO
    async with served(echo, uri):
        # The body ends each time with an open connection, and is given another one.
        assert [await answers.get() for _ in range(3)] == ["x", "x", "x"]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gc.collect()


async def test_a_body_that_ends_early_closes_with_1001_and_a_break_with_1000():
    codes = asyncio.Queue()

    async def note(ws):
        await ws.wait_closed()
        codes.put_nowait(ws.close_code)

    count = 0
    async with served(note) as uri:
        async for _ in wsx.connect(uri, reconnect=SOON):
            count += 1
            if count == 2:
                break
        assert [await codes.get(), await codes.get()] == [1001, 1000]


@pytest.mark.parametrize("by", ["the server", "the program"])
async def test_a_normal_close_ends_the_iteration(by):
    async def handler(ws):
        if by == "the server":
            await ws.close(1000)
        await ws.wait_closed()

    count = 0
    async with served(handler) as uri:
        async for ws in wsx.connect(uri, reconnect=SOON):
            count += 1
            if by == "the program":
                await ws.close()
            await ws.wait_closed()
    assert count == 1


async def test_a_final_code_is_raised():
    async def handler(ws):
        await ws.close(4999, "never again")

    async with served(handler) as uri:
        with pytest.raises(wsx.ConnectionClosedError, match="never again") as raised:
            async for ws in wsx.connect(uri, reconnect=SOON):
                await ws.wait_closed()
    assert raised.value.code == 4999


async def test_a_final_status_is_raised():
    def refuse(connection, request):
        return connection.respond(401, "no")

    async with served(lambda ws: None, process_request=refuse) as uri:
        with pytest.raises(wsx.InvalidStatus) as raised:
            async for _ in wsx.connect(uri, reconnect=SOON):
                raise AssertionError("it opened")
    assert raised.value.response.status_code == 401


async def test_what_a_socks_proxy_refuses_for_good_is_raised():
    async def refuse(reader, writer):
        await reader.readexactly(3)
        writer.write(b"\5\xff")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as proxy:
        uri = "socks5h://127.0.0.1:%d" % proxy.sockets[0].getsockname()[1]
        with pytest.raises(wsx.ProxyError, match="put them into its URL") as raised:
            async for _ in wsx.connect("ws://host.invalid/", proxy=uri, reconnect=SOON):
                raise AssertionError("it opened")
    assert not isinstance(raised.value, wsx.InvalidProxyStatus)


async def test_after_the_last_attempt_its_failure_is_raised():
    reconnect = wsx.Reconnect(base_delay=0.002, max_delay=0.02, max_attempts=2)
    with pytest.raises(ConnectionRefusedError):
        async for _ in wsx.connect(nobody(), reconnect=reconnect):
            raise AssertionError("it opened")


async def test_process_exception_may_end_it():
    failures = []

    def process(error):
        failures.append(error)
        return LookupError("enough") if len(failures) == 2 else None

    with pytest.raises(LookupError, match="enough"):
        async for _ in wsx.connect(nobody(), reconnect=SOON, process_exception=process):
            raise AssertionError("it opened")
    assert all(isinstance(error, ConnectionRefusedError) for error in failures)


async def test_what_process_exception_raises_ends_it():
    def process(error):
        raise LookupError("enough") from error

    async def iterate():
        async for _ in wsx.connect(nobody(), reconnect=SOON, process_exception=process):
            raise AssertionError("it opened")

    with pytest.raises(LookupError, match="enough"):
        await asyncio.wait_for(iterate(), 20)


async def test_a_bad_uri_is_raised_at_once():
    with pytest.raises(wsx.InvalidURI):
        async for _ in wsx.connect("http://127.0.0.1/"):
            raise AssertionError("it opened")


async def test_an_iteration_that_is_left_ends_its_client():
    uri = nobody()
    task = asyncio.create_task(anext(aiter(wsx.connect(uri, reconnect=LATE))))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
