"""The types: strict, and the stub says what the native module has."""
import subprocess
import sys
import tomllib

from conftest import ROOT

import wsx

PROJECT = ROOT / "bindings/python"

PROGRAM = """
import asyncio
import pathlib
import wsx

class Echo(wsx.Handler):
    def on_open(self, connection: wsx.Connection, opening: wsx.Opening) -> None:
        connection.data = opening.headers["Host"]

    def on_message(self, connection: wsx.Connection, message: str | bytes) -> None:
        connection.send(message)

with wsx.EventLoop(receive_buffer=8192) as loop:
    listener: wsx.Listener = loop.listen("127.0.0.1:0", Echo(), max_message=None, ping_interval=2.5, origins="any")
    loop.connect(f"ws://{listener}/", on_message=lambda connection, message: connection.close(1000))
    loop.connect("wss://127.0.0.1:1/", ssl=True, compression=wsx.Deflate(level=9))
    tls = wsx.TLS(cert=pathlib.Path("cert.pem"), key=b"", certificates=[("a.pem", "b.pem")], client_auth="optional")
    if listener.local_address is None:
        listener.reload_tls(tls)
    loop.turn(0)

async def echo(ws: wsx.asyncio.ServerConnection) -> None:
    async for message in ws:
        await ws.send(message)

async def main() -> None:
    async with wsx.serve(echo, "127.0.0.1", 0) as server, wsx.connect("ws://127.0.0.1") as ws:
        await ws.send("x")
        text: str = await ws.recv(decode=True)
        latency: float = await (await ws.ping())
        extensions: str = ws.extensions
        server.reload_tls(wsx.TLS(cert="cert.pem", key="key.pem"))
        code: int | None = ws.close_code
        server.close()
"""

WRONG = {
    "loop.listen(5)": "arg-type",
    'loop.listen("127.0.0.1:0", max_mesage=5)': "call-arg",
    'loop.listen("127.0.0.1:0", backlog_policy="explode")': "arg-type",
    'loop.listen("127.0.0.1:0", compression="gzip")': "arg-type",
    'loop.listen("127.0.0.1:0", ssl=wsx.TLS(client_auth="maybe"))': "arg-type",
    "connection.send(5)": "arg-type",
    "connection.sent": "attr-defined",
    "wsx.Response.reject()": "call-arg",
}


def mypy(*arguments):
    done = subprocess.run([sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--cache-dir=/dev/null",
                           *map(str, arguments)], capture_output=True, text=True, cwd=PROJECT)
    return done.returncode, done.stdout + done.stderr


def test_the_package_is_strictly_typed():
    status, told = mypy("python/wsx")
    assert status == 0, told


def test_the_stub_says_what_the_module_has(tmp_path):
    done = subprocess.run([sys.executable, "-m", "mypy.stubtest", "wsx"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_programs_are_checked(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.replace("import wsx\n", "import wsx\nimport wsx.asyncio\n"))
    status, told = mypy(program)
    assert status == 0, told


def test_wrong_programs_are_found(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("import wsx\ndef wrong(loop: wsx.EventLoop, connection: wsx.Connection) -> None:\n"
                       + "".join(f"    {line}\n" for line in WRONG))
    _, told = mypy(program)
    for number, kind in enumerate(WRONG.values(), start=3):
        assert any(f"program.py:{number}: error" in line and f"[{kind}]" in line for line in told.splitlines()), told


def test_everything_public_is_documented():
    for name in wsx.__all__:
        thing = getattr(wsx, name)
        if not isinstance(thing, str):
            assert thing.__doc__, name
            for member in vars(thing) if isinstance(thing, type) else ():
                if not member.startswith("_") and callable(getattr(thing, member)):
                    assert getattr(thing, member).__doc__, f"{name}.{member}"


def test_the_version_is_the_workspace_s():
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    assert wsx.__version__ == version
