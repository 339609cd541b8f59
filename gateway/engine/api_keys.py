"""What operators do with API keys."""

from __future__ import annotations

import asyncio
from datetime import datetime

import structlog

from gateway.access.api_keys import KeyRing, keyed_hash, new_api_key, new_key_id
from gateway.access.open_calls import OpenCalls
from gateway.domain.access import Caller, Role
from gateway.domain.api_key import ApiKeyRecord
from gateway.domain.errors import GatewayError
from gateway.domain.job import utc_now
from gateway.domain.secret import Secret
from gateway.engine.audit import audit_entry
from gateway.store import Store

_log = structlog.get_logger(__name__)

_PAGE = 500
_NOTE_SECONDS = 60.0
"""How often it is noted which keys were used."""


class ApiKeys:
    """Makes, lists and revokes API keys, and keeps the ring of those that are valid.

    Args:
        store: Where they are kept, without their secrets.
        ring: By which callers are found.
        open_calls: The streams that end when a key is revoked.
        hash_key: Key of the hashes.
    """

    def __init__(self, store: Store, ring: KeyRing, open_calls: OpenCalls, hash_key: bytes) -> None:
        self._store = store
        self._ring = ring
        self._open_calls = open_calls
        self._hash_key = hash_key

    async def start(self) -> None:
        """Fill the ring with what is stored."""
        cursor = 0
        while page := await self._store.api_keys.page("", limit=_PAGE, cursor=cursor):
            for _, key in page:
                self._ring.put(key)
            cursor = page[-1][0]

    async def create(
        self, caller: Caller, *, display_name: str, tenant: str, role: Role, expires_at: datetime | None
    ) -> tuple[ApiKeyRecord, Secret]:
        """Make a key. Returns it and its secret, which cannot be read again."""
        key_id = new_key_id()
        secret = new_api_key(key_id)
        key = ApiKeyRecord(
            id=key_id,
            display_name=display_name,
            tenant=tenant,
            role=role,
            hash=keyed_hash(secret, self._hash_key),
            created_at=utc_now(),
            expires_at=expires_at,
        )
        await self._store.api_keys.add(key, audit_entry(caller, "apikey.create", key_id, collection="apiKeys"))
        self._ring.put(key)
        return key, Secret(secret)

    async def list(self, tenant: str, *, limit: int, cursor: int) -> tuple[tuple[int, ApiKeyRecord], ...]:
        """Return keys with their position, in the order in which they were made; of all tenants if `tenant` is empty."""
        return await self._store.api_keys.page(tenant, limit=limit, cursor=cursor)

    async def revoke(self, caller: Caller, key_id: str) -> ApiKeyRecord:
        """End a key at once, with the streams that it opened. To revoke it twice does no harm.

        Raises:
            NotFound: There is no such key.
        """
        entry = audit_entry(caller, "apikey.revoke", key_id, collection="apiKeys")
        key = await self._store.api_keys.revoke(key_id, utc_now(), entry)
        self._ring.put(key)
        streams = self._open_calls.revoke(f"apiKeys/{key_id}")
        _log.info("api_key_revoked", key=key_id, streams=streams)
        return key

    async def run(self) -> None:
        """Note which keys are used, until cancelled."""
        while True:
            await asyncio.sleep(_NOTE_SECONDS)
            await self._note_uses()

    async def close(self) -> None:
        """Note what is left to be noted."""
        await self._note_uses()

    async def _note_uses(self) -> None:
        if uses := self._ring.take_last_uses():
            try:
                await self._store.api_keys.note_uses(uses)
            except GatewayError as error:  # it is worth no more than a line: the next use is noted again
                _log.warning("key_uses_not_noted", detail=error.message)
