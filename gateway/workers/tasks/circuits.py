"""Looking into circuits, and writing custom gates out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from qiskit.circuit import (
    AnnotatedOperation,
    Barrier,
    CircuitInstruction,
    Clbit,
    ControlFlowOp,
    Delay,
    Measure,
    QuantumCircuit,
    Qubit,
    Reset,
)
from qiskit.transpiler import PassManager
from qiskit.transpiler.passes import HighLevelSynthesis

_PRIMITIVES = (Barrier, Delay, Measure, Reset, ControlFlowOp)


class OpaqueInstruction(Exception):
    """An instruction is neither known nor defined by other instructions.

    Args:
        name: Its name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def instructions(
    circuit: QuantumCircuit, positions: Sequence[int] | None = None
) -> Iterator[tuple[CircuitInstruction, tuple[int, ...]]]:
    """Yield every instruction, those inside control flow too, with the indices of its qubits.

    Args:
        circuit: A circuit, or a block of control flow.
        positions: Index of each qubit of `circuit` in the whole circuit; None: it is the whole circuit.
    """
    index = dict(zip(circuit.qubits, positions or range(circuit.num_qubits), strict=True))
    for instruction in circuit.data:
        qubits = tuple(index[qubit] for qubit in instruction.qubits)
        yield instruction, qubits
        if instruction.is_control_flow():
            for block in instruction.operation.blocks:
                yield from instructions(block, qubits)


def is_consistent(circuit: QuantumCircuit) -> bool:
    """Return whether every instruction has as many bits as it acts on, each once. A damaged file can say otherwise."""
    for instruction in circuit.data:
        operation, shape = instruction.operation, (len(instruction.qubits), len(instruction.clbits))
        if (operation.num_qubits, operation.num_clbits) != shape:
            return False
        if (len(set(instruction.qubits)), len(set(instruction.clbits))) != shape:
            return False
        parts = operation.blocks if instruction.is_control_flow() else (getattr(operation, "definition", None),)
        for part in parts:
            if part is not None and ((part.num_qubits, part.num_clbits) != shape or not is_consistent(part)):
                return False
    return True


def is_genuine(instruction: CircuitInstruction) -> bool:
    """Return whether an instruction is what its name says in Qiskit, and not a gate of the program under the same name."""
    return (
        instruction.is_standard_gate()
        or isinstance(instruction.operation, _PRIMITIVES)
        or type(instruction.operation).__module__.startswith(("qiskit.circuit.library.", "qiskit.circuit.controlflow."))
    )


def measures(circuit: QuantumCircuit) -> bool:
    """Return whether a circuit has any measurement."""
    return any(instruction.name == "measure" for instruction, _ in instructions(circuit))


def has_infinite_angle(circuit: QuantumCircuit) -> bool:
    """Return whether any parameter of a bound circuit is infinite or not a number."""
    phase = circuit.global_phase
    return (isinstance(phase, float) and not math.isfinite(phase)) or any(
        isinstance(parameter, float) and not math.isfinite(parameter)
        for instruction, _ in instructions(circuit)
        for parameter in instruction.params
    )


def write_out(circuit: QuantumCircuit, keep: Callable[[CircuitInstruction], bool]) -> QuantumCircuit:
    """Return a circuit in which every instruction that `keep` refuses is replaced by its definition.

    Raises:
        OpaqueInstruction: An instruction to be replaced has no definition.
    """
    if all(keep(instruction) for instruction, _ in instructions(circuit)):
        return circuit
    written = circuit.copy_empty_like()
    _append(written, circuit.data, keep, {bit: bit for bit in (*circuit.qubits, *circuit.clbits)})
    return written


def _append(
    written: QuantumCircuit,
    data: Iterable[CircuitInstruction],
    keep: Callable[[CircuitInstruction], bool],
    bits: dict[Qubit | Clbit, Qubit | Clbit],
) -> None:
    for instruction in data:
        qubits, clbits = ([bits[bit] for bit in own] for own in (instruction.qubits, instruction.clbits))
        if instruction.is_control_flow():
            blocks = [write_out(block, keep) for block in instruction.operation.blocks]
            written.append(instruction.operation.replace_blocks(blocks), qubits, clbits, copy=False)
        elif keep(instruction):
            written.append(instruction.operation, qubits, clbits, copy=False)
        else:
            definition = _definition(instruction)
            written.global_phase += definition.global_phase
            inner = dict(zip((*definition.qubits, *definition.clbits), (*qubits, *clbits), strict=True))
            _append(written, definition.data, keep, inner)


def _definition(instruction: CircuitInstruction) -> QuantumCircuit:
    operation = instruction.operation
    if isinstance(operation, AnnotatedOperation):
        circuit = QuantumCircuit(operation.num_qubits, operation.num_clbits)
        circuit.append(operation, circuit.qubits, circuit.clbits)
        return PassManager([HighLevelSynthesis()]).run(circuit)
    definition = getattr(operation, "definition", None)
    if definition is None:
        raise OpaqueInstruction(instruction.name)
    return definition
