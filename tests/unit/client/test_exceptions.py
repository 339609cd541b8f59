"""The exceptions: names and bases of qiskit-ibm-provider, with the facts as fields."""

from __future__ import annotations

import pickle

import pytest
from qgateway import exceptions as e
from qgateway._errors import ErrorDetails, GatewayCallError, Violation
from qgateway._translate import backend_call, job_call, submission
from qgateway.job_parts import PendingReason
from qiskit.exceptions import QiskitError
from qiskit.providers import JobError, JobTimeoutError, QiskitBackendNotFoundError

BASES: dict[type[Exception], tuple[type[Exception], ...]] = {
    e.IBMError: (QiskitError,),
    e.IBMAccountError: (e.IBMError,),
    e.IBMProviderError: (e.IBMError,),
    e.IBMProviderValueError: (e.IBMProviderError,),
    e.IBMProviderCredentialsNotFound: (e.IBMProviderError,),
    e.IBMProviderMultipleCredentialsFound: (e.IBMProviderError,),
    e.IBMProviderCredentialsInvalidFormat: (e.IBMProviderError,),
    e.IBMProviderCredentialsInvalidToken: (e.IBMProviderError,),
    e.IBMProviderCredentialsInvalidUrl: (e.IBMProviderError,),
    e.IBMBackendError: (e.IBMError,),
    e.IBMBackendApiError: (e.IBMBackendError,),
    e.IBMBackendApiProtocolError: (e.IBMBackendApiError,),
    e.IBMBackendValueError: (e.IBMBackendError, ValueError),
    e.IBMBackendJobLimitError: (e.IBMBackendError,),
    e.IBMBackendNotFoundError: (QiskitBackendNotFoundError, e.IBMBackendError),
    e.IBMInputValueError: (e.IBMError,),
    e.IBMNotAuthorizedError: (e.IBMError,),
    e.IBMApiError: (e.IBMError,),
    e.ApiError: (e.IBMError,),
    e.RequestsApiError: (e.ApiError,),
    e.WebsocketError: (e.ApiError,),
    e.AuthenticationLicenseError: (e.ApiError,),
    e.ApiIBMProtocolError: (e.ApiError,),
    e.UserTimeoutExceededError: (e.ApiError,),
    e.IBMJobError: (JobError, e.IBMError),
    e.IBMJobApiError: (e.IBMJobError,),
    e.IBMJobFailureError: (e.IBMJobError,),
    e.IBMJobInvalidStateError: (e.IBMJobError,),
    e.IBMJobNotFoundError: (e.IBMJobError,),
    e.IBMJobTimeoutError: (JobTimeoutError, e.IBMJobError),
}


def test_names_and_bases_are_those_of_the_original() -> None:
    assert {kind.__name__ for kind in BASES} == set(e.__all__)
    for kind, bases in BASES.items():
        assert kind.__bases__ == bases


def test_no_job_error_is_a_builtin_timeout() -> None:
    assert not issubclass(e.IBMJobTimeoutError, TimeoutError)


def test_the_text_is_the_message_without_quotes() -> None:
    assert str(e.IBMJobError("It", "broke.")) == "It broke."
    assert e.IBMJobError("It broke.").message == "It broke."


def test_an_error_carries_job_reason_and_code_through_a_pickle() -> None:
    error = pickle.loads(  # noqa: S301 - our own
        pickle.dumps(e.IBMJobFailureError("It broke.", job_id="abc", reason="WORKER_CRASHED", code="7"))
    )
    assert (error.message, error.job_id, error.reason, error.code) == ("It broke.", "abc", "WORKER_CRASHED", "7")
    assert e.RequestsApiError("no").status_code == -1


def test_diagnostics_say_what_why_and_what_to_do() -> None:
    text = e.IBMJobFailureError(
        "Job failed: it ran too long", job_id="abc", reason="TIME_LIMIT_EXCEEDED", code="9"
    ).diagnostics()
    assert text.splitlines()[:3] == ["Job failed: it ran too long", "job: abc", "reason: TIME_LIMIT_EXCEEDED (code 9)"]
    assert "fewer shots" in text


