"""`ibm_submit_overhead`: what the gateway adds to a submission that goes on to IBM Quantum at once.

The service is the emulator, which answers without running anything. It holds every job as pending, as the real one would. It
answers in a millisecond, next door; `ibm_submit_overhead_distant` is what users see of a service that is as far away as a real one.
"""

from __future__ import annotations

import json
import tempfile
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import grpc
import requests
from qgateway.v1 import job_service_pb2, job_service_pb2_grpc, program_pb2

from benchmarks.harness import Figure, gateway_server, interleaved, median, median_time
from tests.emulators.ibm_quantum.process import EmulatorProcess
from tests.support.ibm_accounts import one_ibm_account

_TARGET = 2.0
_ROUNDS = 21
_DISTANT_ROUNDS = 7
_REPEATS = 10
_LATENCY_SECONDS = 0.05
_PACE = {"submits_per_minute": 60_000, "shortest_poll": 1.0, "longest_poll": 60.0}
"""Submissions are not held up, and pending jobs are looked at as by default."""
_BACKEND = "ibm_alder"
_FLIP = 'OPENQASM 3.0; include "stdgates.inc"; qubit[1] q; bit[1] c; x q[0]; c = measure q;'


def run(progress: Callable[[], None]) -> list[Figure]:
    """Measure a SubmitJob that comes back when the provider has the job, against the same POST sent bare."""
    with ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="qgateway-bench-")))
        emulator = parts.enter_context(EmulatorProcess({"manual": True}))
        gateway = parts.enter_context(gateway_server(**one_ibm_account(emulator, folder, **_PACE)))
        channel = parts.enter_context(grpc.insecure_channel(gateway.target))
        jobs = job_service_pb2_grpc.JobServiceStub(channel)
        metadata = (("authorization", f"Bearer {gateway.api_key}"),)
        circuits = [program_pb2.OpenQasmCircuit(source=_FLIP)]
        program = program_pb2.Program(openqasm=program_pb2.OpenQasmProgram(circuits=circuits))

        def submit() -> None:
            request = job_service_pb2.SubmitJobRequest(program=program, backend=_BACKEND, request_id=str(uuid.uuid4()))
            job = jobs.SubmitJob(request, metadata=metadata, timeout=60).job
            if not job.provider_job_id:
                raise RuntimeError(f"the job was not sent at once: {job.pending_reason.message}")

        submit()
        session = parts.enter_context(_session(emulator))
        url = f"{emulator.url}/api/v1/jobs"
        (sent,) = emulator.control.jobs()
        document = session.get(f"{url}/{sent['id']}").json()
        body = json.dumps(
            {"program_id": document["program"]["id"], "backend": _BACKEND, "tags": sent["tags"]}
            | {"params": document["params"]}
        ).encode()

        def post() -> None:
            session.post(url, data=body, headers={"Content-Type": "application/json"}).raise_for_status()

        measures = {"gateway": lambda: median_time(submit, _REPEATS), "bare": lambda: median_time(post, _REPEATS)}
        for warm_up in measures.values():
            warm_up()
        near = interleaved(measures, _ROUNDS, progress)
        emulator.control.settings(latency_seconds=_LATENCY_SECONDS)
        distant = interleaved(measures, _DISTANT_ROUNDS, progress)
    how = f"SubmitJob until the provider has the job ÷ the same POST of {len(body)} bytes sent bare with requests"
    return [
        _figure("ibm_submit_overhead", near, how, at_most=_TARGET),
        _figure("ibm_submit_overhead_distant", distant, f"{how}; the service answers after {_LATENCY_SECONDS} s"),
    ]


def _figure(name: str, values: dict[str, list[float]], how: str, at_most: float | None = None) -> Figure:
    value, baseline = median(values["gateway"]) * 1000, median(values["bare"]) * 1000
    return Figure.compared(name, "ms", value, baseline, how, at_most=at_most)


def _session(emulator: EmulatorProcess) -> requests.Session:
    """Return a session that is signed in."""
    session = requests.Session()
    session.trust_env = False
    form = {"grant_type": "urn:ibm:params:oauth:grant-type:apikey", "apikey": emulator.api_key()}
    token = session.post(f"{emulator.url}/identity/token", data=form).json()["access_token"]
    session.headers.update(
        {"Authorization": f"Bearer {token}", "Service-CRN": emulator.crn(), "IBM-API-Version": "2026-04-15"}
    )
    return session
