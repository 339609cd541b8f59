"""API keys as the engine sees them in the store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from gateway.domain.access import AuditEntry
from gateway.domain.api_key import ApiKeyRecord
from gateway.store.lane import Lane
from gateway.store.reads import Reads
from gateway.store.writes import Writes


class ApiKeyStore:
    """The API keys in a `Store`, with its promises.

    Args:
        writer: Runs writes.
        pages: Runs reads.
    """

    def __init__(self, writer: Lane[Writes], pages: Lane[Reads]) -> None:
        self._writer = writer
        self._pages = pages

    async def add(self, key: ApiKeyRecord, audit: AuditEntry) -> None:
        """Store a new API key."""
        await self._writer.run(lambda writes: writes.api_keys.add(key, audit))

    async def revoke(self, key_id: str, at: datetime, audit: AuditEntry) -> ApiKeyRecord:
        """Revoke an API key, and return it; one that is revoked stays as it is.

        Raises:
            NotFound: There is no such key.
        """
        return await self._writer.run(lambda writes: writes.api_keys.revoke(key_id, at, audit))

    async def note_uses(self, uses: Mapping[str, datetime]) -> None:
        """Note when API keys were last used, by id."""
        await self._writer.run(lambda writes: writes.api_keys.used(uses))

    async def page(self, tenant: str, *, limit: int, cursor: int) -> tuple[tuple[int, ApiKeyRecord], ...]:
        """Return API keys behind a position, each with its own; of all tenants if `tenant` is empty."""
        return await self._pages.run(lambda reads: reads.api_keys.page(tenant, limit=limit, cursor=cursor))
