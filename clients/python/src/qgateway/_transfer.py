"""Moving what does not fit into one message: results and programs down, programs up.

`Download` holds the rules and does no I/O; the functions here drive it over grpc, those of `qgateway._aio_transfer`
over grpc.aio.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import grpc

from qgateway._connection import Connection
from qgateway._errors import ErrorDetails, GatewayCallError
from qgateway._resume import Backoff, Watchdog, silent_stream
from qgateway.v1 import job_service_pb2

LONGEST_SILENCE = 60.0
"""Seconds without a chunk after which a download is taken up again, over a new connection."""
MAX_FAILURES = 6
"""How often a transfer may fail to begin before it is given up."""
PATIENCE = 120.0
"""Seconds without a byte after which a download that had begun is given up: long enough for a gateway to be replaced."""
_SLOWEST_UPLOAD = 256 * 1024
"""Bytes a second that an upload is given time for."""
DEFAULT_CHUNK = 1024 * 1024
"""Bytes of a chunk of an upload, where the server names none."""

Progress = Callable[[int, int], None]
"""Called with the bytes done and the total, after each chunk."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A kind of thing that can be downloaded."""

    method: str
    """Name of the method of `JobService` that streams it."""
    request: type[job_service_pb2.DownloadJobResultRequest | job_service_pb2.DownloadJobProgramRequest]
    """Its request message."""


RESULT = Blob("DownloadJobResult", job_service_pb2.DownloadJobResultRequest)
PROGRAM = Blob("DownloadJobProgram", job_service_pb2.DownloadJobProgramRequest)


class Download:
    """What a download knows: how far it is, what the whole must look like, when to go on after a cut. No I/O.

    Args:
        blob: What is downloaded.
        name: Resource name of the job.
        target: Address of the gateway, for errors.
        progress: Called after each chunk.
    """

    def __init__(self, blob: Blob, name: str, target: str, progress: Progress | None) -> None:
        self.name = name
        self.job_id = name.rpartition("/")[2]
        self.complete = False
        """True when every byte is there and the checksum is right."""
        self._blob = blob
        self._target = target
        self._progress = progress
        self._done = 0
        self._total: int | None = None
        self._sha256 = b""
        self._hash = hashlib.sha256()
        self._backoff = Backoff()
        self._failures = 0
        self._heard: float | None = None
        """When the last byte came, on the monotonic clock."""

    def request(self) -> Any:
        """Return the request for the bytes that are missing."""
        return self._blob.request(name=self.name, offset=self._done)

    def received(self, chunk: Any) -> bytes:
        """Take a chunk in; return its bytes, to be written.

        Raises:
            GatewayCallError: DATA_LOSS, if it does not fit with what came before.
        """
        if chunk.sha256:
            if self._total is not None and (chunk.total_size_bytes, chunk.sha256) != (self._total, self._sha256):
                raise self._corrupt("another blob than the one that was begun")
            self._total, self._sha256 = chunk.total_size_bytes, chunk.sha256
        if self._total is None:
            raise self._corrupt("a first chunk without size and checksum")
        data: bytes = chunk.data
        self._done += len(data)
        if self._done > self._total:
            raise self._corrupt(f"more than the {self._total} bytes announced")
        self._hash.update(data)
        if data:
            self._heard = time.monotonic()
            self._backoff.progress()
        if self._progress:
            self._progress(self._done, self._total)
        return data

    def ended(self) -> None:
        """Take in that the server ended the stream with OK, and check the whole.

        Raises:
            GatewayCallError: DATA_LOSS, if size or checksum are wrong.
        """
        if self._done != self._total:
            raise self._corrupt(f"{self._done} bytes instead of {self._total}")
        if self._hash.digest() != self._sha256:
            raise self._corrupt("bytes that do not match their SHA-256")
        self.complete = True

    def interrupted(self, error: GatewayCallError) -> float:
        """Take in that the stream broke; return the seconds to wait before the next one.

        Raises:
            GatewayCallError: The error itself, if a new stream does not help; DATA_LOSS as `ended()`.
        """
        if error.code == "DATA_LOSS":
            raise error
        if self._done == self._total:
            self.ended()
            return 0.0
        if _waits_for_its_turn(error):
            if self._heard is not None:
                self._heard = time.monotonic()
            return self._backoff.delay_after(error)
        self._failures += 1
        if self._given_up():
            raise error
        return self._backoff.delay_after(error)

    def _given_up(self) -> bool:
        if self._heard is None:
            return self._failures > MAX_FAILURES
        return time.monotonic() - self._heard > PATIENCE

    def silent(self) -> GatewayCallError:
        """Return the error for a stream on which no chunk came in time."""
        return silent_stream(LONGEST_SILENCE, job_id=self.job_id, target=self._target)

    def _corrupt(self, what: str) -> GatewayCallError:
        return GatewayCallError(
            f"{self._blob.method} of job {self.job_id} brought {what}.",
            code="DATA_LOSS",
            details=ErrorDetails(reason="DOWNLOAD_CORRUPT"),
            job_id=self.job_id,
            target=self._target,
        )


