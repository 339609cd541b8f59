"""Following a job on one line."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from qgateway import GatewayCircuitJob, job_monitor
from qgateway.v1 import job_pb2, job_service_pb2

from tests.unit.client.scripted_gateway import ScriptedGateway


def lines(output: io.StringIO) -> list[str]:
    """Return what was shown, one entry for each time the line was written."""
    text = output.getvalue()
    assert text.endswith("\n")
    return [line.rstrip() for line in text.rstrip("\n").split("\r")[1:]]


def script(scripted: ScriptedGateway, *steps: Any) -> None:
    """Let a watch bring statuses (text) and places in the queue (messages)."""

    def watch(*_: Any) -> Iterator[job_service_pb2.WatchJobResponse]:
        for step in steps:
            if isinstance(step, job_pb2.QueueInfo):
                heartbeat = job_service_pb2.WatchHeartbeat(queue=step)
                yield job_service_pb2.WatchJobResponse(heartbeat=heartbeat)
                continue
            scripted.move(step)
            event = job_pb2.JobEvent(revision=scripted.job.revision, job=scripted.job)
            yield job_service_pb2.WatchJobResponse(event=event, resume_token=str(scripted.job.revision))

    scripted.on("WatchJob", watch)


def test_the_line_follows_the_job_from_the_queue_to_the_end(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    with_start = job_pb2.QueueInfo(position=1)
    with_start.estimated_start_time.FromDatetime(datetime.now(UTC) + timedelta(hours=2, minutes=5, seconds=30))
    script(scripted, "QUEUED", job_pb2.QueueInfo(position=3), with_start, "RUNNING", "DONE")
    output = io.StringIO()
    job_monitor(job, output=output)
    assert lines(output) == [
        "Job Status: job is queued",
        "Job Status: job is queued (3)",
        "Job Status: job is queued (1) [Est. wait time: 2 hrs 5 min]",
        "Job Status: RUNNING",
        "Job Status: job has successfully run",
    ]
    assert scripted.calls == ["WatchJob"]


def test_the_line_is_written_only_when_it_changes(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    script(scripted, "RUNNING", "RUNNING", "DONE")
    output = io.StringIO()
    job_monitor(job, interval=5, output=output)
    assert lines(output) == ["Job Status: RUNNING", "Job Status: job has successfully run"]


def test_a_shorter_line_covers_the_longer_one(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    script(scripted, "VALIDATING", "RUNNING", "DONE")
    output = io.StringIO()
    job_monitor(job, output=output)
    first, second, _ = output.getvalue().split("\r")[1:]
    assert len(second) == len(first)


def test_a_job_that_had_already_failed_shows_why(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    scripted.move("ERROR", failure=job_pb2.JobFailure(message="It broke."))
    job.refresh()
    output = io.StringIO()
    job_monitor(job, output=output)
    assert lines(output) == ["Job Status: ERROR - It broke."]


def test_a_cancelled_job_ends_the_line(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    script(scripted, "QUEUED", "CANCELLED")
    output = io.StringIO()
    job_monitor(job, output=output)
    assert lines(output)[-1] == "Job Status: job has been cancelled"


def test_standard_output_is_looked_up_at_the_time_of_the_call(
    job: GatewayCircuitJob, scripted: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    script(scripted, "DONE")
    job_monitor(job)
    assert lines(output) == ["Job Status: job has successfully run"]
