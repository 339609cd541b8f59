"""The errors for credentials that were valid once."""

from __future__ import annotations

from gateway.domain.access import Caller
from gateway.domain.errors import Reason, Unauthenticated

CERTIFICATES = "certificates/"
"""Beginning of the credential of a caller with a client certificate."""
TOKENS = "tokens/"
"""Beginning of the credential of a caller with a token."""


def revoked() -> Unauthenticated:
    """Return the error for a key that was revoked."""
    return Unauthenticated(
        "The API key was revoked. Ask an operator of the gateway for a new one.", reason=Reason.API_KEY_REVOKED
    )


def expired(caller: Caller) -> Unauthenticated:
    """Return the error for a caller whose credential has come to its end."""
    if caller.credential.startswith(CERTIFICATES):
        return Unauthenticated(
            "The client certificate has expired. Renew it, and connect again.", reason=Reason.CERTIFICATE_EXPIRED
        )
    if caller.credential.startswith(TOKENS):
        return token_expired()
    return Unauthenticated(
        "The API key has expired. Ask an operator of the gateway for a new one.", reason=Reason.API_KEY_EXPIRED
    )


def token_expired() -> Unauthenticated:
    """Return the error for a token that has come to its end."""
    return Unauthenticated(
        "The token has expired. Get a new one from its issuer, and call again.", reason=Reason.TOKEN_EXPIRED
    )
