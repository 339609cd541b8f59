"""`submit_rate` and `event_rate`: how many durable changes a second the gateway takes in, and tells a watcher."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from qgateway.v1 import backend_service_pb2, backend_service_pb2_grpc, job_pb2, job_service_pb2, program_pb2

from benchmarks.bare_commits import bare_commits
from benchmarks.bare_server import METHOD
from benchmarks.call_load import TEXT_BYTES, Calls, calling
from benchmarks.harness import Figure, Server, bare_server, gateway_server, interleaved, median
from benchmarks.stream_reader import Streams, reading
from tests.emulators.ibm_quantum.process import EmulatorProcess
from tests.support.ibm_accounts import one_ibm_account

_CONNECTIONS = 8
_IN_FLIGHT = 8
_SUBMIT_TARGET = 0.4
_EVENT_TARGET = 0.5
_SUBMITS = 1_500
_EVENTS = 2_500
_ECHOES = 8_000
_COMMITTED = 9_600
_CHANGES = 4_000
_ROUNDS = 7

_PACED = {"submits_per_minute": 0.001}
"""One job goes to the provider, and all others wait for hours: nothing runs while they are measured."""
_FLIP = 'OPENQASM 3.0; include "stdgates.inc"; qubit[1] q; bit[1] c; x q[0]; c = measure q;'
_REQUEST_ID = bytes([job_service_pb2.SubmitJobRequest.REQUEST_ID_FIELD_NUMBER << 3 | 2, TEXT_BYTES])
_DISPLAY_NAME = bytes([job_pb2.Job.DISPLAY_NAME_FIELD_NUMBER << 3 | 2, TEXT_BYTES])
_OF_JOB = bytes([job_service_pb2.UpdateJobRequest.JOB_FIELD_NUMBER << 3 | 2, TEXT_BYTES + len(_DISPLAY_NAME)])

_POLICY = """
[default]
limits.pending_jobs = "unlimited"
limits.submissions_per_minute = 100_000_000
"""
"""One tenant sends all jobs, more than any tenant should."""


def run(progress: Callable[[], None]) -> list[Figure]:
    """Measure how fast jobs are taken in, and how fast events are committed and told."""
    return [_submit_rate(progress), _event_rate(progress)]


def _submit_rate(progress: Callable[[], None]) -> Figure:
    with ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="qgateway-bench-")))
        gateway, request = parts.enter_context(_paced_gateway(folder))
        bare = parts.enter_context(bare_server())
        submit = parts.enter_context(calling(_calls(gateway, "SubmitJob", request + _REQUEST_ID)))
        echo = parts.enter_context(
            calling(Calls(bare.target, METHOD, (request + _REQUEST_ID).hex(), {}, _CONNECTIONS, _IN_FLIGHT))
        )
        submit(_SUBMITS), echo(_ECHOES)  # warm up
        commits = parts.enter_context(bare_commits(folder / "qgateway.db", folder / "bare.db"))
        measures = {
            "submit": lambda: _SUBMITS / submit(_SUBMITS),
            "echo": lambda: _ECHOES / echo(_ECHOES),
            "commit": lambda: commits.creates(_COMMITTED, _CONNECTIONS * _IN_FLIGHT),
        }
        values = interleaved(measures, _ROUNDS, progress)
    value, echoes, committed = (median(values[name]) for name in measures)
    baseline, slower = min((echoes, "grpc.aio echoes of as many bytes"), (committed, "SQLite commits of such groups"))
    return Figure.compared(
        "submit_rate",
        "jobs/s",
        value,
        baseline,
        f"SubmitJob of {len(request)} bytes to an account whose jobs wait, {_CONNECTIONS} x {_IN_FLIGHT} in flight ÷ the "
        f"slower of bare echoes ({echoes:,.0f}/s) and bare commits ({committed:,.0f}/s), which is: {slower}",
        at_least=_SUBMIT_TARGET,
    )


def _event_rate(progress: Callable[[], None]) -> Figure:
    with ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="qgateway-bench-")))
        gateway, request = parts.enter_context(_paced_gateway(folder))
        rename = parts.enter_context(
            calling(_calls(gateway, "UpdateJob", _renaming(gateway, request) + _OF_JOB + _DISPLAY_NAME))
        )
        watcher = parts.enter_context(reading(_watch(gateway)))

        def events() -> float:
            watcher.command(f"last {_EVENTS}")
            began = time.monotonic()
            rename(_EVENTS)
            return _EVENTS / (watcher.times()[0] - began)

        events()  # warm up
        changes = parts.enter_context(bare_commits(folder / "qgateway.db", folder / "bare.db"))
        changes.add_job()
        measures = {"events": events, "changes": lambda: changes.changes(_CHANGES)}
        values = interleaved(measures, _ROUNDS, progress)
    value, baseline = (median(values[name]) for name in measures)
    return Figure.compared(
        "event_rate",
        "events/s",
        value,
        baseline,
        f"renamings of a job, {_CONNECTIONS} x {_IN_FLIGHT} in flight, until the watcher has the last of {_EVENTS} ÷ bare "
        "SQLite transactions of the same rows",
        at_least=_EVENT_TARGET,
    )


@contextmanager
def _paced_gateway(folder: Path) -> Iterator[tuple[Server, bytes]]:
    """Run a gateway with an account whose jobs wait. Yields it, and a request for a job there without an id."""
    with EmulatorProcess() as emulator:
        policy = folder / "policy.toml"
        policy.write_text(_POLICY)
        settings = {**one_ibm_account(emulator, folder, **_PACED), "ACCESS__POLICY": str(policy)}
        with gateway_server(folder / "qgateway.db", **settings) as server:
            circuits = [program_pb2.OpenQasmCircuit(source=_FLIP)]
            program = program_pb2.Program(openqasm=program_pb2.OpenQasmProgram(circuits=circuits))
            request = job_service_pb2.SubmitJobRequest(program=program, backend=_backend(server))
            yield server, request.SerializeToString()


def _backend(gateway: Server) -> str:
    """Return a backend of the account."""
    with grpc.insecure_channel(gateway.target) as channel:
        backends = backend_service_pb2_grpc.BackendServiceStub(channel)
        listed = backends.ListBackends(
            backend_service_pb2.ListBackendsRequest(), metadata=tuple(_headers(gateway).items()), timeout=60
        )
        return listed.backends[0].backend_id


def _renaming(gateway: Server, request: bytes) -> bytes:
    """Submit a job, and return the start of a request that renames it."""
    with grpc.insecure_channel(gateway.target) as channel:
        submit_job = channel.unary_unary("/qgateway.v1.JobService/SubmitJob")
        response = submit_job(request, metadata=tuple(_headers(gateway).items()), timeout=60)
    name = job_service_pb2.SubmitJobResponse.FromString(response).job.name
    mask = FieldMask(paths=["display_name"])
    return job_service_pb2.UpdateJobRequest(job=job_pb2.Job(name=name), update_mask=mask).SerializeToString()


def _calls(gateway: Server, method: str, request: bytes) -> Calls:
    return Calls(
        gateway.target, f"/qgateway.v1.JobService/{method}", request.hex(), _headers(gateway), _CONNECTIONS, _IN_FLIGHT
    )


def _watch(gateway: Server) -> Streams:
    """Return one watcher of all jobs."""
    return Streams(gateway.target, "/qgateway.v1.JobService/WatchJobs", "", _headers(gateway), connections=1, streams=1)


def _headers(gateway: Server) -> dict[str, str]:
    return {"authorization": f"Bearer {gateway.api_key}"}
