"""A scripted gateway, and the client's objects on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from qgateway import GatewayBackend, GatewayCircuitJob, GatewayProvider

from tests.unit.client.scripted_gateway import JOB_ID, ScriptedGateway


@pytest.fixture
def scripted() -> Iterator[ScriptedGateway]:
    """A gateway with one backend `machine` and one job, QUEUED."""
    server = ScriptedGateway()
    server.move("QUEUED")
    yield server
    server.stop()


@pytest.fixture
def provider(scripted: ScriptedGateway) -> Iterator[GatewayProvider]:
    with GatewayProvider(scripted.target, "canary-0123456789") as made:
        yield made


@pytest.fixture
def backend(provider: GatewayProvider) -> GatewayBackend:
    return provider.get_backend("machine")


@pytest.fixture
def job(provider: GatewayProvider, scripted: ScriptedGateway) -> GatewayCircuitJob:
    """A handle of the gateway's job; the calls that made it are forgotten."""
    found = provider.retrieve_job(JOB_ID)
    scripted.calls.clear()
    return found
