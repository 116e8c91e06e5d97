"""Runs the steps of a row: what the program does, what it is told, what its raw peers send and get. See README.md."""
import random
import re
import shlex
import struct
import time

import secure
import sockets
from prometheus_client.parser import text_string_to_metric_families
from peer import DEADLINE, Listener, Peer
from program import decode, stream_of, to_hex
from table import DIALECT, HEADERS, option_tokens

# What the arguments of each command are: w a word as it stands, p a payload, t a text, o options.
COMMANDS = {
    "send": "wwp", "owned": "wwp", "shared": "wwp", "fragment": "wwpw", "ping": "wp", "pong": "wp", "close": "wwt", "terminate": "w", "write": "wp", "flood": "www",
    "broadcast": "wwpw", "publish": "twpw", "subscribe": "wt", "unsubscribe": "wt", "subscribers": "t",
    "count": "w", "connections": "w", "statistics": "w", "log": "w", "pause": "w", "resume": "w", "state": "w", "buffered": "w", "latency": "w",
    "subprotocol": "w",
    "extensions": "w", "peer": "w", "listen": "to", "connect": "to", "reload": "wo", "close_listener": "w", "stop": "",
    "shutdown": "w", "free": "", "respond": "wwo", "route": "to",
    "persist": "to", "client_send": "wwp", "client_close": "wwt", "client_terminate": "w", "client_buffered": "w",
    "client_connection": "w",
}
SUGAR = {"message": ["kind", "payload"], "ping": ["payload"], "pong": ["payload"]}
# Where send() tells by false that much waits, drain follows each time: also where the engine itself would tell none.
DRAINS_OFTEN = {"node"}
# 3,000 letters of which hardly any three come twice: compressed they are some 2,000 bytes, and few where they are repeated.
PROSE = "".join(random.Random(7692).choices("abcdefghijklmnopqrstuvwxyz ", k=3000))
# Figures that a row need not name.
LOOSE = {"bytes_received", "bytes_sent", "turns", "longest_callback"}
MATCH = re.compile(r"(\w+)(=|~|>)(.*)", re.DOTALL)


def payload_of(token):
    """0x00ff is bytes, `x*65536` a text again and again, anything else a text."""
    if token.startswith("0x"):
        return bytes.fromhex(token[2:])
    if repeated := re.fullmatch(r"(.+)\*(\d+)", token, re.DOTALL):
        return repeated[1].encode() * int(repeated[2])
    return token.encode()


def text_of(token):
    if repeated := re.fullmatch(r"(.+)\*(\d+)", token, re.DOTALL):
        return repeated[1] * int(repeated[2])
    return token


def said_by(door, sentence):
    """How a door says a sentence of the engine, where it has words of its own for it."""
    return next((entry["says"] for entry in DIALECT.get(door, ()) if re.search(entry["engine"], sentence)), None)


