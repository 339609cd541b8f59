"""Client certificates: finding the caller that one names.

TLS has checked by then that an authority of the server signed the certificate and that the client has its key. Which callers the
names in it stand for is a matter of the settings.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from cryptography import x509

from gateway.access.refusals import CERTIFICATES, expired
from gateway.domain.access import Caller, Role
from gateway.domain.errors import Reason, Unauthenticated

AuthContext = Mapping[str, Iterable[bytes]]
"""What gRPC tells of the peer of a call: properties of its connection by name."""

SPIFFE = "spiffe://"
"""Beginning of a SPIFFE id."""

_MAX_KNOWN = 4_096
"""Most certificates whose caller is kept at hand."""
_MAX_TOLD = 256
"""Most characters of a name that an error repeats."""


@dataclass(frozen=True, slots=True)
class CertificateRule:
    """Which caller the certificates with a name stand for.

    Args:
        pattern: The subject alternative name, a DNS name or a URI. `*` stands for any characters within one part of it: in a DNS
            name for all but `.`, in a URI for all printable ones but `/`.
        is_uri: Whether the name is a URI.
        tenant: Tenant of the caller.
        role: Role of the caller.
        name: Name of the caller. Empty: the name in the certificate.
    """

    pattern: str
    is_uri: bool
    tenant: str
    role: Role
    name: str = ""

    @property
    def property_name(self) -> str:
        """Property of a connection that holds such names.

        A certificate with a SPIFFE id must have no other URI (X.509-SVID, section 2); only what keeps that rule counts as one.
        """
        if not self.is_uri:
            return "peer_dns"
        return "peer_spiffe_id" if self.pattern.startswith(SPIFFE) else "peer_uri"

    def matcher(self) -> Callable[[str], object]:
        """Return a function that tells whether a name matches."""
        any_part = "[!-.0-~]*" if self.is_uri else "[A-Za-z0-9_-]*"
        flags = 0 if self.is_uri else re.IGNORECASE
        return re.compile(any_part.join(map(re.escape, self.pattern.split("*"))), flags).fullmatch


class ClientCertificates:
    """Finds the caller behind the client certificate of a connection.

    Args:
        rules: What is asked in turn; the first that matches a name of the certificate decides.
    """

    def __init__(self, rules: Iterable[CertificateRule]) -> None:
        self._rules = [(rule, rule.matcher()) for rule in rules]
        self._known: OrderedDict[bytes, Caller] = OrderedDict()

    def __bool__(self) -> bool:
        """Return whether a certificate can name a caller at all."""
        return bool(self._rules)

    def authenticate(self, connection: AuthContext) -> Caller | None:
        """Return the caller that the certificate of a connection names; None if the connection has no certificate.

        Raises:
            Unauthenticated: The certificate names no caller, or has expired since the connection was made.
        """
        pem = next(iter(connection.get("x509_pem_cert", ())), b"")
        if not pem or not self._rules:
            return None
        caller = self._known.get(pem)
        if caller is None:
            caller = self._known[pem] = self._find(pem, connection)
            if len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)
        if caller.expires_at is not None and time.time() >= caller.expires_at:
            raise expired(caller)
        return caller

    def _find(self, pem: bytes, connection: AuthContext) -> Caller:
        certificate = x509.load_pem_x509_certificate(pem)
        for rule, matches in self._rules:
            for name in _texts(connection, rule.property_name):
                if matches(name):
                    return Caller(
                        rule.name or name,
                        rule.tenant,
                        rule.role,
                        credential=f"{CERTIFICATES}{certificate.serial_number:x}",
                        expires_at=certificate.not_valid_after_utc.timestamp(),
                    )
        names = [*_texts(connection, "peer_dns"), *_texts(connection, "peer_uri")]
        told = ", ".join(names)[:_MAX_TOLD] or "no DNS name and no URI"
        raise Unauthenticated(
            f"The client certificate names {told}, which is no caller of this gateway. Ask an operator of the gateway to add it "
            "to access.certificates, or send an API key.",
            reason=Reason.CERTIFICATE_UNKNOWN,
        )


def _texts(connection: AuthContext, name: str) -> list[str]:
    return [value.decode("utf-8", "replace") for value in connection.get(name, ())]
