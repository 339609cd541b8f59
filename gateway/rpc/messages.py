"""Plain data to messages of the contract. Jobs and their events: see `gateway.rpc.job_messages`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from qgateway.v1 import account_pb2, admin_service_pb2, backend_pb2, job_pb2, session_pb2

from gateway.domain.access import Role
from gateway.domain.api_key import ApiKeyRecord
from gateway.domain.backend import Backend, BackendProperties, BackendStatus, Measurement
from gateway.domain.job import SchedulingMode
from gateway.domain.provider import AccountHealth, AccountUsage, Provider
from gateway.domain.session import Session
from gateway.domain.usage import Usage
from gateway.store import AuditRecord

# Looked up once: to make a name and find its number takes longer than all else that is done with a field.
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
    provider: Provider,
    health: AccountHealth,
    pending_jobs: int,
    budgets: Sequence[Usage] = (),
    at_provider: AccountUsage | None = None,
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
        provider_usage=None if at_provider is None else provider_usage(at_provider),
    )


def provider_usage(value: AccountUsage) -> account_pb2.ProviderUsage:
    """Return what a provider says of an account's usage as a message."""
    return account_pb2.ProviderUsage(
        start_time=timestamp(value.period_start),
        end_time=timestamp(value.period_end),
        qpu_time=duration(value.consumed_seconds),
        qpu_time_limit=duration(value.limit_seconds),
        limit_reached=value.limit_reached,
    )


def session(value: Session) -> session_pb2.Session:
    """Return a session as a message."""
    return session_pb2.Session(
        name=value.name,
        account=value.account,
        backend=value.backend,
        mode=scheduling_mode(value.mode),
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


def scheduling_mode(mode: SchedulingMode) -> job_pb2.SchedulingMode.ValueType:
    """Return how jobs are scheduled as a message's enum."""
    return _SCHEDULING_MODES[mode]


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
