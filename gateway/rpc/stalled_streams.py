"""Ends streams whose readers have stopped to read.

A write ends when the reader's window has room. A reader who takes nothing more, though its gRPC answers every ping, would hold its
place among the streams and what the stream has in hand for as long as its connection lasts. It loses nothing with its stream: it
resumes where it stopped to read.

One timer serves all streams. Who writes pays for a place in a dictionary only: thousands do it at once.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from gateway.domain.errors import Reason, Unavailable

_Context = grpc.aio.ServicerContext[Any, Any]


class StalledStreams:
    """Writes messages of streams, and gives those up that are not taken.

    Args:
        timeout: Seconds after which a message that the reader does not take ends its stream.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._begun: dict[asyncio.Task[Any], float] = {}
        """Who is writing, and since when: the oldest first."""
        self._given_up: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        """The loop that runs; asked for once, as that takes a system call."""

    async def write(self, context: _Context, message: bytes) -> None:
        """Write a message, of the stream that the current task answers.

        Raises:
            Unavailable: The reader did not take it in time.
        """
        loop = self._loop = self._loop or asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("there is no task to end")
        self._begun[task] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._timeout, self._look)
        try:
            await context.write(message)
        except asyncio.CancelledError:
            # Somebody else may have ended it in the same moment: the caller went away, or the server stops.
            if task not in self._given_up or task.uncancel():
                raise
            raise Unavailable(
                f"Nothing of this stream was read for {self._timeout:g} s, so it was ended. Read on from where it stopped: a watch "
                "with its last token, a download at its offset.",
                reason=Reason.STREAM_STALLED,
            ) from None
        finally:
            self._begun.pop(task, None)
            self._given_up.discard(task)

    def _look(self) -> None:
        """Give up what has lasted too long; look again when the next one will have."""
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._begun:
            task, since = next(iter(self._begun.items()))
            if (left := since + self._timeout - now) > 0:
                self._timer = loop.call_later(left, self._look)
                return
            del self._begun[task]
            self._given_up.add(task)
            task.cancel()
