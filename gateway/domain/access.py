"""Who calls, and the record of what a caller did."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""Form of the names of tenants and of the bearers of configured keys."""


class Scope(StrEnum):
    """A group of calls that a caller may or may not make: `qgateway.v1.Scope`."""

    SERVER_READ = "server.read"
    BACKENDS_READ = "backends.read"
    ACCOUNTS_READ = "accounts.read"
    JOBS_READ = "jobs.read"
    JOBS_WRITE = "jobs.write"
    SESSIONS_READ = "sessions.read"
    SESSIONS_WRITE = "sessions.write"
    ADMIN = "admin"


class Role(StrEnum):
    """What a caller may do. Each role grants what the ones before it grant."""

    VIEWER = "viewer"
    SUBMITTER = "submitter"
    OPERATOR = "operator"

    def grants(self, scope: Scope) -> bool:
        """Return whether a caller with this role may make the calls of a scope."""
        return scope in _GRANTED[self]

    @classmethod
    def least_for(cls, scope: Scope) -> Role:
        """Return the role with the fewest rights that grants a scope."""
        return next(role for role in cls if role.grants(scope))


_READS = frozenset({Scope.SERVER_READ, Scope.BACKENDS_READ, Scope.ACCOUNTS_READ, Scope.JOBS_READ, Scope.SESSIONS_READ})
_WRITES = frozenset({Scope.JOBS_WRITE, Scope.SESSIONS_WRITE})
_GRANTED = {Role.VIEWER: _READS, Role.SUBMITTER: _READS | _WRITES, Role.OPERATOR: frozenset(Scope)}


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller."""

    name: str
    tenant: str
    role: Role
    peer: str = ""
    """Address that the call came from, as gRPC names it."""
    credential: str = ""
    """What the caller proved to have, such as `apiKeys/ID`: what can be revoked."""
    expires_at: float | None = None
    """When the credential ends, in seconds since 1970; None: never."""

    def calling_from(self, peer: str) -> Caller:
        """Return the caller with the address of a call."""
        return Caller(self.name, self.tenant, self.role, peer, self.credential, self.expires_at)


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
