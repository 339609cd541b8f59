"""The bare building block: a grpc.aio server with nothing of ours in it.

It echoes bytes, and it sends bytes that it is given to everyone who watches, waking them all at once.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import grpc

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


async def _serve() -> None:
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.server.max_pending_requests", 100_000),
            ("grpc.server.max_pending_requests_hard_limit", 200_000),
        ]
    )
    watches = _Watches()
    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(_echo),
        "Watch": grpc.unary_stream_rpc_method_handler(watches.watch),
        "Publish": grpc.unary_unary_rpc_method_handler(watches.publish),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bare.Echo", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    # The same care that the gateway takes of its own process.
    gc.freeze()
    gc.set_threshold(50_000, 20, 1000)
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


def main() -> None:
    """Serve until terminated, on the event loop that the gateway uses."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve())
    else:
        uvloop.run(_serve())


if __name__ == "__main__":
    main()
