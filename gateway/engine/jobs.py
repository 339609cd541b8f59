"""What callers can do with jobs."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

import structlog

from gateway.domain.access import AuditEntry, Caller
from gateway.domain.backend import BackendProperties
from gateway.domain.errors import (
    AlreadyExists,
    FailedPrecondition,
    GatewayError,
    InvalidArgument,
    NotFound,
    Reason,
    ResourceExhausted,
    Unavailable,
)
from gateway.domain.job import (
    EventType,
    Job,
    JobEvent,
    JobStatus,
    JobStep,
    PendingKind,
    PendingReason,
    RunOptions,
    new_job_id,
    utc_now,
)
from gateway.domain.program import PreparedProgram, ProgramReader
from gateway.domain.provider import Capability, ProviderMetrics, QueuePlace
from gateway.domain.query import JobFilter, JobPage
from gateway.engine import transitions
from gateway.engine.accounts import Accounts
from gateway.engine.dispatcher import REFUSALS, Dispatcher
from gateway.engine.hub import Hub
from gateway.engine.pacing import Pacing
from gateway.engine.poller import Poller
from gateway.engine.queue_places import QueuePlaces
from gateway.engine.recent_results import RecentResults
from gateway.engine.recovery import recover
from gateway.engine.tracker import Tracker
from gateway.store import Store

_log = structlog.get_logger(__name__)

_SHORTEST_PATIENCE = 0.5
"""Seconds between two looks at the queue for a watcher of a job at its front."""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What a caller asks to run. Names, tags and options have been checked for form."""

    program: bytes
    """Serialised `qgateway.v1.Program`."""
    backend: str
    options: RunOptions
    digest: str
    """SHA-256 of the whole request but for its id."""
    account: str = ""
    display_name: str = ""
    tags: tuple[str, ...] = ()
    session: str = ""
    request_id: str = ""
    client_version: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """Nothing up to `revision` is left to tell; the job waits at `place`, where that is known."""

    revision: int
    place: QueuePlace | None


