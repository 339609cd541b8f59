from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.domain.errors import NotFound, OutOfRange, Reason, ResourceExhausted, Unavailable, WorkerFailure
from gateway.domain.job import Job, JobFailure, JobStatus, PendingKind
from gateway.engine.pacing import Pacing
from gateway.engine.queue_places import QueuePlaces
from tests.support.polled_provider import PolledProvider
from tests.support.waiting import until
from tests.unit.engine.conftest import ALICE, Engine, running_engine

FAST = Pacing(shortest_poll=0.01, longest_poll=0.05, settle_seconds=0.3)


@pytest.fixture
def provider() -> PolledProvider:
    return PolledProvider()


@pytest.fixture
async def engine(tmp_path: Path, provider: PolledProvider) -> AsyncIterator[Engine]:
    async with running_engine(tmp_path / "store.db", provider, FAST) as engine:
        yield engine


async def kind_of(engine: Engine, job: Job) -> PendingKind | None:
    reason = (await engine.jobs.get(ALICE, job.id)).pending_reason
    return reason.kind if reason is not None else None


async def reaches(engine: Engine, job: Job, kind: PendingKind) -> None:
    async with asyncio.timeout(10):
        while await kind_of(engine, job) is not kind:
            await asyncio.sleep(0.005)


async def test_all_jobs_are_asked_for_together_and_none_when_there_is_none(
    engine: Engine, provider: PolledProvider
) -> None:
    assert provider.polls == []
    jobs = [await engine.submit() for _ in range(5)]
    await until(lambda: len(provider.polls[-1:]) and len(provider.polls[-1]) == 5)
    for job in jobs:
        provider.tell(job.provider_job_id, JobStatus.DONE)
    for job in jobs:
        await engine.status(job, JobStatus.DONE)
    await until(lambda: len(provider.forgotten) == 5)
    rounds = len(provider.polls)
    later = await engine.submit()
    provider.tell(later.provider_job_id, JobStatus.DONE)
    await engine.status(later, JobStatus.DONE)
    assert set(provider.polls[rounds:]) == {(later.provider_job_id,)}


async def test_news_goes_through_all_steps_and_the_result_is_fetched_once(
    engine: Engine, provider: PolledProvider
) -> None:
    job = await engine.submit()
    assert job.status is JobStatus.QUEUED
    provider.tell(job.provider_job_id, JobStatus.RUNNING)
    await engine.status(job, JobStatus.RUNNING)
    provider.tell(job.provider_job_id, JobStatus.DONE)
    await engine.status(job, JobStatus.DONE)
    for _ in range(3):
        assert (await engine.results.result(ALICE, job.id))[1] == f"result of {job.provider_job_id}".encode()
    assert provider.fetched == [job.provider_job_id]


async def test_news_that_says_nothing_new_is_not_written(engine: Engine, provider: PolledProvider) -> None:
    job = await engine.submit()
    revision = (await engine.jobs.get(ALICE, job.id)).revision
    rounds = len(provider.polls)
    await until(lambda: len(provider.polls) > rounds + 5)
    assert (await engine.jobs.get(ALICE, job.id)).revision == revision


async def test_an_outage_is_told_once_and_taken_back_afterwards(engine: Engine, provider: PolledProvider) -> None:
    job = await engine.submit()
    provider.outages = [Unavailable("No route.") for _ in range(5)]
    await reaches(engine, job, PendingKind.PROVIDER_UNREACHABLE)
    await reaches(engine, job, PendingKind.PROVIDER_QUEUE)
    events = await engine.watches.events(ALICE, job.id, after=0, limit=50)
    assert sum(event.message == "No route." for event in events) == 1


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ResourceExhausted("Slower.", reason=Reason.RATE_LIMITED), PendingKind.PACED),
        (Unavailable("The key is wrong.", reason=Reason.CREDENTIALS_REFUSED), PendingKind.CREDENTIALS_REFUSED),
        (Unavailable("No route."), PendingKind.PROVIDER_UNREACHABLE),
    ],
)
async def test_why_there_is_no_news_is_told(
    engine: Engine, provider: PolledProvider, error: Unavailable, kind: PendingKind
) -> None:
    job = await engine.submit()
    provider.outages = [error] * 3
    await reaches(engine, job, kind)


async def test_the_provider_is_not_asked_before_it_wants_to_be(engine: Engine, provider: PolledProvider) -> None:
    job = await engine.submit()
    provider.outages = [ResourceExhausted("Slower.", retry_after=0.4)]
    await reaches(engine, job, PendingKind.PACED)
    rounds, began = len(provider.polls), asyncio.get_running_loop().time()
    await until(lambda: len(provider.polls) > rounds)
    assert asyncio.get_running_loop().time() - began > 0.25


async def test_no_news_of_one_job_holds_up_no_other(engine: Engine, provider: PolledProvider) -> None:
    first, second = await engine.submit(), await engine.submit()
    provider.silent[first.provider_job_id] = Unavailable("This one is broken.")
    provider.tell(first.provider_job_id, JobStatus.DONE)
    provider.tell(second.provider_job_id, JobStatus.DONE)
    await engine.status(second, JobStatus.DONE)
    await reaches(engine, first, PendingKind.PROVIDER_UNREACHABLE)
    provider.silent.clear()
    await engine.status(first, JobStatus.DONE)


