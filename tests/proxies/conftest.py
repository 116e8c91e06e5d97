"""The doors are those of the table of promises, whose actors are the programs here: see tests/promises/README.md."""
import importlib.util
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROMISES = Path(__file__).resolve().parents[1] / "promises"
sys.path.insert(0, str(PROMISES))

doors = importlib.util.module_from_spec(spec := importlib.util.spec_from_file_location("doors", PROMISES / "conftest.py"))
spec.loader.exec_module(doors)
pytest_addoption = doors.pytest_addoption
pytest_sessionstart = doors.pytest_sessionstart
pytest_configure = doors.pytest_configure
pytest_report_header = doors.pytest_report_header

from peer import Listener    # noqa: E402
from program import Program, stream_of, to_hex    # noqa: E402

DEADLINE = 20   # seconds


def pytest_generate_tests(metafunc):
    if "door" in metafunc.fixturenames:
        metafunc.parametrize("door", metafunc.config.doors)


class Client:
    """The program of a door, which connects once, or begins one client that connects again."""

    def __init__(self, door, before=(), environment=None):
        self.program = Program([*before, *doors.command_of(door)], environment=environment)

    def connect(self, url, command="connect", **options):
        texts = {key: to_hex(str(value)) if key in ("proxy", "tls_ca") else value for key, value in options.items()}
        answer = self.program.do(command, to_hex(url), *(f"{key}={value}" for key, value in texts.items()))
        assert answer.word == "ok", answer

    def told(self, word):
        event = self.program.next_event(stream_of(word, "1"), word)
        assert event.word == word, f"{word} was due\n{self.program.told()}"
        return event.fields

    def end(self):
        self.program.end()


@pytest.fixture
def client(door):
    """Makes clients of this door, and ends them in order."""
    made = []

    def make(*arguments, **keywords):
        made.append(Client(door, *arguments, **keywords))
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.fixture
def server():
    """Makes raw servers: `server(tls={"certificate": "server"})`, or on another address."""
    made = []

    def make(**keywords):
        made.append(Listener(**keywords))
        return made[-1]

    yield make
    for one in made:
        one.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Daemon:
    """A server of somebody else's, which takes a port that it is told: another one where somebody was faster."""

    def __init__(self, command):
        end = time.monotonic() + DEADLINE
        while True:
            self.port = free_port()
            self.process = subprocess.Popen(command(self.port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while self.process.poll() is None:
                try:
                    socket.create_connection(("127.0.0.1", self.port), DEADLINE).close()
                    return
                except ConnectionRefusedError:
                    assert time.monotonic() < end, f"{self.process.args} does not listen"
                    os.sched_yield()
            assert time.monotonic() < end, f"{self.process.args} does not start"

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start():
    """Starts what `command(port)` says, for one test."""
    running = []

    def started(command):
        running.append(Daemon(command))
        return running[-1].port

    yield started
    for one in running:
        one.stop()


@pytest.fixture
def tinyproxy(start, tmp_path):
    """Starts a tinyproxy with these further lines of configuration; answers its port."""
    def started(*lines):
        def command(port):
            file = tmp_path / f"tinyproxy-{port}.conf"
            file.write_text("\n".join([f"Port {port}", "Listen 127.0.0.1", "Timeout 60", "MaxClients 100", *lines, ""]))
            return ["tinyproxy", "-d", "-c", str(file)]
        return start(command)
    return started


@pytest.fixture
def microsocks(start):
    """Starts a microsocks with these further arguments; answers its port."""
    return lambda *arguments: start(lambda port: ["microsocks", "-i", "127.0.0.1", "-p", str(port), *arguments])
