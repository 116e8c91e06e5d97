"""Every exception of wsx. Names and meanings follow the `websockets` package where it has one; every text is the engine's.

::

    WebSocketException
        ConnectionClosed            sending on, or receiving from, a connection that is gone
            ConnectionClosedOK      it ended in order: 1000 or 1001
            ConnectionClosedError   it ended in any other way
        InvalidHandshake            the opening handshake failed
            InvalidStatus           the server answered something else than 101
            ProxyError              the proxy did not open a tunnel to the server
                InvalidProxyStatus  it answered by HTTP that it would not
        InvalidProxy                not the URL of a proxy that can be used
        InvalidURI                  not a URI that can be connected to
        InvalidState                the call does not fit what the connection is, or is doing
        ConcurrencyError            two tasks receive at once
        BacklogFull                 too much output waits for this peer
        QueueFull                   too many calls from other threads wait for the event loop
        LoopClosed                  the event loop is gone
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._wsx import Close, Failure

__all__ = [
    "BacklogFull",
    "CloseFrame",
    "ConcurrencyError",
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "InvalidHandshake",
    "InvalidProxy",
    "InvalidProxyStatus",
    "InvalidState",
    "InvalidStatus",
    "InvalidURI",
    "LoopClosed",
    "ProxyError",
    "QueueFull",
    "WebSocketException",
]


@dataclass(frozen=True)
class CloseFrame:
    """A close code and its reason."""

    code: int
    reason: str

    def __str__(self) -> str:
        return f"{self.code} {self.reason}".rstrip()


class WebSocketException(Exception):
    """Base of all exceptions that wsx defines."""


class ConnectionClosed(WebSocketException):
    """The connection is closing or closed.

    `rcvd` is the Close that the peer sent and `sent` the one that we did, where there was one. `cause` is the engine's
    sentence about what failed, if something did. `code` and `reason` are those of the connection: 1006 where it ended
    without a Close. `close` is all that the engine told of the end, where it has told it: a coroutine's connection, and
    not the number of one that is long gone.
    """

    def __init__(
        self,
        rcvd: CloseFrame | None,
        sent: CloseFrame | None,
        rcvd_then_sent: bool | None = None,
        *,
        cause: str = "",
        close: Close | None = None,
    ) -> None:
        super().__init__(rcvd, sent, rcvd_then_sent)
        self.rcvd = rcvd
        self.sent = sent
        self.rcvd_then_sent = rcvd_then_sent
        self.cause = cause
        self.close = close

    @property
    def failure(self) -> Failure | None:
        """What failed, with stage, kind, limit, errno and HTTP status; None where nothing did, or it is not known."""
        return None if self.close is None else self.close.failure

    @classmethod
    def gone(cls, cause: str) -> ConnectionClosed:
        """What a stale number answers: how it ended was told long ago, by `on_close`."""
        return ConnectionClosed(None, None, cause=cause)

    @property
    def code(self) -> int:
        """The close code."""
        frame = self._first
        return 1006 if frame is None else frame.code

    @property
    def reason(self) -> str:
        """The reason that came with the code."""
        frame = self._first
        return "" if frame is None else frame.reason

    @property
    def _first(self) -> CloseFrame | None:
        return self.sent if self.rcvd_then_sent is False and self.sent is not None else self.rcvd or self.sent

    def __str__(self) -> str:
        lost = 0 if self.close is None else self.close.undelivered_messages
        text = self._text()
        return f"{text}; {lost} message{'s were' if lost > 1 else ' was'} not delivered" if lost else text

    def _text(self) -> str:
        if self.rcvd is None and self.sent is None:
            return self.cause or "no close frame received or sent"
        told = []
        if self.rcvd is not None:
            told.append(f"received {self.rcvd}")
        if self.sent is not None:
            told.append(f"sent {self.sent}")
        if self.rcvd_then_sent is False:
            told.reverse()
        text = "; then ".join(told)
        return f"{text} ({self.cause})" if self.cause else text


class ConnectionClosedOK(ConnectionClosed):
    """The connection ended in order, with 1000 or 1001."""


class ConnectionClosedError(ConnectionClosed):
    """The connection failed, or ended with another code than 1000 or 1001."""


class InvalidHandshake(WebSocketException):
    """The opening handshake failed. `close` is all that the engine told of it."""

    close: Close | None = None


class InvalidStatus(InvalidHandshake):
    """The server answered with another status than 101; `response.status_code` has it."""

    def __init__(self, status_code: int, cause: str = "") -> None:
        super().__init__(cause or f"server rejected WebSocket connection: HTTP {status_code}")
        self.status_code = status_code
        self.response = SimpleNamespace(status_code=status_code)


class ProxyError(InvalidHandshake):
    """The proxy did not open a tunnel to the server."""


class InvalidProxyStatus(ProxyError):
    """The proxy answered by HTTP that it would not; `response.status_code` has its status."""

    def __init__(self, status_code: int, cause: str = "") -> None:
        super().__init__(cause or f"proxy rejected connection: HTTP {status_code}")
        self.status_code = status_code
        self.response = SimpleNamespace(status_code=status_code)


class InvalidProxy(WebSocketException):
    """Not the URL of a proxy that can be used; its text says why, and shows no password."""


class InvalidURI(WebSocketException):
    """Not a URI that can be connected to."""

    def __init__(self, uri: str, msg: str) -> None:
        # Without user name and password, as the engine tells it.
        shown = re.sub(r"(://|^).*@", r"\1***@", uri, count=1)
        super().__init__(shown, msg)
        self.uri = uri
        self.msg = msg

    def __str__(self) -> str:
        return "{} isn't a valid URI: {}".format(*self.args)


class InvalidState(WebSocketException):
    """The call does not fit what the connection is, or is doing."""


class ConcurrencyError(WebSocketException, RuntimeError):
    """Two do at once what only one can: receive from a connection, or send a message within another's fragments."""


class BacklogFull(WebSocketException):
    """Too much output waits for this peer: nothing was sent. Wait for `on_drain`; for `on_open` while a client is offline."""

    def __init__(self, cause: str, backlog: int, limit: int) -> None:
        super().__init__(cause)
        self.backlog = backlog
        self.limit = limit


class QueueFull(WebSocketException):
    """Too many calls from other threads wait for the event loop."""


class LoopClosed(WebSocketException, RuntimeError):
    """The event loop is gone."""
