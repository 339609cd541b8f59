"""`submit_to_result`: what the gateway adds to the run of a small circuit, as the Python client sees it."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable

import grpc
from qgateway import GatewayProvider
from qgateway.v1 import program_pb2
from qiskit import QuantumCircuit, qpy

from benchmarks.bare_server import METHOD
from benchmarks.harness import Figure, bare_server, gateway_server, interleaved, median
from gateway.domain.job import RunOptions
from gateway.domain.provider import ProviderSubmission
from gateway.workers import WorkerPool, WorkerProgramReader, WorkerSimulators

_TARGET = 1.5
_ROUNDS = 15
_REPEATS = 20
_SHOTS = 1000
_ECHO_BYTES = 500


def run(progress: Callable[[], None]) -> list[Figure]:
    """Measure a Bell circuit from `backend.run` to counts, against the same run in a warm worker and four bare echoes."""
    bell = _bell()
    with gateway_server() as gateway, bare_server() as bare, asyncio.Runner(loop_factory=_new_loop) as loop:
        provider = GatewayProvider(target=gateway.target, api_key=gateway.api_key)
        backend = provider.get_backend("local_simulator")
        pool = WorkerPool(size=1, warm_up="warm_up_simulation")
        submission = loop.run(_prepared(pool, bell))
        simulators = WorkerSimulators(pool)

        def through_gateway() -> float:
            return _median_seconds(lambda: backend.run(bell, shots=_SHOTS).result().get_counts())

        with grpc.insecure_channel(bare.target) as channel:
            echo = channel.unary_unary(METHOD)

            def bare_blocks() -> None:
                echo(b"x" * _ECHO_BYTES)
                echo(b"x" * _ECHO_BYTES)
                loop.run(simulators.run(submission, time_limit=60, memory_limit=2**30))
                echo(b"x" * _ECHO_BYTES)
                echo(b"x" * _ECHO_BYTES)

            measures = {"gateway": through_gateway, "bare": lambda: _median_seconds(bare_blocks)}
            for warm_up in measures.values():
                warm_up()
            values = interleaved(measures, _ROUNDS, progress)
        loop.run(pool.close())
        provider.close()
    value = median(values["gateway"]) * 1000
    baseline = median(values["bare"]) * 1000
    return [
        Figure(
            name="submit_to_result",
            value=value,
            unit="ms",
            baseline=baseline,
            ratio=value / baseline,
            target=f"<= {_TARGET}",
            met=value / baseline <= _TARGET,
            how=f"Bell circuit, {_SHOTS} shots, backend.run to counts ÷ its run in a warm worker plus four bare echoes",
        )
    ]


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


def _median_seconds(action: Callable[[], object]) -> float:
    times = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return median(times)
