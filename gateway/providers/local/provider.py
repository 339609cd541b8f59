"""The local provider: a queue of jobs, and simulators that work it off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import structlog

from gateway.domain.backend import Backend, BackendProperties, BackendStatus
from gateway.domain.errors import FailedPrecondition, GatewayError, NotFound, Reason, ResourceExhausted, Unimplemented
from gateway.domain.failpoints import async_failpoint
from gateway.domain.job import JobFailure, JobStatus, RunOptions, SchedulingMode, utc_now
from gateway.domain.payload import Payload
from gateway.domain.provider import (
    AccountHealth,
    AccountUsage,
    Capability,
    Health,
    ProviderJob,
    ProviderMetrics,
    ProviderSession,
    ProviderSubmission,
    ProviderUpdate,
    QueuePlace,
)
from gateway.providers.local.machines import Machines
from gateway.providers.local.news import News
from gateway.providers.local.options import check_options
from gateway.providers.local.queue import JobQueue
from gateway.providers.local.sessions import LocalSessions
from gateway.providers.local.settings import LocalSettings
from gateway.providers.local.simulators import Simulators

_log = structlog.get_logger(__name__)

_RETRY_SECONDS = 5.0
_BRIEF_SECONDS = 0.02
"""A run that ends sooner is told of by its end alone, which also says when it began."""
_END_SECONDS = 10.0
"""How long a run may take to end after it was told to; it takes milliseconds."""


@dataclass(slots=True)
class _LocalJob:
    """A job from submit to `forget`."""

    submission: ProviderSubmission
    update: ProviderUpdate
    queued_at: datetime
    started_at: datetime | None = None
    run: asyncio.Task[Payload] | None = None
    result: Payload | None = None


class LocalProvider:
    """Runs jobs on simulators of this machine, in the order in which they come. See `gateway.domain.provider.Provider`.

    A job's id is the marker that it is submitted with. Jobs live in memory: when the server stops they are gone, and the engine
    submits them again.

    Args:
        account: Name of the account.
        simulators: Where circuits are run.
        settings: Limits.
    """

    def __init__(self, account: str, simulators: Simulators, settings: LocalSettings | None = None) -> None:
        self._account = account
        self._simulators = simulators
        self._settings = settings or LocalSettings()
        self._since = utc_now()
        self._jobs: dict[str, _LocalJob] = {}
        self._queue = JobQueue()
        self._running: set[str] = set()
        self._sessions = LocalSessions(self._session_time_over)
        self._news = News()
        self._machines = Machines(account, simulators, self._settings)
        self._closed = False

    @property
    def account(self) -> str:
        """Name of the account."""
        return self._account

    @property
    def kind(self) -> str:
        """Kind of provider."""
        return "local"

    @property
    def description(self) -> str:
        """What the account is for, for people."""
        return "Simulators on the gateway's own machine."

    @property
    def capabilities(self) -> frozenset[Capability]:
        """It tells of changes by itself, forgets its jobs when the server stops, and has sessions."""
        return frozenset({Capability.PUSH, Capability.VOLATILE, Capability.SESSIONS})

    async def start(self) -> None:
        """Begin to learn about the machines, so that the first caller need not wait for that."""
        self._machines.start()

    async def close(self) -> None:
        """End every run. Nobody is told: the jobs are neither done nor failed, and run again after a restart."""
        self._closed = True
        self._sessions.forget()
        self._news.close()
        tasks = [job.run for job in self._jobs.values() if job.run is not None]
        for task in tasks:
            task.cancel()
        await self._machines.close()
        if tasks:
            await asyncio.wait(tasks, timeout=_END_SECONDS)

    async def reload_credentials(self) -> bool:
        """Return False: there are none."""
        return False

    async def usage(self) -> AccountUsage:
        """Refuse: simulators use no QPU.

        Raises:
            Unimplemented: Always.
        """
        raise Unimplemented("Simulators use no QPU time.")

    def health(self) -> AccountHealth:
        """Return how the account is."""
        return self._machines.trouble or AccountHealth(
            Health.SERVING, f"{len(self._running)} jobs running, {len(self._queue)} jobs waiting.", self._since
        )

    async def backends(self) -> tuple[Backend, ...]:
        """Return all backends."""
        return await self._machines.backends()

    async def backend(self, name: str) -> Backend:
        """Return one backend.

        Raises:
            NotFound: There is none of that name.
        """
        return (await self._machines.get(name)).backend

    async def backend_status(self, name: str) -> BackendStatus:
        """Return how many jobs wait for a backend.

        Raises:
            NotFound: There is none of that name.
        """
        await self._machines.get(name)
        return BackendStatus(pending_jobs=self._queue.waiting_for(name))

    async def properties(self, name: str, at: datetime | None) -> BackendProperties | None:
        """Return the calibration of a backend, which never changes; None for the ideal one.

        Raises:
            NotFound: There is none of that name.
        """
        del at
        return (await self._machines.get(name)).properties

    def check_options(self, backend: Backend, options: RunOptions) -> None:
        """Refuse what the backend cannot do.

        Raises:
            InvalidArgument: Names each option, as `options.NAME`.
        """
        check_options(backend, options)

    async def ready(self) -> None:
        """Do nothing: it is always there."""

    async def submit(self, submission: ProviderSubmission) -> ProviderUpdate:
        """Let a job wait for its turn. Submitting a marker again returns what its job is doing.

        Raises:
            NotFound: There is no such backend.
            ResourceExhausted: Too many jobs wait.
            FailedPrecondition: Its session takes no more jobs.
        """
        await self._machines.get(submission.backend)
        if (known := self._jobs.get(submission.marker)) is not None:
            return known.update
        if len(self._queue) >= self._settings.queue_limit:
            raise ResourceExhausted(
                f"{len(self._queue)} jobs wait for the simulators of account {self._account!r} already. Try again later.",
                reason=Reason.QUEUE_FULL,
                metadata={"account": self._account, "limit": str(self._settings.queue_limit)},
                retry_after=_RETRY_SECONDS,
            )
        self._sessions.join(submission.session, submission.marker)
        update = ProviderUpdate(submission.marker, JobStatus.QUEUED, "queued", utc_now())
        self._jobs[submission.marker] = _LocalJob(submission, update, queued_at=update.at)
        self._queue.put(submission.marker, submission.backend)
        self._run_next()
        await asyncio.sleep(
            0
        )  # a run that begins now is on its way to its process before the caller does anything else
        return update

    async def find(self, marker: str) -> tuple[str, ...]:
        """Return the id of the job that bears a marker, if there is one."""
        return (marker,) if marker in self._jobs else ()

    async def poll(self, provider_job_ids: tuple[str, ...]) -> tuple[ProviderUpdate, ...]:
        """Return what is known of some jobs; unknown ones are left out."""
        return tuple(self._jobs[job].update for job in provider_job_ids if job in self._jobs)

    def updates(self) -> AsyncIterator[ProviderUpdate]:
        """Yield changes as they happen, until the provider is closed. Of each job a slow reader sees the latest state only."""
        return self._news.read()

    async def fetch_result(self, provider_job_id: str) -> Payload:
        """Return the result of a job.

        Raises:
            NotFound: There is no such job.
            FailedPrecondition: The job is not DONE.
        """
        job = self._job(provider_job_id)
        if job.result is None:
            raise FailedPrecondition(
                f"The job is {job.update.status}, so there is no result to fetch.", reason=Reason.RESULT_NOT_READY
            )
        return job.result

    async def forget(self, provider_job_id: str) -> None:
        """Release what is kept of a final job. Unknown and unfinished jobs are left alone."""
        job = self._jobs.get(provider_job_id)
        if job is not None and job.update.status.is_final:
            del self._jobs[provider_job_id]
            self._news.withdraw(provider_job_id)

    async def queue_place(self, provider_job_id: str) -> QueuePlace | None:
        """Return a job's place in the queue, or None if it does not wait."""
        place = self._queue.place(provider_job_id)
        return None if place is None else QueuePlace(place)

    async def metrics(self, provider_job_id: str) -> ProviderMetrics:
        """Return place and times of a job. Empty for an unknown id."""
        job = self._jobs.get(provider_job_id)
        if job is None:
            return ProviderMetrics()
        values = {"queued_at": job.queued_at.isoformat()}
        if job.started_at is not None:
            values["started_at"] = job.started_at.isoformat()
        if job.update.status.is_final:
            values["ended_at"] = job.update.at.isoformat()
        return ProviderMetrics(await self.queue_place(provider_job_id), values)

    async def logs(self, provider_job_id: str) -> str:
        """Return nothing: simulators keep no log."""
        del provider_job_id
        return ""

    async def cancel(self, provider_job_id: str) -> ProviderUpdate:
        """Take a job out of the queue, or end its run at once. A final job stays as it is.

        Raises:
            NotFound: There is no such job.
        """
        job = self._job(provider_job_id)
        if job.update.status is JobStatus.QUEUED:
            self._queue.leave(provider_job_id)
            self._change(job, JobStatus.CANCELLED, _CANCELLED)
        elif job.run is not None and not job.run.done():
            job.run.cancel()
            await asyncio.wait([job.run], timeout=_END_SECONDS)
        return job.update

    async def set_tags(self, provider_job_id: str, tags: tuple[str, ...]) -> None:
        """Do nothing: nobody sees the jobs of this provider but the gateway, which keeps the tags."""

    async def job(self, provider_job_id: str) -> ProviderJob:
        """Refuse: there are no jobs but the gateway's own.

        Raises:
            NotFound: Always.
        """
        raise NotFound.job(provider_job_id)

    async def fetch_program(self, provider_job_id: str) -> bytes:
        """Refuse: the gateway keeps the programs.

        Raises:
            NotFound: Always.
        """
        raise NotFound.job(provider_job_id)

    async def claim(self, provider_job_id: str, marker: str) -> None:
        """Do nothing: all jobs are the gateway's own."""

    async def open_session(self, backend: str, mode: SchedulingMode, max_seconds: int | None = None) -> ProviderSession:
        """Open a session: a group of jobs. It lives in memory, as they do."""
        return self._sessions.open(backend, mode, max_seconds)

    async def session(self, session_id: str) -> ProviderSession:
        """Return a session.

        Raises:
            NotFound: There is none of that id.
        """
        return self._sessions.get(session_id)

    async def close_session(self, session_id: str) -> ProviderSession:
        """Let a session take no more jobs; those that it has still run.

        Raises:
            NotFound: There is none of that id.
        """
        self._sessions.close(session_id)
        return self._sessions.get(session_id)

    async def cancel_session(self, session_id: str) -> ProviderSession:
        """End a session at once, and cancel its waiting jobs.

        Raises:
            NotFound: There is none of that id.
        """
        for job in self._sessions.end(session_id):
            await self.cancel(job)
        return self._sessions.get(session_id)

    def _run_next(self) -> None:
        while self._queue and len(self._running) < self._settings.parallel_jobs:
            job = self._jobs[self._queue.take()]
            job.run = asyncio.create_task(self._run(job.submission))
            self._running.add(job.submission.marker)
            job.started_at = utc_now()
            self._sessions.started(job.submission.session, job.submission.marker)
            self._change(job, JobStatus.RUNNING, tell_after=_BRIEF_SECONDS)
            # A callback, because a task that is cancelled before its first step never runs a line of its own.
            job.run.add_done_callback(partial(self._ended, job))

    async def _run(self, submission: ProviderSubmission) -> Payload:
        limits = self._settings
        result = await self._simulators.run(submission, time_limit=limits.time_limit, memory_limit=limits.memory_limit)
        await async_failpoint("run.ended")
        return result

    def _ended(self, job: _LocalJob, run: asyncio.Task[Payload]) -> None:
        self._running.discard(job.submission.marker)
        if self._closed:
            if not run.cancelled():
                run.exception()
            return
        if run.cancelled():
            self._change(job, JobStatus.CANCELLED, _CANCELLED)
        elif (error := run.exception()) is not None:
            self._change(job, JobStatus.ERROR, _failure(error))
        else:
            job.result = run.result()
            self._change(job, JobStatus.DONE)
        self._run_next()

    def _change(
        self, job: _LocalJob, status: JobStatus, failure: JobFailure | None = None, *, tell_after: float = 0.0
    ) -> None:
        now = utc_now()
        charged = (now - job.started_at).total_seconds() if status.is_final and job.started_at is not None else None
        update = ProviderUpdate(
            job.submission.marker,
            status,
            status.value.lower(),
            now,
            failure=failure,
            charged_seconds=charged,
            started_at=job.started_at,
        )
        job.update = update
        if status.is_final:
            self._sessions.ended(job.submission.session, update.provider_job_id, charged)
        if tell_after:
            asyncio.get_running_loop().call_later(tell_after, self._tell_if_still_so, job, update)
        else:
            self._news.tell(update)

    def _session_time_over(self, jobs: tuple[str, ...]) -> None:
        for waiting in jobs:
            self._queue.leave(waiting)
            self._change(self._jobs[waiting], JobStatus.CANCELLED, _SESSION_OVER)

    def _tell_if_still_so(self, job: _LocalJob, update: ProviderUpdate) -> None:
        if job.update is update:
            self._news.tell(update)

    def _job(self, provider_job_id: str) -> _LocalJob:
        job = self._jobs.get(provider_job_id)
        if job is None:
            raise NotFound("The local provider has no such job; it forgets its jobs when the server stops.")
        return job


_CANCELLED = JobFailure(Reason.CANCELLED_BY_CALLER, "A caller cancelled the job.")
_SESSION_OVER = JobFailure(Reason.SESSION_CLOSED, "The time of the session was over before the job could begin.")


def _failure(error: BaseException) -> JobFailure:
    if isinstance(error, GatewayError):
        return JobFailure(error.reason, error.message)
    _log.error("run_failed", exc_info=error)
    return JobFailure(Reason.INTERNAL, "The run failed by a fault of the gateway; its log says more.")
