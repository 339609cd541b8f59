from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.domain.errors import Aborted, Internal, NotFound
from gateway.domain.job import (
    Change,
    EventType,
    Job,
    JobStatus,
    PendingKind,
    PendingReason,
    RunOptions,
    utc_now,
    with_status,
)
from gateway.domain.query import JobFilter
from gateway.store import Store

from .make import NOON, PROGRAM, a_job, an_entry, done_with, program_summary, result_summary, rows, to_status

RESULT = b"a result that compresses well " * 100
EVERYTHING = JobFilter()


def refuse(_: Job) -> None:
    raise Aborted("Somebody else was faster.")


async def events_of(store: Store) -> list[tuple[int, EventType, str]]:
    return [(event.revision, event.type, event.job.id) for event in await store.events(after=0, limit=1000)]


async def actions_of(store: Store) -> list[str]:
    return [record.entry.action for record in await store.audit_records(limit=1000)]


class TestCreateJob:
    async def test_a_new_job_is_kept_with_its_revision_event_audit_and_program(self, store: Store) -> None:
        job = a_job(tags=("bell", "test"), display_name="Bell")
        created = await store.create_job(job, PROGRAM, an_entry())
        assert created == replace(job, revision=1)
        assert await store.get_job(job.id) == created
        (event,) = await store.events(after=0, limit=10)
        assert (event.revision, event.type, event.at, event.job) == (1, EventType.CREATED, job.created_at, created)
        (record,) = await store.audit_records(limit=10)
        assert (record.sequence, record.entry) == (1, an_entry())
        assert await store.read_program(job.id) == PROGRAM

    async def test_every_field_of_a_job_survives(self, store: Store) -> None:
        options = RunOptions(shots=7, header={"a": [1, 2.5, None, {"b": "ü"}], "inf": math.inf}, seed_simulator=2**62)
        pending = PendingReason(PendingKind.PACED, "Five a minute.", NOON, NOON + timedelta(microseconds=1))
        job = a_job(options=options, pending_reason=pending, client_version={"qgateway": "0.1.0"}, tags=("b", "a"))
        created = await store.create_job(with_status(job, JobStatus.QUEUED, utc_now()), PROGRAM, an_entry())
        assert await store.get_job(job.id) == created

    async def test_a_header_keeps_its_nan(self, store: Store) -> None:
        job = a_job(options=RunOptions(header={"nan": math.nan}))
        await store.create_job(job, PROGRAM, an_entry())
        stored = await store.get_job(job.id)
        assert stored is not None
        assert math.isnan(stored.options.header["nan"])

    async def test_a_repeated_request_id_returns_the_first_job_and_writes_nothing(self, store: Store) -> None:
        first = await store.create_job(a_job(request_id="r"), PROGRAM, an_entry())
        other = b"another program"
        assert await store.create_job(a_job(other, request_id="r"), other, an_entry()) == first
        assert await events_of(store) == [(1, EventType.CREATED, first.id)]
        assert await actions_of(store) == ["job.submit"]
        assert (await store.list_jobs(EVERYTHING, limit=10)).jobs == (first,)

    async def test_a_repeated_request_id_returns_the_job_as_it_is_now(self, store: Store) -> None:
        first = await store.create_job(a_job(request_id="r"), PROGRAM, an_entry())
        now = await store.change_job(first.id, to_status(JobStatus.QUEUED))
        assert await store.create_job(a_job(request_id="r"), PROGRAM, an_entry()) == now

    async def test_one_of_many_simultaneous_requests_with_one_id_wins(self, store: Store) -> None:
        created = await asyncio.gather(
            *(store.create_job(a_job(request_id="r"), PROGRAM, an_entry()) for _ in range(20))
        )
        assert len({job.id for job in created}) == 1
        assert len(await events_of(store)) == 1

    async def test_a_request_id_belongs_to_its_tenant_and_an_empty_one_to_nobody(self, store: Store) -> None:
        jobs = [
            await store.create_job(a_job(request_id=request_id, tenant=tenant), PROGRAM, an_entry())
            for request_id, tenant in (("r", "physics"), ("r", "chemistry"), ("", "physics"), ("", "physics"))
        ]
        assert len({job.id for job in jobs}) == 4
        assert await store.get_job_by_request_id("physics", "r") == jobs[0]
        assert await store.get_job_by_request_id("chemistry", "r") == jobs[1]
        assert await store.get_job_by_request_id("biology", "r") is None
        assert await store.get_job_by_request_id("physics", "") is None

    async def test_a_program_that_does_not_match_its_summary_is_refused(self, store: Store) -> None:
        with pytest.raises(Internal, match="does not match"):
            await store.create_job(a_job(), PROGRAM + b" ", an_entry())
        assert await store.last_revision() == 0

    async def test_an_id_that_is_taken_is_refused(self, store: Store) -> None:
        job = await store.create_job(a_job(), PROGRAM, an_entry())
        with pytest.raises(Internal, match="UNIQUE"):
            await store.create_job(a_job(id=job.id), PROGRAM, an_entry())
        assert await events_of(store) == [(1, EventType.CREATED, job.id)]

    @pytest.mark.parametrize("program", [b"", b"x", bytes(range(256)), b"0" * 100_000], ids=len)
    async def test_a_program_comes_back_byte_for_byte(self, store: Store, program: bytes) -> None:
        job = await store.create_job(a_job(program), program, an_entry())
        assert await store.read_program(job.id) == program


