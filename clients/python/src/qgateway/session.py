"""Sessions: periods in which a backend runs the jobs of one caller together."""

from __future__ import annotations

import math
import re
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from qgateway._requests import resource_id
from qgateway._times import optional_seconds, optional_time, to_duration
from qgateway._translate import service_call, translated
from qgateway.exceptions import IBMInputValueError
from qgateway.v1 import job_pb2, session_pb2, session_service_pb2

if TYPE_CHECKING:
    from qgateway.backend import GatewayBackend

SessionMode = Literal["session", "batch"]
"""`session` holds the backend between jobs; `batch` runs jobs together without holding it."""

_MODES = {"session": job_pb2.SCHEDULING_MODE_SESSION, "batch": job_pb2.SCHEDULING_MODE_BATCH}
_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([dhms])\s*", re.IGNORECASE)


class Session:
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
        self._backend = backend
        self._record = record
        self._active = True

    @property
    def session_id(self) -> str:
        """Id of the session."""
        return resource_id(self._record.name)

    @property
    def active(self) -> bool:
        """Whether this handle takes further jobs."""
        return self._active

    @property
    def mode(self) -> str:
        """`session` or `batch`."""
        return next((mode for mode, number in _MODES.items() if number == self._record.mode), "session")

    @property
    def max_time(self) -> float | None:
        """Longest time that the session may last, in seconds; None for the provider's own limit."""
        return optional_seconds(self._record, "max_time")

    @property
    def creation_date(self) -> datetime | None:
        """When the session was made: aware, local zone."""
        return optional_time(self._record, "create_time")

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

    def __repr__(self) -> str:
        """Return id and backend."""
        return f"<Session('{self.session_id}', backend='{self._backend.name}', active={self._active})>"


def session_request(
    backend: str, account: str, max_time: int | str | None, mode: SessionMode
) -> session_service_pb2.CreateSessionRequest:
    """Return the request that opens a session.

    Args:
        backend: Name of the backend.
        account: Account that offers it.
        max_time: As in `GatewayBackend.open_session`.
        mode: `session` or `batch`.

    Raises:
        IBMInputValueError: The time or the mode cannot be read.
    """
    if mode not in _MODES:
        raise IBMInputValueError(f"mode: {mode!r} is neither 'session' nor 'batch'.")
    request = session_service_pb2.CreateSessionRequest(account=account)
    request.session.backend = backend
    request.session.mode = _MODES[mode]
    if max_time is not None:
        request.session.max_time.CopyFrom(to_duration(parse_max_time(max_time)))
    return request


def parse_max_time(value: float | str) -> float:
    """Return a length of time in seconds.

    Args:
        value: A number of seconds, or a sum of days, hours, minutes and seconds such as `2d`, `25h`, `1h 90m`.

    Raises:
        IBMInputValueError: The text has no unit or another form, or the time is not positive.
    """
    if isinstance(value, str):
        parts = list(_PART.finditer(value))
        if "".join(match.group(0) for match in parts) != value or not parts:
            raise IBMInputValueError(f"max_time: {value!r} is not a sum of d, h, m and s, such as '1h 30m'.")
        length = sum(float(match.group(1)) * _UNITS[match.group(2).lower()] for match in parts)
    else:
        length = float(value)
    if not 0 < length < math.inf:
        raise IBMInputValueError(f"max_time: {value!r} is not a positive time.")
    return length
