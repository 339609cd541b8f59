"""Sessions and batches of an instance."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.domain.errors import NotFound, Reason
from gateway.domain.job import SchedulingMode
from gateway.domain.provider import ProviderSession
from gateway.providers.ibm import states
from gateway.providers.ibm.client import IbmClient

_Value = TypeVar("_Value")


class IbmSessions:
    """Opens, reads and ends sessions.

    Args:
        client: Calls the API.
    """

    def __init__(self, client: IbmClient) -> None:
        self._client = client

    async def open(self, backend: str, mode: SchedulingMode, max_seconds: int | None) -> ProviderSession:
        """Open a session or a batch.

        Args:
            backend: Where its jobs run.
            mode: SESSION or BATCH.
            max_seconds: Longest time that it may last; None: the provider's default.
        """
        kind = "batch" if mode is SchedulingMode.BATCH else "dedicated"
        return states.session_of(await self._client.open_session(kind, backend, max_seconds))

    async def get(self, session_id: str) -> ProviderSession:
        """Return a session.

        Raises:
            NotFound: There is none of that id.
        """
        return states.session_of(await _of_session(session_id, self._client.session))

    async def close(self, session_id: str) -> ProviderSession:
        """Let a session take no more jobs; those that it has still run.

        Raises:
            NotFound: There is none of that id.
        """
        await _of_session(session_id, self._client.close_session)
        return await self.get(session_id)

    async def cancel(self, session_id: str) -> ProviderSession:
        """End a session at once; the provider cancels its jobs.

        Raises:
            NotFound: There is none of that id.
        """
        await _of_session(session_id, self._client.cancel_session)
        return await self.get(session_id)


async def _of_session(session_id: str, call: Callable[[str], Awaitable[_Value]]) -> _Value:
    """Return what a call says of a session. What is not there is not a job, as the API's client has it, but a session."""
    try:
        return await call(session_id)
    except NotFound:
        raise NotFound(
            f"The provider has no session {session_id!r}.",
            reason=Reason.SESSION_NOT_FOUND,
            metadata={"session": session_id},
        ) from None
