"""Programs to send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from qgateway.v1 import program_pb2
from qiskit import QuantumCircuit, qpy

BELL = """OPENQASM 3.0;
include "stdgates.inc";
qubit[2] q;
bit[2] c;
h q[0];
cx q[0], q[1];
c = measure q;
"""
ROTATION = """OPENQASM 3.0;
include "stdgates.inc";
input float theta;
qubit q;
bit[1] c;
rx(theta) q;
c[0] = measure q;
"""


def text_program(
    *sources: str,
    bindings: Sequence[Mapping[str, float]] = (),
    name: str = "",
    metadata: Mapping[str, Any] | None = None,
) -> bytes:
    """Return a program of OpenQASM texts; bindings, name and metadata go to each."""
    program = program_pb2.Program(openqasm=program_pb2.OpenQasmProgram())
    for source in sources:
        circuit = program.openqasm.circuits.add(source=source, circuit_name=name)
        for values in bindings:
            circuit.bindings.add(values=values)
        circuit.metadata.update(metadata or {})
    return program.SerializeToString()


def qpy_bytes(*circuits: QuantumCircuit) -> bytes:
    buffer = BytesIO()
    qpy.dump(list(circuits), buffer)
    return buffer.getvalue()


def qpy_program(
    *circuits: QuantumCircuit, bindings: Mapping[int, Sequence[Mapping[str, float]]] | None = None
) -> bytes:
    """Return a program of circuits as QPY; bindings are by the index of the circuit."""
    program = program_pb2.Program(qpy=program_pb2.QpyProgram(data=qpy_bytes(*circuits)))
    for index, entries in (bindings or {}).items():
        entry = program.qpy.circuit_bindings.add(circuit_index=index)
        for values in entries:
            entry.bindings.add(values=values)
    return program.SerializeToString()


def qpy_data_program(data: bytes) -> bytes:
    return program_pb2.Program(qpy=program_pb2.QpyProgram(data=data)).SerializeToString()


def circuits_of(data: bytes) -> list[QuantumCircuit]:
    return list(qpy.load(BytesIO(data)))


def bell() -> QuantumCircuit:
    circuit = QuantumCircuit(2, 2, name="bell")
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure([0, 1], [0, 1])
    return circuit


def ghz(width: int) -> QuantumCircuit:
    circuit = QuantumCircuit(width, width, name=f"ghz-{width}")
    circuit.h(0)
    for qubit in range(width - 1):
        circuit.cx(qubit, qubit + 1)
    circuit.measure(range(width), range(width))
    return circuit
