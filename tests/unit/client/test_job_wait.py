"""Waiting for a job: told of each change, never polling, in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from qgateway import GatewayCircuitJob, IBMJobApiError, IBMJobError, IBMJobTimeoutError
from qgateway.v1 import job_pb2, job_service_pb2
from qiskit.providers import JobError, JobStatus, JobTimeoutError

from tests.support.refusals import refusal, refuse
from tests.support.waiting import wait_until
from tests.unit.client.scripted_gateway import JOB_ID, ScriptedGateway


def watch_response(record: job_pb2.Job) -> job_service_pb2.WatchJobResponse:
    event = job_pb2.JobEvent(revision=record.revision, job=record)
    return job_service_pb2.WatchJobResponse(event=event, resume_token=str(record.revision))


@pytest.mark.parametrize("status", ["DONE", "CANCELLED", "ERROR"])
def test_waiting_ends_with_every_final_status_and_raises_for_none(
    job: GatewayCircuitJob, scripted: ScriptedGateway, status: str
) -> None:
    scripted.move(status)
    job.wait_for_final_state()
    assert job.status() is JobStatus[status]


def test_waiting_is_one_stream_and_no_polling(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    waiter = threading.Thread(target=job.wait_for_final_state)
    waiter.start()
    for status in ("VALIDATING", "RUNNING", "DONE"):
        wait_until(lambda: job._record.revision == scripted.job.revision)
        scripted.move(status)
    waiter.join(10)
    assert not waiter.is_alive()
    assert scripted.calls == ["WatchJob"]
    assert job.done()


def test_the_first_state_is_asked_for_only_where_a_callback_is_to_be_told_of_it(
    job: GatewayCircuitJob, scripted: ScriptedGateway
) -> None:
    known = scripted.job.revision
    scripted.move("RUNNING")
    with pytest.raises(IBMJobTimeoutError):
        job.wait_for_final_state(timeout=0.1, callback=lambda *_: None)
    scripted.move("DONE")
    job.wait_for_final_state()
    callback, plain = scripted.requests["WatchJob"]
    assert callback.known_revision == 0
    assert plain.known_revision > known


def test_a_timeout_is_honoured_within_50_ms(job: GatewayCircuitJob) -> None:
    late = []
    for _ in range(5):
        begin = time.monotonic()
        with pytest.raises(IBMJobTimeoutError):
            job.wait_for_final_state(timeout=0.2)
        late.append(time.monotonic() - begin - 0.2)
    assert min(late) >= 0
    assert sorted(late)[2] < 0.05  # the median: the machine may be busy once


def test_a_job_that_is_final_is_not_waited_for_though_the_stream_stays_open(
    job: GatewayCircuitJob, scripted: ScriptedGateway
) -> None:
    over = threading.Event()

    def watch(_: Any, context: Any) -> Iterator[Any]:
        context.add_callback(
            over.set
        )  # before the answer: a call that is cancelled by then takes no callbacks any more
        scripted.move("DONE")
        yield watch_response(scripted.job)
        over.wait(20)

    scripted.on("WatchJob", watch)
    job.wait_for_final_state(timeout=10)
    assert job.done()
    assert over.wait(10)


def test_a_timeout_is_a_timeout_of_jobs_and_says_how_long(job: GatewayCircuitJob) -> None:
    with pytest.raises(IBMJobTimeoutError, match=r"Timed out waiting for job to complete after 0\.05 secs\.") as caught:
        job.result(timeout=0.05)
    assert caught.value.job_id == JOB_ID
    assert isinstance(caught.value, JobTimeoutError)
    assert isinstance(caught.value, JobError)
    assert isinstance(caught.value, IBMJobError)


@pytest.mark.parametrize("timeout", [0, -1, -0.5])
def test_a_timeout_of_zero_or_less_checks_once(
    job: GatewayCircuitJob, scripted: ScriptedGateway, timeout: float
) -> None:
    with pytest.raises(IBMJobTimeoutError):
        job.wait_for_final_state(timeout=timeout)
    assert scripted.calls == ["GetJob"]
    scripted.move("DONE")
    job.wait_for_final_state(timeout=timeout)
    assert scripted.calls == ["GetJob", "GetJob"]


def test_a_callback_is_called_for_each_change(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    seen: list[tuple[str, JobStatus, object]] = []

    def callback(job_id: str, status: JobStatus, watched: GatewayCircuitJob) -> None:
        seen.append((job_id, status, watched))
        if status is JobStatus.QUEUED:
            scripted.move("RUNNING")
        elif status is JobStatus.RUNNING:
            scripted.move("DONE")

    job.wait_for_final_state(None, 3, callback)
    assert [status.name for _, status, _ in seen] == ["QUEUED", "RUNNING", "DONE"]
    assert all(job_id == JOB_ID and watched is job for job_id, _, watched in seen)


def test_an_error_of_the_callback_ends_the_wait_and_the_stream(
    job: GatewayCircuitJob, scripted: ScriptedGateway
) -> None:
    ended = threading.Event()

    def watch(_: Any, context: Any) -> Iterator[Any]:
        context.add_callback(ended.set)
        yield watch_response(scripted.job)
        ended.wait(20)

    def callback(*_: object) -> None:
        raise KeyError("mine")

    scripted.on("WatchJob", watch)
    with pytest.raises(KeyError, match="mine"):
        job.wait_for_final_state(callback=callback)
    assert ended.wait(10)


def test_waiting_survives_a_broken_stream(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    attempts = []

    def watch(request: Any, context: Any) -> Iterator[Any]:
        attempts.append(request.resume_token)
        if len(attempts) == 1:
            yield watch_response(scripted.job)
            refuse(context, "UNAVAILABLE", "cut")
        scripted.move("DONE")
        yield watch_response(scripted.job)

    scripted.on("WatchJob", watch)
    job.wait_for_final_state(timeout=20)
    assert attempts == ["", "2"]
    assert job.done()


def test_a_gateway_that_stays_away_is_waited_for_until_the_timeout(
    job: GatewayCircuitJob, scripted: ScriptedGateway
) -> None:
    scripted.on("WatchJob", refusal("UNAVAILABLE", "not now"))
    with pytest.raises(IBMJobTimeoutError):
        job.wait_for_final_state(timeout=0.5)
    assert scripted.count("WatchJob") > 1


def test_a_gateway_that_refuses_is_not_waited_for(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    scripted.on("WatchJob", refusal("NOT_FOUND", "There is no such job.", reason="JOB_NOT_FOUND"))
    with pytest.raises(IBMJobApiError, match="There is no such job"):
        job.wait_for_final_state(timeout=20)
    assert scripted.count("WatchJob") == 1


def test_an_unknown_status_is_not_final(
    job: GatewayCircuitJob, scripted: ScriptedGateway, caplog: pytest.LogCaptureFixture
) -> None:
    scripted.move(99, provider_status="pondering")
    assert job.status() is JobStatus.QUEUED
    assert job.provider_status_ == "pondering"
    assert "unknown status 99" in caplog.text

    def callback(*_: object) -> None:
        scripted.move("DONE")

    job.wait_for_final_state(callback=callback)
    assert job.done()


def test_the_place_in_the_queue_comes_with_the_watch(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    def watch(*_: Any) -> Iterator[Any]:
        yield watch_response(scripted.job)
        for position in (3, 3, 1):
            heartbeat = job_service_pb2.WatchHeartbeat(queue=job_pb2.QueueInfo(position=position))
            yield job_service_pb2.WatchJobResponse(heartbeat=heartbeat, resume_token="2")
        scripted.move("DONE")
        yield watch_response(scripted.job)

    scripted.on("WatchJob", watch)
    positions: list[int | None] = []
    job.wait_for_final_state(callback=lambda *_: positions.append(job.queue_position()))
    assert positions == [None, 3, 1, None]
    assert scripted.calls == ["WatchJob"]


def test_threads_can_wait_for_the_same_job(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    waiters = [threading.Thread(target=job.wait_for_final_state, kwargs={"timeout": 20}) for _ in range(4)]
    for waiter in waiters:
        waiter.start()
    wait_until(lambda: scripted.count("WatchJob") == 4)
    assert job.status() is JobStatus.QUEUED  # a wait blocks nobody else
    scripted.move("DONE")
    for waiter in waiters:
        waiter.join(10)
        assert not waiter.is_alive()
    assert job.done()
