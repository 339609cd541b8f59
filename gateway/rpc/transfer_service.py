"""The streams of `JobService` that carry programs and results of any size.

A chunk is a message with one large field. Written and read by hand, its bytes are copied once instead of three times.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
from qgateway.v1 import job_service_pb2, job_service_pb2_grpc

from gateway.domain.wire import field_head
from gateway.engine.engine import Engine
from gateway.engine.results import Download
from gateway.rpc import requests
from gateway.rpc.interceptor import current_caller
from gateway.rpc.limits import Limits

_Context = grpc.aio.ServicerContext[Any, Any]

_DATA = job_service_pb2.DownloadJobResultResponse.DATA_FIELD_NUMBER
"""Number of the field `data`. The messages of both downloads have the same fields."""


class Transfers(job_service_pb2_grpc.JobServiceServicer):
    """Moves what is too large for one message."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self._engine = engine
        self._limits = limits

    async def DownloadJobResult(  # type: ignore[override]  # the responses are serialised already
        self, request: job_service_pb2.DownloadJobResultRequest, context: _Context
    ) -> AsyncIterator[bytes]:
        """Stream a result."""
        download = await self._engine.results.download_result(
            current_caller(),
            requests.resource_id("name", request.name, "jobs"),
            offset=requests.offset(request.offset),
            piece_bytes=self._limits.chunk_bytes,
        )
        async for chunk in _chunks(download):
            yield chunk

    async def DownloadJobProgram(  # type: ignore[override]  # the responses are serialised already
        self, request: job_service_pb2.DownloadJobProgramRequest, context: _Context
    ) -> AsyncIterator[bytes]:
        """Stream a program."""
        download = await self._engine.results.download_program(
            current_caller(),
            requests.resource_id("name", request.name, "jobs"),
            offset=requests.offset(request.offset),
            piece_bytes=self._limits.chunk_bytes,
        )
        async for chunk in _chunks(download):
            yield chunk


async def _chunks(download: Download) -> AsyncIterator[bytes]:
    """Yield serialised responses; the first one also tells size and SHA-256 of the whole."""
    whole = job_service_pb2.DownloadJobResultResponse(
        total_size_bytes=download.size_bytes, sha256=bytes.fromhex(download.sha256)
    ).SerializeToString()
    async with aclosing(download.pieces) as pieces:  # type: ignore[type-var]  # it is a generator
        async for piece in pieces:
            yield b"".join((field_head(_DATA, len(piece)), piece, whole))
            whole = b""
    if whole:  # nothing is left to be sent
        yield whole
