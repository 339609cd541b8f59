"""Brings what a provider tells of its jobs into the store."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence
from functools import partial

import structlog

from gateway.domain.errors import NotFound
from gateway.domain.job import JobStatus
from gateway.domain.provider import Provider, ProviderUpdate
from gateway.engine import transitions
from gateway.engine.pacing import jittered
from gateway.engine.recent_results import RecentResults
from gateway.store import Store

_log = structlog.get_logger(__name__)

_MAX_EARLY = 10_000
"""Jobs of which news is kept that came before their hand-over returned."""
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 30.0
"""Seconds before news that could not be committed is tried again: twice as long after each failure."""


class Tracker:
    """Follows the jobs of one provider that tells of changes by itself."""

    def __init__(self, provider: Provider, store: Store, recent_results: RecentResults) -> None:
        self._provider = provider
        self._store = store
        self._recent_results = recent_results
        self._jobs: dict[str, str] = {}
        self._early: OrderedDict[str, list[ProviderUpdate]] = OrderedDict()
        self._late: dict[str, deque[ProviderUpdate]] = {}
        """News that could not be committed, and what came of the same job since."""
        self._applying = asyncio.Lock()
        self._catching_up: set[asyncio.Task[None]] = set()

    def track(self, provider_job_id: str, job_id: str) -> None:
        """Follow a job from now on. News that came before this is not lost."""
        self._jobs[provider_job_id] = job_id
        if early := self._early.pop(provider_job_id, None):
            self._catch_up(provider_job_id, early)

    async def run(self) -> None:
        """Follow the provider's updates until cancelled."""
        try:
            async for update in self._provider.updates():
                if (late := self._late.get(update.provider_job_id)) is not None:
                    late.append(update)
                elif update.provider_job_id in self._jobs:
                    await self._take(update)
                else:
                    self._keep(update)
        finally:
            for catching_up in self._catching_up:
                catching_up.cancel()

    async def _take(self, update: ProviderUpdate) -> None:
        try:
            await self.apply(update)
        except Exception:  # noqa: BLE001 - one job's trouble must not end the news of all others
            self._log_failure(update)
            self._catch_up(update.provider_job_id, [update], _FIRST_PAUSE)

    def _catch_up(self, provider_job_id: str, updates: Sequence[ProviderUpdate], pause: float = 0.0) -> None:
        """Commit updates of one job after a pause, and all that come meanwhile after them."""
        self._late[provider_job_id] = deque(updates)
        catching_up = asyncio.create_task(self._apply_late(provider_job_id, pause))
        self._catching_up.add(catching_up)
        catching_up.add_done_callback(self._catching_up.discard)

    async def _apply_late(self, provider_job_id: str, pause: float) -> None:
        """Commit what is late, in its order, however often it takes: without its end, a job would be waited for in vain."""
        late = self._late[provider_job_id]
        while late:
            await asyncio.sleep(jittered(pause))
            try:
                await self.apply(late[0])
            except Exception:  # noqa: BLE001 - as above
                self._log_failure(late[0])
                pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, 2 * pause))
            else:
                late.popleft()
                pause = 0.0
        del self._late[provider_job_id]

    def _log_failure(self, update: ProviderUpdate) -> None:
        _log.exception("update_not_applied", account=self._provider.account, provider_job_id=update.provider_job_id)

    async def apply(self, update: ProviderUpdate) -> None:
        """Commit what one update says; ignore it if the job is final or gone."""
        # One at a time: the same end of a job can be heard twice, as the provider's news and as its answer to a caller.
        async with self._applying:
            job_id = self._jobs.get(update.provider_job_id)
            if job_id is None:
                return
            await self._commit(job_id, update)
            if update.status.is_final:
                del self._jobs[update.provider_job_id]
                await self._provider.forget(update.provider_job_id)

    def _keep(self, update: ProviderUpdate) -> None:
        """Keep news of a job that is not followed: it is on its way to the store, or it has ended already."""
        self._early.setdefault(update.provider_job_id, []).append(update)
        if len(self._early) > _MAX_EARLY:  # hand-overs take milliseconds: the oldest are of jobs that have ended
            self._early.popitem(last=False)

    async def _commit(self, job_id: str, update: ProviderUpdate) -> None:
        try:
            if update.status is JobStatus.DONE:
                result = await self._store.payloads.keep(await self._provider.fetch_result(update.provider_job_id))
                with self._recent_results.kept(job_id, result):
                    await self._store.change_job(job_id, partial(transitions.finished, update=update, result=result))
            elif update.status.is_final:
                await self._store.change_job(job_id, partial(transitions.ended, update=update))
            else:
                await self._store.change_job(job_id, partial(transitions.progressed, update=update))
        except NotFound:
            _log.info("update_of_deleted_job", account=self._provider.account, job=job_id)
