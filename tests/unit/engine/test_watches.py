from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.domain.errors import InvalidArgument, Reason
from gateway.domain.job import EventType, Job, JobEvent, JobStatus
from gateway.domain.provider import QueuePlace
from gateway.domain.query import JobFilter
from gateway.engine import hub as hub_module
from gateway.engine.recent_events import RecentEvents
from gateway.engine.watches import SignOfLife
from tests.unit.engine.conftest import ALICE, MALLORY, Engine


async def _all(news: AsyncIterator[object]) -> list[object]:
    return [each async for each in news]


async def _take(news: AsyncIterator[object], count: int) -> list[JobEvent]:
    async with asyncio.timeout(10):
        found: list[JobEvent] = []
        async for each in news:
            if isinstance(each, JobEvent):
                found.append(each)
                if len(found) == count:
                    break
        return found


async def _finish(engine: Engine, job: Job) -> None:
    engine.provider.tell(job.id, JobStatus.RUNNING)
    engine.provider.tell(job.id, JobStatus.DONE)
    await engine.status(job, JobStatus.DONE)


async def test_a_watch_begins_with_the_state_and_ends_with_the_final_event(engine: Engine) -> None:
    job = await engine.submit()
    watching = asyncio.ensure_future(_all(engine.watches.watch(ALICE, job.id, None, 30)))
    await asyncio.sleep(0)
    await _finish(engine, job)
    events = [each for each in await asyncio.wait_for(watching, 10) if isinstance(each, JobEvent)]
    assert events[0].type is EventType.SNAPSHOT
    assert [event.job.status for event in events] == [JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.DONE]


async def test_a_watch_of_a_finished_job_is_its_state_and_nothing_more(engine: Engine) -> None:
    job = await engine.submit()
    await _finish(engine, job)
    (only,) = await _all(engine.watches.watch(ALICE, job.id, None, 30))
    assert isinstance(only, JobEvent)
    assert (only.type, only.job.status) == (EventType.SNAPSHOT, JobStatus.DONE)


async def test_a_watch_resumes_without_gap_and_without_repetition(engine: Engine) -> None:
    job = await engine.submit()
    await _finish(engine, job)
    history = await engine.watches.events(ALICE, job.id, after=0, limit=100)
    for position, seen in enumerate(history):
        rest = await _all(engine.watches.watch(ALICE, job.id, seen.revision, 30))
        assert rest == list(history[position + 1 :])


@pytest.mark.parametrize("batch", [1, 2, 100])
async def test_a_watch_reads_from_the_store_what_memory_no_longer_holds(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(hub_module, "_BATCH", batch)
    job = await engine.submit()
    for index in range(9):
        await engine.jobs.update(ALICE, job.id, display_name=f"name {index}", tags=None, etag="")
    await _finish(engine, job)
    engine._hub.recent = RecentEvents(engine._hub.last_revision)
    history = await engine.watches.events(ALICE, job.id, after=0, limit=100)
    assert await _all(engine.watches.watch(ALICE, job.id, 0, 30)) == list(history)
    everything = await _take(engine.watches.watch_all(JobFilter(), 0, 30), len(history))
    assert everything == list(history)


async def test_a_silent_watch_gives_signs_of_life_that_move_its_position(engine: Engine) -> None:
    job = await engine.submit()
    other = await engine.submit()
    watch = engine.watches.watch(ALICE, job.id, None, 0.05)
    await anext(watch)
    first = await asyncio.wait_for(anext(watch), 10)
    changed = await engine.jobs.update(ALICE, other.id, display_name="x", tags=None, etag="")
    assert isinstance(first, SignOfLife)
    assert first.place == QueuePlace(0)
    async with asyncio.timeout(10):
        while True:
            bookmark = await anext(watch)
            assert isinstance(bookmark, SignOfLife)
            if bookmark.revision >= changed.revision:
                break


async def test_a_token_from_the_future_is_refused(engine: Engine) -> None:
    job = await engine.submit()
    with pytest.raises(InvalidArgument) as caught:
        await _all(engine.watches.watch(ALICE, job.id, 10**9, 30))
    assert caught.value.reason is Reason.INVALID_RESUME_TOKEN


async def test_a_deleted_job_ends_its_watch_with_the_deletion(engine: Engine) -> None:
    job = await engine.submit()
    await engine.jobs.cancel(ALICE, job.id)
    cancelled = await engine.jobs.get(ALICE, job.id)
    with engine._hub.watch(job.id, cancelled.revision) as watcher:
        waiting = asyncio.ensure_future(watcher.next(30))
        await asyncio.sleep(0)
        await engine.jobs.delete(ALICE, job.id)
        last = await asyncio.wait_for(waiting, 10)
    assert isinstance(last, JobEvent)
    assert last.type is EventType.DELETED


async def test_a_watch_of_all_jobs_sees_only_what_matches(engine: Engine) -> None:
    watch = engine.watches.watch_all(JobFilter(tenant="physics", all_tags=frozenset({"wanted"})), None, 30)
    assert isinstance(await anext(watch), SignOfLife)
    await engine.submit(MALLORY, tags=("wanted",))
    await engine.submit(tags=("other",))
    wanted = await engine.submit(tags=("wanted", "other"))
    await engine.jobs.cancel(ALICE, wanted.id)
    events = await _take(watch, 3)
    assert {event.job.id for event in events} == {wanted.id}


async def test_a_thousand_watchers_all_see_every_event(engine: Engine) -> None:
    job = await engine.submit()
    watching = [asyncio.ensure_future(_all(engine.watches.watch(ALICE, job.id, 0, 30))) for _ in range(1000)]
    await asyncio.sleep(0)
    await _finish(engine, job)
    history = list(await engine.watches.events(ALICE, job.id, after=0, limit=100))
    for events in await asyncio.wait_for(asyncio.gather(*watching), 30):
        assert events == history
    assert engine._hub._waiting == {}
    assert engine._hub.watchers == 0


async def test_a_watcher_hears_soon_that_its_job_moved_up_in_the_queue(engine: Engine) -> None:
    places = iter([QueuePlace(2), QueuePlace(2), QueuePlace(1), QueuePlace(0)])

    async def queue_place(provider_job_id: str) -> QueuePlace:
        return next(places, QueuePlace(0))

    job = await engine.submit()
    engine.provider.queue_place = queue_place  # type: ignore[method-assign]
    watch = engine.watches.watch(ALICE, job.id, None, 60)
    await anext(watch)
    async with asyncio.timeout(10):
        seen = [await anext(watch), await anext(watch)]
    assert [news.place for news in seen if isinstance(news, SignOfLife)] == [QueuePlace(1), QueuePlace(0)]
