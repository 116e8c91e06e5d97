"""The engine inside an asyncio event loop: on its thread, watched through one descriptor, asleep while nothing happens.

It works on every loop that has `add_reader`: asyncio's own on Unix, and uvloop.
"""
from __future__ import annotations

import asyncio
import math
from typing import Unpack
from weakref import ref

from .._wsx import EventLoop
from ..exceptions import LoopClosed
from ..options import LoopOptions

__all__ = ["Engine", "event_loop"]

ATTRIBUTE = "_wsx_engine"


class Engine:
    """One `wsx.EventLoop`, turned by the asyncio event loop that is its host.

    The host owns it, as an attribute: what runs on the host refers to it, and so to the engine, in cycles that only the
    collector can see through, which a table beside it would hide.
    """

    def __init__(self, host: asyncio.AbstractEventLoop, **options: Unpack[LoopOptions]) -> None:
        self.events = EventLoop(**options)
        self._host = ref(host)
        self._timer: asyncio.TimerHandle | None = None
        self._due = math.inf
        self._soon = False
        self.events.on_output(self._schedule)
        self.events.turn(0)  # from now on this thread is the loop's
        self._descriptor = self.events.fileno()
        host.add_reader(self._descriptor, self._turn)

    def _turn(self) -> None:
        """Something happened."""
        self._soon = False
        try:
            try:
                self.events.turn(0)
            finally:
                self._arm()
        except LoopClosed:
            self._leave()
            raise

    def _schedule(self) -> None:
        """Something was done between turns: all of it is flushed once, in the next tick of the host."""
        if (host := self._host()) is not None:
            host.call_soon(self._flush)

    def _flush(self) -> None:
        try:
            try:
                self.events.flush()
            finally:
                self._arm()
        except LoopClosed:
            self._leave()
            raise

    def _leave(self) -> None:
        """The engine is gone, closed by the program against its word or ended by a defect: the host calls it no more."""
        if (host := self._host()) is not None:
            host.remove_reader(self._descriptor)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        """Sees to it that the host turns the engine in time. A timer that is early enough is left as it is."""
        after = self.events.next_deadline()
        if after is None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
                self._due = math.inf
            return
        host = self._host()
        if host is None:
            return
        if after == 0:
            if not self._soon:
                self._soon = True
                host.call_soon(self._turn)
            return
        due = host.time() + after
        if due < self._due - 0.001:
            if self._timer is not None:
                self._timer.cancel()
            self._due = due
            self._timer = host.call_later(after, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._due = math.inf
        self._turn()

    @classmethod
    def here(cls, **options: Unpack[LoopOptions]) -> Engine:
        """The engine of the running asyncio event loop, begun with these options where there is none yet."""
        host = asyncio.get_running_loop()
        engine: Engine | None = getattr(host, ATTRIBUTE, None)
        if engine is None:
            engine = cls(host, **options)
            setattr(host, ATTRIBUTE, engine)
        elif options:
            raise RuntimeError("the engine of this asyncio loop has begun: its options belong to the first call of event_loop()")
        return engine


def event_loop(**options: Unpack[LoopOptions]) -> EventLoop:
    """The `wsx.EventLoop` that runs inside the running asyncio event loop: for callbacks instead of coroutines.

    Its callbacks run on asyncio's thread. What is sent between turns, as after an `await`, leaves with asyncio's next
    tick. It needs no `run`, and must not be closed: it goes with asyncio's loop.

    Options are for the first call, before anything else of wsx runs on this asyncio loop: it is begun with them, and serves
    `wsx.connect` and `wsx.serve` as well. Later ones raise RuntimeError.
    """
    return Engine.here(**options).events
