"""Words of the protocol: states, close codes, headers."""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum

__all__ = ["CloseCode", "Headers", "State"]


class State(IntEnum):
    """The state of a connection, with the numbers of the WHATWG WebSocket."""

    CONNECTING, OPEN, CLOSING, CLOSED = range(4)


class CloseCode(IntEnum):
    """Close codes (RFC 6455 section 7.4.1)."""

    NORMAL_CLOSURE = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS_RCVD = 1005
    ABNORMAL_CLOSURE = 1006
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014


class Headers(Mapping[str, str]):
    """The headers of an HTTP head: names without regard to case, in the order they came, repeated ones kept.

    `headers["Cookie"]` is the first of its name; `get_all` has every one.
    """

    __slots__ = ("_first", "_items")

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._items = tuple(items)
        self._first: dict[str, str] = {}
        for name, value in self._items:
            self._first.setdefault(name.lower(), value)

    @classmethod
    def decoded(cls, items: Iterable[tuple[str, bytes]]) -> Headers:
        """From bytes as they came; those that are not UTF-8 survive as surrogates."""
        return cls((name, value.decode("utf-8", "surrogateescape")) for name, value in items)

    def __getitem__(self, name: str) -> str:
        return self._first[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._first

    def __iter__(self) -> Iterator[str]:
        return iter(self._first)

    def __len__(self) -> int:
        return len(self._first)

    def get_all(self, name: str) -> list[str]:
        """The values of every header of this name."""
        return [value for key, value in self._items if key.lower() == name.lower()]

    def raw_items(self) -> Iterator[tuple[str, str]]:
        """Every header, in the order they came."""
        return iter(self._items)

    def __repr__(self) -> str:
        return f"Headers({list(self._items)!r})"
