"""The engine inside asyncio's loop: callbacks, flushes, wake-ups, and the end of either."""
import asyncio
import gc
import socket
import threading
import weakref

import pytest
from conftest import DEADLINE, echo, served, until, wake_ups

import wsx
import wsx.asyncio


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
