"""What tenants use, and how limits hold."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.domain.errors import Reason, ResourceExhausted
from gateway.domain.job import Change, EventType, Job, JobStatus, JobUsage, utc_now, with_status
from gateway.domain.policy import NO_LIMITS, Limits, day_of, month_span
from gateway.domain.record import JobRecord
from gateway.domain.usage import UsageGroup, UsageQuery
from gateway.engine import transitions
from gateway.store import Store
from tests.unit.store.budget_racer import JOBS_PER_ROUND, SECONDS_PER_JOB
from tests.unit.store.make import PROGRAM, a_job, an_entry, done_with, to_status

RACERS = 8
BY_TAG = UsageQuery(0, 100_000, UsageGroup.TAG)
BY_DAY = UsageQuery(0, 100_000, UsageGroup.DAY)


def metered(seconds: float = 3.0, **fields: object) -> Job:
    return a_job(usage=JobUsage(reserved_seconds=seconds), **fields)


async def submit(store: Store, job: Job, limits: Limits = NO_LIMITS) -> Job:
    return await store.create_job(job, PROGRAM, an_entry(), limits)


async def sums(store: Store, tenant: str = "physics") -> tuple[int, int, float, float]:
    """Return jobs, pending jobs, reserved and charged seconds of a tenant."""
    rows = await store.usage(UsageQuery(0, 100_000, tenant=tenant))
    return (
        sum(row.jobs for row in rows),
        sum(row.pending for row in rows),
        sum(row.reserved_seconds for row in rows),
        sum(row.charged_seconds for row in rows),
    )


def charged(seconds: float | None, *, record_due: bool = False) -> Callable[[Job], Change]:
    """Return the end of a job with what it cost."""

    def change(job: Job) -> Change:
        ended = with_status(job, JobStatus.DONE, utc_now(), usage=replace(job.usage, charged_seconds=seconds))
        return Change(ended, EventType.STATUS_CHANGED, record_due=record_due)

    return change


class TestBooking:
    async def test_a_job_reserves_until_its_charge_is_known(self, store: Store) -> None:
        job = await submit(store, metered(3.0))
        assert await sums(store) == (1, 1, 3.0, 0.0)
        await store.change_job(job.id, to_status(JobStatus.RUNNING))
        assert await sums(store) == (1, 1, 3.0, 0.0)
        await store.change_job(job.id, charged(1.25))
        assert await sums(store) == (1, 0, 0.0, 1.25)

    async def test_the_providers_estimate_takes_the_place_of_the_reservation(self, store: Store) -> None:
        job = await submit(store, metered(3.0))
        told = replace(job.usage, estimated_seconds=40.0)
        await store.change_job(job.id, lambda job: Change(replace(job, usage=told), EventType.UPDATED))
        assert await sums(store) == (1, 1, 40.0, 0.0)

    @pytest.mark.parametrize("status", [JobStatus.ERROR, JobStatus.CANCELLED])
    async def test_a_job_that_ends_without_a_charge_gives_its_reservation_back(
        self, store: Store, status: JobStatus
    ) -> None:
        job = await submit(store, metered())
        await store.change_job(job.id, to_status(status))
        assert await sums(store) == (1, 0, 0.0, 0.0)

    async def test_a_reservation_waits_for_a_charge_that_the_provider_tells_later(self, store: Store) -> None:
        job = await submit(store, metered(3.0))

        def cancelled(job: Job) -> Change:
            return Change(with_status(job, JobStatus.CANCELLED, utc_now()), EventType.STATUS_CHANGED, record_due=True)

        await store.change_job(job.id, cancelled)
        assert await sums(store) == (1, 0, 3.0, 0.0)
        await store.change_job(job.id, lambda job: transitions.renamed(job, "other", None, ""))
        assert await sums(store) == (1, 0, 3.0, 0.0)
        await store.records.add(job.id, JobRecord(), lambda job: transitions.charged(job, 0.5))
        assert await sums(store) == (1, 0, 0.0, 0.5)

    async def test_a_record_without_a_charge_ends_the_reservation_of_a_job_that_failed(self, store: Store) -> None:
        job = await submit(store, metered(3.0))
        failed = to_status(JobStatus.ERROR)
        await store.change_job(job.id, lambda job: replace(failed(job), record_due=True))
        await store.records.add(job.id, JobRecord(), lambda job: transitions.charged(job, None))
        assert await sums(store) == (1, 0, 0.0, 0.0)

    async def test_a_run_whose_charge_is_never_told_keeps_its_reservation(self, store: Store) -> None:
        job = await submit(store, metered(3.0))
        await store.change_job(job.id, charged(None, record_due=True))
        await store.records.add(job.id, JobRecord(), lambda job: transitions.charged(job, None))
        assert await sums(store) == (1, 0, 3.0, 0.0)

    async def test_a_charge_that_is_corrected_counts_once(self, store: Store) -> None:
        job = await submit(store, metered(3.0))
        await store.change_job(job.id, charged(2.0))
        await store.change_job(job.id, lambda job: transitions.charged(job, 1.5))
        assert await sums(store) == (1, 0, 0.0, 1.5)

    async def test_a_deleted_job_still_counts(self, store: Store) -> None:
        job = await submit(store, metered(3.0))
        await store.change_job(job.id, charged(2.0))
        await store.delete_job(job.id, lambda _: None, an_entry("job.delete"))
        assert await sums(store) == (1, 0, 0.0, 2.0)

    async def test_a_job_that_is_taken_back_at_submit_counts_no_more(self, store: Store) -> None:
        job = await submit(store, metered(3.0, tags=("a",)))
        await store.delete_job(job.id, lambda _: None, an_entry("job.refused"))
        assert await sums(store) == (0, 0, 0.0, 0.0)
        assert [row.jobs for row in await store.usage(BY_TAG)] == [0]

    async def test_a_job_that_is_not_metered_counts_as_a_job_only(self, store: Store) -> None:
        job = await submit(store, a_job())
        assert await sums(store) == (1, 1, 0.0, 0.0)
        await store.change_job(job.id, charged(100.0))
        assert await sums(store) == (1, 0, 0.0, 0.0)

    async def test_a_repeated_submission_reserves_once(self, store: Store) -> None:
        await submit(store, metered(request_id="again"))
        await submit(store, metered(request_id="again"))
        assert await sums(store) == (1, 1, 3.0, 0.0)

    async def test_usage_follows_the_tags_of_a_job(self, store: Store) -> None:
        job = await submit(store, metered(3.0, tags=("a", "b")))
        await store.change_job(job.id, lambda job: transitions.renamed(job, None, ("b", "c"), ""))
        await store.change_job(job.id, charged(2.0))
        rows = await store.usage(BY_TAG)
        assert {row.tag: (row.jobs, row.charged_seconds) for row in rows} == {
            "a": (0, 0.0),
            "b": (1, 2.0),
            "c": (1, 2.0),
        }

    async def test_what_a_transaction_undoes_is_not_booked(self, store: Store) -> None:
        job = await submit(store, metered())
        with pytest.raises(Exception, match="result"):  # the store refuses a result that does not match
            await store.change_job(job.id, lambda job: replace(done_with(b"x")(job), result=b"y"))
        assert await sums(store) == (1, 1, 3.0, 0.0)

    async def test_reservations_outlive_a_restart(self, store: Store, path: Path) -> None:
        await submit(store, metered())
        await store.close()
        again = await Store.open(path)
        try:
            assert await sums(again) == (1, 1, 3.0, 0.0)
            assert await again.count_pending("physics") == 1
        finally:
            await again.close()

    async def test_jobs_of_an_older_gateway_are_counted(self, store: Store, path: Path) -> None:
        old = datetime.now(UTC) - timedelta(days=40)
        await submit(store, a_job(created_at=old, tags=("a", "b")))
        done = await submit(store, a_job())
        await submit(store, a_job(account="other"))
        await store.change_job(done.id, done_with(b"x"))
        by_day, by_tag = await store.usage(BY_DAY), await store.usage(BY_TAG)
        await store.close()
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(
                "DROP TABLE usage; DROP TABLE usage_by_tag; DROP TABLE twins_due; "  # the last came later
                "UPDATE alembic_version SET version_num = '0007'"
            )
        again = await Store.open(path)
        try:
            assert (await again.usage(BY_DAY), await again.usage(BY_TAG)) == (
                by_day,
                by_tag,
            )
        finally:
            await again.close()


class TestLimits:
    async def test_a_job_more_than_may_be_pending_is_refused_until_one_ends(self, store: Store) -> None:
        limits = replace(NO_LIMITS, pending_jobs=2)
        first = await submit(store, a_job(), limits)
        await submit(store, a_job(), limits)
        with pytest.raises(ResourceExhausted, match="2 unfinished jobs") as refused:
            await submit(store, a_job(), limits)
        assert refused.value.reason is Reason.PENDING_JOBS_EXCEEDED
        assert refused.value.quota is not None
        assert refused.value.quota.limit == "pending_jobs"
        assert refused.value.retry_after
        await submit(store, a_job(tenant="chemistry"), limits)
        await store.change_job(first.id, to_status(JobStatus.CANCELLED))
        await submit(store, a_job(), limits)

    async def test_a_budget_is_what_is_charged_and_reserved_together(self, store: Store) -> None:
        limits = replace(NO_LIMITS, qpu_seconds_per_day=10.0)
        first = await submit(store, metered(4.0), limits)
        await submit(store, metered(4.0), limits)
        with pytest.raises(ResourceExhausted) as refused:
            await submit(store, metered(4.0), limits)
        assert refused.value.reason is Reason.BUDGET_EXCEEDED
        assert refused.value.metadata["limit_name"] == "qpu_seconds_per_day"
        assert (refused.value.metadata["used"], refused.value.metadata["reserved"]) == ("0", "8")
        reset = datetime.fromisoformat(refused.value.metadata["reset_time"])
        assert day_of(reset) == day_of(utc_now()) + 1
        await store.change_job(first.id, charged(1.0))
        await submit(store, metered(4.0), limits)
        await submit(store, a_job(), limits)  # it is not metered

    async def test_a_job_that_the_whole_budget_is_too_small_for_is_not_told_to_wait(self, store: Store) -> None:
        with pytest.raises(ResourceExhausted) as refused:
            await submit(store, metered(4.0), replace(NO_LIMITS, qpu_seconds_per_month=3.0))
        assert refused.value.retry_after is None

    async def test_a_month_counts_its_days_and_no_others(self, store: Store) -> None:
        limits = replace(NO_LIMITS, qpu_seconds_per_month=10.0)
        now = utc_now()
        first, end = month_span(now)
        assert first <= day_of(now) < end
        before = now.replace(day=1) - timedelta(days=1)
        await submit(store, metered(9.0, created_at=before), limits)
        await submit(store, metered(9.0), limits)
        with pytest.raises(ResourceExhausted):
            await submit(store, metered(9.0, created_at=now.replace(day=1)), limits)

    async def test_nobody_overspends_by_submitting_at_the_same_time(self, store: Store) -> None:
        limits = replace(NO_LIMITS, pending_jobs=7)
        outcomes = await asyncio.gather(*(submit(store, a_job(), limits) for _ in range(50)), return_exceptions=True)
        assert sum(isinstance(outcome, Job) for outcome in outcomes) == 7


@pytest.mark.parametrize(
    ("limits", "most"),
    [({"qpu_seconds_per_day": 50 * SECONDS_PER_JOB}, 50), ({"pending_jobs": 60, "qpu_seconds_per_month": None}, 60)],
    ids=["budget", "pending jobs"],
)
async def test_eight_processes_that_race_for_one_budget_overspend_by_no_job(
    store: Store, path: Path, limits: dict[str, float], most: int
) -> None:
    async def racer() -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, "-m", "tests.unit.store.budget_racer", str(path))
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        assert await line_of(process) == b"ready\n"
        return process

    async def line_of(process: asyncio.subprocess.Process) -> bytes:
        assert process.stdout is not None
        return await process.stdout.readline()

    racers = await asyncio.gather(*(racer() for _ in range(RACERS)))
    rounds: list[list[int]] = []
    # All start a round together, and the budget ends within one: some of its jobs are accepted, and some refused.
    while not rounds or sum(rounds[-1]):
        for process in racers:
            assert process.stdin is not None
            process.stdin.write(f"{json.dumps(limits)}\n".encode())
        rounds.append([int(line) for line in await asyncio.gather(*map(line_of, racers))])
    await asyncio.gather(*(process.communicate(b"") for process in racers))
    assert [process.returncode for process in racers] == [0] * RACERS
    assert rounds[0] == [JOBS_PER_ROUND] * RACERS
    assert 0 < sum(rounds[-2]) < JOBS_PER_ROUND * RACERS, "the budget did not end within a round"
    assert sum(map(sum, rounds)) == most
    assert await sums(store) == (most, most, most * SECONDS_PER_JOB, 0.0)
