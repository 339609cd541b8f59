"""Results that were stored a moment ago: nearly all are read at once, by whoever waited for them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.domain.payload import Payload

_MAX_BYTES = 32 * 1024 * 1024
_MAX_RESULT_BYTES = 1024 * 1024
"""Larger results are read from the store: what that costs is little beside their download."""


class RecentResults:
    """The newest small results, up to a number of bytes."""

    def __init__(self) -> None:
        self._results: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    @contextmanager
    def kept(self, job_id: str, result: Payload) -> Iterator[None]:
        """Keep a result, unless it is large, while what runs inside stores it, and from then on; not if that fails.

        Watchers are told of the end of a job before its writer goes on, and ask for the result in the same moment.
        """
        self._put(job_id, result)
        try:
            yield
        except BaseException:
            self.drop(job_id)
            raise

    def get(self, job_id: str) -> bytes | None:
        """Return the result of a job that is DONE, or None if it is not kept."""
        return self._results.get(job_id)

    def drop(self, job_id: str) -> None:
        """Forget the result of a job that was deleted."""
        self._size -= len(self._results.pop(job_id, b""))

    def _put(self, job_id: str, result: Payload) -> None:
        if not isinstance(result, bytes) or len(result) > _MAX_RESULT_BYTES or job_id in self._results:
            return
        self._results[job_id] = result
        self._size += len(result)
        while self._size > _MAX_BYTES:
            self._size -= len(self._results.popitem(last=False)[1])
