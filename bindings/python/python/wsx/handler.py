"""What a program hears: the callbacks of a listener or of a client connection."""
from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._wsx import Close, Connection, Failure, Fragment, Listener, Opening, Request, Response

__all__ = ["Handler"]


class Handler:
    """The callbacks of a listener or of a client connection: override what is of interest.

    All are called on the loop's thread, one at a time and never from inside another call. They may call anything but
    `run` and `turn`. One that raises closes its connection with 1011, is logged with its traceback to the logger "wsx",
    and hurts nobody else. What is not overridden costs nothing. Any object with some of these methods will do as well.
    """

    def on_request(self, request: Request) -> Response | None:
        """Server: an HTTP request has come, after the checks of `origins` and `path`. None accepts it."""

    def on_open(self, connection: Connection, opening: Opening) -> object:
        """The connection is open. Exactly one `on_close` will follow."""

    def on_message(self, connection: Connection, message: str | bytes) -> object:
        """A message has come: str is text, bytes is binary."""

    def on_fragment(self, connection: Connection, fragment: Fragment) -> object:
        """A frame of a fragmented message has come, where `deliver_fragments` is set."""

    def on_ping(self, connection: Connection, payload: bytes) -> object:
        """A ping has come; the pong has been queued already."""

    def on_pong(self, connection: Connection, payload: bytes) -> object:
        """A pong has come; `connection.latency` tells how long it took, where it answers a ping of the program's. Answers to
        the heartbeat's own pings are not told."""

    def on_drain(self, connection: Connection) -> object:
        """The backlog, having been over half of `backlog_limit` or having cost a message, is below a quarter again."""

    def on_error(self, connection: Connection, failure: Failure) -> object:
        """The connection failed; its `on_close` is the next and last event. Failed connects are told here as well."""

    def on_close(self, connection: Connection, close: Close) -> object:
        """The connection is gone: always its last event, exactly once."""

    def on_listener_error(self, listener: Listener, failure: Failure) -> object:
        """Something failed that belongs to no connection, as accepting. Without this callback it is logged."""
