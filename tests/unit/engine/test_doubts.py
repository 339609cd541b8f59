from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.domain.errors import GatewayError, NotFound, Unavailable
from gateway.domain.job import EventType, Job, JobStatus, PendingKind, SubmissionState, utc_now
from gateway.engine.pacing import Pacing
from tests.support.polled_provider import PolledProvider
from tests.support.waiting import until
from tests.unit.engine.conftest import ALICE, Engine, running_engine

FAST = Pacing(shortest_poll=0.01, longest_poll=0.05, settle_seconds=0.6)


@pytest.fixture
def provider() -> PolledProvider:
    return PolledProvider()


@pytest.fixture
async def engine(tmp_path: Path, provider: PolledProvider) -> AsyncIterator[Engine]:
    async with running_engine(tmp_path / "store.db", provider, FAST) as engine:
        yield engine


async def notes(engine: Engine, job: Job) -> list[str]:
    events = await engine.watches.events(ALICE, job.id, after=0, limit=50)
    return [event.message for event in events if event.type is EventType.NOTE]


async def test_a_lost_reply_leaves_a_doubt_that_says_so(engine: Engine, provider: PolledProvider) -> None:
    provider.lost_replies = [True]
    job = await engine.submit()
    assert job.status is JobStatus.INITIALIZING
    assert job.submission.state is SubmissionState.UNKNOWN
    assert job.pending_reason is not None
    assert job.pending_reason.kind is PendingKind.SUBMISSION_UNKNOWN
    assert job.pending_reason.retry_at is not None


async def test_what_is_found_is_adopted_and_not_sent_again(engine: Engine, provider: PolledProvider) -> None:
    provider.lost_replies = [True]
    adopted = await engine.status(await engine.submit(), JobStatus.QUEUED)
    assert adopted.provider_job_id == "p0"
    assert adopted.submission.state is SubmissionState.ACCEPTED
    assert adopted.submission.attempts == 1
    provider.tell("p0", JobStatus.DONE)
    await engine.status(adopted, JobStatus.DONE)
    assert len(provider.submitted) == 1


async def test_what_is_not_found_is_sent_again_after_the_settle_time(engine: Engine, provider: PolledProvider) -> None:
    provider.lost_replies = [False]
    sent = await engine.status(await engine.submit(), JobStatus.QUEUED)
    assert sent.submission.attempts == 2
    assert len(provider.submitted) == 2
    first, second = (step.reached_at for step in sent.steps)
    assert (second - first).total_seconds() >= FAST.settle_seconds


@pytest.mark.parametrize("error", [Unavailable("No route."), NotFound("There is nothing at this address.")])
async def test_a_look_that_fails_settles_nothing(engine: Engine, provider: PolledProvider, error: GatewayError) -> None:
    provider.lost_replies = [True]
    provider.find_errors = [error] * 3
    adopted = await engine.status(await engine.submit(), JobStatus.QUEUED)
    assert adopted.provider_job_id == "p0"
    assert len(provider.submitted) == 1


async def test_a_twin_that_turns_up_is_told_once_and_cancelled(engine: Engine, provider: PolledProvider) -> None:
    provider.lost_replies = [False]
    job = await engine.status(await engine.submit(), JobStatus.QUEUED)
    twin = provider.take(job.id)
    await until(lambda: twin in provider.cancelled)
    assert [message for message in await notes(engine, job) if twin in message] == await notes(engine, job) != []
    assert job.provider_job_id not in provider.cancelled


async def test_a_twin_whose_cancelling_fails_at_the_last_look_is_looked_for_again(
    engine: Engine, provider: PolledProvider
) -> None:
    provider.lost_replies = [False]
    job = await engine.status(await engine.submit(), JobStatus.QUEUED)
    twin = provider.take(job.id)
    # As many as there are looks, and one more.
    provider.cancel_errors = [Unavailable("No route.") for _ in range(5)]
    await until(lambda: twin in provider.cancelled)
    assert job.provider_job_id not in provider.cancelled
    assert len([message for message in await notes(engine, job) if twin in message]) == 1


async def test_a_twin_that_ran_already_is_told_all_the_same(engine: Engine, provider: PolledProvider) -> None:
    provider.lost_replies = [False]
    job = await engine.status(await engine.submit(), JobStatus.QUEUED)
    twin = provider.take(job.id)
    provider.tell(twin, JobStatus.DONE)

    async def told() -> list[str]:
        return await notes(engine, job)

    found: list[str] = []
    while not found:
        found = await told()
    assert "ran before it was found" in found[0]
    assert provider.cancelled == []


