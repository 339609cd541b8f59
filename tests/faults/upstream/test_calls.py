"""How many calls the provider gets: as many as the jobs need, however many look on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import pytest
from qgateway.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc

from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.faults.upstream.lab import COUNTS, request_of
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import until

PAGE = 200
ROUNDS = 4


class AioWire:
    """Calls to a gateway from an event loop, as many at a time as a test wants."""

    def __init__(self, channel: grpc.aio.Channel, api_key: str) -> None:
        self.metadata = (("authorization", f"Bearer {api_key}"),)
        self.jobs: job_service_pb2_grpc.JobServiceAsyncStub = job_service_pb2_grpc.JobServiceStub(channel)  # type: ignore[assignment]

    async def submit(self) -> job_pb2.Job:
        return (await self.jobs.SubmitJob(request_of(), metadata=self.metadata, timeout=90)).job

    async def finish(self, name: str) -> job_pb2.Job:
        last = None
        request = job_service_pb2.WatchJobRequest(name=name)
        async for response in self.jobs.WatchJob(request, metadata=self.metadata, timeout=90):
            if response.HasField("event"):
                last = response.event.job
        assert last is not None
        return last

    async def watch(self, name: str, began: list[str]) -> None:
        """Follow a job until cancelled, and note its name when the first news came."""
        request = job_service_pb2.WatchJobRequest(name=name)
        watching = self.jobs.WatchJob(request, metadata=self.metadata, timeout=90)
        await watching.read()
        began.append(name)
        async for _ in watching:
            pass


@asynccontextmanager
async def aio_connected(gateway: GatewayProcess) -> AsyncIterator[AioWire]:
    async with grpc.aio.insecure_channel(gateway.target) as channel:
        yield AioWire(channel, gateway.api_key)


async def test_pending_jobs_cost_a_page_and_two_calls_per_round_whoever_watches(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl
) -> None:
    control.settings(manual=True, queue_positions=True)
    # A look at the backends belongs to submissions and not to rounds; none falls into the count.
    gateway = new_lab_gateway(shortest_poll=0.3, longest_poll=1).start()
    async with aio_connected(gateway) as wire:
        jobs = [job.name for job in await asyncio.gather(*(wire.submit() for _ in range(200)))]
        assert len(control.jobs()) == 200
        for watchers in (0, 1, 1000):
            began: list[str] = []
            watches = [asyncio.create_task(wire.watch(jobs[number % 200], began)) for number in range(watchers)]
            try:
                await until(lambda: len(began) == watchers, within=60)  # noqa: B023 - awaited here
                control.clear_calls()
                await until(lambda: control.counts().get("GET /jobs", 0) > ROUNDS, within=60, every=0.1)
                counts = control.counts()
            finally:
                for watch in watches:
                    watch.cancel()
                await asyncio.gather(*watches, return_exceptions=True)
            rounds = counts.pop("GET /jobs")  # one page tells of all of them
            assert set(counts) <= {"GET /jobs/{job_id}/metrics"}, f"{watchers} watchers: {counts}"
            # The first round that is counted can come after questions of the one before it.
            assert sum(counts.values()) <= 2 * (rounds + 1), f"{watchers} watchers: {counts} in {rounds} rounds"


async def test_more_jobs_than_a_page_cost_a_call_for_each_page(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl
) -> None:
    control.settings(manual=True)
    gateway = new_lab_gateway(shortest_poll=0.3, longest_poll=1).start()
    async with aio_connected(gateway) as wire:
        await asyncio.gather(*(wire.submit() for _ in range(PAGE + 1)))
        control.clear_calls()
        await until(lambda: len(control.calls("GET /jobs")) >= 2 * ROUNDS, within=60, every=0.1)
        calls = [call["query"] for call in control.calls("GET /jobs")]
    assert sum("offset=0" in query for query in calls) - sum(f"offset={PAGE}" in query for query in calls) in {0, 1}
    assert set(control.counts()) == {"GET /jobs"}


async def test_a_result_is_fetched_once_however_many_read_it(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl
) -> None:
    control.settings(results_once=True)
    gateway = new_lab_gateway().start()
    async with aio_connected(gateway) as wire:
        job = await wire.submit()
        assert (await wire.finish(job.name)).status == job_pb2.JOB_STATUS_DONE

        async def read() -> dict[str, int]:
            request = job_service_pb2.GetJobResultRequest(name=job.name, include_counts=True)
            answer = await wire.jobs.GetJobResult(request, metadata=wire.metadata, timeout=60)
            return dict(answer.result.experiments[0].counts)

        assert await asyncio.gather(*(read() for _ in range(100))) == [COUNTS] * 100
    assert control.counts()["GET /jobs/{job_id}/results"] == 1


@pytest.mark.parametrize("positions", [True, False])
async def test_whoever_watches_one_job_is_told_its_place_where_the_provider_tells_it(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl, positions: bool
) -> None:
    control.settings(manual=True, queue_positions=positions)
    gateway = new_lab_gateway().start()
    async with aio_connected(gateway) as wire:
        await wire.submit()
        second = await wire.submit()
        request = job_service_pb2.GetJobRequest(name=second.name)
        queue = (await wire.jobs.GetJob(request, metadata=wire.metadata, timeout=20)).job.queue
    assert (queue.HasField("position"), queue.position) == ((True, 1) if positions else (False, 0))
