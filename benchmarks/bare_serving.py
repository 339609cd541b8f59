"""How the bare building blocks are served: as the gateway serves, with nothing of ours in the way."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from typing import Any

import grpc


def serve(service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
    """Serve until terminated, on the event loop that the gateway uses; print the address first.

    Args:
        service: Full name of the service.
        handlers: Who answers its methods, by their names.
    """
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(service, handlers))
    else:
        uvloop.run(_serve(service, handlers))


async def _serve(service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.server.max_pending_requests", 100_000),
            ("grpc.server.max_pending_requests_hard_limit", 200_000),
        ]
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, dict(handlers)),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    # The same care that the gateway takes of its own process.
    gc.freeze()
    gc.set_threshold(50_000, 20, 1000)
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()
