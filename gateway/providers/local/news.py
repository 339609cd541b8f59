"""The stream of changes that the provider tells of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from gateway.domain.provider import ProviderUpdate


class News:
    """Changes of jobs for one reader: at most one for each job, the latest, however slow the reader is.

    A final state is the last that a job has, so it is never lost.
    """

    def __init__(self) -> None:
        self._unread: dict[str, ProviderUpdate] = {}
        self._wake = asyncio.Event()
        self._closed = False

    def tell(self, update: ProviderUpdate) -> None:
        """Tell of a change."""
        self._unread[update.provider_job_id] = update
        self._wake.set()

    def withdraw(self, provider_job_id: str) -> None:
        """Tell no more of a job."""
        self._unread.pop(provider_job_id, None)

    def close(self) -> None:
        """Let the reader come to an end."""
        self._closed = True
        self._wake.set()

    async def read(self) -> AsyncIterator[ProviderUpdate]:
        """Yield changes as they happen, until closed."""
        while True:
            await self._wake.wait()
            if self._closed:
                return
            while self._unread:
                yield self._unread.pop(next(iter(self._unread)))
            self._wake.clear()
