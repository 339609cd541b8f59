"""Errors of calls, as the exceptions that users of qiskit-ibm-provider know. The call's own error stays the cause."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from qgateway._errors import GatewayCallError
from qgateway.exceptions import (
    IBMApiError,
    IBMBackendApiError,
    IBMBackendError,
    IBMBackendJobLimitError,
    IBMBackendNotFoundError,
    IBMBackendValueError,
    IBMError,
    IBMJobApiError,
    IBMJobError,
    IBMJobInvalidStateError,
    IBMJobNotFoundError,
    IBMNotAuthorizedError,
)

Translator = Callable[[GatewayCallError], IBMError]

_NOT_AUTHORIZED = ("UNAUTHENTICATED", "PERMISSION_DENIED")
_PROGRAM_TOO_HEAVY = ("MEMORY_LIMIT_EXCEEDED", "TIME_LIMIT_EXCEEDED")
_FAULTS_OF_THE_GATEWAY = ("", "WORKER_CRASHED")


@contextmanager
def translated(translator: Translator) -> Iterator[None]:
    """Raise what a translator makes of a `GatewayCallError` from within the block; the error becomes the cause."""
    try:
        yield
    except GatewayCallError as error:
        raise translator(error) from error


def make_error(kind: type[IBMError], text: str, error: GatewayCallError, job_id: str = "") -> IBMError:
    """Return an exception that tells what went wrong on the wire.

    Args:
        kind: Class of the exception.
        text: What was attempted, such as `Error submitting job`; empty for the call's own words only.
        error: The call's error.
        job_id: Job that the call was about.
    """
    told = error.message or error.code
    message = f"{text}: {told}" if text else told
    return kind(message, job_id=job_id or error.job_id or "", reason=error.reason, code=error.code)


def job_call(text: str, job_id: str) -> Translator:
    """Return the translator for calls about a job: whatever goes wrong is an `IBMJobApiError`."""
    return lambda error: make_error(IBMJobApiError, text, error, job_id)


def job_update(text: str, job_id: str) -> Translator:
    """Return the translator for changes of a job: a value that the gateway refuses is an `IBMJobInvalidStateError`."""

    def translate(error: GatewayCallError) -> IBMError:
        kind: type[IBMJobError] = IBMJobInvalidStateError if error.code == "INVALID_ARGUMENT" else IBMJobApiError
        return make_error(kind, text, error, job_id)

    return translate


def job_cancel(job_id: str) -> Translator:
    """Return the translator for `cancel`: a job that has ended is an `IBMJobInvalidStateError`."""

    def translate(error: GatewayCallError) -> IBMError:
        if error.code == "FAILED_PRECONDITION":
            return make_error(IBMJobInvalidStateError, "Job cannot be cancelled", error, job_id)
        return make_error(IBMJobApiError, "Failed to cancel job", error, job_id)

    return translate


def job_lookup(job_id: str) -> Translator:
    """Return the translator for `retrieve_job`: a job that is not there is an `IBMJobNotFoundError`."""

    def translate(error: GatewayCallError) -> IBMError:
        if error.code == "NOT_FOUND":
            return make_error(IBMJobNotFoundError, "", error, job_id)
        return backend_call("Failed to retrieve job")(error)

    return translate


def backend_call(text: str) -> Translator:
    """Return the translator for calls about backends and for listings."""

    def translate(error: GatewayCallError) -> IBMError:
        if error.code in _NOT_AUTHORIZED:
            return make_error(IBMNotAuthorizedError, text, error)
        if error.code == "INVALID_ARGUMENT":
            return make_error(IBMBackendValueError, text, error)
        return make_error(IBMBackendApiError, text, error)

    return translate


def backend_lookup(name: str) -> Translator:
    """Return the translator for `get_backend`: a backend that is not there is an `IBMBackendNotFoundError`."""

    def translate(error: GatewayCallError) -> IBMError:
        if error.code == "NOT_FOUND":
            return make_error(IBMBackendNotFoundError, "", error)
        return backend_call(f"Failed to retrieve backend {name}")(error)

    return translate


def submission(request_id: str) -> Translator:
    """Return the translator for `run`.

    Args:
        request_id: Named in the error where the gateway may have the job all the same.
    """

    def translate(error: GatewayCallError) -> IBMError:
        text = "Error submitting job"
        if error.code == "RESOURCE_EXHAUSTED" and error.reason in _PROGRAM_TOO_HEAVY:
            return make_error(IBMBackendValueError, text, error)
        if error.code == "RESOURCE_EXHAUSTED" and error.reason not in _FAULTS_OF_THE_GATEWAY:
            return make_error(IBMBackendJobLimitError, text, error)
        if error.reason == "BACKEND_NOT_FOUND":
            return make_error(IBMBackendNotFoundError, text, error)
        if error.code in ("NOT_FOUND", "FAILED_PRECONDITION"):
            return make_error(IBMBackendError, text, error)
        translation = backend_call(text)(error)
        if error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN", "INTERNAL"):
            translation.message += f" Call run() again with request_id={request_id!r} to submit the job at most once."
            translation.args = (translation.message,)
        return translation

    return translate


def service_call(text: str) -> Translator:
    """Return the translator for calls that are about neither a job nor a backend."""

    def translate(error: GatewayCallError) -> IBMError:
        return make_error(IBMNotAuthorizedError if error.code in _NOT_AUTHORIZED else IBMApiError, text, error)

    return translate
