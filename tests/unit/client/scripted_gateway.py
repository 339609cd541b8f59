"""A real gRPC server with one job, whose every answer a test can change."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any, NoReturn

import grpc
from google.protobuf import message_factory
from qgateway.v1 import (
    account_service_pb2,
    backend_pb2,
    backend_service_pb2,
    job_pb2,
    job_service_pb2,
    program_pb2,
    result_pb2,
    server_service_pb2,
    session_service_pb2,
)

from tests.support.refusals import Behaviour, refuse

JOB_ID = "abcdefghijklmnopqrstuvwxyz"
JOB = f"jobs/{JOB_ID}"
FINAL = ("DONE", "CANCELLED", "ERROR")

_SERVICES = (
    job_service_pb2.DESCRIPTOR.services_by_name["JobService"],
    backend_service_pb2.DESCRIPTOR.services_by_name["BackendService"],
    session_service_pb2.DESCRIPTOR.services_by_name["SessionService"],
    account_service_pb2.DESCRIPTOR.services_by_name["AccountService"],
    server_service_pb2.DESCRIPTOR.services_by_name["ServerService"],
)


class ScriptedGateway:
    """A small gateway with one backend and one job. `move` moves the job; `on` replaces what a method does.

    Attributes:
        job: The job as it is now.
        program: Serialised `Program` of the job.
        result: Serialised `JobResult` of the job.
        backend: The one backend.
        calls: Names of the methods that were called, in order.
        requests: Requests by method, in order.
    """

    def __init__(self) -> None:
        self.job = job_pb2.Job(name=JOB, revision=1, etag="1", account="local", backend="machine")
        self.job.create_time.GetCurrentTime()
        self.job.options.shots = 4000
        self.program = b""
        self.result = b""
        self.backend = backend_pb2.Backend(
            name="accounts/local/backends/machine",
            backend_id="machine",
            account="local",
            num_qubits=3,
            max_shots=100_000,
            max_circuits=20,
            meas_levels=[1, 2],
            basis_gates=["h", "cx", "rz"],
            supported_instructions=["h", "cx", "rz", "measure", "reset", "delay", "if_else"],
            status=backend_pb2.BackendStatus(operational=True, status_message="active", pending_jobs=2),
        )
        self.calls: list[str] = []
        self.requests: dict[str, list[Any]] = {}
        self._behaviours: dict[str, Behaviour] = {}
        self._changed = threading.Condition()
        self._server = grpc.server(futures.ThreadPoolExecutor(16))
        for service in _SERVICES:
            handlers = {method.name: self._handler(method) for method in service.methods}
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._server.stop(None).wait()

    def on(self, method: str, behaviour: Behaviour) -> None:
        """Let a method do something else from now on."""
        self._behaviours[method] = behaviour

    def count(self, method: str) -> int:
        """Return how often a method was called."""
        return self.calls.count(method)

    def move(self, status: str | int | None = None, **fields: Any) -> None:
        """Change the job, and tell whoever watches it.

        Args:
            status: Name, or number of one that clients do not know.
            fields: Other fields of `Job`.
        """
        with self._changed:
            changed = job_pb2.Job()
            changed.CopyFrom(self.job)
            if status is not None:
                changed.status = job_pb2.JobStatus.Value(f"JOB_STATUS_{status}") if isinstance(status, str) else status
            for name, value in fields.items():
                changed.ClearField(name)
                changed.MergeFrom(job_pb2.Job(**{name: value}))
            changed.revision += 1
            changed.etag = str(changed.revision)
            self.job = changed
            self._changed.notify_all()

    def _handler(self, method: Any) -> Any:
        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            self.calls.append(method.name)
            self.requests.setdefault(method.name, []).append(request)
            behaviour = self._behaviours.get(method.name) or getattr(self, _attribute(method.name), _unimplemented)
            return behaviour(request, context)

        def answer_stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            yield from answer(request, context)

        def answer_upload(requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
            first = next(requests)
            context.send_initial_metadata((("qgateway-upload", "wanted"),))
            return answer([first, *requests], context)

        make, function = {
            (False, False): (grpc.unary_unary_rpc_method_handler, answer),
            (False, True): (grpc.unary_stream_rpc_method_handler, answer_stream),
            (True, False): (grpc.stream_unary_rpc_method_handler, answer_upload),
        }[method.client_streaming, method.server_streaming]
        request_class = message_factory.GetMessageClass(method.input_type)
        return make(
            function,
            request_deserializer=request_class.FromString,
            response_serializer=lambda reply: reply.SerializeToString(),
        )

    # What the methods do unless a test says otherwise.

    def _get_server_info(self, request: Any, context: Any) -> Any:
        info = server_service_pb2.ServerInfo(max_request_bytes=4_000_000, min_qpy_version=13, max_qpy_version=99)
        return server_service_pb2.GetServerInfoResponse(info=info)

    def _get_backend(self, request: Any, context: Any) -> Any:
        if not request.name.endswith("backends/machine"):
            refuse(context, "NOT_FOUND", f"There is no backend {request.name!r}.", reason="BACKEND_NOT_FOUND")
        return backend_service_pb2.GetBackendResponse(backend=self.backend)

    def _list_backends(self, request: Any, context: Any) -> Any:
        return backend_service_pb2.ListBackendsResponse(backends=[self.backend])

    def _submit_job(self, request: Any, context: Any) -> Any:
        self.program = request.program.SerializeToString()
        self.move(
            "QUEUED",
            options=request.options,
            tags=request.tags,
            display_name=request.display_name,
            client_version=dict(request.client_version),
            session=request.session,
            request_id=request.request_id,
        )
        return job_service_pb2.SubmitJobResponse(job=self.job)

    def _get_job(self, request: Any, context: Any) -> Any:
        return job_service_pb2.GetJobResponse(job=self.job)

    def _list_jobs(self, request: Any, context: Any) -> Any:
        return job_service_pb2.ListJobsResponse(jobs=[self.job])

    def _update_job(self, request: Any, context: Any) -> Any:
        if request.etag and request.etag != self.job.etag:
            refuse(context, "ABORTED", "The job changed.", reason="ETAG_MISMATCH")
        self.move(**{path: getattr(request.job, path) for path in request.update_mask.paths})
        return job_service_pb2.UpdateJobResponse(job=self.job)

    def _cancel_job(self, request: Any, context: Any) -> Any:
        if status_name(self.job) in FINAL:
            refuse(context, "FAILED_PRECONDITION", "The job has ended.", reason="JOB_FINAL")
        self.move("CANCELLED", failure=job_pb2.JobFailure(reason="CANCELLED_BY_CALLER", message="By a caller."))
        return job_service_pb2.CancelJobResponse(job=self.job)

    def _watch_job(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        context.add_callback(self._wake)
        seen = 0
        while context.is_active():
            job = self._newer_than(seen, context)
            seen = job.revision
            event = job_pb2.JobEvent(revision=seen, type=job_pb2.JobEvent.TYPE_STATUS_CHANGED, job=job)
            yield job_service_pb2.WatchJobResponse(event=event, resume_token=str(seen))
            if status_name(job) in FINAL:
                return

    def _newer_than(self, revision: int, context: grpc.ServicerContext) -> job_pb2.Job:
        with self._changed:
            self._changed.wait_for(lambda: self.job.revision > revision or not context.is_active())
            return self.job

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _get_job_metrics(self, request: Any, context: Any) -> Any:
        return job_service_pb2.GetJobMetricsResponse()

    def _get_job_backend_properties(self, request: Any, context: Any) -> Any:
        return job_service_pb2.GetJobBackendPropertiesResponse()

    def _get_job_result(self, request: Any, context: Any) -> Any:
        return job_service_pb2.GetJobResultResponse(result=result_pb2.JobResult.FromString(self.result))

    def _download_job_result(self, request: Any, context: Any) -> Iterator[Any]:
        yield _blob(job_service_pb2.DownloadJobResultResponse, self.result)

    def _download_job_program(self, request: Any, context: Any) -> Iterator[Any]:
        yield _blob(job_service_pb2.DownloadJobProgramResponse, self.program)


def status_name(job: job_pb2.Job) -> str:
    """Return the name of a job's status without its prefix, or the number of an unknown one."""
    known = job.status in job_pb2.JobStatus.values()
    return job_pb2.JobStatus.Name(job.status).removeprefix("JOB_STATUS_") if known else str(job.status)


