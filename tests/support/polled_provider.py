"""A scripted provider that has to be asked, as one behind a network."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime

from gateway.domain.errors import GatewayError, SubmissionInDoubt
from gateway.domain.job import JobFailure, JobStatus, utc_now
from gateway.domain.provider import Capability, NoNews, ProviderSubmission, ProviderUpdate, QueuePlace
from tests.support.scripted_provider import ScriptedProvider


class PolledProvider(ScriptedProvider):
    """Takes jobs under ids of its own, and tells of them what the test said with `tell` when it is asked."""

    def __init__(self) -> None:
        super().__init__(volatile=False)
        self.capabilities = self.capabilities - {Capability.PUSH}
        self.jobs: dict[str, ProviderUpdate] = {}
        """What there is to tell of each job."""
        self.markers: dict[str, str] = {}
        """By job, what it was submitted with."""
        self.polls: list[tuple[str, ...]] = []
        """What was asked in each round."""
        self.outages: list[GatewayError] = []
        """Errors that the next rounds raise, one each."""
        self.silent: dict[str, GatewayError] = {}
        """Jobs of which there is no news, and why."""
        self.lost_replies: list[bool] = []
        """Whether the next submissions, whose replies get lost, are taken."""
        self.answering = asyncio.Event()
        """Submissions are answered while this is set."""
        self.answering.set()
        self.find_errors: list[GatewayError] = []
        self.fetch_errors: list[GatewayError] = []
        self.held: dict[str, asyncio.Event] = {}
        """Jobs whose result comes, or which are cancelled, when the event is set."""
        self.cancel_errors: list[GatewayError] = []
        self.fetched: list[str] = []
        self.places_asked: list[str] = []

    def take(self, marker: str) -> str:
        """Have a job, and return its id."""
        name = f"p{len(self.jobs)}"
        self.jobs[name] = ProviderUpdate(name, JobStatus.QUEUED, "Queued", utc_now())
        self.markers[name] = marker
        return name

    def lose(self, provider_job_id: str) -> None:
        """Know a job no more."""
        del self.jobs[provider_job_id]

    def tell(
        self,
        provider_job_id: str,
        status: JobStatus,
        failure: JobFailure | None = None,
        started_at: datetime | None = None,
    ) -> None:
        known = self.jobs[provider_job_id]
        self.jobs[provider_job_id] = replace(
            known, status=status, provider_status=status.title(), at=utc_now(), failure=failure, started_at=started_at
        )

    async def submit(self, submission: ProviderSubmission) -> ProviderUpdate:
        await self.answering.wait()
        if self.refusals:
            raise self.refusals.pop(0)
        self.submitted.append(submission)
        if self.lost_replies:
            if self.lost_replies.pop(0):
                self.take(submission.marker)
            raise SubmissionInDoubt("The line went dead.")
        return self.jobs[self.take(submission.marker)]

    async def find(self, marker: str) -> tuple[str, ...]:
        if self.find_errors:
            raise self.find_errors.pop(0)
        return tuple(name for name, its in self.markers.items() if its == marker)

    async def poll(self, provider_job_ids: tuple[str, ...]) -> tuple[ProviderUpdate | NoNews, ...]:  # type: ignore[override]
        self.polls.append(provider_job_ids)
        if self.outages:
            raise self.outages.pop(0)
        return tuple(
            NoNews(name, self.silent[name]) if name in self.silent else self.jobs[name]
            for name in provider_job_ids
            if name in self.jobs
        )

    async def fetch_result(self, provider_job_id: str) -> bytes:
        self.fetched.append(provider_job_id)
        await self._held(provider_job_id)
        if self.fetch_errors:
            raise self.fetch_errors.pop(0)
        return f"result of {provider_job_id}".encode()

    async def queue_place(self, provider_job_id: str) -> QueuePlace | None:
        self.places_asked.append(provider_job_id)
        return QueuePlace(int(provider_job_id.removeprefix("p")))

    async def cancel(self, provider_job_id: str) -> ProviderUpdate:
        await self._held(provider_job_id)
        if self.cancel_errors:
            raise self.cancel_errors.pop(0)
        told = await super().cancel(provider_job_id)
        self.tell(provider_job_id, told.status, told.failure)
        return self.jobs[provider_job_id]

    async def _held(self, provider_job_id: str) -> None:
        if (event := self.held.get(provider_job_id)) is not None:
            await event.wait()
