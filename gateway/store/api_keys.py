"""API keys in the store: what runs on the threads of the lanes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, update

from gateway.domain.access import AuditEntry, Role
from gateway.domain.api_key import ApiKeyRecord
from gateway.domain.errors import NotFound
from gateway.store.codec import from_micros, to_micros
from gateway.store.database import driver_connection
from gateway.store.schema import api_keys, insert_sql, sql

_ADD = insert_sql(api_keys, numbered=True)
_REVOKE = sql(update(api_keys).where(api_keys.c.id == bindparam("key_id")).values(revoked_at=bindparam("revoked_at")))
_USED = sql(update(api_keys).where(api_keys.c.id == bindparam("key_id")).values(last_used_at=bindparam("last_used_at")))


class ApiKeyWrites:
    """The writes of API keys, each to be called inside a transaction.

    Args:
        connection: The only connection that writes.
        append_audit: Writes an audit entry in the same transaction.
    """

    def __init__(self, connection: Connection, append_audit: Callable[[AuditEntry], None]) -> None:
        self._core = connection
        self._execute = driver_connection(connection).execute
        self._append_audit = append_audit

    def add(self, key: ApiKeyRecord, entry: AuditEntry) -> None:
        """Store a new key."""
        columns = {
            "id": key.id,
            "display_name": key.display_name,
            "tenant": key.tenant,
            "role": key.role.value,
            "hash": key.hash,
            "created_at": to_micros(key.created_at),
            "expires_at": _micros(key.expires_at),
            "last_used_at": _micros(key.last_used_at),
            "revoked_at": _micros(key.revoked_at),
        }
        self._execute(_ADD, columns)
        self._append_audit(entry)

    def revoke(self, key_id: str, at: datetime, entry: AuditEntry) -> ApiKeyRecord:
        """Revoke a key, and return it; one that is revoked stays as it is.

        Raises:
            NotFound: There is no such key.
        """
        row = self._core.execute(select(api_keys).where(api_keys.c.id == key_id)).one_or_none()
        if row is None:
            raise NotFound.api_key(key_id)
        key = _record(row)
        if key.revoked_at is None:
            key = replace(key, revoked_at=at)
            self._execute(_REVOKE, {"key_id": key_id, "revoked_at": to_micros(at)})
        self._append_audit(entry)
        return key

    def used(self, uses: Mapping[str, datetime]) -> None:
        """Note when keys were last used, by id."""
        for key_id, at in uses.items():
            self._execute(_USED, {"key_id": key_id, "last_used_at": to_micros(at)})


class ApiKeyReads:
    """The reads of API keys.

    Args:
        connection: A connection of the thread's own.
    """

    def __init__(self, connection: Connection) -> None:
        self._core = connection

    def page(self, tenant: str, *, limit: int, cursor: int) -> tuple[tuple[int, ApiKeyRecord], ...]:
        """Return keys with their position, in the order in which they were made; of all tenants if `tenant` is empty."""
        query = select(api_keys).where(api_keys.c.seq > cursor).order_by(api_keys.c.seq).limit(limit)
        if tenant:
            query = query.where(api_keys.c.tenant == tenant)
        return tuple((row.seq, _record(row)) for row in self._core.execute(query))


def _record(row: Row[Any]) -> ApiKeyRecord:
    return ApiKeyRecord(
        id=row.id,
        display_name=row.display_name,
        tenant=row.tenant,
        role=Role(row.role),
        hash=row.hash,
        created_at=from_micros(row.created_at),
        expires_at=_time(row.expires_at),
        last_used_at=_time(row.last_used_at),
        revoked_at=_time(row.revoked_at),
    )


def _micros(at: datetime | None) -> int | None:
    return None if at is None else to_micros(at)


def _time(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)
