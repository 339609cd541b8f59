"""The streams that callers have open, so that they end with the credential that opened them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gateway.access.refusals import expired, revoked
from gateway.domain.access import Caller
from gateway.domain.errors import Unauthenticated


class OpenCalls:
    """Ends the calls of a credential when it is revoked, or when its time is over."""

    def __init__(self) -> None:
        self._tasks: dict[str, set[asyncio.Task[Any]]] = {}
        self._ended: dict[asyncio.Task[Any], Unauthenticated] = {}

    @contextmanager
    def of(self, caller: Caller) -> Iterator[None]:
        """Let what runs inside, on the current task, end with its caller's credential.

        Raises:
            Unauthenticated: The credential is not valid any more.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("there is no task to end")
        tasks = self._tasks.setdefault(caller.credential, set())
        tasks.add(task)
        timer = None
        if caller.expires_at is not None:
            seconds = caller.expires_at - time.time()
            timer = asyncio.get_running_loop().call_later(seconds, self._end, task, expired(caller))
        try:
            yield
        except asyncio.CancelledError:
            if (reason := self._ended.get(task)) is None:
                raise
            task.uncancel()
            raise reason from None
        finally:
            if timer is not None:
                timer.cancel()
            self._ended.pop(task, None)
            tasks.discard(task)
            if not tasks and self._tasks.get(caller.credential) is tasks:
                del self._tasks[caller.credential]

    def revoke(self, credential: str) -> int:
        """End all calls that a credential has open. Returns how many."""
        tasks = tuple(self._tasks.get(credential, ()))
        for task in tasks:
            self._end(task, revoked())
        return len(tasks)

    def _end(self, task: asyncio.Task[Any], reason: Unauthenticated) -> None:
        self._ended[task] = reason
        task.cancel()
