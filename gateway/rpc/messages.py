"""Plain data to messages of the contract."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Generic, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from qgateway.v1 import account_pb2, admin_service_pb2, backend_pb2, job_pb2, job_service_pb2, program_pb2, session_pb2

from gateway.domain.access import Role
from gateway.domain.api_key import ApiKeyRecord
from gateway.domain.backend import Backend, BackendProperties, BackendStatus, Measurement
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
    SubmissionState,
)
from gateway.domain.provider import AccountHealth, Provider, QueuePlace
from gateway.domain.session import Session
from gateway.domain.usage import Usage
from gateway.engine.transitions import etag
from gateway.store import AuditRecord

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
_SCHEDULING_MODES = {mode: job_pb2.SchedulingMode.Value(f"SCHEDULING_MODE_{mode}") for mode in SchedulingMode}


def timestamp(at: datetime | None) -> Timestamp | None:
    """Return a time as a message; None stays None."""
    if at is None:
        return None
    return Timestamp(seconds=int(at.timestamp() // 1), nanos=at.microsecond * 1000)


def duration(seconds: float | None) -> Duration | None:
    """Return a length of time as a message; None stays None."""
    if seconds is None:
        return None
    message = Duration()
    message.FromNanoseconds(round(seconds * 1e9))
    return message


def job_status(status: JobStatus) -> job_pb2.JobStatus.ValueType:
    """Return a status as a message's enum."""
    return _STATUSES[status]


def job(value: Job, place: QueuePlace | None = None) -> job_pb2.Job:
    """Return a job as a message, with its place in the queue where it is known.

    The message is shared between callers of the same state of the job: do not change it.
    """
    # A revision names one state of one job, so the message can be kept by it.
    return _job(value.id, value.revision, place, _Carried(value))


class _Carried(Generic[_T]):
    """Carries a value past the key of a cache."""

    def __init__(self, value: _T) -> None:
        self.value = value

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Carried)


