"""Keywords of the `websockets` package as options of the engine."""
from __future__ import annotations

from typing import cast

from ..options import CoroutineOptions, Options

__all__ = ["engine_options"]


def engine_options(options: CoroutineOptions) -> Options:
    """The engine's options: those named in its own words go before.

    A coroutine that sends waits for the peer instead of losing the connection, so the policy is "refuse".
    """
    told: Options = {
        "subprotocols": options.pop("subprotocols", None) or (),
        "handshake_timeout": options.pop("open_timeout", 10),
        "ping_interval": 20,
        "pong_timeout": options.pop("ping_timeout", 20),
        "close_timeout": 10,
        "max_message": options.pop("max_size", 2**20),
        "backlog_policy": "refuse",
    }
    return cast(Options, {**told, **options})
