"""API keys: making them, and finding the caller that one belongs to."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.access.refusals import expired, revoked
from gateway.domain.access import Caller, Role
from gateway.domain.api_key import ApiKeyRecord
from gateway.domain.errors import Reason, Unauthenticated

KEY_PREFIX = "qgw_"
"""Beginning of every key, so that secret scanners can find one that leaked."""

_ID_LENGTH = 12
_ID_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"
_LONGEST_KEY = 256
"""Most characters of a header that are looked at."""

_NO_KEY = (
    "The call carries no API key. Send it as metadata 'authorization: Bearer KEY'; "
    "the Python client takes it from QGATEWAY_API_KEY."
)


def new_key_id() -> str:
    """Return a new random id of a key."""
    return "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))


def new_api_key(key_id: str | None = None) -> str:
    """Return a new random key: the prefix, an id, and a secret of 256 bits."""
    return f"{KEY_PREFIX}{key_id or new_key_id()}_{secrets.token_urlsafe(32)}"


def hash_api_key(key: str) -> str:
    """Return the SHA-256 of a key in hexadecimal, for the configuration.

    A plain hash is enough because a key is 256 random bits: there is nothing to guess that a slow hash would protect.
    """
    return hashlib.sha256(key.encode()).hexdigest()


def keyed_hash(key: str, hash_key: bytes) -> str:
    """Return the HMAC-SHA-256 of a key in hexadecimal, for the database."""
    return hmac.digest(hash_key, key.encode(), "sha256").hex()


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of the configuration: only its hash is held."""

    name: str
    tenant: str
    role: Role
    sha256: str


class KeyRing:
    """Finds the caller behind the `authorization` metadata of a call, among the keys of the configuration and of the database.

    Args:
        configured: The keys of the configuration.
        hash_key: Key of the hashes in the database.
    """

    def __init__(self, configured: Iterable[ApiKey], hash_key: bytes) -> None:
        # A look-up by hash takes the same time for every wrong key: what it reveals is nothing about the right ones.
        self._configured = {
            key.sha256: Caller(key.name, key.tenant, key.role, credential=f"configured/{key.name}")
            for key in configured
        }
        self._hash_key = hash_key
        self._records: dict[str, ApiKeyRecord] = {}
        self._callers: dict[str, Caller] = {}
        self._last_uses: dict[str, float] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nobody could call."""
        return not self._configured and all(record.revoked_at for record in self._records.values())

    def put(self, record: ApiKeyRecord) -> None:
        """Take in a key of the database, as it is from now on."""
        self._records[record.id] = record
        self._callers[record.id] = Caller(
            record.caller_name,
            record.tenant,
            record.role,
            credential=f"apiKeys/{record.id}",
            expires_at=record.expires_at.timestamp() if record.expires_at else None,
        )

    def take_last_uses(self) -> Mapping[str, datetime]:
        """Return when keys of the database were last used, by id, since this was asked for the last time."""
        uses, self._last_uses = self._last_uses, {}
        return {key_id: datetime.fromtimestamp(at, UTC) for key_id, at in uses.items()}

    def authenticate(self, authorization: str | None) -> Caller:
        """Return the caller that an `authorization` header names.

        Raises:
            Unauthenticated: There is no header, it is not of the form `Bearer KEY`, or the key is not known, has expired or was
                revoked.
        """
        scheme, _, key = (authorization or "").partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key:
            raise Unauthenticated(_NO_KEY, reason=Reason.API_KEY_MISSING)
        record = self._records.get(key[len(KEY_PREFIX) : len(KEY_PREFIX) + _ID_LENGTH])
        if len(key) > _LONGEST_KEY:
            raise _unknown()
        if record is None:
            caller = self._configured.get(hash_api_key(key))
            if caller is None:
                raise _unknown()
            return caller
        if not hmac.compare_digest(keyed_hash(key, self._hash_key), record.hash):
            raise _unknown()
        return self._bearer_of(record)

    def _bearer_of(self, record: ApiKeyRecord) -> Caller:
        """Return the bearer of a key who has shown its secret."""
        caller, now = self._callers[record.id], time.time()
        if record.revoked_at is not None:
            raise revoked()
        if caller.expires_at is not None and now >= caller.expires_at:
            raise expired(caller)
        self._last_uses[record.id] = now
        return caller


def _unknown() -> Unauthenticated:
    return Unauthenticated(
        "The API key is not known to this gateway. Check that it was copied whole, and that it is meant for this server.",
        reason=Reason.API_KEY_INVALID,
    )
