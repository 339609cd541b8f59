from __future__ import annotations

import asyncio

import pytest

from gateway.domain import failpoints
from gateway.domain.job import JobEvent, JobStatus
from gateway.domain.payload import Payload
from tests.support.waiting import until
from tests.unit.engine.conftest import ALICE, Engine


async def test_news_that_could_not_be_committed_is_committed_later_and_in_its_order(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await engine.submit()
    other = await engine.submit()
    monkeypatch.setitem(failpoints._ARMED, "store.before_commit", failpoints._Armed("error", 0.0, 1))
    engine.provider.tell(job.id, JobStatus.RUNNING)
    engine.provider.tell(job.id, JobStatus.DONE)
    engine.provider.tell(other.id, JobStatus.RUNNING)
    await engine.status(other, JobStatus.RUNNING)
    await engine.status(job, JobStatus.DONE)
    history = await engine.watches.events(ALICE, job.id, after=0, limit=100)
    assert [each.job.status for each in history if isinstance(each, JobEvent)][-2:] == [
        JobStatus.RUNNING,
        JobStatus.DONE,
    ]


async def test_who_is_told_that_a_job_is_done_finds_its_result_at_hand(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read_result(job_id: str) -> Payload:
        raise AssertionError("the result was read from the store")

    async def result_when_told() -> Payload:
        async for news in engine.watches.watch(ALICE, job.id, None, engine.heartbeat):
            if isinstance(news, JobEvent) and news.job.status is JobStatus.DONE:
                return (await engine.results.result(ALICE, job.id))[1]
        raise AssertionError("the job never was DONE")

    monkeypatch.setattr(engine.store, "read_result", read_result)
    job = await engine.submit()
    waiting = asyncio.create_task(result_when_told())
    await until(lambda: engine._hub.watchers)
    engine.provider.tell(job.id, JobStatus.DONE)
    assert await waiting == f"result of {job.id}".encode()
