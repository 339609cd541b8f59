"""Keeps what providers know of the runs of jobs, before they forget it."""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import structlog

from gateway.domain.backend import BackendProperties
from gateway.domain.errors import FailedPrecondition, GatewayError, InvalidArgument, NotFound
from gateway.domain.job import Job, JobStatus, utc_now
from gateway.domain.provider import Provider, ProviderMetrics
from gateway.domain.record import JobRecord
from gateway.engine import transitions
from gateway.engine.pacing import jittered
from gateway.store import Store

_log = structlog.get_logger(__name__)

_LONGEST_PAUSE = 600.0
_MOST_LOOKS = 12
"""So often a job is looked at whose charge is not settled, or of which the provider knows nothing. The pauses between add up to
half an hour."""


@dataclass(slots=True, order=True)
class _Due:
    """A job whose record is to be made."""

    not_before: float
    job_id: str
    looks: int = 0


@dataclass(frozen=True, slots=True)
class _Calibration:
    """A calibration, and the span of time of which it is known to be the last."""

    properties: BackendProperties
    until: datetime

    def holds(self, at: datetime) -> bool:
        return self.properties.last_update <= at <= self.until


class Recorder:
    """Makes the records of the jobs of one provider: its metrics, and the calibration of the backend as of the run.

    A job is DONE without waiting for its record. That it is to be made is committed together with the end of the job, so it is
    made even if the gateway is restarted meanwhile, or the provider is away for a day. That the provider does not know a job, or
    its backend, may pass: it is believed when it was said often enough.

    Args:
        provider: Who is asked.
        store: Where records are kept.
    """

    def __init__(self, provider: Provider, store: Store) -> None:
        self._provider = provider
        self._store = store
        self._due: list[_Due] = []
        self._wake = asyncio.Event()
        self._failures = 0
        """Calls in a row that failed."""
        self._calibrations: dict[str, _Calibration] = {}
        """The last that was read, by backend."""

    def add(self, job_id: str) -> None:
        """Make the record of a job that has ended."""
        self._put(_Due(self._now(), job_id))

    async def run(self) -> None:
        """Make records until cancelled, those first that a former run of the gateway left."""
        for job_id in await self._store.records.due(self._provider.account):
            self.add(job_id)
        while True:
            due = await self._next()
            try:
                await self._record(due)
                self._failures = 0
            except GatewayError as error:
                self._failures += 1
                pause = self._pause(self._failures)
                _log.warning("record_failed", account=self._provider.account, job=due.job_id, detail=error.message)
                self._put(_Due(self._now() + pause, due.job_id, due.looks))
                await asyncio.sleep(max(pause, error.retry_after or 0.0))
            except Exception:  # noqa: BLE001 - one job's trouble must not keep the records of all others from being made
                _log.exception("record_failed", account=self._provider.account, job=due.job_id)

    async def _next(self) -> _Due:
        """Return the job whose turn it is, and wait for that."""
        while True:
            self._wake.clear()
            left = self._due[0].not_before - self._now() if self._due else None
            if left is not None and left <= 0:
                return heapq.heappop(self._due)
            try:
                async with asyncio.timeout(left):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _record(self, due: _Due) -> None:
        job = await self._store.get_job(due.job_id)
        if job is None:
            return
        metrics = await self._metrics(job)
        if not metrics.settled and self._look_again(due):
            return
        try:
            properties = await self._properties(job)
        except NotFound:
            if self._look_again(due):
                return
            properties = None
        record = JobRecord(metrics.values, properties)
        try:
            await self._store.records.add(job.id, record, partial(transitions.charged, seconds=metrics.charged_seconds))
        except NotFound:
            _log.info("record_of_deleted_job", account=self._provider.account, job=job.id)

    def _look_again(self, due: _Due) -> bool:
        """Let a job be looked at once more after a while, unless it was often enough. Returns whether it will be."""
        looks = due.looks + 1
        if looks == _MOST_LOOKS:
            return False
        self._put(_Due(self._now() + self._pause(looks), due.job_id, looks))
        return True

    async def _metrics(self, job: Job) -> ProviderMetrics:
        try:
            return await self._provider.metrics(job.provider_job_id)
        except NotFound:
            return ProviderMetrics(settled=False)
        except (InvalidArgument, FailedPrecondition):  # asking again would not help
            return ProviderMetrics()

    async def _properties(self, job: Job) -> BackendProperties | None:
        """Return the calibration as of the run of a job; of one that never ran, as of its end.

        Raises:
            NotFound: The provider has no such backend.
        """
        at = job.reached(JobStatus.RUNNING) or job.ended_at or utc_now()
        known = self._calibrations.get(job.backend)
        if known is not None and known.holds(at):
            return known.properties
        now = utc_now()
        try:
            properties = await self._provider.properties(job.backend, None)
            if properties is not None and properties.last_update > at:
                return await self._provider.properties(job.backend, at)
        except (InvalidArgument, FailedPrecondition):  # asking again would not help
            return None
        if properties is not None:
            self._calibrations[job.backend] = _Calibration(properties, now)
        return properties

    def _put(self, due: _Due) -> None:
        heapq.heappush(self._due, due)
        self._wake.set()

    @staticmethod
    def _pause(failures: int) -> float:
        return jittered(min(2.0 ** min(failures - 1, 20), _LONGEST_PAUSE))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
