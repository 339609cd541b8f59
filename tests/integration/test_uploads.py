"""Uploads with asyncio, and transfers that wait for their turn, through the real server process."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from qgateway import _aio_transfer, _transfer
from qgateway._aio_connection import AioConnection
from qgateway._connection import ApiKey, Connection, ConnectionSettings
from qgateway._errors import GatewayCallError
from qgateway.aio import GatewayProvider
from qgateway.v1 import job_service_pb2, program_pb2
from qiskit import QuantumCircuit

from tests.support.gateway_process import GatewayProcess
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import until

NewGateway = Callable[..., GatewayProcess]
MIB = 1024 * 1024


def settings_of(gateway: GatewayProcess, target: str = "") -> ConnectionSettings:
    return ConnectionSettings(target=target or gateway.target, api_key=ApiKey(gateway.api_key))


def files_beside(folder: Path) -> list[Path]:
    return [path for path in (folder / "store" / "qgateway.db.files").rglob("*") if path.is_file()]


def large_program(size: int) -> bytes:
    return program_pb2.Program(qpy=program_pb2.QpyProgram(data=os.urandom(size))).SerializeToString()


async def test_a_program_above_the_announced_size_is_uploaded_with_asyncio_and_run(new_gateway: NewGateway) -> None:
    gateway = new_gateway({"SERVER__MAX_REQUEST_BYTES": "65536", "SERVER__CHUNK_BYTES": "16384"}).start()
    circuit = QuantumCircuit(2)
    for _ in range(20_000):
        circuit.x(0)
    circuit.measure_all()
    async with GatewayProvider(gateway.target, gateway.api_key) as provider:
        backend = await provider.get_backend("local_simulator")
        for _ in range(2):  # the second time, the gateway has the program
            job = await backend.run(circuit, shots=10)
            assert (await job.result(timeout=60)).get_counts() == {"00": 10}
            assert await job.circuits() == [circuit]


async def test_an_upload_that_is_cancelled_in_the_middle_leaves_nothing_behind(
    new_gateway: NewGateway, tmp_path: Path
) -> None:
    gateway = new_gateway({"ACCOUNTS": "{}", "SERVER__MAX_TRANSFERS_PER_CALLER": "1"}).start()
    program = large_program(24 * MIB)
    with TcpProxy(gateway.target) as proxy:
        async with AioConnection(settings_of(gateway, proxy.target)) as connection:
            await connection.server_info()
            before = asyncio.all_tasks()
            proxy.slow_down(bytes_per_second=16 * MIB)
            uploading = asyncio.create_task(_aio_transfer.upload_program(connection, program))
            await until(lambda: any(path.stat().st_size for path in files_beside(tmp_path)))
            assert not uploading.done()
            uploading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await uploading
            await until(lambda: files_beside(tmp_path) == [])
            await until(lambda: asyncio.all_tasks() <= before)
    # It has given its place back, too: there is only one.
    async with AioConnection(settings_of(gateway)) as connection:
        await _aio_transfer.upload_program(connection, program)
    assert [path.stat().st_size for path in files_beside(tmp_path)] == [len(program)]


async def test_the_answer_to_an_upload_is_not_lost_while_it_is_sent(
    new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"ACCOUNTS": "{}", "SERVER__MAX_PROGRAM_BYTES": str(16 * MIB)}
    gateway = new_gateway(settings).start()
    monkeypatch.setattr(_transfer.UploadAttempts, "failed", _raise)
    kept = large_program(12 * MIB)
    async with AioConnection(settings_of(gateway)) as connection:
        for _ in range(20):
            with pytest.raises(GatewayCallError) as caught:
                await _aio_transfer.upload_program(connection, large_program(24 * MIB))
            assert caught.value.reason == "PROGRAM_TOO_LARGE"
            # It is there from the second time on, and the answer comes at once.
            assert await _aio_transfer.upload_program(connection, kept) == hashlib.sha256(kept).digest()


def _raise(attempts: _transfer.UploadAttempts, error: GatewayCallError) -> float:
    raise error


@pytest.mark.parametrize("client", ["sync", "asyncio"])
async def test_a_transfer_waits_for_its_turn(
    client: str, new_gateway: NewGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = new_gateway({"ACCOUNTS": "{}", "SERVER__MAX_TRANSFERS_PER_CALLER": "1"}).start()
    refusals: list[GatewayCallError] = []
    failed = _transfer.UploadAttempts.failed

    def note(attempts: _transfer.UploadAttempts, error: GatewayCallError) -> float:
        refusals.append(error)
        return failed(attempts, error)

    monkeypatch.setattr(_transfer.UploadAttempts, "failed", note)
    first, second = large_program(4 * MIB), large_program(4 * MIB)
    may_end = asyncio.Event()

    async def chunks() -> AsyncIterator[job_service_pb2.UploadProgramRequest]:
        for start in range(0, len(first), MIB):
            yield job_service_pb2.UploadProgramRequest(data=first[start : start + MIB])
        await may_end.wait()

    async with AioConnection(settings_of(gateway)) as connection:
        held = connection.jobs.UploadProgram(
            chunks(), metadata=(("authorization", f"Bearer {gateway.api_key}"),), timeout=60
        )
        await until(lambda: any(path.stat().st_size for path in files_beside(tmp_path)))
        if client == "sync":
            other = Connection(settings_of(gateway))
            waiting = asyncio.create_task(asyncio.to_thread(_transfer.upload_program, other, second))
        else:
            waiting = asyncio.create_task(_aio_transfer.upload_program(connection, second))
        await until(lambda: refusals)
        assert not waiting.done()
        may_end.set()
        assert (await held).size_bytes == len(first)
        assert await waiting
        assert {error.reason for error in refusals} == {"TOO_MANY_TRANSFERS"}
        assert refusals[0].retry_after
        if client == "sync":
            other.close()
    assert sorted(path.stat().st_size for path in files_beside(tmp_path)) == sorted([len(first), len(second)])