async def test_a_job_is_not_done_before_its_result_is_here(engine: Engine, provider: PolledProvider) -> None:
    job = await engine.submit()
    provider.fetch_errors = [Unavailable("Busy."), Unavailable("Busy.")]
    provider.tell(job.provider_job_id, JobStatus.DONE)
    await reaches(engine, job, PendingKind.FETCHING_RESULT)
    assert (await engine.jobs.get(ALICE, job.id)).status is not JobStatus.DONE
    await engine.status(job, JobStatus.DONE)
    assert len(provider.fetched) == 3


async def test_a_result_that_is_gone_fails_the_job(engine: Engine, provider: PolledProvider) -> None:
    job = await engine.submit()
    provider.fetch_errors = [NotFound("It was read before.") for _ in range(1000)]
    provider.tell(job.provider_job_id, JobStatus.DONE)
    await reaches(engine, job, PendingKind.FETCHING_RESULT)
    failed = await engine.status(job, JobStatus.ERROR)
    assert failed.failure == JobFailure(Reason.RESULT_ABSENT, "It was read before.")


async def test_a_result_that_is_not_found_for_a_moment_is_no_loss(engine: Engine, provider: PolledProvider) -> None:
    job = await engine.submit()
    provider.fetch_errors = [NotFound("Not here."), NotFound("Not here.")]
    provider.tell(job.provider_job_id, JobStatus.DONE)
    await engine.status(job, JobStatus.DONE)


async def test_results_that_take_long_hold_up_no_other_job(engine: Engine, provider: PolledProvider) -> None:
    slow, other = [await engine.submit() for _ in range(5)], await engine.submit()
    for job in slow:
        provider.held[job.provider_job_id] = asyncio.Event()
        provider.tell(job.provider_job_id, JobStatus.DONE)
    await until(lambda: len(provider.fetched) == 4)
    rounds = len(provider.polls)
    await until(lambda: len(provider.polls) > rounds + 3)
    provider.tell(other.provider_job_id, JobStatus.RUNNING)
    await engine.status(other, JobStatus.RUNNING)
    for event in provider.held.values():
        event.set()
    for job in slow:
        await engine.status(job, JobStatus.DONE)
    assert len(provider.fetched) == 5


async def test_a_job_that_takes_long_to_be_cancelled_holds_up_no_other(
    engine: Engine, provider: PolledProvider
) -> None:
    slow, other = await engine.submit(), await engine.submit()
    provider.cancel_errors = [Unavailable("No route.")]
    with pytest.raises(Unavailable):
        await engine.jobs.cancel(ALICE, slow.id)
    held = provider.held[slow.provider_job_id] = asyncio.Event()
    rounds = len(provider.polls)
    await until(lambda: len(provider.polls) > rounds + 3)
    provider.tell(other.provider_job_id, JobStatus.RUNNING)
    await engine.status(other, JobStatus.RUNNING)
    held.set()
    await engine.status(slow, JobStatus.CANCELLED)


async def test_a_result_larger_than_the_account_takes_in_fails_the_job(
    engine: Engine, provider: PolledProvider
) -> None:
    job = await engine.submit()
    provider.fetch_errors = [OutOfRange("It is large.", reason=Reason.RESULT_LIMIT_EXCEEDED)]
    provider.tell(job.provider_job_id, JobStatus.DONE)
    failed = await engine.status(job, JobStatus.ERROR)
    assert failed.failure == JobFailure(Reason.RESULT_LIMIT_EXCEEDED, "It is large.")
    assert len(provider.fetched) == 1


async def test_a_result_that_no_process_can_read_fails_the_job_and_an_outage_does_not_count(
    engine: Engine, provider: PolledProvider
) -> None:
    job = await engine.submit()
    crash = WorkerFailure("The process died.")
    provider.fetch_errors = [Unavailable("Busy."), Unavailable("Busy."), Unavailable("Busy."), crash, crash, crash]
    provider.tell(job.provider_job_id, JobStatus.DONE)
    failed = await engine.status(job, JobStatus.ERROR)
    assert failed.failure is not None
    assert failed.failure.message == "The process died."
    assert len(provider.fetched) == 6


async def test_a_job_that_the_provider_does_not_know_fails_only_after_the_settle_time(
    engine: Engine, provider: PolledProvider
) -> None:
    job = await engine.submit()
    known = provider.jobs[job.provider_job_id]
    provider.lose(job.provider_job_id)
    rounds = len(provider.polls)
    await until(lambda: len(provider.polls) > rounds + 1)
    provider.jobs[job.provider_job_id] = known
    rounds = len(provider.polls)
    await until(lambda: len(provider.polls) > rounds + 10)
    assert (await engine.jobs.get(ALICE, job.id)).status is JobStatus.QUEUED
    provider.lose(job.provider_job_id)
    failed = await engine.status(job, JobStatus.ERROR)
    assert failed.failure is not None
    assert failed.failure.reason is Reason.PROVIDER_ERROR
    assert len(provider.submitted) == 1


async def test_places_cost_two_questions_per_round_and_come_round_to_all() -> None:
    provider = PolledProvider()
    names = [provider.take("m") for _ in range(7)]
    places = QueuePlaces(provider)
    await asyncio.gather(*(places.get(name) for name in names for _ in range(10)))
    for asked in (2, 4, 6, 7, 7):
        assert len(provider.places_asked) == asked
        places.refresh()
        await until(lambda: not places._asking)
    assert sorted(provider.places_asked) == names
    assert [place.position for name in names if (place := places.known(name))] == list(range(7))
    await places.close()
