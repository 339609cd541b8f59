"""The errors that the gateway can answer with.

One class per kind of trouble, one `Reason` per cause. `gateway.rpc.errors` maps classes to gRPC codes; clients rebuild their
exceptions from the reason. A message is for people: it says what is wrong and what to do, and never carries a secret.

    GatewayError
    ├── InvalidArgument      the request is wrong, whatever the state of the system
    ├── Unauthenticated      no valid credentials
    ├── PermissionDenied     valid credentials, not allowed
    ├── NotFound             no such thing, or none that the caller may see
    ├── AlreadyExists        a request id was used for something else
    ├── FailedPrecondition   right request, wrong state
    ├── Aborted              somebody else was faster
    ├── OutOfRange           beyond what exists
    ├── ResourceExhausted    a limit is reached
    ├── Unavailable          try again later
    │   └── AccountRefused   the provider does not let the account in: an operator has to act
    ├── SubmissionInDoubt    the provider may or may not have taken a job
    ├── Unimplemented        this server, or this backend, does not do that
    └── Internal             a bug
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.domain.redaction import redact


class Reason(StrEnum):
    """Machine-readable cause of an error: the `ErrorInfo.reason` on the wire."""

    INVALID_FIELD = "INVALID_FIELD"
    """A field of the request has a wrong value."""
    INVALID_PROGRAM = "INVALID_PROGRAM"
    """A program cannot be read, or the backend cannot run it."""
    PROGRAM_NOT_UPLOADED = "PROGRAM_NOT_UPLOADED"
    """The tenant has uploaded no program of that address, or too long ago."""
    PROGRAM_TOO_LARGE = "PROGRAM_TOO_LARGE"
    """A program has more bytes than the server takes."""
    UPLOAD_CORRUPT = "UPLOAD_CORRUPT"
    """What came is not what the caller announced."""
    UNSUPPORTED_OPTION = "UNSUPPORTED_OPTION"
    """The backend cannot do what an option asks for."""
    INVALID_PAGE_TOKEN = "INVALID_PAGE_TOKEN"
    """A page token is broken, or was made for other arguments."""
    INVALID_RESUME_TOKEN = "INVALID_RESUME_TOKEN"
    """A resume token is broken."""
    API_KEY_MISSING = "API_KEY_MISSING"
    """The call carries no API key."""
    API_KEY_INVALID = "API_KEY_INVALID"
    """The API key is not known."""
    API_KEY_EXPIRED = "API_KEY_EXPIRED"
    """The API key was valid until some time ago."""
    API_KEY_REVOKED = "API_KEY_REVOKED"
    """The API key was valid until an operator revoked it."""
    CERTIFICATE_UNKNOWN = "CERTIFICATE_UNKNOWN"
    """The client certificate names no caller of the gateway."""
    CERTIFICATE_EXPIRED = "CERTIFICATE_EXPIRED"
    """The client certificate has expired since the connection was made."""
    TOKEN_INVALID = "TOKEN_INVALID"
    """The token is broken, or not one that the gateway accepts."""
    TOKEN_EXPIRED = "TOKEN_EXPIRED"
    """The token was valid until some time ago."""
    TOKEN_ISSUER_UNKNOWN = "TOKEN_ISSUER_UNKNOWN"
    """The gateway accepts no tokens of that issuer."""
    TOKEN_KEYS_UNAVAILABLE = "TOKEN_KEYS_UNAVAILABLE"
    """The keys of the token's issuer cannot be fetched."""
    ROLE_MISSING = "ROLE_MISSING"
    """The caller lacks the role for this call."""
    JOB_NOT_FOUND = "JOB_NOT_FOUND"
    """No such job."""
    BACKEND_NOT_FOUND = "BACKEND_NOT_FOUND"
    """No such backend."""
    ACCOUNT_NOT_FOUND = "ACCOUNT_NOT_FOUND"
    """No such account."""
    API_KEY_NOT_FOUND = "API_KEY_NOT_FOUND"
    """No such API key."""
    SESSION_NOT_FOUND = "SESSION_NOT_FOUND"
    """No such session."""
    SESSION_CLOSED = "SESSION_CLOSED"
    """The session takes no further jobs."""
    SESSIONS_UNSUPPORTED = "SESSIONS_UNSUPPORTED"
    """The account's provider has no sessions."""
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    """The request id was used for a different request."""
    JOB_FINAL = "JOB_FINAL"
    """The job is in a final status."""
    JOB_NOT_FINAL = "JOB_NOT_FINAL"
    """The job is not in a final status."""
    RESULT_NOT_READY = "RESULT_NOT_READY"
    """The job is not done yet."""
    RESULT_ABSENT = "RESULT_ABSENT"
    """The job ended without a result."""
    RESULT_TOO_LARGE = "RESULT_TOO_LARGE"
    """The result does not fit into one message."""
    RESULT_LIMIT_EXCEEDED = "RESULT_LIMIT_EXCEEDED"
    """The result is larger than the job's account takes in."""
    ETAG_MISMATCH = "ETAG_MISMATCH"
    """The job changed since the etag was read."""
    OFFSET_BEYOND_END = "OFFSET_BEYOND_END"
    """A download was asked to begin behind the end."""
    HISTORY_COMPACTED = "HISTORY_COMPACTED"
    """The history after the resume token is no longer kept."""
    QUEUE_FULL = "QUEUE_FULL"
    """The backend takes no more jobs for now."""
    TOO_MANY_STREAMS = "TOO_MANY_STREAMS"
    """The server has no room for another stream."""
    TOO_MANY_TRANSFERS = "TOO_MANY_TRANSFERS"
    """The caller has as many uploads and downloads under way as it may have."""
    STREAM_STALLED = "STREAM_STALLED"
    """The reader of a stream took nothing for too long."""
    SERVER_STOPPING = "SERVER_STOPPING"
    """The server is about to stop."""
    PROVIDER_UNAVAILABLE = "PROVIDER_UNAVAILABLE"
    """The provider cannot be reached."""
    CREDENTIALS_REFUSED = "CREDENTIALS_REFUSED"
    """The provider refuses the key of the account."""
    INSTANCE_REFUSED = "INSTANCE_REFUSED"
    """The account's key does not open the account's instance at the provider."""
    INSTANCE_LIMIT_REACHED = "INSTANCE_LIMIT_REACHED"
    """The account has used up what it may use at the provider, or has too many jobs pending there."""
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    """The job asks for more than the tenant may have in one job."""
    PENDING_JOBS_EXCEEDED = "PENDING_JOBS_EXCEEDED"
    """The tenant has as many unfinished jobs as it may have."""
    BUDGET_EXCEEDED = "BUDGET_EXCEEDED"
    """The QPU time that the tenant has left in the period is not enough for the job."""
    SUBMISSION_RATE_EXCEEDED = "SUBMISSION_RATE_EXCEEDED"
    """The tenant submits more jobs a minute than it may."""
    CALL_RATE_EXCEEDED = "CALL_RATE_EXCEEDED"
    """The caller makes more calls a second than it may."""
    RATE_LIMITED = "RATE_LIMITED"
    """The provider wants fewer calls for now."""
    PROVIDER_REJECTED = "PROVIDER_REJECTED"
    """The provider refuses the request for good."""
    SUBMISSION_IN_DOUBT = "SUBMISSION_IN_DOUBT"
    """A job was sent to the provider, and whether it was taken is not known yet."""
    BACKEND_NOT_OPERATIONAL = "BACKEND_NOT_OPERATIONAL"
    """The backend takes no jobs now."""
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    """The call took longer than a call without a deadline may take."""
    WORKER_CRASHED = "WORKER_CRASHED"
    """The process that worked on the program died."""
    TIME_LIMIT_EXCEEDED = "TIME_LIMIT_EXCEEDED"
    """The work took longer than allowed."""
    MEMORY_LIMIT_EXCEEDED = "MEMORY_LIMIT_EXCEEDED"
    """The work needs more memory than allowed."""
    PROVIDER_ERROR = "PROVIDER_ERROR"
    """The provider reports an error of the job."""
    CANCELLED_BY_CALLER = "CANCELLED_BY_CALLER"
    """A caller cancelled the job."""
    CANCELLED_UPSTREAM = "CANCELLED_UPSTREAM"
    """The job was cancelled at the provider, and not through the gateway."""
    RPC_NOT_IMPLEMENTED = "RPC_NOT_IMPLEMENTED"
    """The server does not have this RPC yet."""
    INTERNAL = "INTERNAL"
    """A bug of the gateway."""


