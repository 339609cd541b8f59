"""Programs and results on their way through the gateway: bytes, or a file where they are too many for memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

LARGE_PAYLOAD_BYTES = 1024 * 1024
"""What is larger travels and is stored as a file."""


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class PayloadFile:
    """Bytes that stand in a file. The file stays for at least as long as somebody holds this object."""

    path: Path
    size_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class KeptFile(PayloadFile):
    """A file of the store: it is on disk for good once a job refers to it."""

    sha256: str
    """64 hexadecimal digits."""


Payload: TypeAlias = bytes | PayloadFile
"""A serialised `qgateway.v1.Program` or `qgateway.v1.JobResult`, or circuits as workers write them."""

KeptPayload: TypeAlias = bytes | KeptFile
"""A payload that the store can refer to: small, or in a file of its own."""


def payload_size(payload: Payload) -> int:
    """Return the number of bytes."""
    return payload.size_bytes if isinstance(payload, PayloadFile) else len(payload)
