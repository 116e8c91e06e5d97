#!/usr/bin/env python3
"""The Autobahn test suite against our server and our client, both at once, and a strict verdict.

    tests/autobahn/run.py                                    build/echo and build/autobahn-client
    tests/autobahn/run.py --cases '5.*' --only server        some cases of one role
    tests/autobahn/run.py --server 'CMD …' --client 'CMD …'  other programs

All cases run over ws://, those of the protocol without compression (1 to 7) over wss:// as well.

A server's command must print `listening on ws://HOST:PORT` once it accepts, and echo each message with its type. A
client's command gets `ws://HOST:PORT AGENT` at its end, asks /getCaseCount, echoes in /runCase?case=N&agent=AGENT for
each N, calls /updateReports?agent=AGENT, and ends with status 0. For wss:// a server gets `--tls-cert FILE --tls-key
FILE` at its end, a client `--tls-ca FILE` before the URL.

The suite itself is installed into build/autobahn on first use (see install.sh); its reports stay there in reports/.
"""
import argparse
import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SUITE = ROOT / "build" / "autobahn"
REPORTS = SUITE / "reports"

CERTIFICATES = ROOT / "build" / "certificates"

ALL = ["*"], 517
PROTOCOL = [f"{number}.*" for number in range(1, 8)], 246
# The suite passes no judgement on these, whoever is tested: 7.1.6 sends 256 KiB, Close and a ping back to back, 7.13.1
# and 7.13.2 send close codes that RFC 6455 leaves undefined (5000 and beyond 65,535).
INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}
START_TIMEOUT = 30     # seconds until a program listens
RUN_TIMEOUT = 20 * 60  # seconds for one role

SERVER = "build/echo --host 127.0.0.1 --port 0 --max-message 33554432 --max-fragments 0 --origin any --compression"
CLIENT = "build/autobahn-client"


class Problem(Exception):
    """A run that cannot be judged, with the sentence that says why."""


