"""`connect`: a client connection, with `await` or `async with`."""
from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Generator, Sequence
from types import TracebackType
from typing import Any, Unpack

from .. import _wsx
from ..exceptions import InvalidHandshake, InvalidStatus, InvalidURI
from ..options import HeadersLike, MoreOptions
from ..protocol import Headers
from .connection import Connection
from .engine import Engine
from .keywords import engine_options

__all__ = ["ClientConnection", "connect"]

USER_AGENT = f"Python libwsx/{_wsx.VERSION}"


class ClientConnection(Connection):
    """A connection that `connect` has opened."""

    response_headers: Headers
    """The headers of the server's answer."""

    def __init__(self, *, max_queue: int | None = 16, logger: logging.Logger | None = None) -> None:
        super().__init__(max_queue=max_queue, logger=logger)
        self._opening: asyncio.Future[None] = self._host.create_future()

    async def __aenter__(self) -> ClientConnection:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _opened(self, raw: _wsx.Connection, opening: _wsx.Opening) -> None:
        super()._opened(raw, opening)
        self.response_headers = opening.headers
        if not self._opening.done():
            self._opening.set_result(None)

    def _has_closed(self, close: _wsx.Close) -> None:
        super()._has_closed(close)
        if not self._opening.done():
            error = _failed(close)
            error.close = close  # type: ignore[attr-defined]  # OSError and TimeoutError are Python's
            self._opening.set_exception(error)


def _failed(close: _wsx.Close) -> Exception:
    """Why a connection did not come to be."""
    failure = close.failure
    if failure is None:
        return InvalidHandshake(str(close))
    if failure.http_status is not None and failure.kind == "refused":
        return InvalidStatus(failure.http_status, failure.message)
    if failure.kind == "timeout":
        return TimeoutError(failure.message)
    if failure.kind == "transport" or failure.stage == "tls":
        return OSError(failure.os_error, failure.message) if failure.os_error else OSError(failure.message)
    return InvalidHandshake(failure.message)


class _Hooks:
    """The engine's callbacks, told to the connection that is kept as `data`."""

    def on_open(self, raw: _wsx.Connection, opening: _wsx.Opening) -> None:
        raw.data._opened(raw, opening)

    # Messages come by far more often than all else: without a call of Python each.
    on_message = _wsx.Inbox

    def on_pong(self, raw: _wsx.Connection, payload: bytes) -> None:
        raw.data._ponged(payload)

    def on_drain(self, raw: _wsx.Connection) -> None:
        raw.data._has_drained()

    def on_close(self, raw: _wsx.Connection, close: _wsx.Close) -> None:
        raw.data._has_closed(close)


class connect:
    """Connects to a WebSocket server: ``async with connect(uri) as ws`` or ``ws = await connect(uri)``.

    Names and defaults are those of the `websockets` package; every other option of the engine
    (`wsx.options.MoreOptions`) is a keyword as well, and goes before. They differ in `compression`, which is off unless
    it is asked for, and in `ssl`, a `wsx.TLS`; `wss://` does without, and trusts whom the system trusts. `max_queue` is
    the number of messages that may wait to be received.

    Raises, from `await` or `async with`:
        OSError: the connection could not be opened, over TCP or over TLS, as with a certificate that is not trusted.
        TimeoutError: it took longer than `open_timeout`.
        InvalidURI, InvalidStatus, InvalidHandshake: as their names say.

    All but InvalidURI have the attribute `close`, the `wsx.Close` with all that is known of the end: stage, limit, errno.
    """

    def __init__(
        self,
        uri: str,
        *,
        origin: str | None = None,
        subprotocols: Sequence[str] | None = None,
        additional_headers: HeadersLike | None = None,
        user_agent_header: str | None = USER_AGENT,
        open_timeout: float | None = 10,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
        close_timeout: float | None = 10,
        max_size: int | None = 2**20,
        max_queue: int | None = 16,
        logger: logging.Logger | None = None,
        **options: Unpack[MoreOptions],
    ) -> None:
        self._uri = uri
        self._max_queue = max_queue
        self._logger = logger
        self._options = engine_options(
            options,
            subprotocols=subprotocols,
            open_timeout=open_timeout,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            close_timeout=close_timeout,
            max_size=max_size,
        )
        headers: list[tuple[str, str]] = []
        if origin is not None:
            headers.append(("Origin", origin))
        if user_agent_header is not None:
            headers.append(("User-Agent", user_agent_header))
        for more in (additional_headers, options.get("headers")):
            if more is not None:
                headers.extend(_pairs(more))
        self._options["headers"] = headers
        self._connection: ClientConnection | None = None

    def __await__(self) -> Generator[Any, None, ClientConnection]:
        return self._connect().__await__()

    async def __aenter__(self) -> ClientConnection:
        self._connection = await self._connect()
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _connect(self) -> ClientConnection:
        connection = ClientConnection(max_queue=self._max_queue, logger=self._logger)
        try:
            raw = Engine.here().events.connect(self._uri, _Hooks(), **self._options)
        except ValueError as error:
            if "the URL " in str(error):
                raise InvalidURI(self._uri, str(error)) from None
            raise
        raw.data = connection
        try:
            await connection._opening
        except asyncio.CancelledError:
            raw.terminate()
            raise
        return connection


def _pairs(headers: HeadersLike) -> list[tuple[str, str]]:
    if hasattr(headers, "raw_items"):
        return list(headers.raw_items())
    return list(headers.items()) if hasattr(headers, "items") else list(headers)


if os.name != "posix":
    raise ImportError("wsx.asyncio needs a loop that watches descriptors: Linux is what is tested")
