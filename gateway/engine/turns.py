"""Paces those who write: so many at a time, however many are woken by one event.

To wake ten thousand watchers at once keeps every other call waiting until the last of them has written. Here a few at a time get
their turn, and the next gets its turn when one of them has written. A turn that lasts too long is that of a reader who is slow or
gone. It is no longer counted, and the reader takes its next turns among the slow ones, until it has a short one. So a slow reader
delays the others once, for a moment, and not at all after that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

_WIDTH = 16
"""Turns at a time. Twice as many after each `_PATIENCE` in which not one of them ended: many readers became slow at once."""
_MOST = 1024
_SLOW_WIDTH = 128
"""Turns at a time of those who were slow the last time."""
_PATIENCE = 0.02
"""Seconds after which a turn is too long: some ten times what it takes on a busy server."""


class Writer(Protocol):
    """Somebody who takes turns."""

    turn_since: float | None
    """When its turn began; None outside of a turn. Only `Turns` sets it."""
    slow: bool
    """Whether its last turn was too long. Only `Turns` sets it."""

    def go(self) -> bool:
        """Begin to write. Returns False if it does not want to any more."""


class Crowd(Protocol):
    """Writers who wait for a turn. They may leave meanwhile."""

    def take(self) -> Writer | None:
        """Take one of them out; None if nobody is left."""


class Turns:
    """Gives each writer its turn, in the order in which they came."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._crowds: deque[Crowd] = deque()
        self._slow_writers: deque[Writer] = deque()
        self._begun: dict[Writer, float] = {}
        """The turns that count, and when they began: the oldest first."""
        self._begun_slow: dict[Writer, float] = {}
        self._width = _WIDTH
        self._timer: asyncio.TimerHandle | None = None

    def line_up(self, crowd: Crowd) -> None:
        """Give everyone in a crowd a turn, as soon as there is room."""
        self._crowds.append(crowd)
        self._fill()

    def begin(self, writer: Writer) -> bool:
        """Begin a turn if there is room at once. Otherwise returns False: line up."""
        if self._crowds or len(self._begun) >= self._width or writer.slow:
            return False
        self._begun[writer] = writer.turn_since = self._loop.time()
        return True

    def end(self, writer: Writer) -> None:
        """End a turn. Does nothing outside of one."""
        if writer.turn_since is None:
            return
        writer.slow = self._loop.time() - writer.turn_since > _PATIENCE
        writer.turn_since = None
        if self._begun.pop(writer, None) is not None:
            self._width = _WIDTH
        else:
            self._begun_slow.pop(writer, None)
        if self._crowds or self._slow_writers:
            self._fill()

    def _fill(self) -> None:
        while self._crowds and len(self._begun) < self._width:
            writer = self._crowds[0].take()
            if writer is None:
                self._crowds.popleft()
            elif writer.slow:
                self._slow_writers.append(writer)
            else:
                self._go(writer, self._begun)
        while self._slow_writers and len(self._begun_slow) < _SLOW_WIDTH:
            self._go(self._slow_writers.popleft(), self._begun_slow)
        if self._timer is None and (self._crowds or self._slow_writers):
            self._timer = self._loop.call_later(_PATIENCE, self._look)

    def _go(self, writer: Writer, begun: dict[Writer, float]) -> None:
        if writer.go():
            begun[writer] = writer.turn_since = self._loop.time()

    def _look(self) -> None:
        """Count no longer the turns that last too long."""
        self._timer = None
        until = self._loop.time() - _PATIENCE
        full = len(self._begun)
        if _expire(self._begun, until) == full:
            self._width = min(2 * self._width, _MOST)
        _expire(self._begun_slow, until)
        self._fill()


def _expire(begun: dict[Writer, float], until: float) -> int:
    expired = 0
    while begun:
        writer = next(iter(begun))
        if begun[writer] > until:
            break
        del begun[writer]
        writer.slow = True
        expired += 1
    return expired
