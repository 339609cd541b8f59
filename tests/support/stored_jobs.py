"""Jobs that a gateway finds in its database when it starts."""

from __future__ import annotations

import hashlib
from pathlib import Path

from gateway.domain.access import AuditEntry
from gateway.domain.job import (
    Change,
    EventType,
    Job,
    JobStatus,
    ProgramKind,
    ProgramSummary,
    ResultSummary,
    RunOptions,
    new_id,
    utc_now,
    with_status,
)
from gateway.domain.payload import KeptFile
from gateway.store import Store


async def store_done_job(path: Path, result: bytes) -> str:
    """Store a job of tenant `dev` that is DONE with a large result; return its name.

    Args:
        path: The database; no gateway may be over it.
        result: The result: large enough to be kept as a file.
    """
    store = await Store.open(path)
    try:
        program = b"\x12\x00"
        now = utc_now()
        job = Job(
            id=new_id(),
            tenant="dev",
            creator="dev",
            account="local",
            backend="local_simulator",
            options=RunOptions(),
            program=ProgramSummary(ProgramKind.QPY, 1, len(program), hashlib.sha256(program).hexdigest(), 1),
            created_at=now,
            updated_at=now,
        )
        await store.create_job(job, program, AuditEntry(now, "dev", "dev", "job.submit", f"jobs/{job.id}"))
        kept = await store.payloads.keep(result)
        assert isinstance(kept, KeptFile)
        done = with_status(job, JobStatus.DONE, now, result=ResultSummary(kept.size_bytes, kept.sha256))
        await store.change_job(job.id, lambda _: Change(done, EventType.STATUS_CHANGED, result=kept))
    finally:
        await store.close()
    return f"jobs/{job.id}"