def test_a_timeout_tells_what_the_job_waits_for_through_a_pickle() -> None:
    waits = PendingReason("CREDENTIALS_REFUSED", "The key is refused.", None, None)
    error = e.IBMJobTimeoutError("Too late.", job_id="abc", pending_reason=waits)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert again.diagnostics() == error.diagnostics()
    assert again.reason == "TIMEOUT"
    assert "waiting: CREDENTIALS_REFUSED: The key is refused." in again.diagnostics()
    assert "ask the operator" in again.diagnostics()
    assert e.IBMJobTimeoutError("Too late.").diagnostics() == "Too late.\nreason: TIMEOUT"


def test_a_wrong_argument_has_a_reason_of_its_own() -> None:
    assert e.IBMBackendValueError("shots: too many").reason == "INVALID_FIELD"
    assert "What to do: " in e.IBMBackendValueError("shots: too many").diagnostics()


def test_diagnostics_of_a_failed_call_are_those_of_the_call() -> None:
    details = ErrorDetails("INVALID_FIELD", violations=[Violation("options.shots", "must be positive")])
    cause = GatewayCallError("options.shots: must be positive", code="INVALID_ARGUMENT", details=details, target="gw:1")
    error = submission("r1")(cause)
    error.__cause__ = cause
    assert isinstance(error, e.IBMBackendValueError)
    assert (error.reason, error.code) == ("INVALID_FIELD", "INVALID_ARGUMENT")
    assert error.diagnostics().count("options.shots: must be positive") == 1
    assert "gw:1" in error.diagnostics()


def test_diagnostics_do_not_repeat_what_the_message_says() -> None:
    details = ErrorDetails("INVALID_FIELD", violations=[Violation("options.shots", "must be positive")])
    error = GatewayCallError("options.shots: must be positive", code="INVALID_ARGUMENT", details=details)
    assert error.diagnostics().count("must be positive") == 1


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        ("INVALID_ARGUMENT", "INVALID_PROGRAM", e.IBMBackendValueError),
        ("RESOURCE_EXHAUSTED", "QUEUE_FULL", e.IBMBackendJobLimitError),
        ("RESOURCE_EXHAUSTED", "MEMORY_LIMIT_EXCEEDED", e.IBMBackendValueError),
        ("RESOURCE_EXHAUSTED", "WORKER_CRASHED", e.IBMBackendApiError),
        ("RESOURCE_EXHAUSTED", "", e.IBMBackendApiError),
        ("NOT_FOUND", "BACKEND_NOT_FOUND", e.IBMBackendNotFoundError),
        ("FAILED_PRECONDITION", "BACKEND_NOT_OPERATIONAL", e.IBMBackendError),
        ("UNAUTHENTICATED", "API_KEY_INVALID", e.IBMNotAuthorizedError),
        ("PERMISSION_DENIED", "ROLE_MISSING", e.IBMNotAuthorizedError),
        ("UNAVAILABLE", "", e.IBMBackendApiError),
        ("UNIMPLEMENTED", "RPC_NOT_IMPLEMENTED", e.IBMBackendApiError),
    ],
)
def test_what_run_raises_follows_from_code_and_reason(code: str, reason: str, kind: type[Exception]) -> None:
    error = submission("r1")(GatewayCallError("no", code=code, details=ErrorDetails(reason)))
    assert type(error) is kind


def test_a_submission_in_doubt_names_its_request_id() -> None:
    error = submission("r1")(GatewayCallError("no answer", code="DEADLINE_EXCEEDED"))
    assert "request_id='r1'" in error.message
    assert "request_id" not in submission("r1")(GatewayCallError("no", code="INVALID_ARGUMENT")).message


def test_calls_about_jobs_only_raise_api_errors() -> None:
    for code in ("UNAVAILABLE", "NOT_FOUND", "UNAUTHENTICATED", "UNIMPLEMENTED", "DATA_LOSS"):
        error = job_call("Failed", "abc")(GatewayCallError("no", code=code))
        assert type(error) is e.IBMJobApiError
        assert (error.job_id, error.code, error.message) == ("abc", code, "Failed: no")


def test_an_error_without_words_tells_its_code() -> None:
    assert backend_call("Failed")(GatewayCallError("", code="UNKNOWN")).message == "Failed: UNKNOWN"
