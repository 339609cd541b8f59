"""`submit_to_result`: what the gateway adds to the run of a small circuit, as the Python client sees it.

Each side runs in a process of its own, so that neither carries the threads and sockets of the other; they take turns.
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
from qgateway import GatewayProvider
from qgateway.v1 import program_pb2
from qiskit import QuantumCircuit, qpy

from benchmarks.bare_server import METHOD
from benchmarks.harness import Figure, bare_server, gateway_server, interleaved, median, median_time
from benchmarks.side_process import side_process
from gateway.domain.job import RunOptions
from gateway.domain.provider import ProviderSubmission
from gateway.workers import WorkerPool, WorkerProgramReader, WorkerSimulators

_TARGET = 1.5
_ROUNDS = 21
_REPEATS = 20
_SHOTS = 1000
_ECHO_BYTES = 500


def run(progress: Callable[[], None]) -> list[Figure]:
    """Measure a Bell circuit from `backend.run` to counts, against the same run in a warm worker and four bare echoes."""
    with (
        gateway_server() as gateway,
        bare_server() as bare,
        _side("gateway", gateway.target, gateway.api_key) as through_gateway,
        _side("bare", bare.target) as bare_blocks,
        _side("parts", bare.target) as bare_parts,
    ):
        measures = {"gateway": through_gateway, "bare": bare_blocks, "parts": bare_parts}
        for warm_up in measures.values():
            warm_up()
        values = interleaved(measures, _ROUNDS, progress)
    value, baseline, parts = (median(values[side]) * 1000 for side in measures)
    what = f"Bell circuit, {_SHOTS} shots, backend.run to counts ÷ its run in a warm worker plus four bare echoes"
    return [
        Figure.compared("submit_to_result", "ms", value, baseline, f"{what}, one after the other", at_most=_TARGET),
        Figure.compared(
            "submit_to_result_parts",
            "ms",
            value,
            parts,
            f"{what}, each of the two repeated by itself and then added: caches are warmer than they ever are in use",
        ),
    ]


@contextmanager
def _side(*arguments: str) -> Iterator[Callable[[], float]]:
    """Start one side; what it gives returns the median of some repetitions, in seconds."""
    with side_process("benchmarks.latency", *arguments) as side:

        def measure() -> float:
            side.command("go")
            return float(side.answer())

        yield measure


def _gateway_side(target: str, api_key: str) -> None:
    bell = _bell()
    with GatewayProvider(target=target, api_key=api_key) as provider:
        backend = provider.get_backend("local_simulator")
        _answer(lambda: median_time(lambda: backend.run(bell, shots=_SHOTS).result().get_counts(), _REPEATS))


def _bare_side(target: str) -> None:
    with _blocks(target) as (echo, simulate):

        def blocks() -> None:
            echo()
            echo()
            simulate()
            echo()
            echo()

        _answer(lambda: median_time(blocks, _REPEATS))


def _parts_side(target: str) -> None:
    with _blocks(target) as (echo, simulate):
        _answer(lambda: 4 * median_time(echo, _REPEATS) + median_time(simulate, _REPEATS))


@contextmanager
def _blocks(target: str) -> Iterator[tuple[Callable[[], object], Callable[[], object]]]:
    """Yield the building blocks: a bare echo, and the run in a warm worker."""
    with grpc.insecure_channel(target) as channel, asyncio.Runner(loop_factory=_new_loop) as loop:
        echo = channel.unary_unary(METHOD)
        pool = WorkerPool(size=1, warm_up="warm_up_simulation")
        submission = loop.run(_prepared(pool, _bell()))
        simulators = WorkerSimulators(pool)

        yield (
            lambda: echo(b"x" * _ECHO_BYTES),
            lambda: loop.run(simulators.run(submission, time_limit=60, memory_limit=2**30)),
        )
        loop.run(pool.close())


def _answer(measure: Callable[[], float]) -> None:
    """Measure once for each line of input, until its end."""
    for _ in sys.stdin:
        print(measure(), flush=True)


def _new_loop() -> asyncio.AbstractEventLoop:
    """Return the kind of event loop that the gateway uses."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _bell() -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return circuit


async def _prepared(pool: WorkerPool, circuit: QuantumCircuit) -> ProviderSubmission:
    """Return the circuit as the gateway hands it to its simulator."""
    blob = io.BytesIO()
    qpy.dump(circuit, blob)
    program = program_pb2.Program(qpy=program_pb2.QpyProgram(data=blob.getvalue())).SerializeToString()
    options = RunOptions(shots=_SHOTS)
    (backend, _), *_ = await WorkerSimulators(pool).describe(2**30)
    prepared = await WorkerProgramReader(pool).prepare(program, backend, options)
    return ProviderSubmission("bench", backend.name, prepared, options, "jobs/bench")


if __name__ == "__main__":
    {"gateway": _gateway_side, "bare": _bare_side, "parts": _parts_side}[sys.argv[1]](*sys.argv[2:])
