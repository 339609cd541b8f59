"""How fast an instance may submit jobs."""

from __future__ import annotations

import time
from collections import defaultdict, deque

from tests.emulators.ibm_quantum.accounts import Instance
from tests.emulators.ibm_quantum.codes import Code
from tests.emulators.ibm_quantum.settings import Settings
from tests.emulators.ibm_quantum.wire import ApiError

_MINUTE = 60.0


class Pace:
    """Counts the submissions of the last minute.

    Args:
        settings: Say how many are allowed.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._submits: defaultdict[str, deque[float]] = defaultdict(deque)

    def reset(self) -> None:
        """Forget all submissions."""
        self._submits.clear()

    def check(self, instance: Instance) -> None:
        """Count a submission.

        Raises:
            ApiError: 429 with `Retry-After`, if there were too many.
        """
        limit, submits, now = self._settings.submits_per_minute, self._submits[instance.crn], time.monotonic()
        while submits and submits[0] <= now - _MINUTE:
            submits.popleft()
        if limit is not None and len(submits) >= limit:
            headers = {"Retry-After": str(max(1, round(submits[0] + _MINUTE - now)))}
            message = f"Too many jobs requests received: limit is {limit} per minute."
            raise ApiError(429, Code.TOO_MANY_REQUESTS, message, "Slow down and try again.", headers)
        submits.append(now)
