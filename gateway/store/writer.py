"""Group commit: writes that wait at the same time share one transaction, and so one wait for the disk."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.domain.failpoints import failpoint
from gateway.domain.job import JobEvent
from gateway.store.lane import Request, as_gateway_error
from gateway.store.writes import Mark, Writes


class GroupCommit:
    """Commits batches of writes, as the work of a `Lane`.

    A write that fails is undone alone, the others are committed. Nearly all that fail do so before they have written anything, so
    the writes of a batch run without a savepoint each; only if one fails half-way, all of them run again, each behind its own.

    Args:
        writes: What the calls write with, on the only connection that writes.
    """

    def __init__(self, writes: Writes) -> None:
        self._writes = writes
        self._connection = writes.connection

    def __call__(self, batch: Sequence[Request[Writes]]) -> Sequence[JobEvent]:
        """Run and commit a batch. Returns the events of the writes that were kept, in the order of their revisions.

        Raises:
            sqlite3.Error: Nothing of the batch was kept.
        """
        mark = self._writes.mark()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            if not all(map(self._attempt, batch)):
                self._undo(mark)
                self._connection.execute("BEGIN IMMEDIATE")
                for request in batch:
                    self._attempt_alone(request)
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

    def _attempt(self, request: Request[Writes]) -> bool:
        """Run a write. Returns False if it failed after it had written something."""
        before = self._connection.total_changes
        try:
            request.value = request.call(self._writes)
        except Exception as error:
            # A full or broken disk ends the whole transaction.
            if not self._connection.in_transaction:
                raise
            request.error = as_gateway_error(error)
        return request.error is None or self._connection.total_changes == before

    def _attempt_alone(self, request: Request[Writes]) -> None:
        """Run a write that is undone if it fails."""
        mark, request.error = self._writes.mark(), None
        self._connection.execute("SAVEPOINT attempt")
        try:
            request.value = request.call(self._writes)
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
