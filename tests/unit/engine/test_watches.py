from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import timedelta
from functools import partial

import pytest

from gateway.domain.errors import InvalidArgument, OutOfRange, Reason
from gateway.domain.job import EventType, Job, JobEvent, JobStatus, utc_now
from gateway.domain.provider import QueuePlace
from gateway.domain.query import JobFilter
from gateway.engine import hub as hub_module
from gateway.engine.audit import audit_entry
from gateway.engine.recent_events import RecentEvents
from gateway.engine.transitions import renamed
from gateway.engine.watches import SignOfLife
from tests.support.waiting import until
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


async def test_a_watch_does_not_begin_with_a_state_that_its_caller_has(engine: Engine) -> None:
    job = await engine.submit()
    watching = asyncio.ensure_future(_all(engine.watches.watch(ALICE, job.id, None, 30, known=job.revision)))
    await until(lambda: engine._hub.watchers)
    await _finish(engine, job)
    events = [each for each in await asyncio.wait_for(watching, 10) if isinstance(each, JobEvent)]
    assert [event.job.status for event in events] == [JobStatus.RUNNING, JobStatus.DONE]


async def test_a_watch_begins_with_the_state_if_its_caller_has_an_older_one_or_it_is_final(engine: Engine) -> None:
    job = await engine.submit()
    change = partial(renamed, display_name="new", tags=None, expected_etag="")
    changed = await engine.store.change_job(job.id, change, audit_entry(ALICE, "job.update", job.id))
    (first,) = await _take(engine.watches.watch(ALICE, job.id, None, 30, known=job.revision), 1)
    assert first == JobEvent(changed.revision, EventType.SNAPSHOT, changed.updated_at, changed)
    await _finish(engine, job)
    done = await engine.jobs.get(ALICE, job.id)
    (only,) = await _all(engine.watches.watch(ALICE, job.id, None, 30, known=done.revision))
    assert isinstance(only, JobEvent)
    assert only.job.status is JobStatus.DONE


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


async def test_the_first_sign_of_life_does_not_wait_for_the_whole_interval(engine: Engine) -> None:
    job = await engine.submit()
    where = JobFilter(tenant=ALICE.tenant)
    for watch in (engine.watches.watch(ALICE, job.id, None, 300), engine.watches.watch_all(where, job.revision, 300)):
        async with asyncio.timeout(20), aclosing(watch) as news:
            async for each in news:
                if isinstance(each, SignOfLife):
                    break


async def test_a_token_from_the_future_is_refused(engine: Engine) -> None:
    job = await engine.submit()
    with pytest.raises(InvalidArgument) as caught:
        await _all(engine.watches.watch(ALICE, job.id, 10**9, 30))
    assert caught.value.reason is Reason.INVALID_RESUME_TOKEN


async def test_a_watch_may_begin_with_a_state_that_is_committed_and_not_yet_published(engine: Engine) -> None:
    job = await engine.submit()
    held: list[Sequence[JobEvent]] = []
    engine._hub._jobs.clear()  # the state is read from the store
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.store, "_listeners", [held.append])
        early = await engine.store.change_job(job.id, partial(renamed, display_name="a", tags=None, expected_etag=""))
        watch = engine.watches.watch(ALICE, job.id, None, 30)
        begin = await anext(watch)
    assert isinstance(begin, JobEvent)
    assert (begin.type, begin.revision) == (EventType.SNAPSHOT, early.revision)
    following = asyncio.ensure_future(_take(watch, 1))
    await asyncio.sleep(0)
    for events in held:
        engine._hub.publish(events)
    late = await engine.jobs.update(ALICE, job.id, display_name="b", tags=None, etag="")
    assert [event.revision for event in await following] == [late.revision]


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
        assert [each for each in events if isinstance(each, JobEvent)] == history
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
        seen = [await anext(watch) for _ in range(3)]
    assert [news.place for news in seen if isinstance(news, SignOfLife)] == [
        QueuePlace(2),
        QueuePlace(1),
        QueuePlace(0),
    ]


async def _renamed(engine: Engine, job: Job, times: int) -> Job:
    for index in range(times):
        job = await engine.jobs.update(ALICE, job.id, display_name=f"name {index}", tags=None, etag="")
    return job


async def _forget_all_but(engine: Engine, keep: int) -> None:
    """Compact the history, and forget what memory holds of it."""
    await engine.store.compact_history(before=utc_now() - timedelta(days=1), keep=keep, limit=10_000)
    engine._hub.recent = RecentEvents(engine._hub.last_revision)


async def test_a_token_older_than_the_history_is_told_so(engine: Engine) -> None:
    job = await engine.submit()
    await _renamed(engine, job, 9)
    await _forget_all_but(engine, 3)
    for watch in (engine.watches.watch(ALICE, job.id, 1, 30), engine.watches.watch_all(JobFilter(), 1, 30)):
        with pytest.raises(OutOfRange) as caught:
            await anext(watch)
        assert caught.value.reason is Reason.HISTORY_COMPACTED
    last = engine._hub.last_revision
    kept = await _take(engine.watches.watch(ALICE, job.id, last - 3, 30), 3)
    assert [event.revision for event in kept] == [last - 2, last - 1, last]


