"""The actor of the Python door: does what the lines on standard input say, and tells every event as a line on standard
output. The protocol is in README.md.

The loop runs by `run`, and a thread reads the lines and posts each to it. With the argument `asyncio` the loop is that
inside asyncio, which reads the lines itself: then what a line sends is sent between turns.
"""
import asyncio
import collections
import dataclasses
import logging
import sys
import threading

import wsx

COUNTS = {"max_message", "max_fragments", "max_head", "max_headers", "backlog_limit", "max_topics", "max_topic_name", "max_redirects",
          "max_connections", "max_connections_per_address", "listen_backlog", "keep_alive_count", "max_commands",
          "max_command_bytes", "receive_buffer"}
TIMEOUTS = {"handshake_timeout", "ping_interval", "pong_timeout", "close_timeout", "progress_timeout", "connect_timeout", "keep_alive_idle",
            "keep_alive_interval"}
SWITCHES = {"deliver_fragments", "no_delay", "reuse_port", "measure_callbacks"}
LISTS = {"subprotocol": "subprotocols", "origin": "origins"}
NUMBERS = {"level", "threshold", "server_max_window_bits", "client_max_window_bits"}    # of compression
RECONNECT_TIMES = {"base_delay", "max_delay", "reset_after"}
NOT_OPEN = "the connection is not open yet"
WRONG_THREAD = "this call belongs to the event loop's thread"


# --- Values on lines: a payload or text is hex, `.` where it is empty, `-` where there is none

def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def hexed(value):
    if value is None:
        return "-"
    return (value.encode() if isinstance(value, str) else bytes(value)).hex() or "."


def bytes_of(word):
    return b"" if word in (".", "-") else bytes.fromhex(word)


def text_of(word):
    return bytes_of(word).decode()


def message_of(kind, word):
    return text_of(word) if kind == "text" else bytes_of(word)


def yes(is_so):
    return "yes" if is_so else "no"


def address_of(address):
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else f"unix:{address or ''}"


def refusal(error):
    """The word for an error of a call, the system's number, and its sentence."""
    text = str(error)
    if isinstance(error, wsx.ConnectionClosed):
        return "closed", 0, text
    if isinstance(error, wsx.InvalidState):
        return "not_open" if text.startswith(NOT_OPEN) else "wrong_kind", 0, text
    if isinstance(error, wsx.BacklogFull):
        return "backlog_full", 0, text
    if isinstance(error, wsx.ConcurrencyError):
        return "message_in_progress", 0, text
    if isinstance(error, wsx.QueueFull):
        return "full", 0, text
    if isinstance(error, wsx.LoopClosed):
        return "loop_gone", 0, text
    if isinstance(error, NotImplementedError):
        return "unsupported", 0, text
    if isinstance(error, OSError):
        return "system", error.errno or 0, error.strerror or text
    if isinstance(error, ValueError):
        return "invalid", 0, text
    if isinstance(error, RuntimeError):
        return "wrong_thread" if text.startswith(WRONG_THREAD) else "reentrant", 0, text
    raise error


def failure_fields(failure, key):
    if failure is None:
        return f"stage=none kind=none os_error=0 http_status=0 limit=- {key}=-"
    limit = "-"
    if (struck := failure.limit) is not None:
        unit, value = ("ms", round(struck.value * 1000)) if struck.unit == "seconds" else (struck.unit, struck.value)
        limit = f"{struck.option}:{unit}:{value}:{struck.reached or 0}"
    return (f"stage={failure.stage} kind={failure.kind} os_error={failure.os_error or 0} "
            f"http_status={failure.http_status or 0} limit={limit} {key}={hexed(failure.message)}")


def answer_of(kind, words):
    """An answer to a request, in the hook or later."""
    name, _, value = words.get("answer_header", "").partition(":")
    headers = {text_of(name): text_of(value)} if name else None
    status, body = int(words.get("status", 200)), bytes_of(words.get("body", "-"))
    match kind:
        case "later": return wsx.LATER
        case "reject": return wsx.Response.reject(status, body, headers=headers)
        case "page": return wsx.Response.page(body, text_of(words["content_type"]), status, headers=headers)
        case "stream": return wsx.Response.stream(text_of(words["content_type"]), headers=headers)
    if "accept" in words or headers:
        return wsx.Response.accept(text_of(words["accept"]) if "accept" in words else None, headers)
    return None


