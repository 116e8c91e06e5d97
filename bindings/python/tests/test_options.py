"""Every option of the engine is a keyword, by the same name and with the same default."""
import dataclasses
import inspect
import re
import typing

import pytest
from conftest import ROOT, SERVING

import wsx
import wsx.options
from wsx.options import LoopOptions, Options

CONFIG = (ROOT / "core/src/config.rs").read_text()
STUB_NAMES = {"Options": Options, "LoopOptions": LoopOptions}

# A value for each keyword that is not its default.
VALUES = {
    "max_message": 10, "max_fragments": 10, "deliver_fragments": True, "max_head": 1000, "max_headers": 10,
    "handshake_timeout": 0.5, "ping_interval": 0.5, "pong_timeout": 0.5, "close_timeout": 0.5, "progress_timeout": 0.5,
    "backlog_limit": 1000, "backlog_policy": "drop", "subprotocols": ["a", "b"], "max_topics": 1, "max_topic_name": 10,
    "no_delay": False, "keep_alive_idle": 9, "keep_alive_interval": 9, "keep_alive_count": 9, "max_connections_per_address": 1,
    "origins": ["https://a.example"], "path": "/only", "max_connections": 1, "listen_backlog": 10, "reuse_port": True,
    "headers": {"X-A": "1"}, "compression": "deflate", "ssl": SERVING, "proxy": "http://127.0.0.1:1", "max_redirects": 1,
    "connect_timeout": 0.5,
}

# What is called otherwise here: as it is in asyncio and in the standard library.
RENAMED = {"tls": "ssl"}

# What this door does not offer: callbacks hold the interpreter, so further threads would only wait for it (a process per
# core and `reuse_port` is what helps here); it waits in the host's own loop, not in the engine's; and `proxy=True` is the
# environment's.
LEFT_OUT = {"threads", "busy_poll", "proxy_from_environment"}


def fields(struct):
    """The public fields of a struct in config.rs that this door has, by their names here."""
    body = re.search(rf"pub struct {struct} {{(.*?)\n}}", CONFIG, re.S)[1]
    return [RENAMED.get(name, name) for name in re.findall(r"^    pub (\w+):", body, re.M) if name not in LEFT_OUT]


def defaults(struct):
    """The defaults of a struct in config.rs, as they are written there."""
    body = re.search(rf"impl Default for {struct} {{.*?Self {{(.*?)\n        }}\n    }}\n", CONFIG, re.S)[1]
    return {RENAMED.get(name, name): value for name, value in re.findall(r"(\w+): (.+?),\n", body + "\n")}


@pytest.mark.parametrize("struct", STUB_NAMES)
def test_the_keywords_are_the_fields_of_the_engine(struct):
    assert sorted(typing.get_type_hints(STUB_NAMES[struct])) == sorted(fields(struct))


@pytest.mark.parametrize("name", fields("Options"))
def test_each_option_is_taken_by_listen_and_connect(turns, name):
    turns.loop.listen("127.0.0.1:0", **{name: VALUES[name]})
    turns.loop.connect("ws://127.0.0.1:1/", **{name: VALUES[name]})


@pytest.mark.parametrize("name", fields("LoopOptions"))
def test_each_option_of_the_loop_is_taken(name):
    with wsx.EventLoop(**{name: True if name == "measure_callbacks" else 8192}) as loop:
        loop.listen("127.0.0.1:0")


def rust_value(text):
    """A default of config.rs as this door says it."""
    if text in ("true", "false"):
        return text == "true"
    if match := re.fullmatch(r"Duration::from_secs\((\d+)\)", text):
        return int(match[1])
    named = {"None": "None", "Duration::ZERO": "None", "Vec::new()": "none", "Origins::SameHost": '"same-host"',
             "BacklogPolicy::Close": '"close"'}
    return named[text] if text in named else eval(text.replace("_", ""))


def told(value):
    """A default as the options' lines tell it."""
    if isinstance(value, bool) or not isinstance(value, int):
        return str(value)
    if value and value % (1 << 20) == 0:
        return f"{value >> 20} MiB"
    return f"{value >> 10} KiB" if value >= 1024 and value % 1024 == 0 and value > 65536 or value == 16384 else f"{value:,}"


