"""Takes jobs in: reads them, stores them, hands them over."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from gateway.domain.access import Caller
from gateway.domain.backend import Backend
from gateway.domain.errors import AlreadyExists, GatewayError, Reason, ResourceExhausted, Unavailable
from gateway.domain.failpoints import async_failpoint
from gateway.domain.job import (
    Job,
    JobStatus,
    JobStep,
    JobUsage,
    PendingKind,
    PendingReason,
    RunOptions,
    SchedulingMode,
    new_id,
    utc_now,
)
from gateway.domain.payload import KeptPayload, payload_size
from gateway.domain.program import PreparedProgram, ProgramReader
from gateway.domain.session import Session
from gateway.engine import transitions
from gateway.engine.accounts import Accounts
from gateway.engine.admission import Admission
from gateway.engine.audit import audit_entry
from gateway.engine.dispatcher import REFUSALS, Dispatcher
from gateway.engine.recent_programs import KnownProgram, ProgramKey, RecentPrograms
from gateway.engine.recent_requests import RecentRequests
from gateway.engine.sessions import Sessions
from gateway.engine.uploads import Uploads
from gateway.store import Store

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What a caller asks to run. Names, tags and options have been checked for form."""

    program: bytes
    """Serialised `qgateway.v1.Program`; empty if it was uploaded."""
    backend: str
    options: RunOptions
    digest: str
    """SHA-256 of the whole request but for its id."""
    program_sha256: str = ""
    """SHA-256 of an uploaded program, 64 hexadecimal digits; empty if it came with the request."""
    account: str = ""
    display_name: str = ""
    tags: tuple[str, ...] = ()
    session: str = ""
    """Id of the session to run in; empty: in none."""
    request_id: str = ""
    client_version: Mapping[str, str] = field(default_factory=dict)


class _Ready(NamedTuple):
    """A job that can be accepted."""

    job: Job
    source: KeptPayload
    """Its program as it came."""
    program: PreparedProgram


