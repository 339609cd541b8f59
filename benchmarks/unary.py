"""`unary_get_job`: what the gateway adds to a unary call."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import grpc
from qgateway.v1 import job_service_pb2, job_service_pb2_grpc, program_pb2

from benchmarks.bare_server import METHOD
from benchmarks.harness import Figure, Server, bare_server, gateway_server, interleaved, median

_TARGET = 0.8
_CONNECTIONS = 8
_STREAMS = 8
_CALLS = 12_000
_ROUNDS = 7
_BELL = 'OPENQASM 3.0; include "stdgates.inc"; qubit[2] q; bit[2] c; h q[0]; cx q[0], q[1]; c = measure q;'


def run(progress: Callable[[], None]) -> list[Figure]:
    """Measure GetJob of a finished job against an echo of as many bytes, at 64 in flight, with a load generator in C."""
    if shutil.which("h2load") is None:
        raise RuntimeError(
            "h2load is missing; it generates the load. On Debian and Ubuntu: apt-get install nghttp2-client"
        )
    with gateway_server() as gateway, bare_server() as bare, tempfile.TemporaryDirectory() as folder:
        request, response_size = finished_job(gateway)
        get_job = load(
            gateway,
            "/qgateway.v1.JobService/GetJob",
            request,
            Path(folder) / "get",
            ["authorization: Bearer " + gateway.api_key],
            response_size=response_size,
        )
        echo = load(bare, METHOD, b"x" * response_size, Path(folder) / "echo", [], response_size=response_size)
        get_job(), echo()  # warm up
        values = interleaved({"get_job": get_job, "echo": echo}, _ROUNDS, progress)
    value, baseline = median(values["get_job"]), median(values["echo"])
    return [
        Figure.compared(
            "unary_get_job",
            "calls/s",
            value,
            baseline,
            f"GetJob with API key, {_CONNECTIONS} x {_STREAMS} in flight, ÷ bare grpc.aio echo of {response_size} bytes",
            at_least=_TARGET,
        )
    ]


def finished_job(gateway: Server, tls: grpc.ChannelCredentials | None = None) -> tuple[bytes, int]:
    """Run a job to its end. Returns the serialised GetJobRequest and the size of its response."""
    metadata = (("authorization", f"Bearer {gateway.api_key}"),)
    circuits = [program_pb2.OpenQasmCircuit(source=_BELL)]
    program = program_pb2.Program(openqasm=program_pb2.OpenQasmProgram(circuits=circuits))
    with grpc.secure_channel(gateway.target, tls) if tls else grpc.insecure_channel(gateway.target) as channel:
        jobs = job_service_pb2_grpc.JobServiceStub(channel)
        submission = job_service_pb2.SubmitJobRequest(program=program, backend="local_simulator", tags=["bench"])
        job = jobs.SubmitJob(submission, metadata=metadata, timeout=60).job
        for _ in jobs.WatchJob(job_service_pb2.WatchJobRequest(name=job.name), metadata=metadata, timeout=60):
            pass
        request = job_service_pb2.GetJobRequest(name=job.name)
        response = jobs.GetJob(request, metadata=metadata, timeout=10)
        return request.SerializeToString(), response.ByteSize()


def load(
    server: Server, method: str, request: bytes, body: Path, headers: list[str], *, response_size: int
) -> Callable[[], float]:
    """Return what makes calls of one kind, 64 in flight, and returns how many were answered a second.

    Args:
        server: Who is called.
        method: Full name of the method.
        request: The serialised request of each call.
        body: File for the request.
        headers: Metadata of each call.
        response_size: Size of the right answer in bytes.
    """
    body.write_bytes(struct.pack(">BI", 0, len(request)) + request)
    command = ["h2load", "-n", str(_CALLS), "-c", str(_CONNECTIONS), "-m", str(_STREAMS), "-d", str(body)]
    for header in ("content-type: application/grpc", "te: trailers", "grpc-timeout: 30S", *headers):
        command += ["-H", header]
    command.append(f"http://{server.target}{method}")

    def calls_per_second() -> float:
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
        succeeded = re.search(r"(\d+) succeeded", output)
        rate = re.search(r"finished in [^,]+, ([\d.]+) req/s", output)
        data = re.search(r"([\d.]+)([KMG]?)B \(\d+\) data", output)
        if succeeded is None or rate is None or data is None or int(succeeded[1]) != _CALLS:
            raise RuntimeError(f"not every call was answered:\n{output}")
        # A refusal has no data, and counts as a success here.
        received = float(data[1]) * {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}[data[2]]
        if received < _CALLS * response_size:
            raise RuntimeError(f"not every call was answered with {response_size} bytes:\n{output}")
        return float(rate[1])

    return calls_per_second
