"""What must survive: jobs, events, results and the audit trail, on disk before anyone is told of them."""

from gateway.store.audit import AuditQuery, AuditReads, AuditRecord, AuditTrailBroken, Link
from gateway.store.database import StoreUnusable, read_only
from gateway.store.store import Listener, Store
from gateway.store.temporary import temporary_folder

__all__ = [
    "AuditQuery",
    "AuditReads",
    "AuditRecord",
    "AuditTrailBroken",
    "Link",
    "Listener",
    "Store",
    "StoreUnusable",
    "read_only",
    "temporary_folder",
]
