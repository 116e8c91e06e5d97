"""Well-known clients behind one small face, so that each test is written once.

Each offers permessage-deflate where it knows it, and trusts the tests' own certificates.
"""
import asyncio
import functools
import ssl

import aiohttp
import picows
import tornado.httpclient
import tornado.websocket
from conftest import CERTIFICATES
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


@functools.cache
def trust():
    return ssl.create_default_context(cafile=CERTIFICATES / "ca.pem")


def security(url):
    """What a client needs for this URL."""
    return trust() if url.startswith("wss:") else None


class Refused(Exception):
    """The server answered the opening handshake with something else than 101."""

    def __init__(self, status):
        super().__init__(f"status {status}")
        self.status = status


class Websockets:
    """The package `websockets`."""
    fragments = True
    pings = True
    compresses = True

    @classmethod
    async def open(cls, url, subprotocols=None, origin=None):
        self = cls()
        try:
            self.connection = await connect(url, subprotocols=subprotocols, origin=origin, max_size=None, ping_interval=None,
                                            ssl=security(url))
        except InvalidStatus as refused:
            raise Refused(refused.response.status_code) from refused
        return self

    @property
    def subprotocol(self):
        return self.connection.subprotocol

    @property
    def is_compressed(self):
        return bool(self.connection.protocol.extensions)

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
    pings = True
    compresses = True

    @classmethod
    async def open(cls, url, subprotocols=None, origin=None):
        self = cls()
        self.session = aiohttp.ClientSession()
        try:
            self.connection = await self.session.ws_connect(url, protocols=subprotocols or (), origin=origin, max_msg_size=0,
                                                            autoping=False, compress=15, ssl=security(url) or True)
        except aiohttp.WSServerHandshakeError as refused:
            await self.session.close()
            raise Refused(refused.status) from refused
        return self

    @property
    def subprotocol(self):
        return self.connection.protocol

    @property
    def is_compressed(self):
        return bool(self.connection.compress)

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


class Tornado:
    """The client of `tornado`. It tells nothing of the pongs that it gets."""
    fragments = False
    pings = False
    compresses = True

    @classmethod
    async def open(cls, url, subprotocols=None, origin=None):
        self = cls()
        request = tornado.httpclient.HTTPRequest(url, headers={"Origin": origin} if origin else {}, ssl_options=security(url))
        try:
            self.connection = await tornado.websocket.websocket_connect(request, subprotocols=subprotocols,
                                                                        compression_options={}, max_message_size=1 << 30)
        except tornado.httpclient.HTTPClientError as refused:
            raise Refused(refused.code) from refused
        return self

    @property
    def subprotocol(self):
        return self.connection.selected_subprotocol

    @property
    def is_compressed(self):
        return "permessage-deflate" in self.connection.headers.get("Sec-WebSocket-Extensions", "")

    async def send(self, message):
        await self.connection.write_message(message, binary=isinstance(message, bytes))

    async def receive(self):
        return await self.connection.read_message()

    async def close(self, code=1000, reason=""):
        self.connection.close(code, reason)
        return await self.closed()

    async def closed(self):
        while await self.connection.read_message() is not None:
            pass
        return self.connection.close_code or 1006, self.connection.close_reason or ""


class Picows(picows.WSListener):
    """The client of `picows`: frames rather than messages, and no compression."""
    fragments = True
    pings = True
    compresses = False

    @classmethod
    async def open(cls, url, subprotocols=None, origin=None):
        headers = {"Sec-WebSocket-Protocol": ", ".join(subprotocols)} if subprotocols else {}
        headers |= {"Origin": origin} if origin else {}
        try:
            _, self = await picows.ws_connect(cls, url, extra_headers=headers, max_frame_size=1 << 30,
                                              ssl_context=security(url))
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
