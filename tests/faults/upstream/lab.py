"""Jobs for a gateway that is to be broken, and what has to be true of them whatever broke."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from typing import Any

import grpc
from qgateway.v1 import job_pb2, job_service_pb2

from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.support.gateway_process import GatewayProcess
from tests.support.wire import Wire, connected, submission

FULL = bool(os.environ.get("GATEWAY_FAULTS_FULL"))
"""Whether to try all that there is (`make torture-upstream`), and not each kind of thing once."""

CIRCUIT = """OPENQASM 3.0;
include "stdgates.inc";
qubit[3] q;
bit[3] c;
x q[0];
x q[1];
c = measure q;
"""
COUNTS = {"011": 20}
"""What the circuit brings: its bits cannot be mistaken for each other."""

_BROKEN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
_STATUS = job_pb2.JobStatus.Name


def request_of(request_id: str = "", backend: str = "ibm_alder", **fields: Any) -> job_service_pb2.SubmitJobRequest:
    """Return a submission of the circuit."""
    options = job_pb2.RunOptions(shots=20, transpile=job_pb2.TRANSPILE_LEVEL_0)
    return submission(CIRCUIT, backend, request_id=request_id, options=options, **fields)


def submit(wire: Wire, request_id: str = "", **fields: Any) -> job_pb2.Job:
    """Submit the circuit."""
    job: job_pb2.Job = wire.jobs.SubmitJob(request_of(request_id, **fields), metadata=wire.metadata, timeout=60).job
    return job


def try_to_submit(gateway: GatewayProcess, request_id: str) -> job_pb2.Job | None:
    """Submit the circuit to a gateway that may be killed meanwhile."""
    try:
        with connected(gateway) as wire:
            return submit(wire, request_id)
    except grpc.RpcError as error:
        if error.code() not in _BROKEN:  # type: ignore[attr-defined]
            raise
        return None


def upstream_of(control: EmulatorControl, job: job_pb2.Job) -> list[dict[str, Any]]:
    """Return the upstream jobs that a job of the gateway has, by the marker among their tags."""
    return [each for each in control.jobs() if f"qgw-{job.name.removeprefix('jobs/')}" in each["tags"]]


def check_all_done(
    wire: Wire, control: EmulatorControl, jobs: Iterable[job_pb2.Job], where: str, instance: str = ""
) -> None:
    """Fail unless each job gets DONE with the right result and has one upstream job, and nobody else has any.

    Args:
        wire: The gateway.
        control: The service.
        jobs: All that were ever submitted.
        where: Seed and step, for the message.
        instance: CRN of the only instance to look at; empty: all.
    """
    done = [finish(wire, job.name, where) for job in jobs]
    assert {_STATUS(job.status) for job in done} == {"JOB_STATUS_DONE"}, f"{where}: {[job.failure for job in done]}"
    upstream = {job["id"]: job for job in control.jobs() if instance in {"", job["instance"]}}
    assert sorted(upstream) == sorted(job.provider_job_id for job in done), f"{where}: not one upstream job per job"
    for job in done:
        assert job.submission.state == job_pb2.Submission.STATE_ACCEPTED, f"{where}: {job}"
        assert f"qgw-{job.name.removeprefix('jobs/')}" in upstream[job.provider_job_id]["tags"], f"{where}: {job}"
        assert wire.counts(job.name) == [COUNTS], f"{where}: {job.name}"


def finish(wire: Wire, name: str, where: str, timeout: float = 90) -> job_pb2.Job:
    """Wait until a job is final, and return it; say where the test is if that does not come."""
    try:
        return wire.finish(name, timeout)
    except grpc.RpcError as error:
        raise AssertionError(f"{where}: {name} did not end: {error.code()}\n{wire.get(name)}") from error  # type: ignore[attr-defined]


def pending_kind(wire: Wire, name: str) -> str:
    """Return why a job is not done, without the prefix."""
    kind = wire.get(name).pending_reason.kind
    return job_pb2.PendingReason.Kind.Name(kind).removeprefix("KIND_")


def wait_for_kind(wire: Wire, names: Sequence[str], kind: str, where: str, within: float = 20.0) -> None:
    """Wait until all of some jobs tell one reason for not being done."""
    deadline = time.monotonic() + within
    while (kinds := {name: pending_kind(wire, name) for name in names}) != dict.fromkeys(names, kind):
        assert time.monotonic() < deadline, f"{where}: {kinds} instead of {kind}"
        time.sleep(0.02)
