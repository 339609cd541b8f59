"""The connection to a gateway: one gRPC channel, made when it is first needed."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import grpc
import grpc.experimental

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
from qgateway._resume import Watchdog
from qgateway._settings import ApiKey, ConnectionSettings, SettingsError
from qgateway.v1 import (
    account_service_pb2_grpc,
    admin_service_pb2_grpc,
    backend_service_pb2_grpc,
    job_service_pb2_grpc,
    server_service_pb2,
    server_service_pb2_grpc,
    session_service_pb2_grpc,
)

if TYPE_CHECKING:
    from grpc import UnaryStreamMultiCallable, UnaryUnaryMultiCallable

__all__ = ["ApiKey", "Connection", "ConnectionSettings", "GatewayCallError", "SettingsError"]

Request = TypeVar("Request")
Response = TypeVar("Response")

_LONGEST_CALL = 600.0
"""Seconds after which no call that matters is left on a connection that fell silent."""
_LONGEST_LOOK = 1.0
"""Seconds that the state of a connection is waited for."""


class _Channel:
    """A gRPC channel with the stubs on it."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self.process = os.getpid()
        self._mark = certificate_mark(settings)
        credentials = channel_credentials(settings)
        # An option of grpc that its authors call experimental; without it all works the same, only later. A stream is read by
        # the thread that asks for it: without a thread between them, each message comes sooner.
        options = [*channel_options(settings), (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1)]
        if credentials is None:
            self.channel = grpc.insecure_channel(settings.target, options)
        else:
            self.channel = grpc.secure_channel(settings.target, credentials, options)
        self.jobs = job_service_pb2_grpc.JobServiceStub(self.channel)
        self.backends = backend_service_pb2_grpc.BackendServiceStub(self.channel)
        self.sessions = session_service_pb2_grpc.SessionServiceStub(self.channel)
        self.accounts = account_service_pb2_grpc.AccountServiceStub(self.channel)
        self.admin = admin_service_pb2_grpc.AdminServiceStub(self.channel)
        self.server = server_service_pb2_grpc.ServerServiceStub(self.channel)

    def state(self) -> grpc.ChannelConnectivity | None:
        """Return the state of the connection; None if it is not told at once. A thread tells it: for errors only."""
        told: queue.SimpleQueue[grpc.ChannelConnectivity] = queue.SimpleQueue()
        tell = told.put
        self.channel.subscribe(tell)
        try:
            return told.get(timeout=_LONGEST_LOOK)
        except queue.Empty:
            return None
        finally:
            self.channel.unsubscribe(tell)

    def is_outdated(self, settings: ConnectionSettings) -> bool:
        """Return whether there is a newer client certificate than the one that the channel shows."""
        return (mark := certificate_mark(settings)) is not None and mark != self._mark


