"""websockets on uvloop, without compression, which its documentation recommends where speed matters, and without TLS,
unless they are asked for."""
import argparse
import asyncio
import ssl

import uvloop
from websockets.asyncio.server import broadcast as send_to_all, serve
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory


async def echo(ws):
    async for message in ws:
        await ws.send(message)


async def broadcast(ws):
    async for message in ws:
        send_to_all([other for other in ws.server.connections if other is not ws], message)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--broadcast", action="store_true")
    parser.add_argument("--compression", action="store_true")
    parser.add_argument("--context-takeover", action="store_true")
    parser.add_argument("--tls-cert")
    parser.add_argument("--tls-key")
    return parser.parse_args()


async def main():
    given, options = arguments(), {"compression": None, "max_size": 16 << 20}
    if given.compression:
        # It has no threshold: everything is compressed.
        options["extensions"] = [ServerPerMessageDeflateFactory(
            server_no_context_takeover=not given.context_takeover,
            client_no_context_takeover=not given.context_takeover, compress_settings={"level": 6})]
    if given.tls_cert:
        options["ssl"] = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        options["ssl"].load_cert_chain(given.tls_cert, given.tls_key)
    async with serve(broadcast if given.broadcast else echo, "127.0.0.1", 0, **options) as server:
        print("listening on 127.0.0.1:%d" % server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()


uvloop.run(main())
