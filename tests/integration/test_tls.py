"""TLS and mutual TLS, with real certificates made for the test."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from qgateway import GatewayProvider, IBMNotAuthorizedError
from qgateway.v1 import server_service_pb2, server_service_pb2_grpc

from tests.support.gateway_process import GatewayProcess


@dataclass
class Authority:
    """Makes certificates for 127.0.0.1."""

    folder: Path

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.certificate = self._write("ca.crt", self._sign(self._name, self._key.public_key(), is_authority=True))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Return the files of a new certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._write(f"{name}.crt", self._sign(subject, key.public_key(), is_authority=False))
        path = self.folder / f"{name}.key"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, path

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, is_authority: bool) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )

    def _write(self, name: str, certificate: x509.Certificate) -> Path:
        path = self.folder / name
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    folder = tmp_path / "tls"
    folder.mkdir()
    return Authority(folder)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _settings(authority: Authority, **more: str) -> dict[str, str]:
    certificate, key = authority.issue("server")
    return {"SERVER__TLS__CERTIFICATE": str(certificate), "SERVER__TLS__KEY": str(key), **more}


def test_a_client_talks_tls_and_a_probe_asks_for_health_in_plain_text(
    new_gateway: Callable[..., GatewayProcess], authority: Authority
) -> None:
    probe = f"127.0.0.1:{_free_port()}"
    gateway = new_gateway(_settings(authority, SERVER__HEALTH_LISTEN=probe)).start()
    with GatewayProvider(
        target=gateway.target, api_key=gateway.api_key, tls="on", tls_root=authority.certificate
    ) as provider:
        assert {backend.name for backend in provider.backends()} >= {"local_simulator"}
    with grpc.insecure_channel(probe) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            server_service_pb2_grpc.ServerServiceStub(channel).GetServerInfo(
                server_service_pb2.GetServerInfoRequest(), timeout=10
            )
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    with grpc.insecure_channel(gateway.target) as channel, pytest.raises(grpc.RpcError) as plain:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert plain.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
    assert gateway.stop() == 0


def test_mutual_tls_lets_in_only_who_shows_a_certificate_and_a_key_is_needed_all_the_same(
    new_gateway: Callable[..., GatewayProcess], authority: Authority
) -> None:
    gateway = new_gateway(_settings(authority, SERVER__TLS__CLIENT_CA=str(authority.certificate))).start()
    certificate, key = authority.issue("client")
    root = authority.certificate
    shown = grpc.ssl_channel_credentials(root.read_bytes(), key.read_bytes(), certificate.read_bytes())
    for credentials, code in (
        (shown, grpc.StatusCode.UNAUTHENTICATED),
        (grpc.ssl_channel_credentials(root.read_bytes()), grpc.StatusCode.UNAVAILABLE),
    ):
        with grpc.secure_channel(gateway.target, credentials) as channel, pytest.raises(grpc.RpcError) as caught:
            server_service_pb2_grpc.ServerServiceStub(channel).GetServerInfo(
                server_service_pb2.GetServerInfoRequest(), timeout=10
            )
        assert caught.value.code() is code
    files = {"tls": "on", "tls_root": root, "tls_cert": certificate, "tls_key": key}
    with GatewayProvider(target=gateway.target, api_key=gateway.api_key, **files) as provider:
        assert provider.backends()
    stranger = GatewayProvider(target=gateway.target, api_key="wrong", **files)
    with stranger, pytest.raises(IBMNotAuthorizedError):
        stranger.backends()
