"""What watches and downloads share: when to go on after a cut, how long to wait, how to notice a dead stream."""

from __future__ import annotations

import heapq
import itertools
import os
import random
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from qgateway._errors import ErrorDetails, GatewayCallError

FIRST_DELAY = 0.1
LONGEST_DELAY = 5.0
MAX_DOUBTFUL_FAILURES = 8
"""How often in a row an error is taken for a broken connection that could as well be a bug of the server."""

_WILL_PASS = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED"})
_MAY_PASS = frozenset({"INTERNAL", "UNKNOWN", "CANCELLED", "DEADLINE_EXCEEDED"})
"""What a connection that is cut, or a server that is flooded with streams, can look like."""


_LAPSED = frozenset({"TOKEN_EXPIRED", "API_KEY_EXPIRED", "API_KEY_REVOKED", "CERTIFICATE_EXPIRED"})
"""How a stream ends whose credential does. There may be a new one by then, in the file or from the function that gave the old."""


class Backoff:
    """How long to wait before the next attempt.

    Exponential with full jitter, from 0.1 s to 5 s, and never less than the server asks for.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._was_let_in = False

    def progress(self) -> None:
        """Note that something came through: the next failure is the first again."""
        self._failures = 0
        self._was_let_in = True

    def heard(self) -> None:
        """Note that the server lets the caller in."""
        self._was_let_in = True

    def delay_after(self, error: GatewayCallError) -> float:
        """Return the seconds to wait after a failure.

        Raises:
            GatewayCallError: The error itself, if trying again does not help.
        """
        if error.reason in _LAPSED and self._was_let_in:
            self._was_let_in = False
            return self.pause()
        doubtful = error.code in _MAY_PASS and self._failures < MAX_DOUBTFUL_FAILURES
        if error.code not in _WILL_PASS and not doubtful:
            raise error
        return (error.retry_after or 0.0) + self.pause()

    def pause(self) -> float:
        """Return the seconds to wait after a failure that will pass."""
        # The exponent is bounded only to keep the number small.
        ceiling = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(self._failures, 16))
        self._failures += 1
        return random.uniform(0, ceiling)  # noqa: S311 - spreads load, hides nothing


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
    """Calls a function from another thread when a moment passes before it is disarmed.

    Reading a stream blocks without a time limit; cancelling the call from another thread is what ends it. All dogs of a
    process share one thread.

    Args:
        bite: What to call. It is called at most once for each time the dog is armed, and must be quick.
    """

    def __init__(self, bite: Callable[[], object]) -> None:
        self._bite: Callable[[], object] | None = bite
        self._keeper = _keeper()
        self.moment: float | None = None
        """When to bite; None: not armed."""
        self.looked_at: float | None = None
        """When the keeper will look at it next; None: not at all."""
        self.has_bitten = False
        """True once the function was called."""

    def arm(self, moment: float) -> None:
        """Set the moment, on the clock of `time.monotonic`."""
        self._keeper.watch(self, moment)

    def disarm(self) -> None:
        """Forget the moment."""
        self.moment = None

    def bite(self) -> None:
        """Call the function."""
        self.moment = None
        if (bite := self._bite) is not None:
            self.has_bitten = True
            bite()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.moment = None
        self._bite = None  # the keeper may hold the dog for a while, and must not hold what it guarded


class _Keeper:
    """The thread that looks after all watchdogs of a process. It is started with the first, and ends with the process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watched: list[tuple[float, int, Watchdog]] = []
        self._numbers = itertools.count()
        threading.Thread(target=self._run, name="qgateway-watchdog", daemon=True).start()

    def watch(self, dog: Watchdog, moment: float) -> None:
        with self._changed:
            dog.moment = moment
            # A dog that is looked at too early is looked at again: one entry serves for most of its moments.
            if dog.looked_at is None or moment < dog.looked_at:
                self._put(dog, moment)
                if self._watched[0][2] is dog:
                    self._changed.notify()

    def _put(self, dog: Watchdog, moment: float) -> None:
        dog.looked_at = moment
        heapq.heappush(self._watched, (moment, next(self._numbers), dog))

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._watched or (left := self._watched[0][0] - time.monotonic()) > 0:
                    self._changed.wait(left if self._watched else None)
                looked_at, _, dog = heapq.heappop(self._watched)
                if looked_at != dog.looked_at:  # an earlier look has taken the place of this one
                    continue
                dog.looked_at = None
                moment = dog.moment
                if moment is not None and moment > time.monotonic():
                    self._put(dog, moment)
                    continue
            if moment is not None:
                dog.bite()


_keepers: dict[int, _Keeper] = {}
"""By process id: a thread does not survive a fork."""
_keepers_lock = threading.Lock()


def _keeper() -> _Keeper:
    process = os.getpid()
    with _keepers_lock:
        if process not in _keepers:
            _keepers[process] = _Keeper()
        return _keepers[process]
