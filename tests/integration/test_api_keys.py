"""API keys over the real server: `gateway init`, `gateway keys`, expiry, revocation with its streams."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from qgateway.v1 import admin_service_pb2, admin_service_pb2_grpc, job_service_pb2, job_service_pb2_grpc

from gateway.domain.job import utc_now
from tests.support.gateway_process import GatewayProcess
from tests.support.wire import connected, details


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("GATEWAY_", "QGATEWAY_"))}
    line = [sys.executable, "-m", "gateway", *arguments]
    return subprocess.run(
        line, capture_output=True, text=True, check=False, env={**inherited, **environment}, timeout=60
    )


@pytest.fixture
def gateway(new_gateway: Callable[..., GatewayProcess]) -> GatewayProcess:
    return new_gateway().start()


def make_key(gateway: GatewayProcess, **fields: Any) -> admin_service_pb2.CreateApiKeyResponse:
    wanted = admin_service_pb2.ApiKey(
        **{"display_name": "ci", "tenant": "physics", "roles": [admin_service_pb2.ROLE_SUBMITTER], **fields}
    )
    with grpc.insecure_channel(gateway.target) as channel:
        stub = admin_service_pb2_grpc.AdminServiceStub(channel)
        request = admin_service_pb2.CreateApiKeyRequest(api_key=wanted)
        return stub.CreateApiKey(request, metadata=bearer(gateway.api_key), timeout=20)


def test_the_first_operator_makes_lists_and_revokes_keys_by_command(gateway: GatewayProcess) -> None:
    environment = gateway.environment()
    made = json.loads(command("keys", "create", "--name", "ci", "--days", "1", "--json", **environment).stdout)
    secret = made.pop("secret")
    assert secret.startswith(f"qgw_{made['name'].removeprefix('apiKeys/')}_")
    assert made["role"] == "submitter"
    (listed,) = json.loads(command("keys", "list", "--json", **environment).stdout)
    assert listed == made
    table = command("keys", "list", COLUMNS="80", **environment).stdout
    head, row = (line.split() for line in table.splitlines())
    assert head == ["key", "for", "tenant", "role", "made", "ends", "last", "used", "revoked"]
    assert row == [made["name"], "ci", made["tenant"], "submitter", made["created"][:10], made["expires"][:10]]
    assert secret not in table
    # The new key is no operator's.
    refused = command("keys", "list", **{**environment, "QGATEWAY_API_KEY": secret})
    assert refused.returncode == 1
    assert "PERMISSION_DENIED" in refused.stderr
    assert command("keys", "revoke", made["name"], **environment).returncode == 0
    (listed,) = json.loads(command("keys", "list", "--json", **environment).stdout)
    assert listed["revoked"]
    again = command("keys", "list", **{**environment, "QGATEWAY_API_KEY": secret})
    assert "revoked" in again.stderr
    assert command("keys", "revoke", "nosuchkey", **environment).returncode == 1
    assert secret not in gateway.log


def test_init_makes_the_first_key_once_and_the_server_takes_it(tmp_path: Path) -> None:
    database = {"GATEWAY_STORE__PATH": str(tmp_path / "store" / "qgateway.db")}
    first = command("init", **database)
    assert first.returncode == 0, first.stderr
    key = first.stdout.strip()
    second = command("init", **database)
    assert second.returncode == 1
    assert "keys already" in second.stderr
    assert "cannot be shown again" not in second.stderr
    gateway = GatewayProcess(tmp_path).start()
    try:
        assert command("init", **database).returncode == 2  # the server has the database
        listing = command("keys", "list", "--json", QGATEWAY_TARGET=gateway.target, QGATEWAY_API_KEY=key)
        (record,) = json.loads(listing.stdout)
        assert (record["display_name"], record["role"]) == ("operator", "operator")
    finally:
        gateway.stop()
    assert key not in gateway.log


def test_a_revoked_key_stops_working_at_once_with_its_open_streams(gateway: GatewayProcess) -> None:
    made = make_key(gateway)
    with grpc.insecure_channel(gateway.target) as channel, ThreadPoolExecutor() as threads:
        jobs = job_service_pb2_grpc.JobServiceStub(channel)
        watches = [jobs.WatchJobs(job_service_pb2.WatchJobsRequest(), metadata=bearer(made.secret)) for _ in range(5)]
        for watch in watches:
            next(watch)
        others = jobs.WatchJobs(job_service_pb2.WatchJobsRequest(), metadata=bearer(gateway.api_key))
        next(others)

        def end(watch: Any) -> tuple[float, grpc.RpcError]:
            with pytest.raises(grpc.RpcError) as caught:
                for _ in watch:
                    pass
            return time.monotonic(), caught.value

        ends = [threads.submit(end, watch) for watch in watches]
        admin = admin_service_pb2_grpc.AdminServiceStub(channel)
        revoked_at = time.monotonic()
        request = admin_service_pb2.RevokeApiKeyRequest(name=made.api_key.name)
        assert admin.RevokeApiKey(request, metadata=bearer(gateway.api_key), timeout=20).api_key.revoke_time.seconds
        for future in ends:
            ended_at, error = future.result(timeout=20)
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
            assert details(error)["ErrorInfo"].reason == "API_KEY_REVOKED"
            assert ended_at - revoked_at < 1.0  # the promise is one second
        with pytest.raises(grpc.RpcError) as caught:
            jobs.ListJobs(job_service_pb2.ListJobsRequest(), metadata=bearer(made.secret), timeout=20)
        assert details(caught.value)["ErrorInfo"].reason == "API_KEY_REVOKED"
        assert others.is_active()
        others.cancel()


def test_a_stream_ends_when_its_key_expires(gateway: GatewayProcess) -> None:
    expiring = make_key(gateway, expire_time=utc_now() + timedelta(seconds=2))
    with grpc.insecure_channel(gateway.target) as channel:
        jobs = job_service_pb2_grpc.JobServiceStub(channel)
        watch = jobs.WatchJobs(job_service_pb2.WatchJobsRequest(), metadata=bearer(expiring.secret), timeout=30)
        with pytest.raises(grpc.RpcError) as caught:
            for _ in watch:
                pass
        assert details(caught.value)["ErrorInfo"].reason == "API_KEY_EXPIRED"


def test_keys_outlive_a_restart_and_their_uses_are_noted(gateway: GatewayProcess) -> None:
    made = make_key(gateway)
    with grpc.insecure_channel(gateway.target) as channel:
        stub = job_service_pb2_grpc.JobServiceStub(channel)
        stub.ListJobs(job_service_pb2.ListJobsRequest(), metadata=bearer(made.secret), timeout=20)
    gateway.stop()
    gateway.start()
    with connected(gateway) as wire:
        stub = admin_service_pb2_grpc.AdminServiceStub(wire.channel)
        listing = stub.ListApiKeys(admin_service_pb2.ListApiKeysRequest(), metadata=wire.metadata, timeout=20)
        (key,) = listing.api_keys
        assert key.last_use_time.seconds % 60 == 0
        assert abs(key.last_use_time.seconds - time.time()) < 120
        stub = job_service_pb2_grpc.JobServiceStub(wire.channel)
        stub.ListJobs(job_service_pb2.ListJobsRequest(), metadata=bearer(made.secret), timeout=20)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tenant": "Not A Name"}, "api_key.tenant"),
        ({"roles": []}, "api_key.roles"),
        ({"roles": [99]}, "api_key.roles[0]"),
        ({"display_name": "x" * 10_000}, "api_key.display_name"),
        ({"expire_time": utc_now() - timedelta(days=1)}, "api_key.expire_time"),
    ],
)
def test_a_wrong_key_is_refused_with_the_field(gateway: GatewayProcess, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        make_key(gateway, **fields)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(caught.value)["BadRequest"].field_violations[0].field == field
