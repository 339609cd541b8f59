"""Counts of a result that was downloaded, without numpy: the gateway counts those that fit into one message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from qgateway.v1 import result_pb2


def add_counts(result: result_pb2.JobResult) -> None:
    """Fill the `counts` of each experiment that holds shots, as the gateway does with `include_counts`."""
    for experiment in result.experiments:
        counts = count_shots(experiment.registers, experiment.shots)
        for outcome, count in counts.items():
            experiment.counts[outcome] = count


def count_shots(registers: Iterable[result_pb2.RegisterResult], shots: int) -> dict[str, int]:
    """Return outcome to number of shots: bit strings with the highest bit first, the last register first.

    Args:
        registers: The registers, in the order of their declaration. Those without bits, such as IQ points, count for nothing.
        shots: Number of shots.
    """
    held = [register for register in registers if register.size and register.bits.data]
    if not held:
        return {}
    rows = zip(*(_rows(register, shots) for register in reversed(held)), strict=True)
    sizes = [register.size for register in reversed(held)]
    return {
        " ".join(f"{int.from_bytes(value):0{size}b}" for value, size in zip(row, sizes, strict=True)): count
        for row, count in Counter(rows).items()
    }


def _rows(register: result_pb2.RegisterResult, shots: int) -> list[bytes]:
    width = (register.size + 7) // 8
    data = register.bits.data
    return [data[start : start + width] for start in range(0, shots * width, width)]
