"""Records of runs: made once the provider has said its last word, and shared where they can be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from gateway.domain.backend import BackendProperties, Measurement
from gateway.domain.errors import NotFound, Unavailable
from gateway.domain.job import Change, EventType, Job, JobStatus, utc_now
from gateway.domain.provider import ProviderMetrics
from gateway.engine import transitions
from gateway.engine.recorder import Recorder
from gateway.store import Store
from tests.support.scripted_provider import ScriptedProvider
from tests.support.waiting import until
from tests.unit.engine.conftest import Engine, running_engine

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def calibration(at: datetime) -> BackendProperties:
    return BackendProperties("machine", "1", at, qubits=((Measurement("T1", "us", float("nan"), at),),), gates=())


class TalkingProvider(ScriptedProvider):
    """Answers about runs what the test says."""

    def __init__(self) -> None:
        super().__init__(volatile=False)
        self.answers: Iterator[ProviderMetrics | Exception] = iter(())
        self.calibrations = [calibration(NOON)]
        self.asked: list[datetime | None] = []

    async def metrics(self, provider_job_id: str) -> ProviderMetrics:
        answer = next(self.answers, ProviderMetrics())
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def properties(self, name: str, at: datetime | None) -> BackendProperties | None:
        self.asked.append(at)
        return [each for each in self.calibrations if at is None or each.last_update <= at][-1]


@asynccontextmanager
async def recording(engine: Engine) -> AsyncIterator[Recorder]:
    recorder = Recorder(engine.provider, engine.store)
    task = asyncio.create_task(recorder.run())
    yield recorder
    task.cancel()
    await asyncio.wait([task])


async def ended(engine: Engine, running_at: datetime) -> Job:
    """Return a job that has ended, and whose record is due."""
    job = await engine.submit()

    def end(job: Job) -> Change | None:
        running = transitions.with_status(job, JobStatus.RUNNING, running_at)
        done = transitions.with_status(running, JobStatus.CANCELLED, utc_now())
        return transitions.to_be_recorded(Change(done, EventType.STATUS_CHANGED))

    return await engine.store.change_job(job.id, end)


async def recorded(store: Store, job: Job) -> dict[str, str]:
    async with asyncio.timeout(20):
        while (metrics := await store.records.read_metrics(job.id)) is None:
            await asyncio.sleep(0.01)
    return metrics


async def test_a_charge_that_is_settled_late_comes_into_the_job(tmp_path: Path) -> None:
    provider = TalkingProvider()
    provider.answers = iter(
        [
            ProviderMetrics(settled=False),
            Unavailable("Away.", retry_after=0.01),
            ProviderMetrics(values={"a": "b"}, charged_seconds=2.5),
        ]
    )
    async with running_engine(tmp_path / "store.db", provider) as engine, recording(engine) as recorder:
        job = await ended(engine, utc_now())
        assert await engine.store.records.due(provider.account) == (job.id,)
        recorder.add(job.id)
        assert await recorded(engine.store, job) == {"a": "b"}
        assert await engine.store.records.due(provider.account) == ()
        known = await engine.store.get_job(job.id)
        assert known is not None
        assert (known.status, known.usage.charged_seconds) == (JobStatus.CANCELLED, 2.5)
        assert (await engine.store.job_events(job.id, limit=10))[-1].type is EventType.UPDATED


async def test_that_the_provider_knows_nothing_of_a_run_is_believed_only_when_it_was_said_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.engine.recorder._LONGEST_PAUSE", 0.01)
    provider = TalkingProvider()
    asked = 0

    def unknown() -> Iterator[Exception]:
        nonlocal asked
        while True:
            asked += 1
            yield NotFound("There is no such job.")

    provider.answers = unknown()
    async with running_engine(tmp_path / "store.db", provider) as engine, recording(engine) as recorder:
        job = await ended(engine, utc_now())
        recorder.add(job.id)
        assert await recorded(engine.store, job) == {}
        assert asked == 12
        assert await engine.store.records.due(provider.account) == ()


async def test_records_that_a_former_run_left_are_made_first(tmp_path: Path) -> None:
    provider = TalkingProvider()
    async with running_engine(tmp_path / "store.db", provider) as engine:
        job = await ended(engine, utc_now())
        async with recording(engine):
            await recorded(engine.store, job)


async def test_each_job_gets_the_calibration_of_its_own_run(tmp_path: Path) -> None:
    provider = TalkingProvider()
    new = utc_now() - timedelta(hours=1)
    provider.calibrations.append(calibration(new))
    async with running_engine(tmp_path / "store.db", provider) as engine, recording(engine) as recorder:
        jobs = [await ended(engine, at) for at in (new + timedelta(minutes=1), new - timedelta(minutes=1), utc_now())]
        for job in jobs:
            recorder.add(job.id)
            await recorded(engine.store, job)
        kept = [await engine.store.records.read_calibration(job.id) for job in jobs]
        assert [each.last_update for each in kept if each is not None] == [new, NOON, new]


async def test_runs_under_one_calibration_ask_for_it_once(tmp_path: Path) -> None:
    provider = TalkingProvider()
    async with running_engine(tmp_path / "store.db", provider) as engine, recording(engine) as recorder:
        for job in [await ended(engine, utc_now()) for _ in range(5)]:
            recorder.add(job.id)
            await recorded(engine.store, job)
        assert provider.asked == [None]


async def test_the_record_of_a_deleted_job_is_not_made(tmp_path: Path) -> None:
    provider = TalkingProvider()
    async with running_engine(tmp_path / "store.db", provider) as engine, recording(engine) as recorder:
        job, other = await ended(engine, utc_now()), await ended(engine, utc_now())
        await engine.store.change_job(job.id, partial(transitions.charged, seconds=1.0))
        entry = (await engine.store.audit_records(limit=1))[0].entry
        await engine.store.delete_job(job.id, lambda _: None, entry)
        assert await engine.store.records.due(provider.account) == (other.id,)
        recorder.add(job.id)
        recorder.add(other.id)
        await recorded(engine.store, other)
        assert await engine.store.records.read_metrics(job.id) is None
        await until(lambda: provider.asked)
