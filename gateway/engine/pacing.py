"""How often an account's provider is called."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

_random = random.SystemRandom()

_ROUNDING = 1e-9
"""What is missing by rounding alone is there."""


@dataclass(frozen=True, slots=True)
class Pacing:
    """How the engine treats one account."""

    submits_per_minute: float | None = None
    """Most jobs that are handed over per minute; as many at once after a rest. None: as many as come."""
    shortest_poll: float = 1.0
    """Least seconds between two looks at the pending jobs."""
    longest_poll: float = 60.0
    """Most seconds between them, unless the provider asks for more."""
    inline_seconds: float = 10.0
    """Seconds after which whoever submits a job is no longer kept waiting for the provider's answer."""
    settle_seconds: float = 120.0
    """Seconds after a lost reply in which a job can still turn up at the provider."""


def jittered(seconds: float) -> float:
    """Return a time near the given one, so that gateways do not come together."""
    return seconds * _random.uniform(0.85, 1.15)


class TokenBucket:
    """Tokens that come back at a steady rate, up to a number.

    Args:
        per_minute: How many come back in a minute, and how many there are at most; None: there is always one.
        clock: Seconds since some moment.
    """

    def __init__(self, per_minute: float | None, clock: Callable[[], float]) -> None:
        self._rate = (per_minute or 0.0) / 60.0
        self._capacity = max(1.0, per_minute or 0.0)
        self._clock = clock
        self._tokens = self._capacity
        self._counted_at = clock()

    def take(self) -> bool:
        """Take a token, if there is one."""
        if self.delay():
            return False
        self._tokens -= 1.0
        return True

    def give_back(self) -> None:
        """Give back a token that was not needed."""
        self._tokens = min(self._capacity, self._tokens + 1.0)

    def delay(self, ahead: int = 0) -> float:
        """Return the seconds until there is a token, for whoever comes after `ahead` others."""
        if not self._rate:
            return 0.0
        now = self._clock()
        self._tokens = min(self._capacity, self._tokens + (now - self._counted_at) * self._rate)
        self._counted_at = now
        missing = 1.0 + ahead - self._tokens
        return missing / self._rate if missing > _ROUNDING else 0.0
