"""Moving large data with asyncio: the twin of `qgateway._transfer`, with the same rules."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, BinaryIO

import grpc.aio

from qgateway._aio_connection import AioConnection
from qgateway._errors import GatewayCallError
from qgateway._transfer import (
    DEFAULT_CHUNK,
    LONGEST_SILENCE,
    PROGRAM,
    RESULT,
    Blob,
    Download,
    Progress,
    UploadAttempts,
    upload_chunks,
    upload_timeout,
)


async def download_result(connection: AioConnection, name: str, *, progress: Progress | None = None) -> bytes:
    """Download the result of a job; arguments and errors are those of `qgateway._transfer.download_result`."""
    return await _download(connection, RESULT, name, progress)


async def download_program(connection: AioConnection, name: str, *, progress: Progress | None = None) -> bytes:
    """Download the program of a job; arguments and errors are those of `qgateway._transfer.download_program`."""
    return await _download(connection, PROGRAM, name, progress)


async def download_result_to(
    connection: AioConnection, name: str, file: BinaryIO, *, progress: Progress | None = None
) -> None:
    """Download the result of a job into a file, which other threads write while the event loop goes on."""
    async with aclosing(_pieces(connection, RESULT, name, progress)) as pieces:
        async for piece in pieces:
            await asyncio.to_thread(file.write, piece)


async def _download(connection: AioConnection, blob: Blob, name: str, progress: Progress | None) -> bytes:
    buffer = io.BytesIO()
    async with aclosing(_pieces(connection, blob, name, progress)) as pieces:
        async for piece in pieces:
            buffer.write(piece)
    return buffer.getvalue()


async def _pieces(connection: AioConnection, blob: Blob, name: str, progress: Progress | None) -> AsyncGenerator[bytes]:
    """Yield a blob in pieces, through all cuts; when it ends, every byte is there and the checksum is right."""
    download = Download(blob, name, connection.settings.target, progress)
    while not download.complete:
        try:
            jobs = connection.jobs
            call = connection.open_stream(getattr(jobs, blob.method), download.request())
            try:
                while (chunk := await _read(connection, jobs, call, download)) is not grpc.aio.EOF:
                    yield download.received(chunk)
                download.ended()
            finally:
                call.cancel()
        except GatewayCallError as error:
            await asyncio.sleep(download.interrupted(error))


async def _read(connection: AioConnection, jobs: Any, call: Any, download: Download) -> Any:
    """Return the next chunk of a stream, or `grpc.aio.EOF`; raise `GatewayCallError` if it breaks or is silent."""
    try:
        async with asyncio.timeout(LONGEST_SILENCE):
            return await call.read()
    except TimeoutError:
        connection.renew(jobs)
        raise download.silent() from None
    except grpc.RpcError as error:
        raise connection.error(error, download.job_id) from None


async def upload_program(connection: AioConnection, program: bytes) -> bytes:
    """Upload a program; arguments and errors are those of `qgateway._transfer.upload_program`."""
    size = (await connection.server_info()).chunk_size_bytes or DEFAULT_CHUNK
    timeout = upload_timeout(connection.settings.timeout, len(program))
    attempts = UploadAttempts()
    while True:
        try:
            return await _upload(connection, program, size, timeout)
        except GatewayCallError as error:
            await asyncio.sleep(attempts.failed(error))


async def _upload(connection: AioConnection, program: bytes, size: int, timeout: float) -> bytes:  # noqa: ASYNC109
    method = connection.jobs.UploadProgram
    return bytes((await connection.call_with_stream(method, upload_chunks(program, size), timeout)).sha256)
