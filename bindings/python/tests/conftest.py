"""Running coroutines as tests, on asyncio and on uvloop, with servers of theirs; turning a loop until something has happened."""
import asyncio
import contextlib
import inspect
import logging
import os
import re
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
import uvloop

import wsx

ROOT = Path(__file__).resolve().parents[3]
DEADLINE = 20   # seconds for whatever must come
RUNNERS = {"asyncio": None, "uvloop": uvloop.new_event_loop}
CERTIFICATES = ROOT / "build/certificates"   # tests/certificates/certificates.rs says what is there


def pytest_sessionstart():
    if not (CERTIFICATES / "ca.pem").exists():
        raise pytest.UsageError("the certificates of the tests are missing: run `make build/certificates/ca.pem`")


def own(name):
    """A certificate of the tests and its key, as `wsx.TLS` takes them."""
    return {"cert": CERTIFICATES / f"{name}.pem", "key": CERTIFICATES / f"{name}-key.pem"}


SERVING = wsx.TLS(**own("server"))
TRUSTING = wsx.TLS(ca=CERTIFICATES / "ca.pem")


def their_server():
    """The same for servers of others."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*own("server").values())
    return context


def their_client():
    """The same for clients of others."""
    return ssl.create_default_context(cafile=CERTIFICATES / "ca.pem")


def pytest_generate_tests(metafunc):
    """A coroutine runs on both loops."""
    if inspect.iscoroutinefunction(metafunc.function):
        metafunc.fixturenames.append("runner")
        metafunc.parametrize("runner", RUNNERS)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    given = {name: pyfuncitem.funcargs[name] for name in names}

    async def limited():
        async with asyncio.timeout(DEADLINE * 2):
            await pyfuncitem.obj(**given)

    with asyncio.Runner(loop_factory=RUNNERS[pyfuncitem.callspec.params["runner"]]) as runner:
        runner.run(limited())
    return True


async def echo(ws):
    async for message in ws:
        await ws.send(message)


@contextlib.asynccontextmanager
async def served(handler=echo, **options):
    """A server, and the URI to connect to."""
    async with wsx.serve(handler, "127.0.0.1", 0, **options) as server:
        yield server, "ws://%s:%d/" % server.addresses[0]


async def until(condition):
    """Waits until something holds that no event tells of."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.001)


class Turns:
    """An event loop and a record of what was heard on it."""

    def __init__(self, **options):
        self.loop = wsx.EventLoop(**options)
        self.heard = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.loop.close()

    def until(self, condition):
        """Turns until the condition holds; fails when it does not in time."""
        end = time.monotonic() + DEADLINE
        while not condition():
            left = end - time.monotonic()
            assert left > 0, f"it did not come to pass; heard: {self.heard}"
            self.loop.turn(left)

    def until_heard(self, *event):
        """Turns until this event has been recorded."""
        self.until(lambda: event in self.heard)

    def say(self, name, *things):
        self.heard.append((name, *things))

    def pair(self, *, server=None, client=None, **options):
        """A server connection and a client connection, both open."""
        opened = {}
        server, client = dict(server or {}), dict(client or {})
        for side, hooks in (("server", server), ("client", client)):
            def on_open(connection, opening, side=side, then=hooks.get("on_open")):
                opened[side] = connection
                if then:
                    then(connection, opening)
            hooks["on_open"] = on_open
        listener = self.loop.listen("127.0.0.1:0", **server, **options)
        self.loop.connect(f"ws://{listener}/", **client)
        self.until(lambda: len(opened) == 2)
        return opened["server"], opened["client"]


@pytest.fixture
def turns():
    with Turns() as turns:
        yield turns


@pytest.fixture
def logged():
    """What the logger "wsx" was told."""
    records = []

    class Keep(logging.Handler):
        def emit(self, record):
            records.append(record)

    logger, keep = logging.getLogger("wsx"), Keep()
    logger.addHandler(keep)
    propagate, logger.propagate = logger.propagate, False
    level = logger.level
    logger.setLevel(logging.DEBUG)
    yield records
    logger.removeHandler(keep)
    logger.propagate = propagate
    logger.setLevel(level)


class Program:
    """A Python program that prints where it listens, or anything else first."""

    def __init__(self, *command, **options):
        self.process = subprocess.Popen([sys.executable, *map(str, command)], cwd=ROOT, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def line(self):
        """The next line it prints."""
        return self.process.stdout.readline().rstrip("\n")

    def end(self, signal=None):
        """Its status, output and errors, after a signal if one is named."""
        if signal is not None:
            self.process.send_signal(signal)
        output, errors = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, output, errors


def resident(pid=None):
    """Resident memory of a process in bytes."""
    status = Path(f"/proc/{pid or os.getpid()}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024


def wake_ups(pid=None):
    """How often the threads of a process gave up the processor of their own accord, to sleep."""
    tasks = Path(f"/proc/{pid or os.getpid()}/task").iterdir()
    return sum(int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text(), re.M)[1])
               for task in tasks)
