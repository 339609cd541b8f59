"""The clients that record: bare streams that resume by the rules of the protocol, and the watches of the Python library."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
from qgateway._aio_connection import AioConnection
from qgateway._aio_watch import watch as aio_watch
from qgateway._connection import Connection
from qgateway._errors import GatewayCallError
from qgateway._settings import ApiKey, ConnectionSettings
from qgateway._watch import watch
from qgateway._watch_state import ManyJobs, OneJob, WatchState, WatchTimeout
from qgateway.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc

from tests.faults.watches.recording import Scope
from tests.faults.watches.tape import Archive, Tape

CHANNEL_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_http_proxy", 0),
]
_PERMANENT = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.FAILED_PRECONDITION,
    }
)
LAST_NAME = "the last event"
"""Display name that the last event of a run gives its job."""

_BORROWED = 0.4
"""Share of the watches of jobs that begin with the token of another watcher."""
_ASKING = 0.7
"""Share of the watches with another's token that ask for states where the history behind it is gone."""
_LAST_SIGNS = 3
"""Heartbeats that a watcher of a filter waits for after the last event."""
_LONGEST_WATCH = 300.0
"""Seconds after which a watch of the library gives up: its recording then lacks the end."""


@dataclass(slots=True)
class World:
    """What all watchers share."""

    archive: Archive
    api_key: str
    heartbeat: float
    """Interval of the server's heartbeats, in seconds."""
    jobs: list[str] = field(default_factory=list)
    """Names of the jobs that are worth watching: those that were not final when last seen."""
    stopping: bool = False
    """No new watch is begun; those of jobs go on to their end."""
    over: bool = False
    """The last event of all was made."""
    history: int = 0
    """Number of events that the gateway keeps."""
    compacted: Callable[[], int] = lambda: 0
    """Returns the revision up to which the history is gone."""
    overslept: int = 0
    """How often a sleeper has come back when history was gone that it had not seen."""

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Metadata of every call."""
        return (("authorization", f"Bearer {self.api_key}"),)


class RawWatcher:
    """A client as the protocol describes it: it knows nothing but its last token.

    Args:
        world: What it shares with the others.
        target: Where it finds the gateway.
        scope: What it follows.
        name: Its name in the record.
        rng: Its chance.
        token: Token to begin after; empty to begin with the current state.
        asks_for_states: Ask for states where the history behind that token is gone. They are always asked for where it is gone
            behind a token of its own.
        channel: A connection that it shares with others. Default: one of its own.
    """

    def __init__(
        self,
        world: World,
        target: str,
        scope: Scope,
        name: str,
        rng: random.Random,
        *,
        token: str = "",
        asks_for_states: bool = False,
        channel: grpc.aio.Channel | None = None,
    ) -> None:
        self._world = world
        self._target = target
        self._rng = rng
        self._token = token
        self._asks_for_states = asks_for_states
        self._shared_channel = channel
        self._done = False
        self._failures = 0
        """Streams in a row that broke before they brought anything."""
        self.tape = world.archive.new_tape(name, scope)

    async def follow(self, stop: Callable[[Tape], bool] = lambda _: False) -> None:
        """Follow until the final event of a job, until refused, or until `stop` says so after a message; go on if called again."""
        self._done = False
        while not self._done:
            async with self._channel() as jobs:
                # A connection on which a stream fell silent is taken for dead.
                while not self._done:
                    try:
                        await self._read_stream(jobs, stop)
                    except TimeoutError:
                        break
                    except grpc.aio.AioRpcError as error:
                        if error.code() in _PERMANENT:
                            self.tape.refused(error.code().name, str(error.details()))
                            return
                        self._failures += 1
                        await asyncio.sleep(self._rng.uniform(0, min(2.0, 0.05 * 2**self._failures)))

    @asynccontextmanager
    async def _channel(self) -> Any:
        if self._shared_channel is not None:
            yield job_service_pb2_grpc.JobServiceStub(self._shared_channel)
            return
        async with grpc.aio.insecure_channel(self._target, CHANNEL_OPTIONS) as channel:
            yield job_service_pb2_grpc.JobServiceStub(channel)

    async def _read_stream(self, jobs: Any, stop: Callable[[Tape], bool]) -> None:
        self.tape.opened(self._token)
        call = self._open(jobs)
        try:
            while True:
                async with asyncio.timeout(2 * self._world.heartbeat + 1):
                    response = await call.read()
                if response is grpc.aio.EOF:
                    self.tape.ended()
                    self._done = True
                    return
                self._take(response)
                if stop(self.tape):
                    self._done = True
                    return
        except grpc.aio.AioRpcError:
            # After the final event there is nothing left to resume for.
            if not self._done:
                raise
        finally:
            call.cancel()

    def _open(self, jobs: Any) -> Any:
        scope = self.tape.scope
        gone = job_service_pb2.ON_COMPACTED_SNAPSHOT if self._asks_for_states else job_service_pb2.ON_COMPACTED_ERROR
        if scope.job is not None:
            job_request = job_service_pb2.WatchJobRequest(name=scope.job, resume_token=self._token, on_compacted=gone)
            return jobs.WatchJob(job_request, metadata=self._world.metadata)
        request = job_service_pb2.WatchJobsRequest(
            filter=_job_filter(scope), resume_token=self._token, on_compacted=gone
        )
        return jobs.WatchJobs(request, metadata=self._world.metadata)

    def _take(self, response: Any) -> None:
        self._token = response.resume_token
        self._asks_for_states = True
        self._failures = 0
        if response.HasField("heartbeat"):
            self.tape.heartbeat(response.resume_token)
        else:
            event = self.tape.event(response.event, response.resume_token)
            self._world.archive.seen += self.tape.entries[-1][0] == "told"
            self._done = self.tape.scope.job is not None and event.is_final
        if self._rng.random() < 0.05:
            self._world.archive.keep(self.tape.scope, self._token, self._rng)


async def follow_filter(world: World, target: str, scope: Scope, name: str, rng: random.Random) -> None:
    """Follow a filter from now to the last event of the run, and to a heartbeat behind it."""
    await RawWatcher(world, target, scope, name, rng).follow(_behind_the_last(world))


async def sleep_and_follow_filter(world: World, target: str, scope: Scope, name: str, rng: random.Random) -> None:
    """Follow a filter to the last event of the run, but leave again and again until history is gone that it has not seen."""
    watcher = RawWatcher(world, target, scope, name, rng)
    while not world.stopping:
        patience = len(watcher.tape.entries) + rng.randint(10, 100)
        await watcher.follow(lambda tape: world.stopping or len(tape.entries) > patience)  # noqa: B023 - as it is then
        if watcher.tape.entries[-1][0] == "refused":
            return
        until = world.compacted() + rng.randint(world.history // 2, 2 * world.history)
        while not world.stopping and world.compacted() < until:
            await asyncio.sleep(0.2)
        world.overslept += world.compacted() >= until
    await watcher.follow(_behind_the_last(world))


async def rewind_filter(world: World, target: str, scope: Scope, name: str, rng: random.Random) -> None:
    """Follow a filter again and again, each time from a token that anybody was given at any time: some too long ago."""
    turn = 0
    while not world.stopping:
        turn += 1
        token = world.archive.token(scope, rng)
        patience = rng.randint(20, 1000)
        asks = rng.random() < _ASKING
        watcher = RawWatcher(world, target, scope, f"{name}.{turn}", rng, token=token, asks_for_states=asks)
        watcher.tape.left_early = True
        await watcher.follow(lambda tape: world.stopping or len(tape.entries) > patience)  # noqa: B023 - as it is then


def _behind_the_last(world: World) -> Callable[[Tape], bool]:
    """Return what tells that a watcher of a filter is behind the last event of the run."""
    signs = 0

    def is_behind(tape: Tape) -> bool:
        nonlocal signs
        # One heartbeat could have been under way while the last event was made.
        signs += world.over and tape.entries[-1][0] == "heartbeat"
        return signs >= _LAST_SIGNS

    return is_behind


async def follow_jobs(world: World, target: str, name: str, rng: random.Random) -> None:
    """Follow one job after another to its end, some from a token that another watcher of the job was given."""
    async for turn, job in _jobs(world, rng):
        scope = Scope(job=job)
        token = world.archive.token(scope, rng) if rng.random() < _BORROWED else ""
        asks = rng.random() < _ASKING
        await RawWatcher(world, target, scope, f"{name}.{turn}", rng, token=token, asks_for_states=asks).follow()


async def follow_jobs_with_aio(world: World, target: str, name: str, rng: random.Random) -> None:
    """Follow one job after another with the library for asyncio."""
    async with AioConnection(_settings(world, target)) as connection:
        async for turn, job in _jobs(world, rng):
            await _follow_with_aio(world, connection, *_library_watch(world, job, f"{name}.{turn}", target, rng))


async def follow_jobs_with_library(world: World, target: str, name: str, rng: random.Random) -> None:
    """Follow one job after another with the library, on a thread."""
    with Connection(_settings(world, target)) as connection:
        async for turn, job in _jobs(world, rng):
            tape, state = _library_watch(world, job, f"{name}.{turn}", target, rng)
            await _on_thread(_follow_with_library, world, connection, tape, state)


async def follow_filter_with_aio(world: World, target: str, scope: Scope, name: str) -> None:
    """Follow a filter from now to the last event of the run, with the library for asyncio."""
    async with AioConnection(_settings(world, target)) as connection:
        state = WatchState(ManyJobs(_job_filter(scope)), target, now=time.monotonic())
        await _follow_with_aio(world, connection, world.archive.new_tape(name, scope, hides_streams=True), state)


async def follow_filter_with_library(world: World, target: str, scope: Scope, name: str) -> None:
    """Follow a filter from now to the last event of the run, with the library, on a thread."""
    with Connection(_settings(world, target)) as connection:
        state = WatchState(ManyJobs(_job_filter(scope)), target, now=time.monotonic())
        tape = world.archive.new_tape(name, scope, hides_streams=True)
        await _on_thread(_follow_with_library, world, connection, tape, state)


def _library_watch(world: World, job: str, name: str, target: str, rng: random.Random) -> tuple[Tape, WatchState]:
    """Begin a watch of a job, some with the token that another watcher of the job was given."""
    scope = Scope(job=job)
    tape = world.archive.new_tape(name, scope, hides_streams=True)
    if token := world.archive.token(scope, rng) if rng.random() < _BORROWED else "":
        tape.opened(token)
    now = time.monotonic()
    return tape, WatchState(OneJob(job), target, now=now, resume_token=token, timeout=_LONGEST_WATCH)


async def _follow_with_aio(world: World, connection: AioConnection, tape: Tape, state: WatchState) -> None:
    with _refusals_on(tape):
        async with aclosing(aio_watch(connection, state)) as items:
            async for item in items:
                if _is_last(world, tape, state, item):
                    return
        tape.ended()


def _follow_with_library(world: World, connection: Connection, tape: Tape, state: WatchState) -> None:
    with _refusals_on(tape):
        with closing(watch(connection, state)) as items:
            for item in items:
                if _is_last(world, tape, state, item):
                    return
        tape.ended()


@contextmanager
def _refusals_on(tape: Tape) -> Iterator[None]:
    """Take down how a watch of the library was refused."""
    try:
        yield
    except GatewayCallError as error:
        tape.refused(error.code, str(error))
    except WatchTimeout as error:
        tape.refused("DEADLINE_EXCEEDED", str(error))


def _is_last(world: World, tape: Tape, state: WatchState, item: object) -> bool:
    """Take down what a watch of the library brought; return whether a watch of a filter is over with it."""
    if not isinstance(item, job_pb2.JobEvent):
        return False
    event = tape.event(item, state.resume_token)
    world.archive.seen += tape.entries[-1][0] == "told"
    return tape.scope.job is None and event.name == LAST_NAME


async def _on_thread(action: Callable[..., None], *arguments: object) -> None:
    """Run on a thread of its own: those of `asyncio.to_thread` are few, and needed by others."""
    pool = ThreadPoolExecutor(max_workers=1)
    try:
        await asyncio.get_running_loop().run_in_executor(pool, action, *arguments)
    finally:
        pool.shutdown(wait=False)


async def _jobs(world: World, rng: random.Random) -> Any:
    """Yield jobs to watch, numbered, for as long as there shall be new watches."""
    turn = 0
    while not world.stopping:
        if world.jobs:
            turn += 1
            yield turn, rng.choice(world.jobs)
        with suppress(TimeoutError):
            await asyncio.sleep(0.05)


def _job_filter(scope: Scope) -> job_pb2.JobFilter:
    return job_pb2.JobFilter(all_tags=[scope.tag] if scope.tag else [])


def _settings(world: World, target: str) -> ConnectionSettings:
    return ConnectionSettings(target=target, api_key=ApiKey(world.api_key))
