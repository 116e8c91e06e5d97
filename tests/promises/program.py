"""The program at a door: an actor process that does what a row says, and tells every event.

Its protocol is in README.md. Everything it tells is checked against what always holds: see `check_history`.
"""
import collections
import itertools
import os
import subprocess
import threading
import time

DEADLINE = 20       # seconds for an answer or an event
TEXT_FIELDS = {"reason", "text", "cause", "subprotocol", "path", "query", "header", "body", "peer", "server_name",
               "cookie", "cookies", "parameter", "parameters"}
FAILURE_FIELDS = ("stage", "kind", "limit", "os_error", "http_status", "cause")
CLIENT_EVENTS = ("reconnecting", "gave_up")
BYTES_FIELDS = {"payload", "certificate"}


def to_hex(value):
    """A text or payload on the actor's line; nothing at all is `-`."""
    if value is None:
        return "-"
    return (value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value).hex() or "."


def from_hex(token):
    return b"" if token == "." else bytes.fromhex(token)


def decode(key, value):
    if value == "-":
        return None
    if key in BYTES_FIELDS:
        return from_hex(value)
    return from_hex(value).decode() if key in TEXT_FIELDS else value


def stream_of(word, about):
    """Events are in order among those of one connection, of one listener, of one client that connects again, and the log's."""
    if word == "log":
        return "log"
    if word in ("request", "listener_error", "stopped"):
        return f"listener {about}"
    return f"client {about}" if word in CLIENT_EVENTS else about


class Event:
    """`close 3 code=1000 …`: the word, what it is about, and its fields."""

    def __init__(self, line):
        self.word, self.about, *fields = line.split(" ")
        self.fields = {}
        for field in fields:
            key, value = field.split("=", 1)
            self.fields[key] = decode(key, value)

    @property
    def stream(self):
        return stream_of(self.word, self.about)

    def __str__(self):
        shown = (f"{key}={value if len(repr(value)) < 200 else repr(value)[:200] + '…'!r}"
                 for key, value in self.fields.items())
        return " ".join([self.word, self.about, *shown])


class Answer:
    """`ok …`, or `error CODE os=… text=…`."""

    def __init__(self, line):
        self.word, *tokens = line.split(" ")
        self.code = tokens.pop(0) if self.word == "error" else None
        self.tokens = tokens
        self.fields = {}
        for token in tokens:
            key, found, value = token.partition("=")
            if found:
                self.fields[key] = decode(key, value)

    def __str__(self):
        return " ".join([self.word, *([self.code] if self.code else []), *self.tokens, repr(self.fields or "")])


class Program:
    def __init__(self, command, loop_options=(), environment=None):
        self.process = subprocess.Popen([*command, *loop_options], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env={**os.environ, **(environment or {})})
        self.changed = threading.Condition()
        self.answers = collections.deque()
        self.events = collections.defaultdict(collections.deque)
        self.history = []
        self.noise = b""
        self.ended = False
        self.readers = [threading.Thread(target=self._read, daemon=True),
                        threading.Thread(target=self._read_errors, daemon=True)]
        for reader in self.readers:
            reader.start()

    def _read(self):
        for line in self.process.stdout:
            line = line.decode().rstrip("\n")
            with self.changed:
                if line == "ok" or line.startswith("ok ") or _is_refusal(line):
                    self.answers.append(Answer(line))
                else:
                    event = Event(line)
                    self.history.append(event)
                    self.events[event.stream].append(event)
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def _read_errors(self):
        self.noise = self.process.stderr.read()

    def _wait(self, queue, what):
        deadline = time.monotonic() + DEADLINE
        with self.changed:
            while not queue:
                left = deadline - time.monotonic()
                if self.ended or left <= 0:
                    how = "has ended" if self.ended else f"was silent for {DEADLINE} s"
                    raise AssertionError(f"the program {how} where {what} was due\n{self.told()}")
                self.changed.wait(left)
            return queue.popleft()

    def told(self):
        """All events so far, and what the process wrote to standard error, for people."""
        if self.ended:
            self.readers[1].join(DEADLINE)
        lines = [f"    {event}" for event in self.history[-40:]]
        errors = [f"    {line}" for line in self.noise.decode(errors="replace").splitlines()[-40:]]
        return "\n".join(["told:", *(lines or ["    nothing"]), *(["stderr:", *errors] if errors else [])])

    def do(self, *tokens):
        self.process.stdin.write((" ".join(tokens) + "\n").encode())
        self.process.stdin.flush()
        return self._wait(self.answers, f"the answer to {' '.join(tokens)[:200]!r}")

    def next_event(self, stream, what="an event"):
        return self._wait(self.events[stream], what)

    def leftover(self, stream=None):
        """Events that no step has looked at."""
        with self.changed:
            streams = self.events.values() if stream is None else [self.events[stream]]
            return [event for event in itertools.chain.from_iterable(streams)]

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        """The end of standard input ends the program: in order, with status 0, with a close for every connection."""
        self.process.stdin.close()
        try:
            status = self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the program did not end within {DEADLINE} s\n{self.told()}") from None
        for reader in self.readers:
            reader.join(DEADLINE)
        assert status == 0, f"the program ended with status {status}\n{self.told()}"
        check_history(self.history)


