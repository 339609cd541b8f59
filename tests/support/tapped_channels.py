"""Channels of gRPC that let somebody hear what is sent and received, and change nothing of it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, Self

import grpc
from grpc import aio


class Listener(Protocol):
    """Hears what passes."""

    def sent(self, metadata: Any) -> None:
        """Hear the metadata of a call."""

    def received(self, method: str, message: bytes) -> None:
        """Hear a message of an answer, as it was on the wire."""

    def ended(self, method: str, *told: Any) -> None:
        """Hear how a call ended: message of the error, and metadata."""


class TappedChannel(grpc.Channel):
    """A channel that a listener hears.

    Args:
        channel: What does the work.
        listener: Hears it.
    """

    def __init__(self, channel: grpc.Channel, listener: Listener) -> None:
        self._channel = channel
        self._listener = listener

    def unary_unary(self, method: str, *arguments: Any, **options: Any) -> Any:
        """See `grpc.Channel`."""
        return self._tapped(_UnaryResponse, self._channel.unary_unary, method, *arguments, **options)

    def stream_unary(self, method: str, *arguments: Any, **options: Any) -> Any:
        """See `grpc.Channel`."""
        return self._tapped(_UnaryResponse, self._channel.stream_unary, method, *arguments, **options)

    def unary_stream(self, method: str, *arguments: Any, **options: Any) -> Any:
        """See `grpc.Channel`."""
        return self._tapped(_Callable, self._channel.unary_stream, method, *arguments, **options)

    def stream_stream(self, method: str, *arguments: Any, **options: Any) -> Any:
        """See `grpc.Channel`."""
        return self._tapped(_Callable, self._channel.stream_stream, method, *arguments, **options)

    def subscribe(self, callback: Callable[..., Any], try_to_connect: bool = False) -> None:
        """See `grpc.Channel`."""
        self._channel.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Callable[..., Any]) -> None:
        """See `grpc.Channel`."""
        self._channel.unsubscribe(callback)

    def close(self) -> None:
        """See `grpc.Channel`."""
        self._channel.close()

    def __enter__(self) -> Self:
        """Return the channel."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        self.close()

    def _tapped(
        self, kind: type[_Callable], make: Callable[..., Any], method: str, *arguments: Any, **options: Any
    ) -> Any:
        return kind(_make(make, self._listener, method, *arguments, **options), method, self._listener)


class TappedAioChannel(aio.Channel):
    """The same for asyncio."""

    def __init__(self, channel: aio.Channel, listener: Listener) -> None:
        self._channel = channel
        self._listener = listener

    def unary_unary(self, method: str, *arguments: Any, **options: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return self._tapped(self._channel.unary_unary, method, *arguments, **options)

    def stream_unary(self, method: str, *arguments: Any, **options: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return self._tapped(self._channel.stream_unary, method, *arguments, **options)

    def unary_stream(self, method: str, *arguments: Any, **options: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return self._tapped(self._channel.unary_stream, method, *arguments, **options)

    def stream_stream(self, method: str, *arguments: Any, **options: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return self._tapped(self._channel.stream_stream, method, *arguments, **options)

    async def __aenter__(self) -> Self:
        """Return the channel."""
        return self

    async def __aexit__(self, *error: object) -> None:
        """Close it."""
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """See `grpc.aio.Channel`."""
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """See `grpc.aio.Channel`."""
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """See `grpc.aio.Channel`."""
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """See `grpc.aio.Channel`."""
        await self._channel.channel_ready()

    def _tapped(self, make: Callable[..., Any], method: str, *arguments: Any, **options: Any) -> Any:
        return _AioCallable(_make(make, self._listener, method, *arguments, **options), method, self._listener)


def _make(
    make: Callable[..., Any],
    listener: Listener,
    method: str,
    request_serializer: Any = None,
    response_deserializer: Any = None,
    *arguments: Any,
    **options: Any,
) -> Any:
    def deserialize(data: bytes) -> Any:
        listener.received(method, data)
        return response_deserializer(data) if response_deserializer else data

    return make(method, request_serializer, deserialize, *arguments, **options)


class _TappedRpc:
    """An RPC, and who listens to it."""

    def __init__(self, inner: Any, method: str, listener: Listener) -> None:
        self._inner = inner
        self._method = method
        self._listener = listener


class _Callable(_TappedRpc):
    """An RPC with a stream of answers."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self._listener.sent(options.get("metadata"))
        return self._heard(self._inner(*arguments, **options))

    def _heard(self, call: Any) -> Any:
        if not call.add_callback(lambda: self._ended(call)):  # it has ended already
            self._ended(call)
        return call

    def _ended(self, call: Any) -> None:
        # Initial metadata may not be there yet, and to ask for them would wait here for the thread that brings them.
        self._listener.ended(self._method, call.details(), call.trailing_metadata())


class _UnaryResponse(_Callable):
    """An RPC with one answer."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self.with_call(*arguments, **options)[0]

    def with_call(self, *arguments: Any, **options: Any) -> Any:
        self._listener.sent(options.get("metadata"))
        try:
            answer, call = self._inner.with_call(*arguments, **options)
        except grpc.RpcError as error:
            self._ended(error)
            raise
        self._ended(call)
        return answer, call

    def future(self, *arguments: Any, **options: Any) -> Any:
        self._listener.sent(options.get("metadata"))
        return self._heard(self._inner.future(*arguments, **options))


class _AioCallable(_TappedRpc):
    """An RPC of asyncio."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self._listener.sent(options.get("metadata"))
        call = self._inner(*arguments, **options)
        call.add_done_callback(self._ended)
        return call

    def _ended(self, call: Any) -> None:
        told = (_settled(call.details()), _settled(call.initial_metadata()), _settled(call.trailing_metadata()))
        self._listener.ended(self._method, *told)


def _settled(value: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine returns that has nothing left to wait for; None if it has."""
    try:
        value.send(None)
    except StopIteration as done:
        return done.value
    value.close()
    return None