def figures_of(statistics):
    """Every figure that is not 0; times in nanoseconds, as elsewhere."""
    for field in dataclasses.fields(statistics):
        value = getattr(statistics, field.name)
        if field.name == "longest_callback":
            value = round(value * 1e9)
        figures = value.items() if isinstance(value, dict) else [((), value)]
        for labels, figure in figures:
            labels = labels if isinstance(labels, tuple) else (labels,)
            if figure:
                yield f"{'_'.join(map(str, (field.name, *labels)))}={figure}"


class LogHandler(logging.Handler):
    """Tells what is logged, by the words of the engine."""

    LEVELS = {logging.ERROR: "error", logging.WARNING: "warning", logging.INFO: "information", logging.DEBUG: "debug"}

    def emit(self, record):
        say("log", 0, f"level={self.LEVELS[record.levelno]}", f"topic={record.topic}", f"text={hexed(record.getMessage())}")


def logger_of(level):
    if level == "off":
        return None
    logger = logging.Logger("wsx of a row", {word: number for number, word in LogHandler.LEVELS.items()}[level])
    logger.addHandler(LogHandler())
    return logger


class Does(wsx.Handler):
    """What the program does in its callbacks, for one listener or client."""

    def __init__(self, program, words, number):
        self.program, self.words, self.number = program, words, number
        self.show = text_of(words["show"]) if "show" in words else None

    def act_one(self, verb, connection, message):
        loop = self.program.loop
        match verb:
            case "echo": connection.send(message)
            case "broadcast": loop.broadcast(message, exclude=connection)
            case "publish": loop.publish("room", message, exclude=connection)
            case "greet": connection.send("welcome")
            case "subscribe": connection.subscribe("room")
            case "close": connection.close(4000, "done")
            case "terminate": connection.terminate()
            case "pause": connection.pause()
            case "shutdown": loop.shutdown(5)
            case "stop": loop.stop()
            case "fail": raise ZeroDivisionError("a secret of the program")
            case _: raise LookupError(verb)

    def act(self, key, connection, message):
        """Does what the options say for this event, verb by verb, and tells what was refused."""
        for verb in filter(None, self.words.get(key, "").split(",")):
            try:
                self.act_one(verb, connection, message)
            except (wsx.WebSocketException, ValueError, RuntimeError) as error:
                code, _, text = refusal(error)
                say("refused", self.program.number(connection), f"verb={verb}", f"code={code}", f"text={hexed(text)}")

    def shown(self, headers):
        return [] if self.show is None else [f"header={hexed(headers.get(self.show))}"]

    def parsed(self, request):
        if "show_cookie" in self.words:
            yield f"cookie={hexed(request.cookie(text_of(self.words['show_cookie'])))}"
            yield f"cookies={hexed('|'.join(map('='.join, request.cookies.items())))}"
        if "show_parameter" in self.words:
            yield f"parameter={hexed(request.query_parameter(text_of(self.words['show_parameter'])))}"
            yield f"parameters={hexed('|'.join(map('='.join, request.query_parameters)))}"

    def on_request(self, request):
        words = self.words
        if "tell" in words:
            say("request", self.number, f"method={request.method}", f"upgrade={yes(request.is_upgrade)}",
                f"path={hexed(request.path)}", f"query={hexed(request.query)}",
                f"offered={','.join(request.subprotocols)}", f"secure={yes(request.is_secure)}",
                f"server_name={hexed(request.server_name)}",
                f"certificate={hexed(next(iter(request.peer_certificates), None))}", *self.shown(request.headers),
                *self.parsed(request))
        match words.get("request"):
            case "stream" | "later": self.program.number(request.connection)
            case "metrics" if not request.is_upgrade:
                return wsx.Response.page(self.program.loop.metrics(), wsx.METRICS_TYPE)
            case "fail": raise ZeroDivisionError("a secret of the program")
        return answer_of(words.get("request"), words)

    def after_deferral(self, connection, is_answered):
        if "tell_deferral" in self.words:
            say("waited", self.program.number(connection), f"answered={yes(is_answered)}")

    def on_open(self, connection, opening):
        self.program.untold.add(connection)
        request = opening.request
        say("open", self.program.number(connection), f"role={'client' if request is None else 'server'}",
            f"path={hexed(request and request.path)}", f"query={hexed(request and request.query)}",
            f"subprotocol={hexed(opening.subprotocol)}", *self.shown(opening.headers))
        self.act("on_open", connection, "")

    def on_message(self, connection, message):
        kind = "text" if isinstance(message, str) else "binary"
        say("message", self.program.number(connection), f"kind={kind}", f"payload={hexed(message)}")
        self.act("on_message", connection, message)

    def on_fragment(self, connection, fragment):
        say("fragment", self.program.number(connection), f"kind={'text' if fragment.is_text else 'binary'}",
            f"first={yes(fragment.is_first)}", f"last={yes(fragment.is_last)}", f"payload={hexed(fragment.payload)}")

    def on_ping(self, connection, payload):
        say("ping", self.program.number(connection), f"payload={hexed(payload)}")

    def on_pong(self, connection, payload):
        say("pong", self.program.number(connection), f"payload={hexed(payload)}")

    def on_drain(self, connection):
        say("drain", self.program.number(connection))

    def on_error(self, connection, failure):
        say("error", self.program.number(connection), failure_fields(failure, "text"))

    def on_close(self, connection, close):
        self.program.untold.discard(connection)
        say("close", self.program.number(connection), f"code={close.code}", f"clean={yes(close.was_clean)}",
            f"by={close.by}", f"lost={close.lost_messages}", f"unsent={close.unsent_bytes}",
            f"undelivered={close.undelivered_messages}", f"reason={hexed(close.reason)}", failure_fields(close.failure, "cause"), f"text={hexed(str(close))}")

    def on_reconnecting(self, client, reconnecting):
        cause = reconnecting.cause
        say("reconnecting", self.program.client_number(client), f"attempt={reconnecting.attempt}",
            f"delay={round(reconnecting.delay * 1000)}", f"code={cause.code}", failure_fields(cause.failure, "cause"))

    def on_give_up(self, client, give_up):
        say("gave_up", self.program.client_number(client), f"kind={give_up.kind}", f"close_code={give_up.close_code or 0}",
            f"http_status={give_up.http_status or 0}", f"attempts={give_up.attempts}", f"lost={give_up.lost_messages}",
            f"text={hexed(give_up.message)}")
        self.program.untold.discard(client)

    def on_listener_error(self, listener, failure):
        say("listener_error", self.number, failure_fields(failure, "text"))


