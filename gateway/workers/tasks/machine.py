"""A backend as a circuit sees it: what it can run where, and how to rewrite a circuit for it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import Any

from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.circuit import (
    BreakLoopOp,
    CircuitInstruction,
    ContinueLoopOp,
    ForLoopOp,
    Gate,
    IfElseOp,
    Parameter,
    SwitchCaseOp,
    WhileLoopOp,
)
from qiskit.circuit.library import get_standard_gate_name_mapping
from qiskit.exceptions import QiskitError
from qiskit.providers import QubitProperties
from qiskit.transpiler import InstructionProperties, Target

from gateway.domain.backend import Backend, Instruction
from gateway.workers.codec import BACKEND
from gateway.workers.tasks.circuits import OpaqueInstruction, instructions, is_genuine, write_out

_SEED = 20_250_101
"""Seed of the transpiler: the same program gives the same circuits, on every worker and after a restart."""

_CONTROL_FLOW = {
    "if_else": IfElseOp,
    "for_loop": ForLoopOp,
    "while_loop": WhileLoopOp,
    "switch_case": SwitchCaseOp,
    "break_loop": BreakLoopOp,
    "continue_loop": ContinueLoopOp,
}
_STANDARD = get_standard_gate_name_mapping()
_MANY = 12


class UnfitCircuit(Exception):
    """The machine cannot run a circuit. The message says why, and what to do."""


@lru_cache(maxsize=16)
def machine(description: bytes) -> Machine:
    """Return the machine of a description, which is `gateway.domain.backend.Backend` as JSON."""
    return Machine(BACKEND.validate_json(description))


class Machine:
    """What a circuit must fit.

    Args:
        backend: The backend as its provider describes it.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        names = {*backend.supported_instructions, *backend.basis_gates, *(item.name for item in backend.instructions)}
        self._names = frozenset(names | {"barrier"} if names else names)
        self._places = {item.name: places for item in backend.instructions if (places := _places(item))}
        self._pass_managers: dict[int, Any] = {}

    def fit(self, circuit: QuantumCircuit, level: int | None) -> QuantumCircuit:
        """Return a circuit as the machine runs it.

        Args:
            circuit: A circuit, with or without parameters.
            level: Optimisation level 0 to 3 of the transpiler; None: the circuit is to be run as it is.

        Raises:
            UnfitCircuit: The machine cannot run it.
        """
        if circuit.num_qubits > self.backend.num_qubits:
            raise UnfitCircuit(
                f"the circuit has {circuit.num_qubits} qubits, and {self.backend.name} has {self.backend.num_qubits}"
            )
        try:
            if level is not None:
                return self._transpile(write_out(circuit, self._keeps_its_name), level)
            if self._is_ideal:
                return write_out(circuit, self._runs)
        except OpaqueInstruction as error:
            raise UnfitCircuit(
                f"instruction {error.name!r} is not known, and the program does not define it"
            ) from error
        self._check(circuit)
        return circuit

    @property
    def _is_ideal(self) -> bool:
        """Whether it is a simulator without places: gates that it does not know can be written out without rewriting."""
        return self.backend.simulator and bool(self._names) and not self._places and not self.backend.coupling_map

    def _runs(self, instruction: CircuitInstruction) -> bool:
        return instruction.name in self._names and is_genuine(instruction)

    def _keeps_its_name(self, instruction: CircuitInstruction) -> bool:
        """Return whether Qiskit, which goes by names alone, will not mistake an instruction for another."""
        return is_genuine(instruction) or (instruction.name not in self._names and instruction.name not in _STANDARD)

    def _transpile(self, circuit: QuantumCircuit, level: int) -> QuantumCircuit:
        if (manager := self._pass_managers.get(level)) is None:
            manager = generate_preset_pass_manager(optimization_level=level, target=self._target, seed_transpiler=_SEED)
            self._pass_managers[level] = manager
        try:
            return manager.run(circuit)
        except QiskitError as error:
            raise UnfitCircuit(f"the circuit cannot be transpiled for {self.backend.name}: {error.message}") from error

    def _check(self, circuit: QuantumCircuit) -> None:
        """Refuse what the machine cannot run as it is."""
        if not self._names:  # the provider does not say what its machine runs, and will judge by itself
            return
        advice = "Set options.transpile to a level of 0 to 3, and the server rewrites the circuit for the backend"
        for instruction, qubits in instructions(circuit):
            name = instruction.name
            if name not in self._names:
                raise UnfitCircuit(
                    f"{self.backend.name} has no instruction {name!r}; it has {self._listed()}. {advice}"
                )
            if not is_genuine(instruction) and instruction.operation.definition is not None:
                raise UnfitCircuit(
                    f"the program defines {name!r} by itself, and {self.backend.name} has its own. {advice}"
                )
            places = self._places.get(name)
            if places is not None and qubits not in places:
                where = f"qubit {qubits[0]}" if len(qubits) == 1 else f"qubits {', '.join(map(str, qubits))}"
                raise UnfitCircuit(f"{self.backend.name} cannot run {name!r} on {where}. {advice}")

    def _listed(self) -> str:
        names = sorted(self._names)
        return ", ".join(names[:_MANY]) + (" and others" if len(names) > _MANY else "")

    @cached_property
    def _target(self) -> Target:
        backend = self.backend
        timing = backend.timing_constraints
        constraints = {} if timing is None else {
            "granularity": timing.granularity,
            "min_length": timing.min_length,
            "pulse_alignment": timing.pulse_alignment,
            "acquire_alignment": timing.acquire_alignment,
        }  # fmt: skip
        target = Target(
            num_qubits=backend.num_qubits,
            dt=backend.dt,
            qubit_properties=[QubitProperties(qubit.t1, qubit.t2, qubit.frequency) for qubit in backend.qubits] or None,
            **constraints,
        )
        for item in _described(backend):
            operation = _STANDARD.get(item.name) or Gate(
                item.name, item.num_qubits, [Parameter(p) for p in item.parameters]
            )
            places = {
                place.qubits: InstructionProperties(duration=place.duration, error=place.error)
                for place in item.properties
            }
            target.add_instruction(operation, places or None, name=item.name)
        for name in backend.supported_instructions:
            if name in _CONTROL_FLOW:
                target.add_instruction(_CONTROL_FLOW[name], name=name)
        return target


def _places(item: Instruction) -> frozenset[tuple[int, ...]]:
    return frozenset(place.qubits for place in item.properties)


def _described(backend: Backend) -> Iterator[Instruction]:
    return (item for item in backend.instructions if item.name not in _CONTROL_FLOW)
