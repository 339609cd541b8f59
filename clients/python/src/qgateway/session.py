"""Sessions: periods in which a backend runs the jobs of one caller together."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from qgateway._session_record import SessionRecord
from qgateway._translate import service_call, translated
from qgateway.v1 import session_pb2, session_service_pb2

if TYPE_CHECKING:
    from qgateway.backend import GatewayBackend


class Session(SessionRecord):
    """A session of a backend. Made by `GatewayBackend.open_session`.

    As a context manager it closes itself on exit: jobs that were submitted run, further ones are not taken. A backend whose
    session was ended by `close` or `cancel` of this handle refuses to run until it has another one, or none; leaving the
    `with` block, and `GatewayBackend.close_session` and `.cancel_session`, leave it with none.

        with backend.open_session(max_time="1h") as session:
            job = backend.run(circuit)

    Args:
        backend: The backend that the session holds.
        record: The session as the gateway sent it.
    """

    def __init__(self, backend: GatewayBackend, record: session_pb2.Session) -> None:
        super().__init__(backend.name, record)
        self._backend = backend

    def close(self) -> None:
        """Take no further jobs; those already submitted run. Closing twice does nothing.

        Raises:
            IBMApiError: The gateway did not answer, or refused.
        """
        if not self._active:
            return
        connection = self._backend.connection
        request = session_service_pb2.CloseSessionRequest(name=self._record.name)
        with translated(service_call(f"Failed to close session {self.session_id}")):
            connection.call(connection.sessions.CloseSession, request)
        self._active = False

    def cancel(self) -> None:
        """End the session at once: its waiting jobs are cancelled. Cancelling one that has ended does nothing.

        Raises:
            IBMApiError: The gateway did not answer, or refused.
        """
        if not self._active:
            return
        connection = self._backend.connection
        request = session_service_pb2.CancelSessionRequest(name=self._record.name)
        with translated(service_call(f"Failed to cancel session {self.session_id}")):
            connection.call(connection.sessions.CancelSession, request)
        self._active = False

    def __enter__(self) -> Self:
        """Return the session."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the session; jobs that the backend runs after that are in none."""
        if self._backend.session is self:
            self._backend.close_session()
        else:
            self.close()