async def test_a_watch_of_a_job_that_did_not_change_resumes_however_old_its_token(engine: Engine) -> None:
    quiet, busy = await engine.submit(), await engine.submit()
    await _renamed(engine, busy, 9)
    await _forget_all_but(engine, 3)
    watch = engine.watches.watch(ALICE, quiet.id, quiet.revision, 30)
    following = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    await _finish(engine, quiet)
    news = await asyncio.wait_for(following, 10)
    assert isinstance(news, JobEvent)
    assert news.job.status is JobStatus.RUNNING


async def test_a_watch_begins_anew_where_the_history_is_gone_if_it_may(engine: Engine) -> None:
    job = await engine.submit()
    await _renamed(engine, job, 9)
    await _forget_all_but(engine, 3)
    watch = engine.watches.watch(ALICE, job.id, 1, 30, or_snapshot=True)
    (snapshot,) = await _take(watch, 1)
    assert (snapshot.type, snapshot.job.display_name) == (EventType.SNAPSHOT, "name 8")
    following = asyncio.ensure_future(_take(watch, 1))
    changed = await _renamed(engine, job, 1)
    assert [event.revision for event in await following] == [changed.revision]


async def test_a_watch_of_all_jobs_begins_anew_with_the_state_of_each_that_matches(engine: Engine) -> None:
    jobs = [await engine.submit(tags=("wanted",)) for _ in range(60)]
    await engine.submit(tags=("other",))
    await engine.submit(MALLORY, tags=("wanted",))
    await _forget_all_but(engine, 0)
    where = JobFilter(tenant="physics", all_tags=frozenset({"wanted"}))
    watch = engine.watches.watch_all(where, 1, 30, or_snapshot=True)
    news = [await anext(watch) for _ in range(30)]
    # One of those that were told already and one of those that were not change in the middle of the snapshot.
    early, late = await _renamed(engine, jobs[0], 1), await _renamed(engine, jobs[59], 1)
    news += [await anext(watch) for _ in range(31)]
    snapshots = [each for each in news if isinstance(each, JobEvent)]
    assert [each.job.id for each in snapshots] == [job.id for job in jobs]
    assert {each.type for each in snapshots} == {EventType.SNAPSHOT}
    bookmark = news[-1]
    assert isinstance(bookmark, SignOfLife)
    assert bookmark.revision < early.revision
    assert snapshots[59].job == late
    # The late one was told as it is by the snapshot; only the early one has news.
    assert [event.revision for event in await _take(watch, 1)] == [early.revision]
    again = asyncio.ensure_future(_take(watch, 1))
    changed = await _renamed(engine, jobs[59], 2)
    assert [event.revision for event in await again] == [changed.revision]


async def test_signs_of_life_move_on_for_a_filter_that_matches_nothing(engine: Engine) -> None:
    watch = engine.watches.watch_all(JobFilter(tenant="nobody"), None, 0.05)
    first = await anext(watch)
    job = await engine.submit()
    async with asyncio.timeout(10):
        while (news := await anext(watch)).revision < job.revision:
            assert isinstance(news, SignOfLife)
    assert isinstance(first, SignOfLife)
    assert engine._hub.recent.last == news.revision


async def test_a_slow_reader_gets_every_event_once_though_many_come_meanwhile(engine: Engine) -> None:
    job = await engine.submit()
    watch = engine.watches.watch(ALICE, job.id, 0, 30)
    first = await _take(watch, 1)
    await _renamed(engine, job, 50)
    engine._hub.recent = RecentEvents(engine._hub.last_revision)  # they are in the store only
    await _renamed(engine, job, 50)
    history = await engine.watches.events(ALICE, job.id, after=0, limit=1000)
    assert first + await _take(watch, len(history) - 1) == list(history)


async def test_a_job_that_was_deleted_while_it_was_being_read_is_not_remembered(engine: Engine) -> None:
    job = await engine.submit()
    await engine.jobs.cancel(ALICE, job.id)
    cancelled = await engine.jobs.get(ALICE, job.id)
    engine._hub._jobs.clear()

    async def get_job_late(job_id: str) -> Job | None:
        await engine.jobs._store.delete_job(job_id, lambda _: None, audit_entry(ALICE, "job.delete", job_id))
        return cancelled

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.store, "get_job", get_job_late)
        assert await engine._hub.job(job.id) is None
    assert engine._hub.known(job.id) is None


async def test_a_job_counts_as_watched_while_its_watcher_writes(engine: Engine) -> None:
    job = await engine.submit()
    watch = engine.watches.watch(ALICE, job.id, 0, 30)
    assert not engine._hub.is_watched(job.id)
    await anext(watch)
    assert engine._hub.is_watched(job.id)
    await watch.aclose()
    assert not engine._hub.is_watched(job.id)
