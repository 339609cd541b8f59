"""Every call passes here: who calls, may they, and how an error is told.

Servicers behind it find the caller in `current_caller()` and simply raise domain errors.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, TypeAlias

import grpc
import structlog

from gateway.access.authenticator import Authenticator
from gateway.access.call_rate import CallRate
from gateway.access.open_calls import OpenCalls
from gateway.domain.access import AuditEntry, Caller, Role
from gateway.domain.errors import (
    GatewayError,
    Internal,
    InvalidArgument,
    PermissionDenied,
    Reason,
    Unimplemented,
)
from gateway.domain.job import utc_now
from gateway.engine.audit import AuditTrail
from gateway.rpc.deadlines import Deadline
from gateway.rpc.errors import to_code, to_trailers
from gateway.rpc.method_rules import RULES
from gateway.rpc.readable import MISTAKE, OpenStreams, Unreadable, behaviour_of, public, rebuilt, tolerant

_log = structlog.get_logger(__name__)

_caller: ContextVar[Caller] = ContextVar("caller")

_PUBLIC_SERVICES = ("/grpc.health.v1.Health/", "/grpc.reflection.")
"""Services that need no credentials: load balancers and tools ask them before they have any."""

_MAX_RECORDED = 256
"""Most characters of a field that the audit trail repeats of a refused call."""

_READ_BY_SERVICER = frozenset({"/qgateway.v1.JobService/UploadProgram"})
"""Methods whose requests come as bytes: to decode a chunk would copy it twice."""

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Context = grpc.aio.ServicerContext[Any, Any]


def current_caller() -> Caller:
    """Return the caller of the call that is being answered."""
    return _caller.get()


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Authenticates each call, checks the role it needs, and answers errors by the error table."""

    def __init__(
        self, authenticator: Authenticator, trail: AuditTrail, open_calls: OpenCalls, call_rate: CallRate
    ) -> None:
        self._authenticator = authenticator
        self._trail = trail
        self._open_calls = open_calls
        self._call_rate = call_rate
        self._public_streams = OpenStreams()
        self._handlers: dict[str, _Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Return the handler of an RPC, wrapped; each is wrapped once."""
        method = handler_call_details.method
        if method in self._handlers:
            return self._handlers[method]
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        is_public = method.startswith(_PUBLIC_SERVICES)
        handler = public(handler, self._public_streams) if is_public else self._wrap(method, handler)
        self._handlers[method] = handler
        return handler

    def _wrap(self, method: str, handler: _Handler) -> _Handler:
        behaviour = behaviour_of(handler)
        gate = _Gate(
            method,
            self._authenticator,
            self._trail,
            self._call_rate,
            implemented=not behaviour.__func__.__module__.endswith("_pb2_grpc"),
        )

        async def answer(request: object, context: _Context) -> object:
            try:
                await gate.admit(request, context)
                if gate.records_success:
                    await gate.record(request, context)
                if gate.deadline is None:
                    with self._open_calls.of(current_caller()):
                        return await behaviour(request, context)
                if context.time_remaining() is not None:  # gRPC sees to it
                    return await behaviour(request, context)
                return await gate.deadline.of(behaviour(request, context))
            except Exception as error:
                gate.refused(error, request, context)
                await _abort(method, error, context)
                raise

        # Streams are written by their handlers themselves, which are coroutines like those that answer once.
        return rebuilt(
            handler,
            answer,
            request_deserializer=None if method in _READ_BY_SERVICER else tolerant(handler.request_deserializer),
            response_serializer=_sparing(handler.response_serializer),
        )


class _Gate:
    """Lets those calls of a method pass that its rules allow."""

    def __init__(
        self, method: str, authenticator: Authenticator, trail: AuditTrail, call_rate: CallRate, *, implemented: bool
    ) -> None:
        self._method = method
        self._authenticator = authenticator
        self._trail = trail
        self._call_rate = call_rate
        self._implemented = implemented
        self._rules = RULES[method]
        self._permitted = tuple(role for role in Role if role.grants(self._rules.scope))
        seconds = self._rules.default_deadline
        self.deadline = None if seconds is None else Deadline(seconds)
        """Of the calls for which their callers set none; None: they may take as long as they like."""

    async def admit(self, request: object, context: _Context) -> None:
        """Make the caller known to the servicer.

        Raises:
            Unauthenticated: Nobody knows who calls.
            ResourceExhausted: The caller calls too often.
            PermissionDenied: The caller may not make such calls.
            Unimplemented: The server does not have the method.
            InvalidArgument: The request cannot be decoded.
        """
        rules = self._rules
        caller = await self._authenticator.authenticate(_authorization(context), context.auth_context)
        _caller.set(caller if rules.read_only else caller.calling_from(context.peer()))
        self._call_rate.count(caller)
        if caller.role not in self._permitted:
            needed = Role.least_for(rules.scope)
            raise PermissionDenied(
                f"This call needs the role {needed}; {caller.name!r} has the role {caller.role}.",
                metadata={"needed": needed, "role": caller.role, "scope": rules.scope},
            )
        if not self._implemented:
            raise Unimplemented(
                f"This server does not have {self._method.rpartition('/')[2]} yet. The table in the README tells which "
                "calls it has.",
                metadata={"method": self._method},
            )
        if isinstance(request, Unreadable):
            raise InvalidArgument.field("request", MISTAKE)

    @property
    def records_success(self) -> bool:
        """Whether a call is recorded here if it succeeds. Changes are recorded by whoever makes them, with the change."""
        return self._rules.audited and self._rules.read_only

    async def record(self, request: object, context: _Context) -> None:
        """Record a call that is about to be answered."""
        await self._trail.record(self._entry(_caller.get(), "OK", request, context))

    def refused(self, error: Exception, request: object, context: _Context) -> None:
        """Record a call that was refused or failed, if its method is one that is recorded."""
        if self._rules.audited and not isinstance(error, grpc.aio.AbortError):
            outcome = error.reason.value if isinstance(error, GatewayError) else Reason.INTERNAL.value
            self._trail.refused(self._entry(_caller.get(None), outcome, request, context))

    def _entry(self, caller: Caller | None, outcome: str, request: object, context: _Context) -> AuditEntry:
        return AuditEntry(
            at=utc_now(),
            caller=caller.name if caller else "",
            tenant=caller.tenant if caller else "",
            action=self._method.rpartition("/")[2],
            resource=_text(request, "name"),
            outcome=outcome,
            peer=context.peer(),
            request_id=_text(request, "request_id"),
        )


def _text(request: object, field: str) -> str:
    """Return the start of a text field of a request, if it has one: this was written by somebody who may mean harm."""
    value = getattr(request, field, "")
    return value[:_MAX_RECORDED] if isinstance(value, str) else ""


def _sparing(serializer: Callable[[Any], bytes] | None) -> Callable[[Any], bytes]:
    """Let a response pass that is serialised already."""
    serialise = serializer or bytes
    return lambda response: response if type(response) is bytes else serialise(response)


def _authorization(context: _Context) -> str | None:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            return value if isinstance(value, str) else None
    return None


async def _abort(method: str, error: Exception, context: _Context) -> None:
    if isinstance(error, grpc.aio.AbortError):
        return
    if isinstance(error, grpc.aio.InternalError):  # gRPC's word for a stream whose caller went away
        raise asyncio.CancelledError from error
    if not isinstance(error, GatewayError):
        incident = uuid.uuid4().hex
        _log.error("internal_error", method=method, incident=incident, exc_info=error)
        error = Internal(
            f"The gateway failed on this call. Tell its operator the incident {incident}.",
            metadata={"incident": incident},
        )
    elif isinstance(error, Internal):
        _log.error("internal_error", method=method, exc_info=error)
    else:
        _log.info("call_refused", method=method, reason=error.reason, code=to_code(error).name)
    try:
        await context.abort(to_code(error), error.message, to_trailers(error))
    except asyncio.InvalidStateError:  # the caller went away meanwhile
        _log.debug("caller_gone", method=method)
