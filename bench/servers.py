"""The servers that are compared: how each is built or found, its version, and what to do where it is missing."""
import json
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
PEERS = BENCH / "peers"
BUILD = ROOT / "build" / "bench"
CERTIFICATES = BUILD / "certificates"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PYTHON = ROOT / "build" / "venv" / "bin" / "python"
OURS, LIMIT, PEER = "ours", "limit", "peer"


class Missing(Exception):
    """A server cannot be run here; the message says what to do about it."""


@dataclass
class Server:
    key: str            # what --servers selects by
    label: str
    language: str       # of the program that uses it: C, Rust, Node, Python
    kind: str
    command: list[str]
    version: str
    variant: bool       # takes part only in the rows that name it
    close: bool         # to others, in the rows that have a goal

    def command_for(self, row):
        """The raw loop needs to know what to imitate; the others have two modes, and the same options for the rest."""
        if self.kind == LIMIT and row.scenario == "handshake":
            return [*self.command, "--handshake"]
        mode = ["--broadcast"] if row.scenario == "broadcast" else []
        tls = ["--tls-cert", str(CERTIFICATES / "cert.pem"), "--tls-key", str(CERTIFICATES / "key.pem")]
        return [*self.command, *mode, *(tls if row.tls else []), *row.compression]


def run(*command, **options):
    """Runs a command for its output; what it prints is shown where it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode:
        raise Missing(f"`{shlex.join(map(str, command[:3]))} …` failed:\n{done.stderr.strip()[-2000:]}")
    return done.stdout.strip()


def need(tool, how):
    if not shutil.which(tool):
        raise Missing(f"{tool} is missing: {how}")
    return tool


def compiled(name, sources, command):
    """build/bench/NAME, made by `command` where a source is newer."""
    binary = BUILD / name
    BUILD.mkdir(parents=True, exist_ok=True)
    if not binary.exists() or any(source.stat().st_mtime > binary.stat().st_mtime for source in sources):
        run(*command, "-o", binary)
    return binary


def cargo(*arguments):
    need("cargo", "install Rust with rustup")
    environment = {**os.environ, "CARGO_TARGET_DIR": str(TARGET)}
    return run("cargo", *arguments, "--locked", "--manifest-path", BENCH / "Cargo.toml", env=environment)


def locked(crate):
    """A crate's version in the lock file."""
    return re.search(rf'name = "{crate}"\nversion = "(.*)"', (BENCH / "Cargo.lock").read_text())[1]


def load_generator():
    cargo("build", "--release", "--quiet", "-p", "wsx-load")
    return str(TARGET / "release" / "wsx-load")


def make_certificates(load):
    """For this run: an authority, and a certificate by it with its key."""
    CERTIFICATES.mkdir(parents=True, exist_ok=True)
    run(load, "certificate", CERTIFICATES)


# --- Ours

def version_of_ours():
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    try:
        return f"{version} ({run('git', '-C', ROOT, 'describe', '--always', '--dirty')})"
    except (Missing, OSError):
        return version


def wsx_c(*options):
    if not (ROOT / "build" / "echo").exists():
        raise Missing("build/echo is not there: make build")
    return [str(ROOT / "build" / "echo"), "--port", "0", *options], version_of_ours()


def wsx_node(script):
    if not (ROOT / "node_modules" / "libwsx").exists():
        raise Missing("the door for Node is not there: make door-node")
    return [need("node", "install Node 20 or newer"), str(PEERS / script)], version_of_ours()


def python(script, package, how):
    test = [PYTHON, "-c", f"import uvloop, {package}"]
    if not PYTHON.exists() or subprocess.run(test, capture_output=True).returncode:
        raise Missing(f"{how} in build/venv: make bench")
    return [str(PYTHON), str(PEERS / script)]


def wsx_python(script):
    return python(script, "wsx", "the door for Python, or uvloop, is not there"), version_of_ours()


# --- The limit and the peers

def raw():
    source = PEERS / "raw.c"
    compiler = os.environ.get("CC", "cc")
    need(compiler, "install gcc or clang, or name one with CC=")
    return [str(compiled("raw", [source], [compiler, "-std=c11", "-O3", source]))], ""


def uwebsockets():
    """Its own sources, as a crate brings them, compiled as its own build does: epoll, -O3, -march=native, link-time
    optimisation. (The library inside the wheel of socketify is built on libuv, and measures slower.)"""
    compiler, cxx = os.environ.get("CC", "cc"), os.environ.get("CXX", "c++")
    need(cxx, "install g++, or name a compiler with CXX=")
    crate = "libuwebsockets-sys"
    packages = json.loads(cargo("metadata", "--format-version", "1", "--features", "uwebsockets-sources"))["packages"]
    manifest = next(package["manifest_path"] for package in packages if package["name"] == crate)
    sources = Path(manifest).parent / "uWebSockets"
    usockets = sources / "uSockets" / "src"
    flags = ["-O3", "-march=native", "-flto", "-w", "-DLIBUS_NO_SSL", "-DUWS_NO_ZLIB"]
    flags += ["-I", usockets, "-I", sources / "src"]
    main = PEERS / "uwebsockets.cpp"
    objects = []
    for source in [*usockets.glob("*.c"), *usockets.glob("eventing/*.c")]:
        objects.append(compiled(f"uws-{source.stem}.o", [source], [compiler, *flags, "-c", source]))
    binary = compiled("uwebsockets", [main, *objects], [cxx, "-std=c++20", *flags, main, *objects])
    return [str(binary)], f"20 (sources in the crate {crate} {locked(crate)}; epoll, -O3 -march=native -flto)"


