"""`watch_jobs`: changes of many jobs, with handles of the jobs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from qgateway import GatewayProvider, IBMBackendApiError, IBMBackendValueError
from qgateway.v1 import job_pb2, job_service_pb2
from qiskit.providers import JobStatus

from tests.support.refusals import refusal
from tests.unit.client.scripted_gateway import JOB_ID, ScriptedGateway


@pytest.fixture
def changing(scripted: ScriptedGateway) -> ScriptedGateway:
    """A gateway whose job becomes DONE while it is watched."""

    def watch(request: Any, context: Any) -> Iterator[Any]:
        beat = job_service_pb2.WatchHeartbeat()
        beat.interval.FromSeconds(30)
        yield job_service_pb2.WatchJobsResponse(heartbeat=beat, resume_token="0")
        for status in ("RUNNING", "DONE"):
            scripted.move(status)
            job = scripted.job
            event = job_pb2.JobEvent(revision=job.revision, type=job_pb2.JobEvent.TYPE_STATUS_CHANGED, job=job)
            yield job_service_pb2.WatchJobsResponse(event=event, resume_token=str(job.revision))
        over = threading.Event()
        context.add_callback(over.set)
        over.wait(20)

    scripted.on("WatchJobs", watch)
    return scripted


def test_each_change_comes_with_a_handle_of_the_job_as_it_was_then(
    changing: ScriptedGateway, provider: GatewayProvider
) -> None:
    with provider.watch_jobs() as changes:
        running, done = next(changes), next(changes)
    assert [change.job.job_id() for change in (running, done)] == [JOB_ID, JOB_ID]
    assert [change.event.status for change in (running, done)] == [JobStatus.RUNNING, JobStatus.DONE]
    assert running.event.type == "STATUS_CHANGED"
    assert changes.resume_token == str(done.event.revision)
    assert done.job.done()
    assert changing.count("GetJob") == 0
    assert next(changes, None) is None  # it is closed


def test_a_watch_ends_after_its_time(changing: ScriptedGateway, provider: GatewayProvider) -> None:
    assert len(list(provider.watch_jobs(timeout=3))) == 2
    assert list(provider.watch_jobs(timeout=0)) == []


def test_conditions_are_those_of_jobs(provider: GatewayProvider, scripted: ScriptedGateway) -> None:
    asked = []

    def watch(request: Any, _context: Any) -> Iterator[Any]:
        asked.append(request)
        yield from ()

    scripted.on("WatchJobs", watch)
    conditions: dict[str, Any] = {"job_tags": ["a", "b"], "status": "completed", "backend_name": "x", "name": "n"}
    assert list(provider.watch_jobs(**conditions, resume_token="7", timeout=2)) == []
    wanted = job_pb2.JobFilter(
        all_tags=["a", "b"],
        backends=["x"],
        display_name="n",
        statuses=[job_pb2.JOB_STATUS_CANCELLED, job_pb2.JOB_STATUS_DONE, job_pb2.JOB_STATUS_ERROR],
    )
    assert set(asked[0].filter.statuses) == set(wanted.statuses)
    asked[0].filter.statuses[:] = wanted.statuses
    assert (asked[0].filter, asked[0].resume_token) == (wanted, "7")
    with pytest.raises(IBMBackendValueError, match="status"):
        provider.watch_jobs(status="tired")


def test_a_token_that_is_too_old_is_an_error_that_says_so(provider: GatewayProvider, scripted: ScriptedGateway) -> None:
    scripted.on("WatchJobs", refusal("OUT_OF_RANGE", "The history is gone.", reason="HISTORY_COMPACTED"))
    with pytest.raises(IBMBackendApiError, match="history is gone") as caught:
        next(provider.watch_jobs(resume_token="1"))
    assert caught.value.reason == "HISTORY_COMPACTED"
