"""What the provider sends, as far as the gateway reads it. Fields that are missing or null have harmless defaults."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, Field


def _or(default: Any) -> BeforeValidator:
    return BeforeValidator(lambda value: default if value is None else value)


_Text = Annotated[str, _or("")]
_Code = Annotated[str, BeforeValidator(lambda value: "" if value is None else str(value))]
_Item = TypeVar("_Item")
_Time = Annotated[datetime, AfterValidator(lambda at: at if at.tzinfo else at.replace(tzinfo=UTC))]
_Range = Annotated[tuple[float, float] | None, BeforeValidator(lambda value: value or None)]
_List = Annotated[tuple[_Item, ...], BeforeValidator(lambda value: value or ())]
_Seconds = Annotated[float, Field(ge=0, le=315_576_000_000)]
"""A length of time that `google.protobuf.Duration` can hold."""


class JobState(BaseModel):
    """How a job is."""

    status: str
    reason: _Text = ""
    reason_code: _Code = Field(default="", validation_alias=AliasChoices("reason_code", "reasonCode"))
    reason_solution: _Text = ""


class ProgramName(BaseModel):
    """Which program a job runs."""

    id: _Text = ""


class Usage(BaseModel):
    """QPU time of a job."""

    qpu_charge_time_seconds: float | None = None
    status: _Text = ""

    @property
    def charged(self) -> float | None:
        """Seconds charged; None while that is not settled."""
        return self.qpu_charge_time_seconds if self.status == "complete" else None


class JobDocument(BaseModel):
    """A job, alone or in a listing."""

    id: str
    backend: _Text = ""
    state: JobState
    status: _Text = ""
    program: ProgramName = ProgramName()
    created: _Time
    tags: _List[str] = ()
    usage: Usage | None = None
    session_id: _Text = ""
    estimated_running_time_seconds: float | None = None


class JobsPage(BaseModel):
    """A page of a listing of jobs."""

    jobs: tuple[JobDocument, ...]
    count: int


class JobProgram(BaseModel):
    """The program of a job, which is absent for private jobs."""

    program: ProgramName = ProgramName()
    params: dict[str, Any] | None = None


class SubmittedJob(BaseModel):
    """The answer to a new job."""

    id: str = Field(min_length=1)


class Timestamps(BaseModel):
    """When a job took its steps."""

    created: _Time | None = None
    running: _Time | None = None
    finished: _Time | None = None


class JobMetrics(BaseModel):
    """More about a job."""

    timestamps: Annotated[Timestamps, _or({})] = Timestamps()
    usage: Usage | None = None
    qiskit_version: _Text = ""
    circuits_execution_time_ns: int | None = None
    position_in_queue: int | None = None
    estimated_start_time: _Time | None = None
    estimated_completion_time: _Time | None = None


class DeviceStatus(BaseModel):
    """Whether a device works."""

    name: _Text = "online"
    reason: _Text = ""


class Device(BaseModel):
    """A device in the listing."""

    name: str
    status: Annotated[DeviceStatus, _or({})] = DeviceStatus()
    queue_length: Annotated[int, _or(0)] = 0


class Devices(BaseModel):
    """The listing of devices."""

    devices: tuple[Device, ...]


class Gate(BaseModel):
    """A gate of a device, and where it acts."""

    name: str
    parameters: _List[str] = ()
    coupling_map: _List[tuple[int, ...]] = ()


class Timing(BaseModel):
    """Rules on timing, in time steps."""

    granularity: Annotated[int, _or(1)] = 1
    min_length: Annotated[int, _or(1)] = 1
    pulse_alignment: Annotated[int, _or(1)] = 1
    acquire_alignment: Annotated[int, _or(1)] = 1


class Configuration(BaseModel):
    """What a device is. Times as on the wire: `dt` in nanoseconds, delays in microseconds."""

    backend_name: str
    backend_version: _Text = ""
    n_qubits: int
    basis_gates: _List[str] = ()
    gates: _List[Gate] = ()
    simulator: bool = False
    memory: Annotated[bool, _or(default=True)] = True
    coupling_map: _List[tuple[int, int]] = ()
    supported_instructions: _List[str] = ()
    online_date: _Time | None = None
    description: _Text = ""
    dt: float | None = None
    timing_constraints: Timing | None = None
    max_shots: Annotated[int, _or(100_000)] = 100_000
    max_experiments: Annotated[int, _or(300)] = 300
    meas_levels: _List[int] = ()
    dynamic_reprate_enabled: Annotated[bool, _or(default=False)] = False
    default_rep_delay: float | None = None
    rep_delay_range: _Range = None
    processor_type: Annotated[dict[str, Any], _or({})] = Field(default_factory=dict)


class Value(BaseModel):
    """A measured value."""

    name: str
    unit: _Text = ""
    value: float
    date: _Time


class GateValues(BaseModel):
    """What was measured of a gate on some qubits."""

    gate: str
    name: _Text = ""
    qubits: tuple[int, ...]
    parameters: _List[Value] = ()


class Properties(BaseModel):
    """A calibration."""

    backend_version: _Text = ""
    last_update_date: _Time
    qubits: _List[tuple[Value, ...]] = ()
    gates: _List[GateValues] = ()
    general: _List[Value] = ()


class Period(BaseModel):
    """From when to when."""

    start_time: _Time | None = None
    end_time: _Time | None = None


class InstanceUsage(BaseModel):
    """What an instance has used."""

    usage_consumed_seconds: _Seconds
    usage_limit_seconds: _Seconds | None = None
    usage_allocation_seconds: _Seconds | None = None
    usage_limit_reached: Annotated[bool, _or(default=False)] = False
    usage_period: Annotated[Period, _or({})] = Period()


class Moment(BaseModel):
    """When something came into a state."""

    timestamp: _Time


class SessionDocument(BaseModel):
    """A session or batch."""

    id: str
    backend_name: _Text = ""
    mode: _Text = "dedicated"
    state: _Text = ""
    accepting_jobs: Annotated[bool, _or(default=False)] = False
    interactive_ttl: float | None = None
    max_ttl: float | None = None
    started_at: _Time | None = None
    activated_at: _Time | None = None
    closed_at: _Time | None = None
    elapsed_time: float | None = None
    timestamps: _List[Moment] = ()
