"""What the audit trail tells of a caller's act."""

from __future__ import annotations

from gateway.domain.access import AuditEntry, Caller
from gateway.domain.job import utc_now


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
