"""Accounts at the emulator of the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from qgateway.v1 import result_pb2

from gateway.credentials.sources import SecretSource
from gateway.credentials.token_cache import TokenCache
from gateway.domain.backend import Backend
from gateway.domain.job import JobStatus, RunOptions
from gateway.domain.program import PreparedProgram
from gateway.domain.provider import ProviderSubmission, ProviderUpdate
from gateway.domain.secret import Secret
from gateway.providers.ibm import CircuitFormat, CircuitProgram, HealthRecord, IamExchange, IbmProvider, IbmSettings
from gateway.providers.ibm.client import IbmClient
from gateway.store.spool import FileSpool
from gateway.workers import WorkerIbmPayloads, WorkerPool, WorkerProgramReader
from tests.emulators.ibm_quantum.process import EmulatorProcess


class FixedKey:
    """A source that holds one key."""

    def __init__(self, key: str) -> None:
        self._key = key

    async def load(self) -> Secret:
        return Secret(self._key)

    async def changes(self) -> AsyncIterator[None]:
        yield


class Account:
    """What the composition root makes for one account, in the same order."""

    def __init__(self, settings: IbmSettings, iam_url: str, key: str) -> None:
        self.settings = settings
        self.health = HealthRecord()
        self.exchange = IamExchange(settings.account, iam_url, use_environment=False)
        source: SecretSource = FixedKey(key)
        self.tokens = TokenCache(settings.account, source, self.exchange, on_health=self.health.credentials)
        self.tokens.start()

    async def close(self) -> None:
        await self.tokens.close()
        self.exchange.close()


@pytest.fixture
async def closing() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def new_account(emulator: EmulatorProcess, closing: AsyncExitStack) -> Callable[..., Account]:
    """Makes accounts over the emulator; settings can be changed by name."""

    def make(*, name: str = "alpha", instance: int = 0, key: str = "", **changes: Any) -> Account:
        fields = {
            "account": name,
            "crn": emulator.crn(name, instance),
            "api_url": f"{emulator.url}/api/v1",
            "use_environment": False,
            "backoff": 0.01,
            **changes,
            "program": CircuitProgram(changes.get("program", "executor")),
            "circuit_format": CircuitFormat(changes.get("circuit_format", "qpy17")),
        }
        account = Account(IbmSettings(**fields), emulator.url, key or emulator.api_key(name))
        closing.push_async_callback(account.close)
        return account

    return make


@pytest.fixture
async def new_client(new_account: Callable[..., Account], closing: AsyncExitStack) -> Callable[..., IbmClient]:
    """Makes clients of accounts of their own."""

    def make(**changes: Any) -> IbmClient:
        account = new_account(**changes)
        client = IbmClient(account.settings, account.tokens, account.health)
        closing.callback(client.close)
        return client

    return make


@pytest.fixture
async def client(new_client: Callable[..., IbmClient]) -> IbmClient:
    return new_client()


@pytest.fixture(scope="session")
async def pool() -> AsyncIterator[WorkerPool]:
    pool = WorkerPool(size=1, warm_up="warm_up_programs")
    yield pool
    await pool.close()


class Bench:
    """A provider, and programs for it.

    Args:
        account: Whose provider it is.
        pool: Reads and writes circuits.
        spool: Keeps results as they came.
    """

    def __init__(self, account: Account, pool: WorkerPool, spool: FileSpool) -> None:
        self.account = account
        self.spool = spool
        self.provider = IbmProvider(account.settings, account.tokens, WorkerIbmPayloads(pool), spool, account.health)
        self._reader = WorkerProgramReader(pool)

    async def backend(self, name: str = "ibm_alder") -> Backend:
        return await self.provider.backend(name)

    async def prepare(self, program: bytes, options: RunOptions, backend: str = "ibm_alder") -> PreparedProgram:
        return await self._reader.prepare(program, await self.backend(backend), options)

    async def submission(
        self, program: bytes, options: RunOptions | None = None, *, marker: str = "m1", **fields: Any
    ) -> ProviderSubmission:
        options = options or RunOptions(shots=16, transpile=1)
        backend = fields.pop("backend", "ibm_alder")
        prepared = await self.prepare(program, options, backend)
        return ProviderSubmission(marker, backend, prepared, options, f"jobs/{marker}", **fields)

    async def submit(self, program: bytes, options: RunOptions | None = None, **fields: Any) -> str:
        """Submit a program and return the provider's id of the job."""
        update = await self.provider.submit(await self.submission(program, options, **fields))
        return update.provider_job_id

    async def state(self, job_id: str) -> ProviderUpdate:
        (update,) = await self.provider.poll((job_id,))
        return update

    async def ended(self, job_id: str) -> ProviderUpdate:
        async with asyncio.timeout(30):
            while not (update := await self.state(job_id)).status.is_final:
                await asyncio.sleep(0.02)
        return update

    async def result(self, program: bytes, options: RunOptions | None = None, **fields: Any) -> result_pb2.JobResult:
        """Run a program and return its result."""
        job_id = await self.submit(program, options, **fields)
        update = await self.ended(job_id)
        assert update.status is JobStatus.DONE, update.failure
        return result_pb2.JobResult.FromString(await self.provider.fetch_result(job_id))


@pytest.fixture
async def new_bench(
    new_account: Callable[..., Account], pool: WorkerPool, closing: AsyncExitStack, tmp_path: Path
) -> Callable[..., Bench]:
    """Makes benches over accounts of their own."""

    def make(**changes: Any) -> Bench:
        bench = Bench(new_account(**changes), pool, FileSpool(tmp_path / "spool"))
        closing.push_async_callback(bench.provider.close)
        return bench

    return make


@pytest.fixture
async def bench(new_bench: Callable[..., Bench]) -> Bench:
    return new_bench()
