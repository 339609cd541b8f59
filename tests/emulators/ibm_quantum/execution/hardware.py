"""The devices: what they look like on the wire, and the simulators that stand for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qiskit.circuit import QuantumCircuit
    from qiskit.transpiler import Target
    from qiskit_aer import AerSimulator

_GATES = ("cz", "id", "rx", "rz", "rzz", "sx", "x")
_PARAMETRIC = frozenset({"rx", "rz", "rzz"})
_CONTROL_FLOW = ("if_else",)
_MAX_SHOTS = 100_000
_SAME_EVERYWHERE = "2025-01-01T05:00:00Z"


@dataclass(frozen=True)
class Blueprint:
    """From what a device is made.

    Args:
        name: Its name.
        edges: Which qubits are coupled.
        seed: Of its errors and durations.
        offline: Whether it does not work at the start.
        mock: Whether it is the mock of a device.
    """

    name: str
    edges: tuple[tuple[int, int], ...]
    seed: int
    offline: bool = False
    mock: bool = False

    @property
    def qubits(self) -> int:
        """How many qubits it has."""
        return 1 + max(max(edge) for edge in self.edges)


_LINE = ((0, 1), (1, 2), (2, 3), (3, 4))
_LETTER_H = ((0, 1), (1, 2), (1, 3), (3, 5), (4, 5), (5, 6))

BLUEPRINTS = {
    blueprint.name: blueprint
    for blueprint in (
        Blueprint("ibm_alder", _LINE, seed=11),
        Blueprint("ibm_birch", _LETTER_H, seed=12),
        Blueprint("ibm_cedar", _LINE, seed=13, offline=True),
        Blueprint("mock_alder", _LINE, seed=11, mock=True),
    )
}


@dataclass(frozen=True)
class Description:
    """A device as the service tells of it."""

    name: str
    offline: bool
    mock: bool
    configuration: dict[str, Any]
    properties: dict[str, Any]


@dataclass(frozen=True)
class Machine:
    """A device that can run circuits."""

    name: str
    target: Target
    simulator: AerSimulator
    rep_delay_range: tuple[float, float] = (20.0, 500.0)
    """In microseconds."""
    default_rep_delay: float = 250.0
    """In microseconds."""
    max_shots: int = _MAX_SHOTS

    def unsupported(self, circuit: QuantumCircuit) -> str | None:
        """Return the first instruction that the device cannot run, with its qubits, or None if it can run all."""
        return next(self._unsupported(circuit, range(circuit.num_qubits)), None)

    def _unsupported(self, circuit: QuantumCircuit, qubits: Iterable[int]) -> Iterator[str]:
        outside = tuple(qubits)
        if len(outside) > self.target.num_qubits:
            yield f"a circuit of {len(outside)} qubits"
        for instruction in circuit.data:
            operation = instruction.operation
            inside = tuple(outside[circuit.find_bit(qubit).index] for qubit in instruction.qubits)
            blocks = getattr(operation, "blocks", ())
            if operation.name in _CONTROL_FLOW:
                for block in blocks:
                    yield from self._unsupported(block, inside)
            elif operation.name != "barrier" and not self._supports(operation.name, inside):
                yield f"the instruction {operation.name} on qubits {inside}"

    def _supports(self, name: str, qubits: tuple[int, ...]) -> bool:
        if name not in {*_GATES, "measure", "reset", "delay"}:
            return False
        return bool(self.target.instruction_supported(name, qubits))


@cache
def machine(name: str, *, noise: bool) -> Machine:
    """Return the machine of this name, with its noise or ideal."""
    from qiskit_aer import AerSimulator

    backend = _generic_backend(BLUEPRINTS[name])
    simulator = AerSimulator.from_backend(backend) if noise else AerSimulator()
    return Machine(name, backend.target, simulator)


def describe() -> list[Description]:
    """Return what the service tells of every device."""
    return [_describe(blueprint) for blueprint in BLUEPRINTS.values()]


def _describe(blueprint: Blueprint) -> Description:
    target = _generic_backend(blueprint).target
    return Description(
        blueprint.name, blueprint.offline, blueprint.mock, _configuration(blueprint, target), _properties(target)
    )


@cache
def _generic_backend(blueprint: Blueprint) -> Any:
    from qiskit.providers.fake_provider import GenericBackendV2

    both_ways = [edge for a, b in blueprint.edges for edge in ([a, b], [b, a])]
    return GenericBackendV2(
        blueprint.qubits, basis_gates=list(_GATES), coupling_map=both_ways, control_flow=True, seed=blueprint.seed
    )


def _configuration(blueprint: Blueprint, target: Target) -> dict[str, Any]:
    edges = sorted(list(qubits) for qubits in target["cz"])
    gates = [
        {
            "name": name,
            "parameters": ["theta"] if name in _PARAMETRIC else [],
            "qasm_def": f"gate {name} ...",
            "coupling_map": sorted(list(qubits) for qubits in target[name]),
        }
        for name in (*_GATES, "reset")
    ]
    return {
        "backend_name": blueprint.name,
        "backend_version": "1.0.0",
        "n_qubits": blueprint.qubits,
        "basis_gates": list(_GATES),
        "gates": gates,
        "local": False,
        "simulator": False,
        "conditional": False,
        "open_pulse": False,
        "memory": True,
        "max_shots": _MAX_SHOTS,
        "coupling_map": edges,
        "dynamic_reprate_enabled": True,
        "supported_instructions": [*_GATES, "delay", "measure", "reset", *_CONTROL_FLOW],
        "rep_delay_range": list(Machine.rep_delay_range),
        "default_rep_delay": Machine.default_rep_delay,
        "max_experiments": 300,
        "sample_name": "family: Heron, revision: 2",
        "n_registers": 1,
        "credits_required": True,
        "online_date": "2025-01-01T05:00:00+00:00",
        "description": f"{blueprint.qubits} qubit device",
        "dt": 4.0,
        "dtm": 4.0,
        "processor_type": {"family": "Heron", "revision": "2"},
        "allow_q_object": True,
        "clops_h": 200_000,
        "meas_levels": [1, 2],
        "meas_map": [list(range(blueprint.qubits))],
        "measure_esp_enabled": False,
        "multi_meas_enabled": True,
        "parallel_compilation": True,
        "quantum_volume": None,
        "supported_features": ["qasm3", "parameters"],
        "timing_constraints": {"acquire_alignment": 1, "granularity": 1, "min_length": 2, "pulse_alignment": 1},
        "instruction_signatures": [],
        "url": "None",
    }


def _properties(target: Target) -> dict[str, Any]:
    gates = [
        {
            "qubits": list(qubits),
            "gate": name,
            "name": name + "_".join(map(str, qubits)),
            "parameters": [
                _item("gate_error", "", entry.error or 0.0),
                _item("gate_length", "ns", (entry.duration or 0.0) * 1e9),
            ],
        }
        for name in (*_GATES, "reset")
        for qubits, entry in sorted(target[name].items())
    ]
    return {
        "backend_version": "1.0.0",
        "last_update_date": _SAME_EVERYWHERE,
        "qubits": [_qubit(target, qubit) for qubit in range(target.num_qubits)],
        "gates": gates,
        "general": [],
    }


def _qubit(target: Target, qubit: int) -> list[dict[str, Any]]:
    times, measure = target.qubit_properties[qubit], target["measure"][(qubit,)]
    return [
        _item("T1", "us", times.t1 * 1e6),
        _item("T2", "us", times.t2 * 1e6),
        _item("frequency", "GHz", times.frequency / 1e9),
        _item("readout_error", "", measure.error),
        _item("prob_meas0_prep1", "", measure.error),
        _item("prob_meas1_prep0", "", measure.error),
        _item("readout_length", "ns", measure.duration * 1e9),
        _item("operational", "", 1),
    ]


def _item(name: str, unit: str, value: float) -> dict[str, Any]:
    return {"date": _SAME_EVERYWHERE, "name": name, "unit": unit, "value": value}
