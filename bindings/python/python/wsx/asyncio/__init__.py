"""wsx for coroutines: on asyncio and uvloop, on their own thread.

`connect` and `serve` follow the `websockets` package. `event_loop` is the callback layer inside asyncio.
"""
from .client import ClientConnection, connect
from .connection import Connection, broadcast
from .engine import event_loop
from .server import Server, ServerConnection, serve

__all__ = ["ClientConnection", "Connection", "Server", "ServerConnection", "broadcast", "connect", "event_loop", "serve"]
