"""Calls to a gateway as a foreign client makes them: stubs, metadata, OpenQASM text. No Qiskit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from qgateway.v1 import (
    account_service_pb2_grpc,
    backend_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    program_pb2,
    result_pb2,
    server_service_pb2_grpc,
    session_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
)

from tests.support.gateway_process import GatewayProcess

BELL = """OPENQASM 3.0;
include "stdgates.inc";
qubit[2] q;
bit[2] c;
h q[0];
cx q[0], q[1];
c = measure q;
"""

LONG = "\n".join(
    [
        "OPENQASM 3.0;",
        'include "stdgates.inc";',
        "qubit[20] q;",
        "bit[20] c;",
        *(f"h q[{qubit}];" for qubit in range(20)),
        *(
            f"cx q[{index % 20}], q[{(index * 7 + 1) % 20 if (index * 7 + 1) % 20 != index % 20 else (index + 1) % 20}]; "
            f"rx(0.{index % 9 + 1}) q[{index % 20}];"
            for index in range(600)
        ),
        "c = measure q;",
    ]
)
"""A circuit that takes the simulator some seconds."""


class Wire:
    """Stubs of a gateway, and the metadata that its calls need."""

    def __init__(self, channel: grpc.Channel, api_key: str) -> None:
        self.metadata = (("authorization", f"Bearer {api_key}"),)
        self.channel = channel
        self.jobs: Any = job_service_pb2_grpc.JobServiceStub(channel)
        self.backends: Any = backend_service_pb2_grpc.BackendServiceStub(channel)
        self.accounts: Any = account_service_pb2_grpc.AccountServiceStub(channel)
        self.sessions: Any = session_service_pb2_grpc.SessionServiceStub(channel)
        self.server: Any = server_service_pb2_grpc.ServerServiceStub(channel)

    def submit(
        self, source: str | Sequence[str] = BELL, backend: str = "local_simulator", **fields: Any
    ) -> job_pb2.Job:
        """Submit OpenQASM texts and return the job."""
        request = submission(source, backend, **fields)
        job: job_pb2.Job = self.jobs.SubmitJob(request, metadata=self.metadata, timeout=60).job
        return job

    def open_session(
        self,
        backend: str = "local_simulator",
        mode: job_pb2.SchedulingMode.ValueType = job_pb2.SCHEDULING_MODE_SESSION,
        *,
        account: str = "",
        request_id: str = "",
        max_seconds: int | None = None,
    ) -> session_pb2.Session:
        """Open a session and return it."""
        session = session_pb2.Session(backend=backend, mode=mode)
        if max_seconds is not None:
            session.max_time.FromSeconds(max_seconds)
        request = session_service_pb2.CreateSessionRequest(session=session, account=account, request_id=request_id)
        opened: session_pb2.Session = self.sessions.CreateSession(request, metadata=self.metadata, timeout=20).session
        return opened

    def session(self, name: str) -> session_pb2.Session:
        """Read a session."""
        request = session_service_pb2.GetSessionRequest(name=name)
        session: session_pb2.Session = self.sessions.GetSession(request, metadata=self.metadata, timeout=20).session
        return session

    def close_session(self, name: str) -> session_pb2.Session:
        """Let a session take no more jobs."""
        request = session_service_pb2.CloseSessionRequest(name=name)
        session: session_pb2.Session = self.sessions.CloseSession(request, metadata=self.metadata, timeout=20).session
        return session

    def cancel_session(self, name: str) -> session_pb2.Session:
        """End a session."""
        request = session_service_pb2.CancelSessionRequest(name=name)
        session: session_pb2.Session = self.sessions.CancelSession(request, metadata=self.metadata, timeout=20).session
        return session

    def get(self, name: str) -> job_pb2.Job:
        """Read a job."""
        request = job_service_pb2.GetJobRequest(name=name)
        job: job_pb2.Job = self.jobs.GetJob(request, metadata=self.metadata, timeout=10).job
        return job

    def list(self, **filter_: Any) -> list[job_pb2.Job]:
        """List the newest jobs that match."""
        request = job_service_pb2.ListJobsRequest(filter=job_pb2.JobFilter(**filter_), page_size=500)
        return list(self.jobs.ListJobs(request, metadata=self.metadata, timeout=10).jobs)

    def watch(self, name: str, timeout: float = 60) -> Iterator[job_service_pb2.WatchJobResponse]:
        """Follow a job until its final event."""
        request = job_service_pb2.WatchJobRequest(name=name)
        yield from self.jobs.WatchJob(request, metadata=self.metadata, timeout=timeout)

    def finish(self, name: str, timeout: float = 60) -> job_pb2.Job:
        """Wait until a job is final, and return it."""
        last = None
        for response in self.watch(name, timeout):
            if response.HasField("event"):
                last = response.event.job
        assert last is not None
        return last

    def reach(self, name: str, status: job_pb2.JobStatus.ValueType, timeout: float = 60) -> job_pb2.Job:
        """Wait until a job has a status, and return it."""
        for response in self.watch(name, timeout):
            if response.HasField("event") and response.event.job.status == status:
                return response.event.job
        raise AssertionError(f"the job never was {job_pb2.JobStatus.Name(status)}")

    def history(self, name: str) -> list[int]:
        """Read the revisions of all events of a job."""
        request = job_service_pb2.ListJobEventsRequest(name=name, page_size=500)
        events = self.jobs.ListJobEvents(request, metadata=self.metadata, timeout=10).events
        return [event.revision for event in events]

    def counts(self, name: str) -> list[dict[str, int]]:
        """Read the counts of each experiment of a finished job."""
        result = self.result(name, include_counts=True, omit_shots=True)
        return [dict(experiment.counts) for experiment in result.experiments]

    def result(self, name: str, **fields: Any) -> result_pb2.JobResult:
        """Read a result."""
        request = job_service_pb2.GetJobResultRequest(name=name, **fields)
        result: result_pb2.JobResult = self.jobs.GetJobResult(request, metadata=self.metadata, timeout=60).result
        return result


@contextmanager
def connected(gateway: GatewayProcess) -> Iterator[Wire]:
    """Connect to a gateway."""
    with grpc.insecure_channel(gateway.target) as channel:
        yield Wire(channel, gateway.api_key)


def submission(
    source: str | Sequence[str] = BELL, backend: str = "local_simulator", **fields: Any
) -> job_service_pb2.SubmitJobRequest:
    """Return a submission of OpenQASM texts."""
    sources = [source] if isinstance(source, str) else source
    circuits = [program_pb2.OpenQasmCircuit(source=each) for each in sources]
    program = program_pb2.Program(openqasm=program_pb2.OpenQasmProgram(circuits=circuits))
    return job_service_pb2.SubmitJobRequest(**{"program": program, "backend": backend, **fields})


def details(error: grpc.RpcError) -> dict[str, Any]:
    """Return the details of an error by the name of their type."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None, f"no details: {error}"
    found = {}
    for detail in status.details:
        name = detail.type_url.rpartition(".")[2]
        message = getattr(error_details_pb2, name)()
        detail.Unpack(message)
        found[name] = message
    return found


def violations(error: grpc.RpcError) -> dict[str, str]:
    """Return the wrong fields that an error names, with what is wrong."""
    return {each.field: each.description for each in details(error)["BadRequest"].field_violations}
