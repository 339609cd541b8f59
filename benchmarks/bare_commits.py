"""The bare building block beneath a write: SQLite transactions of the rows that the gateway writes, and nothing else."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class BareCommits:
    """A database with the gateway's schema, into which rows are written that the gateway once wrote.

    Args:
        connection: A connection to it.
        rows: One row of each of the tables `jobs`, `events` and `audit`.
    """

    def __init__(self, connection: sqlite3.Connection, rows: dict[str, Row]) -> None:
        self._connection = connection
        self._rows = rows
        self._inserts = {table: _insert(table, row) for table, row in rows.items()}
        self._number = 0

    def creates(self, number: int, group: int) -> float:
        """Write so many new jobs, each with its event and audit record, `group` in a transaction. Returns jobs per second."""
        began = time.monotonic()
        for _ in range(number // group):
            self._connection.execute("BEGIN IMMEDIATE")
            for _ in range(group):
                self._number += 1
                self._insert("jobs", id=f"{self._number:026d}", request_id=str(self._number))
                self._insert("events")
                self._insert("audit")
            self._connection.execute("COMMIT")
        return number // group * group / (time.monotonic() - began)

    def changes(self, number: int) -> float:
        """Change a job so many times, each with its event and audit record in a transaction. Returns changes per second."""
        began = time.monotonic()
        for _ in range(number):
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute(
                "UPDATE jobs SET document = :document, revision = revision + 1", self._rows["jobs"]
            )
            self._insert("events")
            self._insert("audit")
            self._connection.execute("COMMIT")
        return number / (time.monotonic() - began)

    def add_job(self) -> None:
        """Write the job that is to be changed."""
        self._insert("jobs")

    def _insert(self, table: str, **values: str) -> None:
        self._connection.execute(self._inserts[table], self._rows[table] | values)


@contextmanager
def bare_commits(gateway_database: Path, path: Path) -> Iterator[BareCommits]:
    """Make a database for bare transactions.

    Args:
        gateway_database: Where schema and rows are taken from.
        path: The new file.
    """
    with closing(sqlite3.connect(gateway_database)) as source:
        source.row_factory = sqlite3.Row
        schema = source.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'")
        statements = [row["sql"] for row in schema]
        rows = {table: _newest(source, table) for table in ("jobs", "events", "audit")}
        program = dict(source.execute("SELECT * FROM programs").fetchone())
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "temp_store = MEMORY"):
            connection.execute(f"PRAGMA {pragma}")
        for statement in statements:
            connection.execute(statement)
        connection.execute(_insert("programs", program), program)
        yield BareCommits(connection, rows)


def _newest(source: sqlite3.Connection, table: str) -> Row:
    """Return the newest row of a table, without its number: the database numbers its rows."""
    row = dict(source.execute(f"SELECT * FROM {table} ORDER BY 1 DESC LIMIT 1").fetchone())  # noqa: S608 - a name of ours
    del row[next(iter(row))]
    return row


def _insert(table: str, row: Row) -> str:
    names = ", ".join(row)
    values = ", ".join(f":{name}" for name in row)
    return f"INSERT INTO {table} ({names}) VALUES ({values})"  # noqa: S608 - names of ours
