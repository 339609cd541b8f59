"""Reading a program that a caller sent: parse, check, bind, transpile. Nothing in it is ever evaluated as code."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct
from qgateway.v1 import program_pb2
from qiskit import QuantumCircuit

from gateway.domain.job import ProgramKind
from gateway.workers.tasks.binding import bind
from gateway.workers.tasks.circuits import has_infinite_angle, is_consistent, measures
from gateway.workers.tasks.machine import Machine, UnfitCircuit, machine
from gateway.workers.tasks.openqasm import read_openqasm
from gateway.workers.tasks.qpy import read_qpy, write_qpy
from gateway.workers.tasks.violations import Unreadable, Violations, refuse

_MAX_NAME = 256


@dataclass(frozen=True, slots=True)
class _Source:
    """A circuit of the program, and where it came from."""

    circuit: QuantumCircuit
    field: str
    """Path of what describes the circuit."""
    label: str
    """How to name the circuit where `field` holds several; empty where it holds one."""
    bindings: Sequence[program_pb2.ParameterBinding]
    bindings_field: str


def prepare(header: dict[str, Any], blobs: tuple[bytes, ...]) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    """Task: read a program for a backend.

    Args:
        header: `transpile`, an optimisation level or None.
        blobs: Serialised `qgateway.v1.Program`; the backend as JSON.

    Returns:
        What `gateway.domain.program.PreparedProgram` says of the program, and the experiments as QPY; of a raw program, itself.

    Raises:
        InvalidArgument: Something is wrong with the program.
    """
    serialised, description = blobs
    try:
        program = program_pb2.Program.FromString(serialised)
    except DecodeError as error:
        raise refuse("program", "the bytes are not a qgateway.v1.Program") from error
    target = machine(description)
    if program.HasField("raw") and target.backend.raw_programs:
        return _passed_through(program.raw, serialised)
    violations = Violations()
    sources = _read(program, target.backend.max_circuits, violations)
    violations.raise_if_any()
    experiments: list[QuantumCircuit] = []
    for source in sources:
        try:
            experiments += _experiments(source, target, header["transpile"], violations)
        except Exception:
            if is_consistent(source.circuit):
                raise
            violations.add(source.field, f"{source.label}the circuit contradicts itself; the file is damaged")
    violations.raise_if_any()
    try:
        circuits = write_qpy(experiments)
    except MemoryError:
        raise
    except Exception as error:
        raise refuse("program", f"a circuit holds something that cannot be passed on: {error}") from error
    return {
        "kind": (ProgramKind.QPY if program.HasField("qpy") else ProgramKind.OPENQASM).value,
        "circuit_count": len(experiments),
        "size_bytes": len(serialised),
        "sha256": hashlib.sha256(serialised).hexdigest(),
        "num_qubits": max(source.circuit.num_qubits for source in sources),
        "dynamic": any(source.circuit.has_control_flow_op() for source in sources),
    }, (circuits,)


def _passed_through(program: program_pb2.RawProgram, serialised: bytes) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    """Return a program of the provider's own definition, which only the provider reads."""
    return {
        "kind": ProgramKind.RAW.value,
        "circuit_count": 0,
        "size_bytes": len(serialised),
        "sha256": hashlib.sha256(serialised).hexdigest(),
        "num_qubits": 0,
        "dynamic": False,
    }, (program.SerializeToString(),)


def warm_up(header: dict[str, Any], blobs: tuple[bytes, ...]) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    """Task: read a small program, so that the libraries are loaded and their tables are filled."""
    del header, blobs
    read_openqasm(
        'OPENQASM 3.0; include "stdgates.inc"; qubit[2] q; bit[2] c; h q[0]; rz(-pi/2) q[0]; cx q[0], q[1]; '
        "if (c[0]) { x q[1]; } c = measure q;"
    )
    read_qpy(write_qpy([read_openqasm('OPENQASM 2.0; include "qelib1.inc"; qreg q[1]; creg c[1]; measure q -> c;')]))
    return {}, ()


