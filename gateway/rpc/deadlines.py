"""Default deadlines of calls.

All calls of a method have the same time, so it is up for them in the order in which they began, and one timer does for all: a
timer for each costs more than all else that is done to let a call pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar, cast

from gateway.domain.errors import DeadlineExceeded

_T = TypeVar("_T")


class Deadline:
    """Ends the calls of a method that take too long.

    Args:
        seconds: How long they may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running: dict[asyncio.Task[Any], float] = {}
        """When the time of each call is up, on the clock of the event loop: the oldest first."""
        self._overdue: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def of(self, answer: Awaitable[_T]) -> _T:
        """Answer a call within its time. To be called once in the task of the call.

        Raises:
            DeadlineExceeded: That was not enough.
        """
        loop, task = asyncio.get_running_loop(), cast("asyncio.Task[Any]", asyncio.current_task())
        self._running[task] = up_at = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(up_at, self._look)
        try:
            return await answer
        except asyncio.CancelledError:
            # Somebody else may have cancelled it, too.
            if task not in self._overdue or task.uncancel() > 0:
                raise
            raise DeadlineExceeded(
                f"The call took longer than the {self._seconds:g} seconds that it has by default. Set a longer deadline, or try "
                "again."
            ) from None
        finally:
            self._running.pop(task, None)
            self._overdue.discard(task)

    def _look(self) -> None:
        """End the calls whose time is up."""
        self._timer, loop = None, asyncio.get_running_loop()
        while self._running:
            task, up_at = next(iter(self._running.items()))
            if up_at > loop.time():
                self._timer = loop.call_at(up_at, self._look)
                return
            del self._running[task]
            self._overdue.add(task)
            task.cancel()
