#!/usr/bin/env python3
"""The benchmark suite: every server under the same load, interleaved, and a report about it.

    run.py [--rounds 5] [--seconds 0.8] [--rows REGEX] [--servers REGEX] [--quick] [--out DIR] [--print]
    run.py --smoke                  whether all of it works: a moment of a few rows with our own servers
    run.py --render [--out DIR]     writes the report anew from DIR/results.json
    run.py --list                   names rows and servers

Server and load have a core each. In each round every row is run with every server, one fresh process after another, in
an order that changes with the round, so that what changes meanwhile (heat, neighbours) meets all of them alike. Servers
whose figures lie close together are run three times in a round, but for --quick and --smoke. A run of everything writes
into bench/, and its figures into README.md; any other into build/bench/report/, unless --out says where.
"""
import argparse
import datetime
import itertools
import json
import os
import platform
import random
import re
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import charts
import report
import servers
from rows import ROWS

SEED = 6455
PARTS = 3           # of a round, each with the servers that lie close together
READY_SECONDS = 20
RUN_SECONDS = 120
END_SECONDS = 5
WORDS = os.get_terminal_size(2).columns if sys.stderr.isatty() else 0


class Failed(Exception):
    """A run that has no figure; the message is the reason."""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, metavar="N", help="default 5")
    parser.add_argument("--seconds", type=float, metavar="S", help="measured in each run; default 0.8")
    parser.add_argument("--rows", default="", metavar="REGEX", help="only these rows")
    parser.add_argument("--servers", default="", metavar="REGEX", help="only these servers")
    parser.add_argument("--quick", action="store_true",
                        help="1 round of 0.5 s, without the longest rows: a look, not a measurement")
    parser.add_argument("--smoke", action="store_true",
                        help="1 round of 0.2 s, a few rows, our own servers; fails where a figure is missing")
    parser.add_argument("--cores", default=None, metavar="A,B", help="core of the server, core of the load")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the report goes")
    parser.add_argument("--print", action="store_true", help="print the report as well")
    parser.add_argument("--render", action="store_true", help="only write the report, from the results that are there")
    parser.add_argument("--list", action="store_true", help="name rows and servers")
    given = parser.parse_args()
    if given.smoke:
        given.servers = given.servers or servers.AT_HOME
    some = given.rows or given.servers or given.quick or given.smoke or given.rounds or given.seconds
    given.out = given.out or (servers.BUILD / "report" if some and not given.render else servers.BENCH)
    given.rounds = given.rounds or (1 if given.quick or given.smoke else 5)
    given.parts = 1 if given.quick or given.smoke else PARTS
    given.seconds = given.seconds or (0.2 if given.smoke else 0.5 if given.quick else 0.8)
    given.warmup = min(0.25, given.seconds / 2)
    return given


def cores(wanted):
    available = [int(core) for core in wanted.split(",")] if wanted else sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        print("bench: one core only: server and load disturb each other, and the figures mean little", file=sys.stderr)
    return available[0], available[min(1, len(available) - 1)]


def tell(line, end="\r"):
    """One line that is written over, where there is a terminal; else a line each."""
    if WORDS:
        sys.stderr.write("\r\x1b[K" + line[: WORDS - 1] + (end if end == "\n" else ""))
    else:
        sys.stderr.write(line + "\n")
    sys.stderr.flush()


def clock(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}" if minutes >= 60 else f"{minutes:02}:{seconds:02}"


# --- One run

