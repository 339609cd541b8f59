"""Makes the events: submits jobs, changes, cancels and deletes some, and keeps what it was told is committed."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from typing import Any

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from qgateway.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc

from tests.faults.watches.recording import Event
from tests.faults.watches.tape import job_event
from tests.faults.watches.watchers import CHANNEL_OPTIONS, LAST_NAME, World
from tests.faults.watches.witness import Witness
from tests.support.wire import submission

TAGS = ("red", "green", "blue")
"""Each job has some of them, and changes them."""
_QUBITS = 17
SLOW = "\n".join(
    [
        "OPENQASM 3.0;",
        'include "stdgates.inc";',
        f"qubit[{_QUBITS}] q;",
        f"bit[{_QUBITS}] c;",
        *(f"h q[{qubit}];" for qubit in range(_QUBITS)),
        *(
            f"cx q[{n % _QUBITS}], q[{(n * 3 + 1) % _QUBITS}]; rx(0.3) q[{n % _QUBITS}];"
            for n in range(250)
            if (n * 2 + 1) % _QUBITS
        ),
        "c = measure q;",
    ]
)
"""A circuit that takes the simulator about half a second: most of a job's life is waiting for others."""

_NOT_KNOWN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)
"""What a call ends with whose server was killed: it may have been carried out or not."""
_KEPT = 10
"""Final jobs of which none is deleted."""
_NEVER: AbstractSet[grpc.StatusCode] = frozenset()


