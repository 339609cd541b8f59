from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.domain.access import AuditEntry
from gateway.domain.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    Reason,
    ResourceExhausted,
    Unavailable,
)
from gateway.domain.job import EventType, Job, JobEvent, JobFailure, JobStatus, PendingKind, SubmissionState
from gateway.domain.policy import Limits
from gateway.domain.query import JobFilter
from gateway.engine.transitions import etag
from tests.support.scripted_provider import ScriptedProvider
from tests.support.waiting import until
from tests.unit.engine.conftest import ALICE, MALLORY, Engine, running_engine


async def test_an_accepted_job_is_stored_and_with_its_provider(engine: Engine) -> None:
    job = await engine.submit(display_name="first", tags=("a", "b"))
    assert job.status is JobStatus.QUEUED
    assert job.submission.state is SubmissionState.ACCEPTED
    assert job.pending_reason is not None
    assert job.pending_reason.kind is PendingKind.PROVIDER_QUEUE
    assert [submission.marker for submission in engine.provider.submitted] == [job.id]
    assert await engine.store.get_job(job.id) == job
    assert await engine.store.read_program(job.id) == b"a program"


async def test_a_done_job_has_its_result_before_anybody_hears_of_it(engine: Engine) -> None:
    job = await engine.submit()
    engine.provider.tell(job.id, JobStatus.RUNNING)
    engine.provider.tell(job.id, JobStatus.DONE)
    done = await engine.status(job, JobStatus.DONE)
    assert done.result is not None
    assert (await engine.results.result(ALICE, job.id))[1] == f"result of {job.id}".encode()
    assert [step.status for step in done.steps] == [
        JobStatus.INITIALIZING,
        JobStatus.QUEUED,
        JobStatus.RUNNING,
        JobStatus.DONE,
    ]
    await until(lambda: engine.provider.forgotten == [job.id])


async def test_the_history_tells_every_status_once_and_in_order(engine: Engine) -> None:
    job = await engine.submit()
    engine.provider.tell(job.id, JobStatus.RUNNING)
    engine.provider.tell(job.id, JobStatus.RUNNING)
    engine.provider.tell(job.id, JobStatus.QUEUED)
    engine.provider.tell(job.id, JobStatus.DONE)
    await engine.status(job, JobStatus.DONE)
    events = await engine.watches.events(ALICE, job.id, after=0, limit=10)
    assert [(event.type, event.job.status) for event in events] == [
        (EventType.CREATED, JobStatus.QUEUED),
        (EventType.STATUS_CHANGED, JobStatus.RUNNING),
        (EventType.STATUS_CHANGED, JobStatus.DONE),
    ]
    assert [event.revision for event in events] == sorted({event.revision for event in events})


async def test_a_provider_outside_gets_a_job_only_after_it_is_stored_and_that_is_told(tmp_path: Path) -> None:
    async with running_engine(tmp_path / "store.db", ScriptedProvider(volatile=False)) as engine:
        job = await engine.submit()
        events = await engine.watches.events(ALICE, job.id, after=0, limit=10)
    assert [(event.type, event.job.status, event.job.submission.state) for event in events] == [
        (EventType.CREATED, JobStatus.INITIALIZING, SubmissionState.SENT),
        (EventType.STATUS_CHANGED, JobStatus.QUEUED, SubmissionState.ACCEPTED),
    ]


async def test_a_run_so_short_that_only_its_end_is_told_still_has_its_start(engine: Engine) -> None:
    job = await engine.submit()
    started_at = job.created_at
    engine.provider.tell(job.id, JobStatus.DONE, started_at=started_at)
    done = await engine.status(job, JobStatus.DONE)
    assert done.reached(JobStatus.RUNNING) == started_at


async def test_a_final_status_never_changes_again(engine: Engine) -> None:
    job = await engine.submit()
    failure = JobFailure(Reason.PROVIDER_ERROR, "The fridge is warm.", "42")
    engine.provider.tell(job.id, JobStatus.ERROR, failure)
    failed = await engine.status(job, JobStatus.ERROR)
    engine.provider.tell(job.id, JobStatus.DONE)
    other = await engine.submit()
    engine.provider.tell(other.id, JobStatus.DONE)
    await engine.status(other, JobStatus.DONE)
    assert await engine.jobs.get(ALICE, job.id) == failed
    assert failed.failure == failure


async def test_a_repeated_request_id_gives_the_first_job(engine: Engine) -> None:
    first = await engine.submit(request_id="r", digest="same")
    again, *_ = await asyncio.gather(*(engine.submit(request_id="r", digest="same") for _ in range(20)))
    assert again.id == first.id
    assert len(engine.provider.submitted) == 1
    with pytest.raises(AlreadyExists) as caught:
        await engine.submit(request_id="r", digest="other")
    assert caught.value.reason is Reason.REQUEST_ID_REUSED
    assert (await engine.submit(MALLORY, request_id="r", digest="other")).id != first.id


