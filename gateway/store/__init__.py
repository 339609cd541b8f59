"""What must survive: jobs, events, results and the audit trail, on disk before anyone is told of them."""

from gateway.store.database import StoreUnusable
from gateway.store.reads import AuditRecord
from gateway.store.store import Listener, Store

__all__ = ["AuditRecord", "Listener", "Store", "StoreUnusable"]
