"""Places in the queue of a provider for whom telling them is work."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from gateway.domain.errors import GatewayError
from gateway.domain.provider import Provider, QueuePlace

_FRESH_SECONDS = 10.0
"""For how long a place is told again without asking."""
_ABSENT_SECONDS = 120.0
"""The same where the provider tells no place: it may tell none at all."""
_AT_ONCE = 4
"""Questions at a time; whoever comes beyond that does without."""
_FIRST_SECONDS = 1.0
"""How long a caller waits for a place of which nothing is known yet."""
_KEPT = 10_000


class QueuePlaces:
    """Remembers the places of jobs in a provider's queue: one question for however many ask, and only while somebody does.

    Args:
        provider: Who is asked.
    """

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._known: OrderedDict[str, tuple[float, QueuePlace | None]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def get(self, provider_job_id: str) -> QueuePlace | None:
        """Return a job's place as it was lately. A caller waits for it only the first time, and not for long."""
        known = self._known.get(provider_job_id)
        if known is None or known[0] <= asyncio.get_running_loop().time():
            asking = self._ask(provider_job_id)
            if known is None and asking is not None:
                await asyncio.wait([asking], timeout=_FIRST_SECONDS)
                known = self._known.get(provider_job_id)
        return known[1] if known is not None else None

    def known(self, provider_job_id: str) -> QueuePlace | None:
        """Return a job's place as it was lately, if somebody asked for it."""
        known = self._known.get(provider_job_id)
        return known[1] if known is not None else None

    async def close(self) -> None:
        """Ask no more."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ask(self, provider_job_id: str) -> asyncio.Task[None] | None:
        task = self._asking.get(provider_job_id)
        if task is None and len(self._asking) < _AT_ONCE:
            task = self._asking[provider_job_id] = asyncio.create_task(self._read(provider_job_id))
            task.add_done_callback(lambda _: self._asking.pop(provider_job_id, None))
        return task

    async def _read(self, provider_job_id: str) -> None:
        place: QueuePlace | None = None
        try:
            place = await self._provider.queue_place(provider_job_id)
        except GatewayError:  # the place is not known then; the account's health tells of the trouble
            if provider_job_id in self._known:
                place = self._known[provider_job_id][1]
        fresh = _FRESH_SECONDS if place is not None else _ABSENT_SECONDS
        self._known[provider_job_id] = (asyncio.get_running_loop().time() + fresh, place)
        self._known.move_to_end(provider_job_id)
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)
