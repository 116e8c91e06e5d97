#!/usr/bin/env python3
"""Where the CPU time of a small message goes: into which system calls, and how much is the server's own.

    calls.py [--servers REGEX] [--depth 1] [--size 64] [--seconds 4]

Samples each server by perf (Debian: linux-perf; it wants root, or a kernel.perf_event_paranoid of 1 or less) while the
load generator keeps it busy on 100 connections. A server that is sampled takes some percent longer.
"""
import argparse
import re
import shutil
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import run
import servers
from figures import duration, table
from rows import Row, echo

SAMPLES_PER_SECOND = 4999
WARMUP = 0.5
# What the kernel is asked for, by its functions. TCP on loopback delivers within the send: what it takes until the peer's
# socket has the bytes, and the peer is woken, is on the sender's account.
SEND, DELIVERY, RECEIVE, WAIT = "send", "of it the delivery", "receive", "wait for events"
CALLS = {
    SEND: r"__x64_sys_(sendto|sendmsg|write|writev)", DELIVERY: r"handle_softirqs|__do_softirq",
    RECEIVE: r"__x64_sys_(recvfrom|recvmsg|read|readv)", WAIT: r"__x64_sys_(epoll_wait|epoll_pwait|epoll_pwait2)",
}
ELSE, USER = "else in the kernel", "in user space"


def shares(samples):
    """Of all samples, how many are within each of CALLS, elsewhere in the kernel, and in user space."""
    command = ["perf", "report", "--stdio", "--children", "--call-graph", "none", "--sort", "sym", "-i", samples]
    found, kernel = defaultdict(float), 0
    for line in servers.run(*command).splitlines():
        if line := re.match(r"\s*([\d.]+)%\s+([\d.]+)%\s+\[(.)\]\s+(\S+)", line):
            within, itself, where, name = float(line[1]) / 100, float(line[2]) / 100, line[3], line[4]
            kernel += itself if where == "k" else 0
            for call, names in CALLS.items():
                found[call] += within if re.fullmatch(names, name) else 0
    if not kernel:
        raise servers.Missing("perf does not see the kernel: run it as root, with kernel.kptr_restrict=0")
    return {**found, ELSE: kernel - found[SEND] - found[RECEIVE] - found[WAIT], USER: 1 - kernel}


def sample(server, given, load):
    """The server's nanoseconds for a message, and their shares."""
    row = Row("calls", "", "echo", "echo", echo(given.size, given.depth))
    own, loads = run.cores(None)
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryDirectory() as folder:
        process, port = run.start(server, row, {own}, errors)
        try:
            loading = run.start_load(load, server, row, given, process, port, {loads})
            samples = Path(folder) / "samples"
            try:
                servers.run("perf", "record", "--event", "cpu-clock", "--freq", SAMPLES_PER_SECOND, "-g", "-o", samples,
                            "-p", process.pid, "--", "sleep", given.seconds)
            finally:
                result = run.result_of(loading, process, errors)
            return result["cpu_ns_per_unit"], shares(samples)
        finally:
            run.end(process)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--servers", default=r"^(raw|wsx-c|uwebsockets|wsx-python-.*|wsx-node-.*)$", metavar="REGEX")
    parser.add_argument("--depth", type=int, default=1, metavar="N", help="messages in flight; default 1")
    parser.add_argument("--size", type=int, default=64, metavar="BYTES", help="default 64")
    parser.add_argument("--seconds", type=float, default=4, metavar="S", help="sampled for each server; default 4")
    given = parser.parse_args()
    given.warmup = WARMUP
    if not shutil.which("perf"):
        raise SystemExit("calls: perf is missing (Debian: apt-get install linux-perf)")
    parts = [*CALLS, ELSE, USER]
    lines = []
    try:
        found, left_out = servers.find(given.servers, lambda line: print(line, file=sys.stderr))
        load = servers.load_generator()
        for server in found:
            print(f"sampling {server.key}", file=sys.stderr)
            took, share = sample(server, given, load)
            name = f"{server.label} ({server.language})"
            lines.append([name, duration(took), *(duration(took * share[part]) for part in parts)])
    except (servers.Missing, run.Failed) as failed:
        raise SystemExit(f"calls: {failed}") from None
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    print("\n".join(table(["server", "CPU", *parts], lines)), end="")


if __name__ == "__main__":
    main()
