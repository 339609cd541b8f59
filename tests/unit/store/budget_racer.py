"""Submits jobs to a store that other processes write to at the same time: `python -m tests.unit.store.budget_racer PATH`.

The lock of a store lets one server have it. This goes past that lock and uses what a server writes with, `Writes`, made anew in
each transaction, because revisions and the audit chain go on from what others wrote. So limits must hold by the database alone.

Prints "ready". Then, for every line with limits as JSON that it reads, submits a few jobs and prints how many were accepted. The
lines are where racers start: whoever writes one to all of them has them run at the same time, and none can be done before the
others have begun.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sqlalchemy import URL, Connection, NullPool, create_engine

from gateway.domain.errors import ResourceExhausted
from gateway.domain.job import JobUsage
from gateway.domain.policy import Limits
from gateway.store.codec import encode_blob
from gateway.store.writes import Writes
from tests.unit.store.make import PROGRAM, a_job, an_entry

JOBS_PER_ROUND = 4
_LAST_REVISION = "SELECT seq FROM sqlite_sequence WHERE name = 'events'"
SECONDS_PER_JOB = 3.0


def main(path: Path) -> None:
    url = URL.create("sqlite+pysqlite", database=str(path))
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args={"timeout": 60})
    with engine.connect() as connection:
        _tell("ready")
        for line in sys.stdin:
            limits = Limits(**json.loads(line))
            _tell(str(sum(_submit(connection, limits) for _ in range(JOBS_PER_ROUND))))


def _submit(connection: Connection, limits: Limits) -> bool:
    """Submit a job; return whether it was accepted."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    writes = Writes(connection, connection.exec_driver_sql(_LAST_REVISION).scalar() or 0)
    job = a_job(usage=JobUsage(reserved_seconds=SECONDS_PER_JOB))
    try:
        writes.create_job(job, encode_blob(PROGRAM), an_entry(), limits)
        writes.finish()
    except ResourceExhausted:
        connection.exec_driver_sql("ROLLBACK")
        return False
    connection.exec_driver_sql("COMMIT")
    return True


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