async def test_racing_requests_with_one_id_make_one_job(engine: Engine) -> None:
    jobs = await asyncio.gather(*(engine.submit(request_id="race") for _ in range(30)))
    (job_id,) = {job.id for job in jobs}
    begun = [submission.marker for submission in engine.provider.submitted]
    assert sorted(begun) == sorted([job_id, *engine.provider.cancelled])
    engine.provider.tell(job_id, JobStatus.DONE)
    await engine.status(jobs[0], JobStatus.DONE)


async def test_a_job_that_cannot_be_stored_does_not_run(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: object) -> Job:
        raise Internal("The disk is full.")

    monkeypatch.setattr(engine.store, "create_job", full)
    with pytest.raises(Internal):
        await engine.submit()
    assert engine.provider.cancelled == [submission.marker for submission in engine.provider.submitted]


async def test_news_that_comes_before_the_job_is_stored_is_not_lost(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_job = engine.store.create_job

    async def slow(job: Job, program: bytes, audit: AuditEntry, limits: Limits) -> Job:
        engine.provider.tell(job.id, JobStatus.DONE)
        await until(lambda: job.id in engine._trackers["scripted"]._early)
        return await create_job(job, program, audit, limits)

    monkeypatch.setattr(engine.store, "create_job", slow)
    job = await engine.submit()
    await engine.status(job, JobStatus.DONE)


async def test_a_job_that_the_provider_refuses_is_an_error_and_leaves_nothing_behind(engine: Engine) -> None:
    engine.provider.refusals.append(InvalidArgument.field("options.shots", "too many"))
    with pytest.raises(InvalidArgument):
        await engine.submit()
    page = await engine.jobs.list(JobFilter(), limit=10, cursor=None, oldest_first=False, skip=0)
    assert page.jobs == ()


async def test_a_full_provider_makes_the_job_wait_and_say_so(engine: Engine) -> None:
    engine.provider.refusals.append(ResourceExhausted("The queue is full.", retry_after=0.01))
    waiting = await engine.submit()
    behind = await engine.submit()
    assert waiting.status is JobStatus.INITIALIZING
    assert waiting.pending_reason is not None
    assert waiting.pending_reason.kind is PendingKind.PACED
    assert waiting.pending_reason.message == "The queue is full."
    assert waiting.pending_reason.retry_at is not None
    await engine.status(waiting, JobStatus.QUEUED)
    await engine.status(behind, JobStatus.QUEUED)
    assert [submission.marker for submission in engine.provider.submitted] == [waiting.id, behind.id]


async def test_a_provider_that_is_away_makes_the_job_wait(engine: Engine) -> None:
    engine.provider.refusals.append(Unavailable("No route.", retry_after=0.01))
    job = await engine.submit()
    assert job.pending_reason is not None
    assert job.pending_reason.kind is PendingKind.PROVIDER_UNREACHABLE
    await engine.status(job, JobStatus.QUEUED)


async def test_cancelling_tells_what_really_happened(engine: Engine) -> None:
    job = await engine.submit()
    cancelled = await engine.jobs.cancel(ALICE, job.id)
    assert cancelled.status is JobStatus.CANCELLED
    assert cancelled.failure is not None
    assert cancelled.failure.reason is Reason.CANCELLED_BY_CALLER
    assert engine.provider.cancelled == [job.id]
    with pytest.raises(FailedPrecondition) as caught:
        await engine.jobs.cancel(ALICE, job.id)
    assert caught.value.reason is Reason.JOB_FINAL


async def test_a_job_that_was_never_handed_over_is_cancelled_without_its_provider(engine: Engine) -> None:
    engine.provider.refusals.append(ResourceExhausted("Full.", retry_after=60))
    job = await engine.submit()
    for _ in range(20):  # what a hand-over that comes too early would do first
        await engine.store.get_job(job.id)
    assert (await engine.jobs.cancel(ALICE, job.id)).status is JobStatus.CANCELLED
    assert engine.provider.submitted == []
    assert engine.provider.cancelled == []


async def test_another_tenants_job_is_not_found_by_anything(engine: Engine) -> None:
    job = await engine.submit()
    jobs = engine.jobs
    for attempt in (
        jobs.get(MALLORY, job.id),
        engine.adoptions.get(MALLORY, "scripted", job.id),
        jobs.update(MALLORY, job.id, display_name="mine", tags=None, etag=""),
        jobs.cancel(MALLORY, job.id),
        jobs.delete(MALLORY, job.id),
        engine.watches.events(MALLORY, job.id, after=0, limit=1),
        engine.results.result(MALLORY, job.id),
        engine.results.download_program(MALLORY, job.id, offset=0, piece_bytes=1024),
        engine.records.logs(MALLORY, job.id),
        engine.records.metrics(MALLORY, job.id),
        engine.records.backend_properties(MALLORY, job.id),
        anext(engine.watches.watch(MALLORY, job.id, None, 1.0)),  # type: ignore[arg-type]
    ):
        with pytest.raises(NotFound):
            await attempt
    assert (await jobs.get(ALICE, job.id)).display_name == ""


async def test_name_and_tags_change_and_the_provider_hears_of_the_tags(engine: Engine) -> None:
    job = await engine.submit()
    changed = await engine.jobs.update(ALICE, job.id, display_name="new", tags=("t",), etag=etag(job))
    assert (changed.display_name, changed.tags) == ("new", ("t",))
    assert engine.provider.tags == {job.id: ("t",)}
    assert etag(changed) != etag(job)
    with pytest.raises(Aborted):
        await engine.jobs.update(ALICE, job.id, display_name="late", tags=None, etag=etag(job))
    unchanged = await engine.jobs.update(ALICE, job.id, display_name="new", tags=None, etag="")
    assert unchanged == changed


async def test_only_a_finished_job_can_be_deleted_and_then_it_is_gone(engine: Engine) -> None:
    job = await engine.submit()
    with pytest.raises(FailedPrecondition) as caught:
        await engine.jobs.delete(ALICE, job.id)
    assert caught.value.reason is Reason.JOB_NOT_FINAL
    await engine.jobs.cancel(ALICE, job.id)
    await engine.jobs.delete(ALICE, job.id)
    with pytest.raises(NotFound):
        await engine.jobs.get(ALICE, job.id)


async def test_a_result_that_is_not_there_says_why(engine: Engine) -> None:
    job = await engine.submit()
    with pytest.raises(FailedPrecondition) as early:
        await engine.results.result(ALICE, job.id)
    assert early.value.reason is Reason.RESULT_NOT_READY
    engine.provider.tell(job.id, JobStatus.ERROR, JobFailure(Reason.PROVIDER_ERROR, "The fridge is warm."))
    await engine.status(job, JobStatus.ERROR)
    with pytest.raises(FailedPrecondition, match="The fridge is warm") as absent:
        await engine.results.result(ALICE, job.id)
    assert absent.value.reason is Reason.RESULT_ABSENT


async def test_a_stopping_engine_takes_no_more_jobs_and_ends_watches(engine: Engine) -> None:
    job = await engine.submit()
    watch = engine.watches.watch(ALICE, job.id, None, 30)
    assert isinstance(await anext(watch), JobEvent)
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    engine.stop_accepting()
    with pytest.raises(Unavailable) as ended:
        await asyncio.wait_for(waiting, 5)
    assert ended.value.retry_after is not None
    with pytest.raises(Unavailable) as refused:
        await engine.submit()
    assert refused.value.reason is Reason.SERVER_STOPPING


async def test_after_a_restart_unfinished_jobs_run_again_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with running_engine(path, ScriptedProvider()) as engine:
        jobs = [await engine.submit() for _ in range(5)]
        engine.provider.tell(jobs[0].id, JobStatus.DONE)
        engine.provider.tell(jobs[1].id, JobStatus.RUNNING)
        await engine.status(jobs[0], JobStatus.DONE)
        await engine.status(jobs[1], JobStatus.RUNNING)
    async with running_engine(path, ScriptedProvider()) as engine:
        for job in jobs[1:]:
            await engine.status(job, JobStatus.QUEUED)
        assert [submission.marker for submission in engine.provider.submitted] == [job.id for job in jobs[1:]]
        for job in jobs[1:]:
            engine.provider.tell(job.id, JobStatus.DONE)
        for job in jobs[1:]:
            again = await engine.status(job, JobStatus.DONE)
            assert again.submission.attempts == 2
        messages = [event.message for event in await engine.watches.events(ALICE, jobs[1].id, after=0, limit=20)]
        assert any("restarted" in message for message in messages)


async def test_a_job_whose_cancellation_was_asked_for_does_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with running_engine(path, ScriptedProvider()) as engine:
        job = await engine.submit()

        async def never(provider_job_id: str) -> None:
            raise Unavailable("No route.")

        engine.provider.cancel = never  # type: ignore[method-assign, assignment]
        with pytest.raises(Unavailable):
            await engine.jobs.cancel(ALICE, job.id)
    async with running_engine(path, ScriptedProvider()) as engine:
        assert (await engine.jobs.get(ALICE, job.id)).status is JobStatus.CANCELLED
        assert engine.provider.submitted == []


async def test_a_job_whose_account_is_gone_waits_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with running_engine(path, ScriptedProvider()) as engine:
        job = await engine.submit()
    other = ScriptedProvider()
    other.account = "other"
    async with running_engine(path, other) as engine:
        waiting = await engine.jobs.get(ALICE, job.id)
        assert waiting.pending_reason is not None
        assert "no longer configured" in waiting.pending_reason.message
