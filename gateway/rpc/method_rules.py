"""What each method needs, as the contract says: the option `rules` of every method in `protos/qgateway/v1`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from qgateway.v1 import (
    account_service_pb2,
    admin_service_pb2,
    backend_service_pb2,
    job_service_pb2,
    method_rules_pb2,
    server_service_pb2,
    session_service_pb2,
)

from gateway.domain.access import Scope

_FILES = (
    job_service_pb2,
    backend_service_pb2,
    session_service_pb2,
    account_service_pb2,
    admin_service_pb2,
    server_service_pb2,
)


@dataclass(frozen=True, slots=True)
class MethodRules:
    """What the calls of a method need, and how they behave."""

    scope: Scope
    """What the caller must be allowed to do."""
    read_only: bool
    """Whether a call changes nothing."""
    repeatable: bool
    """Whether clients may repeat a call whose answer was lost."""
    default_deadline: float | None
    """Seconds that a call may take if its caller sets no deadline; None: as long as it likes."""
    audited: bool
    """Whether a call and its outcome are recorded, also when it is refused."""


def services() -> Iterator[ServiceDescriptor]:
    """Yield the services of the contract."""
    for file in _FILES:
        yield from file.DESCRIPTOR.services_by_name.values()


def methods() -> Iterator[MethodDescriptor]:
    """Yield the methods of the contract."""
    for service in services():
        yield from service.methods


def path_of(method: MethodDescriptor) -> str:
    """Return a method's full name as it is called, `/package.Service/Method`."""
    return f"/{method.containing_service.full_name}/{method.name}"


def rules_of(method: MethodDescriptor) -> MethodRules:
    """Return the rules of a method.

    Raises:
        ValueError: The contract leaves one of them out.
    """
    options = method.GetOptions()
    rules = options.Extensions[method_rules_pb2.rules]
    if not rules.scope or not rules.idempotency:
        raise ValueError(f"{method.full_name} has no complete rules")
    return MethodRules(
        scope=Scope(method_rules_pb2.Scope.Name(rules.scope).removeprefix("SCOPE_").lower().replace("_", ".")),
        read_only=rules.idempotency == method_rules_pb2.IDEMPOTENCY_READ_ONLY,
        repeatable=rules.idempotency != method_rules_pb2.IDEMPOTENCY_ONCE,
        default_deadline=rules.default_deadline.ToTimedelta().total_seconds()
        if rules.HasField("default_deadline")
        else None,
        audited=rules.audited,
    )


RULES: Mapping[str, MethodRules] = MappingProxyType({path_of(method): rules_of(method) for method in methods()})
"""The rules of every method, by its full name as it is called."""
