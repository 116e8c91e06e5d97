"""The programs of README.md do what they say, as they stand there but for their port."""
import asyncio
import re
import socket

import pytest
import websockets
from conftest import DEADLINE, ROOT, Program

PROGRAMS = re.findall(r"```python\n(.*?)```", (ROOT / "bindings/python/README.md").read_text(), re.S)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as held:
        return held.getsockname()[1]


async def talk(uri, process):
    """The program prints nothing, so that it listens is found out by trying."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                ws = await websockets.connect(uri)
                break
            except OSError:
                assert process.poll() is None, process.communicate()
                await asyncio.sleep(0.01)
        async with ws:
            for message in ("hello", b"\0\1"):
                await ws.send(message)
                assert await ws.recv() == message


@pytest.mark.parametrize("program", PROGRAMS, ids=["callbacks", "coroutines"])
def test_the_programs_echo(program):
    port = free_port()
    assert "9001" in program
    with Program("-c", program.replace("9001", str(port))) as running:
        asyncio.run(talk(f"ws://127.0.0.1:{port}/", running.process))
        assert running.process.poll() is None
        running.process.kill()
        assert running.process.communicate() == ("", ""), "the library prints nothing"


def test_callbacks_do_without_asyncio():
    program = "import sys, wsx\nassert 'asyncio' not in sys.modules\nwsx.connect, wsx.asyncio.serve\ntry: wsx.nothing\n" \
        "except AttributeError as error: print(error)"
    with Program("-c", program) as running:
        assert running.end() == (0, "module 'wsx' has no attribute 'nothing'\n", "")
