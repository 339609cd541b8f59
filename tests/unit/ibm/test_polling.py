"""What the provider tells of jobs that are under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.domain.errors import (
    FailedPrecondition,
    NotFound,
    Reason,
    ResourceExhausted,
)
from gateway.domain.job import JobStatus
from gateway.domain.provider import NoNews
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.unit.ibm.conftest import Bench
from tests.unit.ibm.make import PROGRAM, raw_jobs


async def test_many_jobs_without_the_common_tag_are_looked_up_a_few_at_a_time(
    new_bench: Callable[..., Bench], control: EmulatorControl
) -> None:
    bench = new_bench(threads=2, max_waiting_calls=3)
    control.settings(manual=True)
    other = new_bench(common_tag="somebody-else")
    ids = tuple([(await other.provider.submit(job)).provider_job_id for job in raw_jobs(12)])
    assert {update.provider_job_id for update in await bench.provider.poll(ids)} == set(ids)
    control.fault("GET /jobs/{job_id}", "respond", status=404, times=None, skip=3)
    assert len(await bench.provider.poll(ids)) == 3
    control.clear_faults()
    control.fault("GET /jobs/{job_id}", "respond", status=429, skip=2)
    told = await bench.provider.poll(ids)
    assert {update.provider_job_id for update in told} == set(ids)
    (unknown,) = (update for update in told if isinstance(update, NoNews))
    assert isinstance(unknown.error, ResourceExhausted)


async def test_a_job_is_followed_from_queued_to_done(bench: Bench, control: EmulatorControl) -> None:
    control.settings(manual=True)
    job_id = await bench.submit(PROGRAM)
    assert (await bench.state(job_id)).status is JobStatus.QUEUED
    control.advance(job_id, "Running")
    running = await bench.state(job_id)
    assert (running.status, running.provider_status) == (JobStatus.RUNNING, "Running")
    assert running.estimated_seconds == 1.5
    control.advance(job_id, "Completed")
    done = await bench.state(job_id)
    assert done.status is JobStatus.DONE
    assert done.started_at is not None
    assert done.started_at <= done.at
    assert done.charged_seconds is not None


ENDS: dict[str, tuple[dict[str, Any], JobStatus, Reason, str]] = {
    "cancelled": ({"to": "Cancelled", "reason": ""}, JobStatus.CANCELLED, Reason.CANCELLED_UPSTREAM, ""),
    "1305": (
        {"to": "Cancelled", "reason": "Ran too long", "code": 1305},
        JobStatus.ERROR,
        Reason.TIME_LIMIT_EXCEEDED,
        "1305",
    ),
    "ran-too-long": (
        {"to": "Cancelled", "status_word": "Cancelled - Ran too long"},
        JobStatus.ERROR,
        Reason.TIME_LIMIT_EXCEEDED,
        "1305",
    ),
    "failed": (
        {"to": "Failed", "reason": "Internal error.", "code": 9999, "solution": "Retry."},
        JobStatus.ERROR,
        Reason.PROVIDER_ERROR,
        "9999",
    ),
}


@pytest.mark.parametrize("end", ENDS)
async def test_ends_are_told_apart(bench: Bench, control: EmulatorControl, end: str) -> None:
    fields, status, reason, code = ENDS[end]
    control.settings(manual=True)
    job_id = await bench.submit(PROGRAM)
    control.advance(job_id, **fields)
    update = await bench.state(job_id)
    assert update.status is status
    assert update.failure is not None
    assert (update.failure.reason, update.failure.provider_code) == (reason, code)
    if end == "failed":
        assert update.failure.message == "Internal error. Retry."
    with pytest.raises(FailedPrecondition):
        await bench.provider.fetch_result(job_id)


async def test_a_failure_without_a_reason_is_told_by_what_the_job_wrote(bench: Bench, control: EmulatorControl) -> None:
    control.settings(manual=True)
    job_id = await bench.submit(PROGRAM)
    control.advance(job_id, "Failed")
    text = "Traceback (most recent call last):\n" + "  more\n" * 1000 + "ValueError: no such pulse"
    control.fault("GET /jobs/{job_id}/results", "garble", body=text, content_type="text/plain")
    failure = (await bench.state(job_id)).failure
    assert failure is not None
    assert failure.message.endswith("ValueError: no such pulse")
    assert len(failure.message) <= 2000


@pytest.mark.parametrize("word", ["Cancelled - Ran too long", "CANCELLED - ran TOO long"])
async def test_the_word_for_too_long_is_final_wherever_it_stands(
    bench: Bench, control: EmulatorControl, word: str
) -> None:
    control.settings(manual=True)
    job_id = await bench.submit(PROGRAM)
    control.change_job(job_id, state_word=word)
    assert (await bench.state(job_id)).status is JobStatus.ERROR


async def test_a_word_that_nobody_knows_is_kept_and_not_final(bench: Bench, control: EmulatorControl) -> None:
    control.settings(manual=True)
    job_id = await bench.submit(PROGRAM)
    control.change_job(job_id, state_word="Meditating")
    update = await bench.state(job_id)
    assert (update.status, update.provider_status, update.failure) == (JobStatus.QUEUED, "Meditating", None)


async def test_pending_jobs_cost_one_call_for_each_page_of_200(bench: Bench, control: EmulatorControl) -> None:
    control.settings(manual=True)
    updates = await asyncio.gather(*(bench.provider.submit(job) for job in raw_jobs(205)))
    ids = tuple(update.provider_job_id for update in updates)
    control.clear_calls()
    told = await bench.provider.poll(ids)
    assert [update.provider_job_id for update in told] == list(ids)
    assert control.counts() == {"GET /jobs": 2}
    control.advance(ids[0], "Cancelled")
    control.forget(ids[1])
    control.clear_calls()
    told = await bench.provider.poll(ids)
    assert {update.provider_job_id for update in told} == set(ids) - {ids[1]}
    assert next(update for update in told if update.provider_job_id == ids[0]).status is JobStatus.CANCELLED
    assert control.counts() == {"GET /jobs": 2, "GET /jobs/{job_id}": 2, "GET /jobs/{job_id}/metrics": 1}


async def test_a_shuffled_listing_loses_no_job(bench: Bench, control: EmulatorControl) -> None:
    control.settings(manual=True)
    updates = await asyncio.gather(*(bench.provider.submit(job) for job in raw_jobs(203)))
    ids = {update.provider_job_id for update in updates}
    control.fault("GET /jobs", "reorder", times=None)
    told = await bench.provider.poll(tuple(ids))
    assert {update.provider_job_id for update in told} == ids
    assert {update.status for update in told} == {JobStatus.QUEUED}


async def test_a_job_that_the_service_forgot_is_left_out(bench: Bench, control: EmulatorControl) -> None:
    job_id = await bench.submit(PROGRAM)
    control.forget(job_id)
    assert await bench.provider.poll((job_id,)) == ()
    with pytest.raises(NotFound):
        await bench.provider.fetch_result(job_id)