class Program:
    """Numbers as the lines spell them, 1, 2, … in the order the program hears of them; and the commands."""

    def __init__(self, loop):
        self.loop, self.connections, self.listeners, self.clients = loop, [], [], []
        self.shared = {}
        self.untold = set()         # connections that are owed a close, and clients that have not given up

    def number(self, connection):
        if connection not in self.connections:
            self.connections.append(connection)
        return self.connections.index(connection) + 1

    def client_number(self, client):
        """A client may be heard of before the call that makes it has returned."""
        if client not in self.clients:
            self.clients.append(client)
            self.untold.add(client)
        return self.clients.index(client) + 1

    def client(self, word):
        return self.clients[int(word) - 1]

    def connection(self, word):
        return self.connections[int(word) - 1]

    def everybody(self, word):
        """A listener, or the loop where it is 0."""
        return self.loop if word == "0" else self.listeners[int(word) - 1]

    def perform(self, words):
        if words[0] == "thread":    # any thread: another one does it while this one waits
            thread = threading.Thread(target=self.perform, args=(words[1:],))
            thread.start()
            return thread.join()
        try:
            say("ok", *(self.answer(*words) or []))
        except (wsx.WebSocketException, ValueError, RuntimeError, OSError) as error:
            code, os_error, text = refusal(error)
            say("error", code, f"os={os_error}", f"text={hexed(text)}")

    def answer(self, command, *words):
        loop, exclude = self.loop, None
        if command in ("broadcast", "publish") and words[-1] != "0":
            exclude = self.connection(words[-1])
        match command:
            case "state" if words[0] == "0": return ["closed"]
            case "send": self.connection(words[0]).send(message_of(*words[1:]))
            case "shared":
                key = words[1], words[2]
                if key not in self.shared:      # made once, and sent again and again
                    self.shared[key] = wsx.SharedMessage(message_of(*key))
                self.connection(words[0]).send(self.shared[key])
            case "fragment":
                self.connection(words[0]).send_fragment(bytes_of(words[2]), is_last=words[3] == "last", text=words[1] == "text")
            case "ping": self.connection(words[0]).ping(bytes_of(words[1]))
            case "pong": self.connection(words[0]).pong(bytes_of(words[1]))
            case "close": self.connection(words[0]).close(int(words[1]), text_of(words[2]))
            case "terminate": self.connection(words[0]).terminate()
            case "respond":
                given = dict(word.split("=", 1) for word in words[2:])
                self.connection(words[0]).respond(answer_of(words[1], given))
            case "write": self.connection(words[0]).write(bytes_of(words[1]))
            case "flood": return self.flood(self.connection(words[0]), int(words[1]), int(words[2]))
            case "broadcast": self.everybody(words[0]).broadcast(message_of(*words[1:3]), exclude=exclude)
            case "publish": loop.publish(text_of(words[0]), message_of(*words[1:3]), exclude=exclude)
            case "subscribe": self.connection(words[0]).subscribe(text_of(words[1]))
            case "unsubscribe": self.connection(words[0]).unsubscribe(text_of(words[1]))
            case "subscribers": return [loop.subscriber_count(text_of(words[0]))]
            case "count": return [self.everybody(words[0]).connection_count]
            case "log": loop.set_logger(logger_of(words[0]))
            case "statistics": return figures_of(self.everybody(words[0]).statistics())
            case "connections": return sorted(self.number(one) for one in self.everybody(words[0]).connections)
            case "pause": self.connection(words[0]).pause()
            case "resume": self.connection(words[0]).resume()
            case "state": return [self.connection(words[0]).ready_state.name.lower()]
            case "buffered": return [self.connection(words[0]).buffered_amount]
            case "latency":
                latency = self.connection(words[0]).latency
                return ["none" if latency is None else round(latency * 1e6)]
            case "subprotocol": return [hexed(self.connection(words[0]).subprotocol)]
            case "extensions": return [hexed(self.connection(words[0]).extensions or None)]
            case "peer": return [hexed(address_of(self.connection(words[0]).remote_address))]
            case "listen" | "route": return self.listen(*words)
            case "connect": return self.connect(*words)
            case "persist": return self.persist(*words)
            case "client_send": self.client(words[0]).send(message_of(*words[1:]))
            case "client_close": self.client(words[0]).close(int(words[1]), text_of(words[2]))
            case "client_terminate": self.client(words[0]).terminate()
            case "client_buffered": return [self.client(words[0]).buffered_amount]
            case "client_connection":
                connection = self.client(words[0]).connection
                return [0 if connection is None else self.number(connection)]
            case "reload": self.listeners[int(words[0]) - 1].reload_tls(self.split(words[1:])[1]["ssl"])
            case "close_listener": self.listeners[int(words[0]) - 1].close()
            case "stop": loop.stop()
            case "shutdown": loop.shutdown(int(words[0]) / 1000)
            case "free": loop.close()
            case _: raise LookupError(command)
        return None

    def flood(self, connection, size, total):
        """Numbered messages of a size, until one is refused."""
        rest = bytes(max(size - 4, 0))
        for taken in range(total):
            try:
                connection.send(taken.to_bytes(4, "big") + rest)
            except wsx.WebSocketException as error:
                code, _, text = refusal(error)
                return [f"taken={taken}", f"refused={code}", f"text={hexed(text)}"]
        return [f"taken={total}", "refused=none", "text=-"]

    def listen(self, address, *words):
        does, options = self.split(words)
        within = does.words.get("within")
        begin = self.listeners[int(within) - 1].route if within else self.loop.listen
        listener = begin(text_of(address), does, **options)
        self.listeners.append(listener)
        where = listener.local_address
        return [does.number, where[1] if isinstance(where, tuple) else 0]

    def connect(self, url, *words):
        does, options = self.split(words)
        connection = self.loop.connect(text_of(url), does, **options)
        self.untold.add(connection)
        return [self.number(connection)]

    def persist(self, url, *words):
        does, options = self.split(words)
        client = self.loop.connect(text_of(url), does, **options)
        return [self.client_number(client), self.number(client.connection)]

    def split(self, words):
        """What the program does in its callbacks, and what the engine is to do."""
        does, options = {}, {}
        for key, value in (word.split("=", 1) for word in words):
            if not set_option(options, key, value):
                does[key] = value
        if "compression" in options:
            options["compression"] = wsx.Deflate(**options["compression"])
        if "reconnect" in options:
            options["reconnect"] = wsx.Reconnect(**options["reconnect"])
        if "ssl" in options:
            options["ssl"] = wsx.TLS(**options["ssl"])
        return Does(self, does, len(self.listeners) + 1), options


