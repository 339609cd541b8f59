"""The error table: domain errors to gRPC codes and `google.rpc` details (AIP-193)."""

from __future__ import annotations

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from gateway.domain import errors
from gateway.domain.errors import GatewayError, Reason

DOMAIN = "qgateway"
"""`ErrorInfo.domain` of every error."""

CODES: dict[type[GatewayError], grpc.StatusCode] = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Aborted: grpc.StatusCode.ABORTED,
    errors.OutOfRange: grpc.StatusCode.OUT_OF_RANGE,
    errors.ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    # No UNAVAILABLE: clients would repeat the call by themselves, for nothing.
    errors.AccountRefused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.SubmissionInDoubt: grpc.StatusCode.UNAVAILABLE,
    errors.Unimplemented: grpc.StatusCode.UNIMPLEMENTED,
    errors.Internal: grpc.StatusCode.INTERNAL,
    # While a program is being read: the program asks for more than it may have, or made its reader crash.
    errors.WorkerFailure: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
"""One code per class of error."""

_NOT_BY_REPEATING = frozenset({grpc.StatusCode.FAILED_PRECONDITION})
"""What no repetition mends: the time after which the gateway itself tries again is of no use to a caller."""

_SUBJECTS = ("job", "session", "backend", "account")
"""What a precondition can be about, the most special first, by the names of its metadata."""

_RESOURCES = {
    Reason.JOB_NOT_FOUND: ("qgateway.v1.Job", "job"),
    Reason.BACKEND_NOT_FOUND: ("qgateway.v1.Backend", "backend"),
    Reason.SESSION_NOT_FOUND: ("qgateway.v1.Session", "session"),
    Reason.ACCOUNT_NOT_FOUND: ("qgateway.v1.Account", "account"),
}


def to_code(error: GatewayError) -> grpc.StatusCode:
    """Return the gRPC code of an error."""
    return CODES[type(error)]


def to_status(error: GatewayError) -> status_pb2.Status:
    """Return an error as `google.rpc.Status`: always one ErrorInfo, each other detail where it applies."""
    status = status_pb2.Status(code=to_code(error).value[0], message=error.message)
    for detail in _details(error):
        status.details.add().Pack(detail)
    return status


def to_trailers(error: GatewayError) -> tuple[tuple[str, str | bytes], ...]:
    """Return the trailing metadata that carry an error's details, and the push-back where the call may be repeated."""
    trailers: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", to_status(error).SerializeToString())]
    if error.retry_after is not None and to_code(error) not in _NOT_BY_REPEATING:
        trailers.append(("grpc-retry-pushback-ms", str(max(1, round(error.retry_after * 1000)))))
    return tuple(trailers)


def _details(error: GatewayError) -> list[Message]:
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)]
    if error.violations:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=violation.field, description=violation.description)
            for violation in error.violations
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if error.quota is not None:
        violation = error_details_pb2.QuotaFailure.Violation(
            subject=error.quota.subject, description=error.quota.description, quota_metric=error.quota.limit
        )
        details.append(error_details_pb2.QuotaFailure(violations=[violation]))
    if error.retry_after is not None and to_code(error) not in _NOT_BY_REPEATING:
        delay = Duration()
        delay.FromNanoseconds(round(error.retry_after * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if error.reason in _RESOURCES:
        resource_type, key = _RESOURCES[error.reason]
        details.append(
            error_details_pb2.ResourceInfo(
                resource_type=resource_type, resource_name=error.metadata.get(key, ""), description=error.message
            )
        )
    if to_code(error) is grpc.StatusCode.FAILED_PRECONDITION:
        subject = next((f"{name}s/{error.metadata[name]}" for name in _SUBJECTS if name in error.metadata), "")
        condition = error_details_pb2.PreconditionFailure.Violation(
            type=error.reason, subject=subject, description=error.message
        )
        details.append(error_details_pb2.PreconditionFailure(violations=[condition]))
    return details
