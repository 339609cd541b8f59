"""The client for asyncio on a running gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from qgateway.aio import GatewayCircuitJob, GatewayProvider
from qgateway.exceptions import IBMBackendValueError, IBMJobInvalidStateError, IBMJobTimeoutError
from qiskit import QuantumCircuit, transpile
from qiskit.circuit.library import quantum_volume
from qiskit.providers import JobStatus

from tests.support.gateway_process import GatewayProcess

BELL = QuantumCircuit(2, 2, name="bell")
BELL.h(0)
BELL.cx(0, 1)
BELL.measure([0, 1], [0, 1])


@pytest.fixture
async def provider(gateway: GatewayProcess) -> AsyncIterator[GatewayProvider]:
    async with GatewayProvider(gateway.target, gateway.api_key) as made:
        yield made


def long_circuit() -> QuantumCircuit:
    """A circuit that takes minutes."""
    circuit = quantum_volume(22, depth=400, seed=7).decompose()
    circuit.measure_all()
    return circuit


async def test_a_bell_pair_runs(provider: GatewayProvider) -> None:
    backend = await provider.get_backend("local_simulator")
    job = await backend.run(BELL, shots=1000, seed_simulator=1, job_tags=["aio"], memory=True)
    result = await job.result(timeout=60)
    assert set(result.get_counts()) == {"00", "11"}
    assert len(result.get_memory()) == 1000
    assert await job.status() == JobStatus.DONE
    assert (await job.circuits()) == [BELL]
    first, *_ = await job.events()
    assert first.type == "CREATED"
    found = await provider.jobs(job_tags=["aio"], status="completed")
    assert job in found
    again = await (await provider.retrieve_job(job.job_id())).result()
    assert again.get_counts() == result.get_counts()


async def test_circuits_are_transpiled_for_a_noisy_device(provider: GatewayProvider) -> None:
    backend = await provider.get_backend("local_noisy_27q")
    job = await backend.run(transpile(BELL, backend), shots=200)
    counts = (await job.result(timeout=60)).get_counts()
    assert sum(counts.values()) == 200
    assert await job.properties() is not None


async def test_many_jobs_run_at_once(provider: GatewayProvider) -> None:
    backend = await provider.least_busy(filters=lambda each: each.name == "local_simulator")
    jobs = await asyncio.gather(*(backend.run(BELL, shots=10 + number) for number in range(8)))
    results = await asyncio.gather(*(job.result(timeout=100) for job in jobs))
    assert [sum(result.get_counts().values()) for result in results] == list(range(10, 18))


async def test_a_long_job_is_waited_for_and_cancelled(provider: GatewayProvider) -> None:
    backend = await provider.get_backend("local_simulator")
    job = await backend.run(long_circuit(), shots=10)
    begin = time.monotonic()
    with pytest.raises(IBMJobTimeoutError):
        await job.wait_for_final_state(timeout=0.5)
    assert time.monotonic() - begin >= 0.5

    async def cancel_once_running(_job_id: str, status: JobStatus, watched: GatewayCircuitJob) -> None:
        if status == JobStatus.RUNNING:
            await watched.cancel()

    await job.wait_for_final_state(timeout=60, callback=cancel_once_running)
    assert await job.cancelled()
    with pytest.raises(IBMJobInvalidStateError):
        await job.result()


async def test_what_is_wrong_is_refused(provider: GatewayProvider) -> None:
    backend = await provider.get_backend("local_simulator")
    with pytest.raises(IBMBackendValueError):
        await backend.run("OPENQASM 3.0; nonsense;")
