"""Programs and results of any size, through the real server process."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from qgateway import GatewayProvider, _aio_transfer, _transfer
from qgateway._aio_connection import AioConnection
from qgateway._connection import ApiKey, Connection, ConnectionSettings
from qgateway.aio import GatewayProvider as AioGatewayProvider
from qgateway.exceptions import IBMJobApiError
from qgateway.v1 import job_pb2, job_service_pb2, program_pb2, result_pb2
from qiskit import QuantumCircuit

from tests.support.gateway_process import GatewayProcess
from tests.support.stored_jobs import store_done_job
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until
from tests.support.wire import Wire, connected

NewGateway = Callable[..., GatewayProcess]
MIB = 1024 * 1024


async def stored(folder: Path, result: bytes) -> str:
    """Store a job that is DONE with a result, for a gateway that is not started yet; return its name."""
    return await store_done_job(folder / "store" / "qgateway.db", result)


def large_result(experiments: int, size: int) -> bytes:
    """Return a result whose experiments each hold so many bytes of outcomes at random, one byte a shot."""
    return result_pb2.JobResult(
        success=True,
        experiments=[
            result_pb2.ExperimentResult(
                circuit_name=f"circuit-{index}",
                shots=size,
                success=True,
                registers=[
                    result_pb2.RegisterResult(
                        register_name="c", size=8, bits=result_pb2.PackedBits(data=os.urandom(size))
                    )
                ],
            )
            for index in range(experiments)
        ],
    ).SerializeToString()


def connection_to(gateway: GatewayProcess, target: str = "") -> Connection:
    return Connection(ConnectionSettings(target=target or gateway.target, api_key=ApiKey(gateway.api_key)))


def files_beside(folder: Path) -> list[Path]:
    return [path for path in (folder / "store" / "qgateway.db.files").rglob("*") if path.is_file()]


async def test_a_download_goes_on_where_it_was_cut_however_often(new_gateway: NewGateway, tmp_path: Path) -> None:
    result = large_result(1, 24 * MIB)
    name = await stored(tmp_path, result)
    gateway = new_gateway().start()
    chance = random.Random(4)  # noqa: S311 - the same cuts in every run
    places = sorted(chance.sample(range(len(result)), 6))
    with TcpProxy(gateway.target) as proxy, connection_to(gateway, proxy.target) as connection:
        proxy.slow_down(bytes_per_second=40 * MIB)  # or all is on its way to the client before the first cut
        seen: list[int] = []

        def cut_at_places(done: int, total: int) -> None:
            assert total == len(result)
            seen.append(done)
            if places and done >= places[0]:
                while places and done >= places[0]:
                    del places[0]
                proxy.cut()

        with (tmp_path / "download").open("wb") as file:
            _transfer.download_result_to(connection, name, file, progress=cut_at_places)
        assert proxy.accepted > 3
    assert not places
    assert seen == sorted(seen)
    assert (tmp_path / "download").read_bytes() == result


@pytest.mark.parametrize("client", ["sync", "asyncio"])
async def test_a_download_that_falls_silent_goes_on_over_a_new_connection(
    client: str, new_gateway: NewGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (_transfer, _aio_transfer):
        monkeypatch.setattr(module, "LONGEST_SILENCE", 0.5)
    result = large_result(1, 24 * MIB)
    name = await stored(tmp_path, result)
    gateway = new_gateway().start()
    with TcpProxy(gateway.target) as proxy, (tmp_path / "download").open("wb") as file:

        def stall_at_the_beginning(done: int, total: int) -> None:
            if done <= MIB:
                proxy.stall(new=False)

        if client == "sync":
            with connection_to(gateway, proxy.target) as connection:
                _transfer.download_result_to(connection, name, file, progress=stall_at_the_beginning)
        else:
            async with AioConnection(connection_to(gateway, proxy.target).settings) as aio_connection:
                await _aio_transfer.download_result_to(aio_connection, name, file, progress=stall_at_the_beginning)
        assert proxy.accepted >= 2
    assert (tmp_path / "download").read_bytes() == result


async def test_a_file_that_is_slow_to_write_does_not_stop_the_event_loop(
    new_gateway: NewGateway, tmp_path: Path
) -> None:
    result = large_result(1, 2 * MIB)
    name = await stored(tmp_path, result)
    gateway = new_gateway().start()
    os.mkfifo(tmp_path / "pipe")
    # A pipe that nobody reads takes 64 KiB, and then whoever writes waits.
    end = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with (tmp_path / "pipe").open("wb") as pipe, os.fdopen(end, "rb") as reader:
        os.set_blocking(end, True)
        async with AioConnection(connection_to(gateway).settings) as connection:
            downloading = asyncio.create_task(_aio_transfer.download_result_to(connection, name, pipe))
            begin = await asyncio.to_thread(reader.read, 1)
            for _ in range(100):
                await asyncio.sleep(0)
            assert not downloading.done()
            reading = asyncio.create_task(asyncio.to_thread(reader.read))
            await downloading
        await asyncio.to_thread(pipe.close)
        assert begin + await reading == result


async def test_a_large_download_costs_the_server_little_memory(new_gateway: NewGateway, tmp_path: Path) -> None:
    result = large_result(2, 64 * MIB)
    name = await stored(tmp_path, result)
    gateway = new_gateway({"ACCOUNTS": "{}"}).start()
    server = psutil.Process(gateway.pid)
    with connection_to(gateway) as connection, (tmp_path / "download").open("wb") as file:
        before, most = server.memory_info().rss, 0

        def watch_memory(done: int, total: int) -> None:
            nonlocal most
            most = max(most, server.memory_info().rss)

        _transfer.download_result_to(connection, name, file, progress=watch_memory)
    assert most - before < 32 * MIB
    with (tmp_path / "download").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").digest() == hashlib.sha256(result).digest()


async def test_experiments_of_a_result_too_large_for_a_message_are_selected(
    new_gateway: NewGateway, tmp_path: Path
) -> None:
    result = large_result(8, 2 * MIB)
    name = await stored(tmp_path, result)
    gateway = new_gateway().start()
    with connected(gateway) as wire:

        def select(*experiments: int, **what: bool) -> result_pb2.JobResult:
            request = job_service_pb2.GetJobResultRequest(name=name, experiments=experiments, **what)
            selected: result_pb2.JobResult = wire.jobs.GetJobResult(request, metadata=wire.metadata, timeout=60).result
            return selected

        with pytest.raises(grpc.RpcError) as caught:
            select()
        assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE
        whole = result_pb2.JobResult.FromString(result)
        assert select(5).experiments == [whole.experiments[5]]
        counted = select(7, 0, include_counts=True, omit_shots=True)
        assert [item.circuit_name for item in counted.experiments] == ["circuit-7", "circuit-0"]
        assert [sum(item.counts.values()) for item in counted.experiments] == [2 * MIB] * 2
        for wrong in [(8,), (-1,), (3, 3)]:
            with pytest.raises(grpc.RpcError) as caught:
                select(*wrong)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_large_result_of_a_run_stands_in_a_file_that_goes_with_its_job(
    new_gateway: NewGateway, tmp_path: Path
) -> None:
    gateway = new_gateway().start()
    circuit = QuantumCircuit(1, 200)
    circuit.h(0)
    for bit in range(200):
        circuit.measure(0, bit)
    with GatewayProvider(target=gateway.target, api_key=gateway.api_key) as provider:
        job = provider.get_backend("local_simulator").run(circuit, shots=60_000)
        counts = job.result().get_counts()
        assert set(counts) == {"0" * 200, "1" * 200}
        assert sum(counts.values()) == 60_000
        (file,) = files_beside(tmp_path)
        assert file.stat().st_size > 60_000 * 25
    with connected(gateway) as wire:
        request = job_service_pb2.DeleteJobRequest(name=f"jobs/{job.job_id()}")
        wire.jobs.DeleteJob(request, metadata=wire.metadata, timeout=20)
    assert files_beside(tmp_path) == []


async def test_a_job_writes_its_result_to_a_file_that_is_whole_or_not_there(
    new_gateway: NewGateway, tmp_path: Path
) -> None:
    result = large_result(1, 3 * MIB)
    name = await stored(tmp_path, result)
    gateway = new_gateway().start()
    folder = tmp_path / "mine"
    folder.mkdir()
    with GatewayProvider(target=gateway.target, api_key=gateway.api_key) as provider:
        job = provider.retrieve_job(name.removeprefix("jobs/"))
        job.download_result(folder / "result")
        assert (folder / "result").read_bytes() == result
        for file in files_beside(tmp_path):
            file.write_bytes(bytes(len(result)))  # damaged on disk: what comes does not match its SHA-256
        with pytest.raises(IBMJobApiError, match="SHA-256"):
            job.download_result(folder / "damaged")
    assert [path.name for path in folder.iterdir()] == ["result"]
    async with AioGatewayProvider(target=gateway.target, api_key=gateway.api_key) as aio_provider:
        aio_job = await aio_provider.retrieve_job(name.removeprefix("jobs/"))
        with pytest.raises(IBMJobApiError, match="SHA-256"):
            await aio_job.download_result(folder / "damaged")
    assert [path.name for path in folder.iterdir()] == ["result"]


def test_a_program_too_large_for_a_message_is_uploaded_by_the_client_and_run(
    new_gateway: NewGateway, tmp_path: Path
) -> None:
    settings = {"SERVER__MAX_REQUEST_BYTES": "65536", "SERVER__CHUNK_BYTES": "16384"}
    gateway = new_gateway(settings).start()
    circuit = QuantumCircuit(2)
    for _ in range(20_000):
        circuit.x(0)
    circuit.measure_all()
    with GatewayProvider(target=gateway.target, api_key=gateway.api_key) as provider:
        job = provider.get_backend("local_simulator").run(circuit, shots=10)
        assert job.result().get_counts() == {"00": 10}
        assert job.circuits()[0] == circuit
    with connected(gateway) as wire:
        assert wire.get(f"jobs/{job.job_id()}").program.size_bytes > 65536
    # Killed and started again, it has the program still.
    gateway.kill()
    gateway.start()
    with connected(gateway) as wire:
        stream = wire.jobs.DownloadJobProgram(
            job_service_pb2.DownloadJobProgramRequest(name=f"jobs/{job.job_id()}"), metadata=wire.metadata, timeout=20
        )
        data = b"".join(chunk.data for chunk in stream)
    assert program_pb2.Program.FromString(data).HasField("qpy")


def test_an_upload_costs_the_server_little_memory_and_stops_at_the_limit(
    new_gateway: NewGateway, tmp_path: Path
) -> None:
    gateway = new_gateway({"ACCOUNTS": "{}", "SERVER__MAX_PROGRAM_BYTES": str(96 * MIB)}).start()
    server = psutil.Process(gateway.pid)
    chunk = os.urandom(MIB)
    most = 0

    def requests(count: int) -> Iterator[job_service_pb2.UploadProgramRequest]:
        nonlocal most
        for _ in range(count):
            yield job_service_pb2.UploadProgramRequest(data=chunk)
            most = max(most, server.memory_info().rss)

    with connected(gateway) as wire:
        before = server.memory_info().rss
        reply = wire.jobs.UploadProgram(requests(96), metadata=wire.metadata, timeout=60)
        assert reply.sha256 == hashlib.sha256(chunk * 96).digest()
        assert most - before < 32 * MIB
        with pytest.raises(grpc.RpcError) as caught:
            wire.jobs.UploadProgram(requests(97), metadata=wire.metadata, timeout=60)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "100663296 bytes" in (caught.value.details() or "")
        wait_until(lambda: len(files_beside(tmp_path)) == 1)


def test_what_a_kill_left_of_an_upload_is_gone_after_the_next_start(new_gateway: NewGateway, tmp_path: Path) -> None:
    gateway = new_gateway().start()
    with connected(gateway) as wire:
        arrived = _upload_until_something_is_written(wire, tmp_path)
        gateway.kill()
        with pytest.raises(grpc.RpcError):
            arrived.result(timeout=20)
    assert files_beside(tmp_path)
    gateway.start()
    assert files_beside(tmp_path) == []
    with connected(gateway) as wire:
        assert wire.finish(wire.submit().name).status == job_pb2.JOB_STATUS_DONE


def _upload_until_something_is_written(wire: Wire, folder: Path) -> grpc.Future:
    def requests() -> Iterator[job_service_pb2.UploadProgramRequest]:
        while True:
            yield job_service_pb2.UploadProgramRequest(data=bytes(MIB))
            if any(path.stat().st_size for path in files_beside(folder)):
                wait_until(call.done, within=30)
                return

    call: grpc.Future = wire.jobs.UploadProgram.future(requests(), metadata=wire.metadata, timeout=60)
    wait_until(lambda: any(path.stat().st_size for path in files_beside(folder)))
    return call
