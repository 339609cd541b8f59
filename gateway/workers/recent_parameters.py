"""Circuits that were written for IBM Quantum a moment ago: many callers run one circuit again and again."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from gateway.domain.payload import Payload

_MAX_BYTES = 8 * 1024 * 1024
_MAX_PARAMETERS_BYTES = 256 * 1024
"""Larger ones are written again: what it costs to send them is little beside what it costs to run them."""


class _Key(NamedTuple):
    """What was written, and how."""

    circuits: int
    """Identity of the object: who has the same one has got it for the same tenant, and nobody has to compare or hash its bytes."""
    form: bytes


class _Known(NamedTuple):
    """What it came to."""

    circuits: bytes
    """Held, so that no other object gets its identity."""
    before: bytes
    """The parameters up to the name of the job."""
    after: bytes


class RecentParameters:
    """The parameters of programs that were written last, up to a number of bytes.

    They differ from job to job by the job's name, which stands in them once.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[_Key, _Known] = OrderedDict()
        self._size = 0

    def get(self, circuits: Payload, form: bytes, job: str) -> bytes | None:
        """Return the parameters for a job, or None if they are not kept.

        Args:
            circuits: As `gateway.workers.tasks.programs.prepare` wrote them.
            form: All else that the parameters depend on.
            job: Resource name of the job.
        """
        key = _Key(id(circuits), form)
        known = self._known.get(key)
        if known is None:
            return None
        self._known.move_to_end(key)
        return b"".join((known.before, job.encode(), known.after))

    def put(self, circuits: Payload, form: bytes, job: str, parameters: bytes) -> None:
        """Keep the parameters that were written for a job, unless they are large, or the job's name cannot be exchanged."""
        if not isinstance(circuits, bytes) or len(parameters) > _MAX_PARAMETERS_BYTES:
            return
        name = job.encode()
        before, found, after = parameters.partition(name)
        key = _Key(id(circuits), form)
        if not found or name in after or key in self._known:
            return
        known = self._known[key] = _Known(circuits, before, after)
        self._size += _size(key, known)
        while self._size > _MAX_BYTES:
            self._size -= _size(*self._known.popitem(last=False))


def _size(key: _Key, known: _Known) -> int:
    return len(key.form) + len(known.circuits) + len(known.before) + len(known.after)
