"""Forgetting what is old, and nothing else."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gateway.domain.errors import OutOfRange, Reason
from gateway.domain.job import EventType, Job, JobStatus, utc_now
from gateway.store import Store

from .make import PROGRAM, a_job, an_entry, done_with, to_status

EVERYTHING = 10**9


async def _create(store: Store) -> Job:
    return await store.create_job(a_job(), PROGRAM, an_entry())


async def _revisions(store: Store) -> list[int]:
    return [event.revision for event in await store.events(after=0, limit=1000)]


async def _compact(store: Store, *, age: float = 3600.0, keep: int = EVERYTHING, limit: int = 1000) -> int:
    return await store.compact_history(before=utc_now() - timedelta(seconds=age), keep=keep, limit=limit)


async def test_what_is_neither_old_nor_beyond_the_number_stays(store: Store) -> None:
    for _ in range(5):
        await _create(store)
    assert await _compact(store) == 0
    assert len(await store.history(after=0, limit=100)) == 5


async def test_the_oldest_beyond_the_number_go_and_a_resumption_before_them_is_told_so(store: Store) -> None:
    job = await _create(store)
    for _ in range(9):
        await store.change_job(job.id, to_status(JobStatus.RUNNING))
    assert await _compact(store, keep=4) == 6
    assert await _revisions(store) == [7, 8, 9, 10]
    assert len(await store.history(after=6, limit=100)) == 4
    for which in (None, job.id):
        with pytest.raises(OutOfRange) as caught:
            await store.history(after=5, job_id=which, limit=100)
        assert caught.value.reason is Reason.HISTORY_COMPACTED


async def test_what_is_too_old_goes(store: Store) -> None:
    await _create(store)
    assert await _compact(store, age=-1) == 1
    assert await _revisions(store) == []
    assert await store.last_revision() == 1


async def test_the_last_event_of_a_finished_job_stays_as_long_as_the_job(store: Store) -> None:
    done, running, deleted = [await _create(store) for _ in range(3)]
    await store.change_job(done.id, done_with(b"counts"))
    await store.change_job(running.id, to_status(JobStatus.RUNNING))
    await store.change_job(deleted.id, done_with(b"counts"))
    await store.delete_job(deleted.id, lambda _: None, an_entry(at=utc_now()))
    await _compact(store, age=-1)
    (event,) = await store.events(after=0, limit=10)
    assert (event.job.id, event.type, event.job.status) == (done.id, EventType.STATUS_CHANGED, JobStatus.DONE)
    assert await store.job_events(done.id, limit=10) == (event,)
    await store.delete_job(done.id, lambda _: None, an_entry(at=utc_now()))
    await _compact(store, age=-1)
    assert await _revisions(store) == []


async def test_it_goes_in_steps(store: Store) -> None:
    job = await _create(store)
    for _ in range(9):
        await store.change_job(job.id, to_status(JobStatus.RUNNING))
    assert [await _compact(store, age=-1, limit=4) for _ in range(4)] == [4, 4, 2, 0]


async def test_the_mark_is_there_after_a_restart(store: Store, path: object) -> None:
    await _create(store)
    await _compact(store, age=-1)
    await store.close()
    again = await Store.open(path)  # type: ignore[arg-type]
    with pytest.raises(OutOfRange):
        await again.history(after=0, limit=1)
    assert again.token_key == store.token_key
    await again.close()


async def test_two_databases_have_different_keys(store: Store, tmp_path: object) -> None:
    other = await Store.open(tmp_path / "other.db")  # type: ignore[operator]
    assert len(other.token_key) == 32
    assert other.token_key != store.token_key
    await other.close()
