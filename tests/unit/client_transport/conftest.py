"""A fake gateway, and connections to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from qgateway._aio_connection import AioConnection
from qgateway._connection import Connection, ConnectionSettings

from tests.unit.client_transport.fake_gateway import FakeGateway


@pytest.fixture
def fake() -> Iterator[FakeGateway]:
    gateway = FakeGateway()
    yield gateway
    gateway.stop()


@pytest.fixture
def settings(fake: FakeGateway) -> ConnectionSettings:
    return ConnectionSettings.from_environment(target=fake.target, api_key="canary-0123456789")


@pytest.fixture
def connection(settings: ConnectionSettings) -> Iterator[Connection]:
    with Connection(settings) as connection:
        yield connection


@pytest.fixture
async def aio_connection(settings: ConnectionSettings) -> AsyncIterator[AioConnection]:
    async with AioConnection(settings) as connection:
        yield connection
