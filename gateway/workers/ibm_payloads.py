"""Writes circuits for IBM Quantum and reads its results, in worker processes."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.domain.job import MeasLevel, MeasReturn
from gateway.domain.payload import Payload
from gateway.domain.provider import ProviderSubmission
from gateway.workers.pool import WorkerPool
from gateway.workers.recent_parameters import RecentParameters


class WorkerIbmPayloads:
    """The `gateway.providers.ibm.payloads.Payloads` that works in worker processes.

    Args:
        pool: Where the work is done. `warm_up="warm_up_programs"` suits it.
        time_limit: Longest time for one program or result, in seconds.
        memory_limit: Most memory for one program or result, in bytes.
    """

    def __init__(self, pool: WorkerPool, *, time_limit: float = 120.0, memory_limit: int = 4 * 2**30) -> None:
        self._pool = pool
        self._time_limit = time_limit
        self._memory_limit = memory_limit
        self._recent = RecentParameters()

    async def encode(self, submission: ProviderSubmission, *, program: str, circuit_format: str) -> bytes:
        """Return the parameters of a program that runs a submission's circuits, as JSON.

        Args:
            submission: What to run.
            program: `executor` or `sampler`.
            circuit_format: `qpy17`, `qpy18` or `openqasm3`.

        Raises:
            InvalidArgument: The circuits cannot be written in this format.
            WorkerFailure: It took too long, too much memory, or crashed the worker.
        """
        options, circuits = submission.options, submission.program.circuits
        header = {
            "program": program,
            "format": circuit_format,
            "shots": options.shots,
            "level": _level(options.meas_level, options.meas_return),
            "init_qubits": options.init_qubits,
            "rep_delay": options.rep_delay,
            "experimental": dict(options.provider_options.get("experimental", {})),
            "header": dict(options.header),
        }
        form = orjson.dumps(header)
        if (known := self._recent.get(circuits, form, submission.job_name)) is not None:
            return known
        _, (params,) = await self._pool.run(
            "ibm_encode",
            {**header, "job": submission.job_name},
            circuits,
            time_limit=self._time_limit,
            memory_limit=self._memory_limit,
        )
        self._recent.put(circuits, form, submission.job_name, params)
        return params

    async def decode(
        self, results: Payload, *, program: str, job: str, backend: str, backend_version: str, status: str
    ) -> Payload | None:
        """Return results as a serialised `qgateway.v1.JobResult`, or None if the bytes are no results at all.

        What the gateway did not send as circuits is kept as it came.

        Args:
            results: As the service sent them.
            program: The service's name of the program.
            job: Resource name of the job, for programs that are no circuits of the gateway.
            backend: Name of the backend.
            backend_version: Its version.
            status: The service's word for how the job is.

        Raises:
            WorkerFailure: It took too long, too much memory, or crashed the worker.
        """
        header: dict[str, Any] = {
            "program": program,
            "job": job,
            "backend": backend,
            "backend_version": backend_version,
            "status": status,
        }
        reply, blobs = await self._pool.run_large(
            "ibm_decode", header, results, time_limit=self._time_limit, memory_limit=self._memory_limit
        )
        return blobs[0] if reply["understood"] else None


def _level(level: MeasLevel, returned: MeasReturn) -> str:
    if level is MeasLevel.CLASSIFIED:
        return "classified"
    return "avg_kerneled" if returned is MeasReturn.AVERAGE else "kerneled"