class TestChangeJob:
    async def test_a_change_is_kept_with_its_revision_event_and_audit(self, store: Store) -> None:
        job = await store.create_job(a_job(), PROGRAM, an_entry())
        at = NOON + timedelta(seconds=1)
        after = await store.change_job(
            job.id,
            lambda job: Change(with_status(job, JobStatus.QUEUED, at), EventType.STATUS_CHANGED, "Accepted."),
            an_entry("job.track"),
        )
        assert (after.status, after.revision) == (JobStatus.QUEUED, 2)
        assert await store.get_job(job.id) == after
        (event,) = await store.events(after=1, limit=10)
        assert (event.revision, event.type, event.at) == (2, EventType.STATUS_CHANGED, at)
        assert (event.message, event.job) == ("Accepted.", after)
        assert await actions_of(store) == ["job.submit", "job.track"]

    async def test_a_change_sees_the_job_as_it_is_in_the_transaction(self, store: Store) -> None:
        job = await store.create_job(a_job(), PROGRAM, an_entry())

        def count(current: Job) -> Change:
            attempts = current.submission.attempts + 1
            return Change(replace(current, submission=replace(current.submission, attempts=attempts)), EventType.NOTE)

        await asyncio.gather(*(store.change_job(job.id, count) for _ in range(100)))
        after = await store.get_job(job.id)
        assert after is not None
        assert (after.submission.attempts, after.revision) == (100, 101)

    async def test_nothing_to_do_makes_no_event_but_keeps_the_audit_entry(self, store: Store) -> None:
        job = await store.create_job(a_job(), PROGRAM, an_entry())
        assert await store.change_job(job.id, lambda _: None, an_entry("job.cancel")) == job
        assert await store.change_job(job.id, lambda _: None) == job
        assert await store.last_revision() == job.revision
        assert await actions_of(store) == ["job.submit", "job.cancel"]

    async def test_a_missing_job_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFound, match="no job 'absent'"):
            await store.change_job("absent", lambda _: None, an_entry())
        assert await actions_of(store) == []

    async def test_a_change_that_raises_leaves_nothing_behind(self, store: Store) -> None:
        job = await store.create_job(a_job(), PROGRAM, an_entry())

        def fail(_: Job) -> Change:
            raise Aborted("Somebody else was faster.")

        with pytest.raises(Aborted, match="faster"):
            await store.change_job(job.id, fail, an_entry("job.update"))
        assert await store.get_job(job.id) == job
        assert await actions_of(store) == ["job.submit"]

    async def test_a_change_that_fails_in_the_middle_spoils_nothing_of_its_commit_group(self, store: Store) -> None:
        jobs = [await store.create_job(a_job(), PROGRAM, an_entry()) for _ in range(20)]

        def half_done(job: Job) -> Change:
            # Refused only when the result is compared with its summary, after row, event and audit were written.
            job = with_status(job, JobStatus.DONE, utc_now(), result=result_summary(RESULT))
            return Change(job, EventType.STATUS_CHANGED, result=b"something else")

        outcomes = await asyncio.gather(
            *(
                store.change_job(job.id, half_done if number % 3 == 0 else to_status(JobStatus.RUNNING), an_entry("x"))
                for number, job in enumerate(jobs)
            ),
            return_exceptions=True,
        )
        for number, (before, outcome) in enumerate(zip(jobs, outcomes, strict=True)):
            if number % 3 == 0:
                assert isinstance(outcome, Internal)
                assert await store.get_job(before.id) == before
            else:
                assert isinstance(outcome, Job)
                assert await store.get_job(before.id) == outcome
        assert (await actions_of(store)).count("x") == 13
        changed = [event.job for event in await store.events(after=20, limit=100)]
        assert changed == [outcome for outcome in outcomes if isinstance(outcome, Job)]

    async def test_tags_and_names_can_be_replaced_and_are_found_afterwards(self, store: Store) -> None:
        job = await store.create_job(a_job(tags=("old", "both")), PROGRAM, an_entry())
        changed = await store.change_job(
            job.id,
            lambda job: Change(replace(job, tags=("both", "new"), display_name="Renamed"), EventType.UPDATED),
        )
        assert (await store.list_jobs(JobFilter(all_tags=frozenset({"new"})), limit=5)).jobs == (changed,)
        assert (await store.list_jobs(JobFilter(all_tags=frozenset({"both"})), limit=5)).jobs == (changed,)
        assert (await store.list_jobs(JobFilter(all_tags=frozenset({"old"})), limit=5)).jobs == ()
        assert (await store.list_jobs(JobFilter(display_name="Renamed"), limit=5)).jobs == (changed,)

    async def test_a_job_is_found_by_the_id_that_its_provider_gave(self, store: Store) -> None:
        job = await store.create_job(a_job(), PROGRAM, an_entry())
        assert await store.get_job_by_provider_id("local", "p-1") is None
        changed = await store.change_job(job.id, to_status(JobStatus.QUEUED, provider_job_id="p-1"))
        assert await store.get_job_by_provider_id("local", "p-1") == changed
        assert await store.get_job_by_provider_id("elsewhere", "p-1") is None
        assert await store.get_job_by_provider_id("local", "") is None

    async def test_a_final_status_is_final(self, store: Store) -> None:
        job = await store.create_job(a_job(), PROGRAM, an_entry())
        final = await store.change_job(job.id, to_status(JobStatus.CANCELLED))
        with pytest.raises(Internal, match="CANCELLED for good"):
            await store.change_job(job.id, to_status(JobStatus.RUNNING))
        assert await store.get_job(job.id) == final

    @pytest.mark.parametrize(
        "fields",
        [
            {"id": "other"},
            {"tenant": "other"},
            {"account": "other"},
            {"backend": "other"},
            {"request_id": "other"},
            {"created_at": NOON},
            {"program": program_summary(b"other")},
        ],
        ids=lambda fields: next(iter(fields)),
    )
    async def test_what_is_fixed_at_creation_stays(self, store: Store, fields: dict[str, object]) -> None:
        job = await store.create_job(a_job(), PROGRAM, an_entry())
        with pytest.raises(Internal, match="fixed"):
            await store.change_job(job.id, lambda job: Change(replace(job, **fields), EventType.UPDATED))  # type: ignore[arg-type]
        assert await store.get_job(job.id) == job


