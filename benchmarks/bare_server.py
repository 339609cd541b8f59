"""The bare building block: a grpc.aio server that echoes bytes, with nothing of ours in it."""

from __future__ import annotations

import asyncio
import gc

import grpc

METHOD = "/bare.Echo/Echo"


async def _echo(request: bytes, context: object) -> bytes:
    del context
    return request


async def _serve() -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handlers = {"Echo": grpc.unary_unary_rpc_method_handler(_echo)}
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
