"""A session: a period in which the jobs of one caller run together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gateway.domain.job import SchedulingMode


class SessionState(StrEnum):
    """What a session is doing."""

    OPEN = "OPEN"
    """Made, and no job has run yet."""
    ACTIVE = "ACTIVE"
    """Its jobs run."""
    INACTIVE = "INACTIVE"
    """Waiting for the next job."""
    CLOSED = "CLOSED"
    """Ended, for good."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session of a caller at a provider. Immutable."""

    id: str
    tenant: str
    creator: str
    """Name of the caller that opened it."""
    account: str
    backend: str
    mode: SchedulingMode
    """SESSION or BATCH."""
    created_at: datetime
    provider_session_id: str
    state: SessionState = SessionState.OPEN
    accepting_jobs: bool = True
    closing: bool = False
    """Whether a caller closed it, and its provider has yet to be told: jobs that were accepted are on their way there."""
    max_seconds: float | None = None
    """Longest time that it may last; None: not known."""
    interactive_seconds: float | None = None
    """How long it waits for the next job; None: not known."""
    activated_at: datetime | None = None
    closed_at: datetime | None = None
    usage_seconds: float | None = None
    """Time that it was charged for so far; None: not known."""
    request_id: str = ""
    request_digest: str = ""
    """SHA-256 of the request, to tell a repeated request from a reused id."""

    @property
    def name(self) -> str:
        """Resource name, as jobs bear it."""
        return f"sessions/{self.id}"


@dataclass(frozen=True, slots=True)
class SessionPage:
    """One page of a listing, newest first."""

    sessions: tuple[Session, ...]
    next_cursor: int | None
    """Where the next page begins; None on the last. Opaque outside the store."""
