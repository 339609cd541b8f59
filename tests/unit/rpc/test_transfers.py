"""Uploads over a real server: what is taken, for whom, and what is refused."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from qgateway.v1 import job_service_pb2, program_pb2

from gateway.domain.access import Role
from gateway.store import Store
from gateway.store.blocks import BLOCK_BYTES
from tests.support.waiting import until
from tests.unit.rpc.conftest import Wire, bearer, bell, details

Chunk = job_service_pb2.UploadProgramRequest
MIB = 1024 * 1024
PROGRAM = program_pb2.Program(qpy=program_pb2.QpyProgram(data=os.urandom(MIB + 5))).SerializeToString()


def chunks(program: bytes = PROGRAM, size: int = 300_000, **announced: Any) -> Iterator[Chunk]:
    yield Chunk(data=program[:size], **announced)
    for start in range(size, len(program), size):
        yield Chunk(data=program[start : start + size])


async def upload(
    wire: Wire, requests: Any = None, role: Role = Role.SUBMITTER
) -> job_service_pb2.UploadProgramResponse:
    """Upload once more for as long as grpc.aio loses the answer: one that comes while it sends is INTERNAL at the caller."""
    messages = requests if isinstance(requests, AsyncIterable) else list(chunks() if requests is None else requests)
    while True:
        try:
            response: job_service_pb2.UploadProgramResponse = await wire.jobs.UploadProgram(
                messages, metadata=bearer(role), timeout=20
            )
        except grpc.aio.AioRpcError as error:
            if error.details() != "Internal error from Core":
                raise
        else:
            return response


async def submit(wire: Wire, sha256: bytes, role: Role = Role.SUBMITTER, **fields: Any) -> Any:
    request = bell(**fields)
    request.program_sha256 = sha256
    return (await wire.jobs.SubmitJob(request, metadata=bearer(role), timeout=20)).job


def store_of(wire: Wire) -> Store:
    return wire.engine.store


def files_of(wire: Wire) -> list[Path]:
    return [path for path in store_of(wire).payloads.incoming.parent.rglob("*") if path.is_file()]


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), details(caught.value)["ErrorInfo"].reason


async def test_an_uploaded_program_is_run_and_downloaded_as_it_was_sent(wire: Wire) -> None:
    reply = await upload(wire)
    assert (reply.sha256, reply.size_bytes) == (hashlib.sha256(PROGRAM).digest(), len(PROGRAM))
    assert reply.expire_time.seconds > 0
    job = await submit(wire, reply.sha256)
    assert (job.program.sha256, job.program.size_bytes) == (reply.sha256, len(PROGRAM))
    request = job_service_pb2.DownloadJobProgramRequest(name=job.name, offset=len(PROGRAM) - 10)
    stream = wire.jobs.DownloadJobProgram(request, metadata=bearer())
    assert b"".join([chunk.data async for chunk in stream]) == PROGRAM[-10:]
    assert [entry.entry.action for entry in await store_of(wire).audit_records(limit=10)][:1] == ["program.upload"]


async def test_to_know_its_address_is_no_permission_to_use_another_tenants_program(wire: Wire) -> None:
    reply = await upload(wire)
    known = grpc.StatusCode.INVALID_ARGUMENT, "PROGRAM_NOT_UPLOADED"
    assert await refused(submit(wire, reply.sha256, Role.OPERATOR)) == known
    # An upload that announces the address alone brings nothing to light either.
    empty = chunks(b"", total_size_bytes=len(PROGRAM), sha256=reply.sha256)
    assert await refused(upload(wire, empty, Role.OPERATOR)) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert await refused(submit(wire, reply.sha256, Role.OPERATOR)) == known
    await upload(wire, role=Role.OPERATOR)
    assert (await submit(wire, reply.sha256, Role.OPERATOR)).name


async def test_what_was_never_uploaded_cannot_be_run(wire: Wire) -> None:
    assert await refused(submit(wire, b"x" * 32)) == (grpc.StatusCode.INVALID_ARGUMENT, "PROGRAM_NOT_UPLOADED")
    assert await refused(submit(wire, b"x")) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")


async def test_a_program_that_is_there_is_not_asked_for_again(wire: Wire) -> None:
    first = await upload(wire)
    asked = []

    async def announce() -> AsyncIterator[Chunk]:
        yield Chunk(sha256=first.sha256, total_size_bytes=len(PROGRAM))
        asked.append(True)
        await asyncio.Event().wait()

    again = await upload(wire, announce())
    assert again.sha256 == first.sha256
    assert again.expire_time.ToNanoseconds() > first.expire_time.ToNanoseconds()


@pytest.mark.parametrize(
    ("requests", "reason"),
    [
        (lambda: chunks(sha256=b"x" * 32), "UPLOAD_CORRUPT"),
        (lambda: chunks(total_size_bytes=len(PROGRAM) + 1), "UPLOAD_CORRUPT"),
        (lambda: chunks(b""), "INVALID_FIELD"),
        (lambda: iter(()), "INVALID_FIELD"),
        (lambda: chunks(total_size_bytes=-1), "INVALID_FIELD"),
        (lambda: chunks(sha256=b"short"), "INVALID_FIELD"),
        (lambda: chunks(total_size_bytes=4 * MIB + 1), "PROGRAM_TOO_LARGE"),
        (lambda: chunks(bytes(4 * MIB + 1)), "PROGRAM_TOO_LARGE"),
    ],
)
async def test_a_wrong_upload_is_refused_and_leaves_nothing(wire: Wire, requests: Any, reason: str) -> None:
    assert await refused(upload(wire, requests())) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    await store_of(wire).collect_garbage()
    assert files_of(wire) == []


async def test_a_message_that_is_none_is_the_callers_mistake(wire: Wire) -> None:
    send = wire.channel.stream_unary("/qgateway.v1.JobService/UploadProgram")
    for messages in ([b"\xff"], [Chunk(data=b"x").SerializeToString(), b"\xff"]):
        call = send(iter(messages), metadata=bearer(), timeout=20)
        assert await refused(call) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")


async def test_an_upload_that_its_caller_gives_up_leaves_nothing(wire: Wire) -> None:
    async def endless() -> AsyncIterator[Chunk]:
        for _ in range(BLOCK_BYTES // 300_000 + 1):
            yield Chunk(data=bytes(300_000))
        await asyncio.Event().wait()

    call = wire.jobs.UploadProgram(endless(), metadata=bearer(), timeout=60)
    await until(lambda: any(path.stat().st_size for path in files_of(wire)))
    call.cancel()
    await until(lambda: files_of(wire) == [])


async def test_a_viewer_may_not_upload(wire: Wire) -> None:
    assert (await refused(upload(wire, role=Role.VIEWER)))[0] is grpc.StatusCode.PERMISSION_DENIED
