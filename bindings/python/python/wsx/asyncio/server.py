"""`serve`: a server whose handler is a coroutine for each connection."""
from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack

from .. import _wsx
from ..exceptions import ConnectionClosed, InvalidState
from ..handler import LATER
from ..options import TLS, CoroutineOptions, Options
from ..statistics import Statistics
from .connection import Connection, _Hooks
from .engine import Engine
from .keywords import engine_options

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["Server", "ServerConnection", "serve"]


class ServerConnection(Connection):
    """A connection that a server has accepted."""

    request: _wsx.Request
    """The client's request."""

    def __init__(self, server: Server, *, max_queue: int | None = 16, logger: logging.Logger | None = None) -> None:
        super().__init__(max_queue=max_queue, logger=logger)
        self.server = server

    def respond(self, status: int, text: str) -> _wsx.Response:
        """For `process_request`: an answer of plain text instead of a WebSocket."""
        return _wsx.Response.reject(status, text)

    def publish(self, topic: str, message: str | ReadableBuffer) -> None:
        """Sends a message to every other subscriber of a topic, encoded once."""
        self.server._events.publish(topic, message, exclude=self._raw)

    def _opened(self, raw: _wsx.Connection, opening: _wsx.Opening) -> None:
        super()._opened(raw, opening)
        if opening.request is not None:
            self.request = opening.request
        self.server._opened(self)

    def _has_closed(self, close: _wsx.Close) -> None:
        super()._has_closed(close)
        self.server._connections.discard(self)
        self.server._look()


# Over IPv6 and IPv4, or over IPv4 alone where the system has no IPv6.
EVERYWHERE = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"

HandlerFunction: TypeAlias = Callable[[ServerConnection], Awaitable[object]]
ProcessRequest: TypeAlias = Callable[
    [ServerConnection, _wsx.Request], _wsx.Response | None | Awaitable[_wsx.Response | None]
]
SelectSubprotocol: TypeAlias = Callable[[ServerConnection, Sequence[str]], str | None]


class _ServerHooks(_Hooks):
    def __init__(self, server: Server) -> None:
        self.server = server

    def on_open(self, raw: _wsx.Connection, opening: _wsx.Opening) -> None:
        if raw.data is None:
            raw.data = self.server._connection()
        raw.data._opened(raw, opening)


class _AskingHooks(_ServerHooks):
    """With a hook of the program for requests."""

    def on_request(self, request: _wsx.Request) -> _wsx.Response | None:
        server = self.server
        connection = request.connection.data = server._connection()
        connection._remote_address = request.remote_address
        answer = None if server._process_request is None else server._process_request(connection, request)
        if isinstance(answer, Awaitable):
            server._decide_later(connection, request, answer)
            return LATER
        return server._answer(connection, request, answer)

    def after_deferral(self, raw: _wsx.Connection, is_answered: bool) -> None:
        self.server._decided(raw, is_answered)


