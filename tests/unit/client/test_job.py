"""The handle of a job."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from qgateway import (
    GatewayCallError,
    GatewayCircuitJob,
    GatewayProvider,
    IBMJobApiError,
    IBMJobError,
    IBMJobInvalidStateError,
)
from qgateway.v1 import job_pb2, job_service_pb2
from qiskit.providers import JobStatus

from tests.support.refusals import refusal
from tests.unit.client.scripted_gateway import JOB_ID, ScriptedGateway, bell_result, text_program


@pytest.mark.parametrize("status", list(JobStatus))
def test_each_status_of_the_wire_is_that_of_qiskit(
    job: GatewayCircuitJob, scripted: ScriptedGateway, status: JobStatus
) -> None:
    scripted.move(status.name)
    assert job.status() is status
    assert job.done() == (status is JobStatus.DONE)
    assert job.running() == (status is JobStatus.RUNNING)
    assert job.cancelled() == (status is JobStatus.CANCELLED)
    assert job.in_final_state() == (status.name in ("DONE", "CANCELLED", "ERROR"))


def test_a_final_status_costs_no_request(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    scripted.move("DONE")
    assert job.done()
    scripted.calls.clear()
    assert job.done()
    assert not job.running()
    job.wait_for_final_state()
    assert scripted.calls == []


def test_what_is_known_costs_no_request(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    for member in (
        job.job_id,
        job.name,
        job.tags,
        job.creation_date,
        job.header,
        job.backend_options,
        job.scheduling_mode,
    ):
        member()
    _ = job.client_version, job.session_id, job.pending_reason, job.submission, job.metadata, job.version
    assert scripted.calls == []


def test_dates_are_aware_and_local(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    assert job.creation_date() == scripted.job.create_time.ToDatetime(tzinfo=UTC)
    assert job.creation_date().utcoffset() == job.creation_date().astimezone().utcoffset()


def test_tags_are_a_copy(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    scripted.move(tags=["b", "a"])
    job.refresh()
    job.tags().append("c")
    assert job.tags() == ["b", "a"]


def test_submit_refuses(job: GatewayCircuitJob) -> None:
    with pytest.raises(NotImplementedError, match=r"GatewayBackend\.run"):
        job.submit()


def test_the_representation_names_class_and_id(job: GatewayCircuitJob) -> None:
    assert repr(job) == f"<GatewayCircuitJob('{JOB_ID}')>"


def test_the_scheduling_mode_is_told(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    assert job.scheduling_mode() is None
    scripted.move(scheduling_mode=job_pb2.SCHEDULING_MODE_BATCH)
    job.refresh()
    assert job.scheduling_mode() == "batch"


def test_further_facts_are_attributes_with_a_trailing_underscore(
    provider: GatewayProvider, scripted: ScriptedGateway
) -> None:
    job: Any = GatewayCircuitJob(provider, scripted.job, colour="blue")
    assert (job.account_, job.provider_job_id_, job.colour_) == ("local", "", "blue")
    scripted.move(provider_job_id="p-1", provider_status="queued up")
    metrics = job_service_pb2.GetJobMetricsResponse(provider_metrics={"fridge": "7"})
    scripted.on("GetJobMetrics", lambda *_: metrics)
    job.refresh()
    assert (job.provider_job_id_, job.provider_status_, job.fridge_) == ("p-1", "queued up", "7")
    with pytest.raises(AttributeError):
        _ = job.batman_


def test_what_is_absent_is_empty(job: GatewayCircuitJob) -> None:
    assert job.header() == {}
    assert job.circuits() == []
    assert job.name() is None
    assert job.session_id is None
    assert job.client_version == {}
    assert job.pending_reason is None
    assert job.error_message() is None
    assert job.properties() is None
    assert job.queue_info() is None
    assert job.queue_position() is None


def test_circuits_are_read_once(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    scripted.program = text_program("OPENQASM 3.0;")
    job.circuits().clear()
    assert job.circuits() == ["OPENQASM 3.0;"]
    assert scripted.count("DownloadJobProgram") == 1


CALLS: dict[str, tuple[str, Callable[[GatewayCircuitJob], object]]] = {
    "status": ("GetJob", lambda job: job.status()),
    "done": ("GetJob", lambda job: job.done()),
    "wait_for_final_state": ("WatchJob", lambda job: job.wait_for_final_state()),
    "wait_for_final_state(0)": ("GetJob", lambda job: job.wait_for_final_state(0)),
    "result": ("WatchJob", lambda job: job.result()),
    "cancel": ("CancelJob", lambda job: job.cancel()),
    "update_tags": ("UpdateJob", lambda job: job.update_tags(["a"])),
    "update_name": ("UpdateJob", lambda job: job.update_name("a")),
    "refresh": ("GetJob", lambda job: job.refresh()),
    "error_message": ("GetJob", lambda job: job.error_message()),
    "queue_info": ("GetJob", lambda job: job.queue_info()),
    "queue_position": ("GetJob", lambda job: job.queue_position(refresh=True)),
    "time_per_step": ("GetJobMetrics", lambda job: job.time_per_step()),
    "usage_estimation": ("GetJob", lambda job: job.usage_estimation),
    "circuits": ("DownloadJobProgram", lambda job: job.circuits()),
    "properties": ("GetJobBackendProperties", lambda job: job.properties()),
    "events": ("ListJobEvents", lambda job: job.events()),
    "logs": ("GetJobLogs", lambda job: job.logs()),
    "metrics": ("GetJobMetrics", lambda job: job.metrics()),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("code", "reason"), [("NOT_FOUND", "JOB_NOT_FOUND"), ("UNAUTHENTICATED", "API_KEY_INVALID"), ("UNIMPLEMENTED", "")]
)
def test_every_failed_call_is_an_api_error_with_its_cause(
    job: GatewayCircuitJob, scripted: ScriptedGateway, call: str, code: str, reason: str
) -> None:
    method, make = CALLS[call]
    scripted.on(method, refusal(code, "It does not work.", reason=reason))
    with pytest.raises(IBMJobApiError, match="It does not work") as caught:
        make(job)
    error = caught.value
    assert (error.job_id, error.reason, error.code) == (JOB_ID, reason, code)
    assert isinstance(error, IBMJobError)
    assert isinstance(error.__cause__, GatewayCallError)
    assert scripted.target in error.diagnostics()


def test_errors_within_properties_are_not_masked(job: GatewayCircuitJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise AttributeError("the real cause")

    monkeypatch.setattr(GatewayCircuitJob, "_usage", fail)
    with pytest.raises(AttributeError, match="the real cause"):
        _ = job.usage_estimation


def test_cancel_says_whether_the_job_is_cancelled_now(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    scripted.move("RUNNING")
    scripted.on("CancelJob", lambda *_: job_service_pb2.CancelJobResponse(job=scripted.job))
    assert job.cancel() is False
    assert job.status() is JobStatus.RUNNING
    scripted.move("CANCELLED")
    assert job.cancel() is True
    assert job.status() is JobStatus.CANCELLED


@pytest.mark.parametrize("status", ["DONE", "ERROR", "CANCELLED"])
def test_cancelling_a_finished_job_is_an_invalid_state(
    job: GatewayCircuitJob, scripted: ScriptedGateway, status: str
) -> None:
    scripted.move(status)
    with pytest.raises(IBMJobInvalidStateError, match="Job cannot be cancelled: The job has ended") as caught:
        job.cancel()
    assert (caught.value.reason, caught.value.job_id) == ("JOB_FINAL", JOB_ID)
    assert job.status() is JobStatus[status]


def test_a_final_status_stays_whatever_comes_later(
    job: GatewayCircuitJob, scripted: ScriptedGateway, caplog: pytest.LogCaptureFixture
) -> None:
    scripted.move("DONE", result=job_pb2.ResultSummary(size_bytes=5))
    assert job.done()
    scripted.move("RUNNING", tags=["late"], result=job_pb2.ResultSummary())
    job.refresh()
    assert job.done()
    assert job.tags() == ["late"]
    assert "after the final one" in caplog.text


def test_an_older_record_does_not_overwrite_a_newer_one(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    old = job_pb2.Job()
    old.CopyFrom(scripted.job)
    scripted.move("RUNNING")
    assert job.running()
    scripted.on("GetJob", lambda *_: job_service_pb2.GetJobResponse(job=old))
    assert job.running()


def test_only_a_failed_job_has_an_error_message(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    assert job.error_message() is None
    scripted.move("CANCELLED", failure=job_pb2.JobFailure(reason="TIME_LIMIT_EXCEEDED", message="Ran too long."))
    assert job.error_message() is None


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (job_pb2.JobFailure(message="It broke.", provider_code="1234"), "Error code 1234; It broke."),
        (job_pb2.JobFailure(message="It broke.", reason="WORKER_CRASHED"), "It broke."),
        (job_pb2.JobFailure(reason="WORKER_CRASHED"), "WORKER_CRASHED"),
        (job_pb2.JobFailure(), "The provider gave no reason."),
    ],
)
def test_an_error_message_has_the_code_where_there_is_one(
    job: GatewayCircuitJob, scripted: ScriptedGateway, failure: job_pb2.JobFailure, text: str
) -> None:
    scripted.move("ERROR", failure=failure)
    assert job.error_message() == text


def test_handles_are_equal_by_id_and_gateway(provider: GatewayProvider, scripted: ScriptedGateway) -> None:
    one, same = provider.retrieve_job(JOB_ID), provider.retrieve_job(JOB_ID)
    other = GatewayCircuitJob(provider, job_pb2.Job(name="jobs/other"))
    assert one == same
    assert len({one, same, other}) == 2
    assert one != other
    assert one != JOB_ID
    with GatewayProvider("127.0.0.1:1", "canary-0123456789") as elsewhere:
        assert GatewayCircuitJob(elsewhere, scripted.job) != one


def test_a_handle_can_be_pickled_and_copied(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    scripted.move("DONE", tags=["a"])
    scripted.result = bell_result()
    metrics = job_service_pb2.GetJobMetricsResponse(provider_metrics={"backend": "fridge"})
    scripted.on("GetJobMetrics", lambda *_: metrics)
    job.refresh()
    job.metadata["mine"] = 1
    for twin in (pickle.loads(pickle.dumps(job)), copy.deepcopy(job), copy.copy(job)):  # noqa: S301 - our own
        assert twin == job
        assert twin.tags() == ["a"]
        assert twin.metadata == {"mine": 1}
        assert twin.backend_ == "fridge"
        assert twin.result().get_counts() == {"00": 2, "11": 2}
        assert twin.backend().name == "machine"
    assert b"canary" not in pickle.dumps(job)


def test_a_pickled_handle_works_in_another_process(
    job: GatewayCircuitJob, scripted: ScriptedGateway, tmp_path: Path
) -> None:
    scripted.move("DONE")
    scripted.result = bell_result()
    path = tmp_path / "job.pickle"
    path.write_bytes(pickle.dumps(job))
    code = f"import pickle, pathlib; job = pickle.loads(pathlib.Path({str(path)!r}).read_bytes()); print(job.result().get_counts())"
    environment = {**os.environ, "QGATEWAY_API_KEY": "canary-of-the-other"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "{'00': 2, '11': 2}"


def test_backend_options_and_header_are_those_of_the_submission(
    job: GatewayCircuitJob, scripted: ScriptedGateway
) -> None:
    options = job_pb2.RunOptions(shots=7, memory=True, meas_level=job_pb2.MEAS_LEVEL_CLASSIFIED)
    options.header.update({"mine": {"index": 3}})
    options.provider_options.update({"flavour": "blue"})
    scripted.move(options=options)
    job.refresh()
    assert job.header() == {"mine": {"index": 3}}
    assert job.backend_options()["shots"] == 7
    assert job.backend_options()["memory"] is True
    assert job.backend_options()["flavour"] == "blue"
    assert "header" not in job.backend_options()


def test_a_backend_that_is_gone_is_stood_in_for(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    scripted.on("GetBackend", refusal("NOT_FOUND", "There is no backend.", reason="BACKEND_NOT_FOUND"))
    backend = job.backend()
    assert (backend.name, backend.configuration().backend_name) == ("machine", "machine")
    assert backend is job.backend()
