"""Tells watchers what changed.

The store calls `Hub.publish` with every committed event. A watcher has a position and a wake-up, never a queue: whoever is behind
reads on from memory, or from the store where memory no longer reaches back far enough. So a slow reader costs the same as a
fast one.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from gateway.domain.errors import Reason, Unavailable
from gateway.domain.job import EventType, Job, JobEvent
from gateway.domain.query import JobFilter
from gateway.store import Store

_CACHED_JOBS = 10_000
_RECENT_EVENTS = 10_000
_BATCH = 200
"""Events read from the store at a time by a watcher that is behind."""


class Hub:
    """The current state of recent jobs, their recent events, and everyone who waits for the next."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._recent: deque[JobEvent] = deque(maxlen=_RECENT_EVENTS)
        self._floor = 0
        """Every event after this revision is in `_recent`."""
        self._last = 0
        """Revision of the newest published event."""
        self._waiting: dict[str | None, set[asyncio.Future[None]]] = {}
        """Wake-ups by job; under None those of watchers of all jobs."""
        self._closing = False

    async def start(self) -> None:
        """Begin to follow the store."""
        self._floor = self._last = await self._store.last_revision()
        self._store.subscribe(self.publish)

    @property
    def last_revision(self) -> int:
        """Revision of the newest event that was published."""
        return self._last

    def close(self) -> None:
        """End every watch: it raises Unavailable."""
        self._closing = True
        for waiting in self._waiting.values():
            _wake(waiting)

    def publish(self, events: Sequence[JobEvent]) -> None:
        """Take committed events, in the order of their revisions, and wake whoever waits for them."""
        for event in events:
            if len(self._recent) == _RECENT_EVENTS:
                self._floor = self._recent[0].revision
            self._recent.append(event)
            if event.type is EventType.DELETED:
                self._jobs.pop(event.job.id, None)
            else:
                self._remember(event.job)
            self._last = event.revision
            _wake(self._waiting.get(event.job.id, ()))
        _wake(self._waiting.get(None, ()))

    def known(self, job_id: str) -> Job | None:
        """Return the current state of a job if it is in memory."""
        return self._jobs.get(job_id)

    def is_watched(self, job_id: str) -> bool:
        """Return whether somebody waits for news of a job."""
        return job_id in self._waiting or None in self._waiting

    async def job(self, job_id: str) -> Job | None:
        """Return the current state of a job, from memory where it is known."""
        if (job := self._jobs.get(job_id)) is not None:
            return job
        job = await self._store.get_job(job_id)
        # What was published while the store was being read is newer.
        if job is not None and job_id not in self._jobs:
            self._remember(job)
        return self._jobs.get(job_id, job)

    async def watch_job(self, job_id: str, after: int, patience: Callable[[], float]) -> AsyncIterator[JobEvent | int]:
        """Yield the events of a job after a revision.

        Whenever `patience()` seconds passed without one, yields the revision up to which there is none. Ends after the event
        that makes the job final, or deletes it.

        Raises:
            Unavailable: The server is about to stop.
        """
        async for news in self._watch(job_id, after, patience):
            yield news
            if isinstance(news, JobEvent) and (news.type is EventType.DELETED or news.job.status.is_final):
                return

    async def watch_jobs(self, where: JobFilter, after: int, heartbeat: float) -> AsyncIterator[JobEvent | int]:
        """Yield the events of all matching jobs after a revision.

        Whenever `heartbeat` seconds passed without one, yields the revision up to which there is none. Never ends by itself.

        Raises:
            Unavailable: The server is about to stop.
        """
        async for news in self._watch(None, after, lambda: heartbeat):
            if not isinstance(news, JobEvent) or where.matches(news.job):
                yield news

    async def _watch(
        self, job_id: str | None, position: int, patience: Callable[[], float]
    ) -> AsyncIterator[JobEvent | int]:
        while True:
            with self._waiter(job_id) as wake:
                events, looked_up_to = await self._events(job_id, position)
                for event in events:
                    yield event
                position = looked_up_to
                if not events:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(wake, patience())
                    if not wake.done() or wake.cancelled():
                        yield position

    async def _events(self, job_id: str | None, after: int) -> tuple[Sequence[JobEvent], int]:
        """Return the next events of a job (None: of all), and the revision up to which these are all."""
        last = self._last
        if after >= self._floor:
            recent = self._after(after)
            return (recent if job_id is None else [event for event in recent if event.job.id == job_id]), max(
                after, last
            )
        if job_id is None:
            events = await self._store.events(after=after, limit=_BATCH)
        else:
            events = await self._store.job_events(job_id, after=after, limit=_BATCH)
        # What was published before the store was read is in what was read, up to the size of the batch.
        return events, events[-1].revision if len(events) == _BATCH else max(after, last)

    def _after(self, revision: int) -> list[JobEvent]:
        found: list[JobEvent] = []
        for event in reversed(self._recent):
            if event.revision <= revision:
                break
            found.append(event)
        found.reverse()
        return found

    @contextmanager
    def _waiter(self, topic: str | None) -> Iterator[asyncio.Future[None]]:
        """Register a wake-up before looking for events, so that none can slip in between."""
        if self._closing:
            raise Unavailable(
                "The gateway is about to stop. Resume the watch with the last token.",
                reason=Reason.SERVER_STOPPING,
                retry_after=1.0,
            )
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(topic, set())
        waiting.add(wake)
        try:
            yield wake
        finally:
            waiting.discard(wake)
            if not waiting and self._waiting.get(topic) is waiting:
                del self._waiting[topic]

    def _remember(self, job: Job) -> None:
        self._jobs[job.id] = job
        self._jobs.move_to_end(job.id)
        if len(self._jobs) > _CACHED_JOBS:
            self._jobs.popitem(last=False)


def _wake(waiting: Iterable[asyncio.Future[None]]) -> None:
    for wake in waiting:
        if not wake.done():
            wake.set_result(None)
