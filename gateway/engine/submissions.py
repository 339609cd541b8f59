"""Takes jobs in: reads them, stores them, hands them over."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
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
    Submission,
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
    """What a caller asks to run, but for the id of the request. Names, tags and options have been checked for form."""

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
    client_version: Mapping[str, str] = field(default_factory=dict)


class _Ready(NamedTuple):
    """What can be accepted as a job."""

    request: JobRequest
    backend: Backend
    session: Session | None
    source: KeptPayload
    """Its program as it came."""
    program: PreparedProgram
    usage: JobUsage


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

    async def submit(self, caller: Caller, request: JobRequest, request_id: str = "") -> tuple[Job, bool]:
        """Accept a job and hand it over.

        Args:
            caller: Who asks.
            request: For what.
            request_id: Id by which the request is known if it is sent again; empty: each is another one.

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
        looked = self._looks_first(caller, request_id, key)
        if looked and (earlier := await self._earlier(caller, request_id)) is not None:
            return _same_request(earlier, request, request_id), True
        try:
            ready = await self._ready(caller, request, key)
        except GatewayError:
            # A repeated request gets its job, whatever has changed since.
            if looked or (earlier := await self._earlier(caller, request_id)) is None:
                raise
            return _same_request(earlier, request, request_id), True
        # What was begun is brought to its end even if the caller goes away meanwhile.
        accepting = asyncio.create_task(self._accept(caller, ready, request_id))
        self._accepting.add(accepting)
        answer: asyncio.Future[tuple[Job, bool]] = asyncio.get_running_loop().create_future()
        accepting.add_done_callback(partial(self._accepted, answer))
        return await answer

    def _looks_first(self, caller: Caller, request_id: str, key: ProgramKey) -> bool:
        """Return whether to look for a job of the same request before anything else. The store finds it at the latest.

        Whoever repeats a request need not wait until a program is read. And what is handed over before it is stored would run
        twice for a moment, if the id came before; nearly all are new.
        """
        repeated = self._requests.is_repeated(caller.tenant, request_id)
        return repeated or self._programs.get(key) is None

    async def _earlier(self, caller: Caller, request_id: str) -> Job | None:
        """Return the job that an earlier request with the same id made."""
        if not request_id:
            return None
        return await self._store.get_job_by_request_id(caller.tenant, request_id)

    async def _ready(self, caller: Caller, request: JobRequest, key: ProgramKey) -> _Ready:
        """Return what is ready to be accepted as a job."""
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
        limits, known = self._admission.limits(caller), self._programs.get(key)
        if known is None or not known.is_checked(request, backend, limits):
            self._admission.check_request(caller, payload_size(source), request.options)
            provider.check_options(backend, request.options)
            if known is not None and known.backend is backend:
                program = known.program
            else:
                program = await self._reader.prepare(source, backend, request.options)
                self._programs.put(key, KnownProgram(backend, program))
            self._admission.check_program(caller, program, request.options)
            usage = self._admission.reserve(backend.account, program, request.options)
            known = KnownProgram(backend, program, request, limits, usage)
            self._programs.put(key, known)  # again, with what was found out
        return _Ready(request, backend, session, source, known.program, known.usage)

    async def _accept(self, caller: Caller, ready: _Ready, request_id: str) -> tuple[Job, bool]:
        """Store a job and hand it over. Returns it, and whether an earlier request with the same id had made it."""
        dispatcher, program = self._dispatchers[ready.backend.account], ready.program
        begun, refusal = False, None
        if dispatcher.is_immediate:
            job = _new_job(caller, ready, request_id)
            try:
                await dispatcher.begin(job, program)
            except (ResourceExhausted, Unavailable) as error:
                refusal = error
            else:
                begun, job = True, transitions.presumed_accepted(job)
        else:
            job = _new_job(caller, ready, request_id, *dispatcher.claim())
        stored = None
        try:
            await async_failpoint("submit.before_store")
            stored = await self._store.create_job(
                job, ready.source, audit_entry(caller, "job.submit", job.id, request_id), self._admission.limits(caller)
            )
        finally:
            if stored is None or stored.id != job.id:
                await dispatcher.abandon(job) if begun else dispatcher.unclaim(job)
        if stored.id != job.id:
            self._admission.uncount(caller)
            return _same_request(stored, ready.request, request_id), True
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

    def _accepted(self, answer: asyncio.Future[tuple[Job, bool]], task: asyncio.Task[tuple[Job, bool]]) -> None:
        """Tell what came of a submission, if the caller is still there."""
        self._accepting.discard(task)
        if task.cancelled():
            answer.cancel()
            return
        error = task.exception()
        if error is not None and not isinstance(error, GatewayError):
            _log.error("accepting_failed", exc_info=error)
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(task.result())


def request_digest(request: bytes) -> str:
    """Return the digest by which a repeated request is told from a reused id."""
    return hashlib.sha256(request).hexdigest()


def _program_key(caller: Caller, request: JobRequest) -> ProgramKey:
    source = request.program_sha256 or request.program
    return ProgramKey(caller.tenant, request.account, request.backend, request.options.transpile, source)


def _new_job(
    caller: Caller,
    ready: _Ready,
    request_id: str,
    submission: Submission = Submission(),  # noqa: B008 - it never changes
    pending_reason: PendingReason | None = None,
) -> Job:
    request, backend, session, now = ready.request, ready.backend, ready.session, utc_now()
    return Job(
        id=new_id(),
        tenant=caller.tenant,
        creator=caller.name,
        account=backend.account,
        backend=backend.name,
        options=request.options,
        program=ready.program.summary,
        created_at=now,
        updated_at=now,
        display_name=request.display_name,
        tags=request.tags,
        session=session.name if session else "",
        provider_session_id=session.provider_session_id if session else "",
        scheduling_mode=session.mode if session else SchedulingMode.JOB,
        request_id=request_id,
        request_digest=request.digest,
        pending_reason=pending_reason
        or PendingReason(PendingKind.SUBMITTING, "About to be handed to the provider.", now),
        submission=submission,
        steps=(JobStep(JobStatus.INITIALIZING, now),),
        client_version=request.client_version,
        usage=ready.usage,
    )


def _same_request(job: Job, request: JobRequest, request_id: str) -> Job:
    if job.request_digest != request.digest:
        raise AlreadyExists(
            "The request id was used for another job before. Use a new id for each job.",
            reason=Reason.REQUEST_ID_REUSED,
            metadata={"request_id": request_id, "job": job.id},
        )
    return job
