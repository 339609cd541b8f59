"""The error of a call to the gateway, with all that the answer told.

Imports neither grpc nor qiskit: an error is read by its methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from qgateway._advice import what_to_do

_DETAILS_KEY = "grpc-status-details-bin"


class Violation(NamedTuple):
    """What is wrong with one field of a request, or with one limit or precondition."""

    field: str
    """Path of the field in the request, such as `options.shots`; or the name of the limit or of the precondition."""
    description: str
    """What is wrong and what would be right."""


@dataclass(frozen=True)
class ErrorDetails:
    """The machine-readable part of an error."""

    reason: str = ""
    """UPPER_SNAKE cause, such as `JOB_NOT_FOUND`. Empty if the gateway gave none, as when it was not reached."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Values of the message, by name."""
    violations: Sequence[Violation] = ()
    """Fields, limits and preconditions that were not met."""
    retry_after: float | None = None
    """Seconds after which the call may be repeated. None: the gateway did not say."""


class RpcFailure(Protocol):
    """What is read of a `grpc.RpcError`, from grpc and grpc.aio alike."""

    def code(self) -> Any:
        """Return the `grpc.StatusCode`."""

    def details(self) -> str | None:
        """Return the message."""

    def trailing_metadata(self) -> Any:
        """Return pairs of key and value, or None."""


class GatewayCallError(Exception):
    """A call to the gateway did not succeed.

    Args:
        message: What happened, for people.
        code: Name of the gRPC status code, such as `NOT_FOUND`.
        details: The machine-readable part, or the serialised `google.rpc.Status` to read it from when it is asked for.
        job_id: Job that the call was about, if any.
        target: Address of the gateway.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "UNKNOWN",
        details: ErrorDetails | bytes = b"",
        job_id: str | None = None,
        target: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.job_id = job_id
        self.target = target
        self._details = details

    @classmethod
    def from_rpc_error(
        cls,
        error: RpcFailure,
        *,
        job_id: str | None = None,
        target: str = "",
        is_away: Callable[[], bool] = lambda: False,
    ) -> GatewayCallError:
        """Make the error from the one that grpc raised.

        A call that waited for a connection until its deadline fails in grpc like one that the gateway did not answer in time. Here
        it is UNAVAILABLE, as when the connection is refused.

        Args:
            error: A `grpc.RpcError` that is also a call, as grpc raises them.
            job_id: Job that the call was about.
            target: Address of the gateway.
            is_away: Tells whether no connection can be made.
        """
        code, message = error.code().name, error.details() or ""
        trailers = error.trailing_metadata() or ()
        details = next((value for key, value in trailers if key == _DETAILS_KEY), b"")
        if code == "DEADLINE_EXCEEDED" and not details and is_away():
            code, message = "UNAVAILABLE", "no connection came about until the deadline of the call"
        if code == "UNAVAILABLE" and not details:
            said = f": {message.rstrip('.')}" if message else ""
            message = f"The gateway cannot be reached at {target}{said}. {what_to_do('', code, target)}"
        return cls(message, code=code, details=details, job_id=job_id, target=target)

    @property
    def details(self) -> ErrorDetails:
        """The machine-readable part; empty if the answer had none."""
        if isinstance(self._details, bytes):
            self._details = _parse_details(self._details)
        return self._details

    @property
    def reason(self) -> str:
        """UPPER_SNAKE cause, such as `JOB_NOT_FOUND`; empty if the gateway gave none."""
        return self.details.reason

    @property
    def metadata(self) -> Mapping[str, str]:
        """Values of the message, by name."""
        return self.details.metadata

    @property
    def violations(self) -> Sequence[Violation]:
        """Fields, limits and preconditions that were not met."""
        return self.details.violations

    @property
    def retry_after(self) -> float | None:
        """Seconds after which the call may be repeated; None if the gateway did not say."""
        return self.details.retry_after

    def diagnostics(self) -> str:
        """Return several lines for a person: what happened, where, and what to do next."""
        cause = f"{self.code} ({self.reason})" if self.reason else self.code
        lines = [f"{self.message or 'The call failed.'}", f"  code: {cause}"]
        if self.job_id:
            lines.append(f"  job: {self.job_id}")
        if self.target:
            lines.append(f"  gateway: {self.target}")
        lines += [
            f"  {violation.field}: {violation.description}"
            for violation in self.violations
            if f"{violation.field}: {violation.description}" not in self.message
        ]
        if self.retry_after is not None:
            lines.append(f"  may be repeated after: {self.retry_after:g} s")
        advice = what_to_do(self.reason, self.code, self.target)
        if advice and advice not in self.message:
            lines.append(advice)
        return "\n".join(lines)


def _parse_details(data: bytes) -> ErrorDetails:
    """Read a serialised `google.rpc.Status`. What cannot be read is left out: it must not hide the error itself."""
    from google.protobuf.message import DecodeError
    from google.rpc import error_details_pb2, status_pb2

    reason, metadata, violations, retry_after = "", {}, [], None
    try:
        for packed in status_pb2.Status.FromString(data).details:
            kind = packed.TypeName().rpartition(".")[2]
            if packed.TypeName() != f"google.rpc.{kind}" or not hasattr(error_details_pb2, kind):
                continue
            detail = getattr(error_details_pb2, kind).FromString(packed.value)
            if kind == "ErrorInfo":
                reason, metadata = detail.reason, dict(detail.metadata)
            elif kind == "BadRequest":
                violations += [Violation(each.field, each.description) for each in detail.field_violations]
            elif kind in ("QuotaFailure", "PreconditionFailure"):
                violations += [Violation(each.subject, each.description) for each in detail.violations]
            elif kind == "RetryInfo":
                retry_after = detail.retry_delay.seconds + detail.retry_delay.nanos / 1e9
    except DecodeError:
        pass
    return ErrorDetails(reason, metadata, tuple(violations), retry_after)
