"""Many jobs through a gateway to whom everything happens at random: replies get lost, calls are refused, the gateway is killed.

`python -m tests.faults.upstream.torture` prints what it saw; `GATEWAY_FAULTS_SEED` decides what happens.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from qgateway.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc

from tests.emulators.ibm_quantum.process import EmulatorProcess
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.faults.upstream.lab import COUNTS, request_of
from tests.support.gateway_process import GatewayProcess
from tests.support.ibm_accounts import one_ibm_account

SUBMISSION_FAULTS: tuple[dict[str, Any], ...] = (
    {"action": "drop", "when": "before", "probability": 0.03},
    {"action": "drop", "when": "after", "probability": 0.04},
    {"action": "drop", "when": "after", "reset": True, "probability": 0.02},
    {"action": "drop", "act_after_seconds": 0.3, "probability": 0.02},
    {"action": "respond", "when": "after", "status": 500, "probability": 0.02},
    {"action": "respond", "when": "after", "status": 504, "probability": 0.02},
    {"action": "respond", "when": "before", "status": 503, "probability": 0.03},
    {"action": "respond", "when": "before", "status": 429, "retry_after": "1", "probability": 0.004},
    {"action": "respond", "when": "before", "status": 401, "probability": 0.01},
    {"action": "cut", "bytes": 40, "probability": 0.03},
    {"action": "cut", "bytes": -1, "probability": 0.02},
    {"action": "garble", "body": "{", "probability": 0.02},
)
READ_FAULTS: tuple[dict[str, Any], ...] = (
    {"action": "respond", "status": 503, "probability": 0.02},
    {"action": "drop", "probability": 0.02},
    {"action": "cut", "body_bytes": 20, "probability": 0.02},
    {"action": "garble", "body": "<html>", "probability": 0.01},
)
_REPEAT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAUTHENTICATED)
_PAUSE = 1.0
_PATIENCE = 300.0
"""Seconds after which a job, or a call that is made again and again, is given up."""


@dataclass(frozen=True)
class Outcome:
    """What became of all jobs."""

    seed: int
    submits: int
    upstream: int
    """Upstream jobs that there are."""
    doubles: tuple[str, ...]
    """Markers that more than one upstream job bears."""
    not_done: tuple[str, ...]
    wrong_results: tuple[str, ...]
    wrong_ids: tuple[str, ...]
    """Jobs whose provider id is not that of their upstream job."""
    kills: int
    faults: int
    doubts: int
    """Jobs of which it was not known for a while whether the provider had them."""
    seconds: float

    @property
    def is_right(self) -> bool:
        """Whether each job is done, right, and has one upstream job."""
        wrong = (*self.doubles, *self.not_done, *self.wrong_results, *self.wrong_ids)
        return self.upstream == self.submits and not wrong


class Torture:
    """Submits jobs, and watches that each runs once.

    Args:
        gateway: The gateway, started.
        control: The emulated service.
        seed: Decides what goes wrong.
    """

    def __init__(self, gateway: GatewayProcess, control: EmulatorControl, seed: int) -> None:
        self._gateway = gateway
        self._control = control
        self._seed = seed
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._running = asyncio.Event()
        self._channel: grpc.aio.Channel

    async def run(self, submits: int, kills: int, in_flight: int = 64) -> Outcome:
        """Submit so many jobs, kill the gateway so often meanwhile, and wait until all is settled."""
        began = time.monotonic()
        for number, fault in enumerate(SUBMISSION_FAULTS):
            self._control.fault("POST /jobs", **fault, times=None, seed=1000 * self._seed + number)
        for number, fault in enumerate(READ_FAULTS):
            self._control.fault("GET *", **fault, times=None, seed=1000 * self._seed + 500 + number)
        at = sorted(self._random.sample(range(submits // 10, submits), kills))
        room, names = asyncio.Semaphore(in_flight), list[str]()
        self._connect()

        async def one(number: int) -> None:
            async with room:
                names.append((await self._submit(f"{self._seed}-{number}")).name)

        killer = asyncio.create_task(self._kill(at, names))
        await asyncio.gather(*(one(number) for number in range(submits)))
        await killer
        jobs = await asyncio.gather(*(self._settled(name) for name in names))
        faults = sum(fault["hits"] for fault in self._control.faults())
        self._control.clear_faults()
        done = [job.name for job in jobs if job.status == job_pb2.JOB_STATUS_DONE]
        right = await asyncio.gather(*(self._is_right(name) for name in done))
        wrong = [name for name, is_right in zip(done, right, strict=True) if not is_right]
        doubts = sum(await asyncio.gather(*(self._was_doubtful(name) for name in names)))
        await self._channel.close()
        upstream = self._control.jobs()
        marker = {job["id"]: next(tag for tag in job["tags"] if tag.startswith("qgw-")) for job in upstream}
        return Outcome(
            seed=self._seed,
            submits=submits,
            upstream=len(upstream),
            doubles=tuple(tag for tag, count in Counter(marker.values()).items() if count > 1),
            not_done=tuple(
                f"{job.name}: {job_pb2.JobStatus.Name(job.status)} {job.failure.reason} {job.pending_reason.message}"
                for job in jobs
                if job.status != job_pb2.JOB_STATUS_DONE
            ),
            wrong_results=tuple(wrong),
            wrong_ids=tuple(
                job.name for job in jobs if marker.get(job.provider_job_id) != f"qgw-{job.name.removeprefix('jobs/')}"
            ),
            kills=kills,
            faults=faults,
            doubts=doubts,
            seconds=time.monotonic() - began,
        )

    def _connect(self) -> None:
        self._channel = grpc.aio.insecure_channel(self._gateway.target)
        self._running.set()

    async def _kill(self, at: Sequence[int], names: Sequence[str]) -> None:
        """Kill the gateway whenever so many jobs are in, and start it again."""
        for number in at:
            while len(names) < number:
                await asyncio.sleep(0.01)
            self._running.clear()
            channel = self._channel
            await asyncio.to_thread(self._gateway.kill)
            await asyncio.to_thread(self._gateway.start)
            await channel.close()
            self._connect()

    async def _call(self, method: str, request: Any) -> Any:
        """Make a call as clients do: again and again while the gateway is away."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            await self._running.wait()
            call = getattr(job_service_pb2_grpc.JobServiceStub(self._channel), method)
            metadata = (("authorization", f"Bearer {self._gateway.api_key}"),)
            try:
                return await call(request, metadata=metadata, timeout=60)
            except (grpc.RpcError, asyncio.CancelledError, grpc.aio.UsageError) as error:
                # A channel that is closed cancels its calls.
                if isinstance(error, grpc.RpcError) and error.code() not in _REPEAT:  # type: ignore[attr-defined]
                    raise
                if time.monotonic() > deadline:
                    raise AssertionError(f"seed {self._seed}: {method} had no answer") from error
                await asyncio.sleep(_PAUSE)

    async def _submit(self, request_id: str) -> job_pb2.Job:
        job: job_pb2.Job = (await self._call("SubmitJob", request_of(request_id))).job
        return job

    async def _settled(self, name: str) -> job_pb2.Job:
        """Return a job when it is final, or after a long time."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            job: job_pb2.Job = (await self._call("GetJob", job_service_pb2.GetJobRequest(name=name))).job
            final = job.status in (job_pb2.JOB_STATUS_DONE, job_pb2.JOB_STATUS_ERROR, job_pb2.JOB_STATUS_CANCELLED)
            if final or time.monotonic() > deadline:
                return job
            await asyncio.sleep(_PAUSE)

    async def _is_right(self, name: str) -> bool:
        request = job_service_pb2.GetJobResultRequest(name=name, include_counts=True)
        result = (await self._call("GetJobResult", request)).result
        return [dict(each.counts) for each in result.experiments] == [COUNTS]

    async def _was_doubtful(self, name: str) -> bool:
        events = (
            await self._call("ListJobEvents", job_service_pb2.ListJobEventsRequest(name=name, page_size=100))
        ).events
        return any(each.job.submission.state == job_pb2.Submission.STATE_UNKNOWN for each in events)


def lab_settings(emulator: EmulatorProcess, folder: Path, **changes: Any) -> dict[str, str]:
    """Return the settings of a gateway whose account `alpha` is at an emulator; its key is put into a folder."""
    return {**one_ibm_account(emulator, folder, **changes), "SERVER__HEARTBEAT_INTERVAL": "1"}


def main() -> int:
    """Run it, and print what came out."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--submits", type=int, default=2000)
    options.add_argument("--kills", type=int, default=5)
    options.add_argument("--seed", type=int, default=int(os.environ.get("GATEWAY_FAULTS_SEED", "1")))
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as name, EmulatorProcess() as emulator:
        gateway = GatewayProcess(Path(name), lab_settings(emulator, Path(name))).start()
        try:
            torture = Torture(gateway, emulator.control, arguments.seed)
            outcome = asyncio.run(torture.run(arguments.submits, arguments.kills))
        finally:
            gateway.kill()
    for field in outcome.__dataclass_fields__:
        value = getattr(outcome, field)
        told = f"{len(value)}: {value[:10]}" if isinstance(value, tuple) else value
        sys.stdout.write(f"{field:>14}  {told}\n")
    sys.stdout.write("each job ran once\n" if outcome.is_right else "NOT RIGHT\n")
    return 0 if outcome.is_right else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as with Ctrl-C: with all that was started
    sys.exit(main())
