"""Moving large data with asyncio: the twin of `qgateway._transfer`, with the same rules."""

from __future__ import annotations

import asyncio
import io
from typing import Any, BinaryIO

import grpc.aio

from qgateway._aio_connection import AioConnection
from qgateway._errors import GatewayCallError
from qgateway._resume import Backoff
from qgateway._transfer import (
    DEFAULT_CHUNK,
    LONGEST_SILENCE,
    MAX_FAILURES,
    PROGRAM,
    RESULT,
    Blob,
    Download,
    Progress,
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
    """Download the result of a job into a file. Writing blocks the loop for as long as the file does."""
    await _download_to(connection, RESULT, name, file, progress)


async def _download(connection: AioConnection, blob: Blob, name: str, progress: Progress | None) -> bytes:
    buffer = io.BytesIO()
    await _download_to(connection, blob, name, buffer, progress)
    return buffer.getvalue()


async def _download_to(
    connection: AioConnection, blob: Blob, name: str, file: BinaryIO, progress: Progress | None
) -> None:
    download = Download(blob, name, connection.settings.target, progress)
    while not download.complete:
        try:
            call = connection.open_stream(getattr(connection.jobs, blob.method), download.request())
            try:
                while (chunk := await _read(connection, call, download)) is not grpc.aio.EOF:
                    file.write(download.received(chunk))
                download.ended()
            finally:
                call.cancel()
        except GatewayCallError as error:
            await asyncio.sleep(download.interrupted(error))


async def _read(connection: AioConnection, call: Any, download: Download) -> Any:
    """Return the next chunk of a stream, or `grpc.aio.EOF`; raise `GatewayCallError` if it breaks or is silent."""
    try:
        async with asyncio.timeout(LONGEST_SILENCE):
            return await call.read()
    except TimeoutError:
        raise download.silent() from None
    except grpc.RpcError as error:
        raise connection.error(error, download.job_id) from None


async def upload_program(connection: AioConnection, program: bytes) -> bytes:
    """Upload a program; arguments and errors are those of `qgateway._transfer.upload_program`."""
    size = (await connection.server_info()).chunk_size_bytes or DEFAULT_CHUNK
    timeout = upload_timeout(connection.settings.timeout, len(program))
    backoff = Backoff()
    for _ in range(MAX_FAILURES):
        try:
            return await _upload(connection, program, size, timeout)
        except GatewayCallError as error:
            await asyncio.sleep(backoff.delay_after(error))
    return await _upload(connection, program, size, timeout)


async def _upload(connection: AioConnection, program: bytes, size: int, timeout: float) -> bytes:  # noqa: ASYNC109
    method = connection.jobs.UploadProgram
    return bytes((await connection.call_with_stream(method, upload_chunks(program, size), timeout)).sha256)
