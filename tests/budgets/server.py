"""A server or a client, alone or under callgrind or strace, and what they count."""
import contextlib
import functools
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

DEADLINE = 60   # seconds to end, and to come to rest


class Program:
    """One that ends with status 0 on SIGTERM."""

    def __init__(self, command, under=()):
        self.process = subprocess.Popen([*under, *command], stdout=subprocess.PIPE, text=True)
        self.is_child = "strace" in under   # and of strace; valgrind becomes it

    @functools.cached_property
    def pid(self):
        pid = self.process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text()) if self.is_child else pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGTERM)
        status = self.process.wait(timeout=DEADLINE)
        assert status == 0, f"the program ended with status {status}"

    @contextlib.contextmanager
    def stopped(self):
        """Stopped, while it waits for something to do."""
        self._until("S")
        os.kill(self.pid, signal.SIGSTOP)
        self._until("Tt")
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def _until(self, states):
        """Waits until every thread is in one of these states: S sleeps, T and t are stopped."""
        end = time.monotonic() + DEADLINE
        while not all(stat.read_text().rpartition(")")[2].split()[0] in states for stat in self._tasks("stat")):
            assert time.monotonic() < end, f"the program comes to none of the states {states}"
            time.sleep(0.0001)

    def switches(self):
        """How often its threads have gone to sleep: each wake-up is followed by one."""
        return sum(int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status.read_text(), re.M)[1])
                   for status in self._tasks("status"))

    def _tasks(self, file):
        return Path(f"/proc/{self.pid}/task").glob(f"*/{file}")

    def private_bytes(self):
        """Resident memory that no other process shares."""
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return 1024 * sum(map(int, re.findall(r"^Private_(?:Clean|Dirty): +(\d+) kB", rollup, re.M)))


class Server(Program):
    """One that says where it listens."""

    def __init__(self, command, under=()):
        super().__init__(command, under)
        line = self.process.stdout.readline()
        where = re.fullmatch(r"listening on (wss?)://127\.0\.0\.1:(\d+)\n", line)
        assert where, f"{command[0]} said {line!r}"
        self.is_secure, self.port = where[1] == "wss", int(where[2])


class Client(Program):
    """One that connects to the URL it is given, where somebody listens."""

    def __init__(self, command, under=()):
        self.listener = socket.create_server(("127.0.0.1", 0))
        super().__init__([*command, f"ws://127.0.0.1:{self.listener.getsockname()[1]}/"], under)

    def __exit__(self, *why):
        super().__exit__(*why)
        self.listener.close()


def count_instructions(start, work):
    """Starts a program, has it work, and returns how many instructions that took. What `work` returns, the peers, stays
    until the program has ended, so that it ends in the same way each time."""
    return _under_callgrind(start, work, lambda path: {
        "instructions": int(re.search(r"^totals: (\d+)", path.read_text(), re.M)[1])})


def count_by_function(start, work):
    """The same, for each function without those that it calls; what is inlined counts for whom it is inlined into."""
    def by_function(path):
        counts = {}
        annotate = ["callgrind_annotate", "--threshold=100", "--auto=no", "--tree=none", path]
        for line in subprocess.run(annotate, capture_output=True, text=True, check=True).stdout.splitlines():
            if row := re.match(r" *([\d,]+) \([ \d.]+%\) +(?!PROGRAM)[^ ]*?:(?=[^:])(.+?)(?: \[\S+\])?$", line):
                counts[row[2]] = counts.get(row[2], 0) + int(row[1].replace(",", ""))
        return counts
    return _under_callgrind(start, work, by_function)


def _under_callgrind(start, work, read):
    with tempfile.NamedTemporaryFile("r") as file:
        with start(under=["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={file.name}"]) as program:
            peers = work(program)
        close(peers)
        return read(Path(file.name))


def count_calls(start, work):
    """The same with system calls, by their names."""
    with tempfile.NamedTemporaryFile("r") as file:
        with start(under=["strace", "-f", "-c", "-U", "name,calls", "-o", file.name]) as program:
            peers = work(program)
        close(peers)
        return {name: int(calls) for name, calls in re.findall(r"^(\w+) +(\d+)$", file.read(), re.M) if name != "total"}


def close(peers):
    for peer in peers:
        peer.close()
