"""A provider that does what a test tells it, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime

from gateway.domain.backend import Backend, BackendProperties, BackendStatus
from gateway.domain.errors import GatewayError, NotFound, Reason, Unavailable
from gateway.domain.job import JobFailure, JobStatus, RunOptions, SchedulingMode, utc_now
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
from gateway.domain.session import SessionState


class ScriptedProvider:
    """Takes jobs, and tells of them what the test says with `tell`."""

    account = "scripted"
    kind = "scripted"
    description = "Does what a test tells it."

    def __init__(self, *, volatile: bool = True) -> None:
        can = {Capability.PUSH, Capability.SESSIONS}
        self.capabilities = frozenset({Capability.VOLATILE, *can} if volatile else can)
        self.submitted: list[ProviderSubmission] = []
        self.cancelled: list[str] = []
        self.forgotten: list[str] = []
        self.results: dict[str, bytes] = {}
        """What jobs result in; by default a text that says whose it is."""
        self.tags: dict[str, tuple[str, ...]] = {}
        self.foreign: dict[str, ProviderJob] = {}
        """Jobs that did not come through the gateway."""
        self.claimed: dict[str, str] = {}
        self.sessions: dict[str, ProviderSession] = {}
        self.session_errors: list[GatewayError] = []
        """Errors that the next calls about a session raise, one each."""
        self.refusals: list[GatewayError] = []
        """Errors that the next submissions raise, one each."""
        self.used: AccountUsage | None = None
        """What the account has used; None: it does not tell."""
        self._told: asyncio.Queue[ProviderUpdate] = asyncio.Queue()
        self._backend = Backend("machine", self.account, 5, simulator=True)

    def tell(
        self,
        provider_job_id: str,
        status: JobStatus,
        failure: JobFailure | None = None,
        started_at: datetime | None = None,
    ) -> None:
        """Tell of a change."""
        update = ProviderUpdate(provider_job_id, status, status.lower(), utc_now(), failure, started_at=started_at)
        self._told.put_nowait(update)

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def reload_credentials(self) -> bool:
        return False

    async def usage(self) -> AccountUsage:
        if self.used is None:
            raise Unavailable("Ask later.")
        return self.used

    def health(self) -> AccountHealth:
        return AccountHealth(Health.SERVING, "Well.", utc_now())

    async def backends(self) -> tuple[Backend, ...]:
        return (self._backend,)

    async def backend(self, name: str) -> Backend:
        if name != self._backend.name:
            raise NotFound.backend(name)
        return self._backend

    async def backend_status(self, name: str) -> BackendStatus:
        return BackendStatus()

    async def properties(self, name: str, at: datetime | None) -> BackendProperties | None:
        return None

    def check_options(self, backend: Backend, options: RunOptions) -> None: ...

    async def ready(self) -> None: ...

    async def submit(self, submission: ProviderSubmission) -> ProviderUpdate:
        if self.refusals:
            raise self.refusals.pop(0)
        self.submitted.append(submission)
        return ProviderUpdate(submission.marker, JobStatus.QUEUED, "queued", utc_now())

    async def find(self, marker: str) -> tuple[str, ...]:
        return tuple(submission.marker for submission in self.submitted if submission.marker == marker)

    async def poll(self, provider_job_ids: tuple[str, ...]) -> tuple[ProviderUpdate, ...]:
        return tuple(self.foreign[known].update for known in provider_job_ids if known in self.foreign)

    async def updates(self) -> AsyncIterator[ProviderUpdate]:
        while True:
            yield await self._told.get()

    async def fetch_result(self, provider_job_id: str) -> bytes:
        return self.results.get(provider_job_id, f"result of {provider_job_id}".encode())

    async def forget(self, provider_job_id: str) -> None:
        self.forgotten.append(provider_job_id)

    async def queue_place(self, provider_job_id: str) -> QueuePlace | None:
        return QueuePlace(0)

    async def metrics(self, provider_job_id: str) -> ProviderMetrics:
        return ProviderMetrics(queue=QueuePlace(0))

    async def logs(self, provider_job_id: str) -> str:
        return "a log"

    async def cancel(self, provider_job_id: str) -> ProviderUpdate:
        self.cancelled.append(provider_job_id)
        failure = JobFailure(Reason.CANCELLED_BY_CALLER, "Cancelled by a caller.")
        return ProviderUpdate(provider_job_id, JobStatus.CANCELLED, "cancelled", utc_now(), failure)

    async def set_tags(self, provider_job_id: str, tags: tuple[str, ...]) -> None:
        self.tags[provider_job_id] = tags

    async def job(self, provider_job_id: str) -> ProviderJob:
        await asyncio.sleep(0)
        if provider_job_id not in self.foreign:
            raise NotFound.job(provider_job_id)
        return self.foreign[provider_job_id]

    async def fetch_program(self, provider_job_id: str) -> bytes:
        return f"program of {provider_job_id}".encode()

    async def claim(self, provider_job_id: str, marker: str) -> None:
        self.claimed[provider_job_id] = marker

    async def open_session(self, backend: str, mode: SchedulingMode, max_seconds: int | None = None) -> ProviderSession:
        name = f"session-{len(self.sessions) + 1}"
        self.sessions[name] = ProviderSession(name, backend, mode, SessionState.OPEN, accepting_jobs=True)
        return self.sessions[name]

    async def session(self, session_id: str) -> ProviderSession:
        if self.session_errors:
            raise self.session_errors.pop(0)
        if session_id not in self.sessions:
            raise NotFound.session(session_id)
        return self.sessions[session_id]

    async def close_session(self, session_id: str) -> ProviderSession:
        return await self._end_session(session_id)

    async def cancel_session(self, session_id: str) -> ProviderSession:
        return await self._end_session(session_id)

    async def _end_session(self, session_id: str) -> ProviderSession:
        session = await self.session(session_id)
        self.sessions[session_id] = replace(session, state=SessionState.CLOSED, accepting_jobs=False)
        return self.sessions[session_id]
