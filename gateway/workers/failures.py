"""Errors on their way out of a worker process: turned into plain data there, and built again here."""

from __future__ import annotations

from typing import Any

from gateway.domain import errors
from gateway.domain.errors import FieldViolation, GatewayError, Reason

_CLASSES = {
    cls.__name__: cls
    for cls in (
        GatewayError,
        errors.InvalidArgument,
        errors.FailedPrecondition,
        errors.NotFound,
        errors.OutOfRange,
        errors.ResourceExhausted,
        errors.Unimplemented,
        errors.WorkerFailure,
    )
}


def to_data(error: GatewayError) -> dict[str, Any]:
    """Return an error as JSON values."""
    return {
        "class": type(error).__name__,
        "message": error.message,
        "reason": error.reason.value,
        "metadata": error.metadata,
        "violations": [[violation.field, violation.description] for violation in error.violations],
    }


def from_data(data: dict[str, Any]) -> GatewayError:
    """Build an error from what a worker sent.

    Raises:
        KeyError: Something is missing.
        TypeError: Something has the wrong type.
        ValueError: The reason is not known.
    """
    cls = _CLASSES[data["class"]]
    return cls(
        str(data["message"]),
        reason=Reason(data["reason"]),
        metadata={str(name): str(value) for name, value in data["metadata"].items()},
        violations=[FieldViolation(str(field), str(description)) for field, description in data["violations"]],
    )
