"""The server as the listener makes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from qgateway.v1 import server_service_pb2 as messages
from qgateway.v1 import server_service_pb2_grpc

from gateway.rpc.listener import new_server

CALLS = 200


class Info(server_service_pb2_grpc.ServerServiceServicer):
    async def GetServerInfo(  # noqa: N802 - a name of the contract
        self, request: messages.GetServerInfoRequest, context: Any
    ) -> messages.GetServerInfoResponse:
        return messages.GetServerInfoResponse(info=messages.ServerInfo(version="1"))


class Counting(grpc.aio.ServerInterceptor):
    """Counts how often it is asked, and the calls that go by it."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.calls = 0

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        self.asked[details.method] += 1
        handler = await continuation(details)

        async def counted(request: Any, context: Any) -> Any:
            self.calls += 1
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(counted, handler.request_deserializer, handler.response_serializer)


async def test_interceptors_are_asked_once_for_each_method_and_see_every_call() -> None:
    interceptors = Counting(), Counting()
    server = new_server((), interceptors)
    server_service_pb2_grpc.add_ServerServiceServicer_to_server(Info(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub: Any = server_service_pb2_grpc.ServerServiceStub(channel)
            for _ in range(CALLS):
                answer = await stub.GetServerInfo(messages.GetServerInfoRequest(), timeout=20)
                assert answer.info.version == "1"
    finally:
        await server.stop(None)
    methods = [method.name for method in messages.DESCRIPTOR.services_by_name["ServerService"].methods]
    once = {f"/qgateway.v1.ServerService/{name}": 1 for name in methods}
    assert [interceptor.asked for interceptor in interceptors] == [once, once]
    assert [interceptor.calls for interceptor in interceptors] == [CALLS, CALLS]
