"""How many uploads and downloads a caller may have under way, and when it may have another one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from qgateway.v1 import job_service_pb2, job_service_pb2_grpc, program_pb2

from gateway.domain.access import Role
from gateway.rpc.limits import Limits
from tests.unit.rpc.conftest import Wire, bearer, bell, details

PROGRAM = program_pb2.Program(qpy=program_pb2.QpyProgram(data=os.urandom(2_000_000))).SerializeToString()


@pytest.fixture
def limits() -> Limits:
    return Limits(chunk_bytes=64 * 1024, max_transfers_per_caller=2, stalled_stream_timeout=1.0)


@pytest.fixture
async def jobs(wire: Wire) -> AsyncIterator[Any]:
    """Stubs over a connection whose window is small and stays small: nothing large arrives before it is read."""
    options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16 * 1024)]
    async with grpc.aio.insecure_channel(wire.target, options) as channel:
        yield job_service_pb2_grpc.JobServiceStub(channel)


@pytest.fixture
async def name(wire: Wire) -> str:
    """A job whose program is too large to be on its way at once."""
    chunk = job_service_pb2.UploadProgramRequest(data=PROGRAM)
    uploaded = await wire.jobs.UploadProgram([chunk], metadata=bearer(), timeout=20)
    request = bell()
    request.program_sha256 = uploaded.sha256
    submitted = await wire.jobs.SubmitJob(request, metadata=bearer(), timeout=20)
    return str(submitted.job.name)


def download(jobs: Any, name: str, role: Role = Role.SUBMITTER) -> Any:
    return jobs.DownloadJobProgram(job_service_pb2.DownloadJobProgramRequest(name=name), metadata=bearer(role))


async def upload_without_end() -> AsyncIterator[job_service_pb2.UploadProgramRequest]:
    yield job_service_pb2.UploadProgramRequest(data=b"x")
    await asyncio.Event().wait()


async def tried(jobs: Any, name: str) -> tuple[Any, grpc.aio.AioRpcError | None]:
    """Begin a download; return the call, and the error if it is refused."""
    call = download(jobs, name)
    try:
        await call.read()
    except grpc.aio.AioRpcError as error:
        return call, error
    return call, None


async def refused(jobs: Any, name: str) -> dict[str, Any]:
    """Download until it is refused; return the details of the refusal."""
    async with asyncio.timeout(20):
        while (outcome := await tried(jobs, name))[1] is None:
            outcome[0].cancel()
    assert outcome[1].code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return details(outcome[1])


async def let_in(jobs: Any, name: str) -> Any:
    """Download until it is not refused; return the call."""
    async with asyncio.timeout(20):
        while (outcome := await tried(jobs, name))[1] is not None:
            assert details(outcome[1])["ErrorInfo"].reason == "TOO_MANY_TRANSFERS"
    return outcome[0]


async def test_one_transfer_too_many_is_refused_with_a_time_to_retry(jobs: Any, name: str) -> None:
    held = [await let_in(jobs, name), jobs.UploadProgram(upload_without_end(), metadata=bearer())]
    told = await refused(jobs, name)
    assert told["ErrorInfo"].reason == "TOO_MANY_TRANSFERS"
    assert told["ErrorInfo"].metadata["limit"] == "2"
    assert told["RetryInfo"].retry_delay.ToMilliseconds() >= 1000
    for call in held:
        call.cancel()


async def test_the_limit_is_each_callers_own_and_not_that_of_watches(jobs: Any, name: str) -> None:
    held = [await let_in(jobs, name) for _ in range(2)]
    await refused(jobs, name)
    other = download(jobs, name, Role.VIEWER)
    assert (await other.read()).data
    watch = jobs.WatchJobs(job_service_pb2.WatchJobsRequest(), metadata=bearer())
    assert await watch.read() is not grpc.aio.EOF
    for call in (*held, other, watch):
        call.cancel()


@pytest.mark.parametrize("ends", ["it is read to its end", "its caller cancels it", "it is not read"])
async def test_a_transfer_frees_its_place_when(ends: str, jobs: Any, name: str) -> None:
    held = [await let_in(jobs, name) for _ in range(2)]
    await refused(jobs, name)
    if ends == "it is read to its end":
        while await held[0].read() is not grpc.aio.EOF:
            pass
    elif ends == "its caller cancels it":
        held[0].cancel()
    again = await let_in(jobs, name)
    for call in (*held, again):
        call.cancel()


async def test_an_upload_that_is_refused_or_cancelled_frees_its_place(jobs: Any, name: str) -> None:
    for _ in range(3):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await jobs.UploadProgram([job_service_pb2.UploadProgramRequest()], metadata=bearer(), timeout=20)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    uploads = [jobs.UploadProgram(upload_without_end(), metadata=bearer()) for _ in range(2)]
    await refused(jobs, name)
    for call in uploads:
        call.cancel()
    held = [await let_in(jobs, name) for _ in range(2)]
    for call in held:
        call.cancel()
