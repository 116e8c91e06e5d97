"""A connection as coroutines use it: `send`, `recv`, `async for`, `close`."""
from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from .. import _wsx
from ..exceptions import (
    BacklogFull,
    CloseFrame,
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
)
from ..protocol import State

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    _Pieces = Iterable[str] | Iterable[ReadableBuffer] | AsyncIterable[str] | AsyncIterable[ReadableBuffer]
    _Sendable = str | ReadableBuffer | _wsx.SharedMessage | _Pieces

__all__ = ["Connection", "broadcast"]

# A connection that ends with one of these ended in order.
OK_CLOSE_CODES = (1000, 1001, 1005)
# So many pings the engine measures at once.
MAX_PINGS = 64


class Connection:
    """A WebSocket connection. Iterating over it receives until it ends in order.

    Messages that nobody has received yet wait in a queue. When more than `max_queue` do, the peer is not read any
    further, and feels it through TCP.
    """

    def __init__(self, *, max_queue: int | None = 16, logger: logging.Logger | None = None) -> None:
        self.logger: logging.Logger = logger or logging.getLogger("wsx")
        self._host = asyncio.get_running_loop()
        self._raw: _wsx.Connection | None = None
        self._send: Callable[[str | ReadableBuffer | _wsx.SharedMessage], None] = _not_open
        self._inbox = _wsx.Inbox(self._host, max_queue, 0 if max_queue is None else max_queue // 4)
        self._drained: asyncio.Future[None] | None = None
        self._in_message: asyncio.Future[None] | None = None  # until a message of several pieces is whole
        self._pings: OrderedDict[bytes, asyncio.Future[float]] = OrderedDict()
        self._closed: asyncio.Future[None] = self._host.create_future()
        self._close: _wsx.Close | None = None
        self._remote_address: Any = None
        self._subprotocol: str | None = None
        self._extensions = ""
        self._latency: float | None = None  # once the connection has ended

    # --- What coroutines call

    async def recv(self, decode: bool | None = None) -> Any:
        """Receives the next message: str for text, bytes for binary; `decode` makes it str (True) or bytes (False).

        Cancelling it loses no message. Messages that came before the end are received before `ConnectionClosed` is
        raised.

        Raises:
            ConnectionClosed: the connection has ended.
            ConcurrencyError: another task is receiving.
        """
        message = await self._inbox
        if decode is True and isinstance(message, bytes):
            return message.decode()
        if decode is False and isinstance(message, str):
            return message.encode()
        return message

    def __aiter__(self) -> _wsx.Arrival:
        """Receives until the connection ends: in order without a word, else with `ConnectionClosedError`.

        Its iterator has `aclose`, for `contextlib.aclosing`; leaving the loop needs none.
        """
        return aiter(self._inbox)

    async def send(self, message: _Sendable) -> None:
        """Sends a message: str as text, bytes-like as binary, or a `wsx.SharedMessage`. It leaves with asyncio's next tick.

        An iterable of these, or an asynchronous one, is a message whose pieces are sent as fragments, each as it comes. A
        message that another task sends meanwhile waits for its end. Where iterating fails, or is cancelled, after the first
        piece, the message can never be whole: the connection is closed with 1011. Without a piece nothing is sent.

        Where the peer does not read fast enough, it waits until there is room.

        Raises:
            ConnectionClosed: the connection is closing, or has ended.
            TypeError: the message is none of these.
        """
        while True:
            try:
                return self._send(message)  # type: ignore[arg-type]
            except TypeError:
                if isinstance(message, Mapping) or not isinstance(message, (Iterable, AsyncIterable)):
                    raise
                return await self._send_pieces(message)
            except (BacklogFull, ConcurrencyError, ConnectionClosed) as error:
                await self._until_sendable(error)

    async def ping(self, data: str | ReadableBuffer | None = None) -> Awaitable[float]:
        """Sends a ping of at most 125 bytes. What it returns can be awaited for the latency: `await (await ws.ping())`.

        A pong answers the pings before its own as well, which a peer may leave out: they have the same latency.

        Raises:
            ConnectionClosed: the connection is closing, or has ended.
            ConcurrencyError: another ping with the same data waits for its pong, or 64 do.
        """
        if data is None:
            payload = secrets.token_bytes(4)
        else:
            payload = data.encode() if isinstance(data, str) else bytes(data)
        if payload in self._pings:
            raise ConcurrencyError("already waiting for a pong with the same data")
        if len(self._pings) == MAX_PINGS:
            raise ConcurrencyError(f"{MAX_PINGS} pings wait for their pongs")
        try:
            self._open_raw.ping(payload)
        except ConnectionClosed:
            await self._raise_closed()
        answer: asyncio.Future[float] = self._host.create_future()
        self._pings[payload] = answer
        return answer

    async def pong(self, data: str | ReadableBuffer = b"") -> None:
        """Sends an unsolicited pong of at most 125 bytes."""
        try:
            self._open_raw.pong(data.encode() if isinstance(data, str) else data)
        except ConnectionClosed:
            await self._raise_closed()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Closes, and waits for the closing handshake. Closing again, or what has ended, only waits."""
        self._begin_close(code, reason)
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Waits until the connection has ended."""
        await asyncio.shield(self._closed)

    def terminate(self) -> None:
        """Ends the transport at once, without a Close."""
        try:
            self._open_raw.terminate()
        except ConnectionClosed:
            pass

    def subscribe(self, topic: str) -> None:
        """Server: subscribes to a topic; twice is once."""
        self._open_raw.subscribe(topic)

    def unsubscribe(self, topic: str) -> None:
        """Server: ends a subscription; one that does not exist is no error."""
        self._open_raw.unsubscribe(topic)

    # --- What is known of it

    @property
    def state(self) -> State:
        """CONNECTING, OPEN, CLOSING or CLOSED."""
        if self._closed.done():
            return State.CLOSED
        return State.CONNECTING if self._raw is None else self._raw.ready_state

    @property
    def latency(self) -> float:
        """Seconds from the newest ping that was answered to its pong, the heartbeat's as well; 0 before the first."""
        if self._raw is None or self._closed.done():
            return self._latency or 0.0
        return self._raw.latency or 0.0

    @property
    def remote_address(self) -> Any:
        """Where the peer is, as Python's sockets tell it."""
        return self._remote_address

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol agreed on."""
        return self._subprotocol

    @property
    def extensions(self) -> str:
        """The extensions agreed on, as the header of the answer says it: `permessage-deflate; ...`; empty for none."""
        return self._extensions

    @property
    def close_code(self) -> int | None:
        """The close code; None while the connection has not ended."""
        return None if self._close is None else self._close.code

    @property
    def close_reason(self) -> str | None:
        """The reason of the close; None while the connection has not ended."""
        return None if self._close is None else self._close.reason

    @property
    def close_info(self) -> _wsx.Close | None:
        """All that is known of the end: who began, whether it was clean, what failed, what was lost."""
        return self._close

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.remote_address} {self.state.name}>"

    # --- What the engine's callbacks call

    def _opened(self, raw: _wsx.Connection, opening: _wsx.Opening) -> None:
        self._raw = raw
        self._send = raw.send
        self._inbox.attach(raw)
        self._remote_address = raw.remote_address
        self._subprotocol = opening.subprotocol
        self._extensions = raw.extensions

    def _ponged(self, payload: bytes) -> None:
        """A pong answers its ping and every one before (RFC 6455 section 5.5.3)."""
        if payload not in self._pings:
            return
        latency = self.latency
        while True:
            first, answer = self._pings.popitem(last=False)
            if not answer.done():
                answer.set_result(latency)
            if first == payload:
                return

    def _has_drained(self) -> None:
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None

    def _has_closed(self, close: _wsx.Close) -> None:
        self._close = close
        self._closed.set_result(None)
        self._has_drained()
        self._inbox.end(partial(_closed, close))  # which does not refer to this object
        for answer in self._pings.values():
            if not answer.done():
                answer.set_exception(self._exception())
                answer.exception()  # nobody needs to look
        self._pings.clear()
        if self._raw is not None:
            self._latency = self._raw.latency
            self._raw.data = None

    # --- Parts

    async def _until_sendable(self, error: Exception) -> None:
        """Waits for what a message needs that was refused with this error, or raises how the connection ended."""
        if isinstance(error, BacklogFull):
            if self._drained is None:
                self._drained = self._host.create_future()
            await asyncio.shield(self._drained)
        elif isinstance(error, ConnectionClosed):
            await self._raise_closed()
        elif self._in_message is not None:
            await asyncio.shield(self._in_message)
        else:
            raise error

    async def _send_pieces(self, message: _Pieces) -> None:
        while self._in_message is not None:
            await asyncio.shield(self._in_message)
        self._in_message = self._host.create_future()
        first: str | ReadableBuffer | None = None
        try:
            async for piece in _each(message):
                if first is not None and isinstance(piece, str) is not isinstance(first, str):
                    raise TypeError("the pieces of a message are all str, or all bytes-like")
                await self._send_piece(piece, is_last=False)
                first = piece
            if first is not None:
                await self._send_piece("" if isinstance(first, str) else b"", is_last=True)
        except BaseException:
            if first is not None:
                self._begin_close(1011, "error in fragmented message")
            raise
        finally:
            self._in_message.set_result(None)
            self._in_message = None

    async def _send_piece(self, piece: str | ReadableBuffer, *, is_last: bool) -> None:
        while True:
            try:
                return self._open_raw.send_fragment(piece, is_last=is_last)
            except (BacklogFull, ConnectionClosed) as error:
                await self._until_sendable(error)

    @property
    def _open_raw(self) -> _wsx.Connection:
        if self._raw is None:
            _not_open()
        return self._raw

    def _begin_close(self, code: int, reason: str) -> None:
        try:
            self._open_raw.close(code, reason)
        except ConnectionClosed:
            pass
        # Else the peer's Close might never be read.
        self._inbox.resume()

    async def _raise_closed(self) -> None:
        """Raises how the connection ended, as soon as that is known."""
        if self._raw is not None:
            await self.wait_closed()
        raise self._exception()

    def _exception(self) -> ConnectionClosed:
        return _closed(self._close)


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


async def _each(message: _Pieces) -> AsyncIterator[str | ReadableBuffer]:
    """The pieces of a message."""
    if isinstance(message, AsyncIterable):
        async for piece in message:
            yield piece
    else:
        for piece in message:
            yield piece


def _not_open(*_: object) -> NoReturn:
    raise _closed(None)


def _closed(close: _wsx.Close | None) -> ConnectionClosed:
    """How a connection has ended."""
    if close is None:
        return ConnectionClosed(None, None, cause="the connection is not open")
    frame = CloseFrame(close.code, close.reason)
    sent_first = close.by == "us"
    is_ok = close.was_clean and close.code in OK_CLOSE_CODES
    has_frame = close.code != 1006
    return (ConnectionClosedOK if is_ok else ConnectionClosedError)(
        frame if has_frame and (close.was_clean or not sent_first) else None,
        frame if has_frame and (close.was_clean or sent_first) else None,
        not sent_first if has_frame else None,
        cause="" if close.failure is None else close.failure.message,
        close=close,
    )


def broadcast(connections: Iterable[Connection], message: str | ReadableBuffer, *, raise_exceptions: bool = False) -> None:
    """Sends a message to several connections, without waiting for any. Those that are not open are skipped, and so are
    those whose peers do not read: that is logged, or raised as an ExceptionGroup with `raise_exceptions`.

    `Server.broadcast` and `Server.publish` encode once, and are what to use for many.
    """
    if not isinstance(message, (str, bytes)):
        message = bytes(message)
    exceptions: list[Exception] = []
    for connection in connections:
        if connection.state is not State.OPEN:
            continue
        try:
            connection._open_raw.send(message)
        except BacklogFull as error:
            exceptions.append(error)
            if not raise_exceptions:
                connection.logger.warning("skipped broadcast: %s", error)
        except ConnectionClosed:
            pass
    if raise_exceptions and exceptions:
        raise ExceptionGroup("skipped broadcast", exceptions)
