#!/usr/bin/env python3
"""What a message costs build/echo, or a client, without noise: in instructions, system calls, memory, wake-ups.

usage: run.py [--accept] [instructions] [system-calls] [memory] [wake-ups]     (all four where none is named)
       run.py profile                                                          (where the instructions go, by function)

Each row has a ceiling, in ceilings.toml: what was reached once, and 3 %. One that is above it fails the run. The budget
is the goal, and only told; the last column is what uWebSockets 20 takes, measured once and elsewhere. --accept makes
what this run reaches the new ceilings, and tells what has changed: that is for people, never for CI.

Instructions (valgrind's callgrind) and system calls (strace) are the difference of two runs, one with three times the
messages of the other, over the messages between them: what it takes to start, open and end cancels out. What is left
depends on the compiler and the C library, whose versions stand in ceilings.toml, and on the processor as far as they
choose their code by it. Callgrind counts every byte of a `rep movsb`, with which the C library copies large blocks.
"""
import functools
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from peers import (Broadcast, ClientEcho, CompressedEcho, Echo, GatheredEcho, Handshake, answer_pings, connect,
                   connect_all, serve_all)
from server import Client, Server, close, count_by_function, count_calls, count_instructions

ROOT = Path(__file__).resolve().parents[2]
ECHO = [str(ROOT / "build" / "echo"), "--port", "0"]
CERTIFICATES = ROOT / "build" / "certificates"
TLS = ["--tls-cert", str(CERTIFICATES / "server.pem"), "--tls-key", str(CERTIFICATES / "server-key.pem")]
HEARTBEAT = str(ROOT / "build" / "budgets" / "heartbeat")
CLIENT = [str(ROOT / "build" / "budgets" / "client")]
CEILINGS = Path(__file__).with_name("ceilings.toml")
MANY = 10_000        # connections, each a descriptor here and in the server
PING_SECONDS = 5

# Each row: its budget, and what uWebSockets takes.
ROWS = {
    "instructions, 64 B echo, one in flight": (500, 811),
    "instructions, 64 B echo, 32 in flight": (230, 365),
    "instructions, 64 B echo of text, one in flight": (None, None),
    "instructions, 64 B echo of text, 32 in flight": (None, None),
    "instructions, 64 KiB echo": (7_000, 49_734),
    "instructions, 1 MiB echo": (150_000, 1_758_012),
    "instructions, broadcast delivery, one in flight": (100, 370),
    "instructions, broadcast delivery, 16 in flight": (10, 188),
    "instructions, handshake": (10_362, 10_362),
    "instructions, client, 64 B, one in flight": (None, None),
    "instructions, client, 64 B, 32 in flight": (None, None),
    "system calls, 64 B echo, one in flight": (3, 3),
    "receives, 64 B echo, one in flight": (1, None),
    "sends, 64 B echo, one in flight": (1, None),
    "waits, 64 B echo, one in flight": (1, None),
    "system calls, 64 B echo, 32 in flight": (0.0635, 0.063),
    "receives, 64 B echo, 32 in flight": (1 / 32, None),
    "sends, 64 B echo, 32 in flight": (1 / 32, None),
    "waits, 64 B echo, 32 in flight": (None, None),
    "system calls, broadcast delivery, 16 in flight": (0.0635, 0.063),
    "system calls, handshake": (10.5, 16),
    "bytes, each of 10,000 idle connections": (250, 257),
    "bytes, each of 1,000 over TLS": (None, None),
    "bytes, each of 1,000 over TLS, compressed": (None, None),
    "wake-ups, 100 idle connections and 100 that left": (0, None),
    "wake-ups, 10,000 connections without heartbeat": (0, None),
    "wake-ups, 10,000 heartbeats, per tick beyond pings": (1, None),
}

# How far above its ceiling a row may be where no two runs are the same: in how many turns a hundred connections are
# served, and which deadlines of ten thousand fall into one tick.
SLACK = {
    "waits, 64 B echo, 32 in flight": 0.0005,
    "wake-ups, 10,000 heartbeats, per tick beyond pings": 0.5,
}

RECEIVES = {"read", "readv", "recvfrom", "recvmsg"}
SENDS = {"write", "writev", "sendto", "sendmsg"}
WAITS = {"epoll_wait", "epoll_pwait", "epoll_pwait2"}


def per_message(count, load, rounds, *options, runs=1):
    """What each message costs build/echo, by the names that `count` gives; of several runs the median."""
    return difference(functools.partial(Server, [*ECHO, *options]), connect_all, count, load, rounds, runs)


def per_message_of_client(count, load, rounds):
    """The same for a client."""
    return difference(functools.partial(Client, CLIENT), serve_all, count, load, rounds, 1)


