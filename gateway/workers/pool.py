"""A pool of worker processes: tasks wait in line, processes are started when they are needed and replaced when they fail."""

from __future__ import annotations

import asyncio
import tempfile
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from gateway.domain.errors import GatewayError, Reason, ResourceExhausted, Unavailable, WorkerFailure
from gateway.domain.payload import Payload
from gateway.workers.process import Call, ProcessLost, ProcessSpec, Reply, WorkerProcess

_log = structlog.get_logger(__name__)

_RETRY_SECONDS = 1.0


class WorkerPool:
    """Does tasks in processes of its own, away from the server's process.

    Processes are started when they are first needed. They see none of the server's environment but the search paths, and die
    with the server. Every task has a limit on time and memory; a task that runs over it, crashes or is cancelled takes its
    process with it, and a fresh one is started.

    Args:
        size: Number of processes: of tasks that are done at a time.
        warm_up: Tasks that a fresh process does before it takes another, with an empty header: what the first real task would
            otherwise wait for. Names with commas between them; empty: none.
        max_waiting: Most tasks that wait for a process.
        tasks_per_process: Number of tasks after which a process is replaced, so that leaks of the libraries cannot add up.
        idle_seconds: Time without a task after which a process is ended, so that its memory is free.
        start_seconds: Longest time that a process may take to become ready.
        max_reply_bytes: Largest answer.
        files: Where large answers are put that are asked for as files, and the processes' own temporary files. Whoever names it
            empties it before: what a server leaves behind that is killed is to be gone after its next start. None: where the system
            has temporary files, for good.
        tasks: Module whose table `TASKS` says which function does which task.
    """

    def __init__(
        self,
        *,
        size: int,
        warm_up: str = "",
        max_waiting: int = 10_000,
        tasks_per_process: int = 5_000,
        idle_seconds: float = 900.0,
        start_seconds: float = 60.0,
        max_reply_bytes: int = 2**31,
        files: Path | None = None,
        tasks: str = "gateway.workers.tasks",
    ) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="worker-", dir=files, ignore_cleanup_errors=True)
        spec = ProcessSpec(
            tasks, warm_up, self._directory.name, start_seconds, max_reply_bytes, files or Path(self._directory.name)
        )
        self._slots = [_Slot(spec, tasks_per_process, idle_seconds) for _ in range(size)]
        self._free = list(self._slots)
        self._max_waiting = max_waiting
        self._waiting: deque[asyncio.Future[_Slot]] = deque()
        self._closed = False

    async def run(
        self, task: str, header: Mapping[str, Any], *blobs: Payload, time_limit: float, memory_limit: int
    ) -> Reply[bytes]:
        """Do a task and return its answer. If the caller is cancelled, the work ends at once.

        Args:
            task: Name of the task.
            header: JSON values for it.
            blobs: Bytes for it.
            time_limit: Longest time of the work in seconds; waiting for a process is not counted.
            memory_limit: Most memory in bytes that the work may take beyond what its process has before.

        Raises:
            GatewayError: What the task wants its caller to see.
            WorkerFailure: The work ran over a limit, or its process died.
            ResourceExhausted: Too many tasks wait.
            Unavailable: The pool is closed, or no process can be started.
        """
        answer, results = await self._run(Call(task, header, blobs, memory_limit), time_limit)
        return Reply(answer, tuple(result for result in results if isinstance(result, bytes)))

    async def run_large(
        self, task: str, header: Mapping[str, Any], *blobs: Payload, time_limit: float, memory_limit: int
    ) -> Reply[Payload]:
        """Do a task as `run` does, and let large blobs of its answer come as files, which the server never reads."""
        return await self._run(Call(task, header, blobs, memory_limit, files_allowed=True), time_limit)

    async def _run(self, call: Call, time_limit: float) -> Reply[Payload]:
        slot = await self._take()
        try:
            return await self._run_in(slot, call, time_limit)
        except WorkerFailure:
            if self._closed:
                raise _closed() from None
            raise
        finally:
            self._give_back(slot)

    def pids(self) -> tuple[int, ...]:
        """Return the ids of the processes that are ready or at work."""
        return tuple(slot.process.pid for slot in self._slots if slot.process is not None)

    async def close(self) -> None:
        """End all processes and all work."""
        self._closed = True
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(_closed())
        self._waiting.clear()
        await asyncio.gather(*(slot.close() for slot in self._slots))
        self._directory.cleanup()

    async def _run_in(self, slot: _Slot, call: Call, time_limit: float) -> Reply[Payload]:
        process = await slot.ready()
        try:
            async with asyncio.timeout(time_limit):
                return await process.call(call)
        except GatewayError:  # the task has spoken; its process is well
            raise
        except TimeoutError:
            slot.replace()
            raise WorkerFailure(
                f"The work took longer than the {time_limit:g} seconds that it may take. Make it smaller, or cut it into "
                "several jobs.",
                reason=Reason.TIME_LIMIT_EXCEEDED,
                metadata={"time_limit_seconds": f"{time_limit:g}"},
            ) from None
        except ProcessLost as lost:
            slot.replace()
            await process.ended()  # what it said last has been read then
            if not self._closed:
                _log.warning(
                    "worker_lost", pid=process.pid, task=call.task, error=str(lost), stderr=process.last_words()
                )
            raise lost.failure from None
        except BaseException:  # above all the cancellation of the caller
            slot.replace()
            raise

    async def _take(self) -> _Slot:
        if self._closed:
            raise _closed()
        if self._free:
            # The one used last is the likeliest to be warm; those below it may fall idle.
            slot = next((slot for slot in reversed(self._free) if slot.process is not None), self._free[-1])
            self._free.remove(slot)
            slot.keep()
            return slot
        if len(self._waiting) >= self._max_waiting:
            raise ResourceExhausted(
                "The server is busy with other programs. Try again in a moment.", retry_after=_RETRY_SECONDS
            )
        waiter: asyncio.Future[_Slot] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                with suppress(ValueError):
                    self._waiting.remove(waiter)
            elif waiter.exception() is None:  # its turn came in the same moment
                self._give_back(waiter.result())
            raise

    def _give_back(self, slot: _Slot) -> None:
        slot.retire_if_used_up()
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(slot)
                return
        self._free.append(slot)
        if not self._closed:
            slot.end_when_idle()


