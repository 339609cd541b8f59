from __future__ import annotations

import itertools
import random
from datetime import timedelta

import pytest
from sqlalchemy.dialects import sqlite

from gateway.domain.job import EventType, Job, JobStatus
from gateway.domain.query import JobFilter
from gateway.store import Store
from gateway.store.listing import page_of_jobs
from gateway.store.reads import Reads

from .make import NOON, PROGRAM, a_job, an_entry, to_status

EVERYTHING = JobFilter()


def some(*values: str) -> frozenset[str]:
    return frozenset(values)


async def create(store: Store, number: int) -> list[Job]:
    return [await store.create_job(a_job(display_name=str(n)), PROGRAM, an_entry()) for n in range(number)]


async def all_pages(store: Store, where: JobFilter, *, limit: int, oldest_first: bool = False) -> list[Job]:
    jobs: list[Job] = []
    cursor: int | None = None
    while True:
        page = await store.list_jobs(where, limit=limit, cursor=cursor, oldest_first=oldest_first)
        jobs += page.jobs
        cursor = page.next_cursor
        if cursor is None:
            return jobs
        assert len(page.jobs) == limit


async def test_jobs_are_found_by_as_many_tags_as_a_job_may_have(store: Store) -> None:
    tags = [f"t{number:02}" for number in range(64)]
    whole = await store.create_job(a_job(tags=tuple(tags)), PROGRAM, an_entry())
    for missing in (0, 8, 63):
        rest = tuple(tag for number, tag in enumerate(tags) if number != missing)
        await store.create_job(a_job(tags=rest), PROGRAM, an_entry())
    for tenant in (whole.tenant, None):
        assert await all_pages(store, JobFilter(tenant=tenant, all_tags=frozenset(tags)), limit=3) == [whole]
        without_two = JobFilter(tenant=tenant, all_tags=frozenset(tags[9:63]), any_tags=some(tags[8]))
        assert len(await all_pages(store, without_two, limit=3)) == 3


class TestPages:
    async def test_an_empty_store_has_one_empty_page(self, store: Store) -> None:
        page = await store.list_jobs(EVERYTHING, limit=5)
        assert (page.jobs, page.next_cursor) == ((), None)

    @pytest.mark.parametrize("limit", [1, 3, 7, 10, 11])
    @pytest.mark.parametrize("oldest_first", [False, True])
    async def test_pages_hold_every_job_once_in_order(self, store: Store, limit: int, oldest_first: bool) -> None:
        jobs = await create(store, 10)
        expected = jobs if oldest_first else jobs[::-1]
        assert await all_pages(store, EVERYTHING, limit=limit, oldest_first=oldest_first) == expected

    async def test_a_page_that_ends_with_the_last_job_is_the_last(self, store: Store) -> None:
        await create(store, 4)
        first = await store.list_jobs(EVERYTHING, limit=2)
        second = await store.list_jobs(EVERYTHING, limit=2, cursor=first.next_cursor)
        assert second.next_cursor is None

    async def test_jobs_can_be_skipped(self, store: Store) -> None:
        jobs = await create(store, 6)
        page = await store.list_jobs(EVERYTHING, limit=2, skip=3, oldest_first=True)
        assert page.jobs == tuple(jobs[3:5])
        rest = await store.list_jobs(EVERYTHING, limit=2, cursor=page.next_cursor, oldest_first=True)
        assert rest.jobs == (jobs[5],)

    async def test_jobs_created_between_pages_neither_repeat_nor_hide_older_ones(self, store: Store) -> None:
        jobs = await create(store, 9)
        seen: list[Job] = []
        cursor = None
        for _ in range(3):
            page = await store.list_jobs(EVERYTHING, limit=3, cursor=cursor)
            seen += page.jobs
            cursor = page.next_cursor
            await create(store, 2)
        assert seen == jobs[::-1]
        assert cursor is None

    async def test_jobs_created_between_pages_turn_up_at_the_end_when_the_oldest_come_first(self, store: Store) -> None:
        jobs = await create(store, 4)
        first = await store.list_jobs(EVERYTHING, limit=3, oldest_first=True)
        jobs += await create(store, 2)
        second = await store.list_jobs(EVERYTHING, limit=3, cursor=first.next_cursor, oldest_first=True)
        assert [*first.jobs, *second.jobs] == jobs

    async def test_jobs_deleted_between_pages_hide_no_other(self, store: Store) -> None:
        jobs = await create(store, 6)
        first = await store.list_jobs(EVERYTHING, limit=3)
        for job in (jobs[3], jobs[4], jobs[2]):
            await store.delete_job(job.id, lambda _: None, an_entry())
        second = await store.list_jobs(EVERYTHING, limit=3, cursor=first.next_cursor)
        assert second.jobs == (jobs[1], jobs[0])


