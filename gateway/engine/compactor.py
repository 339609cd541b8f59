"""Forgets old changes, so that the history does not grow without end."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog

from gateway.domain.errors import GatewayError
from gateway.domain.job import utc_now
from gateway.store import Store

_log = structlog.get_logger(__name__)

_BATCH = 500
"""Changes that are forgotten in one transaction: some milliseconds of the writer's time."""


class Compactor:
    """Looks now and then for changes that are to be forgotten, until it is closed.

    Args:
        store: Keeps the changes.
        max_age: Seconds for which a change is kept.
        max_events: Most changes that are kept.
        interval: Seconds between two looks.
    """

    def __init__(self, store: Store, max_age: float, max_events: int, interval: float) -> None:
        self._store = store
        self._max_age = timedelta(seconds=max_age)
        self._max_events = max_events
        self._interval = interval
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop looking."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def compact(self) -> int:
        """Forget what is to be forgotten now, in small steps. Returns the number of changes that were looked at."""
        before, looked_at = utc_now() - self._max_age, 0
        while True:
            # Each step waits for its turn among the writes, and leaves them theirs.
            step = await self._store.compact_history(before=before, keep=self._max_events, limit=_BATCH)
            looked_at += step
            if step < _BATCH:
                return looked_at

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                if gone := await self.compact():
                    _log.info("history_compacted", events=gone)
            except GatewayError as error:
                _log.warning("history_not_compacted", reason=error.reason, message=error.message)
