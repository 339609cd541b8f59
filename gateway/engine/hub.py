"""Tells watchers what changed.

The store calls `Hub.publish` with every committed event. A watcher has a position and a wake-up, never a queue: whoever is behind
reads on from memory, or from the store where memory no longer reaches back far enough. So a slow reader costs the same as a
fast one, and nobody waits for it: who may write when is decided by `Turns`.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from gateway.domain.errors import Reason, Unavailable
from gateway.domain.failpoints import failpoint
from gateway.domain.job import EventType, Job, JobEvent
from gateway.domain.query import JobFilter
from gateway.engine.recent_events import RecentEvents, Topic
from gateway.engine.turns import Turns
from gateway.store import Store

_CACHED_JOBS = 10_000
_BATCH = 8
"""Events read from the store at a time by a watcher that is behind: what a reader who stops reading leaves in memory."""


class Hub:
    """The current state of recent jobs, their recent events, and everyone who waits for the next."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.recent = RecentEvents(0)
        """The newest events."""
        self.turns: Turns
        """Who may write now."""
        self.loop: asyncio.AbstractEventLoop
        """Where it runs. To ask for it costs a system call: too much for each of thousands who wait."""
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._waiting: dict[Topic, _Group] = {}
        self._filters: dict[JobFilter, _Group] = {}
        """Those of the waiting whose topic is a filter."""
        self._watchers: Counter[str | None] = Counter()
        """Number of watchers by job; under None of those of many jobs."""
        self._closing = False

    async def start(self) -> None:
        """Begin to follow the store."""
        self.loop = asyncio.get_running_loop()
        self.turns = Turns()
        self.recent = RecentEvents(await self.store.last_revision())
        self.store.subscribe(self.publish)

    @property
    def last_revision(self) -> int:
        """Revision of the newest event that was published."""
        return self.recent.last

    @property
    def watchers(self) -> int:
        """Number of watchers."""
        return self._watchers.total()

    def close(self) -> None:
        """End every watch: it raises Unavailable."""
        self._closing = True
        for group in self._waiting.values():
            while (watcher := group.take()) is not None:
                watcher.go()

    def check_open(self) -> None:
        """Raise Unavailable if the server is about to stop."""
        if self._closing:
            raise Unavailable(
                "The gateway is about to stop. Resume the watch with the last token.",
                reason=Reason.SERVER_STOPPING,
                retry_after=1.0,
            )

    def publish(self, events: Sequence[JobEvent]) -> None:
        """Take committed events, in the order of their revisions, and wake whoever waits for them."""
        for event in events:
            self.recent.add(event)
            if event.type is EventType.DELETED:
                self._jobs.pop(event.job.id, None)
            else:
                self._remember(event.job)
            if event.job.id in self._waiting:
                self._call(event.job.id, event)
            for where in [where for where in self._filters if where.matches(event.job)]:
                self._call(where, event)

    def known(self, job_id: str) -> Job | None:
        """Return the current state of a job if it is in memory."""
        return self._jobs.get(job_id)

    def is_watched(self, job_id: str) -> bool:
        """Return whether somebody wants news of a job."""
        return job_id in self._watchers or None in self._watchers

    async def job(self, job_id: str) -> Job | None:
        """Return the current state of a job, from memory where it is known."""
        if (job := self._jobs.get(job_id)) is not None:
            return job
        before = self.recent.last
        job = await self.store.get_job(job_id)
        # What was published while the store was being read is newer, also that the job is deleted.
        if job_id in self._jobs or self.recent.after(job_id, max(before, self.recent.floor)) is not None:
            return self._jobs.get(job_id)
        if job is not None:
            self._remember(job)
        return job

    def watch(self, topic: Topic, after: int) -> Watcher:
        """Return a watcher of what follows a revision. It counts as one between entering and leaving its context."""
        return Watcher(self, topic, after)

    def enter(self, topic: Topic) -> None:
        """Count a watcher."""
        self._watchers[_key(topic)] += 1

    def leave(self, topic: Topic) -> None:
        """Count a watcher no more."""
        key = _key(topic)
        self._watchers[key] -= 1
        if not self._watchers[key]:
            del self._watchers[key]

    def wait(self, topic: Topic, watcher: Watcher) -> _Group:
        """Have a watcher called at the next event on a topic, with the group of those who wait for the same."""
        group = self._waiting.get(topic)
        if group is None:
            group = self._waiting[topic] = _Group()
            if isinstance(topic, JobFilter):
                self._filters[topic] = group
        group.watchers.add(watcher)
        return group

    def wait_no_more(self, topic: Topic, group: _Group, watcher: Watcher) -> None:
        """Take a watcher back that `wait` took. It need not be there any more."""
        group.watchers.discard(watcher)
        if not group.watchers and self._waiting.get(topic) is group:
            self._forget(topic)

    def _call(self, topic: Topic, event: JobEvent) -> None:
        """Give everyone who waits on a topic a turn."""
        group = self._waiting[topic]
        group.event = event
        self._forget(topic)
        self.turns.line_up(group)

    def _forget(self, topic: Topic) -> None:
        del self._waiting[topic]
        if isinstance(topic, JobFilter):
            del self._filters[topic]

    def _remember(self, job: Job) -> None:
        self._jobs[job.id] = job
        self._jobs.move_to_end(job.id)
        if len(self._jobs) > _CACHED_JOBS:
            self._jobs.popitem(last=False)


