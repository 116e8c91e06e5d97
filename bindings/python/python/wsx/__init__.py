"""One WebSocket engine for every program: server and client, with callbacks or with coroutines.

Callbacks, on an event loop of its own::

    import wsx

    def echo(connection, message):
        connection.send(message)

    with wsx.EventLoop() as loop:
        loop.listen("127.0.0.1:9001", on_message=echo)
        loop.run()

Coroutines, on asyncio or uvloop::

    async with wsx.connect("ws://127.0.0.1:9001") as ws:
        await ws.send("hello")
        print(await ws.recv())

`EventLoop`, `Connection` and `Handler` are the callback layer; `connect` and `serve` follow the `websockets` package. The
options are in `wsx.options`. wsx prints nothing: it logs to the logger "wsx", exceptions of callbacks above all.
"""
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._wsx import VERSION as __version__
from ._wsx import (
    Client,
    Close,
    Connection,
    EventLoop,
    Failure,
    Fragment,
    GiveUp,
    Limit,
    Listener,
    Opening,
    Reconnecting,
    Request,
    Response,
    SharedMessage,
    Timer,
)
from .exceptions import (
    BacklogFull,
    CloseFrame,
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidHandshake,
    InvalidProxy,
    InvalidProxyStatus,
    InvalidState,
    InvalidStatus,
    InvalidURI,
    LoopClosed,
    ProxyError,
    QueueFull,
    WebSocketException,
)
from .handler import LATER, Handler
from .options import TLS, Deflate, Reconnect
from .protocol import CloseCode, Headers, State
from .statistics import METRICS_TYPE, Statistics

if TYPE_CHECKING:
    from . import asyncio
    from .asyncio import Server, broadcast, connect, event_loop, serve
else:

    def __getattr__(name: str) -> Any:
        """What needs asyncio, imported when it is first used: callbacks do without."""
        if name == "asyncio":
            return import_module(".asyncio", __name__)
        if name in ("Server", "broadcast", "connect", "event_loop", "serve"):
            return getattr(import_module(".asyncio", __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "LATER",
    "METRICS_TYPE",
    "TLS",
    "BacklogFull",
    "Client",
    "Close",
    "CloseCode",
    "CloseFrame",
    "ConcurrencyError",
    "Connection",
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "Deflate",
    "EventLoop",
    "Failure",
    "Fragment",
    "GiveUp",
    "Handler",
    "Headers",
    "InvalidHandshake",
    "InvalidProxy",
    "InvalidProxyStatus",
    "InvalidState",
    "InvalidStatus",
    "InvalidURI",
    "Limit",
    "Listener",
    "LoopClosed",
    "Opening",
    "ProxyError",
    "QueueFull",
    "Reconnect",
    "Reconnecting",
    "Request",
    "Response",
    "Server",
    "SharedMessage",
    "State",
    "Statistics",
    "Timer",
    "WebSocketException",
    "__version__",
    "asyncio",
    "broadcast",
    "connect",
    "event_loop",
    "serve",
]
