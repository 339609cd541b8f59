"""The protection of all callers from one that calls without end."""

from __future__ import annotations

from gateway.access.rates import Rates
from gateway.domain.access import Caller
from gateway.domain.errors import QuotaViolation, Reason, ResourceExhausted

_BURST_SECONDS = 10.0
"""After a rest, the calls of so many seconds may come at once: streams come back together after a restart."""


class CallRate:
    """Bounds the calls of each caller.

    Args:
        per_second: Most calls a second that go on and on.
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._rates = Rates()

    def count(self, caller: Caller) -> None:
        """Count a call.

        Raises:
            ResourceExhausted: There were too many.
        """
        name = caller.credential or f"{caller.tenant}/{caller.name}"
        wait = self._rates.take(name, self._per_second, self._per_second * _BURST_SECONDS)
        if wait:
            text = f"{caller.name!r} may make {self._per_second:g} calls a second."
            raise ResourceExhausted(
                f"{text} Make fewer; to follow a job, watch it.",
                reason=Reason.CALL_RATE_EXCEEDED,
                metadata={"limit_name": "calls_per_second", "limit": f"{self._per_second:g}"},
                quota=QuotaViolation(f"callers/{caller.name}", "calls_per_second", text),
                retry_after=wait,
            )
