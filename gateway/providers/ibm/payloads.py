"""What the provider needs of somebody who reads and writes circuits."""

from __future__ import annotations

from typing import Protocol

from gateway.domain.payload import Payload
from gateway.domain.provider import ProviderSubmission


class Payloads(Protocol):
    """Writes circuits for the service and reads its results, away from the server's process."""

    async def encode(self, submission: ProviderSubmission, *, program: str, circuit_format: str) -> bytes:
        """Return the parameters of a program that runs a submission's circuits, as JSON.

        Raises:
            InvalidArgument: The circuits cannot be written in this format.
            WorkerFailure: It took too long, too much memory, or crashed the worker.
        """

    async def decode(
        self, results: Payload, *, program: str, job: str, backend: str, backend_version: str, status: str
    ) -> Payload | None:
        """Return results as a serialised `qgateway.v1.JobResult`, or None if the bytes are no results at all.

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
