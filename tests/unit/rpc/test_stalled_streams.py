"""Readers who are alive and read nothing: what becomes of their streams, and that they lose nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
import structlog
from qgateway.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc, program_pb2

from gateway.rpc.limits import Limits
from tests.support.waiting import until
from tests.unit.rpc.conftest import Wire, bearer, bell, details

PROGRAM = program_pb2.Program(qpy=program_pb2.QpyProgram(data=os.urandom(2_000_000))).SerializeToString()


@pytest.fixture
def limits() -> Limits:
    return Limits(heartbeat_interval=0.2, chunk_bytes=64 * 1024, stalled_stream_timeout=1.0)


@pytest.fixture
async def jobs(wire: Wire) -> AsyncIterator[Any]:
    """Stubs over a connection whose window is small and stays small."""
    options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16 * 1024)]
    async with grpc.aio.insecure_channel(wire.target, options) as channel:
        yield job_service_pb2_grpc.JobServiceStub(channel)


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


def has_stalled(log: list[Any]) -> bool:
    return any(entry.get("reason") == "STREAM_STALLED" for entry in log)


async def read_to_the_end(call: Any) -> tuple[list[Any], grpc.aio.AioRpcError]:
    """Return what a stream still brings, and the error that ends it."""
    responses: list[Any] = []
    try:
        async with asyncio.timeout(20):
            while (response := await call.read()) is not grpc.aio.EOF:
                responses.append(response)
    except grpc.aio.AioRpcError as error:
        return responses, error
    raise AssertionError("the stream ended with OK")


def revisions(responses: list[Any]) -> list[int]:
    return [response.event.revision for response in responses if response.HasField("event")]


async def test_a_watch_that_is_not_read_ends_and_goes_on_from_its_token(wire: Wire, jobs: Any, log: list[Any]) -> None:
    stalled = jobs.WatchJobs(job_service_pb2.WatchJobsRequest(), metadata=bearer())
    first = await stalled.read()
    job = (await wire.jobs.SubmitJob(bell(), metadata=bearer())).job
    renamed = 0
    async with asyncio.timeout(30):
        while wire.engine._hub.watchers:
            renamed += 1
            request = job_service_pb2.UpdateJobRequest(
                job=job_pb2.Job(name=job.name, display_name=f"{renamed} {'x' * 100}")
            )
            request.update_mask.paths.append("display_name")
            await wire.jobs.UpdateJob(request, metadata=bearer())
    assert has_stalled(log)
    # What was on its way is told, and then what happened.
    responses, error = await read_to_the_end(stalled)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert details(error)["ErrorInfo"].reason == "STREAM_STALLED"
    request = job_service_pb2.WatchJobsRequest(resume_token=[first, *responses][-1].resume_token)
    resumed = jobs.WatchJobs(request, metadata=bearer(), timeout=20)
    while wire.engine._hub.last_revision not in revisions(responses):
        responses.append(await resumed.read())
    resumed.cancel()
    stored = await wire.engine.store.events(after=0, limit=10_000)
    assert revisions(responses) == [event.revision for event in stored]


async def test_a_download_that_is_not_read_ends_and_goes_on_at_its_offset(
    wire: Wire, jobs: Any, log: list[Any]
) -> None:
    chunks = [
        job_service_pb2.UploadProgramRequest(data=PROGRAM[at : at + 50_000]) for at in range(0, len(PROGRAM), 50_000)
    ]
    uploaded = await wire.jobs.UploadProgram(iter(chunks), metadata=bearer(), timeout=20)
    submission = bell()
    submission.program_sha256 = uploaded.sha256
    job = (await wire.jobs.SubmitJob(submission, metadata=bearer(), timeout=20)).job
    stalled = jobs.DownloadJobProgram(job_service_pb2.DownloadJobProgramRequest(name=job.name), metadata=bearer())
    first = await stalled.read()
    await until(lambda: has_stalled(log))
    responses, error = await read_to_the_end(stalled)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert details(error)["ErrorInfo"].reason == "STREAM_STALLED"
    had = b"".join(response.data for response in [first, *responses])
    assert len(had) < len(PROGRAM)
    request = job_service_pb2.DownloadJobProgramRequest(name=job.name, offset=len(had))
    rest = jobs.DownloadJobProgram(request, metadata=bearer(), timeout=20)
    assert had + b"".join([chunk.data async for chunk in rest]) == PROGRAM
