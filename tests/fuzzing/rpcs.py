"""Random requests to every RPC of a running server: each is answered, and never with a status that means a bug."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2

from gateway.rpc.method_rules import methods, path_of
from tests.fuzzing.messages import Names, Requests
from tests.fuzzing.tally import Tally

_IN_FLIGHT = 32
_DEADLINE = 60.0
_WATCH_SECONDS = 0.3
_BUGS = frozenset(
    (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DATA_LOSS)
)
"""No request may be answered with one of these while nothing around the server is broken."""
_RARE = {
    "SubmitJob": 0.35,
    "CreateSession": 0.3,
    "UploadProgram": 0.3,
    "WatchJob": 0.2,
    "WatchJobs": 0.15,
    "Watch": 0.1,
    "CreateApiKey": 0.2,
    "DeleteJob": 0.1,
    "GetUsage": 0.3,
}
"""Calls that cost the server something, or wait: they are made less often than others."""


class RpcFuzzer:
    """Calls a server.

    Args:
        target: Its address.
        api_key: Key of an operator, who may make every call.
        seed: The same seed makes the same requests, but for the names that the server draws.
        blobs: QPY files and the like.
    """

    def __init__(self, target: str, api_key: str, seed: int, blobs: tuple[bytes, ...]) -> None:
        self.tally = Tally("rpc")
        self._target = target
        self._metadata = (("authorization", f"Bearer {api_key}"),)
        self._random = Random(f"rpc-{seed}")
        self._names = Names()
        self._requests = Requests(self._random, self._names, blobs)
        self._methods = [*methods(), *health_pb2.DESCRIPTOR.services_by_name["Health"].methods]
        self._weights = [_RARE.get(method.name, 1.0) for method in self._methods]

    async def run(self, inputs: int) -> None:
        """Make calls, many at a time."""
        async with grpc.aio.insecure_channel(self._target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            # Every method once, so that none depends on chance.
            todo = iter([*self._methods, *self._random.choices(self._methods, self._weights, k=inputs)][:inputs])
            await asyncio.gather(*(self._work(channel, todo) for _ in range(_IN_FLIGHT)))

    async def _work(self, channel: grpc.aio.Channel, todo: Any) -> None:
        for method in todo:
            request = self._requests.wire(method.input_type, _kind(method))
            try:
                response = await self._call(channel, method, request)
                outcome = "OK"
            except grpc.aio.AioRpcError as error:
                response, outcome = None, error.code().name
                if error.code() in _BUGS or (error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and not _waits(method)):
                    self.tally.blame(f"{method.name} -> {outcome} {error.details()}: {request.hex()}")
            self.tally.counts[f"{method.name} {outcome}"] += 1
            if response is not None:
                self._names.learn(response)

    async def _call(self, channel: grpc.aio.Channel, method: MethodDescriptor, request: bytes) -> Message | None:
        path, decode = path_of(method), GetMessageClass(method.output_type).FromString
        deadline = _WATCH_SECONDS if _waits(method) else _DEADLINE
        if method.client_streaming:
            parts = [request, *(self._requests.wire(method.input_type) for _ in range(self._random.randrange(4)))]
            call = channel.stream_unary(path, None, decode)
            return await call(iter(parts), metadata=self._metadata, timeout=deadline)  # type: ignore[no-any-return]
        if method.server_streaming:
            last = None
            stream = channel.unary_stream(path, None, decode)(request, metadata=self._metadata, timeout=deadline)
            async for last in stream:  # noqa: B007 - the last one is kept
                pass
            return last
        return await channel.unary_unary(path, None, decode)(request, metadata=self._metadata, timeout=deadline)  # type: ignore[no-any-return]


def _kind(method: MethodDescriptor) -> str:
    """Return the collection of the things that a method is about."""
    if method.containing_service.name == "AdminService":
        return "apiKeys"
    return f"{method.containing_service.name.removesuffix('Service').lower()}s"


def _waits(method: MethodDescriptor) -> bool:
    return method.name in ("Watch", "WatchJob", "WatchJobs")
