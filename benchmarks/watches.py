"""Watches: what it costs to tell many watchers, to have them, and to have some who do not read.

The watchers are raw readers in processes of their own (`benchmarks.stream_reader`); what they hear of is a finished job that is
renamed again and again.
"""

from __future__ import annotations

import itertools
import os
import signal
import statistics
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc
import psutil
from google.protobuf.field_mask_pb2 import FieldMask
from qgateway.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc, program_pb2

from benchmarks.bare_server import PUBLISH_METHOD, WATCH_METHOD
from benchmarks.harness import Figure, Server, bare_server, gateway_server, interleaved, median
from benchmarks.stream_reader import Reader, Streams, reading

_SETTINGS = {"SERVER__HEARTBEAT_INTERVAL": "300", "SERVER__MAX_STREAMS_PER_CALLER": "20000"}
_BELL = 'OPENQASM 3.0; include "stdgates.inc"; qubit[2] q; bit[2] c; h q[0]; cx q[0], q[1]; c = measure q;'
_WATCH_JOBS = "/qgateway.v1.JobService/WatchJobs"
_CONNECTIONS = 20

_FANOUT_WATCHERS = 2_000
_FANOUT_TARGET = 2.2
_FANOUT_ROUNDS = 9
_FANOUT_EVENTS = 5

_MEMORY_TARGET = 1.3

_BROADCAST_WATCHERS = 10_000
_BROADCAST_TARGET = 10.0
_CALLS_A_SECOND = 100
_IDLE_SECONDS = 10
"""For so long calls are timed while nothing happens: what is measured, and no wait for something."""
_BROADCASTS = 25

_STALLED = 1_000
_DEFAULT_WINDOW = 65_535
"""Bytes that a client takes without reading them, unless it says otherwise."""
_SMALL_WINDOW = 1_000
"""Of an event or two: readers with it are among the quick ones only for so long."""
_OTHERS = 500
_DELAY_EVENTS = 300
_DELAY_TARGET = 2.0
_STALLED_EVENTS = 10_000
_STALLED_MEMORY_TARGET = 64.0
_TELLERS = 32

_RESUMED = 1_000
_RESUMED_TARGET = 5.0


def run(progress: Callable[[], None]) -> list[Figure]:
    """Measure all that concerns watches."""
    measures = (
        _fanout,
        _memory,
        _unary_under_broadcast,
        _delay_beside_stalled_readers,
        _stalled_reader_memory,
        _resumed_after_restart,
    )
    return [measure(progress) for measure in measures]


@dataclass(frozen=True, slots=True)
class _Side:
    """A server with something to watch."""

    server: Server
    method: str
    request: bytes
    headers: dict[str, str]
    tell: Callable[[], None]
    """Makes one event, of which every watcher hears."""
    job: str = ""
    """Name of the job that the events are about."""

    def readers(self, watchers: int, **settings: int) -> Streams:
        """Return streams of so many watchers."""
        return Streams(
            self.server.target,
            self.method,
            self.request.hex(),
            self.headers,
            connections=_CONNECTIONS,
            streams=watchers // _CONNECTIONS,
            **settings,
        )


@contextmanager
def _gateway(store: Path | None = None) -> Iterator[_Side]:
    with gateway_server(store, **_SETTINGS) as server, grpc.insecure_channel(server.target) as channel:
        jobs, metadata = job_service_pb2_grpc.JobServiceStub(channel), (("authorization", f"Bearer {server.api_key}"),)
        program = program_pb2.Program(
            openqasm=program_pb2.OpenQasmProgram(circuits=[program_pb2.OpenQasmCircuit(source=_BELL)])
        )
        request = job_service_pb2.SubmitJobRequest(program=program, backend="local_simulator", tags=["watched"])
        job = jobs.SubmitJob(request, metadata=metadata).job
        for _ in jobs.WatchJob(job_service_pb2.WatchJobRequest(name=job.name), metadata=metadata):
            pass
        numbers = itertools.count()

        def rename() -> None:
            changed = job_pb2.Job(name=job.name, display_name=f"number {next(numbers)}")
            update = job_service_pb2.UpdateJobRequest(job=changed, update_mask=FieldMask(paths=["display_name"]))
            jobs.UpdateJob(update, metadata=metadata)

        yield _Side(server, _WATCH_JOBS, _watch_request(), dict(metadata), rename, job.name)


