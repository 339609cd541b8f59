"""TLS and mutual TLS, with real certificates made for the test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from qgateway import GatewayProvider, IBMNotAuthorizedError
from qgateway.v1 import server_service_pb2, server_service_pb2_grpc

from tests.support.authority import Authority
from tests.support.gateway_process import GatewayProcess
from tests.support.ports import free_port


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


def _settings(authority: Authority, **more: str) -> dict[str, str]:
    certificate, key = authority.issue("server")
    return {"SERVER__TLS__CERTIFICATE": str(certificate), "SERVER__TLS__KEY": str(key), **more}


def test_a_client_talks_tls_and_a_probe_asks_for_health_in_plain_text(
    new_gateway: Callable[..., GatewayProcess], authority: Authority
) -> None:
    probe = f"127.0.0.1:{free_port()}"
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


def test_files_that_do_not_belong_together_are_told_before_the_start(authority: Authority) -> None:
    certificate, _ = authority.issue("server")
    _, key = authority.issue("other")
    files = {"GATEWAY_SERVER__TLS__CERTIFICATE": str(certificate), "GATEWAY_SERVER__TLS__KEY": str(key)}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    for arguments in (["config", "check"], ["serve", "--dev"]):
        done = subprocess.run(
            [sys.executable, "-m", "gateway", *arguments],
            env={**inherited, **files},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 2
        assert "server.tls" in done.stderr
        assert "do not belong together" in done.stderr
