"""A machine or simulator, and its calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class InstructionProperties:
    """An instruction on one tuple of qubits."""

    qubits: tuple[int, ...]
    error: float | None = None
    """Error probability, 0 to 1."""
    duration: float | None = None
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """An instruction of a backend."""

    name: str
    num_qubits: int
    parameters: tuple[str, ...] = ()
    properties: tuple[InstructionProperties, ...] = ()
    """Where it can act; empty: anywhere."""


@dataclass(frozen=True, slots=True)
class QubitProperties:
    """A physical qubit: times in seconds, frequency in hertz."""

    t1: float | None = None
    t2: float | None = None
    frequency: float | None = None


@dataclass(frozen=True, slots=True)
class TimingConstraints:
    """Rules on timing, in time steps."""

    granularity: int = 1
    min_length: int = 1
    pulse_alignment: int = 1
    acquire_alignment: int = 1


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """Whether a backend takes jobs now, and how many wait."""

    operational: bool = True
    status_message: str = "active"
    pending_jobs: int = 0


@dataclass(frozen=True, slots=True)
class Backend:
    """A machine or simulator as its provider describes it."""

    name: str
    account: str
    num_qubits: int
    simulator: bool
    description: str = ""
    version: str = ""
    max_shots: int = 1_000_000
    max_circuits: int = 300
    basis_gates: tuple[str, ...] = ()
    supported_instructions: tuple[str, ...] = ()
    coupling_map: tuple[tuple[int, int], ...] = ()
    """Empty: all pairs."""
    instructions: tuple[Instruction, ...] = ()
    qubits: tuple[QubitProperties, ...] = ()
    dt: float | None = None
    """Length of the time step in seconds."""
    timing_constraints: TimingConstraints | None = None
    meas_levels: tuple[int, ...] = (2,)
    memory: bool = True
    dynamic_circuits: bool = True
    raw_programs: bool = False
    """Whether it runs programs of the provider's own definition too."""
    run_options: tuple[str, ...] = ()
    """Names of the run options that are understood."""
    online_at: datetime | None = None
    processor_type: Mapping[str, str] = field(default_factory=dict)
    default_rep_delay: float | None = None
    """Seconds; None if the delay cannot be chosen."""
    rep_delay_range: tuple[float, float] | None = None
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """A measured value: name, unit (such as `us`), value in that unit, and when it was measured."""

    parameter: str
    unit: str
    value: float
    at: datetime


@dataclass(frozen=True, slots=True)
class GateCalibration:
    """Calibration of one gate on one tuple of qubits."""

    gate: str
    name: str
    qubits: tuple[int, ...]
    parameters: tuple[Measurement, ...]


@dataclass(frozen=True, slots=True)
class BackendProperties:
    """Calibration data of a backend."""

    backend: str
    version: str
    last_update: datetime
    qubits: tuple[tuple[Measurement, ...], ...]
    gates: tuple[GateCalibration, ...]
    general: tuple[Measurement, ...] = ()
