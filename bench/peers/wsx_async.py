"""libwsx for Python as coroutines use it, on uvloop."""
import asyncio
import sys

import uvloop
import wsx


async def echo(ws):
    async for message in ws:
        await ws.send(message)


async def broadcast(ws):
    ws.subscribe("all")
    async for message in ws:
        ws.publish("all", message)


async def main():
    handler = broadcast if "--broadcast" in sys.argv else echo
    async with wsx.serve(handler, "127.0.0.1", 0, max_size=16 << 20) as server:
        print("listening on 127.0.0.1:%d" % server.addresses[0][1], flush=True)
        await asyncio.get_running_loop().create_future()


uvloop.run(main())
