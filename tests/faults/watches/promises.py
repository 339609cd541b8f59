"""One checker for each promise of a watch: it looks at one recording and yields what breaks the promise.

The promises are those of etcd's watch (ordered, unique, reliable, resumable, bookmarkable), and that the watch of a job ends with
its final event. `history_violations` checks what watchers rely on: that the history itself is whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.faults.watches.gaps import gaps, is_explained, is_refused_rightly, missing_states, passed_at
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
    for before, once, event in _with_memory(recording):
        if event.revision not in once and event.revision < max(before, default=0):
            yield f"{event.job}: {event.revision} came after {max(before)}"


def unique(recording: Recording, truth: Truth) -> Iterator[str]:
    """An event is told once."""
    for _, once, event in _with_memory(recording):
        if event.revision in once:
            yield f"{event.job}: {event.revision} came again"


def reliable(recording: Recording, truth: Truth) -> Iterator[str]:
    """Everything between the first token and now is told, as it happened, and nothing else. What is gone is told by states."""
    left_early = recording.left_early or is_refused_rightly(recording, truth)
    start, end = recording.start, recording.end
    if start is None:
        if not left_early:
            yield "nothing was ever told"
        return
    due = truth.due(recording.scope, start)
    if left_early:
        last = start if end is None else end
        due = [event for event in due if event.revision <= last]
    yield from _lost(recording, truth, due)
    for event in _events(recording):
        if truth.by_revision.get(event.revision) != event:
            yield f"{event.job}: {event.revision} was told as {event}, and is {truth.by_revision.get(event.revision)}"
        elif not recording.scope.covers(event):
            yield f"{event.job}: {event.revision} was told to a watcher of {recording.scope}"
    if left_early or recording.scope.job is not None or recording.ends_in_states:
        return
    if end is not None and end < truth.last:
        yield f"the last token stands for {end}, and the last event is {truth.last}"


def resumable(recording: Recording, truth: Truth) -> Iterator[str]:
    """A token is always taken, and its stream goes on with the next event after it, for as long as its history is there."""
    refused = next((record for record in recording.records if isinstance(record, Refused)), None)
    if refused is not None and not is_refused_rightly(recording, truth):
        yield f"the watch was refused: {refused.error}"
    for gap in gaps(recording, truth):
        if not is_explained(gap, truth):
            yield f"states were told up to {gap.high}, though the history after {gap.low} is there"
    for opened, brought in recording.streams():
        if opened.after is None or recording.hides_streams:
            continue
        # `gaps` looks at streams that begin with states, or with a heartbeat in place of them.
        first = next((record for record in brought if isinstance(record, Told | Snapshot | Heartbeat)), None)
        if isinstance(first, Told):
            due = truth.next(recording.scope, opened.after)
            while due is not None and due != first.event and truth.could_be_gone(due, first.at):
                due = truth.next(recording.scope, due.revision)
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
    if is_refused_rightly(recording, truth):
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


def store_violations(stored: Truth, truth: Truth, compacted: int) -> list[Violation]:
    """Check that the store still has what neither a compaction nor a deletion takes: no more is gone, and nothing is altered."""
    found = [
        Violation("kept", "store", f"{event} is in the store, and was never seen")
        for event in stored.events
        if truth.by_revision.get(event.revision) != event
    ]
    found += [
        Violation("kept", "store", f"{event} is gone from the store")
        for event in truth.events
        if event.revision not in stored.by_revision and _has_to_stay(event, truth, compacted)
    ]
    return found


def listing_violations(listed: Mapping[str, Sequence[int]], truth: Truth, compacted: int) -> list[Violation]:
    """Check what ListJobEvents told of each job at the end."""
    found = []
    for job, events in truth.by_job.items():
        if job in truth.deletions:
            continue
        told, all_of_it = list(listed.get(job, ())), [event.revision for event in events]
        due = {event.revision for event in events if _has_to_stay(event, truth, compacted)}
        if told != [revision for revision in all_of_it if revision in told] or not due <= set(told):
            found.append(Violation("reliable", "ListJobEvents", f"{job} is listed with {told}, and has {all_of_it}"))
    return found


def _has_to_stay(event: Event, truth: Truth, compacted: int) -> bool:
    """Return whether neither compaction nor deletion may take an event: the last one of a job that has ended stays."""
    if truth.could_be_gone(event, math.inf):
        return False
    is_last = event.is_final and not event.deletes and event == truth.by_job[event.job][-1]
    return event.revision > compacted or is_last


def _began_after_the_end(recording: Recording, truth: Truth) -> bool:
    match recording.records:
        case [Opened(after=int(start)), *_]:
            return not truth.due(recording.scope, start)
    return False


def _events(recording: Recording) -> Iterator[Event]:
    return (record.event for record in recording.records if isinstance(record, Told | Snapshot))


def _position(record: Record) -> int | None:
    return record.position if isinstance(record, Told | Snapshot | Heartbeat) else None


def _lost(recording: Recording, truth: Truth, due: Iterable[Event]) -> Iterator[str]:
    """Yield what was due and not told, neither by itself nor by the states that stand for what is gone."""
    told = {event.revision for event in recording.told()}
    found = list(gaps(recording, truth))
    # A gap without a state is none, unless it hides something.
    gaps_told = {id(gap) for gap in found if gap.states}
    for event in due:
        if event.revision in told or truth.could_be_gone(event, passed_at(recording, event.revision)):
            continue
        gap = next((gap for gap in found if gap.low < event.revision <= gap.high), None)
        if gap is None and any(gap.supersedes(event) for gap in found):
            continue
        if gap is None:
            yield f"{event.job}: {event.revision} ({event.status}) was never told"
        else:
            gaps_told.add(id(gap))
    for gap in found:
        if id(gap) in gaps_told:
            for state in missing_states(recording, gap, truth):
                yield f"{state.job}: its state {state.revision} was never told, in place of what is gone up to {gap.high}"


def _with_memory(recording: Recording) -> Iterator[tuple[set[int], set[int], Event]]:
    """Yield each event with the revisions of its job before it: all that it must follow, and those that must not come again.

    The states of many jobs come again, and older events after them, if a raw stream breaks before their end: its client is to know
    them by job, as the library does. And the state of a job can be what the last event made it.
    """
    told: dict[str, set[int]] = {}
    states: dict[str, set[int]] = {}
    is_raw_filter = recording.scope.job is None and not recording.hides_streams
    for record in recording.records:
        match record:
            case Opened() if is_raw_filter:
                states.clear()
            case Snapshot(event):
                known = states.setdefault(event.job, set())
                before = told.get(event.job, set()) | known
                yield before, known if is_raw_filter else before, event
                known.add(event.revision)
            case Told(event):
                before = told.setdefault(event.job, set()) | states.get(event.job, set())
                yield before, before, event
                told[event.job].add(event.revision)