def _watch_request(resume_token: str = "") -> bytes:
    where = job_pb2.JobFilter(all_tags=["watched"])
    return job_service_pb2.WatchJobsRequest(filter=where, resume_token=resume_token).SerializeToString()


@contextmanager
def _bare(event_bytes: int) -> Iterator[_Side]:
    with bare_server() as server, grpc.insecure_channel(server.target) as channel:
        publish = channel.unary_unary(PUBLISH_METHOD)
        yield _Side(server, WATCH_METHOD, b"x" * event_bytes, {}, lambda: publish(b"x" * event_bytes))


def _event_bytes(side: _Side) -> int:
    """Return the size of the response that tells an event."""
    with grpc.insecure_channel(side.server.target) as channel:
        responses = channel.unary_stream(side.method)(side.request, metadata=tuple(side.headers.items()))
        next(responses)
        side.tell()
        size = len(next(responses))
        responses.cancel()
        return size


def _fanout(progress: Callable[[], None]) -> Figure:
    with ExitStack() as parts:
        gateway = parts.enter_context(_gateway())
        bare = parts.enter_context(_bare(_event_bytes(gateway)))
        measures = {}
        for name, side in (("gateway", gateway), ("bare", bare)):
            reader = parts.enter_context(reading(side.readers(_FANOUT_WATCHERS)))
            if side is gateway:
                _wait_for_signs(reader, _FANOUT_WATCHERS)
            measures[name] = lambda reader=reader, side=side: median(
                [_time_to_tell(side, reader, _FANOUT_WATCHERS) for _ in range(_FANOUT_EVENTS)]
            )
        for warm_up in measures.values():
            warm_up()
        values = interleaved(measures, _FANOUT_ROUNDS, progress)
    value, baseline = median(values["gateway"]) * 1000, median(values["bare"]) * 1000
    return Figure.compared(
        "watch_fanout",
        "ms",
        value,
        baseline,
        f"a job is renamed until the last of {_FANOUT_WATCHERS} watchers over {_CONNECTIONS} connections has it ÷ bare "
        "grpc.aio server that wakes all at once with prepared bytes",
        at_most=_FANOUT_TARGET,
    )


def _wait_for_signs(reader: Reader, watchers: int) -> None:
    """Wait until each new watcher of the gateway has had its first sign of life, about a second after its stream began.

    Before that the server is not idle, and signs would be counted as events. The next come when all is measured.
    """
    reader.command(f"last {watchers}")
    reader.times()


def _time_to_tell(side: _Side, reader: Reader, watchers: int) -> float:
    """Make an event, and return after how many seconds the last watcher had it."""
    reader.command(f"last {watchers}")
    started = time.monotonic()
    side.tell()
    return reader.times()[0] - started


def _memory(progress: Callable[[], None]) -> Figure:
    with _gateway() as gateway:
        size = _event_bytes(gateway)
        value = _kib_per_watcher(gateway)
        progress()
    with _bare(size) as bare:
        baseline = _kib_per_watcher(bare)
        progress()
    return Figure.compared(
        "watcher_memory",
        "KiB",
        value,
        baseline,
        f"resident memory of the server per idle watcher, of {_BROADCAST_WATCHERS} ÷ bare grpc.aio server",
        at_most=_MEMORY_TARGET,
    )


def _kib_per_watcher(side: _Side) -> float:
    process = psutil.Process(side.server.pid)
    before = process.memory_info().rss
    with reading(side.readers(_BROADCAST_WATCHERS)):
        return (process.memory_info().rss - before) / _BROADCAST_WATCHERS / 1024


def _unary_under_broadcast(progress: Callable[[], None]) -> Figure:
    with _gateway() as gateway, reading(gateway.readers(_BROADCAST_WATCHERS)) as reader, _Calls(gateway) as calls:
        _wait_for_signs(reader, _BROADCAST_WATCHERS)
        calls.take()
        time.sleep(_IDLE_SECONDS)
        idle = _p99(calls.take())
        progress()
        for _ in range(_BROADCASTS):
            _time_to_tell(gateway, reader, _BROADCAST_WATCHERS)
        busy = _p99(calls.take())
        progress()
    return Figure.compared(
        "unary_under_broadcast",
        "ms",
        busy * 1000,
        idle * 1000,
        f"99th percentile of GetJob at {_CALLS_A_SECOND}/s while event after event goes to {_BROADCAST_WATCHERS} watchers ÷ "
        "the same while nothing happens",
        at_most=_BROADCAST_TARGET,
    )