def set_option(options, key, value):
    """False where it is no option of the engine."""
    if key in COUNTS:
        options[key] = int(value)
    elif key in TIMEOUTS:
        options[key] = int(value) / 1000
    elif key in SWITCHES:
        options[key] = value == "1"
    elif key in LISTS:
        options.setdefault(LISTS[key], []).append(text_of(value))
    elif key == "header":
        name, _, content = value.partition(":")
        options.setdefault("headers", []).append((text_of(name), text_of(content)))
    elif key in ("path", "proxy"):
        options[key] = text_of(value)
    elif key == "proxy_from_environment":
        options["proxy"] = True     # its name in websockets
    elif key == "origins":
        options["origins"] = value.replace("_", "-")
    elif key == "backlog_policy":
        options["backlog_policy"] = value
    elif key == "compression":
        options["compression"] = {}
    elif key.startswith("compression_"):
        name = key.removeprefix("compression_")
        options["compression"][name] = int(value) if name in NUMBERS else value == "1"
    elif key == "reconnect":
        options["reconnect"] = {}
    elif key.startswith("reconnect_"):
        name = key.removeprefix("reconnect_")
        options["reconnect"][name] = int(value) / 1000 if name in RECONNECT_TIMES else int(value)
    elif key.startswith("tls_"):
        set_tls(options.setdefault("ssl", {}), key.removeprefix("tls_"), value)
    else:
        return False
    return True


