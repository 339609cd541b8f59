from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from gateway.domain.access import Caller, Role
from gateway.domain.backend import Backend
from gateway.domain.job import Job, JobEvent, JobStatus, ProgramKind, ProgramSummary, RunOptions
from gateway.domain.payload import Payload, PayloadFile
from gateway.domain.policy import Policy
from gateway.domain.program import PreparedProgram
from gateway.engine import engine
from gateway.engine.accounts import Accounts
from gateway.engine.admission import Admission
from gateway.engine.pacing import Pacing
from gateway.engine.submissions import JobRequest
from gateway.engine.uploads import UploadLimits
from gateway.store import Store
from tests.support.scripted_provider import ScriptedProvider

ALICE = Caller("alice", "physics", Role.SUBMITTER)
DEFAULT_PACING = Pacing()
DEFAULT_POLICY = Policy()
MALLORY = Caller("mallory", "chemistry", Role.OPERATOR)


class UnreadProgram:
    """Takes every program as it is: what programs say is not what these tests are about."""

    async def prepare(self, program: Payload, backend: Backend, options: RunOptions) -> PreparedProgram:
        program = program.path.read_bytes() if isinstance(program, PayloadFile) else program
        summary = ProgramSummary(ProgramKind.QPY, 1, len(program), hashlib.sha256(program).hexdigest(), 2)
        return PreparedProgram(summary, program, dynamic=False)

    async def select_result(
        self, result: Payload, experiments: tuple[int, ...], *, include_counts: bool, omit_shots: bool, max_bytes: int
    ) -> Payload:
        return result

    async def qpy_versions(self) -> tuple[int, int]:
        return 13, 18


class Engine(engine.Engine):
    """An engine over a real store and a scripted provider."""

    def __init__(self, store: Store, provider: ScriptedProvider, pacing: Pacing, policy: Policy) -> None:
        super().__init__(
            Accounts([provider], policy),
            store,
            UnreadProgram(),
            upload_limits=UploadLimits(max_bytes=4 * 1024 * 1024),
            pacing={provider.account: pacing},
            admission=Admission(policy),
        )
        self.store = store
        self.provider = provider
        self.heartbeat = 30.0

    async def submit(self, caller: Caller = ALICE, request_id: str = "", **fields: object) -> Job:
        request = JobRequest(
            **{"program": b"a program", "backend": "machine", "options": RunOptions(), "digest": "d", **fields}  # type: ignore[arg-type]
        )
        job, _ = await self.submissions.submit(caller, request, request_id)
        return job

    async def status(self, job: Job, status: JobStatus, caller: Caller = ALICE) -> Job:
        """Wait until a job has a status, and return it."""

        async def seen() -> Job:
            async for news in self.watches.watch(caller, job.id, None, self.heartbeat):
                if isinstance(news, JobEvent) and news.job.status is status:
                    return news.job
            raise AssertionError(f"the job never was {status}")

        return await asyncio.wait_for(seen(), 10)


@asynccontextmanager
async def running_engine(
    path: Path, provider: ScriptedProvider, pacing: Pacing = DEFAULT_PACING, policy: Policy = DEFAULT_POLICY
) -> AsyncIterator[Engine]:
    async with AsyncExitStack() as parts:
        store = await Store.open(path)
        parts.push_async_callback(store.close)
        engine = Engine(store, provider, pacing, policy)
        await engine.start()
        parts.push_async_callback(engine.close)
        yield engine


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with running_engine(tmp_path / "store.db", ScriptedProvider()) as engine:
        yield engine
