"""Work on pieces of data in their order, on the threads of a pool, while more of them come."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import Generic, TypeVar

P = TypeVar("P")


class Strand(Generic[P]):
    """Calls a function with pieces, one call after another; each takes all the pieces that came during the one before.

    A call begins the next one by itself, on whatever thread is free: the function never waits for the event loop, and all who
    share the pool get on.

    Args:
        threads: The pool.
        work: What to do with some pieces. What it raises ends the strand.
        ahead: Most pieces that are not done yet when `put` returns.
    """

    def __init__(self, threads: Executor, work: Callable[[Sequence[P]], None], ahead: int) -> None:
        self._threads = threads
        self._work = work
        self._ahead = ahead
        self._lock = threading.Lock()
        self._waiting: list[P] = []
        self._to_do = 0
        """Number of pieces that are not done: those that wait, and those of the call under way."""
        self._call: Future[None] | None = None
        """The call under way, or the one that failed."""

    async def put(self, piece: P) -> None:
        """Hand a piece over; wait while more than enough are to be done.

        Raises:
            Exception: What the function raised for earlier pieces.
        """
        with self._lock:
            self._waiting.append(piece)
            self._to_do += 1
            if self._call is None:
                self._call = self._threads.submit(self._run)
        while (call := self._call) is not None and (self._to_do > self._ahead or call.done()):
            await _end_of(call)

    async def finish(self) -> None:
        """Wait until all pieces are worked on.

        Raises:
            Exception: What the function raised.
        """
        while (call := self._call) is not None:
            await _end_of(call)

    async def stop(self) -> None:
        """Forget the pieces that wait, and wait until the function does not run any more."""
        with self._lock:
            self._waiting = []
        with suppress(Exception):
            await self.finish()

    def _run(self) -> None:
        with self._lock:
            pieces, self._waiting = self._waiting, []
        self._work(pieces)
        with self._lock:
            self._to_do -= len(pieces)
            self._call = self._threads.submit(self._run) if self._waiting else None


async def _end_of(call: Future[None]) -> None:
    # Whoever waits may be cancelled; the call goes on.
    await asyncio.shield(asyncio.wrap_future(call))
