"""The gRPC server, mended where a stranger could end it.

grpc.aio decodes the path of a call that it does not know in the loop that takes in all calls. Bytes that are no UTF-8 end that
loop, and with it the server: one frame from anybody who can connect, before authentication. Here such calls never reach that
loop. All methods that are served are registered, so that gRPC itself tells them by their bytes; what remains is answered
UNIMPLEMENTED without looking at its path.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import grpc
from grpc._cython import cygrpc
from grpc.aio import _server


class _CallTaker(cygrpc.AioServer):  # type: ignore[misc]  # it has no types
    """Takes in calls, those of registered methods only."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._refusing: set[asyncio.Task[None]] = set()

    async def _request_call(self) -> Any:
        """Refuse each call of a method that is not registered; never returns one."""
        while True:
            call = await super()._request_call()
            task = asyncio.create_task(_refuse(call))
            self._refusing.add(task)
            task.add_done_callback(self._refusing.discard)


class _Server(_server.Server):
    def __init__(  # the parent would make a server that is of no use here
        self, interceptors: Sequence[grpc.aio.ServerInterceptor], options: Sequence[tuple[str, Any]]
    ) -> None:
        self._loop = cygrpc.get_working_loop()
        self._server = _CallTaker(self._loop, None, (), interceptors, tuple(options), None)


def new_server(
    options: Sequence[tuple[str, Any]], interceptors: Sequence[grpc.aio.ServerInterceptor] = ()
) -> grpc.aio.Server:
    """Return a server that serves registered methods, which are all that generated code adds.

    Args:
        options: Channel arguments.
        interceptors: Every call of a registered method passes these.
    """
    return cast("grpc.aio.Server", _Server(interceptors, options))


async def _refuse(call: Any) -> None:
    context = cygrpc._ServicerContext(call, None, None, asyncio.get_running_loop())  # noqa: SLF001
    try:
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED, "There is no such method. The contract is in protos/qgateway/v1."
        )
    except (grpc.aio.BaseError, asyncio.InvalidStateError):  # that is how it ends, or the caller went away
        return
