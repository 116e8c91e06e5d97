"""picows on uvloop: the echo server of its documentation."""
import asyncio
import sys

import uvloop
from picows import WSListener, WSMsgType, ws_create_server

broadcasting = "--broadcast" in sys.argv
transports = set()


class Listener(WSListener):
    def on_ws_connected(self, transport):
        if broadcasting:
            transports.add(transport)

    def on_ws_disconnected(self, transport):
        transports.discard(transport)

    def on_ws_frame(self, transport, frame):
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        elif broadcasting:
            payload = frame.get_payload_as_bytes()
            for other in transports:
                if other is not transport:
                    other.send(frame.msg_type, payload)
        else:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())


async def main():
    server = await ws_create_server(lambda request: Listener(), "127.0.0.1", 0, max_frame_size=16 << 20)
    print("listening on 127.0.0.1:%d" % server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


uvloop.run(main())