class Load:
    """Keeps a number of jobs waiting, and changes jobs at a steady rate.

    Args:
        world: Is told which jobs are worth watching.
        witness: Sees what is committed: nothing is deleted that it has not seen.
        target: Where the gateway is found.
        rng: Its chance.
        waiting: Number of jobs that are not final at a time.
        changes_per_second: Names and tags that are changed.
    """

    def __init__(
        self,
        world: World,
        witness: Witness,
        target: str,
        rng: random.Random,
        *,
        waiting: int,
        changes_per_second: float,
    ) -> None:
        self._world = world
        self._witness = witness
        self._changing = asyncio.Lock()
        """Held by whoever changes or deletes a job."""
        self._rng = rng
        self._waiting = waiting
        self._pause = 1 / changes_per_second
        self._channel = grpc.aio.insecure_channel(target, CHANNEL_OPTIONS)
        self._stub: Any = job_service_pb2_grpc.JobServiceStub(self._channel)
        self._number = 0
        self._jobs: dict[str, bool] = {}
        """Names of all jobs, and whether each is known to be final."""
        self.acknowledged: list[Event] = []
        """States of jobs that calls returned: each has to be in the history."""
        self.unexpected: list[str] = []
        """Errors of calls that a kill does not explain."""
        self.deleted = 0
        """Number of jobs that were deleted."""

    async def run(self) -> None:
        """Make events until the watchers are to stop."""
        async with asyncio.TaskGroup() as tasks:
            for act in (self._submit, self._change, self._cancel, self._delete, self._look):
                tasks.create_task(self._repeat(act))

    async def finish(self, within: float) -> None:
        """Wait until all jobs are final, then make the last event of all: a job gets all tags.

        Raises:
            TimeoutError: A job is not final, or the last event could not be made.
        """
        async with asyncio.timeout(within):
            while not all(self._jobs.values()) or not self._jobs:
                await self._look()
                await asyncio.sleep(0.2)
            job = self._rng.choice(list(self._jobs))
            # Made once: watchers leave when they are told of it.
            while not await self._update(job, TAGS, LAST_NAME) and await self._name_of(job) != LAST_NAME:
                await asyncio.sleep(0.2)

    async def histories(self) -> dict[str, list[int]]:
        """Return the revisions of the history of each job, as the gateway lists it."""
        return {job: [event.revision async for event in self._events(job)] for job in self._jobs}

    async def close(self) -> None:
        """End the connection."""
        await self._channel.close()

    async def _repeat(self, act: Callable[[], Awaitable[None]]) -> None:
        while not self._world.stopping:
            await act()

    async def _submit(self) -> None:
        if sum(not final for final in self._jobs.values()) >= self._waiting:
            await asyncio.sleep(0.05)
            return
        slow = self._rng.random() < 0.6
        source = {"source": SLOW} if slow else {}
        request = submission(
            **source,
            tags=[tag for tag in TAGS if self._rng.random() < 0.5],
            request_id=str(uuid.UUID(int=self._rng.getrandbits(128))),
            options=job_pb2.RunOptions(shots=10),
        )
        # The same request again makes no second job.
        while (response := await self._call(self._stub.SubmitJob, request, 30)) is None:
            if self._world.stopping:
                return
            await asyncio.sleep(0.1)
        self._jobs.setdefault(response.job.name, False)

    async def _change(self) -> None:
        await asyncio.sleep(self._pause * self._rng.uniform(0.5, 1.5))
        if not self._jobs:
            return
        # Mostly of those that are watched one by one; a final job can be renamed, too.
        async with self._changing:
            among = self._world.jobs if self._world.jobs and self._rng.random() < 0.9 else list(self._jobs)
            if among:
                await self._update(self._rng.choice(among), [tag for tag in TAGS if self._rng.random() < 0.5])

    async def _update(self, name: str, tags: Any, display_name: str = "") -> bool:
        self._number += 1
        job = job_pb2.Job(name=name, display_name=display_name or f"n{self._number}", tags=tags)
        request = job_service_pb2.UpdateJobRequest(job=job, update_mask=FieldMask(paths=["display_name", "tags"]))
        return await self._call(self._stub.UpdateJob, request, 15) is not None

    async def _name_of(self, job: str) -> str | None:
        response = await self._call(self._stub.GetJob, job_service_pb2.GetJobRequest(name=job), 15)
        return None if response is None else str(response.job.display_name)

    async def _cancel(self) -> None:
        await asyncio.sleep(self._rng.uniform(0.5, 2.5))
        if self._world.jobs:
            request = job_service_pb2.CancelJobRequest(name=self._rng.choice(self._world.jobs))
            await self._call(self._stub.CancelJob, request, 5, expected={grpc.StatusCode.FAILED_PRECONDITION})

    async def _delete(self) -> None:
        """Delete a final job: one of those that ended last, which others still follow, or any."""
        await asyncio.sleep(self._rng.uniform(0.3, 1.5))
        final = [job for job, is_final in self._jobs.items() if is_final]
        if len(final) < _KEPT:
            return
        name = self._rng.choice(final[-5:] if self._rng.random() < 0.7 else final)
        async with self._changing:
            # What the deletion takes with it has to be seen before.
            read = await self._call(self._stub.GetJob, job_service_pb2.GetJobRequest(name=name), 5)
            if read is None:
                return
            try:
                async with asyncio.timeout(5):
                    await self._witness.sees(read.job.revision)
            except TimeoutError:
                self.unexpected.append(f"{name} has the revision {read.job.revision}, which is not in the store")
                return
            request = job_service_pb2.DeleteJobRequest(name=name)
            # It is tried again until the answer comes; it can have been carried out before.
            expected = {grpc.StatusCode.NOT_FOUND}
            while await self._call(self._stub.DeleteJob, request, 15, expected=expected) is None:
                if await self._is_gone(name):
                    break
                await asyncio.sleep(0.1)
            self._jobs.pop(name, None)
            self.deleted += 1

    async def _is_gone(self, name: str) -> bool:
        try:
            await self._stub.GetJob(job_service_pb2.GetJobRequest(name=name), timeout=5, metadata=self._world.metadata)
        except grpc.aio.AioRpcError as error:
            return error.code() is grpc.StatusCode.NOT_FOUND
        return False

    async def _look(self) -> None:
        """Find out which jobs are final."""
        await asyncio.sleep(0.25)
        request = job_service_pb2.ListJobsRequest(
            filter=job_pb2.JobFilter(
                statuses=[
                    job_pb2.JOB_STATUS_INITIALIZING,
                    job_pb2.JOB_STATUS_QUEUED,
                    job_pb2.JOB_STATUS_VALIDATING,
                    job_pb2.JOB_STATUS_RUNNING,
                ]
            ),
            page_size=500,
        )
        known = set(self._jobs)
        if response := await self._call(self._stub.ListJobs, request, 5):
            waiting = {job.name for job in response.jobs}
            known &= set(self._jobs)  # some may be deleted by now
            self._jobs.update({job: job not in waiting for job in known | waiting})
            self._world.jobs = [job for job, final in self._jobs.items() if not final]

    async def _call(
        self, method: Any, request: Any, seconds: float, *, expected: AbstractSet[grpc.StatusCode] = _NEVER
    ) -> Any:
        """Make a call; return None if it failed in a way that a kill explains. Keep the states that it returns."""
        try:
            response = await method(request, timeout=seconds, metadata=self._world.metadata)
        except grpc.aio.AioRpcError as error:
            # The gateway tells an incident where it has a bug; else INTERNAL is a broken connection.
            if error.code() not in _NOT_KNOWN | expected or "incident" in (error.details() or ""):
                self.unexpected.append(f"{request.DESCRIPTOR.name}: {error.code().name}: {error.details()}")
            return None
        if isinstance(response, job_service_pb2.DeleteJobResponse):
            return response
        jobs = response.jobs if isinstance(response, job_service_pb2.ListJobsResponse) else [response.job]
        self.acknowledged += [job_event(job, job.revision) for job in jobs]
        return response

    async def _events(self, job: str) -> Any:
        request = job_service_pb2.ListJobEventsRequest(name=job, page_size=500)
        while True:
            response = await self._stub.ListJobEvents(request, timeout=10, metadata=self._world.metadata)
            for event in response.events:
                yield event
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token
