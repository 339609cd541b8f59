"""Typed results as Qiskit's `Result`: counts, memory and headers as simulators and devices of Qiskit return them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit.result import Result
from qiskit.result.models import ExperimentResult, ExperimentResultData, MeasLevel, MeasReturnType

from qgateway._structs import from_struct
from qgateway._times import optional_seconds, optional_time
from qgateway.exceptions import IBMJobInvalidStateError
from qgateway.v1 import result_pb2

_WORD_BYTES = 8


class Header(dict[str, Any]):
    """A header: a dictionary, as Qiskit 2 has it, whose entries are also attributes, as Qiskit 0 and 1 had it."""

    def __getattr__(self, name: str) -> Any:
        """Return the entry of that name."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"The header has no entry {name!r}.") from None


def to_result(message: result_pb2.JobResult, *, job_id: str, memory: bool) -> Result:
    """Return the result of a job as Qiskit knows it.

    Args:
        message: The typed result.
        job_id: Id of the job.
        memory: Whether to list the outcome of each shot, as `run(memory=True)` asks for.

    Returns:
        `results[i]` belongs to circuit `i`. At `meas_level` 2 its data has `counts` (hexadecimal outcome to number of
        shots) and with `memory` the list of hexadecimal outcomes in the order of the shots; at level 1 it has `memory`
        as nested lists of shape `(shots, slots, 2)`, or `(slots, 2)` where averaged. A circuit without classical bits
        has no data. An unsuccessful experiment is returned as such, and raises nothing here.

    Raises:
        IBMJobInvalidStateError: The job ran a provider program, whose result is not one of circuits.
        ValueError: The data does not fit the shape that the message declares.
    """
    if message.HasField("raw"):
        raise IBMJobInvalidStateError(
            f"The result of job {job_id} is that of a provider program ({message.raw.media_type}), not of circuits. "
            "Read it with GetJobResult of the gateway.",
            job_id=job_id,
            reason="RESULT_NOT_OF_CIRCUITS",
        )
    return Result(
        backend_name=message.backend,
        backend_version=message.backend_version,
        job_id=job_id,
        success=message.success,
        results=[_experiment(item, memory=memory) for item in message.experiments],
        date=optional_time(message, "run_time"),
        status=message.status,
        header=Header(from_struct(message.header)),
        time_taken=optional_seconds(message, "time_taken"),
        metadata=from_struct(message.metadata),
    )


def _experiment(message: result_pb2.ExperimentResult, *, memory: bool) -> ExperimentResult:
    extras: dict[str, Any] = {}
    if message.HasField("seed"):
        extras["seed"] = extras["seed_simulator"] = message.seed
    if message.HasField("time_taken"):
        extras["time_taken"] = optional_seconds(message, "time_taken")
    width = _width(message)
    if any(register.WhichOneof("data") == "iq" for register in message.registers):
        averaged = any(register.iq.averaged for register in message.registers)
        data = ExperimentResultData(memory=_points(message, width, averaged=averaged).tolist())
        extras["meas_level"] = MeasLevel.KERNELED
        extras["meas_return"] = (MeasReturnType.AVERAGE if averaged else MeasReturnType.SINGLE).value
    elif width and message.shots and any(register.HasField("bits") for register in message.registers):
        data = _outcomes(message, width, memory=memory)
    else:
        data = ExperimentResultData()
    return ExperimentResult(
        shots=message.shots,
        success=message.success,
        data=data,
        status=message.status,
        header=_header(message, width),
        **extras,
    )


def _width(message: result_pb2.ExperimentResult) -> int:
    """Return the number of classical bits, also where only the registers tell it."""
    return max([message.num_clbits, *(max(slots, default=-1) + 1 for slots in _slots(message))])


def _slots(message: result_pb2.ExperimentResult) -> list[list[int]]:
    """Return for each register the index in the circuit of each of its bits.

    Raises:
        ValueError: A register does not say where each of its bits is.
    """
    slots, begin = [], 0
    for register in message.registers:
        own = list(register.clbits) or list(range(begin, begin + register.size))
        if len(own) != register.size:
            raise ValueError(f"register {register.register_name!r} places {len(own)} of its {register.size} bits")
        slots.append(own)
        begin += register.size
    return slots