@dataclass(frozen=True, slots=True)
class QuotaViolation:
    """Which limit a request would exceed."""

    subject: str
    """Whose limit it is, such as `tenants/research`."""
    limit: str
    """Name of the limit, such as `pending_jobs`."""
    description: str
    """The limit, what is used of it, and when it is reset."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """What is wrong with one field of a request."""

    field: str
    """Path of the field in the request message, such as `options.shots` or `program.openqasm.circuits[0].source`."""
    description: str
    """What is wrong and what would be right."""


_LONGEST = 1_000
"""Most characters of a text of an error. It travels as metadata, several times over, and clients take 8 KiB of these in all."""


class GatewayError(Exception):
    """Base of all errors that a caller is meant to see.

    Secrets are taken out of its texts, whoever put them there, and long texts are cut.

    Args:
        message: One or two sentences for people.
        reason: Machine-readable cause.
        metadata: Values of the message, by name, for programs.
        violations: Fields of the request that are wrong.
        quota: Limit that the request would exceed.
        retry_after: Seconds after which the call may be repeated; None if repeating does not help.
    """

    default_reason = Reason.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        reason: Reason | None = None,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[FieldViolation] = (),
        quota: QuotaViolation | None = None,
        retry_after: float | None = None,
    ) -> None:
        message = _told(message)
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.metadata = {name: _told(value) for name, value in (metadata or {}).items()}
        self.violations = tuple(FieldViolation(_told(each.field), _told(each.description)) for each in violations)
        self.quota = quota
        self.retry_after = retry_after


class InvalidArgument(GatewayError):
    """The request is wrong, whatever the state of the system."""

    default_reason = Reason.INVALID_FIELD

    @classmethod
    def field(cls, field: str, description: str, *, reason: Reason | None = None) -> InvalidArgument:
        """Make the error for one wrong field."""
        return cls(f"{field}: {description}", reason=reason, violations=[FieldViolation(field, description)])


class Unauthenticated(GatewayError):
    """The call carries no valid credentials."""

    default_reason = Reason.API_KEY_INVALID


class PermissionDenied(GatewayError):
    """The caller is known and is not allowed to do this."""

    default_reason = Reason.ROLE_MISSING


class NotFound(GatewayError):
    """There is no such thing, or none that the caller may see."""

    default_reason = Reason.JOB_NOT_FOUND

    @classmethod
    def job(cls, job_id: str) -> NotFound:
        """Make the error for a job: the same words whether it is absent or somebody else's."""
        return cls(f"There is no job {job_id!r}.", reason=Reason.JOB_NOT_FOUND, metadata={"job": job_id})

    @classmethod
    def backend(cls, backend: str) -> NotFound:
        """Make the error for a backend."""
        return cls(
            f"There is no backend {backend!r}. ListBackends tells which there are.",
            reason=Reason.BACKEND_NOT_FOUND,
            metadata={"backend": backend},
        )

    @classmethod
    def api_key(cls, key_id: str) -> NotFound:
        """Make the error for an API key."""
        return cls(f"There is no API key {key_id!r}.", reason=Reason.API_KEY_NOT_FOUND, metadata={"api_key": key_id})

    @classmethod
    def session(cls, session_id: str) -> NotFound:
        """Make the error for a session: the same words whether it is absent or somebody else's."""
        return cls(
            f"There is no session {session_id!r}.", reason=Reason.SESSION_NOT_FOUND, metadata={"session": session_id}
        )


