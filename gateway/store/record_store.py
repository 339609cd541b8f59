"""Records of runs as the engine sees them in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.domain.backend import BackendProperties
from gateway.domain.job import Change, Job
from gateway.domain.record import JobRecord
from gateway.store.lane import Lane
from gateway.store.reads import Reads
from gateway.store.records import encode_record
from gateway.store.writes import Writes


class RecordStore:
    """The records in a `Store`, with its promises.

    Args:
        writer: Runs writes.
        pages: Runs reads.
    """

    def __init__(self, writer: Lane[Writes], pages: Lane[Reads]) -> None:
        self._writer = writer
        self._pages = pages

    async def add(self, job_id: str, record: JobRecord, change: Callable[[Job], Change | None]) -> Job:
        """Store the record of a job that has ended, which is then no longer due; equal calibrations are stored once.

        Args:
            job_id: Which job.
            record: Its record.
            change: What becomes of the job with it, as in `change_job`.

        Raises:
            NotFound: There is no such job.
        """
        encoded = await asyncio.to_thread(encode_record, record)
        return await self._writer.run(lambda writes: writes.add_record(job_id, encoded, change))

    async def due(self, account: str) -> tuple[str, ...]:
        """Return the ids of the jobs of an account whose record is yet to be made, the oldest first."""
        return await self._pages.run(lambda reads: reads.records.due(account))

    async def read_metrics(self, job_id: str) -> dict[str, str] | None:
        """Return the metrics in a job's record, or None if there is no record."""
        return await self._pages.run(lambda reads: reads.records.metrics(job_id))

    async def read_calibration(self, job_id: str) -> BackendProperties | None:
        """Return the calibration in a job's record, or None if there is none."""
        return await self._pages.run(lambda reads: reads.records.calibration(job_id))