class TestResults:
    @pytest.mark.parametrize("result", [b"", b"x", bytes(range(256)), RESULT], ids=len)
    async def test_a_result_is_committed_with_its_change_and_comes_back(self, store: Store, result: bytes) -> None:
        job = await store.create_job(a_job(), PROGRAM, an_entry())
        assert await store.read_result(job.id) is None
        assert (await store.change_job(job.id, done_with(result))).status is JobStatus.DONE
        assert await store.read_result(job.id) == result

    async def test_a_job_that_does_not_exist_has_no_result(self, store: Store) -> None:
        assert await store.read_result("absent") is None

    async def test_a_summary_without_its_result_is_refused(self, store: Store) -> None:
        job = await store.create_job(a_job(), PROGRAM, an_entry())
        with pytest.raises(Internal, match="must come with"):
            await store.change_job(job.id, to_status(JobStatus.DONE, result=result_summary(RESULT)))
        assert await store.get_job(job.id) == job

    async def test_a_result_without_its_summary_is_refused(self, store: Store) -> None:
        job = await store.create_job(a_job(), PROGRAM, an_entry())
        with pytest.raises(Internal, match="does not match"):
            await store.change_job(job.id, lambda job: Change(job, EventType.NOTE, result=RESULT))
        assert await store.read_result(job.id) is None

    async def test_a_result_whose_summary_goes_is_dropped(self, store: Store) -> None:
        job = await store.create_job(a_job(), PROGRAM, an_entry())
        await store.change_job(job.id, done_with(RESULT))
        await store.change_job(job.id, lambda job: Change(replace(job, display_name="x"), EventType.UPDATED))
        assert await store.read_result(job.id) == RESULT
        await store.change_job(job.id, lambda job: Change(replace(job, result=None), EventType.NOTE, "Expired."))
        assert await store.read_result(job.id) is None


