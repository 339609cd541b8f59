"""What the handle of a job tells beside its status: queue, steps, usage, history, logs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from qgateway import (
    GatewayCircuitJob,
)
from qgateway.v1 import backend_pb2, job_pb2, job_service_pb2
from qiskit.providers import JobStatus

from tests.unit.client.scripted_gateway import JOB_ID, ScriptedGateway


def timestamp(moment: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(moment.astimezone(UTC))
    return made


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