async def test_a_job_in_doubt_that_is_to_be_cancelled_is_cancelled_as_soon_as_it_is_found(
    engine: Engine, provider: PolledProvider
) -> None:
    provider.lost_replies = [True]
    job = await engine.submit()
    assert (await engine.jobs.cancel(ALICE, job.id)).status is JobStatus.INITIALIZING
    await engine.status(job, JobStatus.CANCELLED)
    assert set(provider.cancelled) == {"p0"}


async def test_a_job_in_doubt_that_is_to_be_cancelled_and_was_not_taken_is_not_sent_again(
    engine: Engine, provider: PolledProvider
) -> None:
    provider.lost_replies = [False]
    job = await engine.submit()
    await engine.jobs.cancel(ALICE, job.id)
    await engine.status(job, JobStatus.CANCELLED)
    assert len(provider.submitted) == 1


async def test_a_doubt_outlives_a_restart(tmp_path: Path, provider: PolledProvider) -> None:
    path = tmp_path / "store.db"
    async with running_engine(path, provider, FAST) as engine:
        provider.lost_replies = [True]
        job = await engine.submit()
    async with running_engine(path, provider, FAST) as engine:
        assert (await engine.jobs.get(ALICE, job.id)).submission.state is SubmissionState.UNKNOWN
        await engine.status(job, JobStatus.QUEUED)
    assert len(provider.submitted) == 1


async def test_a_twin_of_a_job_that_has_ended_is_cancelled_although_it_turns_up_after_a_restart(
    tmp_path: Path, provider: PolledProvider
) -> None:
    path = tmp_path / "store.db"
    async with running_engine(path, provider, FAST) as engine:
        provider.lost_replies = [False]
        job = await engine.status(await engine.submit(), JobStatus.QUEUED)
        provider.tell(job.provider_job_id, JobStatus.DONE)
        await engine.status(job, JobStatus.DONE)
    async with running_engine(path, provider, FAST) as engine:
        twin = provider.take(job.id)
        await until(lambda: twin in provider.cancelled)
        assert len([message for message in await notes(engine, job) if twin in message]) == 1
        assert (await engine.jobs.get(ALICE, job.id)).status is JobStatus.DONE


async def test_the_last_look_for_twins_is_made_even_if_its_time_came_while_the_gateway_was_down(
    tmp_path: Path, provider: PolledProvider
) -> None:
    path = tmp_path / "store.db"
    quick = Pacing(shortest_poll=0.01, longest_poll=0.05, settle_seconds=0.05)
    async with running_engine(path, provider, quick) as engine:
        provider.lost_replies = [False]
        job = await engine.status(await engine.submit(), JobStatus.QUEUED)
        (due,) = await engine.store.twins_due()
    await asyncio.sleep((due[1] - utc_now()).total_seconds())
    twin = provider.take(job.id)
    provider.find_errors = [Unavailable("No route.") for _ in range(2)]
    async with running_engine(path, provider, quick) as engine:
        await until(lambda: twin in provider.cancelled)
        async with asyncio.timeout(10):
            while await engine.store.twins_due():
                await asyncio.sleep(0.01)


async def test_a_job_that_was_sent_once_has_no_twins_to_look_for(engine: Engine) -> None:
    await engine.submit()
    assert await engine.store.twins_due() == ()


async def test_a_job_that_turns_up_after_it_was_cancelled_is_cancelled_at_the_provider(
    engine: Engine, provider: PolledProvider
) -> None:
    provider.lost_replies = [False]
    job = await engine.submit()
    await engine.jobs.cancel(ALICE, job.id)
    await engine.status(job, JobStatus.CANCELLED)
    late = provider.take(job.id)
    await until(lambda: late in provider.cancelled)
    (note,) = await notes(engine, job)
    assert "has the job after all" in note


async def test_all_that_wait_say_what_holds_them_up(engine: Engine, provider: PolledProvider) -> None:
    provider.refusals = [Unavailable("No route.", retry_after=0.5)]
    jobs = [await engine.submit() for _ in range(4)]
    reasons = [(await engine.jobs.get(ALICE, job.id)).pending_reason for job in jobs]
    assert {reason.kind for reason in reasons if reason is not None} == {PendingKind.PROVIDER_UNREACHABLE}
    assert {job.submission.state for job in jobs} == {SubmissionState.PENDING}
    for job in jobs:
        await engine.status(job, JobStatus.QUEUED)
    assert [submission.marker for submission in provider.submitted] == [job.id for job in jobs]
