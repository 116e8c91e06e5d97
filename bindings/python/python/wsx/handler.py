"""What a program hears: the callbacks of a listener or of a client connection."""
from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ._wsx import Response

if TYPE_CHECKING:
    from ._wsx import (
        Client,
        Close,
        Connection,
        Failure,
        Fragment,
        GiveUp,
        Listener,
        Opening,
        Reconnecting,
        Request,
    )

__all__ = ["LATER", "Handler"]

LATER: Final = Response.later()
"""What `on_request` answers where the answer comes later, by `request.connection.respond(response)`, from any thread: who
the client is has to be looked up somewhere.

The client is not read meanwhile; what came behind its request is kept, up to `max_head`, and delivered after `on_open`. Where
no answer comes within `handshake_timeout` the client gets 503, and `on_listener_error` says so. A client that ends its side of
TCP meanwhile has left.
"""


class Handler:
    """The callbacks of a listener or of a client connection: override what is of interest.

    All are called on the loop's thread, one at a time and never from inside another call. They may call anything but
    `run` and `turn`. One that raises closes its connection with 1011, is logged with its traceback to the logger "wsx",
    and hurts nobody else. What is not overridden costs nothing. Any object with some of these methods will do as well.
    """

    def on_request(self, request: Request) -> Response | None:
        """Server: an HTTP request has come, after the checks of `origins` and `path`. None accepts it; see also `LATER`."""

    def after_deferral(self, connection: Connection, is_answered: bool) -> object:
        """A request that was deferred by `LATER` waits no more: its answer takes effect now, or it will have none.

        It has none where the client left, the timeout ran out or the loop ends. Told once for each, before its `on_open`: for
        a lookup that can be given up.
        """

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

    def on_reconnecting(self, client: Client, reconnecting: Reconnecting) -> object:
        """A client that connects again is about to wait, and then to make its next attempt: told after `on_close`."""

    def on_give_up(self, client: Client, give_up: GiveUp) -> object:
        """A client that connects again does so no more: its last event, exactly once."""

    def on_listener_error(self, listener: Listener, failure: Failure) -> object:
        """Something failed that belongs to no connection, as accepting. Without this callback it is logged."""
