from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from qgateway.v1 import (
    account_service_pb2_grpc,
    admin_service_pb2_grpc,
    backend_service_pb2_grpc,
    job_service_pb2,
    job_service_pb2_grpc,
    program_pb2,
    server_service_pb2_grpc,
    session_service_pb2_grpc,
)

from gateway.access.api_keys import ApiKey, KeyRing, hash_api_key
from gateway.access.authenticator import Authenticator
from gateway.access.call_rate import CallRate
from gateway.access.certificates import ClientCertificates
from gateway.access.open_calls import OpenCalls
from gateway.access.tokens import Tokens
from gateway.domain.access import Role
from gateway.engine.api_keys import ApiKeys
from gateway.rpc.admin_service import AdminService
from gateway.rpc.interceptor import CallInterceptor
from gateway.rpc.job_service import JobService
from gateway.rpc.limits import Limits
from gateway.rpc.read_services import AccountService, BackendService, ServerService
from tests.support.scripted_provider import ScriptedProvider
from tests.unit.engine.conftest import Engine, running_engine

KEYS = {role: f"key-of-{role}" for role in Role}


@dataclass
class Wire:
    """A gRPC server over a running engine, and a channel to it."""

    engine: Engine
    channel: grpc.aio.Channel
    target: str

    @property
    def jobs(self) -> Any:
        return job_service_pb2_grpc.JobServiceStub(self.channel)

    @property
    def admin(self) -> Any:
        return admin_service_pb2_grpc.AdminServiceStub(self.channel)

    @property
    def backends(self) -> Any:
        return backend_service_pb2_grpc.BackendServiceStub(self.channel)


def bearer(role: Role = Role.SUBMITTER) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {KEYS[role]}"),)


def bell(**fields: Any) -> job_service_pb2.SubmitJobRequest:
    """A submission that is right but for what `fields` change."""
    source = "OPENQASM 3.0; qubit q; bit c; c = measure q;"
    program = program_pb2.Program(
        openqasm=program_pb2.OpenQasmProgram(circuits=[program_pb2.OpenQasmCircuit(source=source)])
    )
    return job_service_pb2.SubmitJobRequest(**{"program": program, "backend": "machine", **fields})


def details(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """Return the details of an error by the name of their type."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None, f"no details: {error}"
    found = {}
    for detail in status.details:
        name = detail.type_url.rpartition(".")[2]
        assert name not in found, f"two details of type {name}"
        message = getattr(error_details_pb2, name)()
        detail.Unpack(message)
        found[name] = message
    return found


@pytest.fixture
def limits() -> Limits:
    return Limits(heartbeat_interval=0.2, chunk_bytes=4)


@pytest.fixture
async def wire(tmp_path: Path, limits: Limits) -> AsyncIterator[Wire]:
    keys = [
        ApiKey(role, "chemistry" if role is Role.OPERATOR else "physics", role, hash_api_key(key))
        for role, key in KEYS.items()
    ]
    async with running_engine(tmp_path / "store.db", ScriptedProvider()) as engine:
        accounts = engine.accounts
        ring, open_calls = KeyRing(keys, engine.store.api_key_key), OpenCalls()
        api_keys = ApiKeys(engine.store, ring, open_calls, engine.store.api_key_key)
        authenticator = Authenticator(ring, Tokens(()), ClientCertificates(()))
        server = grpc.aio.server(
            interceptors=[CallInterceptor(authenticator, engine.trail, open_calls, CallRate(1_000_000))]
        )
        job_service_pb2_grpc.add_JobServiceServicer_to_server(JobService(engine, limits), server)
        backend_service_pb2_grpc.add_BackendServiceServicer_to_server(BackendService(accounts), server)
        account_service_pb2_grpc.add_AccountServiceServicer_to_server(
            AccountService(accounts, engine.jobs, engine.usages), server
        )
        session_service_pb2_grpc.add_SessionServiceServicer_to_server(
            session_service_pb2_grpc.SessionServiceServicer(), server
        )
        admin_service_pb2_grpc.add_AdminServiceServicer_to_server(
            AdminService(accounts, api_keys, engine.trail), server
        )
        server_service_pb2_grpc.add_ServerServiceServicer_to_server(
            ServerService(limits, engine.results._reader), server
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Wire(engine, channel, f"127.0.0.1:{port}")
        await server.stop(None)
