#!/usr/bin/env python3
"""What the system sees of build/echo: system calls per message, wake-ups of an idle loop, memory of idle connections.

usage: run.py [system-calls] [wake-ups] [memory]     (all three where none is named; system-calls needs strace)

Each figure is printed with the budget it must keep; exits 1 where one is over.
"""
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "python"))
from wire import BINARY, close, frame, request  # noqa: E402

ECHO = str(ROOT / "build" / "echo")
MESSAGE = frame(BINARY, bytes(range(64)))
REPLY = b"\x82\x40" + bytes(range(64))
CONNECTIONS = 10_000
IDLE_SECONDS = 10
failed = []


def report(what, figure, budget, unit):
    over = figure > budget
    print(f"{'FAIL' if over else 'ok  '} {what}: {figure:g} {unit} (budget {budget:g})", flush=True)
    if over:
        failed.append(what)


class Server:
    """build/echo, ended with SIGTERM and status 0."""

    def __init__(self, *before):
        self.process = subprocess.Popen([*before, ECHO, "--port", "0"], stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.port = int(re.fullmatch(r"listening on ws://127\.0\.0\.1:(\d+)\n", line)[1])
        self.pid = self.process.pid
        if before:   # strace's child
            self.pid = int(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()[0])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["kill", "-TERM", str(self.pid)], check=True)
        if self.process.wait(timeout=30) != 0:
            raise SystemExit(f"build/echo ended with status {self.process.returncode}")

    def connect(self):
        peer = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.sendall(request())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += peer.recv(4096)
        assert head.startswith(b"HTTP/1.1 101"), head
        return peer


def echo(peer, times, depth=1):
    """Sends `depth` messages at once, `times` times, and checks what comes back."""
    for _ in range(times):
        peer.sendall(MESSAGE * depth)
        reply = b""
        while len(reply) < len(REPLY) * depth:
            reply += peer.recv(1 << 20)
        assert reply == REPLY * depth


def traced_calls(rounds, depth):
    with tempfile.NamedTemporaryFile("r") as summary:
        with Server("strace", "-f", "-c", "-o", summary.name) as server, server.connect() as peer:
            echo(peer, rounds, depth)
            peer.sendall(close(1000))
            while peer.recv(4096):
                pass
        calls = {}
        for line in summary:
            fields = line.split()
            if len(fields) >= 5 and fields[3].isdigit() and fields[-1] != "total":
                calls[fields[-1]] = int(fields[3])
    return calls


def system_calls():
    if not shutil.which("strace"):
        raise SystemExit("strace is missing: install it (Debian: apt-get install strace).")
    rounds = 1000
    for depth in (1, 32):
        few, many = traced_calls(rounds, depth), traced_calls(3 * rounds, depth)
        messages = 2 * rounds * depth
        per = {name: (many[name] - few.get(name, 0)) / messages for name in many}
        receives = sum(per.get(name, 0) for name in ("read", "recvfrom", "recvmsg", "readv"))
        sends = sum(per.get(name, 0) for name in ("write", "sendto", "sendmsg", "writev"))
        waits = sum(per.get(name, 0) for name in ("epoll_wait", "epoll_pwait", "epoll_pwait2"))
        report(f"receives per message, {depth} in flight", round(receives, 4), round(1.01 / depth, 4), "calls")
        report(f"sends per message, {depth} in flight", round(sends, 4), round(1.01 / depth, 4), "calls")
        report(f"all system calls per message, {depth} in flight", round(receives + sends + waits, 4),
               round(3.03 / depth, 4), "calls")


def switches(pid):
    """How often the threads of a process have gone to sleep: each wake-up is followed by one."""
    found = [re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status.read_text(), re.M)
             for status in Path(f"/proc/{pid}/task").glob("*/status")]
    return sum(int(one[1]) for one in found)


def wake_ups():
    with Server() as server:
        open_ones = [server.connect() for _ in range(100)]
        gone = [server.connect() for _ in range(100)]
        for peer in open_ones + gone:
            echo(peer, 1)
        for peer in gone:
            peer.close()
        # A whole round after the last close was seen: then nothing is left to do.
        echo(open_ones[0], 1)
        before = switches(server.pid)
        time.sleep(1)
        while before != switches(server.pid):
            before = switches(server.pid)
            time.sleep(1)
        time.sleep(IDLE_SECONDS)
        report(f"wake-ups in {IDLE_SECONDS} s of a loop with 100 idle connections and 100 that left",
               switches(server.pid) - before, 0, "wake-ups")
        for peer in open_ones:
            peer.close()


def resident(pid):
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


def memory():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(CONNECTIONS, hard - 100)
    with Server() as server:
        with server.connect() as first:
            echo(first, 10)
        before = resident(server.pid)
        peers = []
        for _ in range(count):
            peers.append(server.connect())
            echo(peers[-1], 1)
        each = (resident(server.pid) - before) / count
        report(f"resident memory of each of {count} idle connections, after one echo", round(each), 400, "bytes")
        for peer in peers:
            peer.close()


def main():
    known = {"system-calls": system_calls, "wake-ups": wake_ups, "memory": memory}
    for name in sys.argv[1:] or known:
        if name not in known:
            raise SystemExit(__doc__)
        known[name]()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
