"""The exceptions of the client: the names and bases of qiskit-ibm-provider, with the facts as fields.

    QiskitError                                     (qiskit.exceptions)
    ├── JobError                                    (qiskit.providers)
    │   ├── JobTimeoutError                         (qiskit.providers)
    │   │   └── IBMJobTimeoutError                  also an IBMJobError
    │   └── IBMJobError                             also an IBMError
    │       ├── IBMJobApiError                      the gateway did not answer, or refused
    │       ├── IBMJobFailureError                  the job failed
    │       ├── IBMJobInvalidStateError             not in this state, or not with this argument
    │       ├── IBMJobNotFoundError                 no such job
    │       └── IBMJobTimeoutError                  not final in time
    └── IBMError
        ├── IBMAccountError                         there is no account to save, load or delete
        ├── IBMProviderError
        │   ├── IBMProviderValueError
        │   ├── IBMProviderCredentialsNotFound
        │   ├── IBMProviderMultipleCredentialsFound
        │   ├── IBMProviderCredentialsInvalidFormat
        │   ├── IBMProviderCredentialsInvalidToken
        │   └── IBMProviderCredentialsInvalidUrl
        ├── IBMBackendError
        │   ├── IBMBackendApiError                  the gateway did not answer, or refused
        │   │   └── IBMBackendApiProtocolError      it answered with something unreadable
        │   ├── IBMBackendNotFoundError             also a QiskitBackendNotFoundError: no such backend
    │   ├── IBMBackendValueError                also a ValueError: an argument is wrong
        │   └── IBMBackendJobLimitError             no more jobs for now
        ├── IBMInputValueError                      an argument is wrong
        ├── IBMNotAuthorizedError                   no valid API key, or not allowed
        ├── IBMApiError                             a call that is about neither a job nor a backend went wrong
        └── ApiError                                names kept so that `except` clauses still import
            ├── RequestsApiError
            ├── WebsocketError
            ├── AuthenticationLicenseError
            ├── ApiIBMProtocolError
            └── UserTimeoutExceededError

`except JobError` catches every job error, as before. What failed on the wire is the `__cause__`: a `GatewayCallError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qiskit.exceptions import QiskitError
from qiskit.providers import JobError, JobTimeoutError, QiskitBackendNotFoundError

from qgateway._advice import what_to_do

if TYPE_CHECKING:
    from qgateway.job_parts import PendingReason

__all__ = [
    "ApiError",
    "ApiIBMProtocolError",
    "AuthenticationLicenseError",
    "IBMAccountError",
    "IBMApiError",
    "IBMBackendApiError",
    "IBMBackendApiProtocolError",
    "IBMBackendError",
    "IBMBackendJobLimitError",
    "IBMBackendNotFoundError",
    "IBMBackendValueError",
    "IBMError",
    "IBMInputValueError",
    "IBMJobApiError",
    "IBMJobError",
    "IBMJobFailureError",
    "IBMJobInvalidStateError",
    "IBMJobNotFoundError",
    "IBMJobTimeoutError",
    "IBMNotAuthorizedError",
    "IBMProviderCredentialsInvalidFormat",
    "IBMProviderCredentialsInvalidToken",
    "IBMProviderCredentialsInvalidUrl",
    "IBMProviderCredentialsNotFound",
    "IBMProviderError",
    "IBMProviderMultipleCredentialsFound",
    "IBMProviderValueError",
    "RequestsApiError",
    "UserTimeoutExceededError",
    "WebsocketError",
]


class IBMError(QiskitError):  # type: ignore[misc]
    """Base of all errors that this client defines.

    Args:
        message: What is wrong and what to do; several parts are joined by a space.
        job_id: Id of the job that the error is about.
        reason: Machine-readable cause, UPPER_SNAKE, such as `JOB_NOT_FOUND`.
        code: For a failed job the provider's error code; for a failed call the name of the gRPC status, such as
            `NOT_FOUND`.

    Attributes:
        message: The text.
        job_id: As given; empty if the error is about no job.
        reason: As given, else that of the class; empty if there is none.
        code: As given; empty if there is none.
    """

    default_reason = ""

    def __init__(self, *message: str, job_id: str = "", reason: str = "", code: str = "") -> None:
        super().__init__(*message)
        self.job_id = job_id
        self.reason = reason or self.default_reason
        self.code = code

    def __str__(self) -> str:
        """Return the message as it is, so that a wrapped one does not gather quotes."""
        return str(self.message)

    def diagnostics(self) -> str:
        """Return several lines for people: what is wrong, with which job, why, and what to do next."""
        lines = [self.message]
        if self.job_id:
            lines.append(f"job: {self.job_id}")
        cause = getattr(self.__cause__, "diagnostics", None)
        if cause is None:
            return "\n".join(lines + self._why())
        first, *more = cause().splitlines()
        return "\n".join([*lines, *([] if first in self.message else [first]), *more])

    def _why(self) -> list[str]:
        """Return the cause and what to do, as lines."""
        reason = f"reason: {self.reason}" + (f" (code {self.code})" if self.code else "") if self.reason else ""
        return [line for line in (reason, what_to_do(self.reason)) if line]


class IBMAccountError(IBMError):
    """There is no account to save, load or delete: the gateway holds the provider keys."""


class IBMProviderError(IBMError):
    """Base of the errors of the provider object."""


class IBMProviderValueError(IBMProviderError):
    """An argument of the provider has a wrong value."""


class IBMProviderCredentialsNotFound(IBMProviderError):
    """There is no API key."""


class IBMProviderMultipleCredentialsFound(IBMProviderError):
    """There is more than one API key. Kept for `except` clauses; never raised."""


class IBMProviderCredentialsInvalidFormat(IBMProviderError):
    """The connection settings cannot be read."""


class IBMProviderCredentialsInvalidToken(IBMProviderError):
    """The API key is malformed."""


class IBMProviderCredentialsInvalidUrl(IBMProviderError):
    """The target is malformed."""


class IBMBackendError(IBMError):
    """Base of the errors of a backend."""


class IBMBackendApiError(IBMBackendError):
    """The gateway did not answer a call about a backend or a listing, or refused it."""


class IBMBackendApiProtocolError(IBMBackendApiError):
    """The gateway answered with something that this client cannot read."""


class IBMBackendNotFoundError(QiskitBackendNotFoundError, IBMBackendError):  # type: ignore[misc]
    """There is no such backend, or several of that description."""

    default_reason = "BACKEND_NOT_FOUND"


class IBMBackendValueError(IBMBackendError, ValueError):
    """An argument of `run` or of a listing has a wrong value."""

    default_reason = "INVALID_FIELD"


class IBMBackendJobLimitError(IBMBackendError):
    """The backend, or a limit of the caller, takes no more jobs for now."""


class IBMInputValueError(IBMError):
    """An argument has a wrong value."""

    default_reason = "INVALID_FIELD"


class IBMNotAuthorizedError(IBMError):
    """The caller has no valid API key, or may not do this."""


class IBMApiError(IBMError):
    """A call that is about neither a job nor a backend went wrong."""


class ApiError(IBMError):
    """Base of the low-level errors of the original. Kept for `except` clauses; never raised."""


class RequestsApiError(ApiError):
    """An HTTP error of the original. Kept for `except` clauses; never raised.

    Args:
        message: The text.
        status_code: HTTP status; -1 if unknown.
    """

    def __init__(self, message: str, status_code: int = -1) -> None:
        super().__init__(message)
        self.status_code = status_code


class WebsocketError(ApiError):
    """A websocket error of the original. Kept for `except` clauses; never raised."""


class AuthenticationLicenseError(ApiError):
    """A licence error of the original. Kept for `except` clauses; never raised."""


class ApiIBMProtocolError(ApiError):
    """A protocol error of the original. Kept for `except` clauses; never raised."""


class UserTimeoutExceededError(ApiError):
    """A timeout of the original. Kept for `except` clauses; never raised."""


class IBMJobError(JobError, IBMError):  # type: ignore[misc]
    """Base of the errors of a job."""


class IBMJobApiError(IBMJobError):
    """The gateway did not answer a call about a job, or refused it."""


class IBMJobFailureError(IBMJobError):
    """The job failed, so there is no result."""


class IBMJobInvalidStateError(IBMJobError):
    """The job is in the wrong state for this, or an argument has a wrong value."""


class IBMJobNotFoundError(IBMJobError):
    """There is no such job, or none that the caller may see."""


class IBMJobTimeoutError(JobTimeoutError, IBMJobError):  # type: ignore[misc]
    """The job did not reach a final state in time.

    Args:
        message: The text.
        job_id: Id of the job.
        reason: Machine-readable cause.
        pending_reason: Why the job was not done, as last known.

    Attributes:
        pending_reason: As given.
    """

    def __init__(
        self, *message: str, job_id: str = "", reason: str = "TIMEOUT", pending_reason: PendingReason | None = None
    ) -> None:
        super().__init__(*message, job_id=job_id, reason=reason)
        self.pending_reason = pending_reason

    def _why(self) -> list[str]:
        waits = self.pending_reason
        if waits is None:
            return super()._why()
        return [
            f"reason: {self.reason}",
            f"waiting: {waits.kind}: {waits.message}",
            *filter(None, [what_to_do(waits.kind)]),
        ]
