"""The newest events, in memory: what nearly every watcher reads."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from operator import attrgetter

from gateway.domain.job import JobEvent
from gateway.domain.query import JobFilter

_CAPACITY = 10_000

Topic = str | JobFilter
"""What a watcher wants to hear of: a job by its id, or all jobs that match."""

_revision = attrgetter("revision")


class RecentEvents:
    """The newest events, of all jobs and by job, without a gap.

    Args:
        last: Revision of the newest event that is not kept here.
    """

    def __init__(self, last: int) -> None:
        self.floor = last
        """Every event after this revision is here."""
        self.last = last
        """Revision of the newest event."""
        self._events: deque[JobEvent] = deque()
        self._by_job: dict[str, deque[JobEvent]] = {}

    def add(self, event: JobEvent) -> None:
        """Take the next event."""
        if len(self._events) >= _CAPACITY:
            self._drop_oldest()
        self._events.append(event)
        self._by_job.setdefault(event.job.id, deque()).append(event)
        self.last = event.revision

    def after(self, topic: Topic, revision: int) -> JobEvent | None:
        """Return the first event on a topic after a revision, which must not be below `floor`; None if there is none."""
        if isinstance(topic, str):
            events = self._by_job.get(topic, ())
            index = _index_after(events, revision)
            return events[index] if index < len(events) else None
        for index in range(_index_after(self._events, revision), len(self._events)):
            if topic.matches(self._events[index].job):
                return self._events[index]
        return None

    def _drop_oldest(self) -> None:
        oldest = self._events.popleft()
        self.floor = oldest.revision
        of_job = self._by_job[oldest.job.id]
        of_job.popleft()
        if not of_job:
            del self._by_job[oldest.job.id]


def _index_after(events: Sequence[JobEvent], revision: int) -> int:
    """Return the index of the first event after a revision. Quickest for the newest, which nearly everyone wants."""
    count = len(events)
    if not count or events[-1].revision <= revision:
        return count
    if count == 1 or events[-2].revision <= revision:
        return count - 1
    return bisect_right(events, revision, key=_revision)
