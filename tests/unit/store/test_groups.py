"""Group commit, listeners, and the order of things."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.errors import Internal, Reason, Unavailable
from gateway.domain.job import Change, EventType, Job, JobEvent, JobStatus
from gateway.domain.query import JobFilter
from gateway.store import Store

from .make import PROGRAM, a_job, an_entry, rows, to_status


class Held:
    """A change that keeps the writer busy until it is released."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._release = threading.Event()

    def __call__(self, _: Job) -> None:
        self._loop.call_soon_threadsafe(self.entered.set)
        assert self._release.wait(30)

    def release(self) -> None:
        self._release.set()


class TestListeners:
    async def test_events_come_once_in_order_before_their_writers_go_on(self, store: Store) -> None:
        heard: list[JobEvent] = []
        also_heard: list[JobEvent] = []
        store.subscribe(heard.extend)
        store.subscribe(also_heard.extend)

        async def life_of_a_job() -> None:
            job = await store.create_job(a_job(), PROGRAM, an_entry())
            assert heard[-1].revision >= job.revision
            for status in (JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.DONE):
                job = await store.change_job(job.id, to_status(status))
                assert job in [event.job for event in heard]
            await store.change_job(job.id, lambda _: None, an_entry())
            await store.delete_job(job.id, lambda _: None, an_entry())
            assert (heard_last := [event for event in heard if event.job.id == job.id][-1]).type is EventType.DELETED
            assert heard_last.job == replace(job, revision=heard_last.revision)

        await asyncio.gather(*(life_of_a_job() for _ in range(30)))
        assert [event.revision for event in heard] == list(range(1, 151))
        assert also_heard == heard
        assert await store.last_revision() == 150

    async def test_what_is_heard_is_what_is_stored(self, store: Store) -> None:
        heard: list[JobEvent] = []
        store.subscribe(heard.extend)
        job = await store.create_job(a_job(), PROGRAM, an_entry())
        await store.change_job(job.id, to_status(JobStatus.QUEUED))
        assert await store.events(after=0, limit=10) == tuple(heard)

    async def test_they_are_called_on_the_event_loop_and_the_commit_is_visible(self, store: Store, path: Path) -> None:
        seen: list[tuple[threading.Thread, list[tuple[Any, ...]]]] = []
        store.subscribe(lambda _: seen.append((threading.current_thread(), rows(path, "SELECT id FROM jobs"))))
        job = await store.create_job(a_job(), PROGRAM, an_entry())
        assert seen == [(threading.current_thread(), [(job.id,)])]

    async def test_one_that_fails_harms_neither_the_writer_nor_the_others(self, store: Store) -> None:
        heard: list[JobEvent] = []
        reported: list[dict[str, Any]] = []

        def broken(_: Sequence[JobEvent]) -> None:
            raise ValueError("broken")

        store.subscribe(broken)
        store.subscribe(heard.extend)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context))
        try:
            job = await store.create_job(a_job(), PROGRAM, an_entry())
        finally:
            loop.set_exception_handler(None)
        assert [event.job for event in heard] == [job]
        assert [str(context["exception"]) for context in reported] == ["broken"]


