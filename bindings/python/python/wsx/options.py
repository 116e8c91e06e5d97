"""Every option, for type checkers and for reading. Names, defaults and meanings are those of the engine.

Sizes are bytes. Timeouts are seconds; None is off. A size or count of None or 0 means "no limit", unless its line says
otherwise.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias, TypedDict

__all__ = ["HeadersLike", "LoopOptions", "MoreOptions", "Options"]

HeadersLike: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]
"""Headers to send: a mapping, or pairs."""


class MoreOptions(TypedDict, total=False):
    """The options that `wsx.connect` and `wsx.serve` take as they are; they name the others as `websockets` does."""

    max_message: int | None
    """Largest message a peer may send. Beyond it: Close 1009, before memory is taken. Default 1 MiB."""
    max_fragments: int | None
    """Most fragments of one message. Beyond it: Close 1008. Default 1,024."""
    deliver_fragments: bool
    """Hand over each frame of a fragmented message by `on_fragment`. Default False."""
    max_head: int | None
    """Largest HTTP head. Beyond it: 431. Default 16 KiB; None is the default."""
    max_headers: int | None
    """Most headers in an HTTP head, at most 256. Beyond it: 431. Default 100; None is the default."""
    handshake_timeout: float | None
    """From the TCP connection to `on_open`, a client's name lookup included. Beyond it: closed. Default 10."""
    pong_timeout: float | None
    """How long a peer may stay silent after our ping. Beyond it: closed as 1006, cause told. Default 20."""
    progress_timeout: float | None
    """How long output may wait without the peer taking a byte. Beyond it: closed as 1006, cause told. Default 10."""
    backlog_limit: int | None
    """Most output that may wait for one peer, counted after a turn's flush. Default 1 MiB."""
    backlog_policy: Literal["close", "drop", "refuse", "pause"]
    """What happens beyond `backlog_limit`. "close" (the default): Close 1013. "drop": the message is lost, and counted.
    "refuse": `send` raises `BacklogFull`. "pause": it is taken, and the peer is not read until its backlog is drained."""
    max_topics: int
    """Most topics one connection may subscribe to. Default 128."""
    no_delay: bool
    """Set TCP_NODELAY. Default True."""
    origins: Literal["same-host", "any"] | Sequence[str]
    """Server: which web pages may connect. Default "same-host": the page's host and port must equal those asked for."""
    path: str | None
    """Server: the only path that is upgraded. Default None: any."""
    max_connections: int | None
    """Server: most connections of this listener. Beyond it: 503. Default None: the descriptor limit less a reserve."""
    listen_backlog: int
    """Server: the kernel's queue of connections not yet accepted. Default 1,024."""
    reuse_port: bool
    """Server: let several listeners share the address, one per loop. Default False."""
    headers: HeadersLike
    """Client: further headers of the request. Default none."""


class Options(MoreOptions, total=False):
    """The options of a listener or of a client connection."""

    subprotocols: Sequence[str]
    """Server: those spoken, in order of preference. Client: those offered. Default none."""
    ping_interval: float | None
    """Ping after so long without a byte from the peer. Default 25; None: no heartbeat."""
    close_timeout: float | None
    """How long the closing handshake may take. Beyond it: TCP is closed. Default 5; None is the default."""


class LoopOptions(TypedDict, total=False):
    """The options of an event loop itself."""

    max_commands: int
    """Most calls from other threads that may wait. Beyond it they raise `QueueFull`. Default 65,536."""
    max_command_bytes: int
    """Most payload bytes in those calls. Default 16 MiB."""
    receive_buffer: int
    """Size of the loop's one receive buffer; at least 4 KiB. Default 256 KiB."""