class Submissions:
    """Accepts jobs on behalf of callers.

    Args:
        accounts: Where jobs can run.
        store: Where they are kept.
        reader: Reads their programs.
        dispatchers: By account, who hands them over.
        sessions: In which they can run.
        uploads: Programs that came before.
        admission: Applies the policies of tenants.
    """

    def __init__(
        self,
        accounts: Accounts,
        store: Store,
        reader: ProgramReader,
        dispatchers: Mapping[str, Dispatcher],
        *,
        sessions: Sessions,
        uploads: Uploads,
        admission: Admission,
    ) -> None:
        self._accounts = accounts
        self._store = store
        self._reader = reader
        self._dispatchers = dispatchers
        self._sessions = sessions
        self._uploads = uploads
        self._admission = admission
        self._programs = RecentPrograms()
        self._requests = RecentRequests()
        self._accepting: set[asyncio.Task[tuple[Job, bool]]] = set()
        self._stopping = False

    def stop(self) -> None:
        """Refuse new jobs from now on."""
        self._stopping = True

    async def close(self) -> None:
        """Bring to an end what was begun."""
        await asyncio.gather(*self._accepting, return_exceptions=True)

    async def submit(self, caller: Caller, request: JobRequest) -> tuple[Job, bool]:
        """Accept a job and hand it over.

        Returns:
            The job, and whether an earlier request with the same id had made it.

        Raises:
            InvalidArgument: The program or an option is wrong, or the provider refuses the job.
            FailedPrecondition: The backend takes no jobs now, or the session none any more.
            PermissionDenied: The provider does not let the account run jobs.
            NotFound: There is no such backend or session.
            AlreadyExists: The request id was used for another request.
            ResourceExhausted: The tenant has reached a limit.
            Unavailable: The server is about to stop.
        """
        if self._stopping:
            raise Unavailable(
                "The gateway is about to stop and takes no more jobs. Send the job again in a moment.",
                reason=Reason.SERVER_STOPPING,
                retry_after=1.0,
            )
        key = _program_key(caller, request)
        looked = self._looks_first(caller, request, key)
        if looked and (earlier := await self._earlier(caller, request)) is not None:
            return _same_request(earlier, request), True
        try:
            ready = await self._ready(caller, request, key)
        except GatewayError:
            # A repeated request gets its job, whatever has changed since.
            if looked or (earlier := await self._earlier(caller, request)) is None:
                raise
            return _same_request(earlier, request), True
        # What was begun is brought to its end even if the caller goes away meanwhile.
        accepting = asyncio.create_task(self._accept(caller, ready, request))
        self._accepting.add(accepting)
        accepting.add_done_callback(self._accepted)
        return await asyncio.shield(accepting)

    def _looks_first(self, caller: Caller, request: JobRequest, key: ProgramKey) -> bool:
        """Return whether to look for a job of the same request before anything else. The store finds it at the latest.

        Whoever repeats a request need not wait until a program is read. And what is handed over before it is stored would run
        twice for a moment, if the id came before; nearly all are new.
        """
        repeated = self._requests.is_repeated(caller.tenant, request.request_id)
        return repeated or self._programs.get(key) is None

    async def _earlier(self, caller: Caller, request: JobRequest) -> Job | None:
        """Return the job that an earlier request with the same id made."""
        if not request.request_id:
            return None
        return await self._store.get_job_by_request_id(caller.tenant, request.request_id)

    async def _ready(self, caller: Caller, request: JobRequest, key: ProgramKey) -> _Ready:
        """Return a job that is ready to be accepted."""
        self._admission.count(caller)
        session, account = None, request.account
        if request.session:
            session = await self._sessions.admit(caller, request.session, request.backend, request.account)
            account = session.account
        provider, backend = await self._accounts.of(caller).find_backend(request.backend, account)
        if request.program_sha256:
            source: KeptPayload = await self._uploads.find(caller, request.program_sha256)
        else:
            self._uploads.check_size(len(request.program))
            source = await self._store.payloads.keep(request.program)
        self._admission.check_request(caller, payload_size(source), request.options)
        provider.check_options(backend, request.options)
        known = self._programs.get(key)
        if known is not None and known.backend is backend:
            program = known.program
        else:
            program = await self._reader.prepare(source, backend, request.options)
            self._programs.put(key, KnownProgram(backend, program))
        self._admission.check_program(caller, program, request.options)
        usage = self._admission.reserve(backend.account, program, request.options)
        return _Ready(_new_job(caller, request, backend, program, session=session, usage=usage), source, program)

    async def _accept(self, caller: Caller, ready: _Ready, request: JobRequest) -> tuple[Job, bool]:
        """Store a job and hand it over. Returns it, and whether an earlier request with the same id had made it."""
        job, source, program = ready
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
            await async_failpoint("submit.before_store")
            stored = await self._store.create_job(
                job,
                source,
                audit_entry(caller, "job.submit", job.id, request.request_id),
                self._admission.limits(caller),
            )
        finally:
            if stored is None or stored.id != job.id:
                await dispatcher.abandon(job) if begun else dispatcher.unclaim(job)
        if stored.id != job.id:
            self._admission.uncount(caller)
            return _same_request(stored, request), True
        if begun:
            dispatcher.follow(stored)
            return stored, False
        if refusal is not None:
            return await dispatcher.postpone(stored, refusal), False
        await async_failpoint("submit.stored")
        try:
            return await dispatcher.hand_over(stored, program), False
        except REFUSALS:
            await self._take_back(caller, job)
            raise

    async def _take_back(self, caller: Caller, job: Job) -> None:
        """Leave nothing of a job that its provider refused, as its caller is told.

        Raises:
            FailedPrecondition: It was refused because its session has ended.
        """
        try:
            await self._store.delete_job(job.id, lambda _: None, audit_entry(caller, "job.refused", job.id))
        except Exception:
            self._dispatchers[job.account].put_back(job.id)  # it finds out what is left
            raise
        if job.session:
            await self._sessions.check_open(job)

    def _accepted(self, task: asyncio.Task[tuple[Job, bool]]) -> None:
        self._accepting.discard(task)
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, GatewayError):
            _log.error("accepting_failed", exc_info=error)


def request_digest(request: bytes) -> str:
    """Return the digest by which a repeated request is told from a reused id."""
    return hashlib.sha256(request).hexdigest()


def _program_key(caller: Caller, request: JobRequest) -> ProgramKey:
    source = request.program_sha256 or request.program
    return ProgramKey(caller.tenant, request.account, request.backend, request.options.transpile, source)


def _new_job(
    caller: Caller,
    request: JobRequest,
    backend: Backend,
    program: PreparedProgram,
    *,
    session: Session | None,
    usage: JobUsage,
) -> Job:
    now = utc_now()
    return Job(
        id=new_id(),
        tenant=caller.tenant,
        creator=caller.name,
        account=backend.account,
        backend=backend.name,
        options=request.options,
        program=program.summary,
        created_at=now,
        updated_at=now,
        display_name=request.display_name,
        tags=request.tags,
        session=session.name if session else "",
        provider_session_id=session.provider_session_id if session else "",
        scheduling_mode=session.mode if session else SchedulingMode.JOB,
        request_id=request.request_id,
        request_digest=request.digest,
        pending_reason=PendingReason(PendingKind.SUBMITTING, "About to be handed to the provider.", now),
        steps=(JobStep(JobStatus.INITIALIZING, now),),
        client_version=request.client_version,
        usage=usage,
    )


def _same_request(job: Job, request: JobRequest) -> Job:
    if job.request_digest != request.digest:
        raise AlreadyExists(
            "The request id was used for another job before. Use a new id for each job.",
            reason=Reason.REQUEST_ID_REUSED,
            metadata={"request_id": request.request_id, "job": job.id},
        )
    return job
