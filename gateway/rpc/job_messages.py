"""Jobs and their events as serialised messages of the contract.

A job is serialised once for each of its states, however many responses and events carry it: a message that holds another one as a
field holds its bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Generic, TypeVar

from qgateway.v1 import job_pb2, job_service_pb2, program_pb2

from gateway.domain.job import (
    EventType,
    Job,
    JobEvent,
    JobStatus,
    JobUsage,
    MeasLevel,
    MeasReturn,
    PendingKind,
    PendingReason,
    ProgramKind,
    ProgramSummary,
    RunOptions,
    SubmissionState,
)
from gateway.domain.provider import QueuePlace
from gateway.domain.wire import field_head
from gateway.engine.transitions import etag
from gateway.rpc.messages import duration, scheduling_mode, timestamp

_T = TypeVar("_T")

_TRANSPILE = {
    None: job_pb2.TRANSPILE_OFF,
    0: job_pb2.TRANSPILE_LEVEL_0,
    1: job_pb2.TRANSPILE_LEVEL_1,
    2: job_pb2.TRANSPILE_LEVEL_2,
    3: job_pb2.TRANSPILE_LEVEL_3,
}
# Looked up once: to make a name and find its number takes longer than all else that is done with a field.
_STATUSES = {status: job_pb2.JobStatus.Value(f"JOB_STATUS_{status}") for status in JobStatus}
_SUBMISSION_STATES = {state: job_pb2.Submission.State.Value(f"STATE_{state}") for state in SubmissionState}
_MEAS_LEVELS = {level: job_pb2.MeasLevel.Value(f"MEAS_LEVEL_{level}") for level in MeasLevel}
_MEAS_RETURNS = {returned: job_pb2.MeasReturn.Value(f"MEAS_RETURN_{returned}") for returned in MeasReturn}
_PROGRAM_KINDS = {kind: program_pb2.ProgramSummary.Kind.Value(f"KIND_{kind}") for kind in ProgramKind}
_PENDING_KINDS = {kind: job_pb2.PendingReason.Kind.Value(f"KIND_{kind}") for kind in PendingKind}
_EVENT_TYPES = {kind: job_pb2.JobEvent.Type.Value(f"TYPE_{kind}") for kind in EventType}
# The responses of GetJob, UpdateJob and CancelJob are the same on the wire, and so are those of WatchJob and WatchJobs.
_JOB_OF_RESPONSE = job_service_pb2.GetJobResponse.JOB_FIELD_NUMBER
_JOB_OF_SUBMISSION = job_service_pb2.SubmitJobResponse.JOB_FIELD_NUMBER
_JOB_OF_LISTING = job_service_pb2.ListJobsResponse.JOBS_FIELD_NUMBER
_JOB_OF_EVENT = job_pb2.JobEvent.JOB_FIELD_NUMBER
_EVENT_OF_WATCH = job_service_pb2.WatchJobResponse.EVENT_FIELD_NUMBER
_EVENT_OF_LISTING = job_service_pb2.ListJobEventsResponse.EVENTS_FIELD_NUMBER


def job_response(value: Job, place: QueuePlace | None = None) -> bytes:
    """Return the response of GetJob, UpdateJob or CancelJob, with the job's place in the queue where it is known."""
    return _field(_JOB_OF_RESPONSE, _job(value, place))


def submit_job_response(value: Job, place: QueuePlace | None, *, duplicate: bool) -> bytes:
    """Return the response of SubmitJob."""
    rest = job_service_pb2.SubmitJobResponse(duplicate=duplicate).SerializeToString()
    return _field(_JOB_OF_SUBMISSION, _job(value, place)) + rest


def list_jobs_response(jobs: Iterable[tuple[Job, QueuePlace | None]], next_page_token: str) -> bytes:
    """Return the response of ListJobs, with each job's place in the queue where it is known."""
    rest = job_service_pb2.ListJobsResponse(next_page_token=next_page_token).SerializeToString()
    return b"".join(_field(_JOB_OF_LISTING, _job(value, place)) for value, place in jobs) + rest


def list_job_events_response(events: Iterable[JobEvent], next_page_token: str) -> bytes:
    """Return the response of ListJobEvents."""
    rest = job_service_pb2.ListJobEventsResponse(next_page_token=next_page_token).SerializeToString()
    return b"".join(_field(_EVENT_OF_LISTING, _event(event)) for event in events) + rest


def watch_event(event: JobEvent, token: str) -> bytes:
    """Return the response of a watch that tells an event."""
    return _watch_event(event.revision, event.type, token, _Carried(event))


@lru_cache(maxsize=1024)
def _watch_event(_revision: int, _type: EventType, token: str, carried: _Carried[JobEvent]) -> bytes:
    rest = job_service_pb2.WatchJobResponse(resume_token=token).SerializeToString()
    return _field(_EVENT_OF_WATCH, _event(carried.value)) + rest


@lru_cache(maxsize=1024)
def watch_heartbeat(token: str, interval: float, place: QueuePlace | None = None) -> bytes:
    """Return the serialised response of a watch that tells that it is alive; `interval` is in seconds."""
    heartbeat = job_service_pb2.WatchHeartbeat(interval=duration(interval), queue=queue_info(place))
    return job_service_pb2.WatchJobResponse(heartbeat=heartbeat, resume_token=token).SerializeToString()


def watch_result(result: bytes) -> bytes:
    """Return a serialised result as the field of a watch's response: to be appended to a response that is serialised."""
    response = job_service_pb2.WatchJobResponse()
    response.result.MergeFromString(result)
    return response.SerializeToString()


