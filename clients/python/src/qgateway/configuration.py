"""What a backend is and how it is: the models behind `GatewayBackend.configuration()` and `.status()`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from qgateway._times import optional_seconds, optional_time
from qgateway.exceptions import IBMBackendNotFoundError, IBMError
from qgateway.v1 import backend_pb2

Backend = TypeVar("Backend")


@dataclass(frozen=True)
class BackendConfiguration:
    """What a backend is: the facts that do not change from job to job.

    Attributes:
        backend_name: Name of the backend.
        backend_version: Its version; empty if the provider gives none.
        n_qubits: Number of qubits.
        simulator: Whether it is a simulator.
        max_shots: Most shots of a circuit.
        max_experiments: Most circuits of a job.
        basis_gates: Names of the gates that it runs.
        supported_instructions: Names of all instructions that it runs.
        coupling_map: Pairs of qubits that a two-qubit gate can act on; None if all pairs.
        meas_levels: Measurement levels that can be asked for.
        memory: Whether the outcome of each shot can be had.
        dynamic: Whether circuits with control flow can be run.
        run_options: Names of the run options that it understands.
        dt: Length of the time step in seconds; None if it has none.
        timing_constraints: Rules on timing in time steps; empty if there are none.
        default_rep_delay: Delay between shots in seconds where none is asked for; None if it cannot be chosen.
        rep_delay_range: Shortest and longest delay between shots in seconds; None if it cannot be chosen.
        processor_type: Family, revision and the like.
        online_date: When it went into service: aware, local zone; None if not known.
        description: What it is, for people.
        account: Account that offers it.
    """

    backend_name: str
    backend_version: str
    n_qubits: int
    simulator: bool
    max_shots: int
    max_experiments: int
    basis_gates: list[str]
    supported_instructions: list[str]
    coupling_map: list[list[int]] | None
    meas_levels: list[int]
    memory: bool
    dynamic: bool
    run_options: list[str]
    dt: float | None = None
    timing_constraints: dict[str, int] = field(default_factory=dict)
    default_rep_delay: float | None = None
    rep_delay_range: list[float] | None = None
    processor_type: dict[str, str] = field(default_factory=dict)
    online_date: datetime | None = None
    description: str = ""
    account: str = ""

    @classmethod
    def from_message(cls, message: backend_pb2.Backend) -> BackendConfiguration:
        """Return what a `qgateway.v1.Backend` tells."""
        constraints = message.timing_constraints
        shortest, longest = optional_seconds(message, "min_rep_delay"), optional_seconds(message, "max_rep_delay")
        return cls(
            backend_name=message.backend_id,
            backend_version=message.backend_version,
            n_qubits=message.num_qubits,
            simulator=message.simulator,
            max_shots=message.max_shots,
            max_experiments=message.max_circuits,
            basis_gates=list(message.basis_gates),
            supported_instructions=list(message.supported_instructions),
            coupling_map=[[pair.first, pair.second] for pair in message.coupling_map] or None,
            meas_levels=list(message.meas_levels),
            memory=message.memory,
            dynamic=message.dynamic_circuits,
            run_options=list(message.run_options),
            dt=message.dt_seconds or None,
            timing_constraints={item.name: value for item, value in constraints.ListFields()},
            default_rep_delay=optional_seconds(message, "default_rep_delay"),
            rep_delay_range=None if shortest is None or longest is None else [shortest, longest],
            processor_type=dict(message.processor_type),
            online_date=optional_time(message, "online_time"),
            description=message.description,
            account=message.account,
        )

    @property
    def num_qubits(self) -> int:
        """Number of qubits, under its newer name."""
        return self.n_qubits

    @property
    def max_circuits(self) -> int:
        """Most circuits of a job, under its newer name."""
        return self.max_experiments

    @property
    def local(self) -> bool:
        """Always False: the backend is behind the gateway."""
        return False

    @property
    def open_pulse(self) -> bool:
        """Always False: pulses are not accepted."""
        return False

    @property
    def conditional(self) -> bool:
        """Whether gates can depend on outcomes: the same as `dynamic`."""
        return self.dynamic

    @property
    def dynamic_reprate_enabled(self) -> bool:
        """Whether the delay between shots can be chosen."""
        return self.rep_delay_range is not None

    def to_dict(self) -> dict[str, Any]:
        """Return all attributes as a dictionary."""
        return asdict(self)


@dataclass(frozen=True)
class BackendStatus:
    """Whether a backend takes jobs now, and how many wait.

    Attributes:
        backend_name: Name of the backend.
        backend_version: Its version; empty if the provider gives none.
        operational: Whether it takes jobs.
        pending_jobs: Number of jobs that wait.
        status_msg: The provider's word, such as `active` or `maintenance`.
    """

    backend_name: str
    backend_version: str
    operational: bool
    pending_jobs: int
    status_msg: str

    @classmethod
    def from_message(cls, message: backend_pb2.Backend) -> BackendStatus:
        """Return what a `qgateway.v1.Backend` tells."""
        status = message.status
        return cls(
            backend_name=message.backend_id,
            backend_version=message.backend_version,
            operational=status.operational,
            pending_jobs=status.pending_jobs,
            status_msg=status.status_message,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all attributes as a dictionary."""
        return asdict(self)


def matches(message: backend_pb2.Backend, wanted: Mapping[str, Any]) -> bool:
    """Return whether a backend's configuration or status has some values. An attribute that does not exist matches nothing.

    Args:
        message: The backend as the gateway sent it.
        wanted: Values by the name of the attribute.
    """
    facts = (BackendConfiguration.from_message(message), BackendStatus.from_message(message))
    missing = object()
    return all(any(getattr(fact, key, missing) == value for fact in facts) for key, value in wanted.items())


def retired(name: str, account: str) -> backend_pb2.Backend:
    """Return the stand-in for a backend that the gateway no longer has: not operational, so that it refuses to run."""
    message = backend_pb2.Backend(name=f"accounts/{account}/backends/{name}", backend_id=name, account=account)
    message.status.status_message = "retired"
    return message


def the_one(found: Sequence[Backend], name: str | None) -> Backend:
    """Return the only backend that was found; where they were looked for by name, the first.

    Raises:
        IBMBackendNotFoundError: There is none, or more than one.
    """
    if not found or (name is None and len(found) > 1):
        problem = "More than one backend matches" if found else "No backend matches"
        raise IBMBackendNotFoundError(f"{problem}. provider.backends() lists what there is.")
    return found[0]


def choose_least_busy(candidates: Iterable[tuple[BackendStatus, Backend]]) -> Backend:
    """Return the backend with the fewest waiting jobs, among those that are operational and `active`.

    Args:
        candidates: Backends with their status.

    Raises:
        IBMError: There are none, or none takes jobs.
    """
    usable = [(state, backend) for state, backend in candidates if state.operational and state.status_msg == "active"]
    if not usable:
        raise IBMError("No backend takes jobs at the moment, or none matches.")
    return min(usable, key=lambda pair: pair[0].pending_jobs)[1]
