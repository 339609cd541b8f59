"""A backend's description as Qiskit's `Target`: what the transpiler needs to know."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from qiskit.circuit import Gate, Instruction, Parameter
from qiskit.circuit.controlflow import BreakLoopOp, ContinueLoopOp, get_control_flow_name_mapping
from qiskit.circuit.library import (
    DiagonalGate,
    Initialize,
    MCPhaseGate,
    MCXGate,
    PauliGate,
    PermutationGate,
    UnitaryGate,
    get_standard_gate_name_mapping,
)
from qiskit.providers import QubitProperties
from qiskit.transpiler import InstructionProperties, Target

from qgateway.v1 import backend_pb2

_logger = logging.getLogger(__name__)

# Instructions of any width: the transpiler knows them by class.
_ANY_WIDTH: dict[str, type[Instruction]] = {
    "break_loop": BreakLoopOp,
    "continue_loop": ContinueLoopOp,
    "diagonal": DiagonalGate,
    "initialize": Initialize,
    "mcp": MCPhaseGate,
    "mcphase": MCPhaseGate,
    "mcx": MCXGate,
    "pauli": PauliGate,
    "permutation": PermutationGate,
    "unitary": UnitaryGate,
    **get_control_flow_name_mapping(),
}
_ALIASES = {"break": "break_loop", "continue": "continue_loop"}


def to_target(message: backend_pb2.Backend) -> Target:
    """Return the target of a backend.

    Args:
        message: The backend in its FULL view.

    Returns:
        Instructions with errors and durations (seconds) on each tuple of qubits, control flow, `delay`, `measure` and
        `reset` where the backend has them, properties of the qubits, time step, and timing constraints (time steps).
    """
    constraints = message.timing_constraints
    target = Target(
        description=message.description or None,
        num_qubits=message.num_qubits,
        dt=message.dt_seconds or None,
        granularity=constraints.granularity or 1,
        min_length=constraints.min_length or 1,
        pulse_alignment=constraints.pulse_alignment or 1,
        acquire_alignment=constraints.acquire_alignment or 1,
        qubit_properties=[_qubit(qubit) for qubit in message.qubits] or None,
    )
    for instruction in [*message.instructions, *_named(message)]:
        _add(target, instruction)
    return target


def _qubit(message: backend_pb2.QubitProperties) -> QubitProperties:
    return QubitProperties(
        t1=message.t1_seconds if message.HasField("t1_seconds") else None,
        t2=message.t2_seconds if message.HasField("t2_seconds") else None,
        frequency=message.frequency_hertz if message.HasField("frequency_hertz") else None,
    )


def _add(target: Target, message: backend_pb2.Instruction) -> None:
    name = _ALIASES.get(message.instruction_name, message.instruction_name)
    if name in target:
        return
    if name in _ANY_WIDTH:
        target.add_instruction(_ANY_WIDTH[name], name=name)
    elif operation := _operation(name, message):
        target.add_instruction(operation, _properties(message.properties), name=name)
    else:
        _logger.debug("left out instruction %r: neither its class nor its width is known", name)


def _operation(name: str, message: backend_pb2.Instruction) -> Instruction | None:
    known: Instruction | None = get_standard_gate_name_mapping().get(name)
    if known is not None:
        return known
    return (
        Gate(name, message.num_qubits, [Parameter(each) for each in message.parameters]) if message.num_qubits else None
    )


def _properties(
    messages: Iterable[backend_pb2.InstructionProperties],
) -> dict[tuple[int, ...], InstructionProperties] | None:
    """Return the properties by qubits, or None for an instruction that can act anywhere."""
    return {
        tuple(message.qubits): InstructionProperties(
            error=message.error if message.HasField("error") else None,
            duration=message.duration_seconds if message.HasField("duration_seconds") else None,
        )
        for message in messages
    } or None


def _named(message: backend_pb2.Backend) -> Iterable[backend_pb2.Instruction]:
    """Yield the instructions that a backend only names: two-qubit gates act along its coupling map, all else anywhere."""
    pairs = [backend_pb2.InstructionProperties(qubits=[pair.first, pair.second]) for pair in message.coupling_map]
    known = get_standard_gate_name_mapping()
    for name in [*message.basis_gates, *message.supported_instructions]:
        coupled = name in known and known[name].num_qubits == 2  # noqa: PLR2004
        yield backend_pb2.Instruction(instruction_name=name, properties=pairs if coupled else ())
