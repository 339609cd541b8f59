"""Jobs and their events as serialised messages of the contract.

A job is serialised once for each of its states, however many responses and events carry it: a message that holds another one as a
field holds its bytes. Of a job, most fields are written as bytes right away, and what many jobs have in common is kept: to fill in
a message takes several times as long.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from typing import Generic, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp
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
    SchedulingMode,
    Submission,
    SubmissionState,
)
from gateway.domain.provider import QueuePlace
from gateway.domain.wire import bytes_field, number_field, text_field
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
_EVENT_OF_WATCH = job_service_pb2.WatchJobResponse.EVENT_FIELD_NUMBER
_EVENT_OF_LISTING = job_service_pb2.ListJobEventsResponse.EVENTS_FIELD_NUMBER
_DUPLICATE = job_service_pb2.SubmitJobResponse.DUPLICATE_FIELD_NUMBER
_RESUME_TOKEN = job_service_pb2.WatchJobResponse.RESUME_TOKEN_FIELD_NUMBER
_EVENT_EVENT_TIME = job_pb2.JobEvent.EVENT_TIME_FIELD_NUMBER
_EVENT_JOB = job_pb2.JobEvent.JOB_FIELD_NUMBER
_EVENT_MESSAGE = job_pb2.JobEvent.MESSAGE_FIELD_NUMBER
_EVENT_REVISION = job_pb2.JobEvent.REVISION_FIELD_NUMBER
_EVENT_TYPE = job_pb2.JobEvent.TYPE_FIELD_NUMBER
_JOB_CREATE_TIME = job_pb2.Job.CREATE_TIME_FIELD_NUMBER
_JOB_DISPLAY_NAME = job_pb2.Job.DISPLAY_NAME_FIELD_NUMBER
_JOB_END_TIME = job_pb2.Job.END_TIME_FIELD_NUMBER
_JOB_ETAG = job_pb2.Job.ETAG_FIELD_NUMBER
_JOB_NAME = job_pb2.Job.NAME_FIELD_NUMBER
_JOB_OPTIONS = job_pb2.Job.OPTIONS_FIELD_NUMBER
_JOB_PENDING_REASON = job_pb2.Job.PENDING_REASON_FIELD_NUMBER
_JOB_PROGRAM = job_pb2.Job.PROGRAM_FIELD_NUMBER
_JOB_PROVIDER_JOB_ID = job_pb2.Job.PROVIDER_JOB_ID_FIELD_NUMBER
_JOB_PROVIDER_STATUS = job_pb2.Job.PROVIDER_STATUS_FIELD_NUMBER
_JOB_REQUEST_ID = job_pb2.Job.REQUEST_ID_FIELD_NUMBER
_JOB_REVISION = job_pb2.Job.REVISION_FIELD_NUMBER
_JOB_START_TIME = job_pb2.Job.START_TIME_FIELD_NUMBER
_JOB_STATUS = job_pb2.Job.STATUS_FIELD_NUMBER
_JOB_SUBMISSION = job_pb2.Job.SUBMISSION_FIELD_NUMBER
_JOB_TAGS = job_pb2.Job.TAGS_FIELD_NUMBER
_JOB_UPDATE_TIME = job_pb2.Job.UPDATE_TIME_FIELD_NUMBER
_JOB_USAGE = job_pb2.Job.USAGE_FIELD_NUMBER
_REASON_KIND = job_pb2.PendingReason.KIND_FIELD_NUMBER
_REASON_MESSAGE = job_pb2.PendingReason.MESSAGE_FIELD_NUMBER
_REASON_RETRY_TIME = job_pb2.PendingReason.RETRY_TIME_FIELD_NUMBER
_REASON_SINCE_TIME = job_pb2.PendingReason.SINCE_TIME_FIELD_NUMBER
_TIME_SECONDS = Timestamp.SECONDS_FIELD_NUMBER
_TIME_NANOS = Timestamp.NANOS_FIELD_NUMBER


def job_response(value: Job, place: QueuePlace | None = None) -> bytes:
    """Return the response of GetJob, UpdateJob or CancelJob, with the job's place in the queue where it is known."""
    return bytes_field(_JOB_OF_RESPONSE, _job(value, place))


def submit_job_response(value: Job, place: QueuePlace | None, *, duplicate: bool) -> bytes:
    """Return the response of SubmitJob."""
    rest = number_field(_DUPLICATE, duplicate)
    return bytes_field(_JOB_OF_SUBMISSION, _job(value, place)) + rest


def list_jobs_response(jobs: Iterable[tuple[Job, QueuePlace | None]], next_page_token: str) -> bytes:
    """Return the response of ListJobs, with each job's place in the queue where it is known."""
    rest = job_service_pb2.ListJobsResponse(next_page_token=next_page_token).SerializeToString()
    return b"".join(bytes_field(_JOB_OF_LISTING, _job(value, place)) for value, place in jobs) + rest


def list_job_events_response(events: Iterable[JobEvent], next_page_token: str) -> bytes:
    """Return the response of ListJobEvents."""
    rest = job_service_pb2.ListJobEventsResponse(next_page_token=next_page_token).SerializeToString()
    return b"".join(bytes_field(_EVENT_OF_LISTING, _event(event)) for event in events) + rest


def watch_event(event: JobEvent, token: str) -> bytes:
    """Return the response of a watch that tells an event."""
    return _watch_event(event.revision, event.type, token, _Carried(event))


@lru_cache(maxsize=1024)
def _watch_event(_revision: int, _type: EventType, token: str, carried: _Carried[JobEvent]) -> bytes:
    rest = text_field(_RESUME_TOKEN, token)
    return bytes_field(_EVENT_OF_WATCH, _event(carried.value)) + rest


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