def difference(start, meet, count, load, rounds, runs):
    """Of two message counts, for a program whose peers `meet` it once it has been started."""
    def counted(rounds_of_messages):
        def work(program):
            peers = meet(program, load.peers)
            for done in range(3 * rounds):
                (load.round if done < rounds_of_messages else load.rest)(program, peers)
            return peers
        all_counts = (count(start, work) for _ in range(runs))
        return sorted(all_counts, key=lambda counts: sum(counts.values()))[runs // 2]

    few, many = counted(rounds), counted(3 * rounds)
    return {name: (many[name] - few.get(name, 0)) / (2 * rounds * load.units) for name in many}


def instructions():
    def row(what, *how, of=per_message, **runs):
        return f"instructions, {what}", of(count_instructions, *how, **runs)["instructions"]

    for of_text, is_text in (("", False), (" of text", True)):
        yield row(f"64 B echo{of_text}, one in flight", Echo(64, is_text), 1000)
        yield row(f"64 B echo{of_text}, 32 in flight", GatheredEcho(64, 100, 32, is_text), 5)
    # While the kernel still widens its window it may cut a message in two, though it seldom does.
    yield row("64 KiB echo", GatheredEcho(64 * 1024), 50, runs=3)
    yield row("1 MiB echo", GatheredEcho(1024 * 1024), 20, runs=3)
    yield row("broadcast delivery, one in flight", Broadcast(64, 1000), 20, "--broadcast")
    yield row("broadcast delivery, 16 in flight", Broadcast(64, 1000, 16), 10, "--broadcast")
    yield row("handshake", Handshake(), 200)
    # A client has one connection: with 32 in flight nobody shares the turn's cost with it.
    yield row("client, 64 B, one in flight", ClientEcho(64), 1000, of=per_message_of_client)
    yield row("client, 64 B, 32 in flight", ClientEcho(64, 32), 100, of=per_message_of_client)


def system_calls():
    for what, load, rounds in (("64 B echo, one in flight", Echo(64), 1000),
                               ("64 B echo, 32 in flight", GatheredEcho(64, 100, 32), 10)):
        calls = per_message(count_calls, load, rounds, runs=3)
        yield f"system calls, {what}", sum(calls.values())
        for kind, names in (("receives", RECEIVES), ("sends", SENDS), ("waits", WAITS)):
            yield f"{kind}, {what}", sum(calls.get(name, 0) for name in names)
    calls = per_message(count_calls, Broadcast(64, 1000, 16), 5, "--broadcast")
    yield "system calls, broadcast delivery, 16 in flight", sum(calls.values())
    yield "system calls, handshake", sum(per_message(count_calls, Handshake(), 200).values())


def memory():
    yield "bytes, each of 10,000 idle connections", held_by_each(MANY, Echo(64))
    # The handshake of each takes Python longer than all the rest.
    for what, load, options in (("", Echo(4096, is_text=True), []),
                                (", compressed", CompressedEcho(4096), ["--compression"])):
        yield f"bytes, each of 1,000 over TLS{what}", held_by_each(1000, load, *TLS, *options)


def held_by_each(count, load, *options):
    """Memory of the server for each of so many connections, after a message on each."""
    with Server([*ECHO, *options]) as server:
        first = [connect(server, *load.headers)]
        for _ in range(10):
            load.round(server, first)
        before = server.private_bytes()
        peers = []
        for _ in range(count):
            peers.append(connect(server, *load.headers))
            load.round(server, peers[-1:])
        held = (server.private_bytes() - before) / count
        close(first + peers)
        return held


def wake_ups():
    echo = Echo(64)
    with Server(ECHO) as server:
        staying, leaving = ([connect(server) for _ in range(100)] for _ in range(2))
        for peer in staying + leaving:
            echo.round(server, [peer])
        close(leaving)
        # A whole round after the last close was seen: then nothing is left to do.
        echo.round(server, staying[:1])
        yield "wake-ups, 100 idle connections and 100 that left", idle_wake_ups(server, 10)
        close(staying)

    with Server([HEARTBEAT, "0"]) as server:
        peers = connect_all(server, MANY)
        yield "wake-ups, 10,000 connections without heartbeat", idle_wake_ups(server, 5)
        close(peers)

    with tempfile.NamedTemporaryFile("r") as trace:
        # Only what is looked at is traced; all else would slow the server down.
        calls = ",".join(sorted(WAITS | SENDS))
        under = ["strace", "-f", "--seccomp-bpf", "-ttt", "-e", f"trace={calls}", "-o", trace.name]
        with Server([HEARTBEAT, str(1000 * PING_SECONDS)], under) as server:
            # One after the other, as they come in life: so the deadlines are spread over seconds.
            peers = []
            while len(peers) < MANY:
                peers += [connect(server) for _ in range(MANY // 10)]
                answer_pings(peers, 0.05)
            began = time.time()
            pings = answer_pings(peers, 2 * PING_SECONDS)
            ended = time.time()
            close(peers)
        assert pings > MANY, f"only {pings} pings came"
        ticks, void = timer_wake_ups(trace, began, ended)
    print(f"  {pings} pings left in {ticks} ticks; {void} more wake-ups did nothing")
    yield "wake-ups, 10,000 heartbeats, per tick beyond pings", void / ticks


def idle_wake_ups(server, seconds):
    """How often it wakes, once it has come to rest, for which it has as many seconds."""
    for _ in range(seconds):
        before = server.switches()
        time.sleep(1)
        if before == server.switches():
            break
    before = server.switches()
    time.sleep(seconds)
    return server.switches() - before


def timer_wake_ups(trace, began, ended):
    """Of the times that no peer woke the server: how often it sent pings, and how often it did nothing."""
    useful = void = 0
    by_timer, sends = False, 0
    for line in trace:
        call = re.match(r"\d+ +([\d.]+) (\w+)\(.*\) += (\d+)", line)
        if not call or not began <= float(call[1]) <= ended:
            continue
        if call[2] in SENDS:
            sends += 1
            continue
        # What the wait before this one led to is known now.
        useful += by_timer and sends > 0
        void += by_timer and sends == 0
        by_timer, sends = call[3] == "0", 0
    return useful, void


def profile():
    """Tells what each function takes of the rows that every message and connection is part of."""
    for what, of, load, rounds in (("64 B echo, one in flight", per_message, Echo(64), 1000),
                                   ("64 B echo, 32 in flight", per_message, GatheredEcho(64, 100, 32), 5),
                                   ("handshake", per_message, Handshake(), 200),
                                   ("client, 64 B, one in flight", per_message_of_client, ClientEcho(64), 1000),
                                   ("client, 64 B, 32 in flight", per_message_of_client, ClientEcho(64, 32), 100)):
        costs = of(count_by_function, load, rounds)
        print(f"{what}: {shown(sum(costs.values()))} instructions")
        for name, cost in sorted(costs.items(), key=lambda item: -item[1]):
            if cost >= 0.01 * sum(costs.values()):
                print(f"{cost:12,.1f}  {name}")


# --- The table

PARTS = {"instructions": instructions, "system-calls": system_calls, "memory": memory, "wake-ups": wake_ups}


def rounded(figure):
    return float(f"{figure:.4g}")


def shown(figure):
    return "" if figure is None else f"{figure:,.0f}" if figure >= 1000 else f"{figure:.4g}"


def tell(what, reached, ceiling):
    """Prints a row; whether it is above its ceiling."""
    budget, other = ROWS[what]
    met = "" if budget is None else "met" if reached <= rounded(budget) else "not met"
    is_over = ceiling is not None and reached > ceiling + SLACK.get(what, 0)
    print(f"{what:<52}{shown(reached):>11}{shown(ceiling):>11}{shown(budget):>11} {met:<8}{shown(other):>11}"
          + "  OVER" * is_over, flush=True)
    return is_over


def accept(ceilings, figures):
    """Writes what was reached, and 3 %, as the new ceilings, and tells which are others than before."""
    new = ceilings | {what: rounded(reached * 1.03) for what, reached in figures.items()}
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    with CEILINGS.open("w") as file:
        file.write("# What each row of `make budgets` may reach: what it reached once, and 3 %. Written by\n"
                   f"# `make budgets ACCEPT=1`, with rustc {rustc} and {' '.join(platform.libc_ver())}.\n\n")
        for what in ROWS:
            if what in new:
                file.write(f'"{what}" = {new[what]:.12g}\n')
    for what in ROWS:
        if ceilings.get(what) != new.get(what):
            print(f"{what}: {shown(ceilings.get(what)) or 'no ceiling'} -> {shown(new[what])}")


def main():
    if sys.argv[1:] == ["profile"]:
        return profile()
    names = [name for name in sys.argv[1:] if name != "--accept"] or list(PARTS)
    if not set(names) <= set(PARTS):
        raise SystemExit(__doc__)
    is_accepting = "--accept" in sys.argv
    if is_accepting and os.environ.get("CI"):
        raise SystemExit("Ceilings are accepted by people, not by CI.")
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors < MANY + 100:
        raise SystemExit(f"{MANY + 100} descriptors are needed, and {descriptors} allowed: raise `ulimit -Hn`.")
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    ceilings = tomllib.loads(CEILINGS.read_text())
    figures, over = {}, []
    print(f"{'per message, or as it says':<52}{'reached':>11}{'ceiling':>11}{'budget':>11} {'':<8}{'uWebSockets':>11}")
    for name in names:
        for what, figure in PARTS[name]():
            figures[what] = rounded(figure)
            if tell(what, figures[what], ceilings.get(what)):
                over.append(what)
    if is_accepting:
        accept(ceilings, figures)
        return
    missing = [what for what in figures if what not in ceilings]
    for what in missing:
        print(f"{what}: no ceiling; `make budgets ACCEPT=1` sets it.")
    for what in over:
        print(f"{what}: above its ceiling. Where another compiler or C library is the reason, accept it.")
    sys.exit(1 if over or missing else 0)


if __name__ == "__main__":
    main()
