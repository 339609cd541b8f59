"""TLS of the server: certificate, key and client authorities, taken in anew when their files change.

gRPC asks for news at each handshake, so a new certificate is shown to new connections, and those that stand are left alone. TLS 1.2
is the oldest that gRPC speaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from gateway.credentials.files import read_limited

_log = structlog.get_logger(__name__)

_MAX_FILE_BYTES = 1024 * 1024


class TlsUnusable(Exception):
    """The files do not make a TLS server. The message says which and why, and nothing of a key."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files of a TLS server, all PEM."""

    certificate: Path
    """The server's certificate chain, its own certificate first."""
    key: Path
    """Its private key."""
    client_ca: Path | None = None
    """The authorities of client certificates; None: no client shows one."""


@dataclass(frozen=True, slots=True)
class _Material:
    """What stands in the files."""

    chain: bytes
    key: bytes
    client_ca: bytes | None

    def __repr__(self) -> str:
        """Return a mask: one of them is a secret."""
        return "_Material(...)"

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(self.key, self.chain)], self.client_ca)


class ServerCertificate:
    """The certificate of the server as it is now.

    Args:
        files: Where it is kept.
        interval: Seconds between two looks at the files.

    Raises:
        TlsUnusable: The files cannot be read, or do not belong together.
    """

    def __init__(self, files: TlsFiles, interval: float) -> None:
        self._files = files
        self._interval = interval
        self._material = _read(files)
        self._ends_at = _check(self._material)
        self._suspicion = ""
        self._trouble = ""

    @property
    def trouble(self) -> str:
        """What is wrong with the files, or with the certificate in use; empty if nothing is."""
        if datetime.now(UTC) >= self._ends_at:
            return f"The certificate in {self._files.certificate} has expired. Put a new one in its place."
        return self._trouble

    def credentials(self, *, ask_clients: bool) -> grpc.ServerCredentials:
        """Return what a port is opened with.

        Args:
            ask_clients: Whether every client of the port must show a certificate.
        """
        return grpc.dynamic_ssl_server_credentials(
            self._material.configuration(),
            self._news(),  # type: ignore[arg-type]  # the stubs leave out that None means: as before
            require_client_authentication=ask_clients,
        )

    async def run(self) -> None:
        """Follow the files, until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            await asyncio.to_thread(self._look)

    def _news(self) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
        """Return what gRPC calls at each handshake, in threads of its own: the configuration, if it is another one than before."""
        told = self._material

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal told
            if (now := self._material) is told:
                return None
            told = now
            return now.configuration()

        return fetch

    def _look(self) -> None:
        """Take in what the files hold, if it is new and right.

        Files that are written one after the other are wrong for a moment: trouble counts when a second look finds the same.
        """
        try:
            found = _read(self._files)
            if found == self._material:
                self._settle("")
                return
            ends_at = _check(found)
        except TlsUnusable as error:
            if self._suspicion == str(error):
                self._settle(str(error))
            self._suspicion = str(error)
            return
        self._material, self._ends_at = found, ends_at
        self._settle("")
        _log.info("certificate_reloaded", file=str(self._files.certificate), expires=ends_at.isoformat())

    def _settle(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            _log.error("certificate_not_reloaded", detail=trouble, in_use_until=self._ends_at.isoformat())
        self._trouble = self._suspicion = trouble


def _read(files: TlsFiles) -> _Material:
    try:
        return _Material(
            read_limited(files.certificate, _MAX_FILE_BYTES),
            read_limited(files.key, _MAX_FILE_BYTES),
            read_limited(files.client_ca, _MAX_FILE_BYTES) if files.client_ca else None,
        )
    except OSError as error:
        raise TlsUnusable(f"Cannot read {error.filename}: {error.strerror}.") from None


def _check(material: _Material) -> datetime:
    """Return when a server with this material can no longer be trusted.

    Raises:
        TlsUnusable: gRPC could not serve with it.
    """
    try:
        certificate = x509.load_pem_x509_certificates(material.chain)[0]
    except ValueError:
        raise TlsUnusable("The file of the server's certificate holds no certificate in PEM.") from None
    try:
        key = load_pem_private_key(material.key, password=None)
    except (ValueError, TypeError):
        raise TlsUnusable("The file of the server's private key holds no key in PEM, or one with a password.") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise TlsUnusable("The server's private key is neither RSA nor of an elliptic curve.")
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise TlsUnusable("The server's certificate and its private key do not belong together.")
    if certificate.not_valid_after_utc <= datetime.now(UTC):
        raise TlsUnusable(
            f"The server's certificate has expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC."
        )
    if material.client_ca is not None:
        try:
            x509.load_pem_x509_certificates(material.client_ca)
        except ValueError:
            raise TlsUnusable("The file of the client authorities holds no certificate in PEM.") from None
    return certificate.not_valid_after_utc