def bell_result(shots: int = 4, *, success: bool = True) -> bytes:
    """Return the result of a Bell pair: half the shots 00, half 11."""
    bits = result_pb2.PackedBits(data=bytes([0, 3] * (shots // 2)))
    register = result_pb2.RegisterResult(register_name="meas", size=2, bits=bits)
    experiment = result_pb2.ExperimentResult(
        circuit_name="bell", shots=shots, success=success, status="DONE", registers=[register], num_clbits=2
    )
    result = result_pb2.JobResult(
        job=JOB, backend="machine", success=success, status="COMPLETED", experiments=[experiment]
    )
    return result.SerializeToString()


def text_program(*sources: str) -> bytes:
    """Return a program of OpenQASM texts."""
    circuits = [program_pb2.OpenQasmCircuit(source=source) for source in sources]
    return program_pb2.Program(openqasm=program_pb2.OpenQasmProgram(circuits=circuits)).SerializeToString()


def _attribute(method: str) -> str:
    """Return the name of what a method does by default: `_get_job` for `GetJob`."""
    return "_" + re.sub("(?<!^)(?=[A-Z])", "_", method).lower()


def _blob(response: Any, data: bytes) -> Any:
    return response(data=data, total_size_bytes=len(data), sha256=hashlib.sha256(data).digest())


def _unimplemented(_: Any, context: grpc.ServicerContext) -> NoReturn:
    refuse(context, "UNIMPLEMENTED", "This server does not have this call yet.", reason="RPC_NOT_IMPLEMENTED")
