"""An error of a call tells its cause, and what to do next."""

from __future__ import annotations

import copy
import pickle

import pytest
from qgateway._connection import Connection, GatewayCallError
from qgateway._errors import ErrorDetails, Violation
from qgateway.v1 import job_service_pb2

from tests.support.refusals import refusal
from tests.unit.client_transport.fake_gateway import JOB, FakeGateway


def failed_call(connection: Connection) -> GatewayCallError:
    with pytest.raises(GatewayCallError) as caught:
        connection.call(connection.jobs.GetJob, job_service_pb2.GetJobRequest(name=JOB), job_id="abc")
    return caught.value


def test_details_of_the_answer_are_read(fake: FakeGateway, connection: Connection) -> None:
    refused = refusal(
        "INVALID_ARGUMENT",
        "options.shots: must be positive",
        reason="INVALID_FIELD",
        metadata={"shots": "0"},
        violations={"options.shots": "must be positive"},
        retry_after=1.5,
    )
    fake.on("GetJob", refused)
    error = failed_call(connection)
    assert (error.code, error.reason, error.message) == (
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        "options.shots: must be positive",
    )
    assert error.metadata == {"shots": "0"}
    assert error.violations == (("options.shots", "must be positive"),)
    assert error.retry_after == 1.5
    assert error.job_id == "abc"


def test_a_status_without_details_is_an_error_too(fake: FakeGateway, connection: Connection) -> None:
    fake.on("GetJob", refusal("NOT_FOUND", "No such job."))
    error = failed_call(connection)
    assert (error.code, error.reason, error.message) == ("NOT_FOUND", "", "No such job.")
    assert (error.metadata, error.violations, error.retry_after) == ({}, (), None)


def test_details_that_cannot_be_read_do_not_hide_the_error() -> None:
    error = GatewayCallError("No.", code="INTERNAL", details=b"\xff\xff\xff")
    assert error.reason == ""
    assert "INTERNAL" in error.diagnostics()


@pytest.mark.parametrize(
    ("code", "reason", "advice"),
    [
        ("UNAVAILABLE", "", "is the gateway running at gateway.example:1?"),
        ("UNAUTHENTICATED", "", "QGATEWAY_API_KEY"),
        ("UNAUTHENTICATED", "API_KEY_INVALID", "ask the operator"),
        ("NOT_FOUND", "JOB_NOT_FOUND", "qgateway jobs"),
        ("DEADLINE_EXCEEDED", "", "timeout"),
        ("OUT_OF_RANGE", "RESULT_TOO_LARGE", "download"),
    ],
)
def test_diagnostics_tell_what_to_do(code: str, reason: str, advice: str) -> None:
    error = GatewayCallError("It is so.", code=code, details=ErrorDetails(reason), target="gateway.example:1")
    text = error.diagnostics()
    assert text.startswith("It is so.\n")
    assert code in text
    assert reason in text
    assert advice in text.split("What to do: ")[1]


def test_diagnostics_name_the_job_and_each_wrong_field() -> None:
    details = ErrorDetails("INVALID_FIELD", violations=[Violation("options.shots", "must be positive")], retry_after=2)
    text = GatewayCallError("No.", code="INVALID_ARGUMENT", details=details, job_id="abc").diagnostics()
    assert "job: abc" in text
    assert "options.shots: must be positive" in text
    assert "2 s" in text


def test_an_error_survives_pickle_and_copy(fake: FakeGateway, connection: Connection) -> None:
    fake.on("GetJob", refusal("NOT_FOUND", "No such job.", reason="JOB_NOT_FOUND", metadata={"job": "abc"}))
    error = failed_call(connection)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301
        assert (twin.code, twin.reason, twin.message, twin.job_id) == (
            "NOT_FOUND",
            "JOB_NOT_FOUND",
            "No such job.",
            "abc",
        )
        assert twin.diagnostics() == error.diagnostics()
