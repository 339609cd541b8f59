"""The simulated machines: one ideal, two with the coupling, the gates, the timing and the noise of a device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cache, cached_property

import qiskit_aer
from qiskit import QuantumCircuit
from qiskit.circuit import Measure
from qiskit.circuit.library import get_standard_gate_name_mapping
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.transpiler import CouplingMap, Target
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel
from qiskit_aer.noise.device import basic_device_gate_errors, basic_device_readout_errors
from qiskit_aer.noise.errors import QuantumError, ReadoutError

from gateway.domain.backend import (
    Backend,
    BackendProperties,
    GateCalibration,
    Instruction,
    InstructionProperties,
    Measurement,
    QubitProperties,
)
from gateway.workers.tasks.circuits import instructions

_CALIBRATED_AT = datetime(2026, 1, 1, tzinfo=UTC)
"""When the noisy machines came to be as they are. Their calibration follows from a fixed seed and never changes."""
_SEED = 27
_AMPLITUDE_BYTES = 16
STATE_SHARE = 0.95
"""How much of a run's memory the quantum state may fill; the rest is for everything else."""
_MOST_QUBITS = 63

_CONTROL_FLOW = ("if_else", "for_loop", "while_loop", "switch_case", "break_loop", "continue_loop")
_PRIMITIVES = ("measure", "reset", "delay", "barrier")
_ANY_WIDTH = ("diagonal", "initialize", "mcphase", "mcx", "pauli", "unitary")
"""Instructions of Qiskit's library that act on any number of qubits, and that Aer runs as they are."""
_RUN_OPTIONS = ("shots", "memory", "seed_simulator", "header", "dynamic", "transpile")

_T_SHAPE = ((0, 1), (1, 2), (1, 3), (3, 4))
_HEAVY_HEX = (
    *((0, 1), (1, 2), (1, 4), (2, 3), (3, 5), (4, 7), (5, 8), (6, 7), (7, 10), (8, 9), (8, 11), (10, 12), (11, 14)),
    *((12, 13), (12, 15), (13, 14), (14, 16), (15, 18), (16, 19), (17, 18), (18, 21), (19, 20), (19, 22), (21, 23)),
    *((22, 25), (23, 24), (24, 25), (25, 26)),
)  # fmt: skip
"""Two hexagons and a bit, 27 qubits, none with more than three neighbours."""


class IdealDevice:
    """A simulator without noise, on which every gate can act everywhere."""

    name = "local_simulator"

    def noise_model(self, circuits: Iterable[QuantumCircuit]) -> None:
        """Return nothing: there is no noise."""

    def backend(self, memory_limit: int) -> Backend:
        """Describe it; its width is what fits into the memory of a run, in bytes."""
        aer_gates = set(AerSimulator().configuration().basis_gates)
        gates = {name: gate for name, gate in get_standard_gate_name_mapping().items() if name in aer_gates}
        return Backend(
            name=self.name,
            account="",
            num_qubits=min(_MOST_QUBITS, int(math.log2(memory_limit * STATE_SHARE / _AMPLITUDE_BYTES))),
            simulator=True,
            description="Simulates circuits without noise.",
            version=qiskit_aer.__version__,
            basis_gates=tuple(sorted(gates.keys() - {*_PRIMITIVES})),
            supported_instructions=tuple(sorted({*gates, *_ANY_WIDTH, *_PRIMITIVES, *_CONTROL_FLOW})),
            instructions=tuple(
                Instruction(name, gate.num_qubits, tuple(parameter.name for parameter in gate.params))
                for name, gate in sorted({**gates, "measure": Measure()}.items())
            ),
            run_options=_RUN_OPTIONS,
            online_at=_CALIBRATED_AT,
            processor_type={"family": "Simulator"},
        )

    def properties(self) -> None:
        """Return nothing: there is no calibration."""


