"""The handle of a job against the behaviour of `IBMCircuitJob` 0.7.3: what is kept, what is better, what was open.

What users of the original depend on, and the test that keeps it:

| kept | test |
|---|---|
| member names, parameters, defaults, order | test_job.py::test_members_have_the_names_parameters_and_defaults_of_the_original |
| properties versus methods | test_job.py::test_properties_are_properties_and_calls_are_calls |
| exception classes and bases | test_exceptions.py::test_names_and_bases_are_those_of_the_original |
| status mapping | test_job.py::test_each_status_of_the_wire_is_that_of_qiskit |
| result cached, the same object | test_job_result.py::test_a_result_is_read_once_and_stays_the_same_object |
| `timeout=0` checks once | test_job_wait.py::test_a_timeout_of_zero_or_less_checks_once |
| local aware datetimes | test_job.py::test_dates_are_aware_and_local |
| `tags()` a copy | test_job.py::test_tags_are_a_copy |
| `submit()` raises | test_job.py::test_submit_refuses |
| `repr` | test_job.py::test_the_representation_names_class_and_id |
| `cancel()` of a finished job raises | test_job.py::test_cancelling_a_finished_job_is_an_invalid_state |
| protected tag prefixes | test_job_update.py::test_protected_tags_are_kept |

What the original got wrong, and the test that shows it right:

| # | better | test |
|---|---|---|
| 1 | results are read by anyone, any number of times | test_job_result.py::test_any_handle_reads_the_result_any_number_of_times |
| 2 | waiting does not poll | test_job_wait.py::test_waiting_is_one_stream_and_no_polling |
| 3 | timeouts hold | test_job_wait.py::test_a_timeout_is_honoured_within_50_ms |
| 3 | `wait` and `callback` are accepted | test_job_wait.py::test_a_callback_is_called_for_each_change |
| 3 | transient errors are borne | test_job_wait.py::test_waiting_survives_a_broken_stream |
| 4 | a fresh job knows what was submitted | test_backend.py::test_a_fresh_job_knows_its_tags_name_date_and_status |
| 5 | `update_name` names | test_job_update.py::test_a_name_is_stored |
| 5 | `scheduling_mode` tells | test_job.py::test_the_scheduling_mode_is_told |
| 6 | further facts have a trailing underscore | test_job.py::test_further_facts_are_attributes_with_a_trailing_underscore |
| 7 | no header is `{}`, no circuits are `[]` | test_job.py::test_what_is_absent_is_empty |
| 8 | every error of a call is an `IBMJobApiError` | test_job.py::test_every_failed_call_is_an_api_error_with_its_cause |
| 8 | so is a damaged result | test_job_result.py::test_a_result_that_cannot_be_read_is_an_api_error |
| 9 | an unknown status is not final | test_job_wait.py::test_an_unknown_status_is_not_final |
| 9 | and does not break a listing | test_provider.py::test_a_record_with_an_unknown_status_does_not_break_a_listing |
| 10 | `cancel()` says what the gateway says | test_job.py::test_cancel_says_whether_the_job_is_cancelled_now |
| 11 | final statuses stay | test_job.py::test_a_final_status_stays_whatever_comes_later |
| 12 | `refresh()` keeps the result | test_job_result.py::test_refresh_does_not_read_the_result_again |
| 13 | exceptions carry reason, code and job id | test_job_result.py::test_a_cancelled_job_says_why |
| 14 | the queue is told as it is | test_job.py::test_queue_info_is_given_when_anything_is_known |
| 15 | tags are checked first, in order, and copied | test_job_update.py::test_anything_but_a_list_of_texts_is_an_invalid_state |
| 15 | | test_job_update.py::test_the_order_of_tags_is_kept_and_duplicates_are_dropped |
| 16 | calibration is that of the run, and cached | test_job.py::test_properties_are_those_of_the_run_and_are_cached |
| 17 | offsets are converted | test_queue_info.py::test_points_in_time_are_converted_and_not_overwritten |
| 18 | the keys of the steps are documented | test_job.py::test_steps_have_both_spellings |
| 19 | property errors are not masked | test_job.py::test_errors_within_properties_are_not_masked |
| 20 | equality, hash | test_job.py::test_handles_are_equal_by_id_and_gateway |
| 20 | copies and pickles | test_job.py::test_a_handle_can_be_pickled_and_copied |
| 21 | `session_id` | test_job.py::test_the_session_is_told |
| 21 | history | test_job.py::test_the_history_is_told |
| 22 | usage is asked for again | test_job.py::test_usage_is_asked_for_until_it_is_known_for_good |
| 23 | nothing in a payload runs code | test_programs.py::test_qpy_that_could_run_code_is_not_read |
| 24 | pages without gap or duplicate | test_provider.py::test_pages_are_put_together_without_gap_or_duplicate |
| 24 | unknown statuses refused | test_provider.py::test_an_unknown_status_is_refused |
| 24 | no side effects | test_provider.py::test_a_listing_costs_one_request_and_touches_no_backend |
| 25 | any sequence of circuits | test_programs.py::test_one_circuit_a_list_a_tuple_and_a_generator_are_accepted |
| 25 | arguments are checked before sending | test_backend.py::test_a_wrong_argument_sends_nothing |
| 26 | leaving a `with` block closes the session | test_session.py::test_leaving_the_block_closes_the_session |
| 27 | `job_monitor` | test_monitor.py::test_the_line_follows_the_job_from_the_queue_to_the_end |
| 27 | stdout at the time of the call | test_monitor.py::test_standard_output_is_looked_up_at_the_time_of_the_call |
| 28 | threads | test_job_result.py::test_threads_that_ask_at_once_read_the_result_once |

What the original left open:

| decided | test |
|---|---|
| a cancelled job has no result | test_job_result.py::test_a_cancelled_job_says_why |
| `error_message()` of a cancelled job is None | test_job.py::test_only_a_failed_job_has_an_error_message |
| `success=False` does not raise | test_job_result.py::test_an_unsuccessful_result_is_returned |
| a final job has no place in the queue | test_job.py::test_a_final_job_has_no_place_in_the_queue |
| timeouts run on the monotonic clock | test_job_wait.py::test_a_timeout_is_honoured_within_50_ms |
"""

