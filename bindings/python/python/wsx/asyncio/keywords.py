"""Keywords of the `websockets` package as options of the engine."""
from __future__ import annotations

from typing import Any

from ..options import MoreOptions, Options

__all__ = ["engine_options"]


def engine_options(
    options: MoreOptions,
    *,
    subprotocols: Any,
    open_timeout: float | None,
    ping_interval: float | None,
    ping_timeout: float | None,
    close_timeout: float | None,
    max_size: int | None,
) -> Options:
    """The engine's options: those named in its own words go before.

    A coroutine that sends waits for the peer instead of losing the connection, so the policy is "refuse".
    """
    told: Options = {
        "handshake_timeout": open_timeout,
        "ping_interval": ping_interval,
        "pong_timeout": ping_timeout,
        "close_timeout": close_timeout,
        "max_message": max_size,
        "backlog_policy": "refuse",
    }
    if subprotocols is not None:
        told["subprotocols"] = subprotocols
    return {**told, **options}
