"""Finds out about jobs of which it is not known whether their provider has them, and about those that it has twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog

from gateway.domain.errors import GatewayError, NotFound, Unavailable
from gateway.domain.failpoints import async_failpoint
from gateway.domain.job import Job, JobStatus, SubmissionState, utc_now
from gateway.domain.provider import NoNews, Provider, ProviderUpdate
from gateway.engine import transitions
from gateway.engine.pacing import jittered
from gateway.store import Store

_log = structlog.get_logger(__name__)

_AT_ONCE = 4
"""Look-ups at a time."""
_FIRST_LOOK = 0.5
"""Seconds until the first look for a job; each further one comes after twice as long."""
_LONGEST_PAUSE = 30.0
_TWIN_LOOKS = (0.0, 0.5, 1.0, 5.0)
"""When to look for a twin of a job that was sent again, as parts of the settle time."""


class Doubts:
    """The doubtful jobs of one provider. Each is looked up by its marker until it is certain what became of it.

    Args:
        provider: Who may have them.
        store: Where they are.
        follow: Is told the provider's id and the job's id of each job that was found.
        send: Is told the id of each job that the provider certainly does not have.
        settle_seconds: How long a job can turn up after it was sent; finding nothing before that says nothing.
    """

    def __init__(
        self,
        provider: Provider,
        store: Store,
        *,
        follow: Callable[[str, str], None],
        send: Callable[[str], None],
        settle_seconds: float,
    ) -> None:
        self._provider = provider
        self._store = store
        self._follow = follow
        self._send = send
        self._settle_seconds = settle_seconds
        self._few = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, job_id: str, settle_seconds: float | None = None) -> None:
        """Find out about a job that was sent at this moment at the latest."""
        self._own(self._find_out(job_id, self._settle_seconds if settle_seconds is None else settle_seconds))

    def twins_until(self) -> datetime:
        """Return until when a twin may turn up of a job that the provider takes now."""
        return utc_now() + timedelta(seconds=_TWIN_LOOKS[-1] * self._settle_seconds)

    def look_for_twins(self, job: Job, until: datetime) -> None:
        """Look for others of a job that the provider has: now, now and then, and last at a time."""
        self._own(self._look_for_twins(job, until))

    async def adopt(self, job_id: str, found: tuple[str, ...]) -> None:
        """Take the oldest of the provider's jobs that bear a job's marker as that job, and cancel the others."""
        await async_failpoint("doubt.found")
        update = ProviderUpdate(found[0], JobStatus.QUEUED, "", utc_now())
        until = self.twins_until()
        job = await self._store.change_job(
            job_id, partial(transitions.accepted, update=update, twins_until=until, is_twice=len(found) > 1)
        )
        _log.info("job_adopted", account=self._provider.account, job=job_id, provider_job_id=found[0])
        await async_failpoint("doubt.adopted")
        self._follow(found[0], job_id)
        if job.status.is_final or job.cancel_requested:
            await self._cancel(found[0])
        if len(found) > 1 or job.submission.attempts > 1:
            self.look_for_twins(replace(job, provider_job_id=found[0]), until)

    async def close(self) -> None:
        """Stop looking. The next start takes the doubts up again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._safely(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _safely(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except NotFound:
            _log.info("doubtful_job_deleted", account=self._provider.account)
        except Exception:  # noqa: BLE001 - one job's trouble must not become another's
            _log.exception("doubt_not_resolved", account=self._provider.account)

    async def _find_out(self, job_id: str, settle_seconds: float) -> None:
        clock = asyncio.get_running_loop().time
        settled_at, pause = clock() + settle_seconds, _FIRST_LOOK
        while True:
            await asyncio.sleep(jittered(pause))
            pause = min(2 * pause, _LONGEST_PAUSE, max(settled_at - clock(), _FIRST_LOOK))
            settled = clock() >= settled_at
            await async_failpoint("doubt.look")
            try:
                found = await self._look_up(job_id)
                if found:
                    await self.adopt(job_id, found)
                    return
                if settled:
                    await self._give_up(job_id)
                    return
            except NotFound:
                raise
            except GatewayError as error:
                _log.warning("marker_not_looked_up", account=self._provider.account, job=job_id, detail=error.message)
                pause = max(pause, error.retry_after or 0.0)

    async def _give_up(self, job_id: str) -> None:
        """Let a job be sent again that the provider does not have, or be cancelled, if that is what its caller wants."""
        until = self.twins_until()
        job = await self._store.change_job(job_id, partial(transitions.not_taken, twins_until=until))
        await async_failpoint("doubt.not_taken")
        if job.status.is_final:
            self.look_for_twins(job, until)
        elif job.submission.state is SubmissionState.PENDING:
            self._send(job_id)

    async def _look_for_twins(self, job: Job, until: datetime) -> None:
        clock = asyncio.get_running_loop().time
        span = _TWIN_LOOKS[-1] * self._settle_seconds
        ends = clock() + min(span, (until - utc_now()).total_seconds())
        told, is_last = set[str](), False
        while not is_last:
            is_last, pause = clock() >= ends, self._settle_seconds
            try:
                for found in await self._look_up(job.id):
                    if found != job.provider_job_id:
                        await self._end_twin(job.id, found, told)
            except GatewayError as error:
                _log.warning("twins_not_looked_up", account=self._provider.account, job=job.id, detail=error.message)
                is_last, pause = False, max(min(self._settle_seconds, _LONGEST_PAUSE), error.retry_after or 0.0)
            else:
                looks = (ends - span + part * self._settle_seconds for part in _TWIN_LOOKS)
                pause = min((look - clock() for look in looks if look > clock()), default=0.0)
            await asyncio.sleep(0 if is_last else pause)
        await self._store.twins_settled(job.id)

    async def _look_up(self, job_id: str) -> tuple[str, ...]:
        async with self._few:
            try:
                return await self._provider.find(job_id)
            except NotFound as error:  # the listing itself was not found, which tells nothing of the job
                raise Unavailable(error.message, metadata=error.metadata) from None

    async def _end_twin(self, job_id: str, twin: str, told: set[str]) -> None:
        """Tell of a twin, and cancel it for as long as it is alive. It is told first, so that a crash cannot keep it secret."""
        update = next(iter(await self._provider.poll((twin,))), None)
        if update is None or isinstance(update, NoNews) or update.status is JobStatus.CANCELLED:
            return
        alive = not update.status.is_final
        if twin not in told:
            told.add(twin)
            _log.warning("twin_found", account=self._provider.account, job=job_id, provider_job_id=twin, alive=alive)
            found = partial(transitions.twin_found, provider_job_id=twin, alive=alive)
            with suppress(NotFound):  # the job was deleted; its twin must go all the same
                await self._store.change_job(job_id, found)
        await async_failpoint("doubt.twin")
        if alive:  # if that fails, this was not the last look
            await self._provider.cancel(twin)
        await async_failpoint("doubt.twin_cancelled")

    async def _cancel(self, provider_job_id: str) -> None:
        try:
            await self._provider.cancel(provider_job_id)
        except GatewayError as error:  # it is tracked, and tracking tries again
            _log.warning("cancel_failed", account=self._provider.account, detail=error.message)
