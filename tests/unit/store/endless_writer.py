"""Run as a process: writes to a store until it is killed, and prints each write once it is acknowledged."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from gateway.domain.job import Job, JobStatus
from gateway.store import Store
from tests.unit.store.make import PROGRAM, a_job, an_entry, to_status


def tell(job: Job) -> None:
    sys.stdout.write(f"{job.id} {job.revision} {job.status}\n")
    sys.stdout.flush()


async def write(store: Store) -> None:
    while True:
        job = await store.create_job(a_job(), PROGRAM, an_entry())
        tell(job)
        tell(await store.change_job(job.id, to_status(JobStatus.QUEUED), an_entry("job.track")))


async def main() -> None:
    store = await Store.open(Path(sys.argv[1]))
    await asyncio.gather(*(write(store) for _ in range(8)))


asyncio.run(main())
