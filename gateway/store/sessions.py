"""Sessions in the store: what runs on the threads of the lanes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select, update

from gateway.domain.access import AuditEntry
from gateway.domain.errors import NotFound
from gateway.domain.session import Session, SessionPage, SessionState
from gateway.store.codec import decode_session, encode_session
from gateway.store.database import driver_connection
from gateway.store.schema import has_session_request_id, insert_sql, is_open_session, sessions, sql

_FIND = sql(select(sessions.c.document).where(sessions.c.id == bindparam("id")))
_FIND_REQUEST = sql(
    select(sessions.c.document).where(
        sessions.c.tenant == bindparam("tenant"),
        sessions.c.request_id == bindparam("request_id"),
        has_session_request_id,
    )
)
_ADD = insert_sql(sessions, numbered=True)
_CHANGE = sql(
    update(sessions)
    .where(sessions.c.id == bindparam("session_id"))
    .values(closed=bindparam("closed"), document=bindparam("document"))
)


class SessionWrites:
    """The writes of sessions, each to be called inside a transaction.

    Args:
        connection: The only connection that writes.
        append_audit: Writes an audit entry in the same transaction.
    """

    def __init__(self, connection: Connection, append_audit: Callable[[AuditEntry], None]) -> None:
        self._execute = driver_connection(connection).execute
        self._append_audit = append_audit

    def create(self, session: Session, entry: AuditEntry) -> Session:
        """Store a new session, and return it; or the one that the tenant made with the same request id."""
        if session.request_id:
            known = self._find(_FIND_REQUEST, tenant=session.tenant, request_id=session.request_id)
            if known is not None:
                return known
        columns = {
            "id": session.id,
            "tenant": session.tenant,
            "account": session.account,
            "backend": session.backend,
            "provider_session_id": session.provider_session_id,
            "request_id": session.request_id,
            **_variable_columns(session),
        }
        self._execute(_ADD, columns)
        self._append_audit(entry)
        return session

    def change(self, session_id: str, change: Callable[[Session], Session], entry: AuditEntry | None) -> Session:
        """Store what a session becomes, and return it."""
        current = self._find(_FIND, id=session_id)
        if current is None:
            raise NotFound.session(session_id)
        session = change(current)
        if session != current:
            self._execute(_CHANGE, {"session_id": session_id, **_variable_columns(session)})
        if entry is not None:
            self._append_audit(entry)
        return session

    def _find(self, query: str, **parameters: str) -> Session | None:
        row = self._execute(query, parameters).fetchone()
        return decode_session(row[0]) if row else None


class SessionReads:
    """The reads of sessions.

    Args:
        connection: A connection of the thread's own.
    """

    def __init__(self, connection: Connection) -> None:
        self._core = connection

    def get(self, session_id: str) -> Session | None:
        """Return a session, or None."""
        return self._one(select(sessions.c.document).where(sessions.c.id == session_id))

    def of_request(self, tenant: str, request_id: str) -> Session | None:
        """Return the session that a tenant made with a request id, or None."""
        return self._one(
            select(sessions.c.document).where(
                sessions.c.tenant == tenant, sessions.c.request_id == request_id, has_session_request_id
            )
        )

    def of_provider(self, account: str, provider_session_id: str) -> Session | None:
        """Return the session that a provider knows under an id, or None."""
        return self._one(
            select(sessions.c.document).where(
                sessions.c.account == account, sessions.c.provider_session_id == provider_session_id
            )
        )

    def page(self, tenant: str, backend: str, *, limit: int, cursor: int | None) -> SessionPage:
        """Return a page of a tenant's sessions, newest first; on all backends if `backend` is empty."""
        query = select(sessions.c.seq, sessions.c.document).where(sessions.c.tenant == tenant)
        if backend:
            query = query.where(sessions.c.backend == backend)
        if cursor is not None:
            query = query.where(sessions.c.seq < cursor)
        # One more than asked for tells whether there is another page.
        rows = self._core.execute(query.order_by(sessions.c.seq.desc()).limit(limit + 1)).all()
        page = rows[:limit]
        return SessionPage(
            sessions=tuple(decode_session(row.document) for row in page),
            next_cursor=page[-1].seq if len(rows) > limit else None,
        )

    def open(self) -> tuple[Session, ...]:
        """Return all sessions that have not ended, the oldest first."""
        query = select(sessions.c.document).where(is_open_session).order_by(sessions.c.seq)
        return tuple(decode_session(document) for document in self._core.scalars(query))

    def _one(self, query: Select[Any]) -> Session | None:
        document = self._core.scalar(query)
        return None if document is None else decode_session(document)


def _variable_columns(session: Session) -> dict[str, Any]:
    return {"closed": int(session.state is SessionState.CLOSED), "document": encode_session(session)}