class Jobs:
    """Submits, follows, changes and ends jobs, on behalf of callers."""

    def __init__(
        self,
        accounts: Accounts,
        store: Store,
        hub: Hub,
        reader: ProgramReader,
        pacing: Mapping[str, Pacing] = MappingProxyType({}),
    ) -> None:
        self._accounts = accounts
        self._store = store
        self._hub = hub
        self._reader = reader
        self._recent_results = RecentResults()
        self._trackers: dict[str, Tracker | Poller] = {}
        self._dispatchers: dict[str, Dispatcher] = {}
        self._places: dict[str, QueuePlaces] = {}
        for name, provider in accounts.providers.items():
            pace = pacing.get(name, Pacing())
            if Capability.PUSH in provider.capabilities:
                self._trackers[name] = Tracker(provider, store, self._recent_results)
            else:
                self._trackers[name] = Poller(provider, store, hub, self._recent_results, pace)
                self._places[name] = QueuePlaces(provider)
            self._dispatchers[name] = Dispatcher(provider, store, reader, self._trackers[name], pace)
        self._tasks: list[asyncio.Task[None]] = []
        self._accepting: set[asyncio.Task[tuple[Job, bool]]] = set()
        self._stopping = False

    async def start(self) -> None:
        """Take up the jobs that a former run of the gateway left, and begin to work."""
        await self._hub.start()
        await recover(self._store, self._accounts, self._dispatchers)
        for name in self._dispatchers:
            self._tasks.append(asyncio.create_task(self._trackers[name].run()))
            self._tasks.append(asyncio.create_task(self._dispatchers[name].run()))

    def stop_accepting(self) -> None:
        """Refuse new jobs and end all watches, because the server is about to stop."""
        self._stopping = True
        self._hub.close()

    async def close(self) -> None:
        """Stop working. Jobs stay where they are; the next start takes them up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._accepting, return_exceptions=True)
        for dispatcher in self._dispatchers.values():
            await dispatcher.close()
        for places in self._places.values():
            await places.close()

    async def submit(self, caller: Caller, request: JobRequest) -> tuple[Job, bool]:
        """Accept a job and hand it over.

        Returns:
            The job, and whether an earlier request with the same id had made it.

        Raises:
            InvalidArgument: The program or an option is wrong, or the provider refuses the job.
            FailedPrecondition: The backend takes no jobs now.
            PermissionDenied: The provider does not let the account run jobs.
            NotFound: There is no such backend.
            AlreadyExists: The request id was used for another request.
            Unavailable: The server is about to stop.
        """
        if self._stopping:
            raise Unavailable(
                "The gateway is about to stop and takes no more jobs. Send the job again in a moment.",
                reason=Reason.SERVER_STOPPING,
                retry_after=1.0,
            )
        if request.request_id:
            earlier = await self._store.get_job_by_request_id(caller.tenant, request.request_id)
            if earlier is not None:
                return _same_request(earlier, request), True
        provider, backend = await self._accounts.find_backend(request.backend, request.account)
        provider.check_options(backend, request.options)
        program = await self._reader.prepare(request.program, backend, request.options)
        now = utc_now()
        job = Job(
            id=new_job_id(),
            tenant=caller.tenant,
            creator=caller.name,
            account=provider.account,
            backend=backend.name,
            options=request.options,
            program=program.summary,
            created_at=now,
            updated_at=now,
            display_name=request.display_name,
            tags=request.tags,
            session=request.session,
            request_id=request.request_id,
            request_digest=request.digest,
            pending_reason=PendingReason(PendingKind.SUBMITTING, "About to be handed to the provider.", now),
            steps=(JobStep(JobStatus.INITIALIZING, now),),
            client_version=request.client_version,
        )
        # What was begun is brought to its end even if the caller goes away meanwhile.
        accepting = asyncio.create_task(self._accept(caller, job, program, request))
        self._accepting.add(accepting)
        accepting.add_done_callback(self._accepted)
        return await asyncio.shield(accepting)

    async def get(self, caller: Caller, job_id: str) -> Job:
        """Return a job.

        Raises:
            NotFound: There is none, or it is another tenant's.
        """
        job = await self._hub.job(job_id)
        if job is None or job.tenant != caller.tenant:
            raise NotFound.job(job_id)
        return job

    async def get_by_provider_id(self, caller: Caller, account: str, provider_job_id: str) -> Job:
        """Return the job that bears a provider's id.

        Raises:
            NotFound: There is none, or it is another tenant's.
        """
        job = await self._store.get_job_by_provider_id(account, provider_job_id)
        if job is None or job.tenant != caller.tenant:
            raise NotFound.job(provider_job_id)
        return job

    async def list(self, where: JobFilter, *, limit: int, cursor: int | None, oldest_first: bool, skip: int) -> JobPage:
        """Return a page of jobs. `where` names the tenant."""
        return await self._store.list_jobs(
            where, limit=limit, cursor=cursor, oldest_first=oldest_first, skip=0 if cursor is not None else skip
        )

    async def update(
        self, caller: Caller, job_id: str, *, display_name: str | None, tags: tuple[str, ...] | None, etag: str
    ) -> Job:
        """Change name, tags, or both (None: as it is).

        Raises:
            NotFound: There is no such job.
            Aborted: The job is no longer the one that `etag` stands for.
        """
        await self.get(caller, job_id)
        change = partial(transitions.renamed, display_name=display_name, tags=tags, expected_etag=etag)
        job = await self._store.change_job(job_id, change, _audit(caller, "job.update", job_id))
        if tags is not None and job.provider_job_id and job.account in self._accounts.providers:
            await self._accounts.provider(job.account).set_tags(job.provider_job_id, tags)
        return job

    async def cancel(self, caller: Caller, job_id: str) -> Job:
        """Ask the provider to cancel a job, and return the job as it is after the provider's answer.

        Raises:
            NotFound: There is no such job.
            FailedPrecondition: It is final.
        """
        await self.get(caller, job_id)
        job = await self._store.change_job(job_id, transitions.cancel_requested, _audit(caller, "job.cancel", job_id))
        # A job that is on its way is cancelled as soon as it is known that the provider has it.
        if job.status.is_final or not job.provider_job_id:
            return job
        try:
            update = await self._accounts.provider(job.account).cancel(job.provider_job_id)
        except NotFound:
            raise Unavailable(
                "The provider does not have the job yet, or no longer. Try again in a moment.", retry_after=1.0
            ) from None
        await self._trackers[job.account].apply(update)
        return await self.get(caller, job_id)

    async def delete(self, caller: Caller, job_id: str) -> None:
        """Delete a final job with everything that belongs to it.

        Raises:
            NotFound: There is no such job.
            FailedPrecondition: It is not final.
        """
        await self.get(caller, job_id)
        await self._store.delete_job(job_id, transitions.check_deletable, _audit(caller, "job.delete", job_id))
        self._recent_results.drop(job_id)

    async def watch(
        self, caller: Caller, job_id: str, after: int | None, heartbeat: float
    ) -> AsyncIterator[JobEvent | SignOfLife]:
        """Yield a snapshot of a job (or with `after`, every event after that revision), then each change.

        Between the changes come signs of life: at least every `heartbeat` seconds, and soon after the job's place in the
        queue changed. Ends after the final event.

        Raises:
            NotFound: There is no such job.
            InvalidArgument: `after` lies in the future: the token is not this gateway's.
            Unavailable: The server is about to stop.
        """
        job = await self.get(caller, job_id)
        if after is None:
            yield JobEvent(job.revision, EventType.SNAPSHOT, job.updated_at, job)
            after = job.revision
        self._check_revision(after)
        if job.status.is_final and job.revision <= after:
            return
        clock = asyncio.get_running_loop().time
        told_at, place = clock(), await self.queue_place(job)
        async for news in self._hub.watch_job(job_id, after, lambda: _patience(place, heartbeat)):  # noqa: B023 - the place as it is then
            if isinstance(news, JobEvent):
                yield news
                told_at, place = clock(), await self.queue_place(news.job)
                continue
            before, place = place, await self.queue_place(await self.get(caller, job_id))
            if place != before or clock() - told_at >= heartbeat - _patience(place, heartbeat):
                yield SignOfLife(news, place)
                told_at = clock()

    async def watch_all(self, where: JobFilter, after: int | None, heartbeat: float) -> AsyncIterator[JobEvent | int]:
        """Yield the events of all jobs that match, after a revision or from now on. `where` names the tenant.

        Raises:
            InvalidArgument: `after` lies in the future.
            Unavailable: The server is about to stop.
        """
        if after is None:
            after = self._hub.last_revision
            yield after
        self._check_revision(after)
        async for news in self._hub.watch_jobs(where, after, heartbeat):
            yield news

    async def events(self, caller: Caller, job_id: str, *, after: int, limit: int) -> tuple[JobEvent, ...]:
        """Return stored events of a job after a revision, oldest first.

        Raises:
            NotFound: There is no such job.
        """
        await self.get(caller, job_id)
        return await self._store.job_events(job_id, after=after, limit=limit)

    async def result(self, caller: Caller, job_id: str) -> tuple[Job, bytes]:
        """Return a job and its result, a serialised `qgateway.v1.JobResult`.

        Raises:
            NotFound: There is no such job.
            FailedPrecondition: It has no result, or none yet.
        """
        job = await self.get(caller, job_id)
        if not job.status.is_final:
            raise FailedPrecondition(
                f"The job is {job.status}; its result is there when it is DONE. Watch it until then.",
                reason=Reason.RESULT_NOT_READY,
                metadata={"job": job_id, "status": job.status},
            )
        result = self._recent_results.get(job_id)
        if result is None and job.status is JobStatus.DONE:
            result = await self._store.read_result(job_id)
        if result is None:
            why = f" {job.failure.message}" if job.failure else ""
            raise FailedPrecondition(
                f"The job ended {job.status} and has no result.{why}",
                reason=Reason.RESULT_ABSENT,
                metadata={"job": job_id, "status": job.status},
            )
        return job, result

    async def select_result(
        self, caller: Caller, job_id: str, experiments: tuple[int, ...], *, include_counts: bool, omit_shots: bool
    ) -> bytes:
        """Return part of a result, with counts if asked for.

        Raises:
            NotFound: There is no such job.
            FailedPrecondition: It has no result, or none yet.
            InvalidArgument: There is no such experiment.
        """
        _, result = await self.result(caller, job_id)
        if not experiments and not include_counts and not omit_shots:
            return result
        return await self._reader.select_result(
            result, experiments, include_counts=include_counts, omit_shots=omit_shots
        )

    async def program(self, caller: Caller, job_id: str) -> tuple[Job, bytes]:
        """Return a job and its program, a serialised `qgateway.v1.Program`, as submitted.

        Raises:
            NotFound: There is no such job.
        """
        job = await self.get(caller, job_id)
        return job, await self._store.read_program(job_id)

    async def logs(self, caller: Caller, job_id: str) -> str:
        """Return the provider's log of a job; empty where it has none.

        Raises:
            NotFound: There is no such job.
        """
        job = await self.get(caller, job_id)
        if not job.provider_job_id:
            return ""
        return await self._accounts.provider(job.account).logs(job.provider_job_id)

    async def metrics(self, caller: Caller, job_id: str) -> tuple[Job, ProviderMetrics]:
        """Return a job and what its provider reports of it.

        Raises:
            NotFound: There is no such job.
        """
        job = await self.get(caller, job_id)
        if not job.provider_job_id:
            return job, ProviderMetrics()
        return job, await self._accounts.provider(job.account).metrics(job.provider_job_id)

    async def backend_properties(self, caller: Caller, job_id: str) -> BackendProperties | None:
        """Return the calibration of a job's backend as of its run (before that: as of now).

        Raises:
            NotFound: There is no such job.
        """
        job = await self.get(caller, job_id)
        return await self._accounts.provider(job.account).properties(job.backend, job.reached(JobStatus.RUNNING))

    async def queue_place(self, job: Job, *, ask: bool = True) -> QueuePlace | None:
        """Return a queued job's place in the provider's queue, as of now or lately, where it is known.

        Args:
            job: The job.
            ask: Whether to ask a provider for whom telling it is work. Otherwise only what was told before is told again.
        """
        if job.status is not JobStatus.QUEUED or job.account not in self._accounts.providers:
            return None
        places = self._places.get(job.account)
        if places is None:
            return await self._accounts.provider(job.account).queue_place(job.provider_job_id)
        return await places.get(job.provider_job_id) if ask else places.known(job.provider_job_id)

    async def count_unfinished(self, account: str) -> int:
        """Return how many jobs of an account are not final."""
        return await self._store.count_unfinished(account)

    async def _accept(
        self, caller: Caller, job: Job, program: PreparedProgram, request: JobRequest
    ) -> tuple[Job, bool]:
        """Store a job and hand it over. Returns it, and whether an earlier request with the same id had made it."""
        dispatcher = self._dispatchers[job.account]
        begun, refusal = False, None
        if dispatcher.is_immediate:
            try:
                await dispatcher.begin(job, program)
            except (ResourceExhausted, Unavailable) as error:
                refusal = error
            else:
                begun, job = True, transitions.presumed_accepted(job)
        else:
            job = dispatcher.claim(job)
        stored = None
        try:
            stored = await self._store.create_job(
                job, request.program, _audit(caller, "job.submit", job.id, request.request_id)
            )
        finally:
            if begun and (stored is None or stored.id != job.id):
                await dispatcher.abandon(job)
        if stored.id != job.id:
            return _same_request(stored, request), True
        if begun:
            dispatcher.follow(stored)
            return stored, False
        if refusal is not None:
            return await dispatcher.postpone(stored, refusal), False
        try:
            return await dispatcher.hand_over(stored, program), False
        except REFUSALS:
            # The caller is told, and nothing is left behind.
            await self._store.delete_job(job.id, lambda _: None, _audit(caller, "job.refused", job.id))
            raise

    def _accepted(self, task: asyncio.Task[tuple[Job, bool]]) -> None:
        self._accepting.discard(task)
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, GatewayError):
            _log.error("accepting_failed", exc_info=error)

    def _check_revision(self, revision: int) -> None:
        if revision > self._hub.last_revision:
            raise InvalidArgument.field(
                "resume_token",
                "this gateway never gave this token: begin the watch without one",
                reason=Reason.INVALID_RESUME_TOKEN,
            )


def request_digest(request: bytes) -> str:
    """Return the digest by which a repeated request is told from a reused id."""
    return hashlib.sha256(request).hexdigest()


def _patience(place: QueuePlace | None, heartbeat: float) -> float:
    """Return how many seconds to wait before looking at the queue again: the nearer to its front, the fewer."""
    if place is None or place.position is None:
        return heartbeat
    return min(heartbeat, max(_SHORTEST_PATIENCE, place.position / 4))


def _same_request(job: Job, request: JobRequest) -> Job:
    if job.request_digest != request.digest:
        raise AlreadyExists(
            "The request id was used for another job before. Use a new id for each job.",
            reason=Reason.REQUEST_ID_REUSED,
            metadata={"request_id": request.request_id, "job": job.id},
        )
    return job


def _audit(caller: Caller, action: str, job_id: str, request_id: str = "") -> AuditEntry:
    return AuditEntry(
        at=utc_now(),
        caller=caller.name,
        tenant=caller.tenant,
        action=action,
        resource=f"jobs/{job_id}",
        peer=caller.peer,
        request_id=request_id,
    )
