"""Who calls: by API key, by token or by client certificate."""

from __future__ import annotations

from collections.abc import Callable

from gateway.access.api_keys import KeyRing
from gateway.access.certificates import AuthContext, ClientCertificates
from gateway.access.tokens import Tokens, is_token
from gateway.domain.access import Caller


class Authenticator:
    """Finds the caller of a call. What the call itself bears wins over the certificate of its connection.

    Args:
        keys: The API keys.
        tokens: The issuers of tokens.
        certificates: The callers that certificates name.
    """

    def __init__(self, keys: KeyRing, tokens: Tokens, certificates: ClientCertificates) -> None:
        self._keys = keys
        self._tokens = tokens
        self._certificates = certificates

    async def authenticate(self, authorization: str | None, connection: Callable[[], AuthContext]) -> Caller:
        """Return the caller.

        Args:
            authorization: The header `authorization`, if the call bears one.
            connection: Tells what is known of the peer of the connection.

        Raises:
            Unauthenticated: Nobody knows who calls.
            Unavailable: A token's issuer cannot be asked for its keys.
        """
        if (
            authorization is None
            and self._certificates
            and (caller := self._certificates.authenticate(connection())) is not None
        ):
            return caller
        scheme, _, credential = (authorization or "").partition(" ")
        if scheme.lower() == "bearer" and is_token(credential := credential.strip()):
            return await self._tokens.authenticate(credential)
        return self._keys.authenticate(authorization)
