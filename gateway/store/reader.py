"""Reads that wait at the same time share one snapshot of the database."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.domain.job import JobEvent
from gateway.store.lane import Request, as_gateway_error
from gateway.store.reads import Reads


class SharedSnapshot:
    """Answers batches of reads, as the work of a `Lane`.

    A batch is one read transaction, which saves taking SQLite's locks for each read. Its snapshot is younger than every call in
    the batch, so whoever was told of a commit also reads it.

    Args:
        reads: What the calls read with, on a connection of their own.
    """

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._connection = reads.connection

    def __call__(self, batch: Sequence[Request[Reads]]) -> Sequence[JobEvent]:
        """Answer a batch. Reads make no events."""
        self._connection.execute("BEGIN")
        try:
            for request in batch:
                try:
                    request.value = request.call(self._reads)
                except Exception as error:  # noqa: BLE001 - it is the outcome of this call
                    request.error = as_gateway_error(error)
        finally:
            if self._connection.in_transaction:  # a broken disk may have ended it
                self._connection.execute("COMMIT")
        return ()
