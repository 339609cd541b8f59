"""A thread that works on a database connection for the event loop."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from sqlalchemy.exc import DBAPIError

from gateway.domain.errors import Internal, Reason, Unavailable
from gateway.domain.job import JobEvent

S = TypeVar("S")
T = TypeVar("T")


_SEVERAL = 8
"""Calls of a batch that show that many callers are at work."""


class Request(Generic[S]):
    """A call that waits in a lane, and later its outcome."""

    __slots__ = ("call", "error", "future", "value")

    def __init__(self, call: Callable[[S], Any], future: asyncio.Future[Any]) -> None:
        self.call = call
        self.future = future
        self.value: Any = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        """Give the outcome to whoever waits for it. On the event loop."""
        if self.future.done():  # the caller was cancelled
            return
        if self.error is None:
            self.future.set_result(self.value)
        else:
            self.future.set_exception(self.error)


class Lane(Generic[S]):
    """A thread that takes whatever calls are waiting, works on them as one batch, and wakes the event loop once for all of them.

    To hand single calls to an executor costs five times as much under load, nearly all of it in waking the loop. The calls of one
    turn of the loop wake the thread together, for the same reason.

    A batch has a price of its own, which few calls would share if they came one by one and the first began it. So after a batch of
    several calls, the next waits until as many are there: callers who send the next call when they are answered are all back then.
    A caller who calls alone never waits for others.

    Args:
        name: Name of the thread.
        work: Runs the calls of a batch, on the thread, leaves `value` or `error` in each, and returns the events that came of them.
            What it raises is the outcome of each call that has no error of its own.
        publish: Called on the event loop with the events of a batch, before its callers go on.
        capacity: Number of calls that may wait or be worked on; further callers wait for a place, first come first served.
        batch: Largest number of calls in a batch.
        gather: Most seconds for which a batch waits for as many calls as there were before.
        tidy: What is to be done now and then. Called on the thread after a batch, when its callers have been told.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[Request[S]]], Sequence[JobEvent]],
        *,
        publish: Callable[[Sequence[JobEvent]], None] = lambda _: None,
        capacity: int = 1024,
        batch: int = 128,
        gather: float = 0.0,
        tidy: Callable[[], None] = lambda: None,
    ) -> None:
        self._work = work
        self._publish = publish
        self._tidy = tidy
        self._batch = batch
        self._gather = gather
        self._loop = asyncio.get_running_loop()
        self._places = asyncio.Semaphore(capacity)
        self._queue: SimpleQueue[Request[S] | None] = SimpleQueue()
        self._new: list[Request[S]] = []
        """Calls that are handed to the thread at the end of this turn of the event loop."""
        self._enough = 0
        """Number of waiting calls for which the thread looks out; 0 if it does not."""
        self._are_enough = threading.Event()
        self._closing = False
        self._stopped = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def run(self, call: Callable[[S], T]) -> T:
        """Run a call on the thread and return what it returns.

        A call that has got its place is carried out even if its caller is cancelled.

        Raises:
            Unavailable: The lane is closed.
            Internal: The database failed.
        """
        await self._places.acquire()
        if self._closing:
            self._places.release()
            raise Unavailable(
                "The server is stopping. Try again when it is back.", reason=Reason.SERVER_STOPPING, retry_after=1
            )
        future: asyncio.Future[T] = self._loop.create_future()
        if not self._new:
            self._loop.call_soon(self._hand_over)
        self._new.append(Request(call, future))
        return await future

    async def close(self) -> None:
        """Finish the calls that have a place, refuse all others, and end the thread."""
        if not self._closing:
            self._closing = True
            self._hand_over()
            self._queue.put(None)
            self._are_enough.set()
        await asyncio.shield(self._stopped)
        self._thread.join()

    def _hand_over(self) -> None:
        for request in self._new:
            self._queue.put(request)
        self._new.clear()
        if self._enough and self._queue.qsize() >= self._enough:
            self._are_enough.set()

    def _run(self) -> None:
        last, expected = False, 0
        while not last:
            requests = [self._queue.get()]
            if self._gather and expected >= _SEVERAL and not self._closing:
                self._wait_for(expected - 1)
            requests += [self._queue.get() for _ in range(min(self._queue.qsize(), self._batch - 1))]
            batch = [request for request in requests if request is not None]
            last = len(batch) < len(requests)
            if batch:
                self._loop.call_soon_threadsafe(self._settle, batch, self._outcome(batch))
                self._tidy()
            expected = min(len(batch) + self._queue.qsize(), self._batch)
            # What was read belongs to its reader alone: it must not live here until the next call comes.
            del requests, batch
        self._loop.call_soon_threadsafe(self._stopped.set_result, None)

    def _wait_for(self, calls: int) -> None:
        """Wait until so many calls are there, for as long as calls may gather."""
        self._are_enough.clear()
        self._enough = calls
        if self._queue.qsize() < calls:
            self._are_enough.wait(self._gather)
        self._enough = 0

    def _outcome(self, batch: Sequence[Request[S]]) -> Sequence[JobEvent]:
        try:
            return self._work(batch)
        except BaseException as error:  # noqa: BLE001 - it belongs to the callers, and the thread must live on
            for request in batch:
                request.error = request.error or as_gateway_error(error)
            return ()

    def _settle(self, batch: Sequence[Request[S]], events: Sequence[JobEvent]) -> None:
        if events:
            self._publish(events)
        for request in batch:
            self._places.release()
            request.settle()


def as_gateway_error(error: BaseException) -> BaseException:
    """Return a failure of the database as an error for callers, and any other error as it is."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, sqlite3.Error):
        return error
    failure = Internal(
        f"The database failed ({cause}), and nothing of this call was kept. Check the disk's space and health."
    )
    failure.__cause__ = error
    return failure
