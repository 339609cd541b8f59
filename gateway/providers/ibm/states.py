"""What the provider tells of jobs, sessions and the instance, in our terms."""

from __future__ import annotations

from datetime import datetime

import structlog

from gateway.domain.errors import Reason
from gateway.domain.job import JobFailure, JobStatus, SchedulingMode, utc_now
from gateway.domain.provider import (
    AccountUsage,
    ProviderJob,
    ProviderMetrics,
    ProviderSession,
    ProviderUpdate,
    QueuePlace,
)
from gateway.domain.session import SessionState
from gateway.providers.ibm import wire
from gateway.providers.ibm.tags import marker_of, visible

_log = structlog.get_logger(__name__)

_TOO_LONG_CODE = "1305"
_TOO_LONG_WORD = "cancelled - ran too long"
_STATUSES = {
    "initializing": JobStatus.INITIALIZING,
    "queued": JobStatus.QUEUED,
    "validating": JobStatus.VALIDATING,
    "running": JobStatus.RUNNING,
    "completed": JobStatus.DONE,
    "cancelled": JobStatus.CANCELLED,
    _TOO_LONG_WORD: JobStatus.ERROR,
    "failed": JobStatus.ERROR,
}
_SESSION_STATES = {
    "open": SessionState.OPEN,
    "active": SessionState.ACTIVE,
    "inactive": SessionState.INACTIVE,
    "closed": SessionState.CLOSED,
    # Its jobs still run.
    "pending_inactive": SessionState.ACTIVE,
    "pending_closed": SessionState.ACTIVE,
}
_MAX_MESSAGE = 2000


def status_of(job: wire.JobDocument) -> JobStatus:
    """Return where a job stands.

    A job that the provider cancelled because it ran too long has failed. A word that is not known is not final: the job counts
    as QUEUED, which says the least.
    """
    word = job.state.status.lower()
    status = _STATUSES.get(word)
    if status is None:
        _log.warning("unknown_state", provider_job_id=job.id, state=job.state.status)
        return JobStatus.QUEUED
    return JobStatus.ERROR if status is JobStatus.CANCELLED and _ran_too_long(job) else status


def update_of(job: wire.JobDocument, metrics: wire.JobMetrics | None = None, error_text: str = "") -> ProviderUpdate:
    """Return what the provider tells of a job.

    Args:
        job: The job.
        metrics: More about it, for a final job.
        error_text: What a failed job wrote.
    """
    status = status_of(job)
    times = metrics.timestamps if metrics is not None else wire.Timestamps()
    usage = (metrics.usage if metrics is not None else None) or job.usage
    return ProviderUpdate(
        provider_job_id=job.id,
        status=status,
        provider_status=job.state.status,
        at=_end(status, times),
        failure=_failure(job, status, error_text),
        charged_seconds=usage.charged if usage is not None and status.is_final else None,
        started_at=times.running,
        estimated_seconds=job.estimated_running_time_seconds,
    )


def job_of(job: wire.JobDocument, common_tag: str) -> ProviderJob:
    """Return a job as the provider lists it."""
    return ProviderJob(
        update=update_of(job),
        backend=job.backend,
        program_id=job.program.id,
        created_at=job.created,
        tags=visible(job.tags, common_tag),
        session=job.session_id,
        marker=marker_of(job.tags),
    )


def place_of(metrics: wire.JobMetrics) -> QueuePlace | None:
    """Return a job's place in the queue; None if the provider does not tell."""
    place = QueuePlace(metrics.position_in_queue, metrics.estimated_start_time, metrics.estimated_completion_time)
    return None if place == QueuePlace() else place


def metrics_of(metrics: wire.JobMetrics) -> ProviderMetrics:
    """Return what else the provider tells of a job: times of its steps, QPU seconds, version of Qiskit."""
    times, usage = metrics.timestamps, metrics.usage or wire.Usage()
    values = {
        "queued_at": times.created.isoformat() if times.created else None,
        "started_at": times.running.isoformat() if times.running else None,
        "ended_at": times.finished.isoformat() if times.finished else None,
        "qpu_charge_time_seconds": usage.qpu_charge_time_seconds,
        "usage_status": usage.status or None,
        "circuits_execution_time_ns": metrics.circuits_execution_time_ns,
        "qiskit_version": metrics.qiskit_version or None,
    }
    return ProviderMetrics(
        queue=place_of(metrics),
        values={name: str(value) for name, value in values.items() if value is not None},
        charged_seconds=usage.charged,
        settled=usage.status != "pending",
        client_version=_client_version(metrics.qiskit_version),
    )


def session_of(session: wire.SessionDocument) -> ProviderSession:
    """Return a session. One in a state that is not known has not ended."""
    return ProviderSession(
        id=session.id,
        backend=session.backend_name,
        mode=SchedulingMode.BATCH if session.mode == "batch" else SchedulingMode.SESSION,
        state=_SESSION_STATES.get(session.state.lower(), SessionState.OPEN),
        accepting_jobs=session.accepting_jobs,
        max_seconds=session.max_ttl,
        interactive_seconds=session.interactive_ttl,
        created_at=session.timestamps[0].timestamp if session.timestamps else session.started_at,
        activated_at=session.activated_at,
        closed_at=session.closed_at,
        usage_seconds=session.elapsed_time,
    )


def account_usage_of(usage: wire.InstanceUsage) -> AccountUsage:
    """Return what an instance has used of its QPU time."""
    limit = usage.usage_limit_seconds if usage.usage_limit_seconds is not None else usage.usage_allocation_seconds
    return AccountUsage(
        consumed_seconds=usage.usage_consumed_seconds,
        limit_seconds=limit,
        limit_reached=usage.usage_limit_reached,
        period_start=usage.usage_period.start_time,
        period_end=usage.usage_period.end_time,
    )


def _client_version(text: str) -> dict[str, str]:
    """Return versions by package. Two in one text are those of the client that came before, and of Qiskit's core."""
    first, _, second = text.partition(",")
    if second:
        return {"qiskit-ibm-provider": first, "qiskit-terra": second.partition(",")[0]}
    return {"qiskit": first} if first else {}


def _ran_too_long(job: wire.JobDocument) -> bool:
    return job.state.reason_code == _TOO_LONG_CODE or job.status.lower() == _TOO_LONG_WORD


def _end(status: JobStatus, times: wire.Timestamps) -> datetime:
    return times.finished if status.is_final and times.finished is not None else utc_now()


def _failure(job: wire.JobDocument, status: JobStatus, error_text: str) -> JobFailure | None:
    state = job.state
    said = " ".join(part for part in (state.reason, state.reason_solution) if part) or error_text.strip()
    if status is JobStatus.CANCELLED:
        return JobFailure(
            Reason.CANCELLED_UPSTREAM, said or "The job was cancelled at the provider.", state.reason_code
        )
    if status is not JobStatus.ERROR:
        return None
    if _ran_too_long(job) or state.status.lower() == _TOO_LONG_WORD:
        text = "The provider ended the job because it ran for longer than it may."
        return JobFailure(Reason.TIME_LIMIT_EXCEEDED, f"{text} {said}".strip(), state.reason_code or _TOO_LONG_CODE)
    # The end of a text says what went wrong; what led to it stands before.
    return JobFailure(Reason.PROVIDER_ERROR, said[-_MAX_MESSAGE:] or "The provider gave no reason.", state.reason_code)