class AlreadyExists(GatewayError):
    """A request id was used for something else."""

    default_reason = Reason.REQUEST_ID_REUSED


class FailedPrecondition(GatewayError):
    """The request is right, the state is wrong."""

    default_reason = Reason.JOB_FINAL


class Aborted(GatewayError):
    """Somebody else was faster: read again, then decide."""

    default_reason = Reason.ETAG_MISMATCH


class OutOfRange(GatewayError):
    """The request points beyond what exists."""

    default_reason = Reason.OFFSET_BEYOND_END


class ResourceExhausted(GatewayError):
    """A limit is reached."""

    default_reason = Reason.QUEUE_FULL


class Unavailable(GatewayError):
    """Something is away for the moment."""

    default_reason = Reason.PROVIDER_UNAVAILABLE


class AccountRefused(Unavailable):
    """The provider does not let an account in: its key or its instance is wrong.

    Jobs wait, as for all that is `Unavailable`: an operator can put it right without a restart. A call is not worth repeating
    before that.
    """

    default_reason = Reason.CREDENTIALS_REFUSED


class DeadlineExceeded(GatewayError):
    """A call took longer than it may."""

    default_reason = Reason.DEADLINE_EXCEEDED


class SubmissionInDoubt(GatewayError):
    """A job was sent, and the provider's answer is missing: it may or may not have taken the job.

    It is no `Unavailable`, so that nobody takes it for an invitation to send the job again. Look the job up by its marker first;
    finding nothing counts only `retry_after` seconds later.
    """

    default_reason = Reason.SUBMISSION_IN_DOUBT


class Unimplemented(GatewayError):
    """This server does not do that."""

    default_reason = Reason.RPC_NOT_IMPLEMENTED


class Internal(GatewayError):
    """A bug of the gateway."""

    default_reason = Reason.INTERNAL


class WorkerFailure(GatewayError):
    """The process that worked on a program died, or ran over a limit.

    Its reason is WORKER_CRASHED, TIME_LIMIT_EXCEEDED or MEMORY_LIMIT_EXCEEDED. During a run it makes the job ERROR; while a
    program is being read, the caller gets it as INVALID_ARGUMENT or RESOURCE_EXHAUSTED by `gateway.rpc.errors`.
    """

    default_reason = Reason.WORKER_CRASHED


def _told(text: str) -> str:
    """Return a text as callers may see it."""
    text = redact(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."
