"""What a loop and its listeners have counted."""
from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["METRICS_TYPE", "Statistics"]

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The Content-Type of what `EventLoop.metrics` tells: `wsx.Response.page(loop.metrics(), wsx.METRICS_TYPE)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What was counted, up to now, of a listener's connections, or of all connections of a loop.

    `connections`, `handshakes` and `buffered_bytes` tell what is; everything else counts from the beginning, and never
    falls. Each accepted connection is in the end one of `opened`, `streams`, `answered` and `refused`. What did not come up
    is not in the mappings.

    Messages and bytes are counted by receive and by write, so that counting costs next to nothing: a callback may find
    what its own receive has brought not counted yet.
    """

    connections: int
    """Connections that are open or closing, and HTTP streams: `on_close` has not been called."""
    handshakes: int
    """Connections on their way to that: in the opening handshake, or being refused or answered."""
    buffered_bytes: int
    """Bytes that wait because the kernel takes no more, over all connections, frame headers included."""
    accepted: int
    """Server: connections that were accepted."""
    connects: int
    """Client: connections that were begun."""
    opened: int
    """Opening handshakes that succeeded: calls of `on_open`."""
    streams: int
    """Server: HTTP streams that were begun."""
    answered: int
    """Server: plain HTTP requests that the request hook answered, but by streams."""
    refused: Mapping[str, int]
    """Server: connections that came to nothing, by cause: "full" (503), "address" (503: too many of one), "bad_request"
    (400), "method" (405), "upgrade" (426), "head_too_big" (431), "path" (404), "origin" (403), "hook" (the hook rejected it),
    "hook_failed" (500: it raised), "tls" (the handshake failed), "timeout", "left" (the client did) and "shutdown" (the loop did)."""
    connects_failed: Mapping[str, int]
    """Client: connections that did not open, by `Failure.stage`. What the program gave up itself is not here."""
    messages_received: int
    """Messages told to the program; one that is handed over in fragments counts with its last one."""
    messages_sent: int
    """Messages taken from the program, once for each receiver of a broadcast or publish. Some may be lost later."""
    bytes_received: int
    """Bytes received, everything included: HTTP heads, frame headers, control frames. Over TLS after decryption; as they
    came where they are compressed."""
    bytes_sent: int
    """Bytes that the kernel took, counted in the same way."""
    messages_lost: int
    """Messages that were taken and then lost: `Close.lost_messages` of all connections."""
    failures: Mapping[tuple[str, str], int]
    """Calls of `on_error`, by `Failure.stage` and `Failure.kind`."""
    closes: Mapping[int, int]
    """Calls of `on_close`, by code. 3000 stands for 3000 to 3999 and 4000 for 4000 to 4999."""
    listener_errors: int
    """Calls of `on_listener_error`."""
    turns: int
    """Turns of the loop; 0 for a listener."""
    longest_callback: float
    """The longest time, in seconds, that the callbacks of one connection took for what one receive brought, or any other
    single callback; with the option `measure_callbacks`, else 0. 0 for a listener."""

    def __add__(self, other: Statistics) -> Statistics:
        """The sum: of listeners, say. Of `longest_callback` the longest."""
        if not isinstance(other, Statistics):
            return NotImplemented
        sums: dict[str, Any] = {}
        for field in fields(self):
            one, two = getattr(self, field.name), getattr(other, field.name)
            if isinstance(one, Mapping):
                sums[field.name] = dict(Counter(one) + Counter(two))
            else:
                sums[field.name] = max(one, two) if field.name == "longest_callback" else one + two
        return Statistics(**sums)
