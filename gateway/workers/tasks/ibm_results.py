"""Reading what programs of IBM Quantum return."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson
from google.protobuf import json_format
from ibm_quantum_schemas.executor.version_2_0 import QuantumProgramResultModel
from qgateway.v1 import result_pb2

from gateway.workers.tasks.ibm_note import NOTE_KEY, CircuitNote, Note, RegisterNote
from gateway.workers.tasks.results import pack_bits

_Array: TypeAlias = npt.NDArray[Any]

_MARKS = {"executor": ("data",), "sampler": ("__value__", "results"), "estimator": ("__value__", "results")}
"""What the results of a program hold at their top: one of these."""
_SUFFIXES = {"kerneled": "_iq", "avg_kerneled": "_avg_iq"}
_MAX_MESSAGE = 500


class _Unreadable(Exception):
    """Results do not hold what they should. The message says what."""


@dataclass(frozen=True, slots=True)
class _Measured:
    """What a program returned for circuits that the gateway sent."""

    note: Note
    registers: Sequence[Mapping[str, _Array]]
    """Of each circuit, by the name that the service knows: rows of `PackedBits`, or points."""
    spans: Sequence[tuple[datetime, datetime]]


def ibm_decode(header: dict[str, Any], blobs: tuple[bytes, ...]) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    """Task: read the results of a job.

    Circuits that the gateway sent become registers; anything else is kept as it came.

    Args:
        header: `program`, the service's name; `job`, resource name of the job, empty if it is not the gateway's; `backend`;
            `backend_version`; `status`, the service's word.
        blobs: The results as they came.

    Returns:
        `understood`, whether the bytes are results at all; and if so, a serialised `qgateway.v1.JobResult`.
    """
    payload, program = blobs[0], header["program"]
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return {"understood": False}, ()
    marks = _MARKS.get(program)
    if marks is not None and not (isinstance(document, dict) and any(mark in document for mark in marks)):
        return {"understood": False}, ()
    result = result_pb2.JobResult(
        job=header["job"],
        backend=header["backend"],
        backend_version=header["backend_version"],
        success=True,
        status=header["status"],
    )
    result.metadata["program"] = program
    result.run_time.GetCurrentTime()
    try:
        measured = _read(program, document, payload)
        if measured is not None and header["job"] not in ("", measured.note.job):
            measured = None  # parameters of a former job that a caller sent again, as a raw program
        if measured is not None:
            _fill(result, measured)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - results may be given out once only: better kept as they came than lost
        measured = None
        result.success = False
        result.ClearField("experiments")
        result.metadata["unreadable"] = f"{error}"[:_MAX_MESSAGE]
    if measured is None:
        result.raw.CopyFrom(result_pb2.RawResult(media_type="application/json", payload=payload))
    return {"understood": True}, (result.SerializeToString(),)


def _read(program: str, document: Any, payload: bytes) -> _Measured | None:
    """Return what was measured, or None if the program did not come from circuits of a caller of the gateway."""
    if program == "executor":
        return _read_executor(document, payload)
    if program == "sampler":
        return _read_sampler(document)
    return None


def _read_executor(document: Mapping[str, Any], payload: bytes) -> _Measured | None:
    passed = document.get("passthrough_data")
    if not isinstance(passed, dict) or not isinstance(text := passed.get(NOTE_KEY), str):
        return None
    note = Note.model_validate_json(text)
    results = QuantumProgramResultModel.model_validate_json(payload)
    suffix = _SUFFIXES.get(note.level, "")
    registers = [
        {
            name.removesuffix(suffix): _as_rows(tensor.to_numpy(), note.level)
            for name, tensor in item.results.items()
            if name.endswith(suffix)
        }
        for item in results.data
    ]
    return _Measured(note, registers, [(span.start, span.stop) for span in results.metadata.chunk_timing])


def _as_rows(array: _Array, level: str) -> _Array:
    """Return bits, bit 0 first, as rows of `PackedBits`; points stay as they are."""
    if level != "classified":
        return array
    if array.dtype != np.bool_:
        raise _Unreadable(f"bits came as {array.dtype}")
    return pack_bits(array.astype(np.uint8))


def _read_sampler(document: Mapping[str, Any]) -> _Measured | None:
    whole = _untag(document, "PrimitiveResult") if "__value__" in document else None
    if whole is None:
        return None
    pubs = [_untag(pub, "SamplerPubResult") for pub in whole["pub_results"]]
    found = [(pub["metadata"].get("circuit_metadata") or {}).get(NOTE_KEY) for pub in pubs]
    texts = [text for text in found if isinstance(text, str)]
    if not texts or len(texts) < len(pubs):
        return None
    notes = [Note.model_validate_json(text) for text in texts]
    note = notes[0].model_copy(update={"circuits": tuple(circuit for note in notes for circuit in note.circuits)})
    registers = [
        {name: _sampled(field, note.level) for name, field in _untag(pub["data"], "DataBin")["fields"].items()}
        for pub in pubs
    ]
    return _Measured(note, registers, list(_spans(whole)))


def _sampled(field: Mapping[str, Any], level: str) -> _Array:
    if level != "classified":
        return _load(_untag(field, "ndarray"))
    rows = _load(_untag(_untag(field, "BitArray")["array"], "ndarray"))
    if rows.dtype != np.uint8:
        raise _Unreadable(f"bits came as {rows.dtype}")
    return rows


def _spans(whole: Mapping[str, Any]) -> Iterator[tuple[datetime, datetime]]:
    spans = whole.get("metadata", {}).get("execution", {}).get("execution_spans")
    for span in _untag(spans, "ExecutionSpans")["spans"] if spans else ():
        times = span["__value__"]
        yield _time(times["start"]), _time(times["stop"])


def _time(tagged: Mapping[str, Any]) -> datetime:
    at = datetime.fromisoformat(_untag(tagged, "datetime"))
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _untag(value: Any, kind: str) -> Any:
    """Return what is under a type tag."""
    if not isinstance(value, dict) or value.get("__type__") != kind:
        raise _Unreadable(f"there is no {kind} where one should be")
    return value["__value__"]


def _load(text: str) -> _Array:
    array: _Array = np.load(BytesIO(zlib.decompress(base64.b64decode(text))), allow_pickle=False)
    return array


def _fill(result: result_pb2.JobResult, measured: _Measured) -> None:
    note = measured.note
    if len(measured.registers) != len(note.circuits):
        raise _Unreadable(f"there are results of {len(measured.registers)} circuits instead of {len(note.circuits)}")
    result.job = note.job
    json_format.ParseDict(note.header, result.header)
    result.experiments.extend(
        _experiment(note, circuit, registers)
        for circuit, registers in zip(note.circuits, measured.registers, strict=True)
    )
    if measured.spans:
        result.run_time.FromDatetime(max(stop for _, stop in measured.spans))
        taken = sum((stop - start).total_seconds() for start, stop in measured.spans)
        result.time_taken.FromNanoseconds(round(max(0.0, taken) * 1e9))


def _experiment(note: Note, circuit: CircuitNote, registers: Mapping[str, _Array]) -> result_pb2.ExperimentResult:
    experiment = result_pb2.ExperimentResult(
        circuit_name=circuit.name,
        shots=note.shots,
        success=True,
        status="DONE",
        registers=_registers(note, circuit.registers, registers),
        global_phase=circuit.global_phase,
        quantum_registers=[
            result_pb2.QuantumRegister(register_name=name, size=size) for name, size in circuit.quantum_registers
        ],
        num_clbits=circuit.num_clbits,
    )
    json_format.ParseDict(circuit.metadata, experiment.metadata)
    return experiment


def _registers(
    note: Note, registers: Iterable[RegisterNote], measured: Mapping[str, _Array]
) -> Iterator[result_pb2.RegisterResult]:
    for register in registers:
        if register.size and register.sent_name not in measured:
            raise _Unreadable(f"there is nothing of the register {register.sent_name!r}")
        told = result_pb2.RegisterResult(register_name=register.name, size=register.size, clbits=register.clbits)
        if note.level == "classified":
            shape: tuple[int, ...] = (note.shots, (register.size + 7) // 8)
            told.bits.data = _checked(register, measured, shape, np.uint8).tobytes()
        else:
            averaged = note.level == "avg_kerneled"
            shape = (register.size,) if averaged else (note.shots, register.size)
            told.iq.data = _checked(register, measured, shape, np.dtype("<c16")).tobytes()
            told.iq.averaged = averaged
        yield told


def _checked(
    register: RegisterNote, measured: Mapping[str, _Array], shape: tuple[int, ...], kind: npt.DTypeLike
) -> _Array:
    if not register.size:
        return np.empty(0, kind)
    array = measured[register.sent_name]
    if array.shape != shape:
        raise _Unreadable(f"the register {register.sent_name!r} is of shape {array.shape} instead of {shape}")
    return np.ascontiguousarray(array, kind)
