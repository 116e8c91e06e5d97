"""Three well-known clients behind one small face, so that each test is written once."""
import asyncio

import aiohttp
import picows
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


class Refused(Exception):
    """The server answered the opening handshake with something else than 101."""

    def __init__(self, status):
        super().__init__(f"status {status}")
        self.status = status


class Websockets:
    """The package `websockets`; it offers permessage-deflate, which the server may decline."""
    fragments = True

    @classmethod
    async def open(cls, url, subprotocols=None, origin=None):
        self = cls()
        try:
            self.connection = await connect(url, subprotocols=subprotocols, origin=origin, max_size=None, ping_interval=None)
        except InvalidStatus as refused:
            raise Refused(refused.response.status_code) from refused
        return self

    @property
    def subprotocol(self):
        return self.connection.subprotocol

    async def send(self, message):
        await self.connection.send(message)

    async def send_fragments(self, fragments):
        await self.connection.send(fragments)

    async def receive(self):
        return await self.connection.recv()

    async def ping(self, payload):
        await (await self.connection.ping(payload))

    async def close(self, code=1000, reason=""):
        await self.connection.close(code, reason)
        return await self.closed()

    async def closed(self):
        """The code and the reason that the server's Close carried; 1006 without one."""
        try:
            while True:
                await self.connection.recv()
        except ConnectionClosed as closed:
            return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")


class Aiohttp:
    """The client of `aiohttp`."""
    fragments = False

    @classmethod
    async def open(cls, url, subprotocols=None, origin=None):
        self = cls()
        self.session = aiohttp.ClientSession()
        try:
            self.connection = await self.session.ws_connect(url, protocols=subprotocols or (), origin=origin, max_msg_size=0,
                                                            autoping=False)
        except aiohttp.WSServerHandshakeError as refused:
            await self.session.close()
            raise Refused(refused.status) from refused
        return self

    @property
    def subprotocol(self):
        return self.connection.protocol

    async def send(self, message):
        await (self.connection.send_str(message) if isinstance(message, str) else self.connection.send_bytes(message))

    async def receive(self):
        message = await self.connection.receive()
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        return message.data

    async def ping(self, payload):
        await self.connection.ping(payload)
        message = await self.connection.receive()
        assert message.type is aiohttp.WSMsgType.PONG and bytes(message.data) == payload, message

    async def close(self, code=1000, reason=""):
        await self.connection.close(code=code, message=reason.encode())
        await self.session.close()
        return self.connection.close_code, reason   # aiohttp does not keep the reason

    async def closed(self):
        async for _ in self.connection:
            pass
        await self.session.close()
        return self.connection.close_code, ""


class Picows(picows.WSListener):
    """The client of `picows`: frames rather than messages."""
    fragments = True

    @classmethod
    async def open(cls, url, subprotocols=None, origin=None):
        headers = {"Sec-WebSocket-Protocol": ", ".join(subprotocols)} if subprotocols else {}
        headers |= {"Origin": origin} if origin else {}
        try:
            _, self = await picows.ws_connect(cls, url, extra_headers=headers, max_frame_size=1 << 30)
        except picows.WSHandshakeError as refused:
            raise Refused(int(refused.response.status)) from refused
        return self

    def __init__(self):
        super().__init__()
        self.frames = asyncio.Queue()
        self.close_frame = (1006, "")
        self.parts, self.type = [], None

    def on_ws_connected(self, transport):
        self.connection = transport

    def on_ws_frame(self, transport, frame):
        kind = frame.msg_type
        if kind == picows.WSMsgType.CLOSE:
            payload = frame.get_payload_as_bytes()
            self.close_frame = (int.from_bytes(payload[:2], "big") if payload else 1005, payload[2:].decode())
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        elif kind == picows.WSMsgType.PONG:
            self.frames.put_nowait(("pong", frame.get_payload_as_bytes()))
        else:
            self.type = kind if kind != picows.WSMsgType.CONTINUATION else self.type
            self.parts.append(frame.get_payload_as_bytes())
            if frame.fin:
                whole, self.parts = b"".join(self.parts), []
                self.frames.put_nowait(whole.decode() if self.type == picows.WSMsgType.TEXT else whole)

    @property
    def subprotocol(self):
        return self.connection.response.headers.get("Sec-WebSocket-Protocol")

    async def send(self, message):
        kind = picows.WSMsgType.TEXT if isinstance(message, str) else picows.WSMsgType.BINARY
        self.connection.send(kind, message.encode() if isinstance(message, str) else message)

    async def send_fragments(self, fragments):
        kind = picows.WSMsgType.TEXT if isinstance(fragments[0], str) else picows.WSMsgType.BINARY
        for i, part in enumerate(fragments):
            self.connection.send(picows.WSMsgType.CONTINUATION if i else kind,
                                 part.encode() if isinstance(part, str) else part, fin=i == len(fragments) - 1)

    async def receive(self):
        return await self.frames.get()

    async def ping(self, payload):
        self.connection.send_ping(payload)
        assert await self.frames.get() == ("pong", payload)

    async def close(self, code=1000, reason=""):
        # picows takes only codes that it knows, so this Close is sent as a frame of our own making
        self.connection.send(picows.WSMsgType.CLOSE, code.to_bytes(2, "big") + reason.encode())
        return await self.closed()

    async def closed(self):
        await self.connection.wait_disconnected()
        return self.close_frame
