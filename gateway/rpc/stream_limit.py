"""How many streams a caller may have open."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.domain.access import Caller
from gateway.domain.errors import Reason, ResourceExhausted

_RETRY_SECONDS = (1.0, 5.0)
"""Between these, a refused caller is told to wait: not all of them come back at once."""


class StreamLimit:
    """Counts the open streams of each caller.

    Args:
        limit: Most streams of one caller at a time.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def stream(self, caller: Caller) -> Iterator[None]:
        """Count a stream while the context is open.

        Raises:
            ResourceExhausted: The caller has too many.
        """
        key = (caller.tenant, caller.name)
        if self._open[key] >= self._limit:
            raise ResourceExhausted(
                f"{caller.name!r} has {self._limit} watches open, which is the limit. End some of them, or watch many jobs "
                "with one WatchJobs.",
                reason=Reason.TOO_MANY_STREAMS,
                metadata={"limit": str(self._limit)},
                retry_after=random.uniform(*_RETRY_SECONDS),  # noqa: S311 - it keeps no secret
            )
        self._open[key] += 1
        try:
            yield
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]
