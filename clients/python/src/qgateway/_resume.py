"""What watches and downloads share: when to go on after a cut, how long to wait, how to notice a dead stream."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from qgateway._errors import ErrorDetails, GatewayCallError

FIRST_DELAY = 0.1
LONGEST_DELAY = 10.0
MAX_DOUBTFUL_FAILURES = 8
"""How often in a row an error is taken for a broken connection that could as well be a bug of the server."""

_WILL_PASS = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED"})
_MAY_PASS = frozenset({"INTERNAL", "UNKNOWN", "CANCELLED", "DEADLINE_EXCEEDED"})
"""What a connection that is cut, or a server that is flooded with streams, can look like."""


class Backoff:
    """How long to wait before the next attempt.

    Exponential with full jitter, from 0.1 s to 10 s, and never less than the server asks for.
    """

    def __init__(self) -> None:
        self._failures = 0

    def progress(self) -> None:
        """Note that something came through: the next failure is the first again."""
        self._failures = 0

    def delay_after(self, error: GatewayCallError) -> float:
        """Return the seconds to wait after a failure.

        Raises:
            GatewayCallError: The error itself, if trying again does not help.
        """
        doubtful = error.code in _MAY_PASS and self._failures < MAX_DOUBTFUL_FAILURES
        if error.code not in _WILL_PASS and not doubtful:
            raise error
        # The exponent is bounded only to keep the number small.
        ceiling = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(self._failures, 16))
        self._failures += 1
        return (error.retry_after or 0.0) + random.uniform(0, ceiling)  # noqa: S311 - spreads load, hides nothing


def silent_stream(seconds: float, *, job_id: str, target: str) -> GatewayCallError:
    """Return the error for a stream on which nothing came although something was due."""
    return GatewayCallError(
        f"The stream was silent for {seconds:g} s; its connection is taken for dead.",
        code="UNAVAILABLE",
        details=ErrorDetails(reason="STREAM_SILENT"),
        job_id=job_id,
        target=target,
    )


class Watchdog:
    """Calls a function from a thread of its own when a moment passes before it is disarmed.

    Reading a stream blocks without a time limit; cancelling the call from another thread is what ends it.

    Args:
        bite: What to call. It is called at most once for each time the dog is armed.
    """

    def __init__(self, bite: Callable[[], object]) -> None:
        self._bite = bite
        self._moment: float | None = None
        self._stopped = False
        self._changed = threading.Condition()
        self.has_bitten = False
        """True once the function was called."""
        self._thread = threading.Thread(target=self._run, name="qgateway-watchdog", daemon=True)

    def arm(self, moment: float) -> None:
        """Set the moment, on the clock of `time.monotonic`."""
        with self._changed:
            self._moment = moment
            self._changed.notify()

    def disarm(self) -> None:
        """Forget the moment."""
        with self._changed:
            self._moment = None

    def _run(self) -> None:
        with self._changed:
            while not self._stopped:
                left = None if self._moment is None else self._moment - time.monotonic()
                if left is not None and left <= 0:
                    self._moment = None
                    self.has_bitten = True
                    self._bite()
                else:
                    self._changed.wait(left)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()
