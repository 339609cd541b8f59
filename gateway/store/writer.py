"""Group commit: writes that wait at the same time share one transaction, and so one wait for the disk."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.domain.failpoints import failpoint
from gateway.domain.job import JobEvent
from gateway.store.lane import Request, as_gateway_error
from gateway.store.writes import Writes


class GroupCommit:
    """Commits batches of writes, as the work of a `Lane`.

    Each write stands behind a savepoint of its own: one that fails is undone alone, the others are committed.

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
        audit_end = self._writes.audit.end
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for request in batch:
                self._attempt(request)
            of_jobs = bool(self._writes.events)
            if of_jobs:
                failpoint("store.before_commit")
            self._connection.execute("COMMIT")
            if of_jobs:
                failpoint("store.after_commit")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._writes.events.clear()
            self._writes.audit.end = audit_end
            raise
        events = tuple(self._writes.events)
        self._writes.events.clear()
        return events

    def _attempt(self, request: Request[Writes]) -> None:
        events, audit_end = len(self._writes.events), self._writes.audit.end
        self._connection.execute("SAVEPOINT attempt")
        try:
            request.value = request.call(self._writes)
        except Exception as error:
            # A full or broken disk ends the whole transaction, and the savepoint with it.
            if not self._connection.in_transaction:
                raise
            self._connection.execute("ROLLBACK TO attempt")
            del self._writes.events[events:]
            self._writes.audit.end = audit_end
            request.error = as_gateway_error(error)
        self._connection.execute("RELEASE attempt")