def _read(program: program_pb2.Program, max_experiments: int, violations: Violations) -> list[_Source]:
    kind = program.WhichOneof("kind")
    if kind == "openqasm":
        circuits = program.openqasm.circuits
        # Counted before anything is parsed: a circuit too many must not cost the time to read all the others.
        _check_count(
            sum(max(1, len(circuit.bindings)) for circuit in circuits), "program.openqasm.circuits", max_experiments
        )
        return list(_read_texts(circuits, violations))
    if kind == "qpy":
        sources = list(_read_blob(program.qpy, violations))
        if not violations:
            _check_count(sum(max(1, len(source.bindings)) for source in sources), "program.qpy.data", max_experiments)
        return sources
    if kind == "raw":
        raise refuse("program.raw", "this backend runs circuits only; send OpenQASM texts or QPY")
    raise refuse("program", "one of openqasm, qpy and raw must be set")


def _check_count(count: int, field: str, most: int) -> None:
    if count == 0:
        raise refuse(field, "at least one circuit is needed")
    if count > most:
        raise refuse(
            field, f"circuits and bindings make {count} experiments; this backend takes at most {most} in a job"
        )


def _read_texts(circuits: Sequence[program_pb2.OpenQasmCircuit], violations: Violations) -> Iterator[_Source]:
    for index, text in enumerate(circuits):
        field = f"program.openqasm.circuits[{index}]"
        try:
            circuit = read_openqasm(text.source)
        except Unreadable as error:
            violations.add(f"{field}.source", str(error))
            continue
        if len(text.circuit_name) > _MAX_NAME:
            violations.add(f"{field}.circuit_name", f"at most {_MAX_NAME} characters")
        circuit.name = text.circuit_name or f"circuit-{index}"
        try:
            circuit.metadata = json_format.MessageToDict(text.metadata)
        except (json_format.Error, ValueError):
            violations.add(f"{field}.metadata", "numbers must be finite")
        yield _Source(circuit, f"{field}.source", "", text.bindings, f"{field}.bindings")


def _read_blob(program: program_pb2.QpyProgram, violations: Violations) -> Iterator[_Source]:
    try:
        circuits = read_qpy(program.data)
    except Unreadable as error:
        violations.add("program.qpy.data", str(error))
        return
    bindings: dict[int, tuple[Sequence[program_pb2.ParameterBinding], str]] = {}
    for place, entry in enumerate(program.circuit_bindings):
        field = f"program.qpy.circuit_bindings[{place}]"
        if not 0 <= entry.circuit_index < len(circuits):
            violations.add(
                f"{field}.circuit_index", f"there is no circuit {entry.circuit_index}; there are {len(circuits)}"
            )
        elif entry.circuit_index in bindings:
            violations.add(f"{field}.circuit_index", f"circuit {entry.circuit_index} has bindings already")
        elif not entry.bindings:
            violations.add(f"{field}.bindings", "at least one binding is needed")
        bindings.setdefault(entry.circuit_index, (entry.bindings, f"{field}.bindings"))
    for index, circuit in enumerate(circuits):
        own, field = bindings.get(index, ((), "program.qpy.circuit_bindings"))
        if not _fits_struct(circuit.metadata):
            violations.add(
                "program.qpy.data", f"circuit {index} ({circuit.name!r}): metadata must be JSON, numbers finite"
            )
        yield _Source(circuit, "program.qpy.data", f"circuit {index} ({circuit.name!r}): ", own, field)


def _fits_struct(metadata: dict[str, Any] | None) -> bool:
    """Return whether metadata can be given back with the result, as `google.protobuf.Struct`."""
    try:
        json_format.MessageToDict(json_format.ParseDict(metadata or {}, Struct()))
    except (json_format.Error, ValueError, TypeError, OverflowError):
        return False
    return True


def _experiments(source: _Source, target: Machine, level: int | None, violations: Violations) -> list[QuantumCircuit]:
    """Return the circuits that one source makes on a machine: transpiled once, then bound as often as asked."""
    circuit = source.circuit
    if not measures(circuit):
        violations.add(
            source.field,
            f"{source.label}the circuit measures nothing, so it would have no result; measure at least one qubit into a "
            "classical bit",
        )
        return []
    if not circuit.parameters and has_infinite_angle(circuit):
        violations.add(source.field, f"{source.label}an angle is infinite or not a number")
        return []
    try:
        fitted = target.fit(circuit, level)
    except UnfitCircuit as error:
        violations.add(source.field, f"{source.label}{error}")
        return []
    bindings = [dict(binding.values) for binding in source.bindings]
    return bind(fitted, circuit.parameters, bindings, source.bindings_field, violations)
