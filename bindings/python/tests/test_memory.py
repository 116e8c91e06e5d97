"""Memory stays flat: over a million messages, and over 20,000 connections opened and closed."""
import gc
import platform
import resource
import subprocess
import sys

import pytest
from conftest import resident

import wsx

MESSAGES = 1_000_000
CONNECTIONS = 20_000
AT_ONCE = 100
TOLERANCE = 4 << 20   # bytes of resident memory; a leak of 5 bytes a message, or of 210 a connection, is more


def grown(turns, step, times):
    """How much resident memory grows over so many steps, after a tenth of them to warm up."""
    for _ in range(times // 10):
        step()
    gc.collect()
    before, objects = resident(), len(gc.get_objects())
    for _ in range(times):
        step()
    gc.collect()
    assert len(gc.get_objects()) - objects < 1000
    return resident() - before


@pytest.mark.parametrize("message", ["x" * 64, b"x" * 64], ids=["text", "binary"])
def test_over_a_million_messages(turns, message, record_property):
    count = 0

    def came(connection, message):
        nonlocal count
        count += 1

    server, client = turns.pair(server={"on_message": lambda connection, message: connection.send(message)},
                                client={"on_message": came})

    def step():
        nonlocal count
        count = 0
        for _ in range(1000):
            client.send(message)
        while count < 1000:
            turns.loop.turn()

    # There and back are two messages.
    growth = grown(turns, step, MESSAGES // 2000)
    record_property("growth", growth)
    assert growth < TOLERANCE


# A program of its own: what others have freed would have told the allocator already.
ECHO_WHAT_IS_LARGE = """
import resource, sys, wsx

def answer(connection, message):
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    connection.send(message if isinstance(message, bytes) else str(faults))

with wsx.EventLoop() as loop:
    print(loop.listen("127.0.0.1:0", on_message=answer), flush=True)
    loop.run()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have no threshold that could be told")
def test_large_messages_do_not_have_the_system_clear_their_pages_each_time(turns):
    message, pages, came = bytes(1 << 20), (1 << 20) // resource.getpagesize(), []
    with subprocess.Popen([sys.executable, "-c", ECHO_WHAT_IS_LARGE], stdout=subprocess.PIPE, text=True) as server:
        opened = []
        turns.loop.connect(f"ws://{server.stdout.readline().strip()}/", on_message=lambda _, message: came.append(message),
                           on_open=lambda connection, _: opened.append(connection))
        turns.until(lambda: opened)

        def ask(question):
            came.clear()
            opened[0].send(question)
            turns.until(lambda: came)
            return came[0]

        for _ in range(5):
            assert ask(message) == message
        before = int(ask("how many page faults?"))
        for _ in range(20):
            ask(message)
        faults = (int(ask("and now?")) - before) / 20
        server.terminate()
    assert faults < pages / 4


def test_over_20_000_connections_opened_and_closed(turns, record_property):
    closed = 0

    class Server(wsx.Handler):
        def on_request(self, request):
            request.connection.data = request

        def on_open(self, connection, opening):
            connection.data = [connection, opening, opening.headers]   # cycles, too
            connection.send("hello")

        def on_close(self, connection, close):
            nonlocal closed
            closed += 1

    class Client(Server):
        def on_open(self, connection, opening):
            connection.data = [connection]

        def on_message(self, connection, message):
            connection.close(1000, "thank you")

    listener = turns.loop.listen("127.0.0.1:0", Server())
    uri, client = f"ws://{listener}/", Client()

    def step():
        nonlocal closed
        closed = 0
        for _ in range(AT_ONCE):
            turns.loop.connect(uri, client)
        while closed < 2 * AT_ONCE:
            turns.loop.turn()

    growth = grown(turns, step, CONNECTIONS // AT_ONCE)
    record_property("growth", growth)
    assert growth < TOLERANCE


async def test_over_100_000_messages_and_2_000_connections_of_coroutines():
    async def echo(ws):
        async for message in ws:
            await ws.send(message)

    async with wsx.serve(echo, "127.0.0.1", 0) as server:
        uri = "ws://%s:%d/" % server.addresses[0]

        async def step():
            async with wsx.connect(uri) as ws:
                for _ in range(50):
                    await ws.send("x" * 64)
                for _ in range(50):
                    await ws.recv()

        for _ in range(200):
            await step()
        gc.collect()
        before, objects = resident(), len(gc.get_objects())
        for _ in range(2000):
            await step()
        gc.collect()
        assert len(gc.get_objects()) - objects < 1000
        assert resident() - before < TOLERANCE
