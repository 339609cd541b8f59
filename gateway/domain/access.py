"""Who calls, and the record of what a caller did."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Role(StrEnum):
    """What a caller may do. Each role includes the ones before it."""

    VIEWER = "viewer"
    SUBMITTER = "submitter"
    OPERATOR = "operator"

    def includes(self, other: Role) -> bool:
        """Return whether this role may do what `other` may do."""
        order = list(Role)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller."""

    name: str
    tenant: str
    role: Role
    peer: str = ""
    """Address that the call came from, as gRPC names it."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One decision or change, to be committed with the change that it records."""

    at: datetime
    caller: str
    tenant: str
    action: str
    """What was done, such as `job.submit`."""
    resource: str
    outcome: str = "OK"
    peer: str = ""
    request_id: str = ""
