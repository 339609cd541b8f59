"""`download` and `upload`: what the gateway makes of a bare stream of the same bytes, and the memory that it takes for that.

The same client reads, or writes, prepared bytes on both sides. What it would do with them comes on top on both.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import psutil
from qgateway.v1 import job_service_pb2

from benchmarks.bare_streams import CHUNK_BYTES, DOWNLOAD, UPLOAD
from benchmarks.harness import Figure, Server, bare_server, gateway_server, interleaved, median
from tests.support.stored_jobs import store_done_job

_CHUNKS = 512
_BYTES = _CHUNKS * CHUNK_BYTES
_ROUNDS = 5
_TARGET = 0.8
_RSS_TARGET = 32.0
_SAMPLE_SECONDS = 0.005
_OPTIONS = [("grpc.max_receive_message_length", -1)]


def run(progress: Callable[[], None]) -> list[Figure]:
    """Measure a download and an upload of 512 MiB."""
    with tempfile.TemporaryDirectory(prefix="qgateway-bench-") as folder, asyncio.Runner() as runner:
        path = Path(folder) / "qgateway.db"
        name = runner.run(store_done_job(path, os.urandom(_BYTES)))
        settings = {"STORE__PATH": str(path), "SERVER__MAX_PROGRAM_BYTES": str(_BYTES + CHUNK_BYTES), "ACCOUNTS": "{}"}
        result = set(_payloads(path))
        with gateway_server(**settings) as gateway, bare_server("benchmarks.bare_streams") as bare:
            transfers = runner.run(_connected(gateway, bare, name))

            def next_value() -> None:
                # Programs that pile up would fill the memory with pages of their files, and that takes its time.
                for file in set(_payloads(path)) - result:
                    file.unlink()
                progress()

            return [figure for each in transfers for figure in _figures(runner, each, gateway, bare, next_value)]


def _payloads(store: Path) -> Iterable[Path]:
    return store.with_name(f"{store.name}.files").glob("??/*")


class _Transfer(NamedTuple):
    """What to measure in one direction."""

    direction: str
    through_gateway: Callable[[], Coroutine[Any, Any, None]]
    through_bare: Callable[[], Coroutine[Any, Any, None]]


async def _connected(gateway: Server, bare: Server, name: str) -> list[_Transfer]:
    """Return what to measure. One event loop serves all channels."""
    to_gateway = grpc.aio.insecure_channel(gateway.target, options=_OPTIONS)
    to_bare = grpc.aio.insecure_channel(bare.target, options=_OPTIONS)
    metadata = (("authorization", f"Bearer {gateway.api_key}"),)
    request = job_service_pb2.DownloadJobResultRequest(name=name).SerializeToString()
    result = to_gateway.unary_stream("/qgateway.v1.JobService/DownloadJobResult")
    program = to_gateway.stream_unary("/qgateway.v1.JobService/UploadProgram")
    prepared = to_bare.unary_stream(DOWNLOAD)
    counted = to_bare.stream_unary(UPLOAD)
    message = job_service_pb2.UploadProgramRequest(data=os.urandom(CHUNK_BYTES)).SerializeToString()
    return [
        _Transfer(
            "download",
            lambda: _read(result(request, metadata=metadata)),
            lambda: _read(prepared(str(_CHUNKS).encode())),
        ),
        _Transfer(
            "upload",
            lambda: _wait(program(_new_and(message), metadata=metadata)),
            lambda: _wait(counted(_new_and(message))),
        ),
    ]


def _figures(
    runner: asyncio.Runner, transfer: _Transfer, gateway: Server, bare: Server, progress: Callable[[], None]
) -> Iterator[Figure]:
    # What a server takes once, for its first transfer, is no growth by size.
    for first in (transfer.through_bare, transfer.through_gateway):
        _rate(runner, first)
    growths: list[float] = []

    def gateway_side() -> float:
        with _growth(gateway.pid, growths):
            return _rate(runner, transfer.through_gateway)

    def bare_side() -> float:
        with _growth(bare.pid, []):  # to look costs the client time, on this side, too
            return _rate(runner, transfer.through_bare)

    values = interleaved({"gateway": gateway_side, "bare": bare_side}, _ROUNDS, progress)
    value, baseline = median(values["gateway"]), median(values["bare"])
    yield Figure.compared(
        transfer.direction,
        "MB/s",
        value,
        baseline,
        f"{_CHUNKS} MiB in chunks of 1 MiB, random bytes, stored, ÷ a bare grpc.aio stream of prepared bytes; same client",
        at_least=_TARGET,
    )
    yield Figure.alone(
        f"{transfer.direction}_rss_growth",
        "MiB",
        max(growths),
        f"most resident memory of the server during the {transfer.direction}, less before it; the most of {_ROUNDS} runs",
        at_most=_RSS_TARGET,
    )


def _rate(runner: asyncio.Runner, transfer: Callable[[], Coroutine[Any, Any, None]]) -> float:
    started = time.perf_counter()
    runner.run(transfer())
    return _BYTES / 1e6 / (time.perf_counter() - started)


async def _read(call: grpc.aio.UnaryStreamCall[bytes, bytes]) -> None:
    size = 0
    while (message := await call.read()) is not grpc.aio.EOF:
        size += len(message)  # type: ignore[arg-type]
    assert size >= _BYTES, size


async def _wait(call: grpc.aio.StreamUnaryCall[bytes, bytes]) -> None:
    await call


async def _new_and(message: bytes) -> AsyncIterator[bytes]:
    """Yield what makes a program one that the gateway does not have, and the same message again and again."""
    yield job_service_pb2.UploadProgramRequest(data=os.urandom(16)).SerializeToString()
    for _ in range(_CHUNKS):
        yield message


@contextmanager
def _growth(pid: int, growths: list[float]) -> Iterator[None]:
    """Note by how many MiB a process grew, at most, at any time until the end."""
    process = psutil.Process(pid)
    before = most = process.memory_info().rss
    over = threading.Event()

    def sample() -> None:
        nonlocal most
        while not over.wait(_SAMPLE_SECONDS):
            most = max(most, process.memory_info().rss)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield
    finally:
        over.set()
        sampler.join()
        growths.append((most - before) / 2**20)
