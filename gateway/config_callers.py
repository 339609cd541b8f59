"""The settings of callers who are known by something else than an API key."""

from __future__ import annotations

import re

from pydantic import field_validator, model_validator

from gateway.access.certificates import CertificateRule
from gateway.config_base import Section
from gateway.domain.access import NAME, Role

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