class TestDeleteJob:
    async def test_a_deleted_job_leaves_one_event_with_its_last_state(self, store: Store) -> None:
        job = await store.create_job(a_job(tags=("t",), request_id="r"), PROGRAM, an_entry())
        other = await store.create_job(a_job(b"other"), b"other", an_entry())
        last = await store.change_job(job.id, done_with(RESULT))
        await store.delete_job(job.id, lambda _: None, an_entry("job.delete"))

        assert await store.get_job(job.id) is None
        assert await store.get_job_by_request_id("physics", "r") is None
        assert await store.read_result(job.id) is None
        with pytest.raises(NotFound):
            await store.read_program(job.id)
        assert (await store.list_jobs(EVERYTHING, limit=5)).jobs == (other,)
        assert (await store.list_jobs(JobFilter(all_tags=frozenset({"t"})), limit=5)).jobs == ()
        (event,) = await store.job_events(job.id, limit=10)
        assert (event.revision, event.type, event.at) == (4, EventType.DELETED, NOON)
        assert event.job == replace(last, revision=4)
        assert await events_of(store) == [(2, EventType.CREATED, other.id), (4, EventType.DELETED, job.id)]
        assert (await actions_of(store))[-1] == "job.delete"

    async def test_a_check_that_raises_keeps_the_job(self, store: Store) -> None:
        job = await store.create_job(a_job(), PROGRAM, an_entry())
        with pytest.raises(Aborted):
            await store.delete_job(job.id, refuse, an_entry("job.delete"))
        assert await store.get_job(job.id) == job
        assert await actions_of(store) == ["job.submit"]

    async def test_a_missing_job_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFound):
            await store.delete_job("absent", lambda _: None, an_entry())

    async def test_equal_programs_are_stored_once_and_go_with_the_last_job(self, store: Store, path: Path) -> None:
        jobs = [await store.create_job(a_job(), PROGRAM, an_entry()) for _ in range(3)]
        assert rows(path, "SELECT size FROM programs") == [(len(PROGRAM),)]
        for job in jobs[:2]:
            await store.delete_job(job.id, lambda _: None, an_entry())
        assert await store.read_program(jobs[2].id) == PROGRAM
        await store.delete_job(jobs[2].id, lambda _: None, an_entry())
        assert rows(path, "SELECT size FROM programs") == []

    async def test_a_request_id_is_free_again_after_its_job_is_deleted(self, store: Store) -> None:
        job = await store.create_job(a_job(request_id="r"), PROGRAM, an_entry())
        await store.delete_job(job.id, lambda _: None, an_entry())
        again = await store.create_job(a_job(request_id="r"), PROGRAM, an_entry())
        assert again.id != job.id


class TestAudit:
    async def test_entries_are_kept_whole_and_in_order(self, store: Store) -> None:
        entries = [
            an_entry(f"a{number}", outcome="PERMISSION_DENIED", peer="ipv4:127.0.0.1:5", request_id="r")
            for number in range(5)
        ]
        for entry in entries:
            await store.append_audit(entry)
        records = await store.audit_records(limit=10)
        assert [record.entry for record in records] == entries
        assert [record.sequence for record in records] == [1, 2, 3, 4, 5]
        assert await store.audit_records(after=2, limit=2) == records[2:4]
