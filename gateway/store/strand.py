"""Work on pieces of data in their order, on the threads of a pool, while more of them come."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import TypeAlias

Piece: TypeAlias = bytes | memoryview

_BYTES_AHEAD = 4 * 1024 * 1024
_PIECES_AHEAD = 256
"""Most pieces that wait, however small they are."""


class Strand:
    """Calls a function with pieces, one call after another; each takes all the pieces that came during the one before.

    A call begins the next one by itself, on whatever thread is free: the function never waits for the event loop, and all who
    share the pool get on.

    Args:
        threads: The pool.
        work: What to do with some pieces. What it raises ends the strand.
    """

    def __init__(self, threads: Executor, work: Callable[[Sequence[Piece]], None]) -> None:
        self._threads = threads
        self._work = work
        self._lock = threading.Lock()
        self._waiting: list[Piece] = []
        self._waiting_bytes = 0
        self._call: Future[None] | None = None
        """The call under way, or the one that failed."""

    async def put(self, piece: Piece) -> None:
        """Hand a piece over; wait if too many are waiting already.

        Raises:
            Exception: What the function raised for earlier pieces.
        """
        with self._lock:
            self._waiting.append(piece)
            self._waiting_bytes += len(piece)
            is_full = self._waiting_bytes >= _BYTES_AHEAD or len(self._waiting) >= _PIECES_AHEAD
            if self._call is None:
                self._call = self._threads.submit(self._run)
            call = self._call
        if is_full or call.done():
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
            pieces, self._waiting, self._waiting_bytes = self._waiting, [], 0
        self._work(pieces)
        with self._lock:
            self._call = self._threads.submit(self._run) if self._waiting else None


async def _end_of(call: Future[None]) -> None:
    # Whoever waits may be cancelled; the call goes on.
    await asyncio.shield(asyncio.wrap_future(call))
