"""Jobs, changes and audit entries for the tests."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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

PROGRAM = b"OPENQASM 3.0; qubit[2] q; bit[2] c; h q[0]; cx q[0], q[1]; c = measure q;" * 4
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def program_summary(program: bytes = PROGRAM) -> ProgramSummary:
    return ProgramSummary(ProgramKind.OPENQASM, 1, len(program), hashlib.sha256(program).hexdigest(), 2)


def result_summary(result: bytes) -> ResultSummary:
    return ResultSummary(size_bytes=len(result), sha256=hashlib.sha256(result).hexdigest())


def a_job(program: bytes = PROGRAM, **fields: Any) -> Job:
    now = utc_now()
    defaults: dict[str, Any] = {
        "id": new_id(),
        "tenant": "physics",
        "creator": "alice",
        "account": "local",
        "backend": "local_simulator",
        "options": RunOptions(),
        "program": program_summary(program),
        "created_at": now,
        "updated_at": now,
    }
    return Job(**{**defaults, **fields})


def an_entry(action: str = "job.submit", **fields: Any) -> AuditEntry:
    return AuditEntry(
        **{"at": NOON, "caller": "alice", "tenant": "physics", "action": action, "resource": "jobs/x", **fields}
    )


def to_status(status: JobStatus, **fields: Any) -> Callable[[Job], Change]:
    """Return the change of a job to a status."""
    return lambda job: Change(with_status(job, status, utc_now(), **fields), EventType.STATUS_CHANGED)


def done_with_file(result: KeptFile) -> Callable[[Job], Change]:
    """Return the change of a job to DONE with a result that stands in a file."""

    def change(job: Job) -> Change:
        done = with_status(job, JobStatus.DONE, utc_now(), result=ResultSummary(result.size_bytes, result.sha256))
        return Change(done, EventType.STATUS_CHANGED, result=result)

    return change


def done_with(result: bytes) -> Callable[[Job], Change]:
    """Return the change of a job to DONE with a result."""

    def change(job: Job) -> Change:
        done = with_status(job, JobStatus.DONE, utc_now(), result=result_summary(result))
        return Change(done, EventType.STATUS_CHANGED, result=result)

    return change


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    """Return what a query finds in a database that may be in use."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()
