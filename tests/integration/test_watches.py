"""Watches of the Python client over a real gateway: through cuts, stalls, and kills of the server."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from qgateway import GatewayProvider
from qgateway.aio import GatewayProvider as AioProvider
from qgateway.v1 import job_pb2, job_service_pb2
from qiskit.providers import JobStatus

from tests.support.gateway_process import GatewayProcess, kill_and_restart
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import until, wait_until
from tests.support.wire import LONG, connected

API_KEY = "canary-of-the-watches"
INTERVAL = 0.5
"""Seconds between heartbeats: what is silent is noticed within two of them."""
RUN_OPTIONS = job_pb2.RunOptions(shots=1)
JOBS = 6


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GatewayProcess]:
    settings = {"SERVER__HEARTBEAT_INTERVAL": str(INTERVAL)}
    process = GatewayProcess(tmp_path, settings, API_KEY).start()
    yield process
    process.kill()


@pytest.fixture
def proxy(server: GatewayProcess) -> Iterator[TcpProxy]:
    with TcpProxy(server.target) as made:
        yield made


@dataclass
class Following:
    """A watch of many jobs that runs beside the test."""

    changes: Any
    """The watch."""
    seen: list[tuple[str, int, str]] = field(default_factory=list)
    """Job, revision and type of each event."""

    def sees_last(self, change: Any) -> bool:
        """Note a change; return whether all jobs are deleted."""
        self.seen.append((change.job.job_id(), change.event.revision, change.event.type))
        return [kind for _, _, kind in self.seen].count("DELETED") == JOBS

    def read(self) -> None:
        """Read to the end, with threads."""
        with self.changes:
            any(map(self.sees_last, self.changes))

    async def read_in_loop(self) -> None:
        """Read to the end, with asyncio."""
        async with self.changes:
            async for change in self.changes:
                if self.sees_last(change):
                    return


Follow = Callable[..., tuple[Following, asyncio.Task[None]]]


@pytest.fixture(params=["threads", "asyncio"])
async def follow(request: pytest.FixtureRequest, proxy: TcpProxy) -> AsyncIterator[Follow]:
    """Begins to follow jobs, with threads or in the loop."""

    def with_threads(**options: Any) -> tuple[Following, asyncio.Task[None]]:
        following = Following(provider.watch_jobs(**options))
        return following, asyncio.create_task(asyncio.to_thread(following.read))

    def with_asyncio(**options: Any) -> tuple[Following, asyncio.Task[None]]:
        following = Following(aio_provider.watch_jobs(**options))
        return following, asyncio.create_task(following.read_in_loop())

    with GatewayProvider(proxy.target, API_KEY) as provider:
        async with AioProvider(proxy.target, API_KEY) as aio_provider:
            yield with_threads if request.param == "threads" else with_asyncio


async def test_every_event_comes_once_and_in_order_whatever_happens_to_the_connection(
    server: GatewayProcess, proxy: TcpProxy, follow: Follow
) -> None:
    following, task = follow(job_tags=["counted"], timeout=100)
    await until(lambda: following.changes.resume_token)
    harm = itertools.cycle([proxy.cut, lambda: kill_and_restart(server, proxy), lambda: proxy.stall(new=False)])
    names = []
    for _ in range(JOBS):
        with connected(server) as wire:
            names.append(wire.submit(tags=["counted"]).name)
        await asyncio.to_thread(next(harm))
    with connected(server) as wire:
        for name in names:
            wire.finish(name)
        histories = {name: wire.history(name) for name in names}
        # The history of a job goes with the job.
        await until(lambda: len(following.seen) >= sum(map(len, histories.values())), within=60)
        for name in names:
            wire.jobs.DeleteJob(job_service_pb2.DeleteJobRequest(name=name), metadata=wire.metadata, timeout=10)
    await task
    revisions = [revision for _, revision, _ in following.seen]
    assert revisions == sorted(set(revisions))
    told: dict[str, list[int]] = {name: [] for name in names}
    for job, revision, kind in following.seen:
        if kind != "DELETED":
            told[f"jobs/{job}"].append(revision)
    assert told == histories


def test_a_watch_goes_on_in_another_process_from_its_token(server: GatewayProcess, proxy: TcpProxy) -> None:
    with GatewayProvider(proxy.target, API_KEY) as provider, connected(server) as wire:
        with provider.watch_jobs(job_tags=["kept"]) as changes:
            reader = threading.Thread(target=next, args=(changes, None))
            reader.start()
            wait_until(lambda: changes.resume_token)
            name = wire.submit(tags=["kept"]).name
            wire.finish(name)
            reader.join(20)
            token = changes.resume_token
        program = (
            "import sys; from qgateway import GatewayProvider\n"
            "for change in GatewayProvider().watch_jobs(job_tags=['kept'], resume_token=sys.argv[1]):\n"
            "    print(change.event.revision, flush=True)\n"
            "    if change.event.status.name == 'DONE': break"
        )
        environment = {**os.environ, "QGATEWAY_TARGET": proxy.target, "QGATEWAY_API_KEY": API_KEY}
        command = [sys.executable, "-c", program, token]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
        assert [int(line) for line in done.stdout.split()] == wire.history(name)[1:]


def test_waiting_and_the_result_outlast_a_kill_of_the_server(server: GatewayProcess, proxy: TcpProxy) -> None:
    with connected(server) as wire:
        name = wire.submit(LONG, options=RUN_OPTIONS).name
    seen: list[JobStatus] = []
    with GatewayProvider(proxy.target, API_KEY) as provider:
        job = provider.retrieve_job(name)
        waiting = threading.Thread(
            target=job.wait_for_final_state,
            kwargs={"timeout": 100, "callback": lambda _id, status, _job: seen.append(status)},
        )
        waiting.start()
        wait_until(lambda: JobStatus.RUNNING in seen)
        kill_and_restart(server, proxy)
        waiting.join(100)
        assert not waiting.is_alive()
        assert seen[-1] is JobStatus.DONE
        assert job.result().success


def test_a_connection_that_stalls_is_left_within_two_heartbeats(server: GatewayProcess, proxy: TcpProxy) -> None:
    with connected(server) as wire, GatewayProvider(proxy.target, API_KEY) as provider:
        name = wire.submit(LONG, options=RUN_OPTIONS).name
        seen: list[JobStatus] = []
        job = provider.retrieve_job(name)
        waiting = threading.Thread(
            target=job.wait_for_final_state,
            kwargs={"timeout": 100, "callback": lambda _id, status, _job: seen.append(status)},
        )
        waiting.start()
        wait_until(lambda: JobStatus.RUNNING in seen)
        assert proxy.accepted == 1
        beside = (response for response in wire.watch(name) if response.HasField("heartbeat"))
        assert [next(beside) for _ in range(2)]  # by then the other watch has had one too
        proxy.stall(new=False)
        wait_until(lambda: proxy.accepted == 2, within=20 * INTERVAL)
        waiting.join(100)
        assert seen[-1] is JobStatus.DONE


@pytest.mark.parametrize("moment", ["the stream is stalled", "the gateway is away"])
def test_ctrl_c_ends_a_wait_while(moment: str, server: GatewayProcess, proxy: TcpProxy) -> None:
    with connected(server) as wire:
        name = wire.submit(LONG, options=RUN_OPTIONS).name
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from qgateway import GatewayProvider\n"
        "job = GatewayProvider().retrieve_job(sys.argv[1])\n"
        "job.wait_for_final_state(callback=lambda *_: print('told', flush=True))"
    )
    environment = {**os.environ, "QGATEWAY_TARGET": proxy.target, "QGATEWAY_API_KEY": API_KEY}
    command = [sys.executable, "-c", program, name]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "told\n"
        accepted = proxy.accepted
        if moment == "the stream is stalled":
            proxy.stall()
        else:
            proxy.refuse()
            wait_until(lambda: proxy.accepted > accepted)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT, errors
    assert "KeyboardInterrupt" in errors
