"""Sessions of the local provider: groups of jobs that end together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from gateway.domain.errors import FailedPrecondition, NotFound, Reason
from gateway.domain.job import SchedulingMode, new_id, utc_now
from gateway.domain.provider import ProviderSession
from gateway.domain.session import SessionState


@dataclass(slots=True)
class _LocalSession:
    """A session, from when it is opened until the gateway stops."""

    backend: str
    mode: SchedulingMode
    max_seconds: int | None
    created_at: datetime = field(default_factory=utc_now)
    accepting_jobs: bool = True
    activated_at: datetime | None = None
    closed_at: datetime | None = None
    usage_seconds: float = 0.0
    jobs: set[str] = field(default_factory=set)
    """Those that wait or run."""
    running: set[str] = field(default_factory=set)
    timer: asyncio.TimerHandle | None = None

    @property
    def state(self) -> SessionState:
        if self.closed_at is not None:
            return SessionState.CLOSED
        if self.running:
            return SessionState.ACTIVE
        return SessionState.OPEN if self.activated_at is None else SessionState.INACTIVE


class LocalSessions:
    """All sessions of the provider. They hold nothing: their jobs wait in the same queue as all others.

    Args:
        expire: Is called with the ids of the jobs that wait in a session when its time is over.
    """

    def __init__(self, expire: Callable[[tuple[str, ...]], None]) -> None:
        self._expire = expire
        self._sessions: dict[str, _LocalSession] = {}

    def open(self, backend: str, mode: SchedulingMode, max_seconds: int | None) -> ProviderSession:
        """Open a session. Its time begins with its first job."""
        session_id = new_id()
        self._sessions[session_id] = _LocalSession(backend, mode, max_seconds)
        return self.get(session_id)

    def get(self, session_id: str) -> ProviderSession:
        """Return a session.

        Raises:
            NotFound: There is none of that id; they end when the server stops.
        """
        session = self._session(session_id)
        return ProviderSession(
            id=session_id,
            backend=session.backend,
            mode=session.mode,
            state=session.state,
            accepting_jobs=session.accepting_jobs,
            max_seconds=session.max_seconds,
            created_at=session.created_at,
            activated_at=session.activated_at,
            closed_at=session.closed_at,
            usage_seconds=session.usage_seconds,
        )

    def close(self, session_id: str) -> None:
        """Let a session take no more jobs. It ends with the last of those that it has.

        Raises:
            NotFound: There is none of that id.
        """
        session = self._session(session_id)
        session.accepting_jobs = False
        self._end_if_over(session)

    def end(self, session_id: str) -> tuple[str, ...]:
        """End a session at once. Returns the ids of the jobs that wait in it.

        Raises:
            NotFound: There is none of that id.
        """
        session = self._session(session_id)
        session.accepting_jobs = False
        session.closed_at = session.closed_at or utc_now()
        if session.timer is not None:
            session.timer.cancel()
        return tuple(session.jobs - session.running)

    def join(self, session_id: str, job: str) -> None:
        """Note that a job waits. One of a session that is not known is left alone: the gateway was restarted meanwhile.

        Raises:
            FailedPrecondition: The session takes no more jobs.
        """
        session = self._sessions.get(session_id)
        if session is None:
            return
        if not session.accepting_jobs:
            raise FailedPrecondition(
                "The session takes no further jobs. Open another one, or run the job without.",
                reason=Reason.SESSION_CLOSED,
                metadata={"session": session_id},
            )
        session.jobs.add(job)

    def started(self, session_id: str, job: str) -> None:
        """Note that a job runs."""
        session = self._sessions.get(session_id)
        if session is None:
            return
        session.running.add(job)
        if session.activated_at is None:
            session.activated_at = utc_now()
            if session.max_seconds is not None:
                loop = asyncio.get_running_loop()
                session.timer = loop.call_later(session.max_seconds, self._time_over, session_id)

    def ended(self, session_id: str, job: str, seconds: float | None) -> None:
        """Note that a job ended, and for how many seconds it ran."""
        session = self._sessions.get(session_id)
        if session is not None:
            session.jobs.discard(job)
            session.running.discard(job)
            session.usage_seconds += seconds or 0.0
            self._end_if_over(session)

    def forget(self) -> None:
        """Let no session end any more, because the provider is closed."""
        for session in self._sessions.values():
            if session.timer is not None:
                session.timer.cancel()

    def _time_over(self, session_id: str) -> None:
        self._expire(self.end(session_id))

    def _end_if_over(self, session: _LocalSession) -> None:
        if not session.accepting_jobs and not session.jobs and session.closed_at is None:
            session.closed_at = utc_now()
            if session.timer is not None:
                session.timer.cancel()

    def _session(self, session_id: str) -> _LocalSession:
        session = self._sessions.get(session_id)
        if session is None:
            raise NotFound(
                "The local provider has no such session; its sessions end when the server stops.",
                reason=Reason.SESSION_NOT_FOUND,
                metadata={"session": session_id},
            )
        return session
