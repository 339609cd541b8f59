"""Group commit: writes that wait at the same time share one transaction, and so one wait for the disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress

from gateway.domain.failpoints import failpoint
from gateway.domain.job import JobEvent
from gateway.store.lane import Request, as_gateway_error
from gateway.store.writes import Mark, Writes

_CHECKPOINT_ROWS = 1000
"""After so many changed rows the log is copied into the database: about as often as SQLite itself does by default."""


class GroupCommit:
    """Commits batches of writes, as the work of a `Lane`.

    The rows of a batch go to their tables together. A write that fails is undone alone, the others are committed. Nearly all that
    fail do so before they have changed anything. Only if one fails later than that, or the database refuses a row, all of them run
    again, one by one, each behind a savepoint of its own.

    Args:
        writes: What the calls write with, on the only connection that writes.
    """

    def __init__(self, writes: Writes) -> None:
        self._writes = writes
        self._connection = writes.connection
        self._checkpointed = 0
        """Number of changed rows at the last checkpoint."""

    def __call__(self, batch: Sequence[Request[Writes]]) -> Sequence[JobEvent]:
        """Run and commit a batch. Returns the events of the writes that were kept, in the order of their revisions.

        Raises:
            sqlite3.Error: Nothing of the batch was kept.
        """
        mark = self._writes.mark()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            if not self._attempt(batch):
                self._undo(mark)
                self._connection.execute("BEGIN IMMEDIATE")
                self._attempt_one_by_one(batch)
            of_jobs = bool(self._writes.events)
            if of_jobs:
                failpoint("store.before_commit")
            self._connection.execute("COMMIT")
            if of_jobs:
                failpoint("store.after_commit")
        except BaseException:
            self._undo(mark)
            raise
        events = tuple(self._writes.events)
        self._writes.events.clear()
        return events

    def checkpoint(self) -> None:
        """Copy the log of what was committed into the database, if there is much of it.

        To be called when nobody waits: SQLite would do it inside of a commit, which then takes several times as long.
        """
        changes = self._connection.total_changes
        if changes - self._checkpointed < _CHECKPOINT_ROWS:
            return
        self._checkpointed = changes
        # What was committed is safe in the log. A commit to a log that has become long tries again.
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _attempt(self, batch: Sequence[Request[Writes]]) -> bool:
        """Run writes together. Returns False if that does not work out."""
        for request in batch:
            before = self._writes.rows.changes
            try:
                request.value = request.call(self._writes)
            except sqlite3.Error:
                return False
            except Exception as error:  # noqa: BLE001 - it is the outcome of this call
                if self._writes.rows.changes != before:
                    return False
                request.error = as_gateway_error(error)
        try:
            self._writes.finish()
        except sqlite3.Error:
            return False
        return True

    def _attempt_one_by_one(self, batch: Sequence[Request[Writes]]) -> None:
        self._writes.one_by_one = True
        try:
            for request in batch:
                self._attempt_alone(request)
        finally:
            self._writes.one_by_one = False

    def _attempt_alone(self, request: Request[Writes]) -> None:
        """Run a write that is undone if it fails."""
        mark, request.error = self._writes.mark(), None
        self._connection.execute("SAVEPOINT attempt")
        try:
            request.value = request.call(self._writes)
            self._writes.finish()
        except Exception as error:
            # A full or broken disk ends the whole transaction, and the savepoint with it.
            if not self._connection.in_transaction:
                raise
            self._connection.execute("ROLLBACK TO attempt")
            self._writes.back_to(mark)
            request.error = as_gateway_error(error)
        self._connection.execute("RELEASE attempt")

    def _undo(self, mark: Mark) -> None:
        """Undo the whole batch."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._writes.back_to(mark)