class Connection:
    """A connection to a gateway, for any number of threads.

    Nothing is connected before the first call. A connection can be pickled and copied: what travels is its settings,
    without the API key (see `ApiKey`). After a fork the child makes a channel of its own.

    Take a stub anew for each call, as in `connection.call(connection.jobs.GetJob, request)`: a stub that was kept
    belongs to the process that took it.

    Args:
        settings: Where the gateway is and how to get in.
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        self.settings = settings
        # By process id. A child keeps the entry of its parent and leaves it alone: destroying it could end the parent's
        # calls.
        self._channels: dict[int, _Channel] = {}
        self._silent: dict[_Channel, Watchdog] = {}
        self._server_info: server_service_pb2.ServerInfo | None = None
        self._closed = False

    @property
    def jobs(self) -> job_service_pb2_grpc.JobServiceStub:
        """Stub of `JobService`."""
        return self._opened().jobs

    @property
    def backends(self) -> backend_service_pb2_grpc.BackendServiceStub:
        """Stub of `BackendService`."""
        return self._opened().backends

    @property
    def sessions(self) -> session_service_pb2_grpc.SessionServiceStub:
        """Stub of `SessionService`."""
        return self._opened().sessions

    @property
    def accounts(self) -> account_service_pb2_grpc.AccountServiceStub:
        """Stub of `AccountService`."""
        return self._opened().accounts

    @property
    def admin(self) -> admin_service_pb2_grpc.AdminServiceStub:
        """Stub of `AdminService`."""
        return self._opened().admin

    @property
    def server(self) -> server_service_pb2_grpc.ServerServiceStub:
        """Stub of `ServerService`."""
        return self._opened().server

    def call(
        self,
        method: UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float | None = None,
        job_id: str | None = None,
    ) -> Response:
        """Make a unary call.

        Calls that may be repeated are, for a few seconds, while the gateway is UNAVAILABLE. A request that has a
        `request_id` and no value in it is given one, so that repeating the call with the same object is safe too.

        Args:
            method: Method of one of the stubs.
            request: Its request message.
            timeout: Deadline in seconds, repeats included. Default: the settings' `timeout`; for `SubmitJob` 90 s more,
                because the server reads the program before it answers.
            job_id: Job that the call is about, for the error.

        Raises:
            GatewayCallError: The call did not succeed.
        """
        stamp_request_id(request)
        deadline = default_deadline(self.settings, request) if timeout is None else timeout
        try:
            return method(request, timeout=deadline, metadata=call_metadata(self.settings))
        except grpc.RpcError as error:
            raise self.error(error, job_id) from None

    def call_with_stream(self, method: Any, requests: Iterable[Any], timeout: float) -> Any:
        """Make a call that sends a stream of requests and gets one response.

        Args:
            method: Method of one of the stubs.
            requests: Its request messages.
            timeout: Deadline in seconds.

        Raises:
            GatewayCallError: The call did not succeed.
        """
        try:
            return method(iter(requests), timeout=timeout, metadata=call_metadata(self.settings))
        except grpc.RpcError as error:
            raise self.error(error) from None

    def open_stream(self, method: UnaryStreamMultiCallable[Request, Response], request: Request) -> Any:
        """Start a call that is answered with a stream; return the call: an iterator with `cancel()`.

        It has no deadline; whoever reads it ends it. Reading raises `grpc.RpcError`; `error()` translates.

        Args:
            method: Method of one of the stubs.
            request: Its request message.
        """
        return method(request, metadata=call_metadata(self.settings))

    def renew(self, jobs: job_service_pb2_grpc.JobServiceStub) -> None:
        """Make the calls to come use a new connection, because one fell silent without being closed, or is to be replaced.

        gRPC would go on to use it for minutes. The calls under way stay on it, because it may be alive after all.

        Args:
            jobs: The stub whose connection fell silent. Nothing happens if it is not in use any more.
        """
        current = self._channels.get(os.getpid())
        # Of several threads that notice at once, one takes the channel out.
        if current is None or current.jobs is not jobs or not (silent := self._channels.pop(os.getpid(), None)):
            return
        end = Watchdog(lambda: self._end_silent(silent))
        self._silent[silent] = end
        end.arm(time.monotonic() + _LONGEST_CALL)

    def _end_silent(self, channel: _Channel) -> None:
        if self._silent.pop(channel, None) and channel.process == os.getpid():
            channel.channel.close()

    def error(self, error: grpc.RpcError, job_id: str | None = None) -> GatewayCallError:
        """Return the `GatewayCallError` for an error that grpc raised."""
        return GatewayCallError.from_rpc_error(
            cast("RpcFailure", error), job_id=job_id, target=self.settings.target, is_away=self._is_away
        )

    def server_info(self) -> server_service_pb2.ServerInfo:
        """Return what the server is and what its limits are. Read once per connection.

        Raises:
            GatewayCallError: The server did not answer.
        """
        if self._server_info is None:
            request = server_service_pb2.GetServerInfoRequest()
            self._server_info = self.call(self.server.GetServerInfo, request).info
        return self._server_info

    def close(self) -> None:
        """End the connection and the calls under way on it. It cannot be used afterwards."""
        self._closed = True
        if opened := self._channels.pop(os.getpid(), None):
            opened.channel.close()
        for channel in tuple(self._silent):
            self._end_silent(channel)

    def _is_away(self) -> bool:
        """Return whether no connection can be made, as far as is known."""
        opened = self._channels.get(os.getpid())
        return opened is not None and opened.state() in NOT_CONNECTED

    def _opened(self) -> _Channel:
        if self._closed:
            raise RuntimeError("The connection is closed. Make a new one.")
        process = os.getpid()
        if (opened := self._channels.get(process)) is not None and opened.is_outdated(self.settings):
            self.renew(opened.jobs)
        # Two threads may both make one; the second is dropped before it has connected.
        return self._channels.get(process) or self._channels.setdefault(process, _Channel(self.settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Connection({self.settings.target!r})>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.settings,)
