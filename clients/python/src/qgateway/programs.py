"""What `run` takes, as the program that the gateway takes, and back.

Circuits travel as QPY, which keeps all that Qiskit knows of them; OpenQASM texts travel as they are.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TypeAlias, cast

from qiskit import QuantumCircuit, qpy
from qiskit.exceptions import QiskitError

from qgateway.exceptions import IBMBackendError, IBMBackendValueError
from qgateway.v1 import program_pb2, server_service_pb2

Circuits: TypeAlias = list[QuantumCircuit] | list[str]
"""What one job runs: circuits, or OpenQASM texts."""

_OLDEST_SAFE_QPY = 13
"""Reading an older file can run code that is in it."""


def as_circuits(circuits: QuantumCircuit | str | Iterable[QuantumCircuit | str]) -> Circuits:
    """Return what `run` was given as a list.

    Args:
        circuits: A circuit, an OpenQASM 2 or 3 text, or a list, tuple or other iterable of either.

    Raises:
        IBMBackendValueError: There are none, one is neither, or circuits and texts are mixed.
    """
    if isinstance(circuits, QuantumCircuit | str):
        circuits = [circuits]
    elif not isinstance(circuits, Iterable):
        raise IBMBackendValueError(f"circuits: {_what(circuits)} is neither a QuantumCircuit nor OpenQASM text.")
    found = list(circuits)
    if not found:
        raise IBMBackendValueError("circuits: the list is empty; give at least one circuit.")
    for index, item in enumerate(found):
        if not isinstance(item, QuantumCircuit | str):
            raise IBMBackendValueError(
                f"circuits[{index}]: {_what(item)} is neither a QuantumCircuit nor OpenQASM text."
            )
    if len({isinstance(item, str) for item in found}) > 1:
        raise IBMBackendValueError(
            "circuits: a job takes either circuits or OpenQASM texts, not both. "
            "Read the texts with qiskit.qasm3.loads or qiskit.qasm2.loads, or submit two jobs."
        )
    return cast("Circuits", found)


def check_circuits(circuits: Circuits, *, max_circuits: int, num_qubits: int) -> None:
    """Refuse what the backend cannot take, as far as it can be told without reading texts.

    Args:
        circuits: What is to run.
        max_circuits: Most circuits of a job; 0 for no limit.
        num_qubits: Number of qubits of the backend; 0 for no limit.

    Raises:
        IBMBackendValueError: Too many circuits, a circuit that is too wide, or one with unbound parameters.
    """
    if max_circuits and len(circuits) > max_circuits:
        raise IBMBackendValueError(
            f"circuits: there are {len(circuits)}, and the backend takes {max_circuits} in a job. Submit several jobs."
        )
    for index, circuit in enumerate(circuits):
        if isinstance(circuit, str):
            continue
        where = f"circuits[{index}] ({circuit.name!r})"
        if num_qubits and circuit.num_qubits > num_qubits:
            raise IBMBackendValueError(f"{where} has {circuit.num_qubits} qubits, and the backend has {num_qubits}.")
        if circuit.parameters:
            names = ", ".join(parameter.name for parameter in circuit.parameters)
            raise IBMBackendValueError(f"{where} has unbound parameters: {names}. Bind them with assign_parameters.")


def is_dynamic(circuits: Circuits) -> bool:
    """Return whether a circuit has control flow. Texts are not read: they count as not dynamic."""
    return any(isinstance(circuit, QuantumCircuit) and circuit.has_control_flow_op() for circuit in circuits)


def to_program(circuits: Circuits, *, qpy_version: int = qpy.QPY_VERSION) -> program_pb2.Program:
    """Return the program of some circuits.

    Args:
        circuits: What is to run, from `as_circuits`.
        qpy_version: Version of QPY to write; see `common_qpy_version`.

    Raises:
        IBMBackendValueError: A circuit cannot be serialised, for example because its metadata is not JSON.
    """
    if isinstance(circuits[0], str):
        texts = [program_pb2.OpenQasmCircuit(source=cast("str", text)) for text in circuits]
        return program_pb2.Program(openqasm=program_pb2.OpenQasmProgram(circuits=texts))
    buffer = io.BytesIO()
    try:
        qpy.dump(circuits, buffer, version=qpy_version)
    except (QiskitError, TypeError, ValueError) as error:
        reason = getattr(error, "message", error)
        raise IBMBackendValueError(f"circuits: they cannot be serialised as QPY {qpy_version}: {reason}") from error
    return program_pb2.Program(qpy=program_pb2.QpyProgram(data=buffer.getvalue()))


def common_qpy_version(info: server_service_pb2.ServerInfo) -> int:
    """Return the newest version of QPY that this Qiskit writes and the server reads.

    Raises:
        IBMBackendError: There is none.
    """
    newest: int = min(qpy.QPY_VERSION, info.max_qpy_version or qpy.QPY_VERSION)
    if newest < max(qpy.QPY_COMPATIBILITY_VERSION, info.min_qpy_version):
        raise IBMBackendError(
            f"The gateway reads QPY {info.min_qpy_version} to {info.max_qpy_version}, and this Qiskit writes "
            f"{qpy.QPY_COMPATIBILITY_VERSION} to {qpy.QPY_VERSION}. Install another Qiskit, or send OpenQASM texts.",
            reason="QPY_VERSION_UNSUPPORTED",
        )
    return newest


def to_circuits(program: program_pb2.Program) -> list[QuantumCircuit | str]:
    """Return the circuits of a program: texts as texts, QPY as circuits, and none for a provider program.

    Raises:
        ValueError: The QPY is too old to be read safely, or cannot be read by this Qiskit.
    """
    if program.WhichOneof("kind") == "openqasm":
        return [circuit.source for circuit in program.openqasm.circuits]
    if program.WhichOneof("kind") != "qpy":
        return []
    data = program.qpy.data
    if data[:6] != b"QISKIT" or len(data) == 6 or data[6] < _OLDEST_SAFE_QPY:  # noqa: PLR2004 - length of the mark
        raise ValueError(f"it is not QPY of version {_OLDEST_SAFE_QPY} or newer")
    try:
        return list(qpy.load(io.BytesIO(data)))
    except QiskitError as error:
        raise ValueError(error.message) from error


def _what(value: object) -> str:
    return f"a {type(value).__name__}"
