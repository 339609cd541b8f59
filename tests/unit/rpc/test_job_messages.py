"""Jobs and events as bytes are the messages of the contract, field by field."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from qgateway.v1 import job_pb2, job_service_pb2, program_pb2

from gateway.domain.errors import Reason
from gateway.domain.job import (
    EventType,
    Job,
    JobEvent,
    JobFailure,
    JobStatus,
    JobStep,
    JobUsage,
    PendingKind,
    PendingReason,
    ProgramKind,
    ProgramSummary,
    ResultSummary,
    RunOptions,
    SchedulingMode,
    Submission,
    SubmissionState,
)
from gateway.domain.provider import QueuePlace
from gateway.rpc import job_messages

NOW = datetime(2026, 2, 3, 4, 5, 6, 789_000, UTC)
LATER = NOW + timedelta(seconds=7)
FRESH = Job(
    id="fresh",
    tenant="physics",
    creator="alice",
    account="paced",
    backend="machine",
    options=RunOptions(),
    program=ProgramSummary(ProgramKind.OPENQASM, 2, 300, "ab" * 32, 5),
    created_at=NOW,
    updated_at=NOW,
    revision=300,
    pending_reason=PendingReason(PendingKind.PACED, "Waits for its turn: später.", NOW, LATER),
    steps=(JobStep(JobStatus.INITIALIZING, NOW),),
)
WHOLE = replace(
    FRESH,
    id="whole",
    options=RunOptions(shots=7, header={"a": 1.0}, transpile=2),
    updated_at=LATER,
    status=JobStatus.ERROR,
    display_name="a name",
    tags=("one", "two"),
    session="sessions/s",
    request_id="r",
    provider_status="Failed",
    provider_job_id="p",
    pending_reason=None,
    submission=Submission(SubmissionState.ACCEPTED, attempts=200),
    steps=(*FRESH.steps, JobStep(JobStatus.RUNNING, NOW), JobStep(JobStatus.ERROR, LATER)),
    failure=JobFailure(Reason.PROVIDER_ERROR, "It broke.", "1234"),
    usage=JobUsage(1.5, 2.0, 0.0),
    result=ResultSummary(1000, "cd" * 32, LATER),
    client_version={"qgateway": "1.0"},
    scheduling_mode=SchedulingMode.BATCH,
)


def _time(at: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(at)
    return message


def _message(job: Job) -> job_pb2.Job:
    return job_pb2.Job(
        name=f"jobs/{job.id}",
        account="paced",
        backend="machine",
        creator="alice",
        create_time=_time(NOW),
        update_time=_time(job.updated_at),
        options=job_messages.run_options(job.options),
        program=program_pb2.ProgramSummary(
            kind=program_pb2.ProgramSummary.KIND_OPENQASM,
            circuit_count=2,
            size_bytes=300,
            sha256=b"\xab" * 32,
            num_qubits=5,
        ),
        etag="12c",
        revision=300,
    )


def fresh_message() -> job_pb2.Job:
    message = _message(FRESH)
    message.MergeFrom(
        job_pb2.Job(
            status=job_pb2.JOB_STATUS_INITIALIZING,
            scheduling_mode=job_pb2.SCHEDULING_MODE_JOB,
            submission=job_pb2.Submission(state=job_pb2.Submission.STATE_PENDING),
            usage=job_pb2.JobUsage(),
            pending_reason=job_pb2.PendingReason(
                kind=job_pb2.PendingReason.KIND_PACED,
                message="Waits for its turn: später.",
                since_time=_time(NOW),
                retry_time=_time(LATER),
            ),
        )
    )
    return message


def whole_message() -> job_pb2.Job:
    message = _message(WHOLE)
    message.MergeFrom(
        job_pb2.Job(
            status=job_pb2.JOB_STATUS_ERROR,
            display_name="a name",
            tags=["one", "two"],
            session="sessions/s",
            request_id="r",
            provider_status="Failed",
            provider_job_id="p",
            submission=job_pb2.Submission(state=job_pb2.Submission.STATE_ACCEPTED, attempts=200),
            start_time=_time(NOW),
            end_time=_time(LATER),
            failure=job_pb2.JobFailure(reason="PROVIDER_ERROR", message="It broke.", provider_code="1234"),
            usage=job_pb2.JobUsage(
                estimated_qpu_time=Duration(seconds=1, nanos=500_000_000), charged_qpu_time=Duration(seconds=2)
            ),
            result=job_pb2.ResultSummary(size_bytes=1000, sha256=b"\xcd" * 32, expire_time=_time(LATER)),
            client_version={"qgateway": "1.0"},
            scheduling_mode=job_pb2.SCHEDULING_MODE_BATCH,
        )
    )
    return message


def test_a_fresh_job_is_told_whole() -> None:
    response = job_messages.submit_job_response(FRESH, None, duplicate=True)
    expected = job_service_pb2.SubmitJobResponse(job=fresh_message(), duplicate=True)
    assert job_service_pb2.SubmitJobResponse.FromString(response) == expected


def test_a_job_with_every_field_is_told_whole() -> None:
    response = job_service_pb2.GetJobResponse.FromString(job_messages.job_response(WHOLE))
    assert response == job_service_pb2.GetJobResponse(job=whole_message())


def test_a_queued_job_is_told_with_its_place() -> None:
    waiting = replace(
        FRESH, id="queued", pending_reason=PendingReason(PendingKind.PROVIDER_QUEUE, "Waiting in the queue.", NOW)
    )
    told = job_service_pb2.GetJobResponse.FromString(job_messages.job_response(waiting, QueuePlace(3, LATER))).job
    assert told.queue == job_pb2.QueueInfo(position=3, estimated_start_time=_time(LATER))
    assert told.pending_reason.message == "Waiting in the queue. Position 3."


def test_jobs_with_different_options_are_told_with_their_own() -> None:
    jobs = [replace(FRESH, id=f"shots-{shots}", options=RunOptions(shots=shots)) for shots in (1, 2, 1)]
    responses = [job_service_pb2.GetJobResponse.FromString(job_messages.job_response(job)) for job in jobs]
    assert [response.job.options.shots for response in responses] == [1, 2, 1]


def test_an_event_is_told_with_its_job_and_token() -> None:
    event = JobEvent(300, EventType.CREATED, LATER, FRESH, "It is new.")
    told = job_service_pb2.WatchJobResponse.FromString(job_messages.watch_event(event, "a token"))
    assert told == job_service_pb2.WatchJobResponse(
        event=job_pb2.JobEvent(
            revision=300,
            type=job_pb2.JobEvent.TYPE_CREATED,
            event_time=_time(LATER),
            message="It is new.",
            job=fresh_message(),
        ),
        resume_token="a token",
    )
