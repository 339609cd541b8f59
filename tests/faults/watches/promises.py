"""One checker for each promise of a watch: it looks at one recording and yields what breaks the promise.

The promises are those of etcd's watch (ordered, unique, reliable, resumable, bookmarkable), and that the watch of a job ends with
its final event. `history_violations` checks what watchers rely on: that the history itself is whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tests.faults.watches.recording import (
    Ended,
    Event,
    Heartbeat,
    Opened,
    Record,
    Recording,
    Refused,
    Snapshot,
    Told,
    Truth,
)


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was not kept."""

    promise: str
    watcher: str
    text: str
    """What happened, for people."""


Checker = Callable[[Recording, Truth], Iterator[str]]


def ordered(recording: Recording, truth: Truth) -> Iterator[str]:
    """The events of a job come in the order of their revisions."""
    newest: dict[str, int] = {}
    seen: set[tuple[str, int]] = set()
    for event in _events(recording):
        key = event.job, event.revision
        if key not in seen and event.revision < newest.get(event.job, 0):
            yield f"{event.job}: {event.revision} came after {newest[event.job]}"
        seen.add(key)
        newest[event.job] = max(newest.get(event.job, 0), event.revision)


def unique(recording: Recording, truth: Truth) -> Iterator[str]:
    """An event is told once."""
    seen: set[tuple[str, int]] = set()
    for event in _events(recording):
        key = event.job, event.revision
        if key in seen:
            yield f"{event.job}: {event.revision} came again"
        seen.add(key)


def reliable(recording: Recording, truth: Truth) -> Iterator[str]:
    """Everything between the first token and now is told, as it happened, and nothing else."""
    start = recording.start
    if start is None:
        yield "nothing was ever told"
        return
    told = {event.revision for event in recording.told()}
    gaps = list(_declared_gaps(recording))
    end = recording.end
    for event in truth.due(recording.scope, start):
        if recording.left_early and end is not None and event.revision > end:
            break
        if event.revision not in told and not any(low < event.revision <= high for low, high in gaps):
            yield f"{event.job}: {event.revision} ({event.status}) was never told"
    for event in _events(recording):
        if truth.by_revision.get(event.revision) != event:
            yield f"{event.job}: {event.revision} was told as {event}, and is {truth.by_revision.get(event.revision)}"
        elif not recording.scope.covers(event):
            yield f"{event.job}: {event.revision} was told to a watcher of {recording.scope}"
    if recording.scope.job is None and not recording.left_early and end is not None and end < truth.last:
        yield f"the last token stands for {end}, and the last event is {truth.last}"


def resumable(recording: Recording, truth: Truth) -> Iterator[str]:
    """A token is always taken, and its stream goes on with the next event after it."""
    for opened, brought in recording.streams():
        for record in brought:
            if isinstance(record, Refused):
                yield f"the stream after {opened.after} was refused: {record.error}"
        if opened.after is None:
            continue
        # A snapshot in a resumed stream says that the history after its token is gone.
        first = next((record for record in brought if isinstance(record, Told | Snapshot)), None)
        if isinstance(first, Told):
            due = truth.next(recording.scope, opened.after)
            if due is None or first.event.revision != due.revision:
                expected = due and due.revision
                yield f"the stream after {opened.after} went on with {first.event.revision} instead of {expected}"


def bookmarkable(recording: Recording, truth: Truth) -> Iterator[str]:
    """What a token stands for is told before it, and never after it."""
    bookmark, last = 0, 0
    for record in recording.records:
        if isinstance(record, Told) and record.event.revision <= bookmark:
            yield f"{record.event.job}: {record.event.revision} came after the heartbeat at {bookmark}"
        if (position := _position(record)) is not None:
            if position < last:
                yield f"the token went back from {last} to {position}"
            last = max(last, position)
        if isinstance(record, Heartbeat):
            bookmark = max(bookmark, record.position)
        if isinstance(record, Told) and record.position is not None and record.position < record.event.revision:
            yield f"{record.event.job}: {record.event.revision} came with the token of {record.position}"


def final(recording: Recording, truth: Truth) -> Iterator[str]:
    """The watch of a job ends with its final event."""
    if recording.scope.job is None or recording.left_early or _began_after_the_end(recording, truth):
        return
    reached: Event | None = None
    for record in recording.records:
        if reached is not None and isinstance(record, Told | Snapshot):
            yield f"{record.event.job}: {record.event.revision} came after the final {reached.revision}"
        elif isinstance(record, Told | Snapshot) and record.event.is_final:
            reached = record.event
        elif isinstance(record, Ended) and reached is None:
            yield f"{recording.scope.job}: the stream ended without a final event"
    if reached is None:
        yield f"{recording.scope.job}: no final event came"


PROMISES: dict[str, Checker] = {
    "ordered": ordered,
    "unique": unique,
    "reliable": reliable,
    "resumable": resumable,
    "bookmarkable": bookmarkable,
    "final": final,
}
"""The checkers by the name of their promise."""


def violations(recordings: Iterable[Recording], truth: Truth) -> list[Violation]:
    """Check all recordings for all promises."""
    return [
        Violation(promise, recording.watcher, text)
        for recording in recordings
        for promise, check in PROMISES.items()
        for text in check(recording, truth)
    ]


def history_violations(truth: Truth) -> list[Violation]:
    """Check the history itself: revisions never repeat, what was acknowledged is there, and each job ends once, for good."""
    found = []
    for before, event in zip(truth.events, truth.events[1:], strict=False):
        if event.revision <= before.revision:
            found.append(Violation("kept", "store", f"revision {event.revision} follows {before.revision}"))
    found += [
        Violation("kept", "store", f"{event} was acknowledged, and is gone")
        for event in truth.acknowledged
        if truth.by_revision.get(event.revision) != event
    ]
    for job, events in truth.by_job.items():
        ends = [event for event in events if event.is_final]
        if not ends:
            found.append(Violation("final", "store", f"{job} has no final event"))
        elif any(event.status != ends[0].status for event in events if event.revision > ends[0].revision):
            found.append(Violation("final", "store", f"{job} left its final status {ends[0].status}"))
    return found


def _began_after_the_end(recording: Recording, truth: Truth) -> bool:
    match recording.records:
        case [Opened(after=int(start)), *_]:
            return not truth.due(recording.scope, start)
    return False


def _events(recording: Recording) -> Iterator[Event]:
    return (record.event for record in recording.records if isinstance(record, Told | Snapshot))


def _position(record: Record) -> int | None:
    return record.position if isinstance(record, Told | Snapshot | Heartbeat) else None


def _declared_gaps(recording: Recording) -> Iterator[tuple[int, int]]:
    """Yield what snapshots skipped, where a stream was resumed and its history was gone: from the token to the snapshot."""
    after: int | None = None
    for record in recording.records:
        match record:
            case Opened():
                after = record.after
            case Told() | Heartbeat():
                after = None
            case Snapshot(event) if after is not None:
                yield after, event.revision
