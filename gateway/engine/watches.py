"""Lets callers follow jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from gateway.domain.access import Caller
from gateway.domain.errors import InvalidArgument, Reason
from gateway.domain.job import EventType, JobEvent
from gateway.domain.provider import QueuePlace
from gateway.domain.query import JobFilter
from gateway.engine.hub import Hub
from gateway.engine.jobs import Jobs
from gateway.store import Store

_SHORTEST_PATIENCE = 0.5
"""Seconds between two looks at the queue for a watcher of a job at its front."""


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """Nothing up to `revision` is left to tell; the job waits at `place`, where that is known."""

    revision: int
    place: QueuePlace | None


class Watches:
    """Tells callers what becomes of jobs.

    Args:
        jobs: Finds them.
        store: Keeps their history.
        hub: Tells what changes.
    """

    def __init__(self, jobs: Jobs, store: Store, hub: Hub) -> None:
        self._jobs = jobs
        self._store = store
        self._hub = hub

    def close(self) -> None:
        """End all watches, because the server is about to stop."""
        self._hub.close()

    async def watch(
        self, caller: Caller, job_id: str, after: int | None, heartbeat: float
    ) -> AsyncIterator[JobEvent | SignOfLife]:
        """Yield a snapshot of a job (or with `after`, every event after that revision), then each change.

        Between the changes come signs of life: at least every `heartbeat` seconds, and soon after the job's place in the
        queue changed. Ends after the final event.

        Raises:
            NotFound: There is no such job.
            InvalidArgument: `after` lies in the future: the token is not this gateway's.
            Unavailable: The server is about to stop.
        """
        job = await self._jobs.get(caller, job_id)
        if after is None:
            yield JobEvent(job.revision, EventType.SNAPSHOT, job.updated_at, job)
            after = job.revision
        self._check_revision(after)
        if job.status.is_final and job.revision <= after:
            return
        clock = asyncio.get_running_loop().time
        told_at, place = clock(), await self._jobs.queue_place(job)
        async for news in self._hub.watch_job(job_id, after, lambda: _patience(place, heartbeat)):  # noqa: B023 - the place as it is then
            if isinstance(news, JobEvent):
                yield news
                told_at, place = clock(), await self._jobs.queue_place(news.job)
                continue
            before, place = place, await self._jobs.queue_place(await self._jobs.get(caller, job_id))
            if place != before or clock() - told_at >= heartbeat - _patience(place, heartbeat):
                yield SignOfLife(news, place)
                told_at = clock()

    async def watch_all(self, where: JobFilter, after: int | None, heartbeat: float) -> AsyncIterator[JobEvent | int]:
        """Yield the events of all jobs that match, after a revision or from now on. `where` names the tenant.

        Raises:
            InvalidArgument: `after` lies in the future.
            Unavailable: The server is about to stop.
        """
        if after is None:
            after = self._hub.last_revision
            yield after
        self._check_revision(after)
        async for news in self._hub.watch_jobs(where, after, heartbeat):
            yield news

    async def events(self, caller: Caller, job_id: str, *, after: int, limit: int) -> tuple[JobEvent, ...]:
        """Return stored events of a job after a revision, oldest first.

        Raises:
            NotFound: There is no such job.
        """
        await self._jobs.get(caller, job_id)
        return await self._store.job_events(job_id, after=after, limit=limit)

    def _check_revision(self, revision: int) -> None:
        if revision > self._hub.last_revision:
            raise InvalidArgument.field(
                "resume_token",
                "this gateway never gave this token: begin the watch without one",
                reason=Reason.INVALID_RESUME_TOKEN,
            )


def _patience(place: QueuePlace | None, heartbeat: float) -> float:
    """Return how many seconds to wait before looking at the queue again: the nearer to its front, the fewer."""
    if place is None or place.position is None:
        return heartbeat
    return min(heartbeat, max(_SHORTEST_PATIENCE, place.position / 4))
