"""What the audit trail tells of callers' acts."""

from __future__ import annotations

import asyncio
from collections import deque

from gateway.domain.access import AuditEntry, Caller
from gateway.domain.errors import GatewayError
from gateway.domain.job import utc_now
from gateway.engine.pacing import TokenBucket
from gateway.store import AuditQuery, AuditRecord, Store

_REFUSALS_PER_MINUTE = 600.0
"""Refused calls that are recorded one by one. More are counted: a flood of wrong keys must not fill the disk."""

_FLOOD_SECONDS = 1.0
"""Time for which calls that are not recorded one by one are counted together."""


def audit_entry(
    caller: Caller, action: str, resource_id: str, request_id: str = "", *, collection: str = "jobs"
) -> AuditEntry:
    """Return the entry for something that a caller does to a job, or to something else by its collection, now."""
    return AuditEntry(
        at=utc_now(),
        caller=caller.name,
        tenant=caller.tenant,
        action=action,
        resource=f"{collection}/{resource_id}",
        peer=caller.peer,
        request_id=request_id,
    )


class AuditTrail:
    """Records what is no change of a job: calls that are refused, and reads that are worth a record.

    Changes are recorded in their own transactions, by whoever makes them.

    Args:
        store: Where the trail is kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._bucket = TokenBucket(_REFUSALS_PER_MINUTE, asyncio.get_running_loop().time)
        self._refusals: deque[AuditEntry] = deque()
        self._uncounted = 0
        self._wake = asyncio.Event()

    async def record(self, entry: AuditEntry) -> None:
        """Record something; it is on disk when this returns."""
        await self._store.append_audit(entry)

    def refused(self, entry: AuditEntry) -> None:
        """Record a refused call in a moment, without making its caller wait."""
        if self._bucket.take():
            self._refusals.append(entry)
        else:
            self._uncounted += 1
        self._wake.set()

    async def records(self, where: AuditQuery, *, after: int, limit: int) -> tuple[AuditRecord, ...]:
        """Return records before the position `after` (0: from the end), newest first."""
        return await self._store.audit_records(where, after=after, limit=limit, newest_first=True)

    async def run(self) -> None:
        """Write what was refused, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            is_flood = self._uncounted > 0
            await self._write()
            if is_flood:  # what comes in the next moment is counted together, and written at once if the server stops
                await asyncio.sleep(_FLOOD_SECONDS)

    async def close(self) -> None:
        """Write what is left."""
        await self._write()

    async def _write(self) -> None:
        while self._refusals:
            try:
                await self._store.append_audit(self._refusals[0])
            except GatewayError:  # the store is closed or broken: it says so itself
                return
            self._refusals.popleft()
        if self._uncounted:
            more, self._uncounted = self._uncounted, 0
            await self._store.append_audit(
                AuditEntry(utc_now(), "", "", "calls.refused", f"{more} more calls", outcome="NOT_RECORDED_ONE_BY_ONE")
            )