class _Calls:
    """Calls GetJob at a steady rate, from a thread of its own, and times each call from the moment when it was due."""

    def __init__(self, side: _Side) -> None:
        self._side = side
        self._times: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        """Begin to call."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Call no more."""
        self._stop.set()
        self._thread.join()

    def take(self) -> list[float]:
        """Return the times since the last look, in seconds."""
        taken, self._times = self._times, []
        return taken

    def _run(self) -> None:
        request = job_service_pb2.GetJobRequest(name=self._side.job).SerializeToString()
        with grpc.insecure_channel(self._side.server.target) as channel:
            get_job = channel.unary_unary("/qgateway.v1.JobService/GetJob")
            due = time.monotonic()
            while not self._stop.wait(max(0.0, due - time.monotonic())):
                get_job(request, metadata=tuple(self._side.headers.items()))
                self._times.append(time.monotonic() - due)
                due += 1 / _CALLS_A_SECOND


def _delay_beside_stalled_readers(progress: Callable[[], None]) -> Figure:
    with _gateway() as gateway, reading(gateway.readers(_OTHERS)) as others:
        _wait_for_signs(others, _OTHERS)
        alone = _p99(_delays(gateway, others))
        progress()
        with reading(gateway.readers(_STALLED, window=_SMALL_WINDOW)):
            beside = _p99(_delays(gateway, others))
        progress()
    return Figure.compared(
        "delay_beside_stalled_readers",
        "ms",
        beside * 1000,
        alone * 1000,
        f"99th percentile of the delays of {_DELAY_EVENTS} events to {_OTHERS} watchers, beside {_STALLED} who do not read ÷ "
        "the same without those",
        at_most=_DELAY_TARGET,
    )


def _stalled_reader_memory(progress: Callable[[], None]) -> Figure:
    with _gateway() as gateway:
        # What the server keeps of the newest events is no cost of those who do not read them.
        _tell_often(gateway, _STALLED_EVENTS)
        process = psutil.Process(gateway.server.pid)
        before = process.memory_info().rss
        with reading(gateway.readers(_STALLED, window=_DEFAULT_WINDOW)):
            _tell_often(gateway, _STALLED_EVENTS)
            kib = (process.memory_info().rss - before) / _STALLED / 1024
        progress()
    return Figure.alone(
        "stalled_reader_memory",
        "KiB",
        kib,
        f"resident memory of the server for each of {_STALLED} watchers who read nothing of {_STALLED_EVENTS} events",
        at_most=_STALLED_MEMORY_TARGET,
    )


def _resumed_after_restart(progress: Callable[[], None]) -> Figure:
    with tempfile.TemporaryDirectory(prefix="qgateway-bench-") as folder:
        store = Path(folder) / "qgateway.db"
        with _gateway(store) as gateway, reading(gateway.readers(_RESUMED)):
            token = _token(gateway)
            gateway.tell()
            killed = time.monotonic()
            os.kill(gateway.server.pid, signal.SIGKILL)
        with gateway_server(store, **_SETTINGS) as server:
            headers = {"authorization": f"Bearer {server.api_key}"}
            again = _Side(server, _WATCH_JOBS, _watch_request(token), headers, lambda: None)
            with reading(again.readers(_RESUMED)):
                seconds = time.monotonic() - killed
        progress()
    return Figure.alone(
        "watches_resumed_after_restart",
        "s",
        seconds,
        f"from the SIGKILL of a server with {_RESUMED} watches, through its restart, until each has the event that it missed",
        at_most=_RESUMED_TARGET,
    )


def _token(side: _Side) -> str:
    """Return a token that stands for now."""
    with grpc.insecure_channel(side.server.target) as channel:
        watch = job_service_pb2_grpc.JobServiceStub(channel).WatchJobs(
            job_service_pb2.WatchJobsRequest(), metadata=tuple(side.headers.items())
        )
        token = next(watch).resume_token
        watch.cancel()
    return token


def _tell_often(side: _Side, events: int) -> None:
    with ThreadPoolExecutor(_TELLERS) as tellers:
        deque(tellers.map(lambda _: side.tell(), range(events)), maxlen=0)


def _delays(side: _Side, reader: Reader) -> list[float]:
    """Make events, and return after how many seconds each watcher had each."""
    delays = []
    for _ in range(_DELAY_EVENTS):
        reader.command(f"all {_OTHERS}")
        started = time.monotonic()
        side.tell()
        delays += [at - started for at in reader.times()]
    return delays


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]