class Server:
    """What `serve` returns. Leaving its `async with` closes it."""

    def __init__(
        self,
        handler: HandlerFunction,
        *,
        process_request: ProcessRequest | None,
        select_subprotocol: SelectSubprotocol | None,
        max_queue: int | None,
        logger: logging.Logger | None,
    ) -> None:
        self.handler = handler
        self.logger = logger or logging.getLogger("wsx")
        self._process_request = process_request
        self._select_subprotocol = select_subprotocol
        self._max_queue = max_queue
        self._host = asyncio.get_running_loop()
        self._events = Engine.here().events
        self._listeners: list[_wsx.Listener] = []
        self._connections: set[ServerConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._deciding: dict[_wsx.Connection, asyncio.Future[_wsx.Response | None]] = {}
        self._routes: set[Server] = set()  # those that have not ended
        self._is_closing = False
        self._closed: asyncio.Future[None] = self._host.create_future()

    def _listen(self, begin: Iterable[Callable[..., _wsx.Listener]], options: Options) -> None:
        asks = self._process_request is not None or self._select_subprotocol is not None
        hooks = _AskingHooks(self) if asks else _ServerHooks(self)
        try:
            for listen in begin:
                self._listeners.append(listen(hooks, **options))
        except BaseException:
            self.close()
            raise

    @property
    def connections(self) -> set[ServerConnection]:
        """The connections that are open."""
        return set(self._connections)

    @property
    def addresses(self) -> list[Any]:
        """Where it listens, as Python's sockets tell it, with the ports that the system chose."""
        return [listener.local_address for listener in self._listeners]

    def statistics(self) -> Statistics:
        """What was counted of the connections of this server, until it is closed. `wsx.event_loop().metrics()` has it for
        Prometheus."""
        first, *others = [listener.statistics() for listener in self._listeners]
        return sum(others, start=first)

    def route(
        self,
        path: str,
        handler: HandlerFunction,
        /,
        *,
        process_request: ProcessRequest | None = None,
        select_subprotocol: SelectSubprotocol | None = None,
        max_queue: int | None = 16,
        logger: logging.Logger | None = None,
        **options: Unpack[CoroutineOptions],
    ) -> Server:
        """Serves a path with a handler and options of its own: `/chat`, or `/rooms/*` for everything below `/rooms/`.

        What no route leads to is this server's. Keywords are those of `serve`, but for what concerns the socket or the
        request's head, which raises ValueError (see `wsx.Listener.route`). What is returned has the connections of the
        route; closing it gives the path back, and closing this server closes its routes.
        """
        route = Server(
            handler,
            process_request=process_request,
            select_subprotocol=select_subprotocol,
            max_queue=max_queue,
            logger=logger or self.logger,
        )
        route._listen((partial(listener.route, path) for listener in self._listeners), engine_options(options))
        self._routes.add(route)
        route._closed.add_done_callback(lambda _: self._routes.discard(route))
        return route

    def broadcast(self, message: str | ReadableBuffer) -> None:
        """Sends a message to every open connection, encoded once."""
        for listener in self._listeners:
            listener.broadcast(message)

    def publish(self, topic: str, message: str | ReadableBuffer) -> None:
        """Sends a message to every subscriber of a topic, encoded once."""
        self._events.publish(topic, message)

    def reload_tls(self, tls: TLS) -> None:
        """Begins TLS anew with these choices: a renewed certificate, say.

        Files are read here and now; where they are no good, that is raised and nothing has changed. Connections that are
        open, or in the handshake, go on with the choices they began with. A plain server raises ValueError.
        """
        for listener in self._listeners:
            listener.reload_tls(tls)

    def is_serving(self) -> bool:
        """Whether it accepts connections."""
        return not self._is_closing

    def close(self, close_connections: bool = True, code: int = 1001, reason: str = "") -> None:
        """Stops accepting and, unless told otherwise, closes the connections. `wait_closed` waits for the end of it."""
        for route in self._routes:
            route.close(close_connections, code, reason)
        if not self._is_closing:
            self._is_closing = True
            for listener in self._listeners:
                listener.close()
            for raw, task in list(self._deciding.items()):
                _respond(raw, _wsx.Response.reject(503, "the server is closed\n"))
                task.cancel()
        if close_connections:
            for connection in self.connections:
                connection._begin_close(code, reason)
        self._look()

    async def wait_closed(self) -> None:
        """Waits until it is closed, every connection has ended and every handler has returned."""
        await asyncio.shield(self._closed)
        for route in list(self._routes):
            await route.wait_closed()

    async def serve_forever(self) -> None:
        """Serves until it is closed or this is cancelled, which closes it."""
        try:
            await self.wait_closed()
        except asyncio.CancelledError:
            self.close()
            await self.wait_closed()
            raise

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        await self.wait_closed()

    # --- What connections call

    def _connection(self) -> ServerConnection:
        return ServerConnection(self, max_queue=self._max_queue, logger=self.logger)

    def _opened(self, connection: ServerConnection) -> None:
        self._connections.add(connection)
        task = self._host.create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._served)
        if self._is_closing:
            connection._begin_close(1001, "")

    def _decide_later(
        self, connection: ServerConnection, request: _wsx.Request, decision: Awaitable[_wsx.Response | None]
    ) -> None:
        # The program's coroutine itself: one that is cancelled before it began has been awaited all the same.
        task = asyncio.ensure_future(decision, loop=self._host)
        task.add_done_callback(partial(self._decide, connection, request))
        self._deciding[request.connection] = task

    def _decide(
        self, connection: ServerConnection, request: _wsx.Request, decided: asyncio.Future[_wsx.Response | None]
    ) -> None:
        if decided.cancelled():
            return
        try:
            answer = self._answer(connection, request, decided.result())
            if not isinstance(answer, _wsx.Response | None):
                raise TypeError(f"process_request answers a wsx.Response or None, not {type(answer)}")
        except Exception:
            connection.logger.error("opening handshake failed", exc_info=True)
            answer = _wsx.Response.reject(500, "internal server error\n")
        _respond(request.connection, answer)

    def _answer(
        self, connection: ServerConnection, request: _wsx.Request, answer: _wsx.Response | None
    ) -> _wsx.Response | None:
        """What is answered where `process_request` has answered so."""
        if answer is None and self._select_subprotocol is not None and request.is_upgrade:
            return _wsx.Response.accept(self._select_subprotocol(connection, request.subprotocols))
        return answer

    def _decided(self, raw: _wsx.Connection, is_answered: bool) -> None:
        task = self._deciding.pop(raw, None)
        if task is not None and not is_answered:
            # The client has left, or its time is over.
            task.cancel()
        self._look()

    async def _serve(self, connection: ServerConnection) -> None:
        try:
            await self.handler(connection)
        except ConnectionClosed as error:
            # The handler was in the middle of something when its peer went: no fault of its own.
            connection.logger.debug("connection ended while its handler ran: %s", error)
            await connection.close()
        except Exception:
            connection.logger.error("connection handler failed", exc_info=True)
            await connection.close(1011)
        else:
            await connection.close()

    def _served(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._look()

    def _look(self) -> None:
        """Looks whether this was the last."""
        if self._is_closing and not (self._connections or self._tasks or self._deciding or self._closed.done()):
            self._closed.set_result(None)


def _respond(raw: _wsx.Connection, answer: _wsx.Response | None) -> None:
    try:
        raw.respond(answer)
    except (ConnectionClosed, InvalidState):
        pass  # the client has left, or was answered that the server is closed


class serve:
    """Serves WebSockets: ``async with serve(handler, host, port)`` or ``server = await serve(handler, host, port)``.

    `handler` is called with each connection that opens; when it returns, the connection is closed with 1000, and when it
    raises, that is logged and the connection closed with 1011.

    Names and defaults are those of the `websockets` package; every other option of the engine is a keyword as well
    (`wsx.options.CoroutineOptions`), and goes before. They differ in `origins`: a web page may connect only
    to the host it came from, unless it is listed, or `origins="any"`; in `compression`, which is off unless it is asked
    for; and in `ssl`, a `wsx.TLS`. `process_request(connection, request)` may answer with a `wsx.Response`, as
    `connection.respond(status, text)` makes one; None goes on. It may be a coroutine, which has until `open_timeout`, and is
    cancelled where the client leaves before.

    `host` may be a list; None is every interface.
    """

    def __init__(
        self,
        handler: HandlerFunction,
        host: str | Sequence[str] | None = None,
        port: int = 0,
        *,
        process_request: ProcessRequest | None = None,
        select_subprotocol: SelectSubprotocol | None = None,
        max_queue: int | None = 16,
        logger: logging.Logger | None = None,
        **options: Unpack[CoroutineOptions],
    ) -> None:
        self._make = partial(
            Server,
            handler,
            process_request=process_request,
            select_subprotocol=select_subprotocol,
            max_queue=max_queue,
            logger=logger,
        )
        hosts = [EVERYWHERE] if not host else [host] if isinstance(host, str) else host
        self._addresses = [f"[{one}]:{port}" if ":" in one else f"{one}:{port}" for one in hosts]
        self._options = engine_options(options)
        self._server: Server | None = None

    def __await__(self) -> Generator[Any, None, Server]:
        return self._serve().__await__()

    async def __aenter__(self) -> Server:
        self._server = await self._serve()
        return self._server

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server is not None:
            await self._server.__aexit__()

    async def _serve(self) -> Server:
        server = self._make()
        server._listen((partial(server._events.listen, address) for address in self._addresses), self._options)
        return server
