"""websockets on uvloop, without compression, which its documentation recommends where speed matters."""
import asyncio
import sys

import uvloop
from websockets.asyncio.server import broadcast as send_to_all, serve


async def echo(ws):
    async for message in ws:
        await ws.send(message)


async def broadcast(ws):
    async for message in ws:
        send_to_all([other for other in ws.server.connections if other is not ws], message)


async def main():
    handler = broadcast if "--broadcast" in sys.argv else echo
    async with serve(handler, "127.0.0.1", 0, compression=None, max_size=16 << 20) as server:
        print("listening on 127.0.0.1:%d" % server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()


uvloop.run(main())
