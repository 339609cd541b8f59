"""What two circuits differ in. `QuantumCircuit.__eq__` overlooks names of registers, types of parameters and more."""

from __future__ import annotations

import re
from typing import Any

from qiskit import QuantumCircuit
from qiskit.circuit import Clbit, ControlFlowOp, ControlledGate, ParameterExpression

_COUNTED = re.compile(r"(?<=_loop_i_)[0-9]+|(?<=circuit-)[0-9]+")
"""Qiskit numbers the variables of loops, and the gates made of circuits, through the life of the process."""


def image(circuit: QuantumCircuit) -> dict[str, Any]:
    """Return all that makes a circuit, its name left out, as values that compare exactly."""
    indices = {bit: index for index, bit in enumerate((*circuit.qubits, *circuit.clbits))}
    return {
        "bits": [type(bit) for bit in (*circuit.qubits, *circuit.clbits)],
        "registers": [
            (type(register), register.name, register.size, [indices[bit] for bit in register])
            for register in (*circuit.qregs, *circuit.cregs)
        ],
        "places": [
            [(register.name, place) for register, place in circuit.find_bit(bit).registers]
            for bit in (*circuit.qubits, *circuit.clbits)
        ],
        "phase": _value(circuit.global_phase),
        "metadata": circuit.metadata,
        "parameters": [(type(parameter), _COUNTED.sub("", parameter.name)) for parameter in circuit.parameters],
        "variables": [variable.name for variable in circuit.iter_vars()],
        "duration": circuit._duration,
        "unit": circuit._unit,
        "layout": _layout(circuit),
        "instructions": [
            (
                _operation(instruction.operation, circuit),
                [_value(value) for value in instruction.params],
                [indices[bit] for bit in (*instruction.qubits, *instruction.clbits)],
            )
            for instruction in circuit.data
        ],
    }


def _operation(operation: Any, circuit: QuantumCircuit) -> dict[str, Any]:
    found: dict[str, Any] = {
        "class": type(operation),
        "base": operation.base_class,
        "name": _COUNTED.sub("", operation.name),
        "label": operation.label,
        "shape": (operation.num_qubits, operation.num_clbits),
        "mutable": operation.mutable,
    }
    if isinstance(operation, ControlFlowOp):
        found["blocks"] = [image(block) for block in operation.blocks]
        found["condition"] = _condition(getattr(operation, "condition", None), circuit)
    found["params"] = [_value(value) for value in operation.params]
    if isinstance(operation, ControlledGate):
        found["controls"] = (operation.num_ctrl_qubits, operation.ctrl_state, _operation(operation.base_gate, circuit))
    if operation.name == "delay":
        found["unit"] = operation.unit
    if getattr(operation, "_standard_gate", None) is None and getattr(operation, "definition", None) is not None:
        found["definition"] = image(operation.definition)
    return found


def _condition(condition: Any, circuit: QuantumCircuit) -> Any:
    if condition is None:
        return None
    what, value = condition
    bits = [what] if isinstance(what, Clbit) else list(what)
    return type(what), getattr(what, "name", ""), [circuit.find_bit(bit).index for bit in bits], value


def _value(value: Any) -> Any:
    if isinstance(value, QuantumCircuit):
        return image(value)
    if isinstance(value, ParameterExpression):
        names = sorted(_COUNTED.sub("", parameter.name) for parameter in value.parameters)
        return type(value), _COUNTED.sub("", str(value)), names
    return type(value), repr(value)


def _layout(circuit: QuantumCircuit) -> Any:
    layout = circuit._layout
    if layout is None:
        return None
    indices = {bit: index for index, bit in enumerate(circuit.qubits)}
    return (
        {place: indices[bit] for place, bit in layout.initial_layout.get_physical_bits().items()},
        {indices[bit]: place for bit, place in layout.input_qubit_mapping.items()},
        layout.final_layout,
    )