def _event(event: JobEvent) -> bytes:
    return b"".join(
        (
            number_field(_EVENT_REVISION, event.revision),
            number_field(_EVENT_TYPE, _EVENT_TYPES[event.type]),
            _time_field(_EVENT_EVENT_TIME, event.at),
            text_field(_EVENT_MESSAGE, event.message),
            bytes_field(_EVENT_JOB, _job(event.job, None)),
        )
    )


def _job(value: Job, place: QueuePlace | None) -> bytes:
    # A revision names one state of one job.
    return _state(value.id, value.revision, place, _Carried(value))


@lru_cache(maxsize=10_000)
def _state(job_id: str, _revision: int, place: QueuePlace | None, carried: _Carried[Job]) -> bytes:
    return _fixed_fields(job_id, carried) + _variable_fields(carried.value, place)


@lru_cache(maxsize=10_000)
def _fixed_fields(_job_id: str, carried: _Carried[Job]) -> bytes:
    """Return the fields that no change of a job touches."""
    value = carried.value
    versions = job_pb2.Job(client_version=value.client_version).SerializeToString() if value.client_version else b""
    return b"".join(
        (
            text_field(_JOB_NAME, f"jobs/{value.id}"),
            _time_field(_JOB_CREATE_TIME, value.created_at),
            text_field(_JOB_REQUEST_ID, value.request_id),
            _place_fields(value.account, value.backend, value.session, value.creator, value.scheduling_mode),
            bytes_field(_JOB_PROGRAM, _program_bytes(value.program)),
            bytes_field(_JOB_OPTIONS, _options.bytes_of(value.options)),
            versions,
        )
    )


@lru_cache(maxsize=1024)
def _place_fields(account: str, backend: str, session: str, creator: str, mode: SchedulingMode) -> bytes:
    message = job_pb2.Job(
        account=account, backend=backend, session=session, creator=creator, scheduling_mode=scheduling_mode(mode)
    )
    return message.SerializeToString()


@lru_cache(maxsize=1024)
def _program_bytes(summary: ProgramSummary) -> bytes:
    return program_summary(summary).SerializeToString()


class _KnownOptions:
    """The options that were serialised last: jobs of equal requests share them."""

    def __init__(self) -> None:
        self._options = RunOptions()
        self._bytes = run_options(self._options).SerializeToString()

    def bytes_of(self, options: RunOptions) -> bytes:
        """Return options as a serialised message."""
        if options is not self._options:
            self._options, self._bytes = options, run_options(options).SerializeToString()
        return self._bytes


_options = _KnownOptions()


def _variable_fields(value: Job, place: QueuePlace | None) -> bytes:
    written = [
        text_field(_JOB_DISPLAY_NAME, value.display_name),
        *[text_field(_JOB_TAGS, tag) for tag in value.tags],
        number_field(_JOB_STATUS, _STATUSES[value.status]),
        text_field(_JOB_PROVIDER_STATUS, value.provider_status),
        text_field(_JOB_PROVIDER_JOB_ID, value.provider_job_id),
        bytes_field(_JOB_SUBMISSION, _submission(value.submission)),
        _time_field(_JOB_UPDATE_TIME, value.updated_at),
        _time_field(_JOB_START_TIME, value.reached(JobStatus.RUNNING)),
        _time_field(_JOB_END_TIME, value.ended_at),
        text_field(_JOB_ETAG, etag(value)),
        bytes_field(_JOB_USAGE, _usage(value.usage)),
        number_field(_JOB_REVISION, value.revision),
    ]
    if value.pending_reason is not None:
        written.append(bytes_field(_JOB_PENDING_REASON, _pending_reason(value.pending_reason, place)))
    if place is not None or value.failure is not None or value.result is not None:
        written.append(_outcome(value, place).SerializeToString())
    return b"".join(written)


def _outcome(value: Job, place: QueuePlace | None) -> job_pb2.Job:
    """Return a message with what only some jobs have."""
    message = job_pb2.Job(queue=queue_info(place))
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


@lru_cache(maxsize=128)
def _submission(value: Submission) -> bytes:
    return job_pb2.Submission(state=_SUBMISSION_STATES[value.state], attempts=value.attempts).SerializeToString()


@lru_cache(maxsize=1024)
def _usage(value: JobUsage) -> bytes:
    return job_usage(value).SerializeToString()


def _pending_reason(reason: PendingReason, place: QueuePlace | None) -> bytes:
    message = reason.message
    if reason.kind is PendingKind.PROVIDER_QUEUE and place is not None and place.position is not None:
        message = f"{message} Position {place.position}."
    return b"".join(
        (
            number_field(_REASON_KIND, _PENDING_KINDS[reason.kind]),
            text_field(_REASON_MESSAGE, message),
            _time_field(_REASON_SINCE_TIME, reason.since),
            _time_field(_REASON_RETRY_TIME, reason.retry_at),
        )
    )


def _time_field(number: int, at: datetime | None) -> bytes:
    return b"" if at is None else bytes_field(number, _time_bytes(at))


@lru_cache(maxsize=1024)
def _time_bytes(at: datetime) -> bytes:
    """Return a time as a serialised `google.protobuf.Timestamp`. A job often has the same one several times."""
    seconds = int(at.timestamp())
    if seconds <= 0:  # it needs other numbers
        message = timestamp(at)
        return b"" if message is None else message.SerializeToString()
    return _seconds_field(seconds) + number_field(_TIME_NANOS, at.microsecond * 1000)


@lru_cache(maxsize=128)
def _seconds_field(seconds: int) -> bytes:
    return number_field(_TIME_SECONDS, seconds)
