"""What a large result costs the client that writes it to a file."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from qgateway.v1 import result_pb2

from tests.support.gateway_process import GatewayProcess
from tests.support.stored_jobs import store_done_job

MIB = 1024 * 1024
PEAK = '''
from pathlib import Path
import sys

def peak():
    """Return the most memory that this process ever had, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

small, large, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
'''
SYNC = """
from qgateway import GatewayProvider

with GatewayProvider() as provider:
    provider.retrieve_job(small).download_result(folder / "small")
    before = peak()
    provider.retrieve_job(large).download_result(folder / "large")
print(peak() - before)
"""
AIO = """
import asyncio
from qgateway.aio import GatewayProvider

async def main():
    async with GatewayProvider() as provider:
        await (await provider.retrieve_job(small)).download_result(folder / "small")
        before = peak()
        await (await provider.retrieve_job(large)).download_result(folder / "large")
    print(peak() - before)

asyncio.run(main())
"""


def result_of(size: int) -> bytes:
    """Return a result with so many bytes of outcomes at random."""
    bits = result_pb2.PackedBits(data=os.urandom(size))
    register = result_pb2.RegisterResult(register_name="c", size=8, bits=bits)
    experiment = result_pb2.ExperimentResult(circuit_name="one", shots=size, success=True, registers=[register])
    return result_pb2.JobResult(success=True, experiments=[experiment]).SerializeToString()


@pytest.mark.parametrize("client", [SYNC, AIO], ids=["sync", "aio"])
async def test_a_large_result_that_is_written_to_a_file_costs_the_client_little_memory(
    new_gateway: Callable[..., GatewayProcess], tmp_path: Path, client: str
) -> None:
    database = tmp_path / "store" / "qgateway.db"
    large = result_of(96 * MIB)
    names = [await store_done_job(database, result) for result in (result_of(2 * MIB), large)]
    gateway = new_gateway({"ACCOUNTS": "{}"}).start()
    arguments = [*(name.removeprefix("jobs/") for name in names), str(tmp_path)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PEAK + client,
        *arguments,
        env={**os.environ, "QGATEWAY_TARGET": gateway.target, "QGATEWAY_API_KEY": gateway.api_key},
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await process.communicate()
    assert process.returncode == 0
    assert int(told) < 32 * MIB
    assert (tmp_path / "large").read_bytes() == large
