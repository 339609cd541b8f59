"""Takes in jobs that providers have and that did not come through the gateway."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

import structlog

from gateway.domain.access import Caller, Scope
from gateway.domain.errors import GatewayError, NotFound
from gateway.domain.job import (
    Job,
    JobStatus,
    JobStep,
    ProgramKind,
    ProgramSummary,
    RunOptions,
    SchedulingMode,
    Submission,
    SubmissionState,
    new_id,
    utc_now,
)
from gateway.domain.provider import NoNews, Provider, ProviderJob
from gateway.engine import transitions
from gateway.engine.accounts import Accounts
from gateway.engine.admission import Admission
from gateway.engine.audit import audit_entry
from gateway.engine.poller import Poller
from gateway.engine.tracker import Tracker
from gateway.store import Store

_log = structlog.get_logger(__name__)


class Adoptions:
    """Finds jobs by their provider's id, and makes those the gateway's own that it does not know.

    Args:
        accounts: Where jobs run.
        store: Where they are kept.
        trackers: By account, who follows its jobs.
        admission: Says whether a job counts in budgets.
    """

    def __init__(
        self, accounts: Accounts, store: Store, trackers: Mapping[str, Tracker | Poller], admission: Admission
    ) -> None:
        self._accounts = accounts
        self._store = store
        self._trackers = trackers
        self._admission = admission
        self._under_way: dict[tuple[str, str], asyncio.Task[Job | None]] = {}

    async def get(self, caller: Caller, account: str, provider_job_id: str) -> Job:
        """Return the job that bears a provider's id. One that the gateway does not know is adopted, if the caller is an operator.

        An adopted job belongs to the caller's tenant.

        Raises:
            NotFound: There is none, or it is another tenant's.
            Unavailable: The provider cannot be asked now.
        """
        job = await self._store.get_job_by_provider_id(account, provider_job_id)
        if job is None and caller.role.grants(Scope.ADMIN):
            job = await self._adopted(caller, account, provider_job_id)
        if job is None or job.tenant != caller.tenant:
            raise NotFound.job(provider_job_id)
        return job

    async def close(self) -> None:
        """Bring to an end what was begun."""
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    async def _adopted(self, caller: Caller, account: str, provider_job_id: str) -> Job | None:
        """Adopt a job, once for however many ask. It is brought to its end even if they go away meanwhile."""
        key = account, provider_job_id
        adopting = self._under_way.get(key)
        if adopting is None:
            provider = self._accounts.of(caller).provider(account)
            adopting = self._under_way[key] = asyncio.create_task(self._adopt(caller, provider, provider_job_id))
            adopting.add_done_callback(lambda _: self._under_way.pop(key))
        return await asyncio.shield(adopting)

    async def _adopt(self, caller: Caller, provider: Provider, provider_job_id: str) -> Job | None:
        try:
            told = await provider.job(provider_job_id)
        except NotFound:
            return None
        if told.marker and (own := await self._store.get_job(told.marker)) is not None:
            # The gateway sent it, and has yet to hear of it, or it is the twin of another that is about to be cancelled.
            return own if own.provider_job_id in ("", provider_job_id) else None
        program = await _program(provider, told)
        job = await self._new_job(caller, provider, told, program)
        stored = await self._store.adopt_job(job, program, audit_entry(caller, "job.adopt", job.id))
        self._trackers[provider.account].track(provider_job_id, stored.id)
        _log.info("foreign_job_adopted", account=provider.account, job=stored.id, provider_job_id=provider_job_id)
        with suppress(GatewayError):  # it only makes looking for the job cheaper
            await provider.claim(provider_job_id, stored.id)
        if told.update.status.is_final:
            with suppress(GatewayError):  # tracking tries again
                for update in await provider.poll((provider_job_id,)):
                    if not isinstance(update, NoNews):
                        await self._trackers[provider.account].apply(update)
        return await self._store.get_job(stored.id)

    async def _new_job(self, caller: Caller, provider: Provider, told: ProviderJob, program: bytes) -> Job:
        """Return the job as it is stored first: not final, so that its end is brought in like that of any other."""
        update = told.update
        session = (
            await self._store.sessions.get_by_provider_id(provider.account, told.session) if told.session else None
        )
        session_name = session.name if session is not None and session.tenant == caller.tenant else ""
        job = Job(
            id=new_id(),
            tenant=caller.tenant,
            creator=caller.name,
            account=provider.account,
            backend=told.backend,
            options=RunOptions(),
            program=ProgramSummary(ProgramKind.RAW, 0, len(program), hashlib.sha256(program).hexdigest(), 0),
            created_at=told.created_at,
            updated_at=utc_now(),
            tags=told.tags,
            session=session_name,
            provider_session_id=told.session,
            scheduling_mode=await _scheduling_mode(provider, told),
            provider_job_id=update.provider_job_id,
            provider_status=update.provider_status,
            submission=Submission(SubmissionState.ACCEPTED, attempts=0),
            steps=(JobStep(JobStatus.INITIALIZING, told.created_at),),
            usage=replace(
                self._admission.reserve_nothing(provider.account), estimated_seconds=update.estimated_seconds
            ),
            client_version=await _client_version(provider, told),
        )
        return transitions.adopted(job, update)


async def _program(provider: Provider, told: ProviderJob) -> bytes:
    """Return the program of a job; empty if the provider does not give it out."""
    try:
        return await provider.fetch_program(told.update.provider_job_id)
    except NotFound:
        return b""


async def _scheduling_mode(provider: Provider, told: ProviderJob) -> SchedulingMode:
    if not told.session:
        return SchedulingMode.JOB
    try:
        return (await provider.session(told.session)).mode
    except GatewayError:  # what is told of the job must not hang on a session that may be long gone
        return SchedulingMode.SESSION


async def _client_version(provider: Provider, told: ProviderJob) -> Mapping[str, str]:
    try:
        return (await provider.metrics(told.update.provider_job_id)).client_version
    except GatewayError:
        return {}