def _is_refusal(line):
    """`error CODE …` answers a command, `error N …` is an event."""
    return line.startswith("error ") and not line[6:7].isdigit()


def check_history(history):
    """What holds for every connection in every row: one open at most, one close, last; an error exactly if the close
    tells a failure, directly before it, and the same one."""
    by_connection, by_client = collections.defaultdict(list), collections.defaultdict(list)
    for event in history:
        if event.word in CLIENT_EVENTS:
            by_client[event.about].append(event)
        elif event.stream == event.about and event.word != "waited":
            by_connection[event.about].append(event)
    for about, events in by_client.items():
        words = [event.word for event in events]
        assert words.index("gave_up") == len(words) - 1, f"client {about} gives up once, and then no more: {words}"
    for about, events in by_connection.items():
        words = [event.word for event in events]
        shown = "\n".join(f"    {event}" for event in events)
        assert words.count("open") <= 1, f"connection {about} opened more than once\n{shown}"
        closes = words.count("close")
        assert closes == 1 or "open" not in words, f"connection {about} opened and heard {closes} closes\n{shown}"
        if "close" not in words:
            assert words == [], f"connection {about} heard no close\n{shown}"
            continue
        assert words.index("close") == len(words) - 1, f"connection {about} heard something after its close\n{shown}"
        close = events[-1].fields
        errors = [event.fields for event in events if event.word == "error"]
        if close["kind"] == "none":
            assert not errors, f"connection {about} heard an error, and its close tells none\n{shown}"
        else:
            is_told = len(errors) == 1 and words[-2] == "error"
            assert is_told, f"connection {about}: one error is due, directly before the close\n{shown}"
            error = {**errors[0], "cause": errors[0]["text"]}
            assert [error[key] for key in FAILURE_FIELDS] == [close[key] for key in FAILURE_FIELDS], \
                f"connection {about}: error and close tell different failures\n{shown}"
            assert close["clean"] == "no", f"connection {about} failed and was clean\n{shown}"
        assert (close["limit"] is not None) == (close["kind"] in ("limit", "timeout")), \
            f"connection {about}: what failed names a limit exactly if it is one\n{shown}"
        assert int(close["undelivered"]) >= int(close["lost"]), f"connection {about}: what is lost is not delivered\n{shown}"
        assert close["text"].startswith(begin := sentence(close)), \
            f"connection {about}: its close as a sentence begins with {begin!r}\n{shown}"


STAGES = {"resolve": "resolve", "connect": "connect", "proxy": "proxy", "tls": "TLS", "http": "HTTP", "websocket": "WebSocket"}
MEANINGS = {1000: "normal closure", 1001: "going away", 1002: "protocol error", 1003: "unsupported data", 1005: "no code",
            1006: "no Close", 1007: "invalid payload", 1008: "policy violation", 1009: "message too big",
            1010: "extension missing", 1011: "internal error", 1012: "service restart", 1013: "try again later",
            1014: "bad gateway", 3000: "unauthorized", 3003: "forbidden", 3008: "timeout"}


def sentence(close):
    """A close as one line for a log, up to what it tells of messages that were not delivered."""
    by = {"us": "us", "peer": "the peer"}[close["by"]]
    failed, meaning = close["kind"] != "none", MEANINGS.get(int(close["code"]))
    text = f"closed by {by} with {close['code']}" + (f" ({meaning})" if meaning else "")
    if close["reason"] and not (failed and close["cause"].startswith(close["reason"])):
        text += f' "{close["reason"]}"'
    text += ", clean" if close["clean"] == "yes" else ", not clean"
    return f"{text}; failed at {STAGES[close['stage']]}: {close['cause']}" if failed else text
