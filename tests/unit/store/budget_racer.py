"""Submits jobs to a store that other processes write to at the same time: `python -m tests.unit.store.budget_racer PATH`.

The lock of a store lets one server have it. This goes past that lock and uses what a server writes with, `Writes`, made anew in
each transaction, because revisions and the audit chain go on from what others wrote. So limits must hold by the database alone.

Prints "ready", waits for a line that holds the limits as JSON, and submits until it was refused some times. Prints how many jobs
were accepted.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

from sqlalchemy import URL, NullPool, create_engine

from gateway.domain.errors import ResourceExhausted
from gateway.domain.job import JobUsage
from gateway.domain.policy import Limits
from gateway.store.codec import encode_blob
from gateway.store.writes import Writes
from tests.unit.store.make import PROGRAM, a_job, an_entry

_REFUSALS = 20
_LONGEST_PAUSE = 0.02
_LAST_REVISION = "SELECT seq FROM sqlite_sequence WHERE name = 'events'"
SECONDS_PER_JOB = 3.0


def main(path: Path) -> None:
    url = URL.create("sqlite+pysqlite", database=str(path))
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args={"timeout": 60})
    accepted = refused = 0
    pauses = random.SystemRandom()
    with engine.connect() as connection:
        _tell("ready")
        limits = Limits(**json.loads(sys.stdin.readline()))
        while refused < _REFUSALS:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            writes = Writes(connection, connection.exec_driver_sql(_LAST_REVISION).scalar() or 0)
            job = a_job(usage=JobUsage(reserved_seconds=SECONDS_PER_JOB))
            try:
                writes.create_job(job, encode_blob(PROGRAM), an_entry(), limits)
            except ResourceExhausted:
                connection.exec_driver_sql("ROLLBACK")
                refused += 1
            else:
                connection.exec_driver_sql("COMMIT")
                accepted += 1
            # SQLite gives its lock to whoever asks at the right moment: without a pause one process would take all.
            time.sleep(pauses.uniform(0, _LONGEST_PAUSE))
    _tell(str(accepted))


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
