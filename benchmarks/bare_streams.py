"""The bare building block of transfers: a grpc.aio server that sends prepared bytes, and one that counts what comes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import grpc

from benchmarks.bare_serving import serve

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


def main() -> None:
    """Serve until terminated."""
    handlers = {
        "Download": grpc.unary_stream_rpc_method_handler(_download),
        "Upload": grpc.stream_unary_rpc_method_handler(_upload),
    }
    serve("bare.Streams", handlers)


if __name__ == "__main__":
    main()