class TestFilters:
    async def test_every_filter_selects_what_the_domain_says(self, store: Store) -> None:
        jobs = await self.many_different_jobs(store)
        days = [NOON + timedelta(days=n) for n in range(4)]
        for where in [
            EVERYTHING,
            *(JobFilter(tenant=tenant) for tenant in ("physics", "chemistry", "biology")),
            *(JobFilter(statuses=frozenset({status})) for status in JobStatus),
            JobFilter(statuses=frozenset({JobStatus.QUEUED, JobStatus.INITIALIZING})),
            JobFilter(statuses=frozenset({JobStatus.QUEUED, JobStatus.DONE}), tenant="physics"),
            JobFilter(statuses=frozenset(JobStatus)),
            JobFilter(backends=some("small")),
            JobFilter(backends=some("small", "large")),
            JobFilter(accounts=some("local"), tenant="physics"),
            JobFilter(display_name="Bell"),
            JobFilter(session="s1"),
            JobFilter(created_from=days[1]),
            JobFilter(created_to=days[1]),
            JobFilter(created_from=days[1], created_to=days[2], tenant="physics"),
            JobFilter(created_from=days[1] + timedelta(microseconds=1), created_to=days[2] - timedelta(microseconds=1)),
            JobFilter(created_from=days[2], created_to=days[1]),
            *(
                JobFilter(tenant=tenant, all_tags=frozenset(all_tags), any_tags=frozenset(any_tags))
                for tenant in (None, "physics")
                for all_tags in ((), ("a",), ("a", "b"), ("a", "b", "c"), ("none",))
                for any_tags in ((), ("c",), ("b", "c"), ("none", "c"), ("none", "other"))
            ),
            JobFilter(
                tenant="physics",
                statuses=frozenset({JobStatus.INITIALIZING}),
                backends=some("small"),
                accounts=some("local"),
                all_tags=some("a"),
                any_tags=some("b", "c"),
                created_from=days[0],
            ),
        ]:
            expected = [job for job in jobs if where.matches(job)]
            assert await all_pages(store, where, limit=7, oldest_first=True) == expected, where
            assert await all_pages(store, where, limit=7) == expected[::-1], where

    async def many_different_jobs(self, store: Store) -> list[Job]:
        choice = random.Random(7).choice  # noqa: S311 - the same jobs each time
        jobs = []
        for _ in range(120):
            created_at = NOON + timedelta(days=choice(range(4)))
            job = a_job(
                tenant=choice(["physics", "chemistry"]),
                account=choice(["local", "cloud"]),
                backend=choice(["small", "large", "noisy"]),
                display_name=choice(["", "Bell", "GHZ"]),
                session=choice(["", "s1", "s2"]),
                tags=choice([tags for size in range(4) for tags in itertools.permutations("abc", size)]),
                created_at=created_at,
                updated_at=created_at,
            )
            await store.create_job(job, PROGRAM, an_entry())
            jobs.append(await store.change_job(job.id, to_status(choice(list(JobStatus)))))
        return jobs

    @pytest.mark.parametrize("oldest_first", [False, True])
    @pytest.mark.parametrize(
        "where",
        [
            EVERYTHING,
            JobFilter(tenant="physics"),
            JobFilter(tenant="physics", statuses=frozenset({JobStatus.QUEUED, JobStatus.RUNNING})),
            JobFilter(tenant="physics", all_tags=some("a", "b")),
            JobFilter(tenant="physics", any_tags=some("a"), statuses=frozenset({JobStatus.DONE})),
        ],
        ids=["everything", "tenant", "unfinished", "all tags", "a tag and a status"],
    )
    async def test_a_page_is_found_in_order_and_never_sorted(
        self, store: Store, where: JobFilter, oldest_first: bool
    ) -> None:
        query = page_of_jobs(where, cursor=5, oldest_first=oldest_first).limit(10)

        def plan(reads: Reads) -> str:
            compiled = query.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
            steps = [row[3] for row in reads.connection.execute(f"EXPLAIN QUERY PLAN {compiled}")]
            return "; ".join(steps)

        steps = await store._pages.run(plan)
        assert "SCAN" not in steps
        assert "TEMP B-TREE" not in steps
        assert ("ix_jobs_unfinished_tenant" in steps) == (JobStatus.QUEUED in where.statuses)

    async def test_text_in_a_filter_is_only_text(self, store: Store) -> None:
        name = "'; DROP TABLE jobs; -- %_:x"
        job = await store.create_job(a_job(display_name=name, tags=(name,)), PROGRAM, an_entry())
        await create(store, 2)
        assert (await store.list_jobs(JobFilter(display_name=name), limit=5)).jobs == (job,)
        assert (await store.list_jobs(JobFilter(any_tags=some(name)), limit=5)).jobs == (job,)
        assert (await store.list_jobs(JobFilter(display_name="%"), limit=5)).jobs == ()

    async def test_a_tag_that_is_given_twice_counts_once(self, store: Store) -> None:
        job = await store.create_job(a_job(tags=("a", "a")), PROGRAM, an_entry())
        assert (await store.list_jobs(JobFilter(all_tags=some("a")), limit=5)).jobs == (job,)


