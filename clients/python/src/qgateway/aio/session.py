"""Sessions for asyncio: the twin of `qgateway.session`."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from qgateway._session_record import SessionRecord
from qgateway._translate import service_call, translated
from qgateway.v1 import session_pb2, session_service_pb2

if TYPE_CHECKING:
    from qgateway.aio.backend import GatewayBackend


class Session(SessionRecord):
    """A session of a backend. Made by `GatewayBackend.open_session`; an asynchronous context manager.

        async with await backend.open_session(max_time="1h") as session:
            job = await backend.run(circuit)

    See `qgateway.Session`.

    Args:
        backend: The backend that the session holds.
        record: The session as the gateway sent it.
    """

    def __init__(self, backend: GatewayBackend, record: session_pb2.Session) -> None:
        super().__init__(backend.name, record)
        self._backend = backend

    async def close(self) -> None:
        """Take no further jobs; those already submitted run. Closing twice does nothing.

        Raises:
            IBMApiError: The gateway did not answer, or refused.
        """
        if not self._active:
            return
        connection = self._backend.connection
        request = session_service_pb2.CloseSessionRequest(name=self._record.name)
        with translated(service_call(f"Failed to close session {self.session_id}")):
            await connection.call(connection.sessions.CloseSession, request)
        self._active = False

    async def cancel(self) -> None:
        """End the session at once: its waiting jobs are cancelled. Cancelling one that has ended does nothing.

        Raises:
            IBMApiError: The gateway did not answer, or refused.
        """
        if not self._active:
            return
        connection = self._backend.connection
        request = session_service_pb2.CancelSessionRequest(name=self._record.name)
        with translated(service_call(f"Failed to cancel session {self.session_id}")):
            await connection.call(connection.sessions.CancelSession, request)
        self._active = False

    async def __aenter__(self) -> Self:
        """Return the session."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the session; jobs that the backend runs after that are in none."""
        if self._backend.session is self:
            await self._backend.close_session()
        else:
            await self.close()
