"""Compression: what is agreed on, what is declined, and what goes over the wire."""
import socket

import pytest
import websockets
from conftest import DEADLINE, echo

import wsx

PARAMETERS = [
    ({}, "permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
    ({"server_no_context_takeover": False}, "permessage-deflate; client_no_context_takeover"),
    ({"client_no_context_takeover": False}, "permessage-deflate; server_no_context_takeover"),
    ({"server_no_context_takeover": False, "client_no_context_takeover": False}, "permessage-deflate"),
    ({"server_max_window_bits": 10, "client_max_window_bits": 11},
     "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=10; "
     "client_max_window_bits=11"),
]


@pytest.mark.parametrize(("choices", "agreed"), PARAMETERS, ids=[agreed for _, agreed in PARAMETERS])
async def test_both_ends_tell_what_was_agreed_on(choices, agreed):
    seen = []

    async def handler(ws):
        seen.append(ws.extensions)
        await echo(ws)

    deflate = wsx.Deflate(threshold=None, **choices)
    async with wsx.serve(handler, "127.0.0.1", 0, compression=deflate) as server:
        async with wsx.connect("ws://%s:%d/" % server.addresses[0], compression=deflate) as ws:
            for number in range(20):
                message = "resembling each other " * number
                await ws.send(message)
                assert await ws.recv() == message
            await ws.close()
            assert ws.extensions == agreed, "also when it has ended"
    assert seen == [agreed]


@pytest.mark.parametrize(("server", "client"), [(None, "deflate"), ("deflate", None), (None, None)])
async def test_a_peer_may_decline(server, client):
    async with wsx.serve(echo, "127.0.0.1", 0, compression=server) as serving:
        async with wsx.connect("ws://%s:%d/" % serving.addresses[0], compression=client) as ws:
            assert ws.extensions == ""
            await ws.send("x" * 10_000)
            assert await ws.recv() == "x" * 10_000


async def test_their_client_may_decline():
    async with wsx.serve(echo, "127.0.0.1", 0, compression="deflate") as server:
        async with websockets.connect("ws://%s:%d/" % server.addresses[0], compression=None) as ws:
            await ws.send("x" * 10_000)
            assert await ws.recv() == "x" * 10_000


async def test_their_server_may_decline():
    async with websockets.serve(echo, "127.0.0.1", 0, compression=None) as server:
        uri = "ws://%s:%d/" % server.sockets[0].getsockname()
        async with wsx.connect(uri, compression="deflate") as ws:
            assert ws.extensions == ""
            await ws.send("x" * 10_000)
            assert await ws.recv() == "x" * 10_000


@pytest.mark.parametrize("compression", ["deflate", wsx.Deflate()], ids=["name", "choices"])
def test_callbacks_are_told(turns, compression):
    server, client = turns.pair(client={"compression": compression}, compression=compression)
    assert server.extensions == client.extensions == PARAMETERS[0][1]
    client.terminate()
    turns.until(lambda: server.ready_state is wsx.State.CLOSED)
    with pytest.raises(wsx.ConnectionClosed):
        server.extensions


def frames(turns, deflate, messages):
    """The frames that a server makes of these messages: whether each is compressed, and the length of its payload."""
    listener = turns.loop.listen("127.0.0.1:0", compression=deflate, on_open=lambda connection, _: [
        connection.send(message) for message in (*messages, b"end")])
    with socket.create_connection(listener.local_address, timeout=DEADLINE) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                     b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                     b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
        turns.until(lambda: listener.connection_count == 1)
        turns.loop.turn(0)
        stream = peer.makefile("rb")
        while stream.readline() != b"\r\n":
            pass
        told = []
        while True:
            first, length = stream.read(2)
            if length >= 126:
                length = int.from_bytes(stream.read(2 if length == 126 else 8))
            if stream.read(length) == b"end":
                return told
            told.append((bool(first & 0x40), length))


def test_messages_under_the_threshold_are_sent_as_they_are(turns):
    (short, short_length), (long, long_length) = frames(turns, "deflate", ["x" * 1023, "x" * 1024])
    assert (short, short_length, long) == (False, 1023, True) and long_length < 100
    (short, _), (long, _) = frames(turns, wsx.Deflate(threshold=2000), ["x" * 1999, "x" * 2000])
    assert (short, long) == (False, True)
    for none in (None, 0):
        (compressed, _), = frames(turns, wsx.Deflate(threshold=none), ["x" * 30])
        assert compressed


def test_a_higher_level_makes_less(turns):
    text = " ".join(str(number * number) for number in range(5000))
    (_, fast), = frames(turns, wsx.Deflate(level=1), [text])
    (_, small), = frames(turns, wsx.Deflate(level=9), [text])
    assert small < fast < len(text)


def test_the_limit_counts_what_a_message_inflates_to(turns):
    _, client = turns.pair(server={"on_error": lambda _, failure: turns.say("failed", failure.kind)},
                           client={"compression": "deflate", "on_close": lambda _, close: turns.say("closed", close.code)},
                           compression="deflate", max_message=10_000)
    client.send("x" * 10_001)
    turns.until_heard("closed", 1009)
    turns.until_heard("failed", "limit")


NO_CHOICES = [
    ("gzip", ValueError, "compression: None, 'deflate' or a wsx.Deflate, not 'gzip'"),
    (True, TypeError, "compression: None, 'deflate' or a wsx.Deflate, not bool"),
    (wsx.Deflate, TypeError, "compression: None, 'deflate' or a wsx.Deflate, not type"),
    (wsx.Deflate(level="6"), TypeError, "compression: level: "),
    (wsx.Deflate(level=10), ValueError, "the level of compression is 1 to 9, not 10"),
    (wsx.Deflate(level=1000), ValueError, "compression: level: "),
    (wsx.Deflate(threshold=-1), ValueError, "compression: threshold: "),
    (wsx.Deflate(server_no_context_takeover="yes"), TypeError, "compression: server_no_context_takeover: "),
    (wsx.Deflate(client_no_context_takeover=2), TypeError, "compression: client_no_context_takeover: "),
    (wsx.Deflate(server_max_window_bits=8), ValueError, "server_max_window_bits is 9 to 15, not 8"),
    (wsx.Deflate(client_max_window_bits=16), ValueError, "client_max_window_bits is 9 to 15, not 16"),
]


@pytest.mark.parametrize(("compression", "error", "text"), NO_CHOICES, ids=[text for *_, text in NO_CHOICES])
def test_what_is_no_choice_is_named(turns, compression, error, text):
    for call in (lambda: turns.loop.listen("127.0.0.1:0", compression=compression),
                 lambda: turns.loop.connect("ws://127.0.0.1:1/", compression=compression)):
        with pytest.raises(error) as raised:
            call()
        assert text in str(raised.value)
