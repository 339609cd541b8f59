"""A local provider over real worker processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from typing import Any

import pytest

from gateway.domain.job import RunOptions
from gateway.domain.provider import Provider, ProviderSubmission, ProviderUpdate
from gateway.providers.local import LocalProvider, LocalSettings
from gateway.workers import WorkerPool, WorkerProgramReader, WorkerSimulators

RUN_BYTES = 2**30
PARALLEL_JOBS = 2


@pytest.fixture(scope="session")
async def reader() -> AsyncIterator[WorkerProgramReader]:
    pool = WorkerPool(size=1, warm_up="warm_up_programs")
    yield WorkerProgramReader(pool)
    await pool.close()


@pytest.fixture(scope="session")
async def pool() -> AsyncIterator[WorkerPool]:
    pool = WorkerPool(size=PARALLEL_JOBS, warm_up="warm_up_simulation")
    yield pool
    await pool.close()


@pytest.fixture
async def new_provider(pool: WorkerPool) -> AsyncIterator[Callable[..., Awaitable[LocalProvider]]]:
    """Makes and starts providers over the shared simulators."""
    made: list[LocalProvider] = []

    async def make(**settings: Any) -> LocalProvider:
        limits = LocalSettings(**{"parallel_jobs": PARALLEL_JOBS, "memory_limit": RUN_BYTES, **settings})
        provider = LocalProvider("here", WorkerSimulators(pool), limits)
        await provider.start()
        made.append(provider)
        return provider

    yield make
    for provider in made:
        await provider.close()


@pytest.fixture
async def lone_pool() -> AsyncIterator[WorkerPool]:
    """A pool of the test's own with one process, so that the test knows which process does the work."""
    pool = WorkerPool(size=1, warm_up="warm_up_simulation")
    yield pool
    await pool.close()


class Bench:
    """Submits programs to a provider and follows what it tells."""

    def __init__(self, provider: LocalProvider, reader: WorkerProgramReader) -> None:
        self.provider: Provider = provider
        self._reader = reader
        self._markers = (f"job-{number}" for number in count())

    async def submission(self, program: bytes, backend: str = "local_simulator", **options: Any) -> ProviderSubmission:
        chosen = RunOptions(**{"shots": 100, **options})
        prepared = await self._reader.prepare(program, await self.provider.backend(backend), chosen)
        marker = next(self._markers)
        return ProviderSubmission(marker, backend, prepared, chosen, f"jobs/{marker}")

    async def submit(self, program: bytes, backend: str = "local_simulator", **options: Any) -> str:
        return (await self.provider.submit(await self.submission(program, backend, **options))).provider_job_id

    async def state(self, job: str) -> ProviderUpdate:
        (update,) = await self.provider.poll((job,))
        return update

    async def ended(self, job: str) -> ProviderUpdate:
        """Wait until a job is final, and return its state."""
        async for update in self.provider.updates():
            if update.provider_job_id == job and update.status.is_final:
                return update
        raise AssertionError("the provider was closed")


@pytest.fixture
async def bench(new_provider: Callable[..., Awaitable[LocalProvider]], reader: WorkerProgramReader) -> Bench:
    return Bench(await new_provider(), reader)
