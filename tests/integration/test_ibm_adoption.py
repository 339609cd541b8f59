"""Jobs that were sent to IBM Quantum past the gateway, and are brought into it by their id."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from qgateway import GatewayProvider, IBMJobNotFoundError
from qgateway import aio as qgateway_aio
from qgateway.v1 import job_pb2, program_pb2
from qiskit.providers import JobStatus

from tests.emulators.ibm_quantum.process import EmulatorProcess
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import wait_until
from tests.support.wire import Wire, connected
from tests.unit.emulators.caller import Caller


@pytest.fixture
def wire(ibm_gateway: GatewayProcess) -> Iterator[Wire]:
    with connected(ibm_gateway) as made:
        yield made


@pytest.fixture
def past_the_gateway(emulator: EmulatorProcess) -> Iterator[Caller]:
    """A program that calls the service itself."""
    api_key, crn = emulator.api_key("alpha"), emulator.crn("alpha")
    caller = Caller(f"{emulator.url}/api/v1", emulator.url, api_key, crn)
    yield caller
    caller.close()


def sent(caller: Caller, **fields: object) -> str:
    return caller.new_job(tags=["old"], **fields)


def name_of(provider_job_id: str) -> str:
    return f"accounts/alpha/providerJobs/{provider_job_id}"


def test_a_finished_job_is_adopted_and_kept(wire: Wire, control: EmulatorControl, past_the_gateway: Caller) -> None:
    old = sent(past_the_gateway)
    wait_until(lambda: control.job(old)["state"] == "Completed")
    job = wire.get(name_of(old))
    assert (job.status, job.provider_job_id, list(job.tags)) == (job_pb2.JOB_STATUS_DONE, old, ["old"])
    assert job.program.kind == program_pb2.ProgramSummary.KIND_RAW
    assert job.client_version["qiskit"]
    assert job.usage.charged_qpu_time.seconds > 0
    assert job.create_time.ToDatetime() < job.update_time.ToDatetime()
    result = wire.result(job.name)
    control.forget(old)
    assert result == wire.result(job.name)
    assert wire.get(name_of(old)).name == job.name
    assert [each.name for each in wire.list(all_tags=["old"])] == [job.name]
    assert control.job(old)["results_reads"] == 1


def test_a_job_that_waits_is_followed_and_cancelled(
    wire: Wire, ibm_gateway: GatewayProcess, control: EmulatorControl, past_the_gateway: Caller
) -> None:
    control.settings(manual=True)
    first, second = sent(past_the_gateway), sent(past_the_gateway)
    job, other = wire.get(name_of(first)), wire.get(name_of(second))
    assert job.status == job_pb2.JOB_STATUS_QUEUED
    assert f"qgw-{job.name.removeprefix('jobs/')}" in control.job(first)["tags"]
    control.advance(first, "Running")
    wire.reach(job.name, job_pb2.JOB_STATUS_RUNNING)
    control.advance(first, "Completed")
    assert wire.finish(job.name).status == job_pb2.JOB_STATUS_DONE
    with GatewayProvider(ibm_gateway.target, ibm_gateway.api_key) as provider:
        assert provider.retrieve_job(other.name).cancel()
    assert control.job(second)["state"] == "Cancelled"


def test_adoptions_at_the_same_time_make_one_job(
    wire: Wire, control: EmulatorControl, past_the_gateway: Caller
) -> None:
    old = sent(past_the_gateway)
    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(lambda _: wire.get(name_of(old)).name, range(8)))
    assert len(names) == len(wire.list()) == 1


def test_a_job_that_nobody_knows_is_not_found(wire: Wire) -> None:
    for name in (name_of("dnone0000000000000000"), "accounts/beta/providerJobs/x"):
        with pytest.raises(grpc.RpcError) as caught:
            wire.get(name)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]


async def test_the_python_client_takes_the_ids_that_its_users_have_from_before(
    ibm_gateway: GatewayProcess, control: EmulatorControl, past_the_gateway: Caller
) -> None:
    old = sent(past_the_gateway)
    with GatewayProvider(ibm_gateway.target, ibm_gateway.api_key) as provider:
        job = provider.retrieve_job(old)
        job.wait_for_final_state(timeout=60)
        assert job.status() is JobStatus.DONE
        assert provider.retrieve_job(f"accounts/alpha/providerJobs/{old}") == job
        assert job.backend().name == "ibm_alder"
        with pytest.raises(IBMJobNotFoundError):
            provider.retrieve_job("dnone0000000000000000")
    async with qgateway_aio.GatewayProvider(ibm_gateway.target, ibm_gateway.api_key, instance="alpha") as provider_aio:
        assert (await provider_aio.retrieve_job(old)).job_id() == job.job_id()
