"""Tokens: JSON Web Tokens (RFC 7519) of configured issuers, and the callers that their claims name."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from gateway.access.refusals import TOKENS, expired, token_expired
from gateway.access.signing_keys import SigningKeys
from gateway.domain.access import NAME, Caller, Role
from gateway.domain.errors import Reason, Unauthenticated

_MAX_TOKEN = 16 * 1024
"""Most characters of a token that are looked at."""
_MAX_NAME = 256
_MAX_KNOWN = 10_000
"""Most tokens of an issuer whose caller is kept at hand."""
_LATEST = 2**40
"""An end that is later than this counts as this: some 35 000 years."""
_BROKEN = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)
"""What reading a token that somebody made up can raise."""


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """What the claims of a token say about its bearer. A claim within another one is named by its path, such as `realm.roles`.

    Args:
        name: Claim with the caller's name.
        tenant: Claim with the tenant; None: it is `fixed_tenant`.
        fixed_tenant: Tenant of all bearers.
        role: Claim with a text or a list of texts; None: it is `fixed_role`.
        roles: Which role each text stands for; of several, the strongest counts.
        fixed_role: Role of all bearers.
    """

    name: str
    tenant: str | None
    fixed_tenant: str
    role: str | None
    roles: Mapping[str, Role]
    fixed_role: Role


class Issuer:
    """An issuer whose tokens are accepted.

    Args:
        issuer: The claim `iss` of its tokens.
        audience: What the claim `aud` must name.
        algorithms: Signatures that are accepted; none that works with a shared secret.
        leeway: Seconds by which its clock may differ from ours.
        keys: What it signs with.
        claims: What its tokens say about their bearers.
    """

    def __init__(
        self,
        issuer: str,
        audience: str,
        *,
        algorithms: Iterable[str],
        leeway: float,
        keys: SigningKeys,
        claims: ClaimRules,
    ) -> None:
        self.issuer = issuer
        self.keys = keys
        self._audience = audience
        self._algorithms = list(algorithms)
        self._leeway = leeway
        self._claims = claims
        # By hash, so that no token stands in memory for longer than its call.
        self._known: OrderedDict[bytes, Caller] = OrderedDict()
        self._known_generation = 0

    def known(self, digest: bytes) -> Caller | None:
        """Return the bearer of a token that was verified before, with the keys that are still the issuer's."""
        self._follow_keys()
        return self._known.get(digest)

    async def verify(self, token: str, header: Mapping[str, Any], digest: bytes) -> Caller:
        """Return the bearer of a token.

        Raises:
            Unauthenticated: The token is not valid, or its claims name no caller.
            Unavailable: The issuer's keys cannot be fetched.
        """
        if header.get("alg") not in self._algorithms:
            raise _invalid(f"is not signed by one of the algorithms {', '.join(self._algorithms)}")
        key = await self.keys.find(str(header.get("kid", "")))
        if key is None:
            raise _invalid("is signed with a key that its issuer does not publish")
        try:
            claims = jwt.decode(
                token,
                key.key,
                algorithms=self._algorithms,
                audience=self._audience,
                issuer=self.issuer,
                leeway=self._leeway,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError:
            raise token_expired() from None
        except _BROKEN as error:
            raise _invalid(_why(error)) from None
        caller = self._bearer(claims)
        self._follow_keys()
        self._known[digest] = caller
        if len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)
        return caller

    def forget(self, digest: bytes) -> None:
        """Forget a token that has expired."""
        self._known.pop(digest, None)

    def _follow_keys(self) -> None:
        """Forget all tokens when the keys are others: one may be signed with a key that was taken back."""
        if self._known_generation != self.keys.generation:
            self._known.clear()
            self._known_generation = self.keys.generation

    def _bearer(self, claims: Mapping[str, Any]) -> Caller:
        rules = self._claims
        name = _claim(claims, rules.name)
        if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or not name.isprintable():
            raise _invalid(f"names nobody in its claim {rules.name!r}")
        tenant = rules.fixed_tenant if rules.tenant is None else _claim(claims, rules.tenant)
        if not isinstance(tenant, str) or not NAME.fullmatch(tenant):
            raise _invalid(f"names no tenant in its claim {rules.tenant!r}")
        return Caller(
            name,
            tenant,
            rules.fixed_role if rules.role is None else self._role(_claim(claims, rules.role)),
            # By its bearer: one token can be written in many ways, and limits of a credential would be none.
            credential=f"{TOKENS}{tenant}/{name}",
            expires_at=min(int(claims["exp"]), _LATEST) + self._leeway,
        )

    def _role(self, value: object) -> Role:
        values = value if isinstance(value, list) else [value]
        granted = {self._claims.roles[each] for each in values if isinstance(each, str) and each in self._claims.roles}
        for role in reversed(Role):
            if role in granted:
                return role
        raise _invalid(f"grants no role of this gateway in its claim {self._claims.role!r}")


class Tokens:
    """Finds the caller behind a token.

    Args:
        issuers: Whose tokens are accepted.
    """

    def __init__(self, issuers: Iterable[Issuer]) -> None:
        self._issuers = {issuer.issuer: issuer for issuer in issuers}

    def __bool__(self) -> bool:
        """Return whether tokens are accepted at all."""
        return bool(self._issuers)

    @property
    def issuers(self) -> Iterable[Issuer]:
        """Whose tokens are accepted."""
        return self._issuers.values()

    async def authenticate(self, token: str) -> Caller:
        """Return the bearer of a token.

        Raises:
            Unauthenticated: The token is broken, has expired, is meant for somebody else, or is of no known issuer.
            Unavailable: The keys of its issuer cannot be fetched.
        """
        if len(token) > _MAX_TOKEN:
            raise _invalid(f"has more than {_MAX_TOKEN} characters")
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        for issuer in self._issuers.values():
            if (caller := issuer.known(digest)) is not None:
                if caller.expires_at is not None and time.time() >= caller.expires_at:
                    issuer.forget(digest)
                    raise expired(caller)
                return caller
        try:
            unverified = jwt.decode_complete(token, options={"verify_signature": False})
        except _BROKEN:
            raise _invalid("is no JSON Web Token") from None
        name = unverified["payload"].get("iss")
        issuer_of_token = self._issuers.get(name) if isinstance(name, str) else None
        if issuer_of_token is None:
            raise Unauthenticated(
                "This gateway accepts no tokens of the token's issuer. Get one of an issuer that it accepts, or use an API key.",
                reason=Reason.TOKEN_ISSUER_UNKNOWN,
            )
        return await issuer_of_token.verify(token, unverified["header"], digest)


def is_token(credential: str) -> bool:
    """Return whether a credential has the form of a JSON Web Token: three parts, of which the first is a JSON object."""
    return credential.startswith("eyJ") and credential.count(".") == 2  # noqa: PLR2004


def _claim(claims: Mapping[str, Any], name: str) -> object:
    """Return a claim. Names with dots in them are claims before they are paths: some issuers use addresses as names."""
    if name in claims:
        return claims[name]
    value: object = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _why(error: Exception) -> str:
    if isinstance(error, jwt.InvalidAudienceError):
        return "is meant for another audience"
    if isinstance(error, jwt.ImmatureSignatureError):
        return "is not valid yet"
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"lacks the claim {error.claim!r}"
    return "is not signed by its issuer"


def _invalid(problem: str) -> Unauthenticated:
    return Unauthenticated(
        f"The token {problem}. Get a new one from its issuer for this gateway, or use an API key.",
        reason=Reason.TOKEN_INVALID,
    )
