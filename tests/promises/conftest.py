"""Which doors there are, and what runs the actor of each. `asyncio` is the Python door inside asyncio.

`--doors c,node` (or WSX_DOORS) names doors; one that is named and does not answer fails. Without it, every door that
answers is tried. WSX_ACTOR_C, _RUST, _PYTHON, _ASYNCIO and _NODE replace the command of an actor.
"""
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import secure    # noqa: E402
import table     # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
COMMANDS = {
    "c": [str(ROOT / "build/promises/c")],
    "rust": [str(TARGET / "debug/examples/promises")],
    "python": [sys.executable, str(ROOT / "tests/promises/actor.py")],
    "asyncio": [sys.executable, str(ROOT / "tests/promises/actor.py"), "asyncio"],
    "node": ["node", str(ROOT / "tests/promises/actor.mjs")],
}
HELLO_TIMEOUT = 20   # seconds


def command_of(door):
    given = os.environ.get(f"WSX_ACTOR_{door.upper()}")
    return shlex.split(given) if given else COMMANDS[door]


def answers(door):
    """None where the actor runs, or why it does not."""
    try:
        hello = subprocess.run([*command_of(door), "hello"], capture_output=True, text=True, timeout=HELLO_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if hello.returncode == 0 and hello.stdout.startswith(f"{table.WAYS.get(door, door)} "):
        return None
    return (hello.stderr.strip().splitlines() or [f"{hello.stdout!r}, status {hello.returncode}"])[-1]


def pytest_addoption(parser):
    parser.addoption("--doors", default=os.environ.get("WSX_DOORS", ""), help=f"{','.join(COMMANDS)}; all that are built")


def pytest_sessionstart():
    if not secure.file_of("ca").exists():
        raise pytest.UsageError("the certificates of the tests are missing: run `make build/certificates/ca.pem`")


def pytest_configure(config):
    named = [door for door in config.getoption("--doors").split(",") if door]
    unknown = set(named) - set(COMMANDS)
    if unknown:
        raise pytest.UsageError(f"there is no door {', '.join(sorted(unknown))}: --doors takes {','.join(COMMANDS)}")
    config.missing_doors = {door: why for door in named or COMMANDS if (why := answers(door))}
    config.doors = [door for door in named or COMMANDS if door not in config.missing_doors]
    config.named_doors = named


def pytest_report_header(config):
    missing = [f"{door} ({why})" for door, why in config.missing_doors.items()]
    return [f"doors: {' '.join(config.doors) or 'none'}", *([f"not built: {', '.join(missing)}"] if missing else [])]


def pytest_generate_tests(metafunc):
    if {"door", "row"} <= set(metafunc.fixturenames):
        cases = [pytest.param(door, row, id=f"{door}: {row.id}")
                 for row in table.load() for door in metafunc.config.doors if row.is_for(door)]
        metafunc.parametrize(("door", "row"), cases)