from __future__ import annotations

import copy
import inspect
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from qgateway import (
    GatewayCallError,
    GatewayCircuitJob,
    GatewayProvider,
    IBMJobApiError,
    IBMJobError,
    IBMJobInvalidStateError,
)
from qgateway.v1 import backend_pb2, job_pb2, job_service_pb2
from qiskit.providers import JobStatus, JobV1

from tests.support.refusals import refusal
from tests.unit.client.scripted_gateway import JOB_ID, ScriptedGateway, bell_result, text_program

REQUIRED = inspect.Parameter.empty
MEMBERS: dict[str, dict[str, Any]] = {
    "backend": {},
    "backend_options": {},
    "cancel": {},
    "cancelled": {},
    "circuits": {},
    "creation_date": {},
    "done": {},
    "error_message": {},
    "header": {},
    "in_final_state": {},
    "job_id": {},
    "name": {},
    "properties": {"refresh": False},
    "queue_info": {},
    "queue_position": {"refresh": False},
    "refresh": {},
    "result": {"timeout": None, "refresh": False},
    "running": {},
    "scheduling_mode": {},
    "status": {},
    "submit": {},
    "tags": {},
    "time_per_step": {},
    "update_name": {"name": REQUIRED},
    "update_tags": {"new_tags": REQUIRED},
    "wait_for_final_state": {"timeout": None, "wait": 3},
}


