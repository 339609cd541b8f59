"""Hands out results and programs, whole or in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from gateway.domain.access import Caller
from gateway.domain.errors import FailedPrecondition, OutOfRange, Reason
from gateway.domain.job import Job, JobStatus
from gateway.domain.payload import KeptPayload, Payload, PayloadFile, payload_size
from gateway.domain.program import ProgramReader, result_too_large
from gateway.engine.jobs import Jobs
from gateway.engine.recent_results import RecentResults
from gateway.store import Store


@dataclass(frozen=True, slots=True)
class Download:
    """A program or result on its way to a caller."""

    size_bytes: int
    """Size of the whole."""
    sha256: str
    """SHA-256 of the whole, 64 hexadecimal digits."""
    pieces: AsyncIterator[bytes]
    """The bytes from the offset on. Nothing is read ahead but the next piece."""


class Results:
    """Reads what jobs brought, and what they ran.

    Args:
        jobs: Finds them.
        store: Keeps results and programs.
        reader: Selects parts of results.
        recent_results: Results at hand.
    """

    def __init__(self, jobs: Jobs, store: Store, reader: ProgramReader, recent_results: RecentResults) -> None:
        self._jobs = jobs
        self._store = store
        self._reader = reader
        self._recent_results = recent_results

    async def result(self, caller: Caller, job_id: str) -> tuple[Job, KeptPayload]:
        """Return a job and its result, a serialised `qgateway.v1.JobResult`.

        Raises:
            NotFound: There is no such job.
            FailedPrecondition: It has no result, or none yet.
        """
        job = await self._jobs.get(caller, job_id)
        if not job.status.is_final:
            raise FailedPrecondition(
                f"The job is {job.status}; its result is there when it is DONE. Watch it until then.",
                reason=Reason.RESULT_NOT_READY,
                metadata={"job": job_id, "status": job.status},
            )
        result: KeptPayload | None = None
        if job.status is JobStatus.DONE:
            result = self._recent_results.get(job_id) or await self._store.read_result(job_id)
        if result is None:
            why = f" {job.failure.message}" if job.failure else ""
            raise FailedPrecondition(
                f"The job ended {job.status} and has no result.{why}",
                reason=Reason.RESULT_ABSENT,
                metadata={"job": job_id, "status": job.status},
            )
        return job, result

    async def select_result(
        self,
        caller: Caller,
        job_id: str,
        experiments: tuple[int, ...],
        *,
        include_counts: bool,
        omit_shots: bool,
        max_bytes: int,
    ) -> bytes:
        """Return part of a result, with counts if asked for. A large result is read by a worker, and only where it must be.

        Raises:
            NotFound: There is no such job.
            FailedPrecondition: It has no result, or none yet.
            InvalidArgument: There is no such experiment.
            OutOfRange: What was selected has more than `max_bytes`.
        """
        _, result = await self.result(caller, job_id)
        selected: Payload = result
        if experiments or include_counts or omit_shots:
            selected = await self._reader.select_result(
                result, experiments, include_counts=include_counts, omit_shots=omit_shots, max_bytes=max_bytes
            )
        if payload_size(selected) > max_bytes:
            raise result_too_large(max_bytes)
        return await asyncio.to_thread(selected.path.read_bytes) if isinstance(selected, PayloadFile) else selected

    async def download_result(self, caller: Caller, job_id: str, *, offset: int, piece_bytes: int) -> Download:
        """Return a result in pieces.

        Raises:
            NotFound: There is no such job.
            FailedPrecondition: It has no result, or none yet.
            OutOfRange: The offset lies behind the end.
        """
        job, result = await self.result(caller, job_id)
        return self._download(result, job.result.sha256 if job.result else "", offset, piece_bytes)

    async def download_program(self, caller: Caller, job_id: str, *, offset: int, piece_bytes: int) -> Download:
        """Return a program in pieces: a serialised `qgateway.v1.Program`, as submitted.

        Raises:
            NotFound: There is no such job.
            OutOfRange: The offset lies behind the end.
        """
        job = await self._jobs.get(caller, job_id)
        return self._download(await self._store.read_program(job_id), job.program.sha256, offset, piece_bytes)

    def _download(self, payload: KeptPayload, sha256: str, offset: int, piece_bytes: int) -> Download:
        size = payload_size(payload)
        if offset > size:
            raise OutOfRange(
                f"The download has {size} bytes; it cannot begin at {offset}.",
                metadata={"size_bytes": str(size), "offset": str(offset)},
            )
        return Download(size, sha256, self._store.payloads.read_pieces(payload, offset, piece_bytes))
