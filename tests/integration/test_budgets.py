"""Tenants, limits and budgets over the real server, with its policy file, as foreign clients and the Python client see them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2, health_pb2_grpc
from qgateway.v1 import (
    account_service_pb2,
    admin_service_pb2,
    admin_service_pb2_grpc,
    backend_service_pb2,
    job_pb2,
    job_service_pb2,
    session_service_pb2,
)

from gateway.access.api_keys import new_api_key
from qgateway import GatewayProvider
from qgateway.exceptions import IBMBackendApiError
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import wait_until
from tests.support.wire import BELL, LONG, Wire, connected, details

SECONDS_PER_JOB = 10.0
POLICY = """
[tenants.physics]
accounts = ["lab"]
backends = ["*simulator"]
limits.qpu_seconds_per_day = 35
limits.shots_per_circuit = 100_000
limits.circuits_per_job = 2
limits.shots_per_job = 150_000
limits.program_bytes = 5000
"""
ACCOUNTS = {
    name: {"provider": "local", "parallel_jobs": 1, "metered": True, "reserved_seconds_per_job": SECONDS_PER_JOB}
    for name in ("lab", "secret")
}
REQUEST_FIELDS = {"options": job_pb2.RunOptions(shots=1)}


class Lab:
    """A gateway with a policy, and callers of two tenants."""

    def __init__(self, folder: Path, new_gateway: Callable[..., GatewayProcess], **settings: str) -> None:
        self.policy = folder / "policy.toml"
        self.policy.write_text(POLICY)
        operator_key = new_api_key()
        self.gateway = new_gateway({"ACCOUNTS": json.dumps(ACCOUNTS), "ACCESS__POLICY": str(self.policy), **settings})
        self.gateway.api_key, self.gateway._own_key = operator_key, False
        self._open = ExitStack()
        self.start()

    def start(self) -> None:
        self.gateway.start()
        self.operator = self._open.enter_context(connected(self.gateway))

    def caller(self, tenant: str) -> Wire:
        key = admin_service_pb2.ApiKey(display_name=tenant, tenant=tenant, roles=[admin_service_pb2.ROLE_SUBMITTER])
        stub = admin_service_pb2_grpc.AdminServiceStub(self.operator.channel)
        request = admin_service_pb2.CreateApiKeyRequest(api_key=key)
        secret = stub.CreateApiKey(request, metadata=self.operator.metadata, timeout=20).secret
        return Wire(self.operator.channel, secret)

    def close(self) -> None:
        self._open.close()