def timestamp(moment: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(moment.astimezone(UTC))
    return made


def test_every_test_of_the_table_exists() -> None:
    named = re.findall(r"\| (test_\w+\.py)::(test_\w+) \|", __doc__ or "")
    assert len(named) > 50
    for file, name in named:
        assert f"def {name}(" in Path(__file__).with_name(file).read_text(), f"{file}::{name}"


def test_members_have_the_names_parameters_and_defaults_of_the_original() -> None:
    for name, parameters in MEMBERS.items():
        signature = inspect.signature(getattr(GatewayCircuitJob, name))
        found = {each.name: each.default for each in list(signature.parameters.values())[1:]}
        assert list(found.items())[: len(parameters)] == list(parameters.items()), name
    further = list(inspect.signature(GatewayCircuitJob.wait_for_final_state).parameters)[3:]
    assert further == ["callback"]  # as in JobV1, which the original does not honour


def test_properties_are_properties_and_calls_are_calls(job: GatewayCircuitJob) -> None:
    for name in ("client_version", "usage_estimation"):
        assert isinstance(getattr(GatewayCircuitJob, name), property)
    for name in MEMBERS:
        assert callable(getattr(job, name))
    assert isinstance(job, JobV1)
    assert GatewayCircuitJob.version == 1
    assert job.metadata == {}


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


def test_queue_info_is_given_when_anything_is_known(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    scripted.move("QUEUED", queue=job_pb2.QueueInfo(position=0))
    info = job.queue_info()
    assert info is not None
    assert (info.position, info.job_id) == (0, JOB_ID)
    assert "_status='QUEUED'" in repr(info)
    assert job.queue_position() == 0
    start = datetime.now(UTC) + timedelta(hours=1)
    scripted.move("VALIDATING", queue=job_pb2.QueueInfo(estimated_start_time=timestamp(start)))
    info = job.queue_info()
    assert info is not None
    assert info.estimated_start_time == start
    assert (info.position, job.queue_position()) == (None, None)
    assert "_status='VALIDATING'" in repr(info)
    scripted.move("QUEUED", queue=job_pb2.QueueInfo())
    scripted.job.ClearField("queue")
    assert job.queue_info() is None
    assert job.queue_position() is None


def test_a_place_in_the_queue_is_read_anew_only_when_asked_for(
    job: GatewayCircuitJob, scripted: ScriptedGateway
) -> None:
    scripted.move(queue=job_pb2.QueueInfo(position=4))
    assert job.queue_position(refresh=True) == 4
    scripted.move(queue=job_pb2.QueueInfo(position=2))
    scripted.calls.clear()
    assert job.queue_position() == 4
    assert scripted.calls == []
    assert job.queue_position(True) == 2


@pytest.mark.parametrize("status", ["DONE", "ERROR", "CANCELLED"])
def test_a_final_job_has_no_place_in_the_queue(job: GatewayCircuitJob, scripted: ScriptedGateway, status: str) -> None:
    scripted.move(queue=job_pb2.QueueInfo(position=4))
    assert job.queue_position(refresh=True) == 4
    scripted.move(status)
    assert job.queue_position(refresh=True) is None
    assert job.queue_position() is None
    assert job.queue_info() is None


def calibration(qubit_t1: float) -> job_service_pb2.GetJobBackendPropertiesResponse:
    measured = backend_pb2.Measurement(parameter="T1", unit="s", value=qubit_t1)
    properties = backend_pb2.BackendProperties(qubits=[backend_pb2.QubitCalibration(parameters=[measured])])
    return job_service_pb2.GetJobBackendPropertiesResponse(properties=properties)


def test_properties_are_those_of_the_run_and_are_cached(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    values = iter([1.0, 2.0, 3.0, 4.0])
    scripted.on("GetJobBackendProperties", lambda *_: calibration(next(values)))

    def t1(**options: bool) -> float:
        properties = job.properties(**options)
        assert properties is not None
        return properties.t1(0)

    assert (t1(), t1()) == (1.0, 2.0)  # not run yet: as of now
    scripted.move("RUNNING", start_time=timestamp(datetime.now(UTC)))
    assert (t1(), t1()) == (3.0, 3.0)
    assert t1(refresh=True) == 4.0


def test_steps_have_both_spellings(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    begin = datetime.now(UTC).replace(microsecond=0)
    queued, running, done = (begin + timedelta(seconds=after) for after in (1, 2, 3))
    steps = [
        job_service_pb2.JobStep(status=job_pb2.JOB_STATUS_QUEUED, reach_time=timestamp(queued)),
        job_service_pb2.JobStep(status=job_pb2.JOB_STATUS_RUNNING, reach_time=timestamp(running)),
    ]
    scripted.on("GetJobMetrics", lambda *_: job_service_pb2.GetJobMetricsResponse(steps=steps))
    scripted.move("RUNNING", create_time=timestamp(begin), start_time=timestamp(running))
    assert job.time_per_step() == {
        "created": begin,
        "running": running,
        "finished": None,
        "QUEUED": queued,
        "RUNNING": running,
    }
    scripted.move("DONE", end_time=timestamp(done))
    steps.append(job_service_pb2.JobStep(status=job_pb2.JOB_STATUS_DONE, reach_time=timestamp(done)))
    found = job.time_per_step()
    assert found is not None
    assert (found["finished"], found["DONE"]) == (done, done)
    assert all(moment is not None and moment.tzinfo is not None for moment in found.values())
    scripted.calls.clear()
    job.time_per_step()
    assert scripted.calls == []


def test_usage_is_asked_for_until_it_is_known_for_good(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    def usage(**seconds: int) -> job_pb2.JobUsage:
        made = job_pb2.JobUsage()
        for name, value in seconds.items():
            getattr(made, name).FromSeconds(value)
        return made

    assert job.usage_estimation == {"quantum_seconds": None}
    scripted.move(usage=usage(estimated_qpu_time=7))
    assert job.usage_estimation == {"quantum_seconds": 7.0}
    scripted.move("DONE")
    assert job.usage_estimation == {"quantum_seconds": 7.0}
    scripted.calls.clear()
    assert job.usage_estimation == {"quantum_seconds": 7.0}
    assert scripted.calls == []
    scripted.move(usage=usage(estimated_qpu_time=7, charged_qpu_time=5))
    job.refresh()
    assert job.usage_estimation == {"quantum_seconds": 5.0}


def test_the_session_is_told(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    scripted.move(session="sessions/s1")
    job.refresh()
    assert job.session_id == "s1"


def test_the_history_is_told(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    moment = datetime.now(UTC)

    def page(request: job_service_pb2.ListJobEventsRequest, _: object) -> job_service_pb2.ListJobEventsResponse:
        number = int(request.page_token or 1)
        record = job_pb2.Job(status=job_pb2.JOB_STATUS_QUEUED if number == 1 else 99)  # type: ignore[arg-type]
        kind = job_pb2.JobEvent.TYPE_CREATED if number == 1 else 99
        event = job_pb2.JobEvent(
            revision=number,
            type=kind,
            event_time=timestamp(moment),
            job=record,
            message="so it is",  # type: ignore[arg-type]
        )
        return job_service_pb2.ListJobEventsResponse(events=[event], next_page_token="2" if number == 1 else "")

    scripted.on("ListJobEvents", page)
    first, second = job.events()
    assert first == (1, "CREATED", moment, JobStatus.QUEUED, "so it is")
    assert (second.type, second.status) == ("99", None)


def test_why_a_job_is_not_done_is_told(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    since = datetime.now(UTC)
    reason = job_pb2.PendingReason(
        kind=job_pb2.PendingReason.KIND_PROVIDER_UNREACHABLE, message="It does not answer.", since_time=timestamp(since)
    )
    sent = job_pb2.Submission(state=job_pb2.Submission.STATE_UNKNOWN, attempts=2)
    scripted.move("INITIALIZING", pending_reason=reason, submission=sent)
    job.refresh()
    assert job.pending_reason == ("PROVIDER_UNREACHABLE", "It does not answer.", since, None)
    assert job.submission == ("UNKNOWN", 2)


def test_logs_and_metrics_are_read(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    scripted.on("GetJobLogs", lambda *_: job_service_pb2.GetJobLogsResponse(text="line"))
    metrics = job_service_pb2.GetJobMetricsResponse(provider_metrics={"fridge": "7"}, client_version={"qiskit": "2"})
    metrics.usage.charged_qpu_time.FromSeconds(3)
    scripted.on("GetJobMetrics", lambda *_: metrics)
    assert job.logs() == "line"
    found = job.metrics()
    assert found["usage"] == {"estimated_quantum_seconds": None, "quantum_seconds": 3.0}
    assert (found["provider"], found["client_version"]) == ({"fridge": "7"}, {"qiskit": "2"})
    assert found["timestamps"]["created"] == job.creation_date()


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


def test_a_backend_that_is_gone_is_stood_in_for(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    scripted.on("GetBackend", refusal("NOT_FOUND", "There is no backend.", reason="BACKEND_NOT_FOUND"))
    backend = job.backend()
    assert (backend.name, backend.configuration().backend_name) == ("machine", "machine")
    assert backend is job.backend()


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
