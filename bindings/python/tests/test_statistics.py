"""Statistics as a dataclass, and the engine's log in a logger."""
import dataclasses
import logging

import pytest

import wsx


def test_statistics_are_a_frozen_dataclass_of_the_loop_and_of_its_listeners(turns):
    _, client = turns.pair(server={"on_message": lambda connection, message: turns.say("came", message)})
    client.send("hello")
    turns.until_heard("came", "hello")
    counted = turns.loop.statistics()
    assert (counted.accepted, counted.connects, counted.opened, counted.connections) == (1, 1, 2, 2)
    assert (counted.messages_sent, counted.messages_received, counted.refused) == (1, 1, {})
    with pytest.raises(dataclasses.FrozenInstanceError):
        counted.accepted = 2
    both = counted + counted
    assert (both.accepted, both.turns, both.longest_callback) == (2, 2 * counted.turns, 0.0)


def test_failures_and_closes_are_mappings(turns):
    turns.loop.connect("ws://127.0.0.1:1/", on_close=lambda connection, close: turns.say("closed"))
    turns.until_heard("closed")
    counted = turns.loop.statistics()
    assert counted.failures == {("connect", "transport"): 1}
    assert (counted.connects_failed, counted.closes) == ({"connect": 1}, {1006: 1})
    assert "wsx_failures_total{stage=\"connect\",kind=\"transport\"} 1\n" in turns.loop.metrics()


def test_a_logger_is_told_up_to_its_level(turns, logged):
    logging.getLogger("wsx").setLevel(logging.INFO)
    turns.loop.set_logger(logging.getLogger("wsx"))
    listener = turns.loop.listen("127.0.0.1:0")
    turns.loop.turn(0)
    assert [(record.levelno, record.topic) for record in logged] == [(logging.INFO, "listener")]
    assert logged[0].getMessage() == f"listens on {listener}, plain"
    turns.loop.set_logger(None)
    listener.close()
    turns.loop.turn(0)
    turns.loop.turn(0)
    assert len(logged) == 1


def test_a_logger_adapter_will_do_and_what_it_raises_hurts_nobody(monkeypatch):
    class Broken(logging.LoggerAdapter):
        def process(self, message, keywords):
            raise ZeroDivisionError("in the logger")

    told = []
    monkeypatch.setattr("sys.unraisablehook", told.append)
    logger = Broken(logging.Logger("broken", logging.DEBUG))
    with wsx.EventLoop(logger=logger) as loop:
        loop.listen("127.0.0.1:0")
        loop.turn(0)
        assert [type(one.exc_value) for one in told] == [ZeroDivisionError]
        loop.turn(0)


def test_a_logger_is_let_go_with_its_loop(turns):
    import gc
    import weakref

    logger = logging.Logger("mine")
    gone = weakref.ref(logger)
    loop = wsx.EventLoop(logger=logger)
    loop.close()
    del loop, logger
    gc.collect()
    assert gone() is None


async def counted_in_asyncio():
    async def handler(connection):
        async for message in connection:
            await connection.send(message)

    async with wsx.serve(handler, "127.0.0.1", 0) as server:
        async with wsx.connect(f"ws://127.0.0.1:{server.addresses[0][1]}") as connection:
            await connection.send("hello")
            await connection.recv()
            counted = server.statistics()
            return counted.accepted, counted.messages_received, wsx.event_loop().statistics().connects


def test_a_server_of_asyncio_counts_as_well():
    import asyncio

    assert asyncio.run(counted_in_asyncio()) == (1, 1, 1)
