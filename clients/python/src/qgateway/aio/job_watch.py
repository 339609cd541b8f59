"""Following all jobs that match a filter, with asyncio."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from qgateway import _translate, job_parts
from qgateway._aio_watch import watch
from qgateway._translate import translated
from qgateway._watch_state import QueueUpdate, WatchState, WatchTimeout
from qgateway.aio.job import GatewayCircuitJob
from qgateway.job_parts import JobChange

if TYPE_CHECKING:
    from qgateway.aio.provider import GatewayProvider


class JobWatch:
    """Changes of jobs as they happen: an asynchronous iterator of `JobChange`; see `qgateway.job_watch.JobWatch`.

        async with provider.watch_jobs(job_tags=["nightly"]) as changes:
            async for change in changes:
                print(change.job.job_id(), change.event.type, change.event.status)

    Args:
        provider: The provider that made it.
        state: The watch.
    """

    def __init__(self, provider: GatewayProvider, state: WatchState) -> None:
        self._provider = provider
        self._state = state
        self._items = watch(provider.connection, state)

    @property
    def resume_token(self) -> str:
        """Stands for all changes up to the last one that was returned, or later where nothing that matches came since."""
        return self._state.resume_token

    async def aclose(self) -> None:
        """End the watch."""
        await self._items.aclose()

    def __aiter__(self) -> Self:
        """Return the watch itself."""
        return self

    async def __anext__(self) -> JobChange[GatewayCircuitJob]:
        """Return the next change; wait for it.

        Raises:
            StopAsyncIteration: The time of the watch is over.
            IBMBackendApiError: The gateway refuses; with reason `HISTORY_COMPACTED` where it no longer keeps what happened
                after the token.
            IBMNotAuthorizedError: There is no valid API key.
        """
        try:
            with translated(_translate.backend_call("Failed to watch jobs")):
                async for item in self._items:
                    if not isinstance(item, QueueUpdate):
                        return JobChange(GatewayCircuitJob(self._provider, item.job), job_parts.job_event(item))
        except WatchTimeout:
            pass
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        """Return the watch."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the watch."""
        await self.aclose()
