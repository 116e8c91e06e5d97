"""websockets, aiohttp, tornado and picows against the echo server: plain and over TLS, with and without compression."""
import asyncio
import random

import pytest

from clients import Aiohttp, Picows, Refused, Tornado, Websockets
from conftest import CERTIFICATES, start_echo

CLIENTS = [Websockets, Aiohttp, Tornado, Picows]


def each_client(clients):
    return pytest.mark.parametrize("client", clients, ids=lambda client: client.__name__.lower())


clients = each_client(CLIENTS)
fragmenting = each_client([client for client in CLIENTS if client.fragments])
pinging = each_client([client for client in CLIENTS if client.pings])

TLS = ["--tls-cert", str(CERTIFICATES / "server.pem"), "--tls-key", str(CERTIFICATES / "server-key.pem")]
DEFLATE = ["--compression"]
CONTEXTS = ["--compression", "--context-takeover"]
WAYS = {"ws": [], "ws, compressed": DEFLATE, "ws, compressed in contexts": CONTEXTS,
        "wss": TLS, "wss, compressed": [*TLS, *DEFLATE], "wss, compressed in contexts": [*TLS, *CONTEXTS]}


@pytest.fixture(scope="module", params=WAYS.values(), ids=WAYS.keys())
def way(request):
    """The server's options for how bytes travel."""
    return request.param


@pytest.fixture(autouse=True)
def not_beyond_the_client(request, way):
    if request.getfixturevalue("client") is Tornado and "--compression" in way and "--context-takeover" not in way:
        pytest.skip("tornado drops parameters without a value: it does not see client_no_context_takeover")


@pytest.fixture
def start(start, way):
    return lambda *options: start(*options, *way)


@pytest.fixture(scope="module")
def echo(way):
    """One echo server with default limits for all tests of a way."""
    echo = start_echo("--origin", "any", *way)
    yield echo
    assert echo.process.poll() is None, f"the server died with status {echo.process.returncode}"
    echo.stop()


MESSAGES = {
    "text": "Hello, libwsx",
    "text beyond ASCII": "Grüße, 日本語, 👩‍🚀",
    "text with a NUL": "a\0b",
    "binary": bytes(range(256)),
    "empty text": "",
    "empty binary": b"",
    "125 bytes": b"x" * 125,
    "126 bytes": b"x" * 126,
    "65,535 bytes": b"x" * 65535,
    "65,536 bytes": b"x" * 65536,
    "1 MiB text": "x" * (1 << 20),
    "1 MiB binary": bytes(i * 7 & 0xFF for i in range(4096)) * 256,
    "200 kB of noise": random.Random(7).randbytes(200_000),
    "200 kB of words": "".join(random.Random(7).choices(["broadcast ", "echo ", "été ", "日本 "], k=30_000)),
}


@clients
@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES.keys())
async def test_a_message_comes_back_with_its_type(echo, client, message):
    peer = await client.open(echo.url)
    await peer.send(message)
    assert await peer.receive() == message
    assert (await peer.close())[0] == 1000


@clients
async def test_compression_is_agreed_on_where_both_ends_know_it(echo, way, client):
    peer = await client.open(echo.url)
    if client.compresses:
        assert peer.is_compressed == ("--compression" in way)
    await peer.close()


@clients
async def test_many_messages_come_back_in_order(echo, client):
    peer = await client.open(echo.url)
    sent = [f"message {i} {'x' * (i * 37 % 3000)}" for i in range(500)]
    for message in sent:
        await peer.send(message)
    assert [await peer.receive() for _ in sent] == sent
    await peer.close()


@fragmenting
async def test_fragments_come_back_as_one_message(echo, client):
    peer = await client.open(echo.url)
    for fragments in (["one ", "", "two ", "three"], [b"\x00" * 70000, b"\x01", b""], ["Gr", "üß", "e"]):
        await peer.send_fragments(fragments)
        assert await peer.receive() == type(fragments[0])().join(fragments)
    await peer.close()


