"""Sessions and batches."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from tests.emulators.ibm_quantum.accounts import Instance
from tests.emulators.ibm_quantum.codes import Code
from tests.emulators.ibm_quantum.wire import ApiError, invalid_body, not_found, now, stamp

Mode = Literal["dedicated", "batch"]
State = Literal["open", "active", "inactive", "closed"]

_DEFAULT_MAX_TTL = 28_800
_INTERACTIVE_TTL = 60


@dataclass
class Session:
    """A session, or a batch."""

    id: str
    crn: str
    user_id: str
    backend: str
    mode: Mode
    max_ttl: int
    state: State = "open"
    accepting_jobs: bool = True
    state_reason: str | None = None
    started_at: datetime | None = None
    activated_at: datetime | None = None
    closed_at: datetime | None = None
    last_job_started: datetime | None = None
    last_job_completed: datetime | None = None
    timestamps: list[tuple[str, datetime]] = field(default_factory=list)
    pending: int = 0

    def job_added(self) -> None:
        """Note that a job was submitted.

        Raises:
            ApiError: 400, if the session takes no more jobs.
        """
        if not self.accepting_jobs:
            raise ApiError(400, Code.BODY_NOT_VALID, "The session does not accept jobs.", "Open a new session.")
        self.pending += 1

    def job_started(self) -> None:
        """Note that a job runs."""
        self.last_job_started = now()
        self.started_at = self.started_at or self.last_job_started
        self.activated_at = self.last_job_started
        self._enter("active")

    def job_ended(self) -> None:
        """Note that a job reached a final state."""
        self.last_job_completed = now()
        self.pending -= 1
        if not self.pending:
            self._enter("inactive" if self.accepting_jobs else "closed")

    def refuse_jobs(self) -> None:
        """Take no more jobs; those that wait still run."""
        self.accepting_jobs = False
        if not self.pending:
            self._enter("closed")

    def expired(self) -> bool:
        """Whether its time is over."""
        return (
            self.state != "closed"
            and self.started_at is not None
            and now() >= self.started_at + timedelta(seconds=self.max_ttl)
        )

    def document(self) -> dict[str, Any]:
        """Return the session as JSON."""
        elapsed = None
        if self.started_at is not None:
            elapsed = ((self.closed_at or now()) - self.started_at).total_seconds()
        return {
            "id": self.id,
            "backend_name": self.backend,
            "mode": self.mode,
            "state": self.state,
            "state_reason": self.state_reason,
            "accepting_jobs": self.accepting_jobs,
            "interactive_ttl": _INTERACTIVE_TTL,
            "max_ttl": self.max_ttl,
            "active_ttl": self.max_ttl,
            "started_at": stamp(self.started_at),
            "activated_at": stamp(self.activated_at),
            "closed_at": stamp(self.closed_at),
            "last_job_started": stamp(self.last_job_started),
            "last_job_completed": stamp(self.last_job_completed),
            "elapsed_time": elapsed,
            "user_id": self.user_id,
            "timestamps": [{"status": state, "timestamp": stamp(time)} for state, time in self.timestamps],
        }

    def _enter(self, state: State) -> None:
        if self.state in (state, "closed"):
            return
        self.state = state
        self.timestamps.append((state, now()))
        if state == "closed":
            self.closed_at = self.timestamps[-1][1]


class Sessions:
    """All sessions.

    Args:
        ids: Where the random part of ids comes from.
    """

    def __init__(self, ids: random.Random) -> None:
        self._ids = ids
        self._sessions: dict[str, Session] = {}

    def open(self, instance: Instance, user_id: str, backend: str, body: dict[str, Any]) -> Session:
        """Open a session.

        Raises:
            ApiError: 400, if the request is not valid.
        """
        mode, max_ttl = body.get("mode", "dedicated"), body.get("max_ttl", _DEFAULT_MAX_TTL)
        if mode not in ("dedicated", "batch"):
            raise invalid_body("mode must be dedicated or batch")
        if not isinstance(max_ttl, int) or not 0 < max_ttl <= _DEFAULT_MAX_TTL:
            raise invalid_body(f"max_ttl must be 1 to {_DEFAULT_MAX_TTL}")
        name = str(uuid.UUID(int=self._ids.getrandbits(128), version=4))
        session = Session(name, instance.crn, user_id, backend, mode, max_ttl, timestamps=[("open", now())])
        self._sessions[name] = session
        return session

    def get(self, instance: Instance, name: str) -> Session:
        """Return a session of an instance.

        Raises:
            ApiError: 404, if the instance has no such session.
        """
        session = self._sessions.get(name)
        if session is None or session.crn != instance.crn:
            raise not_found("Session", name)
        return session

    def reset(self) -> None:
        """Forget all sessions."""
        self._sessions.clear()

    def of_job(self, name: str | None) -> Session | None:
        """Return the session that a job belongs to."""
        return None if name is None else self._sessions.get(name)

    def documents(self) -> list[dict[str, Any]]:
        """Return all sessions as JSON."""
        return [{**session.document(), "instance": session.crn} for session in self._sessions.values()]
