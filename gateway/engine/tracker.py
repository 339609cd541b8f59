"""Brings what a provider tells of its jobs into the store."""

from __future__ import annotations

from functools import partial

import structlog

from gateway.domain.errors import NotFound
from gateway.domain.job import JobStatus
from gateway.domain.provider import Provider, ProviderUpdate
from gateway.engine import transitions
from gateway.store import Store

_log = structlog.get_logger(__name__)

_MAX_EARLY = 10_000
"""Updates kept of jobs whose hand-over has not returned yet."""


class Tracker:
    """Follows the jobs of one provider that tells of changes by itself."""

    def __init__(self, provider: Provider, store: Store) -> None:
        self._provider = provider
        self._store = store
        self._jobs: dict[str, str] = {}
        self._early: dict[str, list[ProviderUpdate]] = {}

    async def track(self, provider_job_id: str, job_id: str) -> None:
        """Follow a job from now on. News that came before the hand-over returned is not lost."""
        self._jobs[provider_job_id] = job_id
        for update in self._early.pop(provider_job_id, ()):
            await self.apply(update)

    async def run(self) -> None:
        """Follow the provider's updates until cancelled."""
        async for update in self._provider.updates():
            try:
                await self.apply(update)
            except Exception:  # noqa: BLE001
                # One job's trouble must not end the news of all others; the job itself stays pending and is looked at
                # again when the gateway starts.
                _log.exception(
                    "update_not_applied", account=self._provider.account, provider_job_id=update.provider_job_id
                )

    async def apply(self, update: ProviderUpdate) -> None:
        """Commit what one update says; ignore it if the job is final or gone."""
        job_id = self._jobs.get(update.provider_job_id)
        if job_id is None:
            if len(self._early) < _MAX_EARLY:
                self._early.setdefault(update.provider_job_id, []).append(update)
            return
        try:
            if update.status is JobStatus.DONE:
                result = await self._provider.fetch_result(update.provider_job_id)
                await self._store.change_job(job_id, partial(transitions.finished, update=update, result=result))
            elif update.status.is_final:
                await self._store.change_job(job_id, partial(transitions.ended, update=update))
            else:
                await self._store.change_job(job_id, partial(transitions.progressed, update=update))
        except NotFound:
            _log.info("update_of_deleted_job", account=self._provider.account, job=job_id)
        if update.status.is_final:
            del self._jobs[update.provider_job_id]
            await self._provider.forget(update.provider_job_id)