@lru_cache(maxsize=10_000)
def _job(_job_id: str, _revision: int, place: QueuePlace | None, carried: _Carried[Job]) -> job_pb2.Job:
    value = carried.value
    message = job_pb2.Job(
        name=f"jobs/{value.id}",
        display_name=value.display_name,
        tags=value.tags,
        account=value.account,
        backend=value.backend,
        status=job_status(value.status),
        provider_status=value.provider_status,
        provider_job_id=value.provider_job_id,
        pending_reason=_pending_reason(value.pending_reason, place),
        submission=job_pb2.Submission(
            state=_SUBMISSION_STATES[value.submission.state], attempts=value.submission.attempts
        ),
        create_time=timestamp(value.created_at),
        update_time=timestamp(value.updated_at),
        start_time=timestamp(value.reached(JobStatus.RUNNING)),
        end_time=timestamp(value.ended_at),
        session=value.session,
        options=run_options(value.options),
        program=program_summary(value.program),
        queue=queue_info(place),
        etag=etag(value),
        usage=job_usage(value.usage),
        creator=value.creator,
        client_version=dict(value.client_version),
        scheduling_mode=_scheduling_mode(value.scheduling_mode),
        revision=value.revision,
        request_id=value.request_id,
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


def get_job_response(value: Job, place: QueuePlace | None = None) -> bytes:
    """Return the serialised response of GetJob: the call that is made most, and mostly about a job that has not changed."""
    return _get_job_response(value.id, value.revision, place, _Carried(value))


@lru_cache(maxsize=10_000)
def _get_job_response(_job_id: str, _revision: int, place: QueuePlace | None, carried: _Carried[Job]) -> bytes:
    return job_service_pb2.GetJobResponse(job=job(carried.value, place)).SerializeToString()


def job_event(event: JobEvent) -> job_pb2.JobEvent:
    """Return an event as a message."""
    return job_pb2.JobEvent(
        revision=event.revision,
        type=_EVENT_TYPES[event.type],
        event_time=timestamp(event.at),
        job=job(event.job),
        message=event.message,
    )


def watch_event(event: JobEvent, token: str) -> bytes:
    """Return the serialised response of a watch that tells an event.

    The responses of `WatchJob` and `WatchJobs` are the same on the wire.
    """
    return _watch_event(event.revision, event.type, token, _Carried(event))


@lru_cache(maxsize=1024)
def _watch_event(_revision: int, _type: EventType, token: str, carried: _Carried[JobEvent]) -> bytes:
    response = job_service_pb2.WatchJobResponse(event=job_event(carried.value), resume_token=token)
    return response.SerializeToString()


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


def backend(value: Backend, status: BackendStatus, *, full: bool) -> backend_pb2.Backend:
    """Return a backend as a message; `full` adds instructions and qubits."""
    message = backend_pb2.Backend(
        name=f"accounts/{value.account}/backends/{value.name}",
        backend_id=value.name,
        account=value.account,
        description=value.description,
        backend_version=value.version,
        num_qubits=value.num_qubits,
        simulator=value.simulator,
        status=backend_pb2.BackendStatus(
            operational=status.operational,
            status_message=status.status_message,
            pending_jobs=status.pending_jobs,
        ),
        max_shots=value.max_shots,
        max_circuits=value.max_circuits,
        basis_gates=value.basis_gates,
        supported_instructions=value.supported_instructions,
        coupling_map=[backend_pb2.QubitPair(first=first, second=second) for first, second in value.coupling_map],
        time_step=duration(value.dt),
        dt_seconds=value.dt or 0.0,
        meas_levels=value.meas_levels,
        memory=value.memory,
        dynamic_circuits=value.dynamic_circuits,
        run_options=value.run_options,
        online_time=timestamp(value.online_at),
        processor_type=dict(value.processor_type),
        default_rep_delay=duration(value.default_rep_delay),
    )
    if value.rep_delay_range is not None:
        shortest, longest = value.rep_delay_range
        message.min_rep_delay.FromNanoseconds(round(shortest * 1e9))
        message.max_rep_delay.FromNanoseconds(round(longest * 1e9))
    if (timing := value.timing_constraints) is not None:
        message.timing_constraints.CopyFrom(
            backend_pb2.TimingConstraints(
                granularity=timing.granularity,
                min_length=timing.min_length,
                pulse_alignment=timing.pulse_alignment,
                acquire_alignment=timing.acquire_alignment,
            )
        )
    if full:
        _add_details(message, value)
    return message


def backend_properties(value: BackendProperties | None) -> backend_pb2.BackendProperties | None:
    """Return calibration data as a message; None stays None."""
    if value is None:
        return None
    return backend_pb2.BackendProperties(
        backend_id=value.backend,
        backend_version=value.version,
        last_update_time=timestamp(value.last_update),
        qubits=[backend_pb2.QubitCalibration(parameters=map(_measurement, parameters)) for parameters in value.qubits],
        gates=[
            backend_pb2.GateCalibration(
                gate=gate.gate,
                gate_name=gate.name,
                qubits=gate.qubits,
                parameters=map(_measurement, gate.parameters),
            )
            for gate in value.gates
        ],
        general=map(_measurement, value.general),
    )


def usage(value: Usage) -> account_pb2.Usage:
    """Return what was used as a message."""
    return account_pb2.Usage(
        limit_name=value.limit_name,
        tenant=value.tenant,
        account=value.account,
        tag=value.tag,
        start_time=timestamp(value.start),
        end_time=timestamp(value.end),
        used=value.used,
        reserved=value.reserved,
        limit=value.limit,
        qpu_time=duration(value.used) if value.limit_name.startswith("qpu_seconds") else None,
        jobs=value.jobs,
    )


def account(
    provider: Provider, health: AccountHealth, pending_jobs: int, budgets: Sequence[Usage] = ()
) -> account_pb2.Account:
    """Return a provider account as a message."""
    return account_pb2.Account(
        name=f"accounts/{provider.account}",
        provider=provider.kind,
        description=provider.description,
        health=account_pb2.Account.Health.Value(f"HEALTH_{health.health}"),
        health_message=health.message,
        health_change_time=timestamp(health.since),
        pending_jobs=pending_jobs,
        budgets=map(usage, budgets),
    )


def session(value: Session) -> session_pb2.Session:
    """Return a session as a message."""
    return session_pb2.Session(
        name=value.name,
        account=value.account,
        backend=value.backend,
        mode=_scheduling_mode(value.mode),
        state=session_pb2.Session.State.Value(f"STATE_{value.state}"),
        accepting_jobs=value.accepting_jobs,
        max_time=duration(value.max_seconds),
        interactive_timeout=duration(value.interactive_seconds),
        create_time=timestamp(value.created_at),
        activate_time=timestamp(value.activated_at),
        close_time=timestamp(value.closed_at),
        usage_time=duration(value.usage_seconds),
        provider_session_id=value.provider_session_id,
    )


def _scheduling_mode(mode: SchedulingMode) -> job_pb2.SchedulingMode.ValueType:
    return _SCHEDULING_MODES[mode]


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


def _add_details(message: backend_pb2.Backend, value: Backend) -> None:
    message.instructions.extend(
        backend_pb2.Instruction(
            instruction_name=instruction.name,
            num_qubits=instruction.num_qubits,
            parameters=instruction.parameters,
            properties=[
                backend_pb2.InstructionProperties(
                    qubits=place.qubits, error=place.error, duration_seconds=place.duration
                )
                for place in instruction.properties
            ],
        )
        for instruction in value.instructions
    )
    message.qubits.extend(
        backend_pb2.QubitProperties(t1_seconds=qubit.t1, t2_seconds=qubit.t2, frequency_hertz=qubit.frequency)
        for qubit in value.qubits
    )


def _measurement(value: Measurement) -> backend_pb2.Measurement:
    return backend_pb2.Measurement(
        measure_time=timestamp(value.at), parameter=value.parameter, unit=value.unit, value=value.value
    )


def audit_record(record: AuditRecord) -> admin_service_pb2.AuditRecord:
    """Return a record of the audit trail as a message."""
    entry = record.entry
    return admin_service_pb2.AuditRecord(
        sequence=record.sequence,
        record_time=timestamp(entry.at),
        caller=entry.caller,
        tenant=entry.tenant,
        peer=entry.peer,
        action=entry.action,
        resource=entry.resource,
        outcome=entry.outcome,
        request_id=entry.request_id,
        hash=bytes.fromhex(record.hash),
    )


def api_key(key: ApiKeyRecord) -> admin_service_pb2.ApiKey:
    """Return an API key as a message, without its secret and its hash."""
    return admin_service_pb2.ApiKey(
        name=f"apiKeys/{key.id}",
        display_name=key.display_name,
        tenant=key.tenant,
        roles=[_ROLES[key.role]],
        create_time=timestamp(key.created_at),
        expire_time=timestamp(key.expires_at),
        last_use_time=timestamp(key.last_used_at and key.last_used_at.replace(second=0, microsecond=0)),
        revoke_time=timestamp(key.revoked_at),
    )


_ROLES = {
    Role.VIEWER: admin_service_pb2.ROLE_VIEWER,
    Role.SUBMITTER: admin_service_pb2.ROLE_SUBMITTER,
    Role.OPERATOR: admin_service_pb2.ROLE_OPERATOR,
}
