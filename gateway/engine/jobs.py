"""What callers can do with a job that there is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from gateway.domain.access import Caller
from gateway.domain.errors import NotFound, Unavailable
from gateway.domain.failpoints import async_failpoint
from gateway.domain.job import Job, JobStatus
from gateway.domain.provider import QueuePlace
from gateway.domain.query import JobFilter, JobPage
from gateway.engine import transitions
from gateway.engine.accounts import Accounts
from gateway.engine.audit import audit_entry
from gateway.engine.hub import Hub
from gateway.engine.poller import Poller
from gateway.engine.queue_places import QueuePlaces
from gateway.engine.recent_results import RecentResults
from gateway.engine.tracker import Tracker
from gateway.store import Store


class Jobs:
    """Finds, changes and ends jobs, on behalf of callers.

    Args:
        accounts: Where jobs run.
        store: Where they are kept.
        hub: Knows the recent ones.
        trackers: By account, who follows its jobs.
        places: By account, who knows the places in its queue; none for a provider that knows them itself.
        recent_results: Results at hand.
    """

    def __init__(
        self,
        accounts: Accounts,
        store: Store,
        hub: Hub,
        *,
        trackers: Mapping[str, Tracker | Poller],
        places: Mapping[str, QueuePlaces],
        recent_results: RecentResults,
    ) -> None:
        self._accounts = accounts
        self._store = store
        self._hub = hub
        self._trackers = trackers
        self._places = places
        self._recent_results = recent_results

    async def get(self, caller: Caller, job_id: str) -> Job:
        """Return a job.

        Raises:
            NotFound: There is none, or it is another tenant's.
        """
        job = await self._hub.job(job_id)
        if job is None or job.tenant != caller.tenant:
            raise NotFound.job(job_id)
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
        job = await self._store.change_job(job_id, change, audit_entry(caller, "job.update", job_id))
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
        job = await self._store.change_job(
            job_id, transitions.cancel_requested, audit_entry(caller, "job.cancel", job_id)
        )
        # A job that is on its way is cancelled as soon as it is known that the provider has it.
        if job.status.is_final or not job.provider_job_id:
            return job
        await async_failpoint("cancel.stored")
        try:
            update = await self._accounts.provider(job.account).cancel(job.provider_job_id)
        except NotFound:
            raise Unavailable(
                "The provider does not have the job yet, or no longer. Try again in a moment.", retry_after=1.0
            ) from None
        await async_failpoint("cancel.answered")
        await self._trackers[job.account].apply(update)
        return await self.get(caller, job_id)

    async def delete(self, caller: Caller, job_id: str) -> None:
        """Delete a final job with everything that belongs to it.

        Raises:
            NotFound: There is no such job.
            FailedPrecondition: It is not final.
        """
        await self.get(caller, job_id)
        await self._store.delete_job(job_id, transitions.check_deletable, audit_entry(caller, "job.delete", job_id))
        self._recent_results.drop(job_id)

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
