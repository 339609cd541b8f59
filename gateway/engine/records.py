"""What providers know of a job beside its result."""

from __future__ import annotations

from gateway.domain.access import Caller
from gateway.domain.backend import BackendProperties
from gateway.domain.job import Job, JobStatus
from gateway.domain.provider import ProviderMetrics
from gateway.engine.accounts import Accounts
from gateway.engine.jobs import Jobs


class Records:
    """Reads logs, metrics and calibration of jobs.

    Args:
        jobs: Finds them.
        accounts: Where they run.
    """

    def __init__(self, jobs: Jobs, accounts: Accounts) -> None:
        self._jobs = jobs
        self._accounts = accounts

    async def logs(self, caller: Caller, job_id: str) -> str:
        """Return the provider's log of a job; empty where it has none.

        Raises:
            NotFound: There is no such job.
        """
        job = await self._jobs.get(caller, job_id)
        if not job.provider_job_id:
            return ""
        return await self._accounts.provider(job.account).logs(job.provider_job_id)

    async def metrics(self, caller: Caller, job_id: str) -> tuple[Job, ProviderMetrics]:
        """Return a job and what its provider reports of it.

        Raises:
            NotFound: There is no such job.
        """
        job = await self._jobs.get(caller, job_id)
        if not job.provider_job_id:
            return job, ProviderMetrics()
        return job, await self._accounts.provider(job.account).metrics(job.provider_job_id)

    async def backend_properties(self, caller: Caller, job_id: str) -> BackendProperties | None:
        """Return the calibration of a job's backend as of its run (before that: as of now).

        Raises:
            NotFound: There is no such job.
        """
        job = await self._jobs.get(caller, job_id)
        return await self._accounts.provider(job.account).properties(job.backend, job.reached(JobStatus.RUNNING))
