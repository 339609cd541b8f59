"""Parts of a job as plain values."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

from qiskit.providers import JobStatus

from qgateway import _status
from qgateway._times import local_datetime, optional_seconds, optional_time
from qgateway.v1 import job_pb2, job_service_pb2

AnyJob = TypeVar("AnyJob")


class PendingReason(NamedTuple):
    """Why a job is not done."""

    kind: str
    """Such as `PROVIDER_QUEUE`, `PROVIDER_UNREACHABLE`, `PACED`, `RUNNING`, `FETCHING_RESULT`."""
    message: str
    """One sentence for people."""
    since: datetime | None
    """Since when: aware, local zone."""
    retry_at: datetime | None
    """When the gateway tries again, where it does and knows."""


class Submission(NamedTuple):
    """How far the hand-over of a job to its provider has come."""

    state: str
    """`PENDING`, `SENT`, `UNKNOWN` (the answer was lost and the gateway is finding out), `ACCEPTED` or `REFUSED`."""
    attempts: int
    """How many times the job was sent."""


class JobEvent(NamedTuple):
    """One change in the history of a job."""

    revision: int
    """Grows with each event of the gateway and never repeats."""
    type: str
    """Such as `CREATED`, `STATUS_CHANGED`, `UPDATED`, `CANCEL_REQUESTED`, `NOTE`."""
    time: datetime
    """When it was committed: aware, local zone."""
    status: JobStatus | None
    """Status after the change. None: one that this client does not know."""
    message: str
    """One sentence for people; may be empty."""


class JobChange(NamedTuple, Generic[AnyJob]):
    """One change, as a watch of many jobs brings it."""

    job: AnyJob
    """Handle of the job, with the state after the change."""
    event: JobEvent
    """What changed. Its type is `SNAPSHOT` where the history is gone and the present state stands for it."""


def pending_reason(record: job_pb2.Job) -> PendingReason | None:
    """Return why a job is not done, or None where its record does not say."""
    if not record.HasField("pending_reason"):
        return None
    reason = record.pending_reason
    return PendingReason(
        kind=_word(job_pb2.PendingReason.Kind, reason.kind, "KIND_"),
        message=reason.message,
        since=optional_time(reason, "since_time"),
        retry_at=optional_time(reason, "retry_time"),
    )


def submission(record: job_pb2.Job) -> Submission:
    """Return how far the hand-over of a job has come."""
    return Submission(_word(job_pb2.Submission.State, record.submission.state, "STATE_"), record.submission.attempts)


def job_event(event: job_pb2.JobEvent) -> JobEvent:
    """Return an event as plain values."""
    return JobEvent(
        revision=event.revision,
        type=_word(job_pb2.JobEvent.Type, event.type, "TYPE_"),
        time=local_datetime(event.event_time),
        status=_status.from_number(event.job.status),
        message=event.message,
    )


def time_per_step(record: job_pb2.Job, metrics: job_service_pb2.GetJobMetricsResponse) -> dict[str, datetime | None]:
    """Return when a job reached each step, under both spellings of the original.

    Args:
        record: The job.
        metrics: Its metrics.

    Returns:
        `created`, `running` and `finished`, with None for what is not reached; and the name of each status that was
        reached, such as `QUEUED`.
    """
    steps = {step.status: local_datetime(step.reach_time) for step in metrics.steps}
    named = {_word(job_pb2.JobStatus, number, "JOB_STATUS_"): moment for number, moment in steps.items()}
    return {
        "created": optional_time(record, "create_time"),
        "running": optional_time(record, "start_time"),
        "finished": optional_time(record, "end_time"),
        **named,
    }


def metrics_dict(record: job_pb2.Job, metrics: job_service_pb2.GetJobMetricsResponse) -> dict[str, Any]:
    """Return all metrics of a job: times of steps, QPU seconds, versions, and what else the provider reports."""
    usage = metrics.usage if metrics.HasField("usage") else record.usage
    return {
        "timestamps": time_per_step(record, metrics),
        "usage": {
            "estimated_quantum_seconds": optional_seconds(usage, "estimated_qpu_time"),
            "quantum_seconds": optional_seconds(usage, "charged_qpu_time"),
        },
        "client_version": dict(metrics.client_version or record.client_version),
        "provider": dict(metrics.provider_metrics),
    }


def _word(enum: Any, number: int, prefix: str) -> str:
    """Return the name of an enum's number without its prefix; a number that this client does not know as digits."""
    return str(enum.Name(number)).removeprefix(prefix) if number in enum.values() else str(number)
