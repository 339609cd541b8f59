"""What is read once need not be read again; what is asked twice is done once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.domain.backend import Backend
from gateway.domain.errors import AlreadyExists, InvalidArgument, Reason, ResourceExhausted
from gateway.domain.job import Job, PendingKind, RunOptions
from gateway.domain.payload import Payload
from gateway.domain.policy import NO_LIMITS, Policy, TenantPolicy
from gateway.domain.program import PreparedProgram
from gateway.engine.pacing import Pacing
from gateway.engine.recent_programs import KnownProgram, ProgramKey, RecentPrograms
from gateway.engine.recent_requests import RecentRequests
from tests.support.polled_provider import PolledProvider
from tests.unit.engine.conftest import ALICE, MALLORY, Engine, UnreadProgram, running_engine

PACED = Pacing(submits_per_minute=2)


class CountedReader(UnreadProgram):
    """Counts what it reads."""

    def __init__(self) -> None:
        self.read: list[bytes] = []

    async def prepare(self, program: Payload, backend: Backend, options: RunOptions) -> PreparedProgram:
        assert isinstance(program, bytes)
        if program == b"nonsense":
            raise InvalidArgument.field("program", "makes no sense")
        self.read.append(program)
        return await super().prepare(program, backend, options)


@pytest.fixture
async def paced(tmp_path: Path) -> AsyncIterator[Engine]:
    """An engine whose provider takes two jobs a minute."""
    async with running_engine(tmp_path / "store.db", PolledProvider(), PACED) as engine:
        yield engine


@pytest.fixture
def reader(paced: Engine, monkeypatch: pytest.MonkeyPatch) -> CountedReader:
    reader = CountedReader()
    monkeypatch.setattr(paced.submissions, "_reader", reader)
    return reader


async def test_a_program_is_read_once_for_each_tenant(paced: Engine, reader: CountedReader) -> None:
    for caller in (ALICE, ALICE, MALLORY, MALLORY):
        await paced.submit(caller)
    assert reader.read == [b"a program", b"a program"]


async def test_a_program_is_read_again_for_other_options_and_a_changed_backend(
    paced: Engine, reader: CountedReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    await paced.submit()
    await paced.submit(options=RunOptions(transpile=1))
    changed = replace(await paced.provider.backend("machine"), version="next")

    async def backend(name: str) -> Backend:
        return changed

    monkeypatch.setattr(paced.provider, "backend", backend)
    await paced.submit()
    assert len(reader.read) == 3


async def test_a_repeated_request_of_a_known_program_takes_no_place_of_another_job(paced: Engine) -> None:
    first = await paced.submit(request_id="r")
    again = await asyncio.gather(*(paced.submit(request_id="r") for _ in range(5)))
    assert {job.id for job in again} == {first.id}
    with pytest.raises(AlreadyExists):
        await paced.submit(request_id="r", digest="other")
    second = await paced.submit(request_id="s")
    assert [submission.marker for submission in paced.provider.submitted] == [first.id, second.id]
    third = await paced.submit(request_id="t")
    assert third.pending_reason is not None
    assert third.pending_reason.kind is PendingKind.PACED


async def test_a_repeated_request_of_a_known_program_counts_as_no_submission(tmp_path: Path) -> None:
    three = Policy(TenantPolicy(limits=replace(NO_LIMITS, submissions_per_minute=3)))
    async with running_engine(tmp_path / "store.db", PolledProvider(), policy=three) as engine:
        first = await engine.submit(request_id="r")
        again = [await engine.submit(request_id="r") for _ in range(5)]
        assert {job.id for job in again} == {first.id}
        for request_id in ("s", "t"):
            await engine.submit(request_id=request_id)
        with pytest.raises(ResourceExhausted) as refused:
            await engine.submit(request_id="u")
        assert refused.value.reason is Reason.SUBMISSION_RATE_EXCEEDED
        assert (await engine.submit(request_id="r")).id == first.id


async def test_a_repeated_request_gets_its_job_even_if_it_would_be_refused_now(
    paced: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await paced.submit(request_id="r")

    async def gone(name: str) -> Backend:
        raise InvalidArgument.field("backend", "is gone")

    monkeypatch.setattr(paced.provider, "backend", gone)
    assert (await paced.submit(request_id="r")).id == first.id
    with pytest.raises(InvalidArgument):
        await paced.submit(request_id="s")


async def test_a_program_that_is_refused_is_read_again(paced: Engine, reader: CountedReader) -> None:
    for _ in range(2):
        with pytest.raises(InvalidArgument):
            await paced.submit(program=b"nonsense")
    assert reader.read == []


async def test_old_and_large_programs_are_forgotten(paced: Engine) -> None:
    backend = await paced.provider.backend("machine")
    recent, reader = RecentPrograms(), UnreadProgram()

    async def put(source: bytes) -> ProgramKey:
        key = ProgramKey("physics", "", "machine", None, source)
        recent.put(key, KnownProgram(backend, await reader.prepare(source, backend, RunOptions())))
        return key

    assert recent.get(await put(b"large" * 20_000)) is None
    keys = [await put(str(number).encode() * 5_000) for number in range(10_000, 12_000)]
    known = [recent.get(key) is not None for key in keys]
    assert known == sorted(known)
    assert 0 < sum(known) * 50_000 <= 8 * 1024 * 1024


async def test_a_request_that_came_lately_begins_no_second_run(engine: Engine) -> None:
    first = await engine.submit(request_id="r")
    again = await asyncio.gather(*(engine.submit(request_id="r") for _ in range(3)))
    assert {job.id for job in again} == {first.id}
    assert [submission.marker for submission in engine.provider.submitted] == [first.id]


async def test_a_second_run_of_a_request_that_came_long_ago_is_ended(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await engine.submit(request_id="r")
    monkeypatch.setattr(engine.submissions, "_requests", RecentRequests())
    assert (await engine.submit(request_id="r")).id == first.id
    assert [submission.marker for submission in engine.provider.submitted] == [first.id, *engine.provider.cancelled]
    assert len(engine.provider.cancelled) == 1


async def test_a_new_request_of_a_known_program_is_not_looked_for(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look(tenant: str, request_id: str) -> Job | None:
        raise AssertionError("it was looked for")

    first = await engine.submit(request_id="r")
    monkeypatch.setattr(engine.store, "get_job_by_request_id", look)
    assert (await engine.submit(request_id="s")).id != first.id
    with pytest.raises(AssertionError, match="it was looked for"):
        await engine.submit(request_id="r")


def test_the_oldest_requests_are_forgotten() -> None:
    recent = RecentRequests()
    assert not any(recent.is_repeated("physics", str(number)) for number in range(20_000))
    assert recent.is_repeated("physics", "19999")
    assert not recent.is_repeated("chemistry", "19999")
    assert not recent.is_repeated("physics", "0")