class Program:
    """A child process in the project's root; ended on the way out, whatever happens."""

    def __init__(self, arguments, log):
        self.name = arguments[0]
        self.log = open(log, "wb")
        try:
            self.process = subprocess.Popen(arguments, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                            stderr=self.log)
        except OSError as error:
            self.log.close()
            raise Problem(f"{self.name} does not start: {error.strerror}") from error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()

    def first_line(self):
        """The first line of output; a program that stays silent is killed, so that this ends."""
        watchdog = threading.Timer(START_TIMEOUT, self.process.kill)
        watchdog.start()
        line = self.process.stdout.readline().decode(errors="replace").strip()
        watchdog.cancel()
        if not line:
            raise Problem(f"{self.name} did not say where it listens, see {self.log.name}")
        threading.Thread(target=self.drain, daemon=True).start()
        return line

    def drain(self):
        while chunk := self.process.stdout.read1(65536):
            self.log.write(chunk)

    def finish(self):
        """Waits for the program's own end."""
        threading.Thread(target=self.drain, daemon=True).start()
        try:
            status = self.process.wait(RUN_TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise Problem(f"{self.name} was not done after {RUN_TIMEOUT} s") from error
        if status != 0:
            raise Problem(f"{self.name} ended with status {status}, see {self.log.name}")

    def terminate(self):
        """Asks the program to end: status 0 within ten seconds, or it is a problem."""
        if self.process.poll() is not None:
            raise Problem(f"{self.name} ended by itself with status {self.process.returncode}, see {self.log.name}")
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(10)
        except subprocess.TimeoutExpired as error:
            raise Problem(f"{self.name} did not end on SIGTERM") from error
        if status != 0:
            raise Problem(f"{self.name} ended with status {status} on SIGTERM")


def suite_config(role, folder, cases, **values):
    config = json.loads((HERE / f"{role}.json").read_text())
    config.update(outdir=str(folder), cases=cases, **values)
    path = folder / "config.json"
    path.write_text(json.dumps(config, indent=2))
    return str(path)


def run_server(command, agent, cases, is_secure):
    """Our server, tested by the suite's client."""
    folder = fresh_folder(agent)
    arguments = shlex.split(command)
    if is_secure:
        arguments += ["--tls-cert", str(CERTIFICATES / "server.pem"), "--tls-key", str(CERTIFICATES / "server-key.pem")]
    with Program(arguments, folder / "server.log") as server:
        line = server.first_line()
        scheme = "wss" if is_secure else "ws"
        found = re.fullmatch(rf"listening on ({scheme}://\S+:\d+)", line)
        if not found:
            raise Problem(f"{server.name} printed {line!r} instead of where it listens")
        config = suite_config("server", folder, cases, servers=[{"agent": agent, "url": found[1]}])
        with Program([str(SUITE / "wstest"), "-m", "fuzzingclient", "-s", config], folder / "suite.log") as suite:
            suite.finish()
        server.terminate()
    return folder


def run_client(command, agent, cases, is_secure):
    """Our client, tested by the suite's server."""
    folder = fresh_folder(agent)
    with socket.socket() as probe:   # the suite cannot choose a port itself
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments, keys, scheme = shlex.split(command), {}, "ws"
    if is_secure:
        arguments += ["--tls-ca", str(CERTIFICATES / "ca.pem")]
        keys = {"cert": str(CERTIFICATES / "server.pem"), "key": str(CERTIFICATES / "server-key.pem")}
        scheme = "wss"
    url = f"{scheme}://127.0.0.1:{port}"
    config = suite_config("client", folder, cases, url=url, **keys)
    with Program([str(SUITE / "wstest"), "-m", "fuzzingserver", "-s", config], folder / "suite.log") as suite:
        wait_until_listening(suite, port)
        with Program([*arguments, url, agent], folder / "client.log") as client:
            client.finish()
    return folder


def wait_until_listening(suite, port):
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        if suite.process.poll() is not None:
            raise Problem(f"the test suite ended with status {suite.process.returncode}, see {suite.log.name}")
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError as error:
            if time.monotonic() > deadline:
                raise Problem(f"the test suite does not listen: {error}") from error
            time.sleep(0.05)   # between two looks, within the deadline


def fresh_folder(agent):
    folder = REPORTS / agent
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    return folder


def judge(folder, agent, expected, seconds):
    """One line about an agent, then one for each blemish. True if there is none."""
    try:
        cases = json.loads((folder / "index.json").read_text())[agent]
    except (OSError, ValueError, KeyError):
        print(f"FAIL {agent}: no report in {folder}", flush=True)
        return False
    blemishes = []
    for case in sorted(cases, key=lambda case: [int(part) for part in case.split(".")]):
        result = cases[case]
        fine = {"OK", "INFORMATIONAL"} if case in INFORMATIONAL else {"OK"}
        if result["behavior"] not in fine or result["behaviorClose"] not in fine:
            blemishes.append((case, result))
    counts = Counter(result["behavior"] for result in cases.values())
    wrong_number = expected is not None and len(cases) != expected
    verdict = "FAIL" if blemishes or wrong_number else "ok  "
    told = ", ".join(f"{count} {behavior}" for behavior, count in counts.most_common())
    if wrong_number:
        told += f"; {expected} cases expected"
    if blemishes:
        told += f"; {len(blemishes)} with a blemish"
    print(f"{verdict} {agent}: {len(cases)} cases in {seconds:.0f} s: {told}", flush=True)
    for case, result in blemishes[:40]:
        try:
            why = json.loads((folder / result["reportfile"]).read_text())
            why = why.get("result") if result["behavior"] != "OK" else why.get("resultClose")
        except (OSError, ValueError):
            why = "no report of this case"
        print(f"     {case}: {result['behavior']}, close {result['behaviorClose']}: {why}")
    return not (blemishes or wrong_number)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--server", default=SERVER, metavar="CMD")
    arguments.add_argument("--client", default=CLIENT, metavar="CMD")
    arguments.add_argument("--only", choices=["server", "client"])
    arguments.add_argument("--agent", default="libwsx", help="name in the report, followed by the role")
    arguments.add_argument("--cases", action="append", metavar="PATTERN", help="such as 5.*; the number is not checked then")
    arguments = arguments.parse_args()
    if subprocess.run([HERE / "install.sh", SUITE], stdin=subprocess.DEVNULL).returncode != 0:
        return 2

    roles = {"server": (run_server, arguments.server), "client": (run_client, arguments.client)}
    if arguments.only:
        roles = {arguments.only: roles[arguments.only]}
    verdicts = {}
    printing = threading.Lock()

    def one(role, run, command):
        for is_secure, (cases, expected) in [(False, ALL), (True, PROTOCOL)]:
            if arguments.cases:
                cases, expected = arguments.cases, None
            agent = f"{arguments.agent}-{role}{'-wss' if is_secure else ''}"
            began = time.monotonic()
            try:
                folder = run(command, agent, cases, is_secure)
                seconds = time.monotonic() - began
                with printing:
                    verdicts[agent] = judge(folder, agent, expected, seconds)
            except Problem as problem:
                with printing:
                    verdicts[agent] = False
                    print(f"FAIL {agent}: {problem}", flush=True)

    threads = [threading.Thread(target=one, args=(role, *what)) for role, what in roles.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0 if len(verdicts) == 2 * len(roles) and all(verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
