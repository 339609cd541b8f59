"""What a watcher need not have been told: a compaction takes history away, and a deletion the history of a job.

A server may skip only what was gone. Where it does, it says so: with the state of the job, with the states of all jobs that
match, or with a refusal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.faults.watches.recording import (
    Event,
    Heartbeat,
    Opened,
    Recording,
    Refused,
    Snapshot,
    Told,
    Truth,
)


@dataclass(slots=True)
class Gap:
    """A span of the history that a watcher was told in another way: by states."""

    low: int
    """Everything up to here was told by events."""
    high: int
    """What is after this is told by events again."""
    at: float
    """When it ended."""
    states: list[Event] = field(default_factory=list)
    """The states that were told."""

    def supersedes(self, event: Event) -> bool:
        """Return whether a state was told that an event led to: a state may be newer than the end of the gap."""
        return event.revision > self.low and any(
            state.job == event.job and state.revision >= event.revision for state in self.states
        )


def gaps(recording: Recording, truth: Truth) -> Iterator[Gap]:
    """Yield what a watcher was told by states, although it knew what came before."""
    return _gaps_of_job(recording) if recording.scope.job is not None else _gaps_of_filter(recording, truth)


def _gaps_of_job(recording: Recording) -> Iterator[Gap]:
    position: int | None = None
    for record in recording.records:
        match record:
            case Opened(after):
                position = after
            case Snapshot(event, told, at):
                if position is not None:
                    yield Gap(position, event.revision, at, [event])
                position = told if told is not None else event.revision
            case Told(event, told):
                position = told if told is not None else event.revision
            case Heartbeat(told):
                position = told


def _gaps_of_filter(recording: Recording, truth: Truth) -> Iterator[Gap]:
    """The states of many jobs end with a heartbeat; a library keeps that to itself, so that its next event tells, or its end.

    States of which there are none cannot be seen: a heartbeat far behind what was gone stands for them.
    """
    position: int | None = None
    states: list[Event] = []
    told_at = 0.0
    for record in recording.records:
        match record:
            case Opened(after):
                position, states = after, []
            case Snapshot(event, _, told_at):
                states.append(event)
            case Heartbeat(told, at):
                if position is not None and (states or position < truth.compacted(at)):
                    yield Gap(position, told, at, states)
                position, states = told, []
            case Told(event, _, at):
                hidden = recording.hides_streams and position is not None
                if hidden and position is not None and (states or position < truth.compacted(at)):
                    yield Gap(position, event.revision - 1, at, states)
                position, states = event.revision, []
    if recording.ends_in_states and position is not None:
        yield Gap(position, max(event.revision for event in states), told_at, states)


def is_explained(gap: Gap, truth: Truth) -> bool:
    """Return whether the history behind the beginning of a gap could be gone when it was told."""
    return gap.low < truth.compacted(gap.at)


def missing_states(recording: Recording, gap: Gap, truth: Truth) -> Iterator[Event]:
    """Yield the states of jobs that a gap leaves out. Jobs that went away, or out of sight, while it was told need not be in it."""
    if recording.scope.job is not None or recording.hides_streams:
        return
    told = {event.job for event in gap.states}
    for job, events in truth.by_job.items():
        state = truth.state(job, gap.high)
        if state is None or job in told or not recording.scope.covers(state):
            continue
        later = [event for event in events if event.revision > gap.high]
        if all(recording.scope.covers(event) and not event.deletes for event in later):
            yield state


def is_refused_rightly(recording: Recording, truth: Truth) -> bool:
    """Return whether a watcher was refused because its history, or its job, was gone."""
    position = recording.start
    for record in recording.records:
        match record:
            case Opened(int(after)):
                position = after
            case Snapshot(position=int(told)) | Told(position=int(told)) | Heartbeat(told):
                position = told
            case Refused(_, "OUT_OF_RANGE", at):
                return position is not None and position < truth.compacted(at)
            case Refused(_, "NOT_FOUND", at):
                return recording.scope.job is not None and truth.was_deleted(recording.scope.job, at)
    return False


def passed_at(recording: Recording, revision: int) -> float:
    """Return when a watcher was first told something behind a revision."""
    for record in recording.records:
        match record:
            case Told(event, _, at) if event.revision > revision:
                return at
            case Heartbeat(position, at) if position >= revision:
                return at
    return math.inf
