"""Takes down what happens to watchers while they run. What their tokens stand for is found out afterwards."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Literal

from qgateway.v1 import job_pb2

from tests.faults.watches.recording import (
    Ended,
    Event,
    Heartbeat,
    Opened,
    Record,
    Recording,
    Refused,
    Scope,
    Snapshot,
    Told,
)

_Kind = Literal["opened", "snapshot", "told", "heartbeat", "ended", "refused"]
_POOL = 500
"""Tokens that are kept of each scope, for watchers to come."""


def event_of(message: job_pb2.JobEvent) -> Event:
    """Return an event of the wire as the checks see it."""
    return job_event(message.job, message.revision, deletes=message.type == job_pb2.JobEvent.TYPE_DELETED)


def job_event(job: job_pb2.Job, revision: int, *, deletes: bool = False) -> Event:
    """Return the event that made a job what it is."""
    status = job_pb2.JobStatus.Name(job.status).removeprefix("JOB_STATUS_")
    return Event(revision, job.name, status, job.display_name, tuple(job.tags), deletes=deletes)


class Tape:
    """What happened to one watcher, in order, with the tokens as they are."""

    def __init__(self, watcher: str, scope: Scope, *, hides_streams: bool = False) -> None:
        self.watcher = watcher
        self.scope = scope
        self.hides_streams = hides_streams
        self.entries: list[tuple[_Kind, Event | None, str]] = []
        self._times: list[float] = []
        self._code = ""
        self.left_early = False
        """Whether the watcher left of its own will."""

    def opened(self, token: str) -> None:
        """Take down that a stream was opened, with a token or without one (empty)."""
        self._add("opened", None, token)

    def event(self, message: job_pb2.JobEvent, token: str) -> Event:
        """Take down an event or a snapshot; return it."""
        event = event_of(message)
        self._add("snapshot" if message.type == job_pb2.JobEvent.TYPE_SNAPSHOT else "told", event, token)
        return event

    def heartbeat(self, token: str) -> None:
        """Take down a heartbeat."""
        self._add("heartbeat", None, token)

    def ended(self) -> None:
        """Take down that the server ended the stream with OK."""
        self._add("ended", None, "")

    def refused(self, code: str, error: str) -> None:
        """Take down that the watch ended with an error that no further attempt helps against."""
        self._code = code
        self._add("refused", None, error)

    def count(self) -> Counter[str]:
        """Return how many entries there are of each kind."""
        return Counter(kind for kind, _, _ in self.entries)

    def recording(self, position: Callable[[str], int]) -> Recording:
        """Return the recording, with the positions that tokens stand for."""

        def record(kind: _Kind, event: Event | None, text: str, at: float) -> Record:
            match kind, event:
                case "snapshot", Event():
                    return Snapshot(event, position(text) if text else None, at)
                case "told", Event():
                    return Told(event, position(text) if text else None, at)
                case "opened", _:
                    return Opened(position(text) if text else None)
                case "heartbeat", _:
                    return Heartbeat(position(text), at)
                case "ended", _:
                    return Ended()
            return Refused(text, self._code, at)

        records = [record(*entry, at) for entry, at in zip(self.entries, self._times, strict=True)]
        return Recording(self.watcher, self.scope, records, self.left_early, self.hides_streams)

    def _add(self, kind: _Kind, event: Event | None, text: str) -> None:
        self.entries.append((kind, event, text))
        self._times.append(time.monotonic())


class Archive:
    """All tapes of a run, and tokens for watchers who begin where another one was."""

    def __init__(self) -> None:
        self.tapes: list[Tape] = []
        self.seen = 0
        """Events that were told so far."""
        self._tokens: dict[Scope, list[str]] = {}

    def new_tape(self, watcher: str, scope: Scope, *, hides_streams: bool = False) -> Tape:
        """Return a tape for a watch that begins; one of the library hides its streams."""
        self.tapes.append(Tape(watcher, scope, hides_streams=hides_streams))
        return self.tapes[-1]

    def keep(self, scope: Scope, token: str, rng: random.Random) -> None:
        """Keep a token for watchers of the same scope. Of many, some stay, old and new."""
        tokens = self._tokens.setdefault(scope, [])
        if len(tokens) < _POOL:
            tokens.append(token)
        else:
            tokens[rng.randrange(_POOL)] = token

    def token(self, scope: Scope, rng: random.Random) -> str:
        """Return a token that some watcher of this scope was given; empty if there is none."""
        tokens = self._tokens.get(scope)
        return rng.choice(tokens) if tokens else ""
