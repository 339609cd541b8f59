"""Runs circuits on simulators in worker processes."""

from __future__ import annotations

from gateway.domain.backend import Backend, BackendProperties
from gateway.domain.payload import Payload
from gateway.domain.provider import ProviderSubmission
from gateway.workers.codec import DEVICES
from gateway.workers.pool import WorkerPool

_DESCRIBE_SECONDS = 60.0
_DESCRIBE_BYTES = 2**30


class WorkerSimulators:
    """Simulated machines; each run has a worker process to itself.

    Args:
        pool: Where the work is done. `warm_up="warm_up_simulation"` suits it.
        max_result_bytes: Largest result of a run.
    """

    def __init__(self, pool: WorkerPool, *, max_result_bytes: int = 2**30) -> None:
        self._pool = pool
        self._max_result_bytes = max_result_bytes

    async def describe(self, memory_limit: int) -> tuple[tuple[Backend, BackendProperties | None], ...]:
        """Return all machines, of no account yet, with their calibration where they have any.

        Args:
            memory_limit: Memory of a run in bytes, which decides how wide the ideal machine is.
        """
        _, (described,) = await self._pool.run(
            "describe_devices",
            {"memory_limit": memory_limit},
            time_limit=_DESCRIBE_SECONDS,
            memory_limit=_DESCRIBE_BYTES,
        )
        return DEVICES.validate_json(described)

    async def run(self, submission: ProviderSubmission, *, time_limit: float, memory_limit: int) -> Payload:
        """Run a program and return its result as a serialised `qgateway.v1.JobResult`. If the caller is cancelled, the run ends.

        Args:
            submission: What to run, on one of the machines that `describe` returns.
            time_limit: Longest time of the run in seconds.
            memory_limit: Most memory of the run in bytes.

        Raises:
            GatewayError: The simulator cannot run the circuits.
            WorkerFailure: The run went over a limit, or its process died.
        """
        options = submission.options
        _, (result,) = await self._pool.run_large(
            "simulate",
            {
                "job": submission.job_name,
                "backend": submission.backend,
                "shots": options.shots,
                "seed": options.seed_simulator,
                "header": dict(options.header),
                "memory_limit": memory_limit,
                "max_result_bytes": self._max_result_bytes,
            },
            submission.program.circuits,
            time_limit=time_limit,
            memory_limit=memory_limit,
        )
        return result
