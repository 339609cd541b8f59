"""Following all jobs that match a filter: what `GatewayProvider.watch_jobs` returns."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from qgateway import _translate, job_parts
from qgateway._translate import translated
from qgateway._watch import watch
from qgateway._watch_state import QueueUpdate, WatchState, WatchTimeout
from qgateway.job import GatewayCircuitJob
from qgateway.job_parts import JobChange

if TYPE_CHECKING:
    from qgateway.provider import GatewayProvider


class JobWatch:
    """Changes of jobs as they happen: an iterator of `JobChange`. Made by `GatewayProvider.watch_jobs`.

        with provider.watch_jobs(job_tags=["nightly"], resume_token=kept) as changes:
            for change in changes:
                print(change.job.job_id(), change.event.type, change.event.status)
                kept = changes.resume_token

    Each change comes once, in the order in which they were committed. A stream that breaks or falls silent is taken up again
    where it stopped. If the gateway no longer keeps what happened meanwhile, changes of type `SNAPSHOT` give the present
    state of each job that moved on.

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
        """Stands for all changes up to the last one that was returned, or later where nothing that matches came since.

        Pass it to `watch_jobs`, in this process or another, to go on from there.
        """
        return self._state.resume_token

    def close(self) -> None:
        """End the watch."""
        self._items.close()

    def __iter__(self) -> Self:
        """Return the watch itself."""
        return self

    def __next__(self) -> JobChange[GatewayCircuitJob]:
        """Return the next change; wait for it.

        Raises:
            StopIteration: The time of the watch is over.
            IBMBackendApiError: The gateway refuses; with reason `HISTORY_COMPACTED` where it no longer keeps what happened
                after the token.
            IBMNotAuthorizedError: There is no valid API key.
        """
        try:
            with translated(_translate.backend_call("Failed to watch jobs")):
                for item in self._items:
                    if not isinstance(item, QueueUpdate):
                        return JobChange(GatewayCircuitJob(self._provider, item.job), job_parts.job_event(item))
        except WatchTimeout:
            pass
        raise StopIteration

    def __enter__(self) -> Self:
        """Return the watch."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the watch."""
        self.close()
