"""Hands out results and programs."""

from __future__ import annotations

from gateway.domain.access import Caller
from gateway.domain.errors import FailedPrecondition, Reason
from gateway.domain.job import Job, JobStatus
from gateway.domain.program import ProgramReader
from gateway.engine.jobs import Jobs
from gateway.engine.recent_results import RecentResults
from gateway.store import Store


class Results:
    """Reads what jobs brought, and what they ran.

    Args:
        jobs: Finds them.
        store: Keeps results and programs.
        reader: Selects parts of results.
        recent_results: Results at hand.
    """

    def __init__(self, jobs: Jobs, store: Store, reader: ProgramReader, recent_results: RecentResults) -> None:
        self._jobs = jobs
        self._store = store
        self._reader = reader
        self._recent_results = recent_results

    async def result(self, caller: Caller, job_id: str) -> tuple[Job, bytes]:
        """Return a job and its result, a serialised `qgateway.v1.JobResult`.

        Raises:
            NotFound: There is no such job.
            FailedPrecondition: It has no result, or none yet.
        """
        job = await self._jobs.get(caller, job_id)
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
        job = await self._jobs.get(caller, job_id)
        return job, await self._store.read_program(job_id)