def set_tls(tls, key, value):
    if key == "certificate":
        pair = tuple(map(text_of, value.split(":")))
        tls["certificates"] = [*tls.get("certificates", []), pair]
    elif key == "alpn":
        tls["alpn"] = [*tls.get("alpn", []), text_of(value)]
    elif key == "danger_accept_invalid_certificates":
        tls[key] = value == "1"
    else:
        tls[key] = value if key == "client_auth" else text_of(value)


def run(options):
    """The loop runs, and a thread posts the lines to it."""
    loop = wsx.EventLoop(**options)
    program, lines, came = Program(loop), collections.deque(), threading.Semaphore(0)

    def perform_waiting():
        while lines and lines[0] is not None:
            program.perform(lines.popleft().split())

    def read():
        for line in sys.stdin:
            lines.append(line)
            came.release()
            try:
                loop.post(perform_waiting)
            except wsx.WebSocketException:
                pass                # the loop is closed: the main thread takes the line
        lines.append(None)
        came.release()
        try:
            loop.stop()
        except wsx.WebSocketException:
            pass

    threading.Thread(target=read, daemon=True).start()
    loop.run()
    say("stopped 0")
    while came.acquire():
        perform_waiting()
        if lines:
            break
    loop.close()


async def run_in_asyncio(options):
    host = asyncio.get_running_loop()
    program = Program(wsx.event_loop(**options))
    reader = asyncio.StreamReader(limit=1 << 30)
    await host.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        program.perform(line.decode().split())
    for client in program.clients:
        if client in program.untold:
            client.terminate()
    for connection in program.connections:
        if connection.ready_state != wsx.State.CLOSED:
            connection.terminate()
    while program.untold:           # until each has heard its last event
        await asyncio.sleep(0.001)


if __name__ == "__main__":
    if "hello" in sys.argv[1:]:
        print("python", wsx.__version__)
    else:
        is_inside = sys.argv[1:2] == ["asyncio"]
        loop_options = {}
        for option in sys.argv[1 + is_inside:]:
            set_option(loop_options, *option.split("=", 1))
        if is_inside:
            asyncio.run(run_in_asyncio(loop_options))
        else:
            run(loop_options)
