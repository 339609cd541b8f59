"""A real gRPC server that answers as it is told, and breaks on demand."""

from __future__ import annotations

import hashlib
import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
from qgateway.v1 import (
    backend_service_pb2,
    job_pb2,
    job_service_pb2,
    server_service_pb2,
)

from tests.support.refusals import Behaviour, refuse

JOB = "jobs/abc"
SERVICES = (
    job_service_pb2.DESCRIPTOR.services_by_name["JobService"],
    backend_service_pb2.DESCRIPTOR.services_by_name["BackendService"],
    server_service_pb2.DESCRIPTOR.services_by_name["ServerService"],
)


class FakeGateway:
    """A gRPC server on a loopback port. Set what a method does with `on`; read what it was asked in `requests`.

    `on` takes a function of request and context, or a list of them: one for each call, the last for all further calls.
    """

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self._credentials = credentials or grpc.insecure_server_credentials()
        self.requests: defaultdict[str, list[Any]] = defaultdict(list)
        self.metadata: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
        self._behaviours: dict[str, list[Behaviour]] = {}
        self.port = 0
        self.start()

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def on(self, method: str, behaviour: Behaviour | list[Behaviour]) -> None:
        self._behaviours[method] = behaviour if isinstance(behaviour, list) else [behaviour]

    def start(self) -> None:
        """Start, on the same port as before if there was one."""
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        for service in SERVICES:
            handlers = {method.name: self._handler(method) for method in service.methods}
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
        self.port = self._server.add_secure_port(f"127.0.0.1:{self.port}", self._credentials)
        self._server.start()

    def stop(self) -> None:
        """End at once, cutting every stream."""
        self._server.stop(None).wait()

    def _handler(self, method: Any) -> Any:
        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            self.requests[method.name].append(request)
            self.metadata[method.name].append({key: str(value) for key, value in context.invocation_metadata()})
            behaviours = self._behaviours[method.name]
            return (behaviours.pop(0) if len(behaviours) > 1 else behaviours[0])(request, context)

        def answer_stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            yield from answer(request, context)

        def answer_upload(requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
            first = next(requests)
            context.send_initial_metadata((("qgateway-upload", "wanted"),))
            return answer([first, *requests], context)

        kinds = {
            (False, False): (grpc.unary_unary_rpc_method_handler, answer),
            (False, True): (grpc.unary_stream_rpc_method_handler, answer_stream),
            (True, False): (grpc.stream_unary_rpc_method_handler, answer_upload),
        }
        make, function = kinds[method.client_streaming, method.server_streaming]
        # The generated classes are found by their name in the module of the service's file.
        return make(function, request_deserializer=_message(method.input_type).FromString, response_serializer=_encode)


def _message(descriptor: Any) -> Any:
    modules = (job_service_pb2, backend_service_pb2, server_service_pb2)
    return next(getattr(module, descriptor.name) for module in modules if hasattr(module, descriptor.name))


def _encode(message: Any) -> bytes:
    encoded: bytes = message.SerializeToString()
    return encoded


def hang(context: grpc.ServicerContext) -> None:
    """Say nothing until the call is over."""
    over = threading.Event()
    if context.add_callback(over.set):
        over.wait(30)


def event(
    revision: int, status: str, kind: str = "STATUS_CHANGED", message: str = ""
) -> job_service_pb2.WatchJobResponse:
    """Make an event of the watched job; its token is its revision."""
    job = job_pb2.Job(name=JOB, status=job_pb2.JobStatus.Value(f"JOB_STATUS_{status}"), revision=revision)
    change = job_pb2.JobEvent(
        revision=revision, type=job_pb2.JobEvent.Type.Value(f"TYPE_{kind}"), job=job, message=message
    )
    return job_service_pb2.WatchJobResponse(event=change, resume_token=str(revision))


def heartbeat(token: str, interval: float, position: int | None = None) -> job_service_pb2.WatchJobResponse:
    """Make a sign of life."""
    beat = job_service_pb2.WatchHeartbeat()
    beat.interval.FromMilliseconds(int(interval * 1000))
    if position is not None:
        beat.queue.position = position
    return job_service_pb2.WatchJobResponse(heartbeat=beat, resume_token=token)


def stream(*steps: Any) -> Behaviour:
    """Return a behaviour that sends messages; a step that is a function is called with the context instead."""

    def behave(_request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        for step in steps:
            if callable(step):
                step(context)
            else:
                yield step

    return behave


def blob(data: bytes, *, chunk: int = 1000, cut_after: int | None = None, sha256: bytes | None = None) -> Behaviour:
    """Return a behaviour that streams a blob from the offset asked for, and breaks after some chunks."""

    def behave(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        first = {"total_size_bytes": len(data), "sha256": sha256 or hashlib.sha256(data).digest()}
        for sent, start in enumerate(range(request.offset, max(len(data), 1), chunk)):
            if sent == cut_after:
                refuse(context, "UNAVAILABLE", "cut")
            yield job_service_pb2.DownloadJobResultResponse(data=data[start : start + chunk], **first)
            first = {}

    return behave