def _outcomes(message: result_pb2.ExperimentResult, width: int, *, memory: bool) -> ExperimentResultData:
    rows = _words(_rows(message, width))
    if not memory:
        distinct, counts = np.unique(rows, return_counts=True)
        return ExperimentResultData(counts=_named(distinct, counts))
    distinct, inverse, counts = np.unique(rows, return_inverse=True, return_counts=True)
    named = _named(distinct, counts)
    return ExperimentResultData(counts=named, memory=np.array(list(named), dtype=object)[inverse].tolist())


def _named(distinct: NDArray[Any], counts: NDArray[np.intp]) -> dict[str, int]:
    return dict(zip(map(hex, _integers(distinct)), counts.tolist(), strict=True))


def _rows(message: result_pb2.ExperimentResult, width: int) -> NDArray[np.uint8]:
    """Return one row per shot: all classical bits of the circuit as a big-endian integer."""
    slots = _slots(message)
    if len(slots) == 1 and slots[0] == list(range(width)):
        return _register_rows(message.registers[0], message.shots)
    bits = np.zeros((message.shots, -(-width // 8) * 8), dtype=np.uint8)
    for register, own in zip(message.registers, slots, strict=True):
        lowest_first = np.unpackbits(_register_rows(register, message.shots), axis=1)[:, ::-1]
        bits[:, own] = lowest_first[:, : register.size]
    return np.packbits(bits[:, ::-1], axis=1)


def _register_rows(register: result_pb2.RegisterResult, shots: int) -> NDArray[np.uint8]:
    row_bytes = -(-register.size // 8)
    data = register.bits.data
    if len(data) != shots * row_bytes:
        raise ValueError(
            f"register {register.register_name!r} has {len(data)} bytes, not {shots} shots of {row_bytes} bytes"
        )
    return np.frombuffer(data, dtype=np.uint8).reshape(shots, row_bytes)


def _words(rows: NDArray[np.uint8]) -> NDArray[Any]:
    """Return one value per row that compares as the row does: a number where it fits a word, else the bytes of the row."""
    shots, row_bytes = rows.shape
    if row_bytes > _WORD_BYTES:
        return np.ascontiguousarray(rows).view(np.dtype((np.void, row_bytes))).ravel()
    words = np.zeros((shots, _WORD_BYTES), dtype=np.uint8)
    words[:, _WORD_BYTES - row_bytes :] = rows
    return words.view(">u8").ravel().astype(np.uint64)


def _integers(values: NDArray[Any]) -> list[int]:
    """Return what `_words` made as integers."""
    if values.dtype.kind == "u":
        return list(values.tolist())
    return [int.from_bytes(value.tobytes(), "big") for value in values]


def _points(message: result_pb2.ExperimentResult, width: int, *, averaged: bool) -> NDArray[np.float64]:
    """Return the IQ points of all classical bits, of shape `(shots, width, 2)`, or `(width, 2)` where averaged."""
    rows = 1 if averaged else message.shots
    points = np.zeros((rows, width, 2))
    for register, own in zip(message.registers, _slots(message), strict=True):
        points[:, own] = np.frombuffer(register.iq.data, dtype="<f8").reshape(rows, register.size, 2)
    return points[0] if averaged else points


def _header(message: result_pb2.ExperimentResult, width: int) -> Header:
    qubits = [(register.register_name, register.size) for register in message.quantum_registers]
    labels: list[list[str | int]] = [["", slot] for slot in range(width)]
    for register, own in zip(message.registers, _slots(message), strict=True):
        for index, slot in enumerate(own):
            labels[slot] = [register.register_name, index]
    return Header(
        name=message.circuit_name,
        n_qubits=sum(size for _, size in qubits),
        qreg_sizes=[list(register) for register in qubits],
        qubit_labels=[[name, index] for name, size in qubits for index in range(size)],
        memory_slots=width,
        creg_sizes=_register_sizes(message, width),
        clbit_labels=labels,
        global_phase=message.global_phase,
        metadata=from_struct(message.metadata),
    )


def _register_sizes(message: result_pb2.ExperimentResult, width: int) -> list[list[str | int]]:
    """Return name and size of each register for splitting bit strings, or nothing where they do not divide the bits.

    Qiskit cuts a bit string by these sizes from left to right. That is right only if the registers follow each other
    without gap or overlap; where they do not, an undivided bit string is still correct.
    """
    pairs = sorted(zip(_slots(message), message.registers, strict=True), key=lambda pair: pair[0])
    if [slot for own, _ in pairs for slot in own] != list(range(width)):
        return []
    return [[register.register_name, register.size] for _, register in pairs if register.size]