class Watcher:
    """One who follows a topic: a position, and a wake-up while there is nothing to tell.

    What `next` returned must have been written when it is called again: its turn lasts as long.
    """

    __slots__ = (
        "_ahead",
        "_hub",
        "_patient_until",
        "_read_to",
        "_timer",
        "_topic",
        "_wake",
        "position",
        "slow",
        "turn_since",
    )

    def __init__(self, hub: Hub, topic: Topic, after: int) -> None:
        self.position = after
        """Revision up to which everything was told."""
        self.turn_since: float | None = None
        self.slow = False
        self._hub = hub
        self._topic = topic
        self._wake: asyncio.Future[None] | None = None
        self._patient_until: float | None = None
        """When to wake up though nothing happened; None while it does not wait for an event."""
        self._timer: asyncio.TimerHandle | None = None
        self._ahead: deque[JobEvent] | None = None
        """Events that were read from the store."""
        self._read_to = 0
        """Revision up to which `_ahead` is all that there is."""

    def __enter__(self) -> Self:
        """Begin to count."""
        self._hub.enter(self._topic)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the turn, and count no more."""
        self._hub.turns.end(self)
        self._hub.leave(self._topic)
        if self._timer is not None:
            self._timer.cancel()

    async def next(self, patience: float) -> JobEvent | None:
        """Return the next event. None: none came within `patience` seconds, and there is none up to `position`.

        Raises:
            OutOfRange: What follows the position is no longer kept.
            Unavailable: The server is about to stop.
        """
        while True:
            self._hub.turns.end(self)
            self._hub.check_open()
            event = await self._look() or await self._called(patience)
            if event is None:
                self._hub.check_open()
                self.position = max(self.position, self._hub.last_revision)
                return None
            # A state may have been read, and told, before it was published.
            if event.revision > self.position:
                await self._take_turn()
                failpoint("watch.tell")
                self.position = event.revision
                return event

    def skip_to(self, revision: int) -> None:
        """Go on after a later revision: what is before it was told in another way."""
        self.position, self._ahead = max(self.position, revision), None

    def go(self) -> bool:
        """Wake up."""
        if self._wake is None or self._wake.done():
            return False
        self._wake.set_result(None)
        return True

    async def _look(self) -> JobEvent | None:
        """Return the next event that there is; if there is none, move the position to now."""
        recent = self._hub.recent
        while True:
            if self._ahead:
                return self._ahead.popleft()
            if self._ahead is not None:
                self.position, self._ahead = max(self.position, self._read_to), None
            if self.position >= recent.floor:
                event = recent.after(self._topic, self.position)
                if event is None:
                    self.position = max(self.position, recent.last)
                return event
            await self._read_ahead()

    async def _read_ahead(self) -> None:
        # The floor is read first: what is published meanwhile is above it, and found in memory.
        floor, store = self._hub.recent.floor, self._hub.store
        job_id = self._topic if isinstance(self._topic, str) else None
        events = await store.history(after=self.position, job_id=job_id, limit=_BATCH)
        self._read_to = events[-1].revision if len(events) == _BATCH else floor
        where = self._topic
        self._ahead = deque(event for event in events if isinstance(where, str) or where.matches(event.job))

    async def _called(self, patience: float) -> JobEvent | None:
        """Wait for the next event, and for the turn to tell it. None: there was none for so many seconds."""
        self._wake = self._hub.loop.create_future()
        group = self._hub.wait(self._topic, self)
        self._wake_in(patience)
        try:
            await self._wake
        finally:
            self._wake = self._patient_until = None
            self._hub.wait_no_more(self._topic, group, self)
        return group.event

    def _wake_in(self, seconds: float) -> None:
        """Wake up after so many seconds at the latest.

        A timer that is there already stays as long as it is not too late: thousands would set theirs anew at each event.
        """
        loop = self._hub.loop
        self._patient_until = until = loop.time() + seconds
        if self._timer is None or self._timer.when() > until:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_at(until, self._look_at_clock)

    def _look_at_clock(self) -> None:
        self._timer = None
        if self._patient_until is None:
            return
        if (left := self._patient_until - self._hub.loop.time()) > 0:
            self._wake_in(left)
        else:
            self.go()

    async def _take_turn(self) -> None:
        turns = self._hub.turns
        if self.turn_since is not None or turns.begin(self):
            return
        self._wake = self._hub.loop.create_future()
        alone = _Group(self)
        turns.line_up(alone)
        try:
            await self._wake
        finally:
            self._wake = None
            alone.watchers.discard(self)


class _Group:
    """Watchers who wait for the same, and after that for their turns."""

    __slots__ = ("event", "watchers")

    def __init__(self, *watchers: Watcher) -> None:
        self.watchers = set(watchers)
        self.event: JobEvent | None = None
        """The first since they began to wait, so that it is the next of each; None before it."""

    def take(self) -> Watcher | None:
        """Take one of them out; None if nobody is left."""
        return self.watchers.pop() if self.watchers else None


def _key(topic: Topic) -> str | None:
    return topic if isinstance(topic, str) else None
