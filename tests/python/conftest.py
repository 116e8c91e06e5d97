"""Starting the echo server, and running tests that are coroutines.

The server is `build/echo`, or the command in WSX_ECHO: other echo servers with the same options pass the same tests.
"""
import asyncio
import inspect
import os
import re
import shlex
import signal
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CERTIFICATES = ROOT / "build" / "certificates"
COMMAND = shlex.split(os.environ.get("WSX_ECHO", "build/echo"))
START_TIMEOUT = 20   # seconds until the server listens
STOP_TIMEOUT = 10    # seconds from SIGTERM to the end
TEST_TIMEOUT = 60    # seconds for one test


@dataclass
class Echo:
    """A running server."""
    host: str
    port: int
    process: subprocess.Popen
    scheme: str = "ws"

    @property
    def url(self):
        return f"{self.scheme}://{self.host}:{self.port}/"

    @property
    def address(self):
        return (self.host, self.port)

    def resident(self):
        """Resident memory in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def stop(self):
        """SIGTERM, and what must follow: status 0 and nothing more on standard output."""
        self.process.send_signal(signal.SIGTERM)
        try:
            rest, _ = self.process.communicate(timeout=STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            pytest.fail("the server did not end on SIGTERM")
        assert self.process.returncode == 0, f"the server ended with status {self.process.returncode} on SIGTERM"
        assert rest == b"", "the server prints exactly one line"


def start_echo(*options):
    process = subprocess.Popen([*COMMAND, "--host", "127.0.0.1", "--port", "0", *options], cwd=ROOT,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    watchdog = threading.Timer(START_TIMEOUT, process.kill)   # so that reading the line ends
    watchdog.start()
    line = process.stdout.readline().decode()
    watchdog.cancel()
    found = re.fullmatch(r"listening on (wss?)://(\S+):(\d+)\n", line)
    if not found:
        process.kill()
        process.communicate()
        pytest.fail(f"{COMMAND[0]} {' '.join(options)} printed {line!r} instead of where it listens")
    return Echo(found[2], int(found[3]), process, found[1])


@pytest.fixture
def start():
    """Starts echo servers with options; each must have survived the test and end cleanly."""
    running = []

    def started(*options):
        running.append(start_echo(*options))
        return running[-1]

    yield started
    for echo in running:
        if echo.process.returncode is None:
            assert echo.process.poll() is None, f"the server died with status {echo.process.returncode}"
            echo.stop()


@pytest.fixture(scope="module")
def echo():
    """One echo server with default limits for the tests of a file."""
    echo = start_echo("--origin", "any")
    yield echo
    assert echo.process.poll() is None, f"the server died with status {echo.process.returncode}"
    echo.stop()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """A test may be a coroutine; it has TEST_TIMEOUT seconds."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None

    async def limited():
        async with asyncio.timeout(TEST_TIMEOUT):
            await pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames})

    asyncio.run(limited())
    return True
