"""API keys as the gateway keeps them: without their secrets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gateway.domain.access import Role


@dataclass(frozen=True, slots=True)
class ApiKeyRecord:
    """A key that was made by the gateway."""

    id: str
    """12 letters and digits; the key itself begins with them, so that one that was found can be told and revoked."""
    display_name: str
    """What the key is for."""
    tenant: str
    role: Role
    hash: str
    """Keyed SHA-256 of the secret, in hexadecimal."""
    created_at: datetime
    expires_at: datetime | None = None
    """When it ends; None: never."""
    last_used_at: datetime | None = None
    """When it was last used, to the minute; None: never."""
    revoked_at: datetime | None = None
    """When it was revoked; None: it was not."""

    @property
    def caller_name(self) -> str:
        """How logs and the audit trail name its bearer."""
        return self.display_name or self.id
