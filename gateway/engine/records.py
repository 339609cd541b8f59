"""What is known of a job beside its result."""

from __future__ import annotations

from contextlib import suppress

from gateway.domain.access import Caller
from gateway.domain.backend import BackendProperties
from gateway.domain.errors import GatewayError
from gateway.domain.job import Job, JobStatus
from gateway.domain.provider import ProviderMetrics
from gateway.engine.accounts import Accounts
from gateway.engine.jobs import Jobs
from gateway.store import Store


class Records:
    """Reads logs, metrics and calibration of jobs: from the record of the run where there is one, else from the provider.

    Args:
        jobs: Finds them.
        accounts: Where they run.
        store: Where records are kept.
    """

    def __init__(self, jobs: Jobs, accounts: Accounts, store: Store) -> None:
        self._jobs = jobs
        self._accounts = accounts
        self._store = store

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
        """Return a job and what its provider reports of it; nothing of that while the provider does not answer.

        Raises:
            NotFound: There is no such job.
        """
        job = await self._jobs.get(caller, job_id)
        recorded = await self._store.records.read_metrics(job_id) if job.status.is_final else None
        if recorded is not None:
            return job, ProviderMetrics(values=recorded)
        metrics = ProviderMetrics()
        if job.provider_job_id:
            # Steps and usage of the job are the gateway's own: they are told all the same.
            with suppress(GatewayError):
                metrics = await self._accounts.provider(job.account).metrics(job.provider_job_id)
        return job, metrics

    async def backend_properties(self, caller: Caller, job_id: str) -> BackendProperties | None:
        """Return the calibration of a job's backend as of its run (before that: as of now).

        Raises:
            NotFound: There is no such job.
        """
        job = await self._jobs.get(caller, job_id)
        recorded = await self._store.records.read_calibration(job_id) if job.status.is_final else None
        if recorded is not None:
            return recorded
        return await self._accounts.provider(job.account).properties(job.backend, job.reached(JobStatus.RUNNING))
