"""`connect`: a client connection, with `await` or `async with`; or one after the other, with `async for`."""
from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Unpack

from .. import _wsx
from ..exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidProxyStatus,
    InvalidStatus,
    InvalidURI,
    ProxyError,
)
from ..options import CoroutineOptions, HeadersLike, Reconnect
from ..protocol import Headers
from .connection import Connection, _closed, _Hooks
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
    if failure.stage == "proxy" and failure.kind != "timeout":
        refused = failure.http_status
        return ProxyError(failure.message) if refused is None else InvalidProxyStatus(refused, failure.message)
    if failure.http_status is not None and failure.kind == "refused":
        return InvalidStatus(failure.http_status, failure.message)
    if failure.kind == "timeout":
        return TimeoutError(failure.message)
    if failure.kind == "transport" or failure.stage == "tls":
        return OSError(failure.os_error, failure.message) if failure.os_error else OSError(failure.message)
    return InvalidHandshake(failure.message)


class _Attempts(_Hooks):
    """The engine's callbacks of a client that connects again, told to the iteration over its connections."""

    def __init__(self, options: connect) -> None:
        self._options = options
        self._host = asyncio.get_running_loop()
        self._logger = options._logger or logging.getLogger("wsx")
        self._opened: ClientConnection | None = None  # and not yet handed over
        self._close: _wsx.Close | None = None
        self._has_opened = False
        self._has_ended = False
        self._exception: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def next(self) -> ClientConnection | None:
        """The connection that has opened since; None where the client has finished."""
        while True:
            if (opened := self._opened) is not None:
                self._opened = None
                return opened
            if self._exception is not None:
                raise self._exception
            if self._has_ended:
                return None
            self._waiter = self._host.create_future()
            await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def on_open(self, raw: _wsx.Connection, opening: _wsx.Opening) -> None:
        self._has_opened = True
        # One that nobody has asked for gives its place to the next: a program that does not look gathers nothing.
        self._opened = raw.data = self._options._new()
        super().on_open(raw, opening)
        self._wake()

    def on_close(self, raw: _wsx.Connection, close: _wsx.Close) -> None:
        self._close = close
        if raw.data is not None:
            super().on_close(raw, close)

    def _how(self, close: _wsx.Close) -> Exception:
        """What was told last, as an exception."""
        return _closed(close) if self._has_opened else _failed(close)

    def on_reconnecting(self, client: _wsx.Client, reconnecting: _wsx.Reconnecting) -> None:
        exception = self._how(reconnecting.cause)
        if not self._has_opened and self._options._process_exception is not None:
            try:
                self._exception = self._options._process_exception(exception)
            except Exception as raised:  # to be raised where the program iterates
                self._exception = raised
            if self._exception is not None:
                client.close()
                return
        self._has_opened = False
        what = "connection lost" if isinstance(exception, ConnectionClosed) else "connect failed"
        self._logger.info("%s; reconnecting in %.1f seconds: %s", what, reconnecting.delay, exception)

    def on_give_up(self, client: _wsx.Client, give_up: _wsx.GiveUp) -> None:
        self._has_ended = True
        is_failure = give_up.kind not in ("finished", "closed")
        if is_failure and self._exception is None and self._close is not None:
            self._exception = self._how(self._close)
        self._wake()


class connect:
    """Connects to a WebSocket server: ``async with connect(uri) as ws`` or ``ws = await connect(uri)``.

    ``async for ws in connect(uri)`` connects again whenever the connection ends, until there is a reason to give up, which
    `reconnect`, a `wsx.Reconnect`, describes. The next connection may open while the body still works on what is left of
    the one before. A body that ends earlier than its connection closes that with 1001. The iteration ends after a close with
    1000, or with `break`; where another attempt is of no use it raises what `await` would, or how the last connection ended.
    `process_exception` is called with what an attempt failed with, and answers None to go on, or what is to be raised.

    Names and defaults are those of the `websockets` package; every other option of the engine is a keyword as well
    (`wsx.options.CoroutineOptions`), and goes before. They differ in `compression`, which is off unless
    it is asked for, in `ssl`, a `wsx.TLS`; `wss://` does without, and trusts whom the system trusts; in `proxy`, which is
    None unless True or a URL is given; and redirects are followed where `max_redirects` is. `max_queue` is the number of
    messages that may wait to be received.

    Raises, from `await` or `async with`:
        OSError: the connection could not be opened, over TCP or over TLS, as with a certificate that is not trusted.
        TimeoutError: it took longer than `open_timeout`.
        InvalidURI, InvalidProxy, InvalidStatus, InvalidHandshake: as their names say.
        ProxyError, InvalidProxyStatus: the proxy did not let through.

    All but InvalidURI and InvalidProxy have the attribute `close`, the `wsx.Close` with all that is known of the end: stage,
    limit, errno.
    """

    def __init__(
        self,
        uri: str,
        *,
        origin: str | None = None,
        additional_headers: HeadersLike | None = None,
        user_agent_header: str | None = USER_AGENT,
        max_queue: int | None = 16,
        logger: logging.Logger | None = None,
        reconnect: Reconnect | None = None,
        process_exception: Callable[[Exception], Exception | None] | None = None,
        **options: Unpack[CoroutineOptions],
    ) -> None:
        self._uri = uri
        self._reconnect = reconnect or Reconnect()
        self._process_exception = process_exception
        self._max_queue = max_queue
        self._logger = logger
        self._options = engine_options(options)
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

    async def __aiter__(self) -> AsyncIterator[ClientConnection]:
        attempts, connection = _Attempts(self), None
        with self._checking_uri():
            client = Engine.here().events.connect(self._uri, attempts, reconnect=self._reconnect, **self._options)
        try:
            while (connection := await attempts.next()) is not None:
                yield connection
                connection._begin_close(1001, "")
        finally:
            with suppress(ConnectionClosed):
                client.close()
            if connection is not None:
                await connection.wait_closed()

    def _new(self) -> ClientConnection:
        return ClientConnection(max_queue=self._max_queue, logger=self._logger)

    @contextmanager
    def _checking_uri(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            if "the URL " in str(error):
                raise InvalidURI(self._uri, str(error)) from None
            if "the proxy " in str(error):
                raise InvalidProxy(str(error)) from None
            raise

    async def _connect(self) -> ClientConnection:
        connection = self._new()
        with self._checking_uri():
            raw = Engine.here().events.connect(self._uri, _Hooks(), **self._options)
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
