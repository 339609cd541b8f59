"""Reading and writing QPY, Qiskit's binary form of circuits."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from qiskit import QuantumCircuit, qpy
from qiskit.qpy.common import QPY_VERSION

from gateway.workers.tasks.violations import Unreadable

MIN_QPY_VERSION = 13
"""Oldest version that is read: the readers of older ones can run code."""
_MAGIC = b"QISKIT"


def qpy_versions(header: dict[str, Any], blobs: tuple[bytes, ...]) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    """Task: return the oldest and newest QPY version that is read."""
    del header, blobs
    return {"oldest": MIN_QPY_VERSION, "newest": QPY_VERSION}, ()


def read_qpy(data: bytes) -> list[QuantumCircuit]:
    """Return the circuits of a QPY file that a caller sent.

    Raises:
        Unreadable: It is no QPY file, is of a version that is not read, or is damaged.
    """
    if len(data) <= len(_MAGIC) or not data.startswith(_MAGIC):
        raise Unreadable("this is not a QPY file")
    version = data[len(_MAGIC)]
    if version < MIN_QPY_VERSION:
        raise Unreadable(
            f"QPY version {version} is not read, because reading versions before {MIN_QPY_VERSION} can run code. Write the "
            "circuits with Qiskit 1.3 or newer"
        )
    if version > QPY_VERSION:
        raise Unreadable(f"QPY version {version} is newer than this server reads; write version {QPY_VERSION} or older")
    try:
        return list(qpy.load(BytesIO(data)))
    except (MemoryError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # damaged files make the reader panic, which is not an Exception
        words = str(getattr(error, "message", None) or error).strip()
        # Some messages are the backtrace of the reader, which helps nobody who holds a damaged file.
        reason = f" ({words})" if words and "\n" not in words else ""
        raise Unreadable(f"the QPY file is damaged or ends too early{reason}") from error


def write_qpy(circuits: Sequence[QuantumCircuit]) -> bytes:
    """Return circuits as QPY, for another worker."""
    buffer = BytesIO()
    qpy.dump(list(circuits), buffer)
    return buffer.getvalue()


def load_own_qpy(data: bytes) -> list[QuantumCircuit]:
    """Return the circuits that `write_qpy` wrote."""
    return list(qpy.load(BytesIO(data)))
