"""Worker pools that the tests share: a process takes a second to come up."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.domain.backend import Backend
from gateway.workers import WorkerPool, WorkerProgramReader, WorkerSimulators

RUN_BYTES = 2**30


@pytest.fixture(scope="session")
async def reader() -> AsyncIterator[WorkerProgramReader]:
    pool = WorkerPool(size=1, warm_up="warm_up_programs")
    yield WorkerProgramReader(pool, time_limit=20, memory_limit=RUN_BYTES)
    await pool.close()


@pytest.fixture(scope="session")
async def simulators() -> AsyncIterator[WorkerSimulators]:
    pool = WorkerPool(size=1, warm_up="warm_up_simulation")
    yield WorkerSimulators(pool)
    await pool.close()


@pytest.fixture(scope="session")
async def backends(simulators: WorkerSimulators) -> dict[str, Backend]:
    return {backend.name: backend for backend, _ in await simulators.describe(4 * 2**30)}


@pytest.fixture(scope="session")
def ideal(backends: dict[str, Backend]) -> Backend:
    return backends["local_simulator"]


@pytest.fixture(scope="session")
def noisy(backends: dict[str, Backend]) -> Backend:
    return backends["local_noisy_5q"]
