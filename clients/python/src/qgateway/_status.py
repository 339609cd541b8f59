"""Job statuses: those of the wire, those of Qiskit, and the words that a listing takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from qiskit.providers import JobStatus
from qiskit.providers.jobstatus import JOB_FINAL_STATES

from qgateway.exceptions import IBMBackendValueError
from qgateway.v1 import job_pb2

StatusLike: TypeAlias = JobStatus | str
"""A `JobStatus`, the name of one in any case, `pending` or `completed`."""

_PREFIX = "JOB_STATUS_"
_BY_NUMBER = {
    number: JobStatus[name.removeprefix(_PREFIX)]
    for name, number in job_pb2.JobStatus.items()
    if name.removeprefix(_PREFIX) in JobStatus.__members__
}
_BY_STATUS = {status: number for number, status in _BY_NUMBER.items()}

COMPLETED = JOB_FINAL_STATES
"""The final statuses."""
_GROUPS: dict[str, tuple[JobStatus, ...]] = {
    "pending": tuple(status for status in JobStatus if status not in COMPLETED),
    "completed": COMPLETED,
}


def from_number(number: job_pb2.JobStatus.ValueType) -> JobStatus | None:
    """Return the status of a number on the wire, or None for one that this client does not know."""
    return _BY_NUMBER.get(number)


def status_numbers(status: StatusLike | Iterable[StatusLike] | None) -> list[int]:
    """Return the numbers of the statuses that a listing is asked for; none for no condition.

    Args:
        status: One, several, or None for all.

    Raises:
        IBMBackendValueError: A word is not known, or the list is empty.
    """
    if status is None:
        return []
    asked = list(status) if isinstance(status, Iterable) and not isinstance(status, str) else [status]
    if not asked:
        raise IBMBackendValueError("status: the list is empty; leave status out to list jobs in every status.")
    wanted = {found for item in asked for found in _statuses(item)}
    return sorted(_BY_STATUS[found] for found in wanted)


def _statuses(item: object) -> tuple[JobStatus, ...]:
    if isinstance(item, JobStatus):
        return (item,)
    if isinstance(item, str):
        if item.lower() in _GROUPS:
            return tuple(_GROUPS[item.lower()])
        if item.upper() in JobStatus.__members__:
            return (JobStatus[item.upper()],)
    known = ", ".join([*_GROUPS, *JobStatus.__members__])
    raise IBMBackendValueError(f"status: {item!r} is not known. It is one of {known}, or a list of those.")
