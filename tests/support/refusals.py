"""Errors of scripted gRPC servers, with the details that clients read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

Behaviour = Callable[[Any, grpc.ServicerContext], Any]
"""What a scripted method does: a function of request and context."""


def refuse(
    context: grpc.ServicerContext,
    code: str,
    message: str = "It does not work.",
    *,
    reason: str = "",
    metadata: dict[str, str] | None = None,
    retry_after: float | None = None,
    violations: dict[str, str] | None = None,
) -> NoReturn:
    """End the call with an error, with `google.rpc` details where any are given."""
    details: list[Any] = []
    if reason:
        details.append(error_details_pb2.ErrorInfo(reason=reason, domain="qgateway", metadata=metadata or {}))
    if retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(retry_after * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if violations:
        bad = error_details_pb2.BadRequest()
        for field, description in violations.items():
            bad.field_violations.add(field=field, description=description)
        details.append(bad)
    if not details:
        context.abort(grpc.StatusCode[code], message)
    packed = []
    for detail in details:
        each = any_pb2.Any()
        each.Pack(detail)
        packed.append(each)
    status = status_pb2.Status(code=code_pb2.Code.Value(code), message=message, details=packed)
    context.abort_with_status(rpc_status.to_status(status))


def refusal(code: str, message: str = "It does not work.", **details: Any) -> Behaviour:
    """Return a behaviour that ends the call with an error."""
    return lambda _request, context: refuse(context, code, message, **details)
