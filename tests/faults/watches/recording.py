"""What a watcher saw, and what really happened: plain data."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

FINAL = frozenset({"DONE", "CANCELLED", "ERROR"})
"""Statuses that a job never leaves."""

SLACK = 1.0
"""Seconds by which the time of what happened in the store can be off: when it is seen there, and when a watcher is told, differ."""


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a job, as far as the checks look at it."""

    revision: int
    job: str
    """Resource name."""
    status: str
    """Status after the change, such as `QUEUED`."""
    name: str = ""
    """Display name after the change."""
    tags: tuple[str, ...] = ()
    """Tags after the change."""
    deletes: bool = False
    """Whether the change is the deletion of the job."""

    @property
    def is_final(self) -> bool:
        """Whether the job is final after the change."""
        return self.status in FINAL


@dataclass(frozen=True, slots=True)
class Scope:
    """What a watcher follows: one job, or all jobs with a tag, or all jobs."""

    job: str | None = None
    tag: str | None = None

    def covers(self, event: Event) -> bool:
        """Return whether an event is to be told to the watcher."""
        if self.job is not None:
            return event.job == self.job
        return self.tag is None or self.tag in event.tags


@dataclass(frozen=True, slots=True)
class Opened:
    """A stream was opened."""

    after: int | None = None
    """Position of the token that it was resumed with; None for a watch that begins."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A stream told the state of a job, as the event that made it so."""

    event: Event
    position: int | None = None
    """Position of the token that came with it. None where the client keeps tokens to itself."""
    at: float = math.inf
    """When, on the clock of the run."""


@dataclass(frozen=True, slots=True)
class Told:
    """A stream told a change."""

    event: Event
    position: int | None = None
    """Position of the token that came with it. None where the client keeps tokens to itself."""
    at: float = math.inf
    """When, on the clock of the run."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A stream gave a sign of life."""

    position: int
    at: float = math.inf
    """When, on the clock of the run."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The server ended a stream with OK."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A stream ended with an error that no further attempt helps against."""

    error: str
    code: str = ""
    """Status code, such as `NOT_FOUND`."""
    at: float = math.inf
    """When, on the clock of the run."""


Record = Opened | Snapshot | Told | Heartbeat | Ended | Refused
"""One thing that happened to a watcher."""


@dataclass(slots=True)
class Recording:
    """Everything that happened to a watcher, in order.

    A raw watcher records each stream from `Opened` on. A watch of the client library hides its streams: its recording has one
    `Opened` at most, where it began with a token, and no heartbeats.
    """

    watcher: str
    scope: Scope
    records: list[Record] = field(default_factory=list)
    left_early: bool = False
    """Whether the watcher left of its own will, so that it had to be told no more than it was."""
    hides_streams: bool = False
    """Whether it is one of the client library."""

    @property
    def start(self) -> int | None:
        """Revision after which everything has to be told. None: nothing was ever told."""
        for record in self.records:
            match record:
                case Opened(after=int(position)) | Heartbeat(position):
                    return position
                case Snapshot(event):
                    return event.revision
                case Told(event):
                    return event.revision - 1
        return None

    @property
    def end(self) -> int | None:
        """Position of the last token. None: the client keeps them to itself."""
        for record in reversed(self.records):
            if isinstance(record, Snapshot | Told | Heartbeat) and record.position is not None:
                return record.position
        return None

    @property
    def ends_in_states(self) -> bool:
        """Whether a watch of the library ended with a state in place of history: the token for that had not come yet."""
        return self.hides_streams and bool(self.records) and isinstance(self.records[-1], Snapshot)

    def told(self) -> Iterator[Event]:
        """Yield the events that were told, snapshots left out."""
        return (record.event for record in self.records if isinstance(record, Told))

    def streams(self) -> list[tuple[Opened, list[Record]]]:
        """Return each stream with what it brought."""
        found: list[tuple[Opened, list[Record]]] = []
        for record in self.records:
            if isinstance(record, Opened):
                found.append((record, []))
            elif found:
                found[-1][1].append(record)
        return found


@dataclass(frozen=True)
class Truth:
    """What really happened: the whole history, as the store keeps it."""

    events: tuple[Event, ...]
    """Every event, in the order of revisions."""
    acknowledged: tuple[Event, ...] = ()
    """Changes whose caller was told that they are committed."""
    marks: tuple[tuple[float, int], ...] = ()
    """Up to which revision the history was compacted, and when that was seen: each further than the one before."""
    seen_at: Mapping[int, float] = field(default_factory=dict)
    """When an event was seen in the store, by revision."""

    @cached_property
    def by_revision(self) -> dict[int, Event]:
        """The events by revision."""
        return {event.revision: event for event in self.events}

    @cached_property
    def by_job(self) -> dict[str, tuple[Event, ...]]:
        """The events of each job."""
        found: dict[str, list[Event]] = {}
        for event in self.events:
            found.setdefault(event.job, []).append(event)
        return {job: tuple(events) for job, events in found.items()}

    @cached_property
    def last(self) -> int:
        """Revision of the last event."""
        return self.events[-1].revision if self.events else 0

    @cached_property
    def deletions(self) -> dict[str, Event]:
        """The deletion of each job that was deleted."""
        return {event.job: event for event in self.events if event.deletes}

    def compacted(self, at: float) -> int:
        """Return the revision up to which the history could be gone at some moment."""
        times = [time for time, _ in self.marks]
        count = bisect_right(times, at + SLACK)
        return self.marks[count - 1][1] if count else 0

    def was_deleted(self, job: str, at: float) -> bool:
        """Return whether a job could be deleted at some moment."""
        deletion = self.deletions.get(job)
        return deletion is not None and self.seen_at.get(deletion.revision, 0.0) - SLACK <= at

    def could_be_gone(self, event: Event, at: float) -> bool:
        """Return whether a deletion could have taken an event away at some moment. The deletion itself stays."""
        return not event.deletes and self.was_deleted(event.job, at)

    def state(self, job: str, revision: int) -> Event | None:
        """Return the last event of a job up to a revision; None if it is not there, or not any more."""
        events = [event for event in self.by_job[job] if event.revision <= revision]
        return events[-1] if events and not events[-1].deletes else None

    def next(self, scope: Scope, after: int) -> Event | None:
        """Return the first event after a revision that a watcher can be told."""
        events = self.events if scope.job is None else self.by_job.get(scope.job, ())
        return next((event for event in events if event.revision > after and scope.covers(event)), None)

    def due(self, scope: Scope, after: int) -> list[Event]:
        """Return what a watcher has to be told after a revision: for one job, up to its first final event."""
        if scope.job is None:
            return [event for event in self.events if event.revision > after and scope.covers(event)]
        due = []
        for event in self.by_job.get(scope.job, ()):
            if event.revision > after:
                due.append(event)
            if event.is_final:
                break
        return due
