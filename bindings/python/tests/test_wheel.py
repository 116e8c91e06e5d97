"""What is built is whole: the wheel, and the source distribution, installed in an empty environment and used."""
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile

import pytest
from conftest import ROOT

PROJECT = ROOT / "bindings/python"

PROGRAM = """
import asyncio, importlib.metadata, wsx
assert importlib.metadata.version("libwsx") == wsx.__version__

async def echo(ws):
    async for message in ws:
        await ws.send(message)

async def main():
    async with wsx.serve(echo, "127.0.0.1", 0) as server:
        async with wsx.connect("ws://%s:%d/" % server.addresses[0]) as ws:
            await ws.send("hello")
            assert await ws.recv() == "hello"

asyncio.run(main())
with wsx.EventLoop() as loop:
    listener = loop.listen("127.0.0.1:0", on_message=lambda connection, message: connection.send(message))
    loop.connect(f"ws://{listener}/", on_open=lambda connection, _: connection.send(b"hello"),
                 on_message=lambda _, message: (print(message), loop.stop()))
    loop.run()
"""


def run(*command, **options):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(what, source, into):
    """Builds without looking at any index: the tools are in this environment, the crates are cargo's."""
    run(sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-index", "--no-deps",
        "--no-build-isolation", "--wheel-dir", into, source,
        env={**os.environ, "PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"})
    wheel, = into.glob("*.whl")
    return wheel


def use(wheel, into):
    """Installs a wheel in an empty environment, and runs the program there."""
    venv.create(into / "venv", with_pip=True)
    python = into / "venv/bin/python"
    run(python, "-m", "pip", "--disable-pip-version-check", "install", "--no-index", wheel)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    assert run(python, "-I", "-c", PROGRAM, cwd=into, env=environment) == "b'hello'\n"


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    into = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "maturin", "sdist", "--manifest-path", PROJECT / "Cargo.toml", "--out", into)
    found, = into.glob("*.tar.gz")
    return found


def test_the_wheel_works_in_an_empty_environment(tmp_path):
    wheel = built("wheel", PROJECT, tmp_path)
    assert re.fullmatch(r"libwsx-[\d.]+-cp311-abi3-\w+\.whl", wheel.name)
    names = zipfile.ZipFile(wheel).namelist()
    assert {"wsx/__init__.py", "wsx/py.typed", "wsx/_wsx.pyi", "wsx/asyncio/server.py"} < set(names)
    assert [name for name in names if name.endswith(".so")] == ["wsx/_wsx.abi3.so"]
    licences = {name.rpartition("/")[2]: name for name in names if "LICENSE-" in name}
    assert set(licences) == {"LICENSE-APACHE", "LICENSE-MIT", "LICENSE-THIRD-PARTY"}
    notices = zipfile.ZipFile(wheel).read(licences["LICENSE-THIRD-PARTY"]).decode()
    for crate in ("ring", "rustls-webpki", "untrusted", "subtle"):
        assert re.search(rf"^{crate} \d[\d.]* \(", notices, re.MULTILINE), crate
    use(wheel, tmp_path)


def test_the_licences_of_others_are_those_of_what_is_linked():
    run(PROJECT.parents[1] / ".ci/notices", "--check")


def test_the_source_distribution_works_in_an_empty_environment(sdist, tmp_path):
    names = tarfile.open(sdist).getnames()
    assert any(name.endswith("/core/src/lib.rs") for name in names), "the engine is in it"
    assert any(name.endswith("/wsx/_wsx.pyi") for name in names)
    use(built("sdist", sdist, tmp_path), tmp_path)


def test_nothing_but_its_own_names_is_exported(tmp_path):
    import wsx._wsx
    symbols = run("nm", "-D", "--defined-only", wsx._wsx.__file__)
    names = [line.split()[-1] for line in symbols.splitlines() if " A " not in line]
    assert names == ["PyInit__wsx"], names