class TestUnfinishedJobs:
    async def test_they_are_listed_oldest_first_and_counted_by_account(self, store: Store) -> None:
        local = await create(store, 4)
        cloud = await store.create_job(a_job(account="cloud"), PROGRAM, an_entry())
        running = await store.change_job(local[1].id, to_status(JobStatus.RUNNING))
        for status, job in zip((JobStatus.DONE, JobStatus.ERROR), (local[0], local[3]), strict=True):
            await store.change_job(job.id, to_status(status))
        assert await store.unfinished_jobs() == (running, local[2], cloud)
        assert await store.unfinished_jobs("local") == (running, local[2])
        assert await store.unfinished_jobs("elsewhere") == ()
        assert [await store.count_unfinished(account) for account in ("local", "cloud", "elsewhere")] == [2, 1, 0]


class TestEvents:
    async def test_history_is_read_in_pages_by_revision(self, store: Store) -> None:
        first, second = await create(store, 2)
        for status in (JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.DONE):
            for job in (first, second):
                await store.change_job(job.id, to_status(status))
        history = await store.job_events(first.id, limit=10)
        assert [(event.revision, event.type, event.job.status) for event in history] == [
            (1, EventType.CREATED, JobStatus.INITIALIZING),
            (3, EventType.STATUS_CHANGED, JobStatus.QUEUED),
            (5, EventType.STATUS_CHANGED, JobStatus.RUNNING),
            (7, EventType.STATUS_CHANGED, JobStatus.DONE),
        ]
        assert all(event.job.revision == event.revision for event in history)
        assert await store.job_events(first.id, after=3, limit=1) == history[2:3]
        assert await store.job_events(first.id, after=7, limit=1) == ()
        assert await store.job_events("absent", limit=1) == ()

        everything = await store.events(after=0, limit=100)
        assert [event.revision for event in everything] == list(range(1, 9))
        assert await store.events(after=3, limit=2) == everything[3:5]
        assert await store.last_revision() == 8