def family(pid):
    """A process and its children, which are counted as well."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in family(int(child)))]


def start(server, row, own, errors):
    process = subprocess.Popen(server.command_for(row), stdout=subprocess.PIPE, stderr=errors, cwd=servers.ROOT,
                               start_new_session=True, preexec_fn=lambda: os.sched_setaffinity(0, own))
    # One that hangs before it listens is ended, and then has no line.
    signal.signal(signal.SIGALRM, lambda *_: process.kill())
    signal.alarm(READY_SECONDS)
    line = process.stdout.readline().decode()
    signal.alarm(0)
    found = re.search(r"127\.0\.0\.1:(\d+)", line)
    if not found:
        end(process)
        raise Failed("it did not start: " + last_line(errors))
    return process, found[1]


def end(process):
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def last_line(file):
    """What it said last, but for how it wants to be called."""
    file.seek(0)
    lines = file.read().decode(errors="replace").strip().splitlines()
    lines = [line for line in lines if not line.startswith("usage:")]
    return lines[-1][:200] if lines else "it said nothing"


def measure(server, row, given, load, where):
    """The load generator's line of JSON."""
    own, loads = ({where[0]}, {where[1]}) if row.pinned else (set(where), set(where))
    with tempfile.TemporaryFile() as errors:
        process, port = start(server, row, own, errors)
        try:
            loading = start_load(load, server, row, given, process, port, loads)
            return result_of(loading, process, errors)
        finally:
            end(process)


def start_load(load, server, row, given, process, port, cores):
    command = [load, *row.arguments(given.seconds, given.warmup), "--port", port]
    command += [part for pid in family(process.pid) for part in ("--pid", str(pid))]
    command += ["--tls", str(servers.CERTIFICATES / "ca.pem")] if row.tls else []
    command += ["--raw"] if server.kind == servers.LIMIT else []
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            preexec_fn=lambda: os.sched_setaffinity(0, cores))


def result_of(loading, process, errors):
    """What the load generator tells when it has ended, which it does here at the latest."""
    try:
        told, said = loading.communicate(timeout=RUN_SECONDS)
    except subprocess.TimeoutExpired:
        raise Failed(f"no result within {RUN_SECONDS} s") from None
    finally:
        loading.kill()
        loading.wait()
    if process.poll() is not None:
        raise Failed(f"the server ended with status {process.returncode}: {last_line(errors)}")
    if loading.returncode:
        raise Failed((said.strip().splitlines() or ["the load generator said nothing"])[0][:200])
    return json.loads(told)


# --- All runs

def plan(found, given):
    """Every (round, part, row, server); the order of the servers changes with each of the others."""
    chance = random.Random(SEED)

    def is_wanted(row):
        if given.rows:
            return re.search(given.rows, row.key)
        return row.smoke if given.smoke else not (row.long and given.quick)

    rows = [row for row in ROWS if is_wanted(row)]
    # What others are compared with is run too, by the servers that these take.
    takers = {row.key: [row] for row in rows}
    for row in rows:
        if row.beside:
            takers.setdefault(row.beside, []).append(row)
    rows = [row for row in ROWS if row.key in takers]
    for number, part in itertools.product(range(1, given.rounds + 1), range(given.parts)):
        for row in rows:
            if row.rounds and number > row.rounds:
                continue
            taking = [one for one in found
                      if row.takes(one) and any(other.takes(one) for other in takers[row.key])]
            due = in_part(row, taking, part, given.parts)
            for server in chance.sample(due, len(due)):
                yield number, part, row, server


def in_part(row, taking, part, parts):
    """The servers of a row in one part of a round: those that lie close together in each, the others spread over all of
    them; where there is nothing to repeat, all of them in the first."""
    close = [server for server in taking if row.is_close(server)]
    if not close:
        return taking if part == 0 else []
    return close + [server for server in taking if server not in close][part::parts]


def measure_all(found, given, load, samples):
    todo, where, began, took = list(plan(found, given)), cores(given.cores), time.monotonic(), {}

    def expected(row, server):
        alike = took.get((row.key, server.key))
        return alike or 0.4 + row.cost + (given.seconds + given.warmup if row.timed else 0)

    for index, (number, part, row, server) in enumerate(todo):
        left = sum(expected(row, server) for *_, row, server in todo[index:])
        tell(f"round {number}/{given.rounds} · {row.group}: {row.title} · {server.key} · "
             f"{clock(time.monotonic() - began)} elapsed, ~{clock(left)} left")
        from_here = time.monotonic()
        sample = {"row": row.key, "server": server.key, "round": number, "part": part}
        try:
            sample["result"] = measure(server, row, given, load, where)
        except Failed as failed:
            sample["failed"] = str(failed)
            tell(f"{server.key} failed {row.key}: {failed}", "\n")
        took[row.key, server.key] = time.monotonic() - from_here
        samples.append(sample)
    tell(f"{len(todo)} runs in {clock(time.monotonic() - began)}", "\n")