class NoisyDevice:
    """A simulator with the noise of a device.

    Args:
        name: Name of the backend.
        couplings: Pairs of qubits that are coupled, in both directions.
        family: Family of processors that it resembles.
    """

    def __init__(self, name: str, couplings: Iterable[tuple[int, int]], family: str) -> None:
        self.name = name
        self._family = family
        self._couplings = tuple(pair for first, second in couplings for pair in ((first, second), (second, first)))

    def noise_model(self, circuits: Iterable[QuantumCircuit]) -> NoiseModel:
        """Return the noise of all that some circuits do.

        The whole model is as good, but handing all of it to Aer takes longer than most runs.
        """
        used = {(item.name, qubits) for circuit in circuits for item, qubits in instructions(circuit)}
        if any(name == "delay" for name, _ in used):
            return self._whole_noise_model
        model = NoiseModel(basis_gates=list(self._target.operation_names))
        for key in sorted(used & self._gate_errors.keys()):
            model.add_quantum_error(self._gate_errors[key], *key)
        for key in sorted(used & self._readout_errors.keys()):
            model.add_readout_error(self._readout_errors[key], key[1])
        return model

    def backend(self, memory_limit: int) -> Backend:
        """Describe it. Its width does not depend on the memory of a run: only the qubits in use take memory."""
        del memory_limit
        target = self._target
        names = [name for name in target.operation_names if name not in {*_NOT_RUN, *_SPELT}]
        gates = tuple(name for name in names if name not in {*_PRIMITIVES, *_CONTROL_FLOW})
        return Backend(
            name=self.name,
            account="",
            num_qubits=target.num_qubits,
            simulator=True,
            description=f"Simulates circuits with the noise of a device of {target.num_qubits} qubits.",
            version=qiskit_aer.__version__,
            basis_gates=gates,
            supported_instructions=(*gates, *_PRIMITIVES, *_CONTROL_FLOW),
            coupling_map=self._couplings,
            instructions=tuple(_instruction(target, name) for name in names if name not in _CONTROL_FLOW),
            qubits=tuple(QubitProperties(qubit.t1, qubit.t2, qubit.frequency) for qubit in target.qubit_properties),
            dt=target.dt,
            run_options=_RUN_OPTIONS,
            online_at=_CALIBRATED_AT,
            processor_type={"family": self._family},
        )

    def properties(self) -> BackendProperties:
        """Return its calibration."""
        target = self._target
        gates = [
            name for name in target.operation_names if name not in {*_PRIMITIVES, *_CONTROL_FLOW, *_NOT_RUN, *_SPELT}
        ]
        return BackendProperties(
            backend=self.name,
            version=qiskit_aer.__version__,
            last_update=_CALIBRATED_AT,
            qubits=tuple(tuple(_qubit_calibration(target, qubit)) for qubit in range(target.num_qubits)),
            gates=tuple(_gate_calibration(target, gate, qubits) for gate in gates for qubits in sorted(target[gate])),
        )

    @cached_property
    def _generic(self) -> GenericBackendV2:
        width = 1 + max(qubit for pair in self._couplings for qubit in pair)
        return GenericBackendV2(width, coupling_map=CouplingMap(self._couplings), control_flow=True, seed=_SEED)

    @property
    def _target(self) -> Target:
        return self._generic.target

    @cached_property
    def _whole_noise_model(self) -> NoiseModel:
        return NoiseModel.from_backend(self._generic)

    @cached_property
    def _gate_errors(self) -> dict[tuple[str, tuple[int, ...]], QuantumError]:
        return {(name, tuple(qubits)): error for name, qubits, error in basic_device_gate_errors(target=self._target)}

    @cached_property
    def _readout_errors(self) -> dict[tuple[str, tuple[int, ...]], ReadoutError]:
        return {("measure", tuple(qubits)): error for qubits, error in basic_device_readout_errors(target=self._target)}


_SPELT = {"break": "break_loop", "continue": "continue_loop"}
"""Names of the generic device that circuits spell otherwise."""
_NOT_RUN = {"box"}
"""Instructions of the generic device that Aer does not run."""


@cache
def devices() -> dict[str, IdealDevice | NoisyDevice]:
    """Return all simulated machines by name."""
    made = (
        IdealDevice(),
        NoisyDevice("local_noisy_5q", _T_SHAPE, "T shape"),
        NoisyDevice("local_noisy_27q", _HEAVY_HEX, "Heavy hex"),
    )
    return {device.name: device for device in made}


def _instruction(target: Target, name: str) -> Instruction:
    operation = target.operation_from_name(name)
    places = {qubits: properties for qubits, properties in target[name].items() if qubits is not None}
    return Instruction(
        name,
        operation.num_qubits,
        tuple(parameter.name for parameter in operation.params),
        tuple(
            InstructionProperties(
                tuple(qubits), getattr(properties, "error", None), getattr(properties, "duration", None)
            )
            for qubits, properties in sorted(places.items())
        ),
    )


def _qubit_calibration(target: Target, qubit: int) -> Iterator[Measurement]:
    known = target.qubit_properties[qubit]
    readout = target["measure"][qubit,]
    yield Measurement("T1", "us", known.t1 * 1e6, _CALIBRATED_AT)
    yield Measurement("T2", "us", known.t2 * 1e6, _CALIBRATED_AT)
    yield Measurement("frequency", "GHz", known.frequency * 1e-9, _CALIBRATED_AT)
    yield Measurement("readout_error", "", readout.error, _CALIBRATED_AT)
    yield Measurement("readout_length", "ns", readout.duration * 1e9, _CALIBRATED_AT)


def _gate_calibration(target: Target, gate: str, qubits: tuple[int, ...]) -> GateCalibration:
    properties = target[gate][qubits]
    parameters = []
    if properties.error is not None:
        parameters.append(Measurement("gate_error", "", properties.error, _CALIBRATED_AT))
    if properties.duration is not None:
        parameters.append(Measurement("gate_length", "ns", properties.duration * 1e9, _CALIBRATED_AT))
    return GateCalibration(gate, f"{gate}{'_'.join(map(str, qubits))}", tuple(qubits), tuple(parameters))
