"""The connection to a gateway for asyncio: the twin of `qgateway._connection`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from typing import Any, Self, TypeVar, cast

import grpc.aio

from qgateway._channel import (
    NOT_CONNECTED,
    call_metadata,
    certificate_mark,
    channel_credentials,
    channel_options,
    default_deadline,
    stamp_request_id,
)
from qgateway._errors import GatewayCallError, RpcFailure
from qgateway._settings import ConnectionSettings
from qgateway.v1 import (
    account_service_pb2_grpc,
    admin_service_pb2_grpc,
    backend_service_pb2_grpc,
    job_service_pb2_grpc,
    server_service_pb2,
    server_service_pb2_grpc,
    session_service_pb2_grpc,
)

Request = TypeVar("Request")
Response = TypeVar("Response")


_WANTED = "qgateway-upload"
"""Name of the initial metadata by which a server asks for all requests of a stream."""
_LONGEST_DOUBT = 5.0
"""Seconds after which the requests are sent all the same: a gateway before this rule says nothing."""


class _Channel:
    """A gRPC channel of one event loop, with the stubs on it."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self.process = os.getpid()
        self.loop = asyncio.get_running_loop()
        self._mark = certificate_mark(settings)
        credentials = channel_credentials(settings)
        options = channel_options(settings)
        if credentials is None:
            self.channel = grpc.aio.insecure_channel(settings.target, options)
        else:
            self.channel = grpc.aio.secure_channel(settings.target, credentials, options)
        self.jobs = job_service_pb2_grpc.JobServiceStub(self.channel)
        self.backends = backend_service_pb2_grpc.BackendServiceStub(self.channel)
        self.sessions = session_service_pb2_grpc.SessionServiceStub(self.channel)
        self.accounts = account_service_pb2_grpc.AccountServiceStub(self.channel)
        self.admin = admin_service_pb2_grpc.AdminServiceStub(self.channel)
        self.server = server_service_pb2_grpc.ServerServiceStub(self.channel)

    def usable(self) -> bool:
        """True in the process and the event loop that made the channel."""
        return self.process == os.getpid() and self.loop is asyncio.get_running_loop()

    def is_outdated(self, settings: ConnectionSettings) -> bool:
        """Return whether there is a newer client certificate than the one that the channel shows."""
        return (mark := certificate_mark(settings)) is not None and mark != self._mark


class AioConnection:
    """A connection to a gateway, for one event loop.

    Nothing is connected before the first call. A connection can be pickled and copied: what travels is its settings,
    without the API key (see `ApiKey`).

    Args:
        settings: Where the gateway is and how to get in.
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        self.settings = settings
        # The last is in use; those before belong to another process or loop and are left alone.
        self._channels: list[_Channel] = []
        self._server_info: server_service_pb2.ServerInfo | None = None
        self._closed = False

    @property
    def jobs(self) -> job_service_pb2_grpc.JobServiceAsyncStub:
        """Stub of `JobService`."""
        return self._opened().jobs

    @property
    def backends(self) -> backend_service_pb2_grpc.BackendServiceAsyncStub:
        """Stub of `BackendService`."""
        return self._opened().backends

    @property
    def sessions(self) -> session_service_pb2_grpc.SessionServiceAsyncStub:
        """Stub of `SessionService`."""
        return self._opened().sessions

    @property
    def accounts(self) -> account_service_pb2_grpc.AccountServiceAsyncStub:
        """Stub of `AccountService`."""
        return self._opened().accounts

    @property
    def admin(self) -> admin_service_pb2_grpc.AdminServiceAsyncStub:
        """Stub of `AdminService`."""
        return self._opened().admin

    @property
    def server(self) -> server_service_pb2_grpc.ServerServiceAsyncStub:
        """Stub of `ServerService`."""
        return self._opened().server

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float | None = None,  # noqa: ASYNC109 - becomes the deadline of the call
        job_id: str | None = None,
    ) -> Response:
        """Make a unary call; arguments, repeats and errors are those of `Connection.call`."""
        stamp_request_id(request)
        deadline = default_deadline(self.settings, request) if timeout is None else timeout
        try:
            return await method(request, timeout=deadline, metadata=call_metadata(self.settings))
        except grpc.RpcError as error:
            raise self.error(error, job_id) from None

    async def call_with_stream(self, method: Any, requests: Iterable[Any], timeout: float) -> Any:  # noqa: ASYNC109
        """Make a call that sends a stream of requests; see `Connection.call_with_stream`.

        After the first one, the server says in its initial metadata that it wants the others, or answers. grpc.aio would lose an
        answer that comes while it sends.
        """

        async def paced() -> AsyncIterator[Any]:
            rest = iter(requests)
            yield next(rest)
            if not await _is_more_wanted(call):
                await call.code()
                return
            for request in rest:
                yield request

        call = method(paced(), timeout=timeout, metadata=call_metadata(self.settings))
        try:
            return await call
        except grpc.RpcError as error:
            raise self.error(error) from None

    def open_stream(self, method: grpc.aio.UnaryStreamMultiCallable[Request, Response], request: Request) -> Any:
        """Start a call that is answered with a stream; return the call, with `read()` and `cancel()`."""
        return method(request, metadata=call_metadata(self.settings))

    def renew(self, jobs: job_service_pb2_grpc.JobServiceAsyncStub) -> None:
        """Make the calls to come use a new connection; see `Connection.renew`.

        The silent one ends with the last of the calls that are under way on it.
        """
        if self._channels and self._channels[-1].jobs is jobs:
            self._channels.pop()

    def error(self, error: grpc.RpcError, job_id: str | None = None) -> GatewayCallError:
        """Return the `GatewayCallError` for an error that grpc raised."""
        return GatewayCallError.from_rpc_error(
            cast("RpcFailure", error), job_id=job_id, target=self.settings.target, is_away=self._is_away
        )

    async def server_info(self) -> server_service_pb2.ServerInfo:
        """Return what the server is and what its limits are. Read once per connection.

        Raises:
            GatewayCallError: The server did not answer.
        """
        if self._server_info is None:
            request = server_service_pb2.GetServerInfoRequest()
            self._server_info = (await self.call(self.server.GetServerInfo, request)).info
        return self._server_info

    async def close(self) -> None:
        """End the connection and the calls under way on it. It cannot be used afterwards."""
        self._closed = True
        if self._channels and self._channels[-1].usable():
            await self._channels.pop().channel.close()

    def _is_away(self) -> bool:
        """Return whether no connection can be made, as far as is known."""
        opened = self._channels[-1] if self._channels else None
        return opened is not None and opened.usable() and opened.channel.get_state() in NOT_CONNECTED

    def _opened(self) -> _Channel:
        if self._closed:
            raise RuntimeError("The connection is closed. Make a new one.")
        if self._channels and self._channels[-1].is_outdated(self.settings):
            self._channels.pop()  # it ends with the last of its calls
        if not self._channels or not self._channels[-1].usable():
            self._channels.append(_Channel(self.settings))
        return self._channels[-1]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AioConnection({self.settings.target!r})>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.settings,)


async def _is_more_wanted(call: Any) -> bool:
    """Return whether a server wants the rest of the requests of a stream; if not, it has answered."""
    try:
        async with asyncio.timeout(_LONGEST_DOUBT):
            metadata = await call.initial_metadata()
    except TimeoutError:
        return not call.done()
    return _WANTED in metadata