class TestGroups:
    async def test_writes_that_wait_together_are_told_together(self, store: Store) -> None:
        job = await store.create_job(a_job(), PROGRAM, an_entry())
        groups: list[int] = []
        store.subscribe(lambda events: groups.append(len(events)))
        held = Held()
        first = asyncio.create_task(store.change_job(job.id, held))
        await held.entered.wait()
        others = [asyncio.create_task(store.create_job(a_job(), PROGRAM, an_entry())) for _ in range(50)]
        await asyncio.sleep(0)
        held.release()
        await asyncio.gather(first, *others)
        assert groups == [50]

    async def test_a_repeated_request_among_others_gets_its_job_and_they_get_theirs(self, store: Store) -> None:
        first = await store.create_job(a_job(request_id="r"), PROGRAM, an_entry())
        held = Held()
        holding = asyncio.create_task(store.change_job(first.id, held))
        await held.entered.wait()
        new = [a_job(request_id=f"r{number}") for number in range(50)]
        creating = [asyncio.create_task(store.create_job(job, PROGRAM, an_entry())) for job in new[:25]]
        repeating = asyncio.create_task(store.create_job(a_job(request_id="r"), PROGRAM, an_entry()))
        creating += [asyncio.create_task(store.create_job(job, PROGRAM, an_entry())) for job in new[25:]]
        await asyncio.sleep(0)
        held.release()
        assert await repeating == first
        created = await asyncio.gather(holding, *creating)
        assert [job.id for job in created] == [first.id, *(job.id for job in new)]
        assert (await store.list_jobs(JobFilter(), limit=100, oldest_first=True)).jobs == tuple(created)
        assert len(await store.audit_records(after=0, limit=100)) == 51

    async def test_a_write_is_finished_though_its_caller_is_cancelled(self, store: Store) -> None:
        job = await store.create_job(a_job(), PROGRAM, an_entry())
        held = Held()
        first = asyncio.create_task(store.change_job(job.id, held))
        await held.entered.wait()
        abandoned = asyncio.create_task(store.change_job(job.id, to_status(JobStatus.QUEUED)))
        await asyncio.sleep(0)
        abandoned.cancel()
        held.release()
        await first
        with pytest.raises(asyncio.CancelledError):
            await abandoned
        after = await store.change_job(job.id, lambda _: None)
        assert (after.status, after.revision) == (JobStatus.QUEUED, 2)

    async def test_callers_wait_for_a_place_when_the_queue_is_full(self, store: Store) -> None:
        job = await store.create_job(a_job(), PROGRAM, an_entry())
        held = Held()
        first = asyncio.create_task(store.change_job(job.id, held))
        await held.entered.wait()
        others = [asyncio.create_task(store.append_audit(an_entry(str(number)))) for number in range(3000)]
        await asyncio.sleep(0)
        held.release()
        await asyncio.gather(first, *others)
        actions = [record.entry.action for record in await store.audit_records(after=1, limit=5000)]
        assert actions == [str(number) for number in range(3000)]

    async def test_reads_go_on_while_the_writer_is_busy(self, store: Store) -> None:
        job = await store.create_job(a_job(), PROGRAM, an_entry())
        held = Held()
        first = asyncio.create_task(store.change_job(job.id, held))
        await held.entered.wait()
        assert await store.get_job(job.id) == job
        assert (await store.list_jobs(JobFilter(), limit=5)).jobs == (job,)
        held.release()
        await first

    async def test_a_change_that_is_no_ordinary_exception_does_not_stop_the_writer(self, store: Store) -> None:
        job = await store.create_job(a_job(), PROGRAM, an_entry())

        class Odd(BaseException):
            pass

        def leave(_: Job) -> Change:
            raise Odd

        with pytest.raises(Odd):
            await store.change_job(job.id, leave)
        assert (await store.change_job(job.id, to_status(JobStatus.QUEUED))).status is JobStatus.QUEUED

    async def test_a_full_disk_is_an_error_to_the_caller_and_writes_go_on_when_there_is_room(
        self, store: Store
    ) -> None:
        job = await store.create_job(a_job(), PROGRAM, an_entry())
        heard: list[JobEvent] = []
        store.subscribe(heard.extend)
        await self.limit_pages(store, 1)  # as small as it is now
        huge = a_job(options=replace(job.options, header={"text": "x" * 1_000_000}))
        with pytest.raises(Internal, match="full"):
            await store.create_job(huge, PROGRAM, an_entry())
        assert heard == []
        await self.limit_pages(store, 1_000_000)
        created = await store.create_job(huge, PROGRAM, an_entry())
        assert await store.get_job(huge.id) == created
        assert [event.job for event in heard] == [created]

    async def limit_pages(self, store: Store, pages: int) -> None:
        await store._writer.run(lambda writes: writes.connection.execute(f"PRAGMA max_page_count = {pages}").fetchone())


class TestClose:
    async def test_queued_writes_are_finished(self, path: Path) -> None:
        store = await Store.open(path)
        writes = [asyncio.create_task(store.create_job(a_job(), PROGRAM, an_entry())) for _ in range(200)]
        await asyncio.sleep(0)
        await store.close()
        created = await asyncio.gather(*writes)
        assert rows(path, "SELECT count(*) FROM jobs") == [(len(created),)]

    async def test_a_closed_store_says_that_the_server_is_stopping(self, path: Path) -> None:
        store = await Store.open(path)
        await store.close()
        for call in (store.get_job("x"), store.append_audit(an_entry()), store.events(after=0, limit=1)):
            with pytest.raises(Unavailable, match="stopping") as caught:
                await call
            assert caught.value.reason is Reason.SERVER_STOPPING

    async def test_to_close_twice_does_no_harm(self, path: Path) -> None:
        store = await Store.open(path)
        await asyncio.gather(store.close(), store.close())
        await store.close()

    async def test_no_thread_is_left(self, path: Path) -> None:
        store = await Store.open(path)
        await store.get_job("x")
        await store.close()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("store-")]