def machine():
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cpu": model[1] if model else platform.machine(), "cores": os.cpu_count(), "memory_gib": round(memory),
            "kernel": f"{platform.system()} {platform.release()}"}


def write(results, out, is_printed):
    (out / "charts").mkdir(parents=True, exist_ok=True)
    text = report.render(results)
    (out / "RESULTS.md").write_text(text)
    for name, picture in charts.render(results).items():
        (out / "charts" / f"{name}.svg").write_text(picture)
    if out.resolve() == servers.BENCH:
        write_readme(report.readme(results))
    if is_printed:
        print(text, end="")
    print(f"report: {os.path.relpath(out / 'RESULTS.md')}", file=sys.stderr)


def write_readme(block):
    """Puts the figures between their marks in README.md; without all of them it stays as it is."""
    readme = servers.ROOT / "README.md"
    before, begin, rest = readme.read_text().partition("<!-- bench:begin -->\n")
    _, end_mark, after = rest.partition("<!-- bench:end -->")
    if block and begin and end_mark:
        readme.write_text(before + begin + block + end_mark + after)
    else:
        print("bench: README.md is left as it is: figures for it, or its marks, are missing", file=sys.stderr)


def complaints(results, left_out):
    """What a smoke test complains about."""
    yield from (f"{name} was left out: {reason}" for name, reason in left_out.items())
    for sample in results["samples"]:
        if "failed" in sample:
            yield f"{sample['row']} with {sample['server']} failed: {sample['failed']}"
        elif not sample["result"]["units"] or not sample["result"]["cpu_ns_per_unit"] > 0:
            yield f"{sample['row']} with {sample['server']} has no figure"
    if not results["samples"]:
        yield "nothing was run"


def main():
    given = arguments()
    kept = given.out / "results.json"
    if given.list:
        for row in ROWS:
            print(f"row     {row.key:22}{row.group}: {row.title}")
        for key, label, language, *_ in servers.ALL:
            print(f"server  {key:22}{label} ({language})")
        return
    if given.render:
        write(json.loads(kept.read_text()), given.out, given.print)
        return

    # Each connection is a descriptor, here and in what is started from here.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.environ["NODE_ENV"] = "production"
    try:
        tell("building the load generator")
        load = servers.load_generator()
        servers.make_certificates(load)
    except servers.Missing as missing:
        raise SystemExit(f"bench: {missing}") from None
    found, left_out = servers.find(given.servers, tell)
    for name, reason in left_out.items():
        tell(f"left out: {name}: {reason}", "\n")
    results = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"), "machine": machine(),
        "command": shlex.join(["bench/run.py", *sys.argv[1:]]),
        "rounds": given.rounds, "parts": given.parts, "seconds": given.seconds, "seed": SEED,
        "servers": {server.key: {"label": server.label, "language": server.language, "kind": server.kind,
                                 "version": server.version} for server in found},
        "left_out": left_out, "samples": [],
    }
    print(f"bench: {len(found)} servers, seed {SEED}", file=sys.stderr)
    given.out.mkdir(parents=True, exist_ok=True)
    try:
        measure_all(found, given, load, results["samples"])
    except KeyboardInterrupt:
        tell("interrupted: the report is about what was measured until here", "\n")
    kept.write_text(json.dumps(results, indent=1) + "\n")
    write(results, given.out, given.print)
    found_wrong = list(complaints(results, left_out)) if given.smoke else []
    if found_wrong:
        raise SystemExit("bench: " + "\nbench: ".join(found_wrong))


if __name__ == "__main__":
    main()
