"""`connect`, where it comes to nothing: what each failure is raised as."""
import asyncio
import socket

import pytest
from conftest import served

import wsx


async def test_a_connection_that_could_not_be_opened_tells_all_that_is_known():
    async with served(process_request=lambda *_: wsx.Response.reject(503)) as (_, uri):
        with pytest.raises(wsx.InvalidStatus) as refused:
            await wsx.connect(uri)
        assert refused.value.close.failure.http_status == 503
    with pytest.raises(ConnectionRefusedError) as nobody:
        await wsx.connect(uri)
    failure = nobody.value.close.failure
    assert (failure.stage, failure.kind, failure.limit) == ("connect", "transport", None) and failure.os_error == nobody.value.errno
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimeoutError) as late:
        await wsx.connect(f"ws://127.0.0.1:{silent.getsockname()[1]}", open_timeout=0.1)
    limit = late.value.close.failure.limit
    assert (limit.option, limit.unit, limit.value, limit.reached) == ("handshake_timeout", "seconds", 0.1, None)


@pytest.mark.parametrize(("uri", "error", "text"), [
    ("http://127.0.0.1/", wsx.InvalidURI, "isn't a valid URI"), ("ws://", wsx.InvalidURI, "isn't a valid URI"),
    ("ws://127.0.0.1/#fragment", wsx.InvalidURI, "fragment"), ("wss://127.0.0.1:1/", OSError, "refused"),
    ("ws://host.invalid/", OSError, "host.invalid"),
])
async def test_a_uri_that_leads_nowhere_is_named(uri, error, text):
    with pytest.raises(error, match=text):
        await wsx.connect(uri)


async def test_a_refused_connection_is_an_os_error():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(ConnectionRefusedError, match=str(port)):
        async with wsx.connect(f"ws://127.0.0.1:{port}/"):
            pass


async def test_a_server_that_does_not_answer_times_out():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = "ws://127.0.0.1:%d/" % silent.getsockname()[1]
        with pytest.raises(TimeoutError, match="handshake_timeout"):
            await wsx.connect(uri, open_timeout=0.05)
        connecting = asyncio.create_task(wsx.connect(uri)._connect())
        await asyncio.sleep(0.01)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting


async def test_a_server_that_does_not_speak_it_is_told():
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HELLO\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    with pytest.raises(wsx.InvalidHandshake, match="answer"):
        await wsx.connect("ws://127.0.0.1:%d/" % server.sockets[0].getsockname()[1])
    server.close()
