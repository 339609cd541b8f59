"""API keys: making them, and finding the caller that one belongs to."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.domain.access import Caller, Role
from gateway.domain.errors import Reason, Unauthenticated

KEY_PREFIX = "qgw_"
"""Beginning of every key, so that secret scanners can find one that leaked."""

_NO_KEY = (
    "The call carries no API key. Send it as metadata 'authorization: Bearer KEY'; "
    "the Python client takes it from QGATEWAY_API_KEY."
)


def new_api_key() -> str:
    """Return a new random key of 256 bits."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def hash_api_key(key: str) -> str:
    """Return the SHA-256 of a key in hexadecimal.

    A plain hash is enough because a key is 256 random bits: there is nothing to guess that a slow hash would protect.
    """
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that the server accepts: only its hash is held."""

    name: str
    tenant: str
    role: Role
    sha256: str


class ApiKeyAuthenticator:
    """Finds the caller behind the `authorization` metadata of a call."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        # A look-up by hash takes the same time for every wrong key: what it reveals is nothing about the right ones.
        self._callers = {key.sha256: Caller(name=key.name, tenant=key.tenant, role=key.role) for key in keys}

    def authenticate(self, authorization: str | None) -> Caller:
        """Return the caller that an `authorization` header names.

        Raises:
            Unauthenticated: There is no header, it is not of the form `Bearer KEY`, or the key is not known.
        """
        if not authorization:
            raise Unauthenticated(_NO_KEY, reason=Reason.API_KEY_MISSING)
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Unauthenticated(_NO_KEY, reason=Reason.API_KEY_MISSING)
        caller = self._callers.get(hash_api_key(key.strip()))
        if caller is None:
            raise Unauthenticated(
                "The API key is not known to this gateway. Check that it was copied whole, and that it is meant for "
                "this server.",
                reason=Reason.API_KEY_INVALID,
            )
        return caller
