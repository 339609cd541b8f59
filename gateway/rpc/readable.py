"""What gRPC's own services lack: they need no credentials, so that anybody can try what comes of it.

Requests that cannot be decoded are the caller's mistake: gRPC by itself would answer UNKNOWN, and log an error of the server. And
streams that cost their caller nothing are few.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Context = grpc.aio.ServicerContext[Any, Any]

MISTAKE = "not a message of the type that this call takes"


_STREAMS_PER_CONNECTION = 16
"""Streams without credentials that one connection may have open: clients watch the health of one service or two."""


class Unreadable:
    """Stands for a request that could not be decoded."""


def tolerant(deserializer: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    """Let a broken request reach the handler as `Unreadable`."""
    decode = deserializer or bytes

    def decode_or_mark(data: bytes) -> object:
        try:
            return decode(data)
        except DecodeError:
            return Unreadable()

    return decode_or_mark


def behaviour_of(handler: _Handler) -> Any:
    """Return the function that answers the calls of a method."""
    return handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream


def rebuilt(handler: _Handler, behaviour: Any, **serializers: Any) -> _Handler:
    """Return a handler of the same kind that answers by another function."""
    kind = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[bool(handler.request_streaming), bool(handler.response_streaming)]
    return kind(behaviour, **serializers)


class OpenStreams:
    """Counts the streams that each connection has open without credentials."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    @asynccontextmanager
    async def one(self, context: _Context) -> AsyncIterator[None]:
        """Count a stream while the block runs; refuse it if its connection has too many."""
        peer = context.peer()
        if self._open[peer] >= _STREAMS_PER_CONNECTION:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"This connection has {_STREAMS_PER_CONNECTION} streams open that need no credentials, which is the limit.",
            )
        self._open[peer] += 1
        try:
            yield
        finally:
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]


def public(handler: _Handler, streams: OpenStreams) -> _Handler:
    """Return a handler for calls without credentials.

    It answers INVALID_ARGUMENT to what cannot be decoded, UNIMPLEMENTED where there is no code, and RESOURCE_EXHAUSTED to one
    stream too many.
    """
    behaviour = behaviour_of(handler)

    # The library's own services leave methods out, too, and the generated code for those logs an error for each call.
    is_left_out = behaviour.__module__.endswith("_pb2_grpc")

    async def checked(request: Any, context: _Context) -> Any:
        if isinstance(request, Unreadable):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, MISTAKE)
        return request

    async def each_checked(requests: AsyncIterator[Any], context: _Context) -> AsyncIterator[Any]:
        async for request in requests:
            yield await checked(request, context)

    async def taken(request: Any, context: _Context) -> Any:
        if is_left_out:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "This server does not have the method.")
        return each_checked(request, context) if handler.request_streaming else await checked(request, context)

    async def answer(request: Any, context: _Context) -> Any:
        async with streams.one(context) if handler.response_streaming else nullcontext():
            return await behaviour(await taken(request, context), context)

    async def stream(request: Any, context: _Context) -> AsyncIterator[Any]:
        async with streams.one(context):
            async for response in behaviour(await taken(request, context), context):
                yield response

    return rebuilt(
        handler,
        stream if inspect.isasyncgenfunction(behaviour) else answer,
        request_deserializer=tolerant(handler.request_deserializer),
        response_serializer=handler.response_serializer,
    )


class PublicOnly(grpc.aio.ServerInterceptor):
    """Lets all methods of a server be called without credentials."""

    def __init__(self) -> None:
        self._streams = OpenStreams()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Return the handler of a method, wrapped."""
        handler = await continuation(handler_call_details)
        return None if handler is None else public(handler, self._streams)
