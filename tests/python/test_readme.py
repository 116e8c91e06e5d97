"""The programs of README.md do what they say, as they stand there but for their port."""
import asyncio
import os
import random
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import websockets
from conftest import ROOT

# As in the Makefile.
NATIVE = "-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc".split()
TARGET = os.environ.get("CARGO_TARGET_DIR", f"{ROOT}/target")
DEADLINE = 20   # seconds
CRATE = """[package]
name = "readme"
edition = "2024"
[dependencies]
wsx-core.path = "{}/core"
"""


def blocks(language):
    """The programs of README.md in a language, each with a free port instead of 9001, and that port."""
    found = re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert all("127.0.0.1" in program and "9001" in program for program in found)
    port = free_port()
    return [program.replace("9001", str(port)) for program in found], port


def free_port():
    """One of those that the system hands to nobody who asks for any: it stays free until the program takes it."""
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    candidates = [*range(1024, low), *range(high + 1, 65536)]
    for port in random.sample(candidates, len(candidates)):
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            pass
    raise AssertionError("no port is free")


def in_c(program, folder):
    source, binary = folder / "echo.c", folder / "echo"
    source.write_text(program)
    subprocess.run([*shlex.split(os.environ.get("CC", "cc")), "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror",
                    f"-I{ROOT}/include", "-o", binary, source, f"{ROOT}/build/libwsx.a", *NATIVE], check=True)
    return [binary]


def in_rust(program, folder):
    (folder / "Cargo.toml").write_text(CRATE.format(ROOT))
    (folder / "Cargo.lock").write_bytes((ROOT / "Cargo.lock").read_bytes())
    (folder / "src").mkdir()
    (folder / "src/main.rs").write_text(program)
    subprocess.run(["cargo", "build", "-q", "--target-dir", TARGET], cwd=folder, check=True)
    return [f"{TARGET}/debug/readme"]


def in_python(program, folder):
    return [sys.executable, "-c", program]


def in_node(program, folder):
    return ["node", "--input-type=module", "--eval", program]   # finds libwsx from the working directory


RUN = {"c": in_c, "rust,no_run": in_rust, "python": in_python, "js": in_node}
# Each answers a message with the same: the echoes, and the rooms of several threads.
PROGRAMS = [*((language, 0) for language in RUN), ("c", 1), ("rust,no_run", 1)]


async def talk(url, program):
    """The program prints nothing, so that it listens is found out by trying."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                client = await websockets.connect(url)
                break
            except OSError:
                assert program.poll() is None, "the program ended"
                await asyncio.sleep(0.01)
        async with client:
            for message in ("hello", b"\x00\x01"):
                await client.send(message)
                assert await client.recv() == message


@pytest.mark.parametrize("language, index", PROGRAMS)
def test_the_program_answers(language, index, tmp_path):
    programs, port = blocks(language)
    command = RUN[language](programs[index], tmp_path)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as running:
        try:
            asyncio.run(talk(f"ws://127.0.0.1:{port}", running))
        finally:
            running.kill()
            output = running.stdout.read()
    assert output == b"", "the library prints nothing"


def test_the_coroutines_talk_to_each_other():
    (_, program), _ = blocks("python")
    ran = subprocess.run(in_python(program, None), cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "hello\n", "")


def test_no_program_is_left_out():
    found = re.findall(r"^```(\S+)$", (ROOT / "README.md").read_text(), re.M)
    run = [language for language, _ in PROGRAMS]
    assert sorted(found) == sorted([*run, "python", *["sh"] * found.count("sh")])
