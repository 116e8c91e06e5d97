"""A connection of coroutines: receiving, sending in every form, pings, and how its end is told."""
import asyncio
import contextlib
import gc
import weakref

import pytest
import websockets
from conftest import DEADLINE, served, until

import wsx


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


async def test_a_ping_that_is_never_answered_ends_with_the_connection():
    async with served() as (server, uri), wsx.connect(uri) as ws:
        await until(lambda: server.connections)
        for connection in server.connections:
            connection._raw.pause()
        pong = await ws.ping()
        ws.terminate()
        with pytest.raises(wsx.ConnectionClosedError):
            await pong


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
