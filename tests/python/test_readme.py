"""The C program of README.md does what it says, as it stands there but for its port."""
import asyncio
import os
import re
import shlex
import socket
import subprocess

import websockets
from conftest import ROOT

# As in the Makefile.
NATIVE = "-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc".split()
START_TIMEOUT = 20


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as held:
        return held.getsockname()[1]


async def connected(url, program):
    """The program prints nothing, so that it listens is found out by trying."""
    deadline = asyncio.get_running_loop().time() + START_TIMEOUT
    while True:
        try:
            return await websockets.connect(url)
        except OSError:
            assert program.poll() is None, "the program ended"
            assert asyncio.get_running_loop().time() < deadline, "the program does not listen"
            await asyncio.sleep(0.01)


async def test_the_ten_lines_of_c_echo(tmp_path):
    blocks = re.findall(r"```c\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert len(blocks) == 1
    port = free_port()
    assert '"127.0.0.1:9001"' in blocks[0]
    source, binary = tmp_path / "echo.c", tmp_path / "echo"
    source.write_text(blocks[0].replace("9001", str(port)))
    subprocess.run([*shlex.split(os.environ.get("CC", "cc")), "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror",
                    f"-I{ROOT}/include", "-o", binary, source, f"{ROOT}/build/libwsx.a", *NATIVE], check=True)
    with subprocess.Popen([binary], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as program:
        try:
            client = await connected(f"ws://127.0.0.1:{port}", program)
            await client.send("hello")
            assert await client.recv() == "hello"
            await client.send(b"\x00\x01")
            assert await client.recv() == b"\x00\x01"
            await client.close()
        finally:
            program.kill()
            output = program.stdout.read()
    assert output == b"", "the library prints nothing"
