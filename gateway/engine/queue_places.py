"""Places in the queue of a provider for whom telling them is work."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from gateway.domain.errors import GatewayError
from gateway.domain.provider import Provider, QueuePlace

_PER_ROUND = 2
"""Most questions between two looks at the pending jobs, however many wait for a place."""
_FRESH_SECONDS = 10.0
"""For how long a place is told again without asking."""
_ABSENT_SECONDS = 120.0
"""The same where the provider tells no place: it may tell none at all."""
_WANTED_SECONDS = 60.0
"""For how long after somebody asked for a place it is read again."""
_FIRST_SECONDS = 1.0
"""How long a caller waits for a place of which nothing is known yet."""
_KEPT = 10_000


@dataclass(slots=True)
class _Known:
    """What is known of one job. Times are on the clock of the event loop."""

    wanted_until: float
    fresh_until: float = 0.0
    asked_at: float = -1.0
    place: QueuePlace | None = None


class QueuePlaces:
    """Remembers the places of jobs in a provider's queue, and reads them again in turn for as long as somebody wants them.

    To read one is a call of the provider, so there are only so many of them for each look at all pending jobs. The more jobs are
    watched, the older a place may be; the number of calls stays the same.

    Args:
        provider: Who is asked.
    """

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._left = _PER_ROUND
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def get(self, provider_job_id: str) -> QueuePlace | None:
        """Return a job's place as it was lately. A caller waits for it only the first time, and not for long."""
        now = _now()
        known = self._known.get(provider_job_id)
        if known is None:
            known = self._known[provider_job_id] = _Known(now + _WANTED_SECONDS)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        known.wanted_until = now + _WANTED_SECONDS
        self._known.move_to_end(provider_job_id)
        if known.asked_at < 0:
            self._ask(provider_job_id, known)
            if (asking := self._asking.get(provider_job_id)) is not None:
                await asyncio.wait([asking], timeout=_FIRST_SECONDS)
        return known.place

    def known(self, provider_job_id: str) -> QueuePlace | None:
        """Return a job's place as it was lately, if somebody asked for it."""
        known = self._known.get(provider_job_id)
        return known.place if known is not None else None

    def refresh(self) -> None:
        """Read some places again: those that were read the longest time ago. Called once for each look at the pending jobs."""
        self._left = _PER_ROUND
        now = _now()
        stale = [
            (known.asked_at, name)
            for name, known in self._known.items()
            if known.wanted_until > now >= known.fresh_until and name not in self._asking
        ]
        for _, name in sorted(stale)[:_PER_ROUND]:
            self._ask(name, self._known[name])

    def drop(self, provider_job_id: str) -> None:
        """Forget a job that waits no more."""
        self._known.pop(provider_job_id, None)

    async def close(self) -> None:
        """Ask no more."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ask(self, provider_job_id: str, known: _Known) -> None:
        if self._left <= 0 or provider_job_id in self._asking:
            return
        self._left -= 1
        task = self._asking[provider_job_id] = asyncio.create_task(self._read(provider_job_id, known))
        task.add_done_callback(lambda _: self._asking.pop(provider_job_id, None))

    async def _read(self, provider_job_id: str, known: _Known) -> None:
        known.asked_at = _now()
        try:
            known.place = await self._provider.queue_place(provider_job_id)
        except GatewayError:  # the place stays as it was known; the account's health tells of the trouble
            known.fresh_until = _now() + _FRESH_SECONDS
        else:
            known.fresh_until = _now() + (_FRESH_SECONDS if known.place is not None else _ABSENT_SECONDS)


def _now() -> float:
    return asyncio.get_running_loop().time()
