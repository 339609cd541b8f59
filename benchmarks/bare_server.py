"""The bare building block: a grpc.aio server with nothing of ours in it.

It echoes bytes, and it sends bytes that it is given to everyone who watches, waking them all at once.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from benchmarks.bare_serving import serve

METHOD = "/bare.Echo/Echo"
WATCH_METHOD = "/bare.Echo/Watch"
PUBLISH_METHOD = "/bare.Echo/Publish"


async def _echo(request: bytes, context: object) -> bytes:
    del context
    return request


class _Watches:
    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[bytes]] = []

    async def watch(self, request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Send the request back, and then whatever is published."""
        message = request
        while True:
            await context.write(message)
            wake: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self._waiting.append(wake)
            message = await wake

    async def publish(self, request: bytes, context: object) -> bytes:
        """Send the request to everyone who watches."""
        del context
        waiting, self._waiting = self._waiting, []
        for wake in waiting:
            if not wake.done():
                wake.set_result(request)
        return b""


def main() -> None:
    """Serve until terminated."""
    watches = _Watches()
    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(_echo),
        "Watch": grpc.unary_stream_rpc_method_handler(watches.watch),
        "Publish": grpc.unary_unary_rpc_method_handler(watches.publish),
    }
    serve("bare.Echo", handlers)


if __name__ == "__main__":
    main()