def rust(name):
    cargo("build", "--release", "--quiet", "-p", "wsx-bench-peers")
    return [str(TARGET / "release" / name)], locked(name)


def libwebsockets():
    if not Path("/usr/include/libwebsockets.h").exists():
        raise Missing("its header is not there (Debian: apt-get install libwebsockets-dev)")
    source, config = PEERS / "libwebsockets.c", Path("/usr/include/lws_config.h").read_text()
    binary = compiled("libwebsockets", [source],
                      [os.environ.get("CC", "cc"), "-std=gnu11", "-O3", source, "-lwebsockets"])
    return [str(binary)], re.search(r'LWS_LIBRARY_VERSION "([\d.]+)', config)[1]


def ws():
    need("npm", "it comes with Node")
    folder = PEERS / "node"
    installed, lock = folder / "node_modules" / ".package-lock.json", folder / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        run("npm", "ci", "--no-audit", "--no-fund", cwd=folder)
        installed.touch()
    version = json.loads((folder / "node_modules" / "ws" / "package.json").read_text())["version"]
    node = need("node", "install Node 20 or newer")
    tell = "const { node, openssl, zlib } = process.versions; `Node ${node}, OpenSSL ${openssl}, zlib ${zlib}`"
    return [node, str(folder / "ws.mjs")], f"{version}, {run(node, '-p', tell)}"


def python_peer(script, package):
    command = python(script, package, f"{package}, or uvloop, is not there")
    tell = ("from importlib.metadata import version; import platform, ssl, zlib;"
            f" print(version('{package}'), version('uvloop'), platform.python_version(),"
            " ssl.OPENSSL_VERSION.split()[1], zlib.ZLIB_RUNTIME_VERSION)")
    version, uvloop, interpreter, openssl, zlib = run(PYTHON, "-c", tell).split()
    return command, f"{version}, uvloop {uvloop}, Python {interpreter}, OpenSSL {openssl}, zlib {zlib}"


ALL = [
    ("raw", "raw TCP loop", "C", LIMIT, raw),
    ("wsx-c", "libwsx", "C", OURS, wsx_c),
    ("wsx-c-busy", "libwsx, busy poll", "C", OURS, lambda: wsx_c("--busy-poll", "100")),
    ("wsx-c-2", "libwsx, 2 threads", "C", OURS, lambda: wsx_c("--threads", "2")),
    ("wsx-c-64", "libwsx, 64 threads", "C", OURS, lambda: wsx_c("--threads", "64")),
    ("uwebsockets", "uWebSockets", "C++", PEER, uwebsockets),
    ("fastwebsockets", "fastwebsockets", "Rust", PEER, lambda: rust("fastwebsockets")),
    ("tokio-tungstenite", "tokio-tungstenite", "Rust", PEER, lambda: rust("tokio-tungstenite")),
    ("libwebsockets", "libwebsockets", "C", PEER, libwebsockets),
    ("wsx-node-handlers", "libwsx, handlers", "Node", OURS, lambda: wsx_node("wsx_handlers.mjs")),
    ("wsx-node-events", "libwsx, events", "Node", OURS, lambda: wsx_node("wsx_events.mjs")),
    ("ws", "ws", "Node", PEER, ws),
    ("wsx-python-callbacks", "libwsx, callbacks", "Python", OURS, lambda: wsx_python("wsx_callbacks.py")),
    ("wsx-python-async", "libwsx, coroutines", "Python", OURS, lambda: wsx_python("wsx_async.py")),
    ("picows", "picows", "Python", PEER, lambda: python_peer("picows_uvloop.py", "picows")),
    ("websockets", "websockets", "Python", PEER, lambda: python_peer("websockets_uvloop.py", "websockets")),
]
VARIANTS = {"wsx-c-busy", "wsx-c-2", "wsx-c-64"}
CLOSE = {"raw", "wsx-c", "uwebsockets"}
# These are there, or built from here, where the doors are.
AT_HOME = r"^(raw|wsx-.*)$"


def find(wanted, tell):
    """The servers whose key matches, and what is left out with the reason."""
    found, left_out = [], {}
    for key, label, language, kind, prepare in ALL:
        if not re.search(wanted, key):
            continue
        tell(f"preparing {key}")
        try:
            command, version = prepare()
            found.append(Server(key, label, language, kind, command, version, key in VARIANTS, key in CLOSE))
        except Missing as missing:
            left_out[f"{label} ({language})"] = str(missing)
    return found, left_out