class UploadAttempts:
    """What an upload knows of those before that failed: when to try again. No I/O."""

    def __init__(self) -> None:
        self._backoff = Backoff()
        self._failures = 0

    def failed(self, error: GatewayCallError) -> float:
        """Take in that an attempt failed; return the seconds to wait before the next one.

        Raises:
            GatewayCallError: The error itself, if another attempt does not help.
        """
        if not _waits_for_its_turn(error):
            self._failures += 1
        if self._failures > MAX_FAILURES:
            raise error
        return self._backoff.delay_after(error)


def _waits_for_its_turn(error: GatewayCallError) -> bool:
    """Return whether a transfer is refused for others of the same caller. They end, so it may wait for as long as it takes."""
    return error.reason == "TOO_MANY_TRANSFERS"


def download_result(connection: Connection, name: str, *, progress: Progress | None = None) -> bytes:
    """Download the result of a job: a serialised `qgateway.v1.JobResult`.

    A download that is cut goes on where it stopped. Size and SHA-256 are checked.

    Args:
        connection: The connection.
        name: Resource name of the job, `jobs/{job}`.
        progress: Called with the bytes done and the total, after each chunk.

    Raises:
        GatewayCallError: The gateway refuses (such as RESULT_NOT_READY), cannot be reached any more, or what came is
            damaged (DATA_LOSS).
    """
    return _download(connection, RESULT, name, progress)


def download_program(connection: Connection, name: str, *, progress: Progress | None = None) -> bytes:
    """Download the program of a job as it was submitted: a serialised `qgateway.v1.Program`.

    Arguments and errors are those of `download_result`.
    """
    return _download(connection, PROGRAM, name, progress)


def download_result_to(connection: Connection, name: str, file: BinaryIO, *, progress: Progress | None = None) -> None:
    """Download the result of a job into a file, without holding it in memory.

    Arguments and errors are those of `download_result`; after an error, what was written to the file is to be thrown
    away.
    """
    _download_to(connection, RESULT, name, file, progress)


def _download(connection: Connection, blob: Blob, name: str, progress: Progress | None) -> bytes:
    buffer = io.BytesIO()
    _download_to(connection, blob, name, buffer, progress)
    return buffer.getvalue()


def _download_to(connection: Connection, blob: Blob, name: str, file: BinaryIO, progress: Progress | None) -> None:
    download = Download(blob, name, connection.settings.target, progress)
    while not download.complete:
        try:
            file.writelines(_read_stream(connection, blob, download))
            download.ended()
        except GatewayCallError as error:
            time.sleep(download.interrupted(error))


def _read_stream(connection: Connection, blob: Blob, download: Download) -> Iterator[bytes]:
    """Yield the bytes that one stream brings, until it ends with OK; raise `GatewayCallError` if it breaks."""
    jobs = connection.jobs
    call = connection.open_stream(getattr(jobs, blob.method), download.request())
    try:
        with Watchdog(call.cancel) as watchdog:
            while True:
                watchdog.arm(time.monotonic() + LONGEST_SILENCE)
                try:
                    chunk = next(call, None)
                except grpc.RpcError as error:
                    if not watchdog.has_bitten:
                        raise connection.error(error, download.job_id) from None
                    connection.renew(jobs)
                    raise download.silent() from None
                watchdog.disarm()
                if chunk is None:
                    return
                yield download.received(chunk)
    finally:
        call.cancel()


def upload_program(connection: Connection, program: bytes) -> bytes:
    """Upload a program that is too large for one message; return its SHA-256, to be named in `SubmitJob`.

    The program is stored under its content, so an upload that breaks is simply repeated.

    Args:
        connection: The connection.
        program: A serialised `qgateway.v1.Program`.

    Raises:
        GatewayCallError: The gateway refuses the program, or cannot be reached any more.
    """
    size = connection.server_info().chunk_size_bytes or DEFAULT_CHUNK
    timeout = upload_timeout(connection.settings.timeout, len(program))
    attempts = UploadAttempts()
    while True:
        try:
            return _upload(connection, program, size, timeout)
        except GatewayCallError as error:
            time.sleep(attempts.failed(error))


def _upload(connection: Connection, program: bytes, size: int, timeout: float) -> bytes:
    method = connection.jobs.UploadProgram
    return bytes(connection.call_with_stream(method, upload_chunks(program, size), timeout).sha256)


def upload_timeout(default: float, size: int) -> float:
    """Return the seconds that an upload may take."""
    return default + size / _SLOWEST_UPLOAD


def upload_chunks(program: bytes, size: int) -> Iterator[job_service_pb2.UploadProgramRequest]:
    """Yield a program as messages of at most `size` bytes of data, after one that announces the whole and has none."""
    yield job_service_pb2.UploadProgramRequest(total_size_bytes=len(program), sha256=hashlib.sha256(program).digest())
    for start in range(0, len(program), size):
        yield job_service_pb2.UploadProgramRequest(data=program[start : start + size])
