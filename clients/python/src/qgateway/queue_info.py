"""A job's place in the queue."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from qiskit.providers import JobStatus

from qgateway._times import optional_time, time_until, to_local
from qgateway.v1 import job_pb2


class QueueInfo:
    """A job's place in the provider's queue.

    Args:
        position_in_queue: Position as a number or text; 0 for the next to run. None or empty text: not known.
        status: Name of the job's status, such as `QUEUED`.
        estimated_start_time: When the run is expected to begin: datetime or text; without a zone it is local time.
        estimated_completion_time: When the run is expected to end: likewise.
        hub_priority: Always None here; kept for its name.
        group_priority: Always None here; kept for its name.
        project_priority: Always None here; kept for its name.
        job_id: Id of the job.
        kwargs: Anything else; readable as an attribute of the same name.

    Attributes:
        position: Position as an int, or None.
        hub_priority: As given.
        group_priority: As given.
        project_priority: As given.
        job_id: As given.

    Raises:
        ValueError: The position or a time is text that cannot be read.
    """

    def __init__(  # noqa: PLR0917 - the signature is that of the original
        self,
        position_in_queue: int | str | None = None,
        status: str | None = None,
        estimated_start_time: str | datetime | None = None,
        estimated_completion_time: str | datetime | None = None,
        hub_priority: float | None = None,
        group_priority: float | None = None,
        project_priority: float | None = None,
        job_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.position = None if position_in_queue in (None, "") else int(position_in_queue)
        self._status = status
        self._estimated_start_time = to_local(estimated_start_time)
        self._estimated_complete_time = to_local(estimated_completion_time)
        self.hub_priority = hub_priority
        self.group_priority = group_priority
        self.project_priority = project_priority
        self.job_id = job_id
        vars(self).update(kwargs)

    @classmethod
    def from_message(cls, queue: job_pb2.QueueInfo, *, status: str, job_id: str) -> QueueInfo | None:
        """Return what a `qgateway.v1.QueueInfo` tells, or None if it tells nothing.

        Args:
            queue: The message.
            status: Name of the job's status, from the same reply.
            job_id: Id of the job.
        """
        if not queue.ListFields():
            return None
        return cls(
            position_in_queue=queue.position if queue.HasField("position") else None,
            status=status,
            estimated_start_time=optional_time(queue, "estimated_start_time"),
            estimated_completion_time=optional_time(queue, "estimated_completion_time"),
            job_id=job_id,
        )

    @property
    def estimated_start_time(self) -> datetime | None:
        """When the run is expected to begin, aware, in the local zone; None if not known."""
        return self._estimated_start_time

    @property
    def estimated_complete_time(self) -> datetime | None:
        """When the run is expected to end, aware, in the local zone; None if not known."""
        return self._estimated_complete_time

    def format(self) -> str:
        """Return eight lines for people. What is not known is shown as `unknown`."""
        rows = {
            "queue position": self.position,
            "status": self._status_value(),
            "estimated start time": time_until(self._estimated_start_time) or None,
            "estimated completion time": time_until(self._estimated_complete_time) or None,
            "hub priority": self.hub_priority,
            "group priority": self.group_priority,
            "project priority": self.project_priority,
        }
        lines = [f"    {label}: {'unknown' if value is None else value}" for label, value in rows.items()]
        return "\n".join([f"Job {self.job_id} queue information:", *lines])

    def _status_value(self) -> str:
        """Return Qiskit's text for the status; a word that Qiskit does not know is shown as it is."""
        name = self._status or "unknown"
        return str(JobStatus[name].value) if name in JobStatus.__members__ else name

    def __repr__(self) -> str:
        """Return all that is known, in one line."""
        start, complete = (
            moment.isoformat() if moment else None
            for moment in (self._estimated_start_time, self._estimated_complete_time)
        )
        return (
            f"<QueueInfo(job_id='{self.job_id}', _status='{self._status or 'unknown'}', "
            f"estimated_start_time='{start}', estimated_complete_time='{complete}', position={self.position}, "
            f"hub_priority={self.hub_priority}, group_priority={self.group_priority}, "
            f"project_priority={self.project_priority})>"
        )
