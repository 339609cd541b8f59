"""Jobs that did not come through the gateway: who may adopt them, and what they are after that."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.domain.access import Caller, Role
from gateway.domain.errors import NotFound
from gateway.domain.job import EventType, Job, JobStatus, ProgramKind, SchedulingMode, SubmissionState
from gateway.domain.provider import ProviderJob, ProviderUpdate
from gateway.domain.query import JobFilter
from tests.support.scripted_provider import ScriptedProvider
from tests.unit.engine.conftest import ALICE, MALLORY, Engine, running_engine
from tests.unit.engine.test_sessions import opened

LAST_YEAR = datetime(2025, 6, 1, tzinfo=UTC)
OPERATOR = Caller("olga", "physics", Role.OPERATOR)


def foreign(status: JobStatus, **fields: object) -> ProviderJob:
    update = ProviderUpdate("old", status, status.lower(), LAST_YEAR, started_at=LAST_YEAR)
    return ProviderJob(update, "machine", "sampler", LAST_YEAR, **fields)  # type: ignore[arg-type]


async def adopted(engine: Engine, caller: Caller = OPERATOR) -> Job:
    return await engine.adoptions.get(caller, "scripted", "old")


async def test_a_job_that_has_ended_is_adopted_with_its_result(engine: Engine) -> None:
    engine.provider.foreign["old"] = foreign(JobStatus.DONE, tags=("mine",))
    job = await adopted(engine)
    assert (job.status, job.tenant, job.creator, job.tags) == (JobStatus.DONE, "physics", "olga", ("mine",))
    assert (job.created_at, job.submission.state, job.submission.attempts) == (LAST_YEAR, SubmissionState.ACCEPTED, 0)
    assert await engine.store.read_result(job.id) == b"result of old"
    assert await engine.store.read_program(job.id) == b"program of old"
    assert job.program.kind is ProgramKind.RAW
    assert engine.provider.claimed == {"old": job.id}
    events = await engine.store.job_events(job.id, limit=10)
    assert [event.type for event in events] == [EventType.CREATED, EventType.STATUS_CHANGED]
    assert [record.entry.action for record in await engine.store.audit_records(limit=10)] == ["job.adopt"]
    assert await adopted(engine, ALICE) == job


async def test_a_job_that_still_runs_is_followed_and_cancelled_like_any_other(engine: Engine) -> None:
    engine.provider.foreign["old"] = foreign(JobStatus.RUNNING)
    job = await adopted(engine)
    assert job.status is JobStatus.RUNNING
    cancelled = await engine.jobs.cancel(ALICE, job.id)
    assert (cancelled.status, engine.provider.cancelled) == (JobStatus.CANCELLED, ["old"])


async def test_an_adopted_job_is_followed_after_a_restart(tmp_path: Path) -> None:
    provider = ScriptedProvider(volatile=False)
    provider.foreign["old"] = foreign(JobStatus.QUEUED)
    async with running_engine(tmp_path / "store.db", provider) as engine:
        job = await adopted(engine)
    async with running_engine(tmp_path / "store.db", provider) as engine:
        provider.tell("old", JobStatus.DONE)
        assert (await engine.status(job, JobStatus.DONE)).id == job.id


async def test_whoever_is_no_operator_learns_nothing_of_foreign_jobs(engine: Engine) -> None:
    engine.provider.foreign["old"] = foreign(JobStatus.DONE)
    with pytest.raises(NotFound) as unknown:
        await adopted(engine, ALICE)
    await adopted(engine, MALLORY)
    for caller in (ALICE, OPERATOR):
        with pytest.raises(NotFound) as caught:
            await adopted(engine, caller)
        assert caught.value.message == unknown.value.message
    assert not (
        await engine.jobs.list(JobFilter(tenant="physics"), limit=9, cursor=None, oldest_first=False, skip=0)
    ).jobs


async def test_a_job_that_its_provider_does_not_know_is_not_found(engine: Engine) -> None:
    with pytest.raises(NotFound):
        await adopted(engine)


async def test_racing_adoptions_make_one_job(engine: Engine) -> None:
    engine.provider.foreign["old"] = foreign(JobStatus.DONE)
    jobs = await asyncio.gather(*(adopted(engine) for _ in range(10)))
    assert len({job.id for job in jobs}) == 1
    again = replace(jobs[0], id="another")
    entry = (await engine.store.audit_records(limit=1))[0].entry
    assert (await engine.store.adopt_job(again, b"program of old", entry)).id == jobs[0].id


async def test_a_job_that_the_gateway_sent_is_not_adopted_again(engine: Engine) -> None:
    own = await engine.submit()
    engine.provider.foreign["old"] = foreign(JobStatus.QUEUED, marker=own.id)
    with pytest.raises(NotFound):  # it is a twin, which is about to be cancelled
        await adopted(engine)


async def test_a_job_of_a_session_of_the_gateway_is_told_so(engine: Engine) -> None:
    session = await opened(engine, mode=SchedulingMode.BATCH)
    engine.provider.foreign["old"] = foreign(JobStatus.QUEUED, session=session.provider_session_id)
    job = await adopted(engine)
    assert (job.session, job.scheduling_mode) == (session.name, SchedulingMode.BATCH)
