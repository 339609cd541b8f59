"""What the local provider needs of simulators."""

from __future__ import annotations

from typing import Protocol

from gateway.domain.backend import Backend, BackendProperties
from gateway.domain.payload import Payload
from gateway.domain.provider import ProviderSubmission


class Simulators(Protocol):
    """Simulated machines that run away from the server's process."""

    async def describe(self, memory_limit: int) -> tuple[tuple[Backend, BackendProperties | None], ...]:
        """Return all machines, of no account yet, with their calibration where they have any.

        Args:
            memory_limit: Memory of a run in bytes, which decides how wide a machine is.
        """

    async def run(self, submission: ProviderSubmission, *, time_limit: float, memory_limit: int) -> Payload:
        """Run a program and return its result as a serialised `qgateway.v1.JobResult`. If the caller is cancelled, the run ends.

        Args:
            submission: What to run, on one of the machines that `describe` returns.
            time_limit: Longest time of the run in seconds.
            memory_limit: Most memory of the run in bytes.

        Raises:
            GatewayError: The run failed; reason and message say why.
        """
