"""The chat servers of examples/: the page, and the rules of the room that its first lines tell."""
import asyncio
import json
import re
import subprocess

import aiohttp
import pytest
import websockets
from conftest import ROOT

SERVERS = {
    "C": ["build/chat"],
    "Rust": ["target/release/examples/chat"],
    "Python": ["build/venv/bin/python", "examples/chat.py"],
    "Node": ["node", "examples/chat.mjs"],
}
TIME = "2026-01-31T12:00:00.000Z"
DEADLINE = 20


@pytest.fixture(params=SERVERS)
def chat(request):
    """Where a chat server listens; it ends with status 0 on SIGTERM."""
    process = subprocess.Popen([*SERVERS[request.param], "--port", "0"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    found = re.fullmatch(r"listening on http://(127\.0\.0\.1:\d+)\n", line)
    if not found:
        process.kill()
        pytest.fail(f"{SERVERS[request.param]} printed {line!r}")
    yield found[1]
    process.terminate()
    assert process.wait(timeout=DEADLINE) == 0


def message(kind, sender, text=""):
    return json.dumps({"type": kind, "sender": sender, "text": text, "time": TIME})


async def told(client, kind, sender, people, text=""):
    heard = json.loads(await asyncio.wait_for(client.recv(), DEADLINE))
    assert (heard["type"], heard["sender"], heard["text"], heard["people"]) == (kind, sender, text, people)
    return heard


async def test_the_page_and_its_websocket_share_a_port(chat):
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://{chat}/") as answer:
            assert answer.status == 200 and answer.content_type == "text/html"
            assert await answer.text() == (ROOT / "examples/chat.html").read_text()
        async with session.get(f"http://{chat}/elsewhere") as answer:
            assert answer.status == 404


async def test_people_enter_write_leave_and_vanish(chat):
    url = f"ws://{chat}/chat"
    async with websockets.connect(url) as ann, websockets.connect(url) as bob:
        await ann.send(message("enter", "Ann"))
        await told(ann, "enter", "Ann", 1)
        await bob.send(message("enter", "Bob \"é\""))
        for client in (ann, bob):
            await told(client, "enter", "Bob \"é\"", 2)
        await ann.send(message("message", "Ann", "Hello\n\u2028 <b>"))
        for client in (ann, bob):
            heard = await told(client, "message", "Ann", 2, "Hello\n\u2028 <b>")
            assert heard["time"] == TIME
        async with websockets.connect(url) as cleo:
            await cleo.send(message("enter", "Cleo"))
            for client in (ann, bob, cleo):
                await told(client, "enter", "Cleo", 3)
            cleo.transport.abort()
        for client in (ann, bob):
            await told(client, "leave", "Cleo", 2)
        await bob.send(message("leave", "Bob \"é\""))
        await told(ann, "leave", "Bob \"é\"", 1)


@pytest.mark.parametrize("sent", [
    [message("message", "Ann", "not entered")],
    [message("enter", "")],
    [message("enter", "x" * 41)],
    [message("enter", "Ann"), message("enter", "Ann")],
    [message("enter", "Ann"), message("message", "Bob", "not me")],
    [message("enter", "Ann"), message("shout", "Ann")],
    [message("enter", "Ann"), message("message", "Ann", "x" * 4001)],
    ["{}"], ["[1]"], ["hello"], ['{"type":"enter","sender":1,"text":"","time":""}'], ['{"type":"enter"'],
], ids=lambda sent: sent[-1][:60])
async def test_what_breaks_the_rules_ends_with_1008_and_a_reason(chat, sent):
    async with websockets.connect(f"ws://{chat}/chat") as client:
        for one in sent:
            await client.send(one)
        async with asyncio.timeout(DEADLINE):
            await client.wait_closed()
        assert client.close_code == 1008
        assert client.close_reason