class _Slot:
    """A place for one process, which comes and goes."""

    def __init__(self, spec: ProcessSpec, tasks_per_process: int, idle_seconds: float) -> None:
        self._spec = spec
        self._tasks_per_process = tasks_per_process
        self._idle_seconds = idle_seconds
        self._idle: asyncio.TimerHandle | None = None
        self._start: asyncio.Task[WorkerProcess] | None = None
        self._ending: set[asyncio.Task[Any]] = set()
        self._closed = False

    @property
    def process(self) -> WorkerProcess | None:
        """The process, if one is up."""
        start = self._start
        if start is None or not start.done() or start.cancelled() or start.exception() is not None:
            return None
        return start.result() if start.result().alive else None

    async def ready(self) -> WorkerProcess:
        """Return a process that can take a task; start one if need be."""
        if (process := self.process) is not None:
            return process
        start = self.begin_start()
        try:
            # A caller that is cancelled here leaves a process that will be ready for the next one.
            return await asyncio.shield(start)
        except asyncio.CancelledError:
            if start.cancelled():
                raise _closed() from None
            raise

    def begin_start(self) -> asyncio.Task[WorkerProcess]:
        """Start a process, unless one is up or on its way."""
        if self._start is None or (self._start.done() and self.process is None):
            self._discard()
            self._start = asyncio.create_task(self._start_process())
            self._start.add_done_callback(_look_at_exception)
        return self._start

    async def _start_process(self) -> WorkerProcess:
        try:
            return await WorkerProcess.start(self._spec)
        except Unavailable:  # once can be chance, such as a moment without memory
            return await WorkerProcess.start(self._spec)

    def replace(self) -> None:
        """End the process, and start another: it is ready by the time that it is needed."""
        self._discard()
        if not self._closed:
            self.begin_start()

    def retire_if_used_up(self) -> None:
        """Replace the process if it has done its share of tasks."""
        if (process := self.process) is not None and process.calls >= self._tasks_per_process:
            self.replace()

    def end_when_idle(self) -> None:
        """End the process after a while without a task."""
        self._idle = asyncio.get_running_loop().call_later(self._idle_seconds, self._discard)

    def keep(self) -> None:
        """Do not end the process for being idle: it gets a task."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    async def close(self) -> None:
        """End the process, and wait until all that ever ran here have ended."""
        self._closed = True
        self.keep()
        self._discard()
        if self._ending:
            await asyncio.wait(self._ending)

    def _discard(self) -> None:
        start, self._start = self._start, None
        if start is None:
            return
        if not start.done():
            start.cancel()
            self._await_end(start)
        elif not start.cancelled() and start.exception() is None:
            start.result().kill()
            self._await_end(asyncio.create_task(start.result().ended()))

    def _await_end(self, task: asyncio.Task[Any]) -> None:
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def _look_at_exception(task: asyncio.Task[WorkerProcess]) -> None:
    """Take note of a failed start that nobody waited for; the next task tries again and hears of it."""
    if not task.cancelled():
        task.exception()


def _closed() -> Unavailable:
    return Unavailable("The server is about to stop.", reason=Reason.SERVER_STOPPING, retry_after=_RETRY_SECONDS)
