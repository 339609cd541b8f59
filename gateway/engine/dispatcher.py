"""Hands jobs over to a provider, in the order in which they came."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import timedelta
from functools import partial

import structlog

from gateway.domain.errors import (
    GatewayError,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
    WorkerFailure,
)
from gateway.domain.job import Job, JobFailure, PendingKind, utc_now
from gateway.domain.program import PreparedProgram, ProgramReader
from gateway.domain.provider import Capability, Provider, ProviderSubmission
from gateway.engine import transitions
from gateway.engine.tracker import Tracker
from gateway.store import Store

_log = structlog.get_logger(__name__)

_RETRY_SECONDS = 5.0
"""Wait before the next try where the provider names none."""


class Dispatcher:
    """Hands jobs over to one provider: at once where it can, else as soon as the provider takes them."""

    def __init__(self, provider: Provider, store: Store, reader: ProgramReader, tracker: Tracker) -> None:
        self._provider = provider
        self._store = store
        self._reader = reader
        self._tracker = tracker
        self._backlog: deque[str] = deque()
        self._wake = asyncio.Event()
        self._not_before = 0.0
        """When the provider may be asked again, on the clock of the event loop."""

    @property
    def is_immediate(self) -> bool:
        """Whether a job that comes now goes at once to a provider that runs in the gateway itself: see `begin`."""
        return not self._backlog and Capability.VOLATILE in self._provider.capabilities

    async def begin(self, job: Job, program: PreparedProgram) -> None:
        """Hand over a job before it is stored, to a provider that runs in the gateway itself.

        What such a provider does ends with the gateway, so nothing is left behind if the job is not stored after all. The
        caller then calls `abandon`, else `follow`.

        Raises:
            InvalidArgument: The provider refuses it for good.
            ResourceExhausted: It takes no more jobs for now.
            Unavailable: It is away.
        """
        await self._provider.submit(_submission(job, program))

    def follow(self, job: Job) -> None:
        """Follow a job that was begun, now that it is stored."""
        self._tracker.track(job.provider_job_id, job.id)

    async def abandon(self, job: Job) -> None:
        """End a job that was begun and could not be stored."""
        await self._provider.cancel(job.id)
        await self._provider.forget(job.id)

    async def hand_over(self, job: Job, program: PreparedProgram) -> Job:
        """Hand over a job that was just accepted, or let it wait behind those that came before.

        Raises:
            InvalidArgument: The provider refuses it for good.
        """
        if self._backlog:
            self.put_back(job.id)
            return job
        try:
            return await self._submit(job, program)
        except (ResourceExhausted, Unavailable) as error:
            return await self.postpone(job, error)

    async def postpone(self, job: Job, error: GatewayError) -> Job:
        """Let a stored job wait that the provider did not take, and tell why."""
        waiting = await self._wait(job, error)
        self.put_back(job.id)
        return waiting

    def put_back(self, job_id: str) -> None:
        """Let a stored job wait for its hand-over, behind those that wait already."""
        self._backlog.append(job_id)
        self._wake.set()

    async def run(self) -> None:
        """Hand over the waiting jobs, until cancelled."""
        while True:
            await self._wake.wait()
            while self._backlog:
                await asyncio.sleep(self._not_before - asyncio.get_running_loop().time())
                if await self._hand_over_stored(self._backlog[0]):
                    self._backlog.popleft()
            self._wake.clear()

    async def _hand_over_stored(self, job_id: str) -> bool:
        """Hand over one waiting job. Returns False if it has to wait longer."""
        job = await self._store.get_job(job_id)
        if job is None or job.status.is_final:
            return True
        try:
            backend = await self._provider.backend(job.backend)
            program = await self._reader.prepare(await self._store.read_program(job_id), backend, job.options)
            await self._submit(job, program)
        except (ResourceExhausted, Unavailable) as error:
            await self._wait(job, error)
            return False
        except (InvalidArgument, NotFound, WorkerFailure) as error:
            failure = JobFailure(error.reason, error.message)
            await self._store.change_job(job_id, partial(transitions.refused, failure=failure))
        except GatewayError:
            _log.exception("hand_over_failed", account=self._provider.account, job=job_id)
            self._pause(_RETRY_SECONDS)
            return False
        return True

    async def _submit(self, job: Job, program: PreparedProgram) -> Job:
        update = await self._provider.submit(_submission(job, program))
        job = await self._store.change_job(job.id, partial(transitions.accepted, update=update))
        if job.status.is_final:  # a caller cancelled it while it was on its way
            await self._provider.cancel(update.provider_job_id)
        self._tracker.track(update.provider_job_id, job.id)
        return job

    async def _wait(self, job: Job, error: GatewayError) -> Job:
        kind = PendingKind.PACED if isinstance(error, ResourceExhausted) else PendingKind.PROVIDER_UNREACHABLE
        seconds = error.retry_after or _RETRY_SECONDS
        self._pause(seconds)
        retry_at = utc_now() + timedelta(seconds=seconds)
        return await self._store.change_job(
            job.id, partial(transitions.waits, kind=kind, message=error.message, retry_at=retry_at)
        )

    def _pause(self, seconds: float) -> None:
        self._not_before = asyncio.get_running_loop().time() + seconds


def _submission(job: Job, program: PreparedProgram) -> ProviderSubmission:
    return ProviderSubmission(
        marker=job.id,
        backend=job.backend,
        program=program,
        options=job.options,
        job_name=f"jobs/{job.id}",
        tags=job.tags,
        session=job.session,
    )