@pytest.mark.parametrize("struct", STUB_NAMES)
def test_each_option_tells_its_default(struct):
    source = inspect.getsource(wsx.options)
    for name in fields(struct):
        line = re.search(rf"^    {name}: .*?\n    \"\"\"(.*?)\"\"\"", source, re.M | re.S)[1]
        value = rust_value(defaults(struct)[name])
        expected = "(the default)" if name == "backlog_policy" else f"Default {told(value)}"
        if name in ("max_connections", "max_connections_per_address", "keep_alive_count"):
            expected = "Default None"
        assert expected in line, f"{name} has the default {value}, its line says: {line}"


def test_the_choices_for_compression_are_those_of_the_engine():
    assert {field.name: field.default for field in dataclasses.fields(wsx.Deflate)} \
        == {name: rust_value(value) for name, value in defaults("Compression").items()}


def test_the_choices_for_tls_are_those_of_the_engine():
    """All of them off, and the first certificate in words of its own."""
    assert [field.name for field in dataclasses.fields(wsx.TLS)] == ["cert", "key", *fields("Tls")]
    assert re.search(r"derive\([^)]*Default[^)]*\)\]\n#\[non_exhaustive\]\npub struct Tls {", CONFIG)
    assert {field.default for field in dataclasses.fields(wsx.TLS)} == {None, (), "none", False}


def test_a_limit_is_kept_and_told(turns):
    _, client = turns.pair(server={"on_error": lambda _, failure: turns.say("failed", failure.kind)},
                           client={"on_close": lambda _, close: turns.say("closed", close.code)}, max_message=10)
    client.send("x" * 11)
    turns.until_heard("closed", 1009)
    turns.until_heard("failed", "limit")


def test_none_is_no_limit(turns):
    _, client = turns.pair(server={"on_message": lambda _, message: turns.say("came", len(message))}, max_message=None,
                           backlog_limit=None)
    client.send(b"x" * (3 << 20))
    turns.until_heard("came", 3 << 20)


def test_timeouts_are_seconds_and_fractions_count(turns):
    server, client = turns.pair(server={"on_close": lambda _, close: turns.say("closed", close.failure.kind)},
                                ping_interval=0.02, pong_timeout=0.000001)
    client.pause()   # so that it answers no ping
    turns.until_heard("closed", "timeout")


@pytest.mark.parametrize(("keywords", "error", "text"), [
    ({"max_mesage": 5}, TypeError, "listen() got an unexpected keyword argument 'max_mesage'"),
    ({"max_message": -1}, ValueError, "max_message"),
    ({"max_message": "5"}, TypeError, "max_message"),
    ({"max_fragments": 1 << 40}, ValueError, "max_fragments"),
    ({"ping_interval": -1}, ValueError, "ping_interval: -1 is not a number of seconds"),
    ({"ping_interval": float("nan")}, ValueError, "ping_interval: NaN is not a number of seconds"),
    ({"backlog_policy": "explode"}, ValueError, "backlog_policy: 'close', 'drop', 'refuse' or 'pause', not 'explode'"),
    ({"origins": "https://a.example"}, ValueError, "origins: 'same-host', 'any' or a list"),
    ({"subprotocols": "chat"}, TypeError, "subprotocols: a list of str"),
    ({"subprotocols": ["a b"]}, ValueError, "subprotocol"),
    ({"path": "no-slash"}, ValueError, "path"),
    ({"headers": 5}, TypeError, "headers"),
], ids=str)
def test_a_wrong_value_is_named(turns, keywords, error, text):
    with pytest.raises(error, match=re.escape(text)):
        turns.loop.listen("127.0.0.1:0", **keywords)


def test_loop_options_are_checked():
    with pytest.raises(TypeError, match="unexpected keyword argument 'buffer'"):
        wsx.EventLoop(buffer=5)
    with pytest.raises(ValueError, match="receive_buffer"):
        wsx.EventLoop(receive_buffer=-1)


def test_calls_of_other_threads_have_a_limit(turns):
    import threading

    raised = []

    def flood():
        try:
            for _ in range(100):
                loop.post(print)
        except wsx.QueueFull as error:
            raised.append(str(error))

    with wsx.EventLoop(max_commands=10) as loop:
        loop.turn(0)
        thread = threading.Thread(target=flood)
        thread.start()
        thread.join()
    assert raised == ["too many calls from other threads wait for the event loop: max_commands is 10"]
