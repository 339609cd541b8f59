"""Lets callers follow jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from gateway.domain.access import Caller
from gateway.domain.errors import InvalidArgument, OutOfRange, Reason
from gateway.domain.job import EventType, Job, JobEvent
from gateway.domain.provider import QueuePlace
from gateway.domain.query import JobFilter
from gateway.engine.hub import Hub, Watcher
from gateway.engine.jobs import Jobs
from gateway.store import Store

_SHORTEST_PATIENCE = 0.5
"""Seconds between two looks at the queue for a watcher of a job at its front."""
_FIRST_SIGN = 1.0
"""Seconds until the first sign of life at the latest: from it a client learns how long a silence it is to bear."""
_PAGE = 50
"""Jobs of a snapshot that are read at a time."""


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """Nothing up to `revision` is left to tell; the job waits at `place`, where that is known."""

    revision: int
    place: QueuePlace | None = None


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
        self,
        caller: Caller,
        job_id: str,
        after: int | None,
        heartbeat: float,
        *,
        known: int = 0,
        or_snapshot: bool = False,
    ) -> AsyncGenerator[JobEvent | SignOfLife, None]:
        """Yield a snapshot of a job (or with `after`, every event after that revision), then each change.

        Between the changes come signs of life: the first after a second, then at least every `heartbeat` seconds, and soon after
        the job's place in the queue changed. Ends after the final event. What was yielded must have been written before the
        next is asked for.

        Args:
            caller: Who watches.
            job_id: What.
            after: Revision up to which everything is known; None: nothing is.
            heartbeat: Longest time between two yields, in seconds.
            known: Revision of the state that the caller has: no snapshot is needed while that is the current one and not final.
            or_snapshot: Begin anew with a snapshot where the history after a revision is no longer kept.

        Raises:
            NotFound: There is no such job.
            InvalidArgument: `after` lies in the future: the token is not this gateway's.
            OutOfRange: The history is no longer kept.
            Unavailable: The server is about to stop.
        """
        now = self._hub.last_revision
        job = await self._jobs.get(caller, job_id)
        if after is None:
            # It may be newer than what was published: the store tells a reader of a commit before it tells the hub.
            if job.revision != known or job.status.is_final:
                yield _snapshot(job)
            after = job.revision
        else:
            self._check_revision(after)
        if job.revision <= after:
            if job.status.is_final:
                return
            after = max(after, now)  # the job is as it was
        with self._hub.watch(job_id, after) as watcher:
            async for news in self._follow(caller, job, watcher, heartbeat, or_snapshot=or_snapshot):
                yield news
                if isinstance(news, JobEvent) and (news.type is EventType.DELETED or news.job.status.is_final):
                    return

    async def _follow(
        self, caller: Caller, job: Job, watcher: Watcher, heartbeat: float, *, or_snapshot: bool
    ) -> AsyncGenerator[JobEvent | SignOfLife, None]:
        """Yield what comes after a watcher's position, without end."""
        clock = asyncio.get_running_loop().time
        told_at, place = clock(), await self._jobs.queue_place(job)
        is_first = True
        while True:
            patience = _patience(place, heartbeat)
            try:
                event = await watcher.next(min(patience, _FIRST_SIGN) if is_first else patience)
            except OutOfRange:
                if not or_snapshot:
                    raise
                event = _snapshot(await self._jobs.get(caller, job.id))
                watcher.skip_to(event.revision)
            if event is not None:
                yield event
                told_at, place = clock(), await self._jobs.queue_place(event.job)
                continue
            before, place = place, await self._jobs.queue_place(await self._jobs.get(caller, job.id))
            if is_first or place != before or clock() - told_at >= heartbeat - _patience(place, heartbeat):
                yield SignOfLife(watcher.position, place)
                told_at, is_first = clock(), False

    async def watch_all(
        self, where: JobFilter, after: int | None, heartbeat: float, *, or_snapshot: bool = False
    ) -> AsyncGenerator[JobEvent | SignOfLife, None]:
        """Yield the events of all jobs that match, after a revision or from now on; never ends by itself.

        A snapshot is one SNAPSHOT of each job that matches, which tells nothing of where to resume, and then a sign of life that
        does. The rest is as in `watch`.

        Args:
            where: Which jobs; it names the tenant.
            after: Revision up to which everything is known; None: what was before now is of no interest.
            heartbeat: Longest time between two yields, in seconds.
            or_snapshot: Begin anew with a snapshot where the history after a revision is no longer kept.

        Raises:
            InvalidArgument: `after` lies in the future.
            OutOfRange: The history is no longer kept.
            Unavailable: The server is about to stop.
        """
        if after is None:
            after = self._hub.last_revision
            yield SignOfLife(after)
        self._check_revision(after)
        told: dict[str, int] = {}
        """Revisions that a snapshot told before their turn, by job."""
        patience = min(heartbeat, _FIRST_SIGN)
        with self._hub.watch(where, after) as watcher:
            while True:
                try:
                    event = await watcher.next(patience)
                except OutOfRange:
                    if not or_snapshot:
                        raise
                    now = self._hub.last_revision
                    async for job in self._all(where):
                        if job.revision > now:
                            told[job.id] = job.revision
                        yield _snapshot(job)
                    watcher.skip_to(now)
                    yield SignOfLife(now)
                    continue
                if event is None:
                    yield SignOfLife(watcher.position)
                    patience = heartbeat
                elif event.revision > told.get(event.job.id, 0):
                    yield event

    async def _all(self, where: JobFilter) -> AsyncIterator[Job]:
        cursor: int | None = None
        while True:
            page = await self._store.list_jobs(where, limit=_PAGE, cursor=cursor, oldest_first=True)
            for job in page.jobs:
                yield job
            if (cursor := page.next_cursor) is None:
                return

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


def _snapshot(job: Job) -> JobEvent:
    return JobEvent(job.revision, EventType.SNAPSHOT, job.updated_at, job)


def _patience(place: QueuePlace | None, heartbeat: float) -> float:
    """Return how many seconds to wait before looking at the queue again: the nearer to its front, the fewer."""
    if place is None or place.position is None:
        return heartbeat
    return min(heartbeat, max(_SHORTEST_PATIENCE, place.position / 4))
