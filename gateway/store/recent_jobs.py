"""The jobs that were written last: most are changed again in a moment, and need not be read for that."""

from __future__ import annotations

from collections import OrderedDict

from gateway.domain.job import Job

_CAPACITY = 256


class RecentJobs:
    """Jobs as the only connection that writes has left them, with their numbers in the table."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, tuple[int, Job]] = OrderedDict()

    def get(self, job_id: str) -> tuple[int, Job] | None:
        """Return number and job, if it is among them."""
        return self._jobs.get(job_id)

    def put(self, seq: int, job: Job) -> None:
        """Remember a job as it was just written."""
        self._jobs[job.id] = (seq, job)
        self._jobs.move_to_end(job.id)
        if len(self._jobs) > _CAPACITY:
            self._jobs.popitem(last=False)

    def drop(self, job_id: str) -> None:
        """Forget a job that was deleted."""
        self._jobs.pop(job_id, None)

    def clear(self) -> None:
        """Forget all, because something that was written is undone."""
        self._jobs.clear()
