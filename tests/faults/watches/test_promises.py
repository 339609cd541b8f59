"""The checkers find what they are there to find, and nothing in what is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.watches.promises import PROMISES, history_violations, violations
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
    Truth,
)

A, B = "jobs/a", "jobs/b"
HISTORY = (
    Event(1, A, "INITIALIZING"),
    Event(2, B, "INITIALIZING", tags=("t",)),
    Event(3, A, "QUEUED"),
    Event(4, A, "QUEUED", name="n"),
    Event(5, B, "DONE", tags=("t",)),
    Event(6, A, "RUNNING", name="n"),
    Event(7, A, "DONE", name="n"),
    Event(8, A, "DONE", name="later"),
)
TRUTH = Truth(HISTORY)
EVENT = TRUTH.by_revision

DELETED = Event(9, B, "DONE", tags=("t",), deletes=True)
LATER = (DELETED, Event(10, A, "DONE", name="last"))
COMPACTED = Truth((*HISTORY, *LATER), marks=((10.0, 2), (20.0, 6)), seen_at={9: 15.0})
"""The same history with a job that is deleted, which was seen at 15 s; up to 2 it is gone after 10 s, up to 6 after 20 s."""
ALL = COMPACTED.by_revision


def told(revision: int) -> Told:
    return Told(EVENT[revision], revision)


def job_watch(*records: Record, job: str = A) -> Recording:
    return Recording("w", Scope(job=job), list(records))


def filter_watch(*records: Record, tag: str | None = None) -> Recording:
    return Recording("w", Scope(tag=tag), list(records))


def broken(recording: Recording, truth: Truth = TRUTH) -> set[str]:
    return {violation.promise for violation in violations([recording], truth)}


SOUND: dict[str, Recording] = {
    "a whole watch": job_watch(
        Opened(), Snapshot(EVENT[1], 1), told(3), Heartbeat(3), told(4), told(6), told(7), Ended()
    ),
    "one that was cut after an event": job_watch(
        Opened(), Snapshot(EVENT[3], 3), told(4), Opened(4), Opened(4), told(6), told(7), Ended()
    ),
    "one that was cut after a heartbeat": job_watch(
        Opened(), Snapshot(EVENT[3], 3), Heartbeat(3), Opened(3), told(4), Heartbeat(5), Opened(5), told(6), told(7)
    ),
    "one that began when the job was final": job_watch(Opened(), Snapshot(EVENT[8], 8), Ended()),
    "one that began with another watcher's token": job_watch(Opened(4), told(6), told(7), Ended()),
    "one that began with the token of the end": job_watch(Opened(7), Ended()),
    "one that began with that token, and was told what came after": job_watch(Opened(7), told(8), Ended()),
    "one of the library": job_watch(Snapshot(EVENT[4]), Told(EVENT[6]), Told(EVENT[7])),
    "a filter": filter_watch(Opened(), Heartbeat(4), told(5), Heartbeat(5), told(6), Opened(6), told(7), told(8)),
    "a filter that matches little": filter_watch(Opened(), Heartbeat(1), told(2), told(5), Heartbeat(8), tag="t"),
    "a filter that matches nothing": filter_watch(Opened(), Heartbeat(1), Heartbeat(8), tag="nobody"),
    "one that left early": replace(filter_watch(Opened(1), told(2), told(3)), left_early=True),
}

A_WITHOUT_ITS_PAST = job_watch(
    Opened(), Snapshot(EVENT[1], 1), told(3), Opened(3), Snapshot(EVENT[6], 6, at=21), told(7), Ended()
)


def later(revision: int, at: float = 30.0) -> Told:
    return Told(ALL[revision], revision, at)


SOUND_WITH_COMPACTION: dict[str, Recording] = {
    "the state of a job in place of what is gone": A_WITHOUT_ITS_PAST,
    "the same told by the library": replace(
        job_watch(Snapshot(EVENT[1], 1), Told(EVENT[3], 3, 5), Snapshot(EVENT[6], 6, 21), Told(EVENT[7], 7, 22)),
        hides_streams=True,
    ),
    "the states of all jobs": filter_watch(
        Opened(1), Snapshot(EVENT[7], 1, 22), Snapshot(EVENT[5], 1, 22), Heartbeat(7, 22), later(8), later(9), later(10)
    ),
    "states that are cut, and come again": filter_watch(
        Opened(1),
        Snapshot(EVENT[7], 1, 22),
        Opened(1),
        Snapshot(EVENT[7], 1, 23),
        Snapshot(EVENT[5], 1, 23),
        Heartbeat(7, 23),
        *map(later, (8, 9, 10)),
    ),
    "a state newer than the others, whose stream is cut": filter_watch(
        Opened(1),
        Snapshot(EVENT[8], 1, 22),
        Snapshot(EVENT[5], 1, 22),
        Heartbeat(7, 22),
        Opened(7),
        *map(later, (8, 9, 10)),
    ),
    "a state newer than the others, which the stream does not tell again": filter_watch(
        Opened(1), Snapshot(EVENT[8], 1, 22), Snapshot(EVENT[5], 1, 22), Heartbeat(6, 22), later(9), later(10)
    ),
    "a state that the last event made": filter_watch(
        Opened(4),
        later(5, 19),
        Snapshot(EVENT[7], 5, 22),
        Snapshot(EVENT[5], 5, 22),
        Heartbeat(8, 22),
        later(9),
        later(10),
    ),
    "no states, because no job matches": filter_watch(Opened(1), Heartbeat(10, 30), tag="nobody"),
    "no states, because all that matched is deleted": filter_watch(Opened(1), Heartbeat(10, 30), tag="t"),
    "states of the library, whose end it keeps to itself": replace(
        filter_watch(Opened(1), Snapshot(EVENT[7], 1, 22), Snapshot(EVENT[5], 1, 22), *map(later, (8, 9, 10))),
        hides_streams=True,
    ),
    "a library that is told the last event by a state, and leaves": replace(
        filter_watch(Opened(1), Told(EVENT[2], 2, 5), Snapshot(ALL[10], 2, 30)), hides_streams=True
    ),
    "a token that is too old": job_watch(Opened(1), Refused("gone", "OUT_OF_RANGE", 21)),
    "a token that became too old": filter_watch(Opened(1), Told(EVENT[2], 2, 5), Refused("gone", "OUT_OF_RANGE", 25)),
    "a job that is deleted": job_watch(Opened(1), Refused("no such job", "NOT_FOUND", 16), job=B),
    "a job that is deleted before its end is told": job_watch(
        Opened(), Snapshot(EVENT[2], 2), Opened(2), Refused("no such job", "NOT_FOUND", 16), job=B
    ),
    "a job whose deletion is all that is left": job_watch(
        Opened(), Snapshot(EVENT[2], 2), Opened(2), later(9, 16), Ended(), job=B
    ),
    "a deletion that took the past of its job": filter_watch(
        Opened(1), *(Told(EVENT[each], each, 30) for each in (3, 4, 6, 7, 8)), later(9), later(10)
    ),
}

BROKEN: list[tuple[str, str, Recording]] = [
    ("ordered", "two events change places", filter_watch(Opened(0), *map(told, (1, 2, 4, 3, 5, 6, 7, 8)))),
    ("ordered", "an event is late, in a watch of the library", job_watch(*(Told(EVENT[n]) for n in (1, 3, 6, 4, 7)))),
    ("unique", "an event comes twice in a stream", job_watch(Opened(1), told(3), told(3), told(4), told(6), told(7))),
    ("unique", "an event comes again after a cut", job_watch(Opened(1), told(3), Opened(3), told(3), told(4), told(7))),
    ("unique", "the snapshot comes again as an event", job_watch(Opened(), Snapshot(EVENT[6], 6), told(6), told(7))),
    ("reliable", "an event is lost", job_watch(Opened(1), told(3), told(6), told(7), Ended())),
    ("reliable", "an event is lost in a cut", job_watch(Opened(1), told(3), Opened(3), told(6), told(7), Ended())),
    ("reliable", "the newest event is missing", filter_watch(Opened(5), told(6), told(7))),
    ("reliable", "one who left early missed an event", replace(filter_watch(Opened(1), told(3)), left_early=True)),
    ("reliable", "a filter never learns how far it got", filter_watch(Opened(), Heartbeat(1), tag="nobody")),
    ("reliable", "an event never happened", job_watch(Opened(4), told(6), Told(Event(7, A, "ERROR"), 7))),
    ("reliable", "the snapshot is of no revision", job_watch(Opened(), Snapshot(Event(6, A, "QUEUED"), 6), told(7))),
    ("reliable", "a filter lets too much through", filter_watch(Opened(3), told(4), told(5), tag="t")),
    ("reliable", "nothing ever came", job_watch(Opened(), Opened())),
    ("resumable", "a token is refused", job_watch(Opened(1), told(3), Opened(3), Refused("INVALID_RESUME_TOKEN"))),
    ("resumable", "a stream begins before its token", job_watch(Opened(1), told(3), told(4), Opened(4), told(4))),
    ("resumable", "a stream begins too late", filter_watch(Opened(3), told(4), Opened(4), told(6), told(7), told(8))),
    (
        "bookmarkable",
        "an event comes after its heartbeat",
        job_watch(Opened(1), told(3), Heartbeat(5), told(4), told(7)),
    ),
    (
        "bookmarkable",
        "the same over a cut",
        filter_watch(Opened(3), told(4), Heartbeat(6), Opened(6), told(5), told(6)),
    ),
    (
        "bookmarkable",
        "a heartbeat goes back",
        filter_watch(Opened(4), told(5), told(6), Heartbeat(5), told(7), told(8)),
    ),
    ("bookmarkable", "an event has an older token", filter_watch(Opened(6), Told(EVENT[7], 6), told(8))),
    ("final", "the stream ends before the job does", job_watch(Opened(4), told(6), Ended())),
    ("final", "the last event never comes", job_watch(Opened(4), told(6), Heartbeat(8))),
    ("final", "something follows the end", job_watch(Opened(4), told(6), told(7), told(8), Ended())),
]

BROKEN_WITH_COMPACTION: list[tuple[str, str, Recording]] = [
    (
        "resumable",
        "a state in place of what is there",
        job_watch(Opened(), Snapshot(EVENT[1], 1), told(3), Opened(3), Snapshot(EVENT[6], 6, at=18), told(7), Ended()),
    ),
    (
        "resumable",
        "states of all jobs in place of what is there",
        filter_watch(
            Opened(6),
            Snapshot(EVENT[7], 6, 22),
            Snapshot(EVENT[5], 6, 22),
            Heartbeat(7, 22),
            later(8),
            later(9),
            later(10),
        ),
    ),
    (
        "reliable",
        "the state of a job is missing",
        filter_watch(Opened(1), Snapshot(EVENT[5], 1, 14), Heartbeat(7, 14), later(8), later(9), later(10)),
    ),
    (
        "reliable",
        "all states are missing",
        filter_watch(Opened(1), Heartbeat(8, 22), later(9), later(10)),
    ),
    (
        "reliable",
        "an event is lost behind the states",
        filter_watch(
            Opened(1), Snapshot(EVENT[7], 1, 22), Snapshot(EVENT[5], 1, 22), Heartbeat(7, 22), later(9), later(10)
        ),
    ),
    (
        "reliable",
        "an event is lost before anything is gone",
        filter_watch(
            Opened(1), Told(EVENT[2], 2, 5), Heartbeat(4, 5), *(Told(ALL[n], n, 6) for n in (5, 6, 7, 8, 9, 10))
        ),
    ),
    (
        "reliable",
        "an event of a job is lost before it is deleted",
        filter_watch(
            Opened(3), Told(EVENT[4], 4, 5), Told(EVENT[6], 6, 6), *(Told(ALL[n], n, 16) for n in (7, 8, 9, 10))
        ),
    ),
    (
        "reliable",
        "a deletion is lost",
        filter_watch(Opened(7), later(8), later(10), Heartbeat(10, 30)),
    ),
    (
        "resumable",
        "the library is told the last event by a state before anything is gone",
        replace(filter_watch(Opened(7), later(8, 5), later(9, 15), Snapshot(ALL[10], 9, 30)), hides_streams=True),
    ),
    (
        "unique",
        "a state comes again as an event",
        filter_watch(
            Opened(1),
            Snapshot(EVENT[8], 1, 22),
            Snapshot(EVENT[5], 1, 22),
            Heartbeat(7, 22),
            *map(later, (8, 9, 10)),
        ),
    ),
    (
        "unique",
        "the library tells a state again",
        replace(
            filter_watch(Snapshot(EVENT[7], 1, 22), Snapshot(EVENT[7], 1, 22), *map(later, (8, 9, 10))),
            hides_streams=True,
        ),
    ),
    (
        "ordered",
        "a state is older than what was told",
        filter_watch(Opened(5), later(6), later(7), Snapshot(EVENT[6], 7, 30), Heartbeat(8, 30), later(9), later(10)),
    ),
    (
        "bookmarkable",
        "states go back to an older token",
        filter_watch(
            Opened(1),
            Told(EVENT[2], 2, 5),
            Snapshot(EVENT[7], 1, 22),
            Snapshot(EVENT[5], 1, 22),
            Heartbeat(7, 22),
            *map(later, (8, 9, 10)),
        ),
    ),
    (
        "resumable",
        "a token is refused whose history is there",
        job_watch(Opened(2), Refused("gone", "OUT_OF_RANGE", 15)),
    ),
    ("resumable", "a job is refused that is there", job_watch(Opened(2), Refused("no such job", "NOT_FOUND", 30))),
    ("resumable", "a job is refused before it is deleted", job_watch(Opened(2), Refused("no", "NOT_FOUND", 13), job=B)),
    ("final", "the job is deleted, and nobody says so", job_watch(Opened(2), Heartbeat(10, 30), job=B)),
]


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_recording_breaks_no_promise(name: str) -> None:
    assert violations([SOUND[name]], TRUTH) == []


@pytest.mark.parametrize(("promise", "case", "recording"), BROKEN, ids=[f"{each[0]}: {each[1]}" for each in BROKEN])
def test_a_broken_promise_is_found(promise: str, case: str, recording: Recording) -> None:
    assert promise in broken(recording)


@pytest.mark.parametrize("name", SOUND_WITH_COMPACTION)
def test_what_is_gone_need_not_be_told(name: str) -> None:
    assert violations([SOUND_WITH_COMPACTION[name]], COMPACTED) == []


@pytest.mark.parametrize(
    ("promise", "case", "recording"),
    BROKEN_WITH_COMPACTION,
    ids=[f"{each[0]}: {each[1]}" for each in BROKEN_WITH_COMPACTION],
)
def test_compactions_and_deletions_excuse_nothing_else(promise: str, case: str, recording: Recording) -> None:
    assert promise in broken(recording, COMPACTED)


def test_each_promise_has_a_history_that_breaks_it() -> None:
    assert {promise for promise, _, _ in BROKEN} == set(PROMISES)


@pytest.mark.parametrize(
    ("promise", "truth"),
    [
        ("kept", Truth(HISTORY, acknowledged=(Event(9, A, "DONE"),))),
        ("kept", Truth(HISTORY, acknowledged=(replace(HISTORY[3], name="another"),))),
        ("kept", Truth((*HISTORY[:3], HISTORY[2], *HISTORY[3:]))),
        ("final", Truth(HISTORY[:6])),
        ("final", Truth((*HISTORY, Event(9, B, "ERROR", tags=("t",))))),
    ],
)
def test_a_broken_history_is_found(promise: str, truth: Truth) -> None:
    assert {violation.promise for violation in history_violations(truth)} == {promise}


def test_a_whole_history_breaks_no_promise() -> None:
    assert history_violations(replace(TRUTH, acknowledged=HISTORY)) == []


# What follows makes up histories, and watchers that are cut at random.

_TAGS = ((), ("t",))


@st.composite
def truths(draw: st.DrawFn) -> Truth:
    """Interleaved jobs with gaps between the revisions; each ends, and may be changed afterwards."""
    jobs = {f"jobs/{number}": draw(st.integers(2, 6)) for number in range(draw(st.integers(1, 4)))}
    turns = draw(st.permutations([job for job, count in jobs.items() for _ in range(count)]))
    left, revision = dict(jobs), 0
    events: list[Event] = []
    for job in turns:
        left[job] -= 1
        revision += draw(st.integers(1, 3))
        final = left[job] < draw(st.integers(1, 2)) or any(each.job == job and each.is_final for each in events)
        events.append(Event(revision, job, "DONE" if final else "QUEUED", str(revision), draw(st.sampled_from(_TAGS))))
    return Truth(tuple(events))


@st.composite
def watches(draw: st.DrawFn) -> tuple[Truth, Recording]:
    """A history and a sound recording of it, with cuts and heartbeats anywhere."""
    truth = draw(truths())
    job = draw(st.sampled_from([None, *truth.by_job]))
    scope = Scope(job=job, tag=draw(st.sampled_from([None, "t"])) if job is None else None)
    first = truth.by_job[job][0].revision if job else 0
    begin = draw(st.integers(first, max(first, truth.due(scope, 0)[-1].revision - 1 if truth.due(scope, 0) else first)))
    records: list[Record] = [Opened(begin)]
    position = begin
    for event in truth.due(scope, begin):
        while draw(st.booleans()):
            if draw(st.booleans()):
                position = draw(st.integers(position, event.revision - 1))
                records.append(Heartbeat(position))
            else:
                records.append(Opened(position))
        records.append(Told(event, event.revision))
        position = event.revision
    if job is not None:
        records.append(Ended())
    else:
        records.append(Heartbeat(max(truth.last, begin)))
    return truth, Recording("w", scope, records)


def _events_of(recording: Recording) -> list[int]:
    return [index for index, record in enumerate(recording.records) if isinstance(record, Told)]


@given(watches())
def test_no_cut_and_no_heartbeat_breaks_a_promise(made: tuple[Truth, Recording]) -> None:
    truth, recording = made
    assert violations([recording], truth) == []


def _drop(records: list[Record], index: int) -> None:
    del records[index]


def _repeat(records: list[Record], index: int) -> None:
    records.insert(index + 1, records[index])


def _overtake(records: list[Record], index: int) -> None:
    event = records[index].event  # type: ignore[union-attr]
    records.insert(index, Heartbeat(event.revision))


def _invent(records: list[Record], index: int) -> None:
    record = records[index]
    assert isinstance(record, Told)
    records[index] = replace(record, event=replace(record.event, name="invented"))


@pytest.mark.parametrize(
    ("promise", "harm"),
    [("reliable", _drop), ("unique", _repeat), ("bookmarkable", _overtake), ("reliable", _invent)],
)
@given(made=watches(), data=st.data())
def test_harm_to_any_event_of_any_watch_is_found(
    made: tuple[Truth, Recording], data: st.DataObject, promise: str, harm: Callable[[list[Record], int], None]
) -> None:
    truth, recording = made
    if places := _events_of(recording):
        harm(recording.records, data.draw(st.sampled_from(places)))
        assert promise in broken(recording, truth)


@given(made=watches(), data=st.data())
def test_two_events_of_a_job_that_changed_places_are_found(made: tuple[Truth, Recording], data: st.DataObject) -> None:
    truth, recording = made
    places = [
        (early, late)
        for early, late in zip(_events_of(recording), _events_of(recording)[1:], strict=False)
        if recording.records[early].event.job == recording.records[late].event.job  # type: ignore[union-attr]
    ]
    if places:
        early, late = data.draw(st.sampled_from(places))
        records = recording.records
        records[early], records[late] = records[late], records[early]
        assert "ordered" in broken(recording, truth)


@given(made=watches())
def test_the_watch_of_a_job_without_its_end_is_found(made: tuple[Truth, Recording]) -> None:
    truth, recording = made
    places = _events_of(recording)
    if recording.scope.job is not None and places:
        del recording.records[places[-1] :]
        assert {"reliable", "final"} <= broken(recording, truth)
