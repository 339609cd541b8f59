"""The bare building block of transfers: a grpc.aio server that sends prepared bytes, and one that counts what comes."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator

import grpc

DOWNLOAD = "/bare.Streams/Download"
UPLOAD = "/bare.Streams/Upload"
CHUNK_BYTES = 1024 * 1024


async def _download(request: bytes, context: object) -> AsyncIterator[bytes]:
    """Send as many chunks as the request says."""
    del context
    for _ in range(int(request)):
        yield _CHUNK


async def _upload(requests: AsyncIterator[bytes], context: object) -> bytes:
    """Answer how many bytes came."""
    del context
    size = 0
    async for request in requests:
        size += len(request)
    return str(size).encode()


_CHUNK = os.urandom(CHUNK_BYTES)


async def _serve() -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handlers = {
        "Download": grpc.unary_stream_rpc_method_handler(_download),
        "Upload": grpc.stream_unary_rpc_method_handler(_upload),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bare.Streams", handlers),))
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
