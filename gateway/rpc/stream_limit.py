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
        reason: Why one more is refused.
        what: What they are, for people.
        advice: What to do where there are too many: a sentence.
    """

    def __init__(self, limit: int, reason: Reason, what: str, advice: str) -> None:
        self._limit = limit
        self._reason = reason
        self._what = what
        self._advice = advice
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
                f"{caller.name!r} has {self._limit} {self._what}, which is the limit. {self._advice}",
                reason=self._reason,
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
