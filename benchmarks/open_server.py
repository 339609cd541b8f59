"""The gateway with everything off that asks who calls and what they may do: `python -m benchmarks.open_server`.

It exists to be measured against. The product has no such switch: its interceptor is exchanged for one that takes everybody for
the same operator, and neither counts calls, nor sets deadlines, nor records anything.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import uvloop

from gateway import server
from gateway.config import load_settings
from gateway.domain.access import Caller, Role
from gateway.logs import configure_logs
from gateway.rpc import interceptor

_EVERYBODY = Caller("everybody", "dev", Role.OPERATOR)


class OpenInterceptor(grpc.aio.ServerInterceptor):
    """Lets every call pass."""

    def __init__(self, *_: object) -> None:
        self._handlers: dict[str, Any] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the handler of an RPC, with a caller."""
        method = handler_call_details.method
        if method not in self._handlers:
            self._handlers[method] = _with_caller(await continuation(handler_call_details))
        return self._handlers[method]


def _with_caller(handler: Any) -> Any:
    behaviour = handler.unary_unary or handler.unary_stream

    async def answer(request: object, context: object) -> object:
        interceptor._caller.set(_EVERYBODY)  # noqa: SLF001 - nobody else may name a caller
        return await behaviour(request, context)

    def serialise(response: Any) -> bytes:  # some servicers do that themselves
        return response if type(response) is bytes else handler.response_serializer(response)

    kind = grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler
    return kind(answer, handler.request_deserializer, serialise)


def main() -> None:
    """Run until SIGTERM; print where it listens, as `gateway serve --dev` does."""
    server.CallInterceptor = OpenInterceptor  # type: ignore[misc,assignment]
    key = {"name": "unused", "sha256": "0" * 64}
    settings = load_settings(None, server={"listen": "127.0.0.1:0"}, access={"api_keys": [key]})
    configure_logs(settings.log)

    def on_ready(port: int) -> None:
        sys.stdout.write(f"QGATEWAY_TARGET=127.0.0.1:{port}\nQGATEWAY_API_KEY=unused\n")
        sys.stdout.flush()

    uvloop.install()
    asyncio.run(server.serve(settings, on_ready))


if __name__ == "__main__":
    main()
