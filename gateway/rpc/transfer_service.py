"""The streams of `JobService` that carry programs and results of any size.

A chunk is a message with one large field. Written and read by hand, its bytes are copied once instead of three times.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from qgateway.v1 import job_service_pb2, job_service_pb2_grpc

from gateway.domain.errors import InvalidArgument, Reason, Unavailable
from gateway.domain.wire import field_head, fields
from gateway.engine.engine import Engine
from gateway.engine.results import Download
from gateway.rpc import messages, requests
from gateway.rpc.interceptor import current_caller
from gateway.rpc.limits import Limits
from gateway.rpc.stalled_streams import StalledStreams
from gateway.rpc.stream_limit import StreamLimit

_Context = grpc.aio.ServicerContext[Any, Any]

_DATA = job_service_pb2.DownloadJobResultResponse.DATA_FIELD_NUMBER
"""Number of the field `data`. The messages of both downloads have the same fields."""

_UPLOAD_DATA = job_service_pb2.UploadProgramRequest.DATA_FIELD_NUMBER
_WANTED = ("qgateway-upload", "wanted")
"""Initial metadata of an upload whose data the server does not have: a caller that waits for it sends nothing in vain."""
_LONGEST_SILENCE = 60.0
"""Seconds without a message after which an upload is given up."""


class Transfers(job_service_pb2_grpc.JobServiceServicer):
    """Moves what is too large for one message."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self._engine = engine
        self._limits = limits
        self._stalled = StalledStreams(limits.stalled_stream_timeout)
        self._limit = StreamLimit(
            limits.max_transfers_per_caller,
            Reason.TOO_MANY_TRANSFERS,
            "uploads and downloads under way",
            "Repeat this one when one of them has ended.",
        )

    async def DownloadJobResult(  # type: ignore[override]  # it writes by itself, so that it knows who does not read
        self, request: job_service_pb2.DownloadJobResultRequest, context: _Context
    ) -> None:
        """Stream a result."""
        with self._limit.stream(current_caller()):
            download = await self._engine.results.download_result(
                current_caller(),
                requests.resource_id("name", request.name, "jobs"),
                offset=requests.offset(request.offset),
                piece_bytes=self._limits.chunk_bytes,
            )
            await self._send(download, context)

    async def DownloadJobProgram(  # type: ignore[override]  # as DownloadJobResult
        self, request: job_service_pb2.DownloadJobProgramRequest, context: _Context
    ) -> None:
        """Stream a program."""
        with self._limit.stream(current_caller()):
            download = await self._engine.results.download_program(
                current_caller(),
                requests.resource_id("name", request.name, "jobs"),
                offset=requests.offset(request.offset),
                piece_bytes=self._limits.chunk_bytes,
            )
            await self._send(download, context)

    async def _send(self, download: Download, context: _Context) -> None:
        async with aclosing(_chunks(download)) as chunks:
            async for chunk in chunks:
                await self._stalled.write(context, chunk)

    async def UploadProgram(  # type: ignore[override]  # the requests come as bytes
        self, request_iterator: AsyncIterator[bytes], context: _Context
    ) -> job_service_pb2.UploadProgramResponse:
        """Store a program."""
        with self._limit.stream(current_caller()):
            first = _decoded(await _next(request_iterator) or b"")
            if first.total_size_bytes < 0:
                raise InvalidArgument.field("total_size_bytes", "must not be negative")
            upload = await self._engine.uploads.receive(
                current_caller(),
                _pieces(first.data, request_iterator, context),
                announced_size=first.total_size_bytes,
                announced_sha256=requests.sha256("sha256", first.sha256) if first.sha256 else "",
            )
        return job_service_pb2.UploadProgramResponse(
            sha256=bytes.fromhex(upload.sha256),
            size_bytes=upload.size_bytes,
            expire_time=messages.timestamp(upload.expires_at),
        )


async def _pieces(first: bytes, rest: AsyncIterator[bytes], context: _Context) -> AsyncIterator[memoryview]:
    """Yield the bytes of a program out of the messages that carry them; tell the caller that they are wanted.

    Raises:
        InvalidArgument: Something is no message of this call.
        Unavailable: The next message does not come.
    """
    yield memoryview(first)
    await context.send_initial_metadata((_WANTED,))
    while (message := await _next(rest)) is not None:
        try:
            # Nearly all messages are this one field: its bytes are taken as they are.
            (field,) = fields(memoryview(message))
            is_data = field.number == _UPLOAD_DATA
        except ValueError:  # several fields, or none that can be read
            is_data = False
        yield field.content if is_data else memoryview(_decoded(message).data)


async def _next(messages: AsyncIterator[bytes]) -> bytes | None:
    try:
        async with asyncio.timeout(_LONGEST_SILENCE):
            return await anext(messages, None)
    except TimeoutError:
        raise Unavailable(
            f"The upload was silent for {_LONGEST_SILENCE:g} s and is taken for dead. Upload the program again."
        ) from None


def _decoded(message: bytes) -> job_service_pb2.UploadProgramRequest:
    try:
        return job_service_pb2.UploadProgramRequest.FromString(message)
    except DecodeError:
        raise InvalidArgument.field("request", "not a message of the type that this call takes") from None


async def _chunks(download: Download) -> AsyncGenerator[bytes]:
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