def job_status(status: JobStatus) -> job_pb2.JobStatus.ValueType:
    """Return a status as a message's enum."""
    return _STATUSES[status]


def queue_info(place: QueuePlace | None) -> job_pb2.QueueInfo | None:
    """Return a place in a queue as a message; None stays None."""
    if place is None:
        return None
    return job_pb2.QueueInfo(
        position=place.position,
        estimated_start_time=timestamp(place.estimated_start),
        estimated_completion_time=timestamp(place.estimated_completion),
    )


def job_usage(usage: JobUsage) -> job_pb2.JobUsage:
    """Return QPU times as a message."""
    return job_pb2.JobUsage(
        estimated_qpu_time=duration(usage.estimated_seconds), charged_qpu_time=duration(usage.charged_seconds)
    )


def run_options(options: RunOptions) -> job_pb2.RunOptions:
    """Return run options as a message, all defaults filled in."""
    message = job_pb2.RunOptions(
        shots=options.shots,
        memory=options.memory,
        meas_level=_MEAS_LEVELS[options.meas_level],
        meas_return=_MEAS_RETURNS[options.meas_return],
        init_qubits=options.init_qubits,
        rep_delay=duration(options.rep_delay),
        dynamic=options.dynamic,
        seed_simulator=options.seed_simulator,
        transpile=_TRANSPILE[options.transpile],
    )
    if options.header:
        message.header.update(dict(options.header))
    if options.provider_options:
        message.provider_options.update(dict(options.provider_options))
    return message


def program_summary(summary: ProgramSummary) -> program_pb2.ProgramSummary:
    """Return what is known of a program as a message."""
    return program_pb2.ProgramSummary(
        kind=_PROGRAM_KINDS[summary.kind],
        circuit_count=summary.circuit_count,
        size_bytes=summary.size_bytes,
        sha256=bytes.fromhex(summary.sha256),
        num_qubits=summary.num_qubits,
    )


class _Carried(Generic[_T]):
    """Carries a value past the key of a cache."""

    def __init__(self, value: _T) -> None:
        self.value = value

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Carried)


def _field(number: int, message: bytes) -> bytes:
    return field_head(number, len(message)) + message


def _event(event: JobEvent) -> bytes:
    rest = job_pb2.JobEvent(
        revision=event.revision,
        type=_EVENT_TYPES[event.type],
        event_time=timestamp(event.at),
        message=event.message,
    )
    return rest.SerializeToString() + _field(_JOB_OF_EVENT, _job(event.job, None))


def _job(value: Job, place: QueuePlace | None) -> bytes:
    # A revision names one state of one job.
    return _state(value.id, value.revision, place, _Carried(value))


@lru_cache(maxsize=10_000)
def _state(job_id: str, _revision: int, place: QueuePlace | None, carried: _Carried[Job]) -> bytes:
    return _fixed_fields(job_id, carried) + _variable_fields(carried.value, place).SerializeToString()


@lru_cache(maxsize=10_000)
def _fixed_fields(_job_id: str, carried: _Carried[Job]) -> bytes:
    """Return the fields that no change of a job touches."""
    value = carried.value
    message = job_pb2.Job(
        name=f"jobs/{value.id}",
        account=value.account,
        backend=value.backend,
        create_time=timestamp(value.created_at),
        session=value.session,
        options=run_options(value.options),
        program=program_summary(value.program),
        creator=value.creator,
        client_version=dict(value.client_version),
        scheduling_mode=scheduling_mode(value.scheduling_mode),
        request_id=value.request_id,
    )
    return message.SerializeToString()


def _variable_fields(value: Job, place: QueuePlace | None) -> job_pb2.Job:
    message = job_pb2.Job(
        display_name=value.display_name,
        tags=value.tags,
        status=job_status(value.status),
        provider_status=value.provider_status,
        provider_job_id=value.provider_job_id,
        pending_reason=_pending_reason(value.pending_reason, place),
        submission=job_pb2.Submission(
            state=_SUBMISSION_STATES[value.submission.state], attempts=value.submission.attempts
        ),
        update_time=timestamp(value.updated_at),
        start_time=timestamp(value.reached(JobStatus.RUNNING)),
        end_time=timestamp(value.ended_at),
        queue=queue_info(place),
        etag=etag(value),
        usage=job_usage(value.usage),
        revision=value.revision,
    )
    if value.failure is not None:
        message.failure.CopyFrom(
            job_pb2.JobFailure(
                reason=value.failure.reason,
                message=value.failure.message,
                provider_code=value.failure.provider_code,
            )
        )
    if value.result is not None:
        message.result.CopyFrom(
            job_pb2.ResultSummary(
                size_bytes=value.result.size_bytes,
                sha256=bytes.fromhex(value.result.sha256),
                expire_time=timestamp(value.result.expires_at),
            )
        )
    return message


def _pending_reason(reason: PendingReason | None, place: QueuePlace | None) -> job_pb2.PendingReason | None:
    if reason is None:
        return None
    message = reason.message
    if reason.kind is PendingKind.PROVIDER_QUEUE and place is not None and place.position is not None:
        message = f"{message} Position {place.position}."
    return job_pb2.PendingReason(
        kind=_PENDING_KINDS[reason.kind],
        message=message,
        since_time=timestamp(reason.since),
        retry_time=timestamp(reason.retry_at),
    )
