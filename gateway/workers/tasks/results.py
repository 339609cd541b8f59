"""Packing outcomes into results, and picking parts out of results."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError
from qgateway.v1 import result_pb2
from qiskit import QuantumCircuit

from gateway.domain.errors import InvalidArgument
from gateway.domain.program import result_too_large
from gateway.domain.wire import WireError, field_head, fields

Rows = npt.NDArray[np.uint8]


class _TooLarge(Exception):
    """What is selected has more bytes than one message takes."""


def pack_registers(circuit: QuantumCircuit, outcomes: Sequence[str]) -> list[result_pb2.RegisterResult]:
    """Return what was measured, register by register.

    The classical bits that belong to no register make a last entry without a name, in the order of the circuit.

    Args:
        circuit: The circuit that was run.
        outcomes: The classical bits of each shot as a hexadecimal number whose bit 0 is bit 0 of the circuit. It may have
            more bits than the circuit; they are left out.
    """
    registers, gapless = registers_of(circuit)
    table, shots = _distinct(outcomes, circuit.num_clbits)
    bits = np.unpackbits(table, axis=1, bitorder="little")
    return [
        result_pb2.RegisterResult(
            register_name=name,
            size=len(places),
            clbits=[] if gapless else places,
            bits=result_pb2.PackedBits(data=pack_bits(bits[:, places])[shots].tobytes()),
        )
        for name, places in registers
    ]


def select_result(header: dict[str, Any], blobs: tuple[bytes, ...]) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    """Task: pick experiments out of a result, count outcomes, leave shots out.

    Experiments are read one at a time, and those that are not wanted are passed over.

    Args:
        header: `experiments`, indices, empty for all; `include_counts`; `omit_shots`; `max_bytes`, most that may come out; `file`,
            path of the result if there is no blob.
        blobs: Serialised `qgateway.v1.JobResult`.

    Raises:
        InvalidArgument: There is no experiment of an index.
        OutOfRange: What is selected has more than `max_bytes`.
    """
    with _opened(header, blobs) as data:
        try:
            rest, experiments = _split(data)
            _check(header["experiments"], len(experiments))
            wanted = [experiments[index] for index in header["experiments"] or range(len(experiments))]
            selected = b"".join((rest, *_all_selected(wanted, header, header["max_bytes"] - len(rest))))
        except _TooLarge:
            raise result_too_large(header["max_bytes"]) from None
        except (DecodeError, WireError) as error:
            raise InvalidArgument.field("result", "the stored bytes are not a qgateway.v1.JobResult") from error
    return {}, (selected,)


@contextmanager
def _opened(header: dict[str, Any], blobs: tuple[bytes, ...]) -> Iterator[memoryview]:
    if blobs:
        yield memoryview(blobs[0])
        return
    with Path(header["file"]).open("rb") as file:
        # Unmapped when the last view of it is gone.
        yield memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _all_selected(experiments: Sequence[memoryview], header: dict[str, Any], left: int) -> Iterator[bytes]:
    """Yield experiments as they are wanted, as fields of the result, which together may have so many bytes."""
    for data in experiments:
        field = _selected(data, header, left)
        left -= len(field)
        if left < 0:
            raise _TooLarge
        yield field


def _selected(data: memoryview, header: dict[str, Any], left: int) -> bytes:
    """Return an experiment as it is wanted, as a field of the result, which may have so many bytes."""
    if not header["omit_shots"] and len(data) > left:
        raise _TooLarge
    if not header["include_counts"] and not header["omit_shots"]:
        return _field(bytes(data))
    experiment = result_pb2.ExperimentResult.FromString(bytes(data))
    if header["include_counts"]:
        experiment.counts.update(count_outcomes(experiment, left))
    if header["omit_shots"]:
        for register in experiment.registers:
            register.ClearField("data")
    return _field(experiment.SerializeToString())


def _field(experiment: bytes) -> bytes:
    return field_head(result_pb2.JobResult.EXPERIMENTS_FIELD_NUMBER, len(experiment)) + experiment


def _split(data: memoryview) -> tuple[bytes, list[memoryview]]:
    """Return a result without its experiments, and each of those. Nothing of them is read."""
    rest, experiments = [], []
    for field in fields(data):
        if field.number == result_pb2.JobResult.EXPERIMENTS_FIELD_NUMBER:
            experiments.append(field.content)
        else:
            rest.append(field.whole)
    return b"".join(rest), experiments


def count_outcomes(experiment: result_pb2.ExperimentResult, max_bytes: float = math.inf) -> Mapping[str, int]:
    """Return how often each joint outcome of the registers was seen, in the form of the keys of Qiskit's `get_counts`.

    Registers are separated by a space, the last declared first; classical bits of no register come before all of them.

    Args:
        experiment: The experiment, with its shots.
        max_bytes: Counts that take more of a message are not made.

    Raises:
        _TooLarge: They take more.
    """
    registers = [
        register for register in experiment.registers if register.WhichOneof("data") == "bits" and register.size
    ]
    if not registers or not experiment.shots:
        return {}
    widths = [(register.size + 7) // 8 for register in registers]
    rows = np.hstack(
        [
            np.frombuffer(register.bits.data, np.uint8).reshape(-1, width)
            for register, width in zip(registers, widths, strict=True)
        ]
    )
    # Rows are compared as one value each: much faster than column by column.
    whole = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.shape[1]))).ravel()
    outcomes, counts = np.unique(whole, return_counts=True)
    if len(outcomes) * sum(register.size for register in registers) > max_bytes:
        raise _TooLarge
    ends = np.cumsum(widths).tolist()
    counted: dict[str, int] = {}
    for outcome, count in zip(outcomes.tolist(), counts.tolist(), strict=True):
        words = [
            f"{int.from_bytes(outcome[end - width : end]):0{register.size}b}"
            for register, width, end in zip(registers, widths, ends, strict=True)
        ]
        counted[" ".join(reversed(words))] = count
    return counted


def registers_of(circuit: QuantumCircuit) -> tuple[list[tuple[str, list[int]]], bool]:
    """Return name and bits of each classical register, then of the bits that are in none, and whether there are no gaps.

    Without gaps, the bits of all registers one after the other are the bits of the circuit in their order.
    """
    registers = [(register.name, [circuit.find_bit(bit).index for bit in register]) for register in circuit.cregs]
    named = set(chain.from_iterable(bits for _, bits in registers))
    if loose := [bit for bit in range(circuit.num_clbits) if bit not in named]:
        registers.append(("", loose))
    return registers, list(chain.from_iterable(bits for _, bits in registers)) == list(range(circuit.num_clbits))


def _distinct(outcomes: Sequence[str], num_bits: int) -> tuple[Rows, npt.NDArray[np.intp]]:
    """Return the distinct outcomes as little-endian rows, and the row of each shot.

    Most runs have far fewer distinct outcomes than shots, so all that follows is done per outcome.
    """
    rows = {outcome: row for row, outcome in enumerate(dict.fromkeys(outcomes))}
    shots = np.fromiter(map(rows.__getitem__, outcomes), np.intp, len(outcomes))
    mask, width = (1 << num_bits) - 1, (num_bits + 7) // 8
    table = b"".join((int(outcome, 16) & mask).to_bytes(width, "little") for outcome in rows)
    return np.frombuffer(table, np.uint8).reshape(len(rows), width), shots


def pack_bits(bits: Rows) -> Rows:
    """Return columns of bits, bit 0 first, as big-endian rows padded with zeros on the left."""
    return np.packbits(bits, axis=1, bitorder="little")[:, ::-1]


def _check(wanted: Sequence[int], have: int) -> None:
    """Refuse the first that is not there: there may be as many as fit into a request."""
    for place, index in enumerate(wanted):
        if not 0 <= index < have:
            raise InvalidArgument.field(
                f"experiments[{place}]", f"there is no experiment {index}; the result has {have}, counted from 0"
            )
