"""Sessions as the engine sees them in the store."""

from __future__ import annotations

from collections.abc import Callable

from gateway.domain.access import AuditEntry
from gateway.domain.session import Session, SessionPage
from gateway.store.lane import Lane
from gateway.store.reads import Reads
from gateway.store.writes import Writes


class SessionStore:
    """The sessions in a `Store`, with its promises.

    Args:
        writer: Runs writes.
        points: Runs reads of single sessions.
        pages: Runs reads of many.
    """

    def __init__(self, writer: Lane[Writes], points: Lane[Reads], pages: Lane[Reads]) -> None:
        self._writer = writer
        self._points = points
        self._pages = pages

    async def create(self, session: Session, audit: AuditEntry) -> Session:
        """Store a new session.

        Returns:
            The session. If the tenant has one with the same non-empty request id, that one, and nothing is written.
        """
        return await self._writer.run(lambda writes: writes.sessions.create(session, audit))

    async def change(
        self, session_id: str, change: Callable[[Session], Session], audit: AuditEntry | None = None
    ) -> Session:
        """Change a session.

        Args:
            session_id: Which session.
            change: Is given the current session and returns what becomes of it, as in `change_job`.
            audit: Entry to write with it, also when nothing changes.

        Raises:
            NotFound: There is no such session.
        """
        return await self._writer.run(lambda writes: writes.sessions.change(session_id, change, audit))

    async def get(self, session_id: str) -> Session | None:
        """Return a session, or None."""
        return await self._points.run(lambda reads: reads.sessions.get(session_id))

    async def get_by_request_id(self, tenant: str, request_id: str) -> Session | None:
        """Return the session that a tenant created with a request id, or None."""
        return await self._points.run(lambda reads: reads.sessions.of_request(tenant, request_id))

    async def get_by_provider_id(self, account: str, provider_session_id: str) -> Session | None:
        """Return the session that a provider knows under an id, or None."""
        return await self._points.run(lambda reads: reads.sessions.of_provider(account, provider_session_id))

    async def page(self, tenant: str, backend: str, *, limit: int, cursor: int | None) -> SessionPage:
        """Return a page of a tenant's sessions, newest first; on all backends if `backend` is empty."""
        return await self._pages.run(lambda reads: reads.sessions.page(tenant, backend, limit=limit, cursor=cursor))

    async def open(self) -> tuple[Session, ...]:
        """Return all sessions that have not ended, the oldest first."""
        return await self._pages.run(lambda reads: reads.sessions.open())
