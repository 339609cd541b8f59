"""How often callers may do something."""

from __future__ import annotations

import time
from collections.abc import Callable

_ROUNDING = 1e-9
"""What is missing by rounding alone is there."""
_FEW = 1024


class Rates:
    """A token bucket for each of many names, all full at first. One number a name, and none for those that are at rest.

    Args:
        clock: Seconds since some moment.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._full_at: dict[str, float] = {}
        """When the bucket of a name is full again: the generic cell rate algorithm."""
        self._sweep_at = _FEW

    def take(self, name: str, per_second: float, burst: float) -> float:
        """Take a token, if there is one.

        Args:
            name: Whose.
            per_second: How many come back in a second.
            burst: How many there are at most, at least 1.

        Returns:
            0 if there was one; else the seconds until there is.
        """
        now = self._clock()
        full_at = max(now, self._full_at.get(name, 0.0)) + 1.0 / per_second
        wait = full_at - now - burst / per_second
        if wait > _ROUNDING:
            return wait
        self._full_at[name] = full_at
        if len(self._full_at) > self._sweep_at:
            self._full_at = {name: at for name, at in self._full_at.items() if at > now}
            self._sweep_at = max(_FEW, 2 * len(self._full_at))
        return 0.0

    def give_back(self, name: str, per_second: float) -> None:
        """Give back a token that was not needed.

        Args:
            name: Whose.
            per_second: How many come back in a second, as it was for `take`.
        """
        if name in self._full_at:
            self._full_at[name] -= 1.0 / per_second
