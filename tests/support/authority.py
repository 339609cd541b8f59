"""A certificate authority of a test's own."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.leaks import WATCH

HOUR = dt.timedelta(hours=1)


@dataclass
class Authority:
    """Makes certificates for 127.0.0.1.

    Args:
        folder: Where the files are written; it is made if it is missing.
        name: Name of the authority, and of the file of its certificate.
    """

    folder: Path
    name: str = "ca"

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        certificate = self._sign(self._name, self._key.public_key(), (), is_authority=True, lifetime=HOUR)
        self.certificate = self._write(f"{self.name}.crt", certificate)

    def issue(
        self, name: str, *, dns: tuple[str, ...] = (), uris: tuple[str, ...] = (), lifetime: dt.timedelta = HOUR
    ) -> tuple[Path, Path]:
        """Return the files of a new certificate and its key. A pair of the same name is replaced."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = (*map(x509.DNSName, dns), *map(x509.UniformResourceIdentifier, uris))
        signed = self._sign(subject, key.public_key(), names, is_authority=False, lifetime=lifetime)
        form = serialization.PrivateFormat.PKCS8
        pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        pair = self._write(f"{name}.crt", signed), self._write(f"{name}.key", pem)
        WATCH.plant_file("a private key of TLS", pair[1])
        return pair

    def channel_credentials(self, pair: tuple[Path, Path] | None = None) -> grpc.ChannelCredentials:
        """Return what a client trusts that knows this authority, and what it shows."""
        certificate, key = (path.read_bytes() for path in pair) if pair else (None, None)
        return grpc.ssl_channel_credentials(self.certificate.read_bytes(), key, certificate)

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        names: tuple[x509.GeneralName, ...],
        *,
        is_authority: bool,
        lifetime: dt.timedelta,
    ) -> bytes:
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - HOUR)
            .not_valid_after(now + lifetime)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1")), *names]), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)

    def _write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        scratch = path.with_suffix(".new")
        scratch.write_bytes(content)
        scratch.replace(path)
        return path
