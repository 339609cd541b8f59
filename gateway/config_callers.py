"""The settings of callers who are known by something else than an API key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from gateway.access.certificates import CertificateRule
from gateway.access.signing_keys import KeySetFile, KeySetUrl, SigningKeys
from gateway.access.tokens import ClaimRules, Issuer
from gateway.config_base import Section
from gateway.domain.access import NAME, Role
from gateway.domain.hosts import is_loopback_host

Algorithm: TypeAlias = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signatures with a private key: whoever can check one cannot make one."""

_PATTERN = re.compile(r"[!-~]{1,2048}")


class CertificateSettings(Section):
    """The callers that client certificates name. The first entry that matches decides."""

    dns: str | None = None
    """DNS name in the certificate. `*` stands for any characters but `.`."""
    uri: str | None = None
    """Instead of `dns`: URI in the certificate, such as a SPIFFE id. `*` stands for any characters but `/`."""
    name: str = ""
    """Who calls, as logs and audit name it. Default: the name in the certificate."""
    tenant: str = "default"
    """Whose jobs the caller sees."""
    role: Role = Role.SUBMITTER
    """`viewer`, `submitter` or `operator`, as for API keys."""

    @field_validator("dns", "uri")
    @classmethod
    def _printable(cls, value: str | None) -> str | None:
        if value is not None and not _PATTERN.fullmatch(value):
            raise ValueError("must be 1 to 2048 printable characters without spaces")
        return value

    @field_validator("name", "tenant")
    @classmethod
    def _plain(cls, value: str) -> str:
        if value and not NAME.fullmatch(value):
            raise ValueError("must be 1 to 63 lower-case letters, digits, '-' and '_'")
        return value

    @model_validator(mode="after")
    def _one_name(self) -> CertificateSettings:
        if (self.dns is None) == (self.uri is None):
            raise ValueError("exactly one of dns and uri must be set")
        if not self.tenant:
            raise ValueError("tenant must not be empty")
        return self

    def rule(self) -> CertificateRule:
        """Return the entry as the server uses it."""
        return CertificateRule(self.uri or self.dns or "", self.uri is not None, self.tenant, self.role, self.name)


class IssuerSettings(Section):
    """An issuer whose tokens (JWT) are accepted, such as the company's single sign-on."""

    issuer: str
    """The claim `iss` of its tokens, exactly."""
    audience: str
    """What the claim `aud` of its tokens must name: this gateway."""
    jwks_url: str | None = None
    """Address of its public keys (JWKS). HTTPS, unless it is a loopback address."""
    jwks_file: Path | None = None
    """Instead of `jwks_url`: file that holds its public keys."""
    refresh_interval: Annotated[float, Field(ge=1, le=24 * 3600)] = 300.0
    """Seconds after which its keys are read anew. A token that names a key which is not known has them read at once."""
    algorithms: tuple[Algorithm, ...] = ("RS256", "ES256")
    """Signatures that are accepted."""
    leeway: Annotated[float, Field(ge=0, le=300)] = 30.0
    """Seconds by which its clock may differ from the gateway's."""
    name_claim: str = "sub"
    """Claim that says who calls, as logs and audit name it. A claim within another one is named by its path: `realm.name`."""
    tenant: str = "default"
    """Whose jobs the bearers see."""
    tenant_claim: str | None = None
    """Instead of `tenant`: claim that names it."""
    role: Role = Role.SUBMITTER
    """Role of the bearers."""
    role_claim: str | None = None
    """Instead of `role`: claim with a text, or a list of texts, that `roles` gives a meaning."""
    roles: dict[str, Role] = Field(default_factory=dict)
    """What the texts of `role_claim` stand for, as in `{"quantum-users": "submitter"}`. Of several, the strongest counts."""

    @field_validator("issuer", "audience", "name_claim", "tenant_claim", "role_claim")
    @classmethod
    def _not_empty(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("must not be empty")
        return value

    @field_validator("tenant")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError("must be 1 to 63 lower-case letters, digits, '-' and '_'")
        return value

    @field_validator("jwks_url")
    @classmethod
    def _safe(cls, value: str | None) -> str | None:
        if value is None:
            return None
        url = urlsplit(value)
        if url.scheme != "https" and not (url.scheme == "http" and is_loopback_host(url.hostname or "")):
            raise ValueError("must be https://..., so that nobody on the way can put keys of their own into it")
        return value

    @model_validator(mode="after")
    def _complete(self) -> IssuerSettings:
        if (self.jwks_url is None) == (self.jwks_file is None):
            raise ValueError("exactly one of jwks_url and jwks_file must be set")
        if not self.algorithms:
            raise ValueError("algorithms must name one at least")
        if (self.role_claim is None) == bool(self.roles):
            raise ValueError("role_claim and roles belong together: set both, or neither")
        return self

    def build(self) -> Issuer:
        """Return the issuer as the server uses it."""
        source = KeySetUrl(self.jwks_url) if self.jwks_url else KeySetFile(self.jwks_file or Path())
        claims = ClaimRules(
            self.name_claim, self.tenant_claim, self.tenant, self.role_claim, dict(self.roles), self.role
        )
        return Issuer(
            self.issuer,
            self.audience,
            algorithms=self.algorithms,
            leeway=self.leeway,
            keys=SigningKeys(source, self.refresh_interval),
            claims=claims,
        )