class Run:
    """One row at one door."""

    def __init__(self, door, row, program, directory):
        self.door, self.row, self.program = door, row, program
        self.peers, self.variables = {}, {"directory": directory, "longest": "x" * 64, "prose": PROSE}
        self.listener = None
        self.options = []

    def start(self):
        if self.row.role == "client":
            self.listener = Listener(self.row.narrow, tls=self.row.server if self.row.is_secure else None)
            self.variables["port"] = self.listener.port
            self.variables["url"] = f"{'wss' if self.row.is_secure else 'ws'}://127.0.0.1:{self.listener.port}/"
        self.options = list(option_tokens({**self.row.options, **self.row.does}, lambda text: to_hex(self.value(text))))
        if self.row.role == "client":
            return
        if self.row.starts:
            answer = self.program.do("listen", to_hex("127.0.0.1:0"), *self.options)
            assert answer.word == "ok", f"listen: {answer}"
            self.variables["port"] = int(answer.tokens[1])

    def run(self):
        for line in self.row.steps:
            try:
                self.step(shlex.split(line))
            except AssertionError as error:
                raise AssertionError(f"step: {line}\n{error}") from None
        self.program.do("state", "0")   # whatever was under way here has come by now
        leftover = [event for event in self.program.leftover() if event.word != "drain" or self.door not in DRAINS_OFTEN]
        assert not leftover, "told beyond what the row says:\n" + "\n".join(f"    {event}" for event in leftover)

    def close(self):
        for peer in self.peers.values():
            peer.close()
        if self.listener:
            self.listener.close()

    def step(self, words):
        getattr(self, f"step_{words[0]}")(*words[1:])

    # --- Values

    def value(self, token):
        """The token with its variables filled in; $x600 is so many x."""
        def filled(found):
            if many := re.fullmatch(r"x(\d+)", found[1]):
                return "x" * int(many[1])
            return str(self.variables.get(found[1], found[0]))
        return re.sub(r"\$(x\d+|[a-z]+)", filled, token)

    def compare(self, what, expected, actual):
        """One `key=value`, `key~part` or `key>figure`; `key=$name` keeps the value under that name."""
        key, operator, wanted = expected
        wanted = self.value(wanted)
        if key in ("text", "cause", "answer") and (said := said_by(self.door, wanted)) and re.search(said, actual or ""):
            return
        if operator == "~":
            assert wanted in (actual or ""), f"{what}: {key} is {actual!r}, where {wanted!r} was due in it"
        elif operator == ">":
            assert int(actual) > int(wanted), f"{what}: {key} is {actual}, more than {wanted} was due"
        elif wanted.startswith("$"):
            self.variables[wanted[1:]] = int(actual)
        elif isinstance(actual, bytes):
            due = secure.der_of(wanted) if key == "certificate" else payload_of(wanted)
            assert actual == due, f"{what}: {len(actual)} bytes {actual[:100]!r}, due were {len(due)} {due[:100]!r}"
        elif actual is None or wanted == "-":
            assert actual is None and wanted == "-", f"{what}: {key} is {actual!r}, due was {wanted!r}"
        else:
            assert actual == text_of(wanted), f"{what}: {key} is {actual!r}, due was {text_of(wanted)!r}"

    def compare_fields(self, what, expected, fields):
        for token in expected:
            found = MATCH.fullmatch(token)
            assert found, f"{token!r} is no comparison"
            assert found[1] in fields, f"{what} has no {found[1]}"
            self.compare(what, found.groups(), fields[found[1]])

    # --- The program

    def step_do(self, *words):
        """`do COMMAND …`, with `= WHAT IT ANSWERS` or `! ERROR ITS TEXT` behind it."""
        words, ok, refusal = list(words), [], None
        for sign in ("=", "!"):
            if sign in words:
                at = words.index(sign)
                ok, refusal = (words[at + 1:], None) if sign == "=" else ([], words[at + 1:])
                words = words[:at]
        prefix = [words.pop(0)] if words[0] == "thread" else []
        answer = self.program.do(*prefix, *self.encode(words))
        what = " ".join(words)[:200]
        if refusal is not None:
            assert answer.word == "error", f"{what}: refused was due, came: {answer}"
            assert answer.code == refusal[0], f"{what}: {refusal[0]} was due, came: {answer}"
            for text in refusal[1:]:
                if MATCH.fullmatch(text) and not text.startswith("~"):
                    self.compare_fields(what, [text], answer.fields)
                else:
                    is_part = text.startswith("~")
                    self.compare(what, ("text", "~" if is_part else "=", text[is_part:]), answer.fields["text"])
            return
        assert answer.word == "ok", f"{what}: {answer}"
        if words[0] == "listen":
            self.variables["port"] = int(answer.tokens[1])
        if answer.fields:
            self.compare_fields(what, ok, answer.fields)
        elif ok:
            is_text = words[0] in ("subprotocol", "extensions", "peer")
            came = [decode("text", token) if is_text else token for token in answer.tokens]
            assert len(ok) == len(came), f"{what}: {came}, due was {ok}"
            for expected, one in zip(ok, came):
                if expected[0] == "$" and expected[1:] not in self.variables:
                    self.variables[expected[1:]] = int(one)
                else:
                    self.compare(what, ("answer", "=", expected), one)

    def encode(self, words):
        command, *arguments = words
        kinds = COMMANDS[command]
        if kinds == "wwt" and len(arguments) == 2:
            arguments.append("")
        yield command
        for index, argument in enumerate(arguments):
            kind = kinds[min(index, len(kinds) - 1)]
            argument = self.value(argument)
            if kind == "p":
                yield to_hex(payload_of(argument))
            elif kind == "t":
                yield to_hex(text_of(argument))
            elif kind == "o" and argument == "options":
                yield from self.options
            elif kind == "o":
                key, _, option = argument.partition("=")
                if key in HEADERS:
                    option = dict([option.split(":", 1)])
                yield from option_tokens({key: option}, to_hex)
            else:
                yield argument

    def step_told(self, word, about, *expected):
        stream = stream_of(word, about)
        event = self.program.next_event(stream, f"{word} {about}")
        while event.word == "drain" and word != "drain" and self.door in DRAINS_OFTEN:
            event = self.program.next_event(stream, f"{word} {about}")
        assert event.word == word, f"{word} {about} was due, told was: {event}\n{self.program.told()}"
        names = iter(SUGAR.get(word, []))
        expected = [token if MATCH.fullmatch(token) and not (word in SUGAR) else f"{next(names)}={token}"
                    for token in expected]
        self.compare_fields(f"{word} {about}", expected, event.fields)

    def step_closes(self, about, *expected):
        """A close in order: `closes N CODE us|peer [REASON]`."""
        code, by, reason = [*expected, ""][:3]
        self.step_told("close", about, f"code={code}", f"by={by}", f"reason={reason}", "clean=yes", "kind=none",
                       "os_error=0", "http_status=0", "limit=-", "lost=0", "unsent=0", "undelivered=0")

    def step_fails(self, about, *expected):
        """An error, and a close that tells the same: `fails N CODE us|peer STAGE KIND [FIELDS] [the sentence]`."""
        code, by, stage, kind, *rest = expected
        fields = [token for token in rest if MATCH.fullmatch(token) and token[0] != "~"]
        texts = [token for token in rest if token not in fields]
        self.step_told("error", about, f"stage={stage}", f"kind={kind}")
        texts = [f"cause~{text[1:]}" if text.startswith("~") else f"cause={text}" for text in texts]
        self.step_told("close", about, f"code={code}", f"by={by}", "clean=no", f"stage={stage}", f"kind={kind}",
                       *fields, *texts)

    def step_counts(self, listener, *expected):
        """`counts LISTENER|0 FIGURE=… …`: exactly this has been counted, or will be soon. Every figure that is not 0 is named,
        but those in LOOSE; labels are joined to their field, as `refused_path`."""
        named = [MATCH.fullmatch(token) for token in expected]
        assert all(named), f"{expected} are no comparisons"
        deadline = time.monotonic() + DEADLINE
        while True:
            answer = self.program.do("statistics", listener)
            assert answer.word == "ok", f"statistics: {answer}"
            try:
                for comparison in named:
                    self.compare("statistics", comparison.groups(), answer.fields.get(comparison[1], "0"))
                unnamed = set(answer.fields) - {comparison[1] for comparison in named} - LOOSE
                assert not unnamed, f"counted was {answer.fields}, and {sorted(unnamed)} have no due"
                return
            except AssertionError:
                if time.monotonic() > deadline:
                    raise

    def step_quiet(self, about):
        """Nothing has been told that no step has looked at."""
        leftover = self.program.leftover(about)
        assert not leftover, f"connection {about} was told {leftover[0]}"

    def step_until(self, _peer, number, _asks, _hears, status):
        """A peer asks again and again until it hears that status: what is promised for soon, not for at once."""
        deadline = time.monotonic() + DEADLINE
        while True:
            self.step_peer(number, "connects")
            self.peers[number].ask()
            came, head, _ = self.peers[number].response()
            if came == int(status):
                return
            assert time.monotonic() < deadline, f"the answer stays {head!r}"
            self.peers[number].close()

    def step_socket(self, number, *expected):
        """What is set on the program's socket of connection N, asked of the kernel; `listening`: on the one that listens."""
        if number == "listening":
            found = sockets.listening(self.program.process.pid, self.variables["port"])
        else:
            peer = self.peers[number].socket
            found = sockets.connected(self.program.process.pid, peer.getsockname())
        self.compare_fields(f"socket {number}", expected, found)

    def step_check(self, *words):
        expression = " ".join(words)
        figures = {name: value for name, value in self.variables.items() if isinstance(value, int)}
        assert eval(expression, {"__builtins__": {}}, figures), f"{expression} with {figures}"

    # --- Its peers

    def step_open(self, *words):
        """The program and a raw peer open a connection: `open [N] [narrow] [changes of request or answer]`."""
        words = list(words)
        number = words.pop(0) if words and words[0].isdigit() else "1"
        narrow = [words.pop(0)] if words[:1] == ["narrow"] else []
        if self.row.role == "server":
            self.step_peer(number, "connects", *narrow)
            self.step_peer(number, "asks", *words)
            self.step_peer(number, "hears", "101")
            self.step_told("open", number, "role=server")
        else:
            self.step_connect(number)
            self.step_peer(number, "answers", *words)
            self.step_told("open", number, "role=client")

    def step_connect(self, number="1"):
        """A client of the program connects, and its request comes."""
        answer = self.program.do("connect", to_hex(self.variables["url"]), *self.options)
        assert (answer.word, answer.tokens) == ("ok", [number]), f"connect: {answer}"
        self.peers[number] = self.listener.accept()
        self.peers[number].read_request()

    def step_persist(self, number="1"):
        """A client of the program that connects again begins, and its first request comes: it is client and connection 1."""
        answer = self.program.do("persist", to_hex(self.variables["url"]), *self.options)
        assert (answer.word, answer.tokens) == ("ok", ["1", number]), f"persist: {answer}"
        self.step_peer(number, "accepts")

    def step_end(self, number="1"):
        """TCP ends in order: the server's side of it first (RFC 6455 section 7.1.1)."""
        peer = self.peers[number]
        if not peer.is_client:
            peer.finish()
        rest = peer.rest()
        assert rest == b"", f"before the end came {rest[:200]!r}"
        peer.close()

    def step_peer(self, *words):
        words = list(words)
        number = words.pop(0) if words[0].isdigit() else "1"
        verb, *words = words
        words = words if verb == "sends" else [self.value(word) for word in words]
        if verb == "connects":
            where = [word.removeprefix("unix:") for word in words if word.startswith("unix:")]
            settings = dict(word.split("=", 1) for word in words if "=" in word)
            source = settings.pop("from", None)
            self.peers[number] = Peer.connect(*(where or [("127.0.0.1", self.variables["port"])]), "narrow" in words,
                                              settings if self.row.is_secure and "plain" not in words else None, source)
            if not where:
                self.variables["peer"] = self.peers[number].socket.getsockname()[1]
            return
        if verb == "refused":
            try:
                Peer.connect(("127.0.0.1", self.variables["port"])).close()
            except ConnectionRefusedError:
                return
            raise AssertionError("the address still accepts")
        if verb == "accepts":
            self.peers[number] = self.listener.accept()
            if words != ["only"]:
                self.peers[number].read_request()
            return
        if verb in ("listens", "nobody"):
            self.listener.close()
            if words == ["full"]:
                self.listener = Listener.full()
                self.variables["port"] = self.listener.port
            elif verb == "listens":
                self.listener = Listener(path=words[0].removeprefix("unix:"))
            return
        getattr(self, f"peer_{verb}")(self.peers[number], *words)

    def peer_asks(self, peer, *changes):
        peer.ask(*[text_of(change).encode("latin-1").decode("unicode_escape") for change in changes])

    def peer_answers(self, peer, *changes):
        peer.answer(*[text_of(change).encode("latin-1").decode("unicode_escape") for change in changes])

    def peer_says(self, peer, text):
        peer.send(text_of(text.encode("latin-1").decode("unicode_escape")).encode("latin-1"))

    def peer_asked(self, peer, *parts):
        """What the client's request has in it, or (with `!`) has not."""
        self.look_for(parts, peer.request)

    def look_for(self, parts, text):
        for part in parts:
            is_absent = part.startswith("!")
            part = part[is_absent:].encode("latin-1").decode("unicode_escape")
            assert (part in text) != is_absent, f"{part!r} was {'not ' if is_absent else ''}due in {text!r}"

    def peer_waits(self, peer, part):
        """Until these bytes have come, which stay to be read."""
        part = part.encode("latin-1").decode("unicode_escape").encode("latin-1")
        while part not in peer.buffer:
            assert peer.more(), f"the stream ended before {part!r} came: {bytes(peer.buffer)!r}"

    def peer_hears(self, peer, status, *parts):
        """An HTTP answer: its status, and what its head or body has in it. All but 101 end the connection, and say so."""
        came, head, body = peer.response()
        assert came == int(status), f"status {came} where {status} was due: {head!r} {body!r}"
        if came != 101:
            peer.close()
            assert re.search(r"(?im)^connection:.*\bclose\r$", head), head
        self.look_for(parts, head + body)

    def peer_scrapes(self, peer, *expected):
        """An HTTP answer with metrics, as Prometheus reads them: `NAME[:LABEL=VALUE…]=FIGURE`, the sum of all such series."""
        status, head, body = peer.response()
        assert status == 200 and "text/plain; version=0.0.4; charset=utf-8" in head, head
        samples = [sample for family in text_string_to_metric_families(body) for sample in family.samples]
        for token in expected:
            series, operator, figure = re.fullmatch(r"(.+)(=|>)(\d+)", token).groups()
            name, *labels = series.split(":")
            labels = dict(label.split("=", 1) for label in labels)
            found = [one.value for one in samples if one.name == name and labels.items() <= one.labels.items()]
            assert found, f"{series} is not in {body}"
            self.compare(series, (series, operator, figure), str(int(sum(found))))

    def peer_sends(self, peer, *words):
        """Frames in one segment: `KIND [PAYLOAD] [first=0x..] [length=…] [masked=yes|no]`, with commas between; or a message
        `compressed KIND PAYLOAD [pieces=…]`, which may be in several frames."""
        sent, words = b"", [part for word in words for part in ([word[:-1], ","] if word[-1:] == "," else [word])] + [","]
        while words:
            end = words.index(",")
            kind, *rest = words[:end]
            words = words[end + 1:]
            settings = {}
            while rest and (setting := re.fullmatch(r"(first|length|masked|pieces)=(\w+)", rest[-1])):
                settings[setting[1]] = setting[2]
                rest.pop()
            masked = {"yes": True, "no": False, None: None}[settings.get("masked")]
            if kind == "bytes":
                sent += payload_of(rest[0])
                continue
            if kind == "compressed":
                payload = payload_of(self.value(rest[1]))
                sent += peer.encode_compressed(rest[0], payload, int(settings.get("pieces", 1)))
                continue
            if kind.startswith("close"):
                payload = struct.pack("!H", int(rest[0])) + b"".join(map(payload_of, rest[1:])) if rest else b""
            else:
                payload = payload_of(self.value(rest[0])) if rest else b""
            if kind == "again":     # the frames so far, so many times
                sent *= int(rest[0])
                continue
            sent += peer.encode(kind, payload, masked=masked,
                                first=int(settings["first"], 16) if "first" in settings else None,
                                announced=int(settings["length"], 0) if "length" in settings else None)
        peer.try_send(sent)

    def peer_gets(self, peer, kind, *words):
        """The next frame, exactly; a close as CODE and REASON (`~part` of it), nothing where it is empty. `compressed KIND`
        is one that was, and may tell its `size`. `end` is the end of the stream, and nothing before it; `alert` the one by
        which TLS ends."""
        if kind == "end":
            rest = peer.rest()
            assert rest == b"", f"before the end came {rest[:200]!r}"
            return
        if kind == "alert":
            alert = secure.alert_of(peer.socket)
            assert alert == words[0], f"the alert {alert}, {words[0]} was due"
            return
        if kind == "bytes":
            due = payload_of(words[0])
            came = peer.take(len(due))
            assert came == due, f"{came!r}, due was {due!r}"
            return
        if kind == "compressed":
            kind, *words = f"{kind} {words[0]}", *words[1:]
        came, payload = peer.read_frame()
        assert came == kind, f"{kind} was due, came {came} {payload[:200]!r}"
        if kind != "close":
            due = payload_of(words[0]) if words else b""
            assert payload == due, f"{len(payload)} bytes {payload[:100]!r}, due were {len(due)} {due[:100]!r}"
            self.compare_fields(kind, words[1:], {"size": peer.size})
            return
        code, reason = (struct.unpack("!H", payload[:2])[0], payload[2:].decode()) if payload else (None, "")
        assert code == (int(words[0]) if words else None), f"a close with code {code}, due was {words}"
        wanted = words[1] if len(words) > 1 else ""
        if wanted.startswith("~"):
            assert wanted[1:] in reason, f"the reason {reason!r}, due in it was {wanted[1:]!r}"
        else:
            assert reason == text_of(wanted), f"the reason {reason!r}, due was {text_of(wanted)!r}"

    def peer_sees(self, peer, *expected):
        """What was agreed on in the TLS handshake, and what the program has shown there."""
        self.compare_fields("TLS", expected, secure.session_of(peer.socket))

    def peer_reads(self, peer, count, size):
        """So many messages of a flood, in order: each begins with its number."""
        for number in range(int(count)):
            kind, payload = peer.read_frame()
            assert kind == "binary" and len(payload) == int(size), f"{kind} of {len(payload)} bytes"
            assert int.from_bytes(payload[:4]) == number, f"message {int.from_bytes(payload[:4])} where {number} was due"

    def peer_counts(self, peer, name, *close):
        """Messages of a flood, in order, some of them lost, up to the close; `name` is how many. `whole SIZE`: those of so
        many bytes that came whole, before the end of the stream however that came about."""
        if close[0] == "whole":
            header = 4 if peer.is_client else 8
            self.variables[name] = len(peer.rest()) // (header + int(close[1]))
            return
        last, count = -1, 0
        while True:
            kind, payload = peer.read_frame()
            if kind == "close":
                break
            assert kind == "binary", kind
            number = int.from_bytes(payload[:4])
            assert number > last, f"message {number} after {last}"
            last, count = number, count + 1
        self.variables[name] = count
        assert int.from_bytes(payload[:2]) == int(close[0]), f"a close with {payload!r}, due was {close}"

    def peer_ends(self, peer):
        peer.finish()

    def peer_resets(self, peer):
        peer.reset()

    def peer_hosts(self, peer):
        """The next request on the same connection: what a proxy lets through is the server's."""
        peer.read_request()

    def peer_leaves(self, peer):
        peer.close()
