"""Programs that were read a moment ago: many callers run one circuit again and again."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from gateway.domain.backend import Backend
from gateway.domain.job import JobUsage
from gateway.domain.payload import payload_size
from gateway.domain.policy import NO_LIMITS, Limits
from gateway.domain.program import PreparedProgram

_MAX_BYTES = 8 * 1024 * 1024
_MAX_PROGRAM_BYTES = 64 * 1024
"""Larger programs are read again: what it costs to send them is little beside what it costs to run them."""


class ProgramKey(NamedTuple):
    """What was asked for. Each tenant has its own: nobody can tell, by how soon an answer comes, what another tenant runs."""

    tenant: str
    account: str
    """Empty: the first that has the backend."""
    backend: str
    transpile: int | None
    source: bytes | str
    """Serialised `qgateway.v1.Program`; of one that was uploaded, its SHA-256."""


class KnownProgram(NamedTuple):
    """A program as it was prepared for a backend."""

    backend: Backend
    """Whoever finds another backend now has to prepare the program again."""
    program: PreparedProgram
    request: object = None
    """The request that it came with. If the same one comes again, under the same limits, nothing of it is checked again."""
    limits: Limits = NO_LIMITS
    """What the request was checked against."""
    usage: JobUsage = JobUsage()
    """What a job of that request holds of its tenant's budgets."""

    def is_checked(self, request: object, backend: Backend, limits: Limits) -> bool:
        """Return whether a request was found right before: the same objects, as they never change."""
        return self.request is request and self.backend is backend and self.limits is limits


class RecentPrograms:
    """The small programs that were read last, up to a number of bytes."""

    def __init__(self) -> None:
        self._known: OrderedDict[ProgramKey, KnownProgram] = OrderedDict()
        self._size = 0

    def get(self, key: ProgramKey) -> KnownProgram | None:
        """Return a program, or None if it is not kept."""
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
        return known

    def put(self, key: ProgramKey, known: KnownProgram) -> None:
        """Keep a program, unless it is large."""
        size = _size(key, known)
        if size > _MAX_PROGRAM_BYTES:
            return
        if (old := self._known.pop(key, None)) is not None:
            self._size -= _size(key, old)
        self._known[key] = known
        self._size += size
        while self._size > _MAX_BYTES:
            self._size -= _size(*self._known.popitem(last=False))


def _size(key: ProgramKey, known: KnownProgram) -> int:
    return len(key.source) + payload_size(known.program.circuits)
