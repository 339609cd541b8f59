"""Every call passes here: who calls, may they, and how an error is told.

Servicers behind it find the caller in `current_caller()` and simply raise domain errors.
"""

from __future__ import annotations

import asyncio
import inspect
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Protocol, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError

from gateway.domain.access import Caller, Role
from gateway.domain.errors import GatewayError, Internal, InvalidArgument, PermissionDenied, Unimplemented
from gateway.rpc.errors import to_code, to_trailers

_log = structlog.get_logger(__name__)

_caller: ContextVar[Caller] = ContextVar("caller")

_OPEN_SERVICES = ("/grpc.health.v1.Health/", "/grpc.reflection.")
"""Services that need no credentials: load balancers and tools ask them before they have any."""

_SUBMITTER = {"SubmitJob", "UploadProgram", "UpdateJob", "CancelJob", "DeleteJob"} | {
    "CreateSession",
    "CloseSession",
    "CancelSession",
}

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Context = grpc.aio.ServicerContext[Any, Any]


class Authenticator(Protocol):
    """Finds the caller behind an `authorization` header."""

    def authenticate(self, authorization: str | None) -> Caller:
        """Return the caller.

        Raises:
            Unauthenticated: The header names none.
        """


def current_caller() -> Caller:
    """Return the caller of the call that is being answered."""
    return _caller.get()


def required_role(method: str) -> Role:
    """Return the role that a call of an RPC needs; `method` is its full name, `/package.Service/Method`."""
    if method.startswith("/qgateway.v1.AdminService/"):
        return Role.OPERATOR
    return Role.SUBMITTER if method.rpartition("/")[2] in _SUBMITTER else Role.VIEWER


class _Unreadable:
    """Stands for a request that could not be decoded."""


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Authenticates each call, checks the role it needs, and answers errors by the error table."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
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
        if not method.startswith(_OPEN_SERVICES):
            handler = self._wrap(method, handler)
        self._handlers[method] = handler
        return handler

    def _wrap(self, method: str, handler: _Handler) -> _Handler:
        role = required_role(method)
        behaviour = _behaviour(handler)
        implemented = not behaviour.__func__.__module__.endswith("_pb2_grpc")

        def admit(request: object, context: _Context) -> None:
            caller = self._authenticator.authenticate(_authorization(context))
            if not caller.role.includes(role):
                raise PermissionDenied(
                    f"This call needs the role {role}; {caller.name!r} has the role {caller.role}.",
                    metadata={"needed": role, "role": caller.role},
                )
            if not implemented:
                raise Unimplemented(
                    f"This server does not have {method.rpartition('/')[2]} yet. The table in the README tells which "
                    "calls it has.",
                    metadata={"method": method},
                )
            if isinstance(request, _Unreadable):
                raise InvalidArgument.field("request", "not a message of the type that this call takes")
            _caller.set(replace(caller, peer=context.peer()) if role is not Role.VIEWER else caller)

        async def answer(request: object, context: _Context) -> object:
            try:
                admit(request, context)
                return await behaviour(request, context)
            except Exception as error:
                await _abort(method, error, context)
                raise

        async def stream(request: object, context: _Context) -> AsyncIterator[object]:
            try:
                admit(request, context)
                async for response in behaviour(request, context):
                    yield response
            except Exception as error:
                await _abort(method, error, context)
                raise

        # A handler that writes its stream by itself is a coroutine like one that answers once.
        wrapped = stream if inspect.isasyncgenfunction(behaviour) else answer
        kind = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[bool(handler.request_streaming), bool(handler.response_streaming)]
        return kind(
            wrapped,
            request_deserializer=_tolerant(handler.request_deserializer),
            response_serializer=_sparing(handler.response_serializer),
        )


def _behaviour(handler: _Handler) -> Any:
    return handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream


def _tolerant(deserializer: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    """Let a broken request reach the handler, so that it is answered as the caller's mistake and not as ours."""
    decode = deserializer or bytes

    def decode_or_mark(data: bytes) -> object:
        try:
            return decode(data)
        except DecodeError:
            return _Unreadable()

    return decode_or_mark


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
