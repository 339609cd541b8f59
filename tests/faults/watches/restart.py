"""A restart under a thousand live watches: how soon all of them are served again, and what it costs the provider."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from qgateway.v1 import job_pb2, job_service_pb2_grpc

from gateway.access.api_keys import new_api_key
from tests.emulators.ibm_quantum.process import EmulatorProcess
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.faults.watches.promises import Violation, violations
from tests.faults.watches.recording import Scope
from tests.faults.watches.tape import Archive, Tape
from tests.faults.watches.truth import stored_truth
from tests.faults.watches.watchers import CHANNEL_OPTIONS, RawWatcher, World
from tests.support.gateway_process import GatewayProcess
from tests.support.ibm_accounts import one_ibm_account
from tests.support.tcp_proxy import TcpProxy
from tests.support.wire import submission

_CONNECTIONS = 20
_HEARTBEAT = 1.0
_WITHIN = 60.0
"""Seconds after which something that should happen is given up."""
_POLL = {"shortest_poll": 0.5, "longest_poll": 1.0}
"""Seconds between two looks of the gateway at its jobs: so near to each other that calls can be compared after a few seconds."""


@dataclass(frozen=True, slots=True)
class Restart:
    """What a restart did to the watches and to the provider."""

    watches: int
    serving: float
    """Seconds from the kill to the moment when the next server listened."""
    resumed: float
    """Seconds from then on until the last watch had its first message."""
    window: float
    """Seconds for which calls were counted: once in normal running, and once from the kill on."""
    calls: Counter[str]
    """Calls to the provider in normal running, by route."""
    calls_after: Counter[str]
    """Calls to the provider from the kill on."""
    violations: list[Violation]

    @property
    def tracking(self) -> tuple[int, int]:
        """Calls that follow jobs, in normal running and from the kill on."""
        return self.calls.total(), sum(count for route, count in self.calls_after.items() if route in self.calls)

    @property
    def starting(self) -> int:
        """Calls that a start makes, whoever watches: a token, and what backends there are."""
        return self.calls_after.total() - self.tracking[1]


async def restart_under_watches(folder: Path, *, watches: int, jobs: int, window: float) -> Restart:
    """Kill and start a gateway over an emulated account, with many watches of jobs that wait at the provider.

    Args:
        folder: Where the server's store and log are kept.
        watches: How many.
        jobs: How many jobs they are spread over.
        window: Seconds for which calls to the provider are counted before and after.
    """
    world = World(Archive(), new_api_key(), _HEARTBEAT)
    async with AsyncExitStack() as cleanup:
        emulator = cleanup.enter_context(EmulatorProcess())
        control = emulator.control
        control.settings(manual=True)
        gateway = GatewayProcess(folder, _settings(folder, emulator), api_key=world.api_key)
        cleanup.callback(gateway.kill)
        await asyncio.to_thread(gateway.start)
        proxy = TcpProxy(gateway.target)
        cleanup.callback(proxy.close)
        channels = [
            await cleanup.enter_async_context(grpc.aio.insecure_channel(proxy.target, CHANNEL_OPTIONS))
            for _ in range(_CONNECTIONS)
        ]
        names = await _submit(channels[0], world, jobs)
        await asyncio.to_thread(_until_upstream, control, jobs)

        watching = _watch(world, proxy.target, channels, names, watches)
        cleanup.callback(lambda: [task.cancel() for task in watching])
        await _until_served(world.archive.tapes, since=[0] * watches)
        calls = await _count_calls(control, window)

        seen = [len(tape.entries) for tape in world.archive.tapes]
        counting = asyncio.create_task(_count_calls(control, window))
        await asyncio.sleep(0)
        killed = time.monotonic()
        await asyncio.to_thread(gateway.kill)
        await asyncio.to_thread(gateway.start)
        proxy.upstream = gateway.target
        listening = time.monotonic()
        await _until_served(world.archive.tapes, since=seen)
        resumed = time.monotonic()
        calls_after = await counting

        for job in control.jobs():
            await asyncio.to_thread(control.advance, job["id"], "Cancelled")
        async with asyncio.timeout(_WITHIN):
            await asyncio.gather(*watching)
        await asyncio.to_thread(gateway.stop)
        truth, position = await stored_truth(folder)
        return Restart(
            watches=watches,
            serving=listening - killed,
            resumed=resumed - listening,
            window=window,
            calls=calls,
            calls_after=calls_after,
            violations=violations([tape.recording(position) for tape in world.archive.tapes], truth),
        )


def _settings(folder: Path, emulator: EmulatorProcess) -> dict[str, str]:
    account = one_ibm_account(emulator, folder, settle_seconds=None, **_POLL)
    return {**account, "SERVER__HEARTBEAT_INTERVAL": str(_HEARTBEAT)}


async def _submit(channel: grpc.aio.Channel, world: World, count: int) -> list[str]:
    stub: Any = job_service_pb2_grpc.JobServiceStub(channel)
    options = job_pb2.RunOptions(shots=1, transpile=job_pb2.TRANSPILE_LEVEL_0)
    request = submission(backend="ibm_alder", options=options)
    answers = [await stub.SubmitJob(request, timeout=_WITHIN, metadata=world.metadata) for _ in range(count)]
    return [answer.job.name for answer in answers]


def _until_upstream(control: EmulatorControl, count: int) -> None:
    deadline = time.monotonic() + _WITHIN
    while len(control.jobs()) < count:
        assert time.monotonic() < deadline, "not all jobs came to the provider"
        time.sleep(0.05)


def _watch(
    world: World, target: str, channels: Sequence[grpc.aio.Channel], names: Sequence[str], count: int
) -> list[asyncio.Task[None]]:
    watchers = [
        RawWatcher(
            world,
            target,
            Scope(job=names[number % len(names)]),
            f"watch {number}",
            random.Random(number),  # noqa: S311 - it has to be repeatable
            channel=channels[number % len(channels)],
        )
        for number in range(count)
    ]
    return [asyncio.create_task(watcher.follow()) for watcher in watchers]


async def _until_served(tapes: Sequence[Tape], since: Sequence[int]) -> None:
    """Wait until each watcher was told something on a stream that it opened after so many entries."""

    def is_served(tape: Tape, begin: int) -> bool:
        kinds = [kind for kind, _, _ in tape.entries[begin:]]
        return "opened" in kinds and kinds[-1] != "opened"

    waiting = list(zip(tapes, since, strict=True))
    async with asyncio.timeout(_WITHIN):
        while waiting := [(tape, begin) for tape, begin in waiting if not is_served(tape, begin)]:
            await asyncio.sleep(0.01)


async def _count_calls(control: EmulatorControl, seconds: float) -> Counter[str]:
    await asyncio.to_thread(control.clear_calls)
    await asyncio.sleep(seconds)
    return Counter(await asyncio.to_thread(control.counts))