@pinging
@pytest.mark.parametrize("payload", [b"", b"are you there?", b"p" * 125], ids=["empty", "short", "125 bytes"])
async def test_a_ping_is_answered_with_its_payload(echo, client, payload):
    peer = await client.open(echo.url)
    await peer.ping(payload)
    await peer.send("still here")
    assert await peer.receive() == "still here"
    await peer.close()


@clients
async def test_an_unknown_subprotocol_is_not_chosen(echo, client):
    peer = await client.open(echo.url, subprotocols=["nobody-speaks-this", "nor-this"])
    assert peer.subprotocol is None
    await peer.close()


@clients
@pytest.mark.parametrize(("code", "reason"), [(1000, "bye"), (1001, ""), (3000, "a library's"), (4999, "Grüße " + "x" * 100)])
async def test_a_close_comes_back_with_its_code(echo, client, code, reason):
    peer = await client.open(echo.url)
    assert (await peer.close(code, reason))[0] == code


@clients
async def test_several_connections_are_served_at_once(echo, client):
    async def one(number):
        peer = await client.open(echo.url)
        for i in range(20):
            await peer.send(f"{number}.{i}")
            assert await peer.receive() == f"{number}.{i}"
        await peer.close()

    await asyncio.gather(*(one(number) for number in range(20)))


@clients
async def test_a_broadcast_reaches_everybody_else(start, client):
    echo = start("--broadcast", "--origin", "any")
    ann, bob, chloe = [await client.open(echo.url) for _ in range(3)]
    await ann.send("from Ann")
    assert await bob.receive() == "from Ann"
    assert await chloe.receive() == "from Ann"
    await bob.send(b"from Bob")
    # Ann hears Bob first: her own message did not come back to her
    assert await ann.receive() == b"from Bob"
    assert await chloe.receive() == b"from Bob"
    await chloe.close()
    await ann.send("to the rest")
    assert await bob.receive() == "to the rest"
    await ann.close()
    await bob.close()


@clients
async def test_a_message_too_big_is_answered_with_1009(start, client):
    echo = start("--max-message", "1000", "--origin", "any")
    peer, other = [await client.open(echo.url) for _ in range(2)]
    await peer.send(b"x" * 1000)
    assert await peer.receive() == b"x" * 1000
    await peer.send(b"x" * 1001)
    assert (await peer.closed())[0] == 1009
    await other.send("others are served")
    assert await other.receive() == "others are served"
    await other.close()


@fragmenting
async def test_fragments_that_add_up_to_too_much_are_answered_with_1009(start, client):
    echo = start("--max-message", "1000", "--origin", "any")
    peer = await client.open(echo.url)
    await peer.send_fragments([b"x" * 400, b"x" * 400, b"x" * 200])
    assert await peer.receive() == b"x" * 1000
    await peer.send_fragments([b"x" * 400, b"x" * 400, b"x" * 201])
    code, reason = await peer.closed()
    assert code == 1009
    assert "1000" in reason, "the reason names the limit"


@fragmenting
async def test_too_many_fragments_are_answered_with_1008(start, client):
    echo = start("--max-fragments", "4", "--origin", "any")
    peer = await client.open(echo.url)
    await peer.send_fragments(["a", "b", "c"])   # websockets adds an empty last one
    assert await peer.receive() == "abc"
    await peer.send_fragments(["a", "b", "c", "d", "e"])
    assert (await peer.closed())[0] == 1008


@clients
async def test_a_page_from_elsewhere_is_refused_with_403(start, client):
    echo = start()
    for origin in ("http://elsewhere.example", "null", f"http://{echo.host}:{echo.port + 1}"):
        with pytest.raises(Refused) as refused:
            await client.open(echo.url, origin=origin)
        assert refused.value.status == 403
    peer = await client.open(echo.url, origin=echo.url.replace("ws", "http", 1).rstrip("/"))
    await peer.send("from our own page")
    assert await peer.receive() == "from our own page"
    await peer.close()


@clients
async def test_sigterm_closes_every_connection_with_1001(start, client):
    echo = start("--origin", "any")
    peers = [await client.open(echo.url) for _ in range(3)]
    ended = asyncio.create_task(asyncio.to_thread(echo.stop))
    for peer in peers:
        assert (await peer.closed())[0] == 1001
    await ended
