"""How the bare building blocks are served: as the gateway serves, with nothing of ours in the way."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc


def serve(service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
    """Serve until terminated, on the event loop that the gateway uses; print the address first.

    Three arguments of the process make it serve mutual TLS: the PEM files of certificate, key and authority of the clients.

    Args:
        service: Full name of the service.
        handlers: Who answers its methods, by their names.
    """
    pems = [Path(name).read_bytes() for name in sys.argv[1:]]
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(service, handlers, pems))
    else:
        uvloop.run(_serve(service, handlers, pems))


async def _serve(service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]], pems: Sequence[bytes]) -> None:
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.server.max_pending_requests", 100_000),
            ("grpc.server.max_pending_requests_hard_limit", 200_000),
        ]
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, dict(handlers)),))
    port = _open_port(server, pems)
    await server.start()
    # The same care that the gateway takes of its own process.
    gc.freeze()
    gc.set_threshold(50_000, 20, 1000)
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


def _open_port(server: grpc.aio.Server, pems: Sequence[bytes]) -> int:
    if not pems:
        return server.add_insecure_port("127.0.0.1:0")
    certificate, key, clients = pems
    credentials = grpc.ssl_server_credentials([(key, certificate)], clients, require_client_auth=True)
    return server.add_secure_port("127.0.0.1:0", credentials)
