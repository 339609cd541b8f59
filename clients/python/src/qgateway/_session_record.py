"""What a session knows without asking, and the request that opens one."""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Literal

from qgateway._requests import resource_id, session_name
from qgateway._times import optional_seconds, optional_time, to_duration
from qgateway.exceptions import IBMInputValueError
from qgateway.v1 import job_pb2, session_pb2, session_service_pb2

SessionMode = Literal["session", "batch"]
"""`session` holds the backend between jobs; `batch` runs jobs together without holding it."""

_MODES = {"session": job_pb2.SCHEDULING_MODE_SESSION, "batch": job_pb2.SCHEDULING_MODE_BATCH}
_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([dhms])\s*", re.IGNORECASE)


class SessionRecord:
    """The part of a session's handle that does no I/O; the handles for threads and for asyncio build on it.

    Args:
        backend_name: Name of the backend that the session holds.
        record: The session as the gateway sent it.
    """

    def __init__(self, backend_name: str, record: session_pb2.Session) -> None:
        self._backend_name = backend_name
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

    def __repr__(self) -> str:
        """Return id and backend."""
        return f"<Session('{self.session_id}', backend='{self._backend_name}', active={self._active})>"


def name_of_active(session: SessionRecord | None) -> str:
    """Return the resource name of the session in which a job is to run; empty if it is in none.

    Raises:
        RuntimeError: The session was closed.
    """
    if session is None:
        return ""
    if not session.active:
        raise RuntimeError(f"The session {session.session_id} is closed. Open another one.")
    return session_name(session.session_id)


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
