"""`SessionService`: open and end sessions."""

from __future__ import annotations

from typing import Any

import grpc
from qgateway.v1 import session_service_pb2, session_service_pb2_grpc

from gateway.engine.sessions import Sessions
from gateway.engine.tokens import page_token, read_page_token
from gateway.rpc import messages, requests
from gateway.rpc.interceptor import current_caller

_Context = grpc.aio.ServicerContext[Any, Any]


class SessionService(session_service_pb2_grpc.SessionServiceServicer):
    """Open and end sessions: dedicated ones and batches."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def CreateSession(
        self, request: session_service_pb2.CreateSessionRequest, context: _Context
    ) -> session_service_pb2.CreateSessionResponse:
        """Open a session."""
        session = await self._sessions.create(current_caller(), requests.session_request(request))
        return session_service_pb2.CreateSessionResponse(session=messages.session(session))

    async def GetSession(
        self, request: session_service_pb2.GetSessionRequest, context: _Context
    ) -> session_service_pb2.GetSessionResponse:
        """Read a session."""
        session = await self._sessions.get(current_caller(), _session_id(request.name))
        return session_service_pb2.GetSessionResponse(session=messages.session(session))

    async def ListSessions(
        self, request: session_service_pb2.ListSessionsRequest, context: _Context
    ) -> session_service_pb2.ListSessionsResponse:
        """List a page of sessions, newest first."""
        listing = request.backend.encode()
        page = await self._sessions.list(
            current_caller(),
            request.backend,
            limit=requests.page_size(request.page_size),
            cursor=read_page_token(request.page_token, listing) if request.page_token else None,
        )
        return session_service_pb2.ListSessionsResponse(
            sessions=map(messages.session, page.sessions),
            next_page_token="" if page.next_cursor is None else page_token(page.next_cursor, listing),
        )

    async def CloseSession(
        self, request: session_service_pb2.CloseSessionRequest, context: _Context
    ) -> session_service_pb2.CloseSessionResponse:
        """Take no further jobs."""
        session = await self._sessions.close(current_caller(), _session_id(request.name))
        return session_service_pb2.CloseSessionResponse(session=messages.session(session))

    async def CancelSession(
        self, request: session_service_pb2.CancelSessionRequest, context: _Context
    ) -> session_service_pb2.CancelSessionResponse:
        """End a session at once."""
        session = await self._sessions.cancel(current_caller(), _session_id(request.name))
        return session_service_pb2.CancelSessionResponse(session=messages.session(session))


def _session_id(name: str) -> str:
    return requests.resource_id("name", name, "sessions")
