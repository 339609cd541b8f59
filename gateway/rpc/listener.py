"""The gRPC server, mended where a stranger could end it, and where it took its time.

grpc.aio decodes the path of a call that it does not know in the loop that takes in all calls. Bytes that are no UTF-8 end that
loop, and with it the server: one frame from anybody who can connect, before authentication. Here such calls never reach that
loop. All methods that are served are registered, so that gRPC itself tells them by their bytes; what remains is answered
UNIMPLEMENTED without looking at its path.

For registered methods, that loop looks at a future of each of them, of some forty, twice at each call: a third of what a small
call costs. Here each method has a task of its own that takes in its calls. And interceptors are asked once for each method, where
grpc.aio would ask them at each call.

A thread of grpc.aio collects what has become of reads and writes, and wakes the event loop. Awake at each single one of them, it
would take the processor from the loop, do next to nothing, and give it back. Here it waits until a processor is free, or the loop
has had its time slice of some ms, and collects many at once.

This leans on parts of grpcio that are not public, hence the narrow range of its version in pyproject.toml.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias, cast

import grpc
from grpc._cython import cygrpc
from grpc.aio import _server

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class _Details(grpc.HandlerCallDetails):
    """Which method is called."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.invocation_metadata = ()


class _CallTaker(cygrpc.AioServer):  # type: ignore[misc]  # it has no types
    """Takes in calls, those of registered methods only."""

    def __init__(self, loop: Any, interceptors: Sequence[grpc.aio.ServerInterceptor], options: Sequence[Any]) -> None:
        super().__init__(loop, None, (), interceptors, tuple(options), None)
        self._interceptors = tuple(interceptors)
        self._handlers: dict[str, _Handler] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._never: asyncio.Future[Any] | None = None

    def know_handlers(self, service: str, handlers: Mapping[str, _Handler]) -> None:
        """Take note of who answers the methods of a service."""
        self._handlers.update({f"/{service}/{name}": handler for name, handler in handlers.items()})

    def resolve_handler(self, details: grpc.HandlerCallDetails) -> _Handler | None:
        """Return the handler of a call, as `cygrpc._find_method_handler` asks for it."""
        return self._handlers.get(details.method)

    def _make_request_call_future(self, method: bytes | None) -> Any:
        """Begin to take in the calls of a method, and let the loop of grpc.aio wait for none of them."""
        if method is None:
            return super()._make_request_call_future(None)
        self._keep(self._take_calls(method))
        self._never = self._never or asyncio.get_running_loop().create_future()
        return self._never

    async def _take_calls(self, method: bytes) -> None:
        loop, name = asyncio.get_running_loop(), method.decode()
        self._handlers[name] = await self._intercepted(name)
        while True:
            try:
                call = await self._request_registered_call(method)
            except cygrpc._RequestCallError:  # noqa: SLF001 - the server stops
                return
            answer = cygrpc._handle_rpc(name, self, (), call, loop, False)  # noqa: SLF001
            self._keep(cygrpc._schedule_rpc_coro(answer, call, loop, name))  # noqa: SLF001

    async def _intercepted(self, method: str) -> _Handler:
        """Return who answers the calls of a method, as the interceptors want it."""

        async def served(details: grpc.HandlerCallDetails) -> _Handler:
            return self._handlers[details.method]

        answering: Callable[[grpc.HandlerCallDetails], Awaitable[Any]] = served
        for interceptor in reversed(self._interceptors):
            answering = partial(interceptor.intercept_service, answering)
        return cast("_Handler", await answering(_Details(method)))

    async def _request_call(self) -> Any:
        """Refuse each call of a method that is not registered; never returns one."""
        while True:
            call = await super()._request_call()
            self._keep(_refuse(call))

    def _keep(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Server(_server.Server):
    def __init__(  # the parent would make a server that is of no use here
        self, interceptors: Sequence[grpc.aio.ServerInterceptor], options: Sequence[tuple[str, Any]]
    ) -> None:
        self._loop = cygrpc.get_working_loop()
        self._server = _CallTaker(self._loop, interceptors, options)

    def add_registered_method_handlers(self, service_name: str, method_handlers: dict[str, _Handler]) -> None:
        super().add_registered_method_handlers(service_name, method_handlers)
        self._server.know_handlers(service_name, method_handlers)


def new_server(
    options: Sequence[tuple[str, Any]], interceptors: Sequence[grpc.aio.ServerInterceptor] = ()
) -> grpc.aio.Server:
    """Return a server that serves registered methods, which are all that generated code adds.

    Args:
        options: Channel arguments.
        interceptors: Each is asked once for each registered method, and who it names answers all calls of the method.
    """
    with _patient_threads():
        return cast("grpc.aio.Server", _Server(interceptors, options))


@contextmanager
def _patient_threads() -> Iterator[None]:
    """Let threads that begin in the block interrupt no other thread when they have something to do (Linux: sched(7), SCHED_BATCH).

    gRPC's threads begin with the first server. Elsewhere, or where the system allows no such change, they are as they are.
    """
    if sys.platform != "linux" or os.sched_getscheduler(0) != os.SCHED_OTHER:
        yield
        return
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except PermissionError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


async def _refuse(call: Any) -> None:
    context = cygrpc._ServicerContext(call, None, None, asyncio.get_running_loop())  # noqa: SLF001
    try:
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED, "There is no such method. The contract is in protos/qgateway/v1."
        )
    except (grpc.aio.BaseError, asyncio.InvalidStateError):  # that is how it ends, or the caller went away
        return
