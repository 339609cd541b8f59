"""The rules of a watch against a model of the gateway: whatever breaks whenever, each event comes once and in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from qgateway._errors import ErrorDetails, GatewayCallError
from qgateway._resume import LONGEST_DELAY
from qgateway._watch_state import ManyJobs, OneJob, QueueUpdate, WatchState, WatchTimeout
from qgateway.v1 import job_pb2, job_service_pb2

INTERVAL = 15.0
JOBS = ("jobs/a", "jobs/b", "jobs/c")


@dataclass
class Gateway:
    """What a gateway knows and answers."""

    many: bool
    log: list[job_pb2.JobEvent] = field(default_factory=list)
    compacted: int = 0
    """Events up to this revision are no longer kept."""

    def change(self, job: str, status: str) -> None:
        revision = len(self.log) + 1
        record = job_pb2.Job(name=job, revision=revision, status=job_pb2.JobStatus.Value(f"JOB_STATUS_{status}"))
        self.log.append(job_pb2.JobEvent(revision=revision, type=job_pb2.JobEvent.TYPE_STATUS_CHANGED, job=record))

    def latest(self, job: str) -> job_pb2.JobEvent | None:
        return next((event for event in reversed(self.log) if event.job.name == job), None)

    def stream(self, request: Any) -> Iterator[Any]:
        """Yield messages, and None where there is nothing to tell; a heartbeat is to be had with `send`."""
        if not request.resume_token:
            after = len(self.log)
            if self.many:
                yield self.beat(after)
            else:
                yield self.snapshot(request.name, str(after))
        else:
            after = int(request.resume_token)
            if after < self.compacted:
                if request.on_compacted != job_service_pb2.ON_COMPACTED_SNAPSHOT:
                    raise GatewayCallError(
                        "gone", code="OUT_OF_RANGE", details=ErrorDetails(reason="HISTORY_COMPACTED")
                    )
                after = len(self.log)
                # As a gateway with many jobs does it: they change while they are read, and come in no order.
                for job in JOBS[::-1] if self.many else (request.name,):
                    if self.latest(job):
                        yield self.snapshot(job, request.resume_token if self.many else str(after))
                yield self.beat(after)
        yield from self.events(request, after)

    def events(self, request: Any, after: int) -> Iterator[Any]:
        while True:
            if after == len(self.log):
                if not self.many and (last := self.latest(request.name)) and last.job.status == job_pb2.JOB_STATUS_DONE:
                    return
                asked = yield None
                if asked:
                    yield self.beat(after)
                continue
            event, after = self.log[after], after + 1
            if self.many or event.job.name == request.name:
                yield self.response(event=event, resume_token=str(after))

    def snapshot(self, job: str, token: str) -> Any:
        event = self.latest(job)
        assert event is not None
        state = job_pb2.JobEvent(revision=event.revision, type=job_pb2.JobEvent.TYPE_SNAPSHOT, job=event.job)
        return self.response(event=state, resume_token=token)

    def beat(self, position: int) -> Any:
        heartbeat = job_service_pb2.WatchHeartbeat(queue=job_pb2.QueueInfo(position=1))
        heartbeat.interval.FromSeconds(int(INTERVAL))
        return self.response(heartbeat=heartbeat, resume_token=str(position))

    def response(self, **fields: Any) -> Any:
        make: Any = job_service_pb2.WatchJobsResponse if self.many else job_service_pb2.WatchJobResponse
        return make(**fields)


class Watching(RuleBasedStateMachine):
    """One watch, one gateway, and all that can go wrong between them."""

    many = False

    @initialize()
    def begin(self) -> None:
        self.now = 1000.0
        self.gateway = Gateway(self.many)
        self.gateway.change(JOBS[0], "QUEUED")
        subject = ManyJobs(job_pb2.JobFilter()) if self.many else OneJob(JOBS[0])
        self.state = WatchState(subject, "target", now=self.now)
        self.delivered: list[job_pb2.JobEvent] = []
        self.knows_interval = self.has_message = False
        self.open()
        self.read()  # the watch has begun when the first message is there
        self.begun_at = len(self.gateway.log)

    def open(self) -> None:
        while True:
            self.stream: Any = self.gateway.stream(self.state.opening(self.now))
            self.ahead: list[Any] = []
            self.has_message = False
            try:
                self.ahead = [message for message in [next(self.stream)] if message is not None]
            except StopIteration:
                self.end()
            except GatewayCallError as error:
                self.interrupt(error)
                continue
            return

    def interrupt(self, error: GatewayCallError) -> None:
        delay = self.state.interrupted(error, self.now)
        assert 0 <= delay <= LONGEST_DELAY + (error.retry_after or 0)
        assert delay >= (error.retry_after or 0) or self.state.finished
        self.now += delay

    def end(self) -> None:
        try:
            self.state.ended()
        except GatewayCallError as error:
            self.interrupt(error)
            self.open()

    def take(self, message: Any) -> None:
        self.now += 0.1
        self.has_message = True
        self.knows_interval |= message.HasField("heartbeat")
        item = self.state.received(message, self.now)
        if item is not None and not isinstance(item, QueueUpdate):
            self.check_new(item)
            self.delivered.append(item)

    def check_new(self, event: job_pb2.JobEvent) -> None:
        of_job = [old.revision for old in self.delivered if old.job.name == event.job.name]
        assert event.revision > max(of_job, default=0), "duplicated or reordered"
        if event.type != job_pb2.JobEvent.TYPE_SNAPSHOT:
            earlier = [old.revision for old in self.delivered if old.type != job_pb2.JobEvent.TYPE_SNAPSHOT]
            assert event.revision > max(earlier, default=0), "reordered"

    @precondition(lambda self: not self.state.finished)
    @rule(job=st.sampled_from(JOBS), status=st.sampled_from(["QUEUED", "RUNNING"]))
    def change(self, job: str, status: str) -> None:
        latest = self.gateway.latest(job)
        if latest is None or latest.job.status != job_pb2.JOB_STATUS_DONE:
            self.gateway.change(job, status)

    @precondition(lambda self: not self.state.finished)
    @rule()
    def read(self) -> None:
        if not self.ahead:
            try:
                self.ahead = [message for message in [next(self.stream)] if message is not None]
            except StopIteration:
                self.end()
                return
        if self.ahead:
            self.take(self.ahead.pop())

    @precondition(lambda self: not self.state.finished and not self.ahead)
    @rule()
    def beat(self) -> None:
        try:
            if next(self.stream) is None and (heartbeat := self.stream.send(True)):
                self.take(heartbeat)
                return
        except StopIteration:
            self.end()
            return
        self.cut("UNAVAILABLE", None)  # what was read there is lost on its way

    @precondition(lambda self: not self.state.finished)
    @rule(
        code=st.sampled_from(["UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL", "CANCELLED"]),
        retry_after=st.none() | st.floats(0, 100),
    )
    def cut(self, code: str, retry_after: float | None) -> None:
        if code in {"INTERNAL", "CANCELLED"}:  # these are borne for a while only: see the tests of the transport
            self.state._backoff.progress()
        self.interrupt(GatewayCallError("cut", code=code, details=ErrorDetails(retry_after=retry_after)))
        if not self.state.finished:
            self.open()

    @precondition(lambda self: not self.state.finished)
    @rule()
    def fall_silent(self) -> None:
        until = self.state.wait_until(self.now)
        if self.knows_interval:
            assert until <= self.now + 2 * INTERVAL
        self.now = until
        self.interrupt(self.state.silent(self.now))
        if not self.state.finished:
            self.open()

    @precondition(lambda self: not self.state.finished)
    @rule(kept=st.integers(0, 3))
    def compact(self, kept: int) -> None:
        self.gateway.compacted = max(self.gateway.compacted, len(self.gateway.log) - kept)

    @invariant()
    def the_token_is_one_that_was_given(self) -> None:
        if hasattr(self, "state"):
            assert int(self.state.resume_token or 0) <= len(self.gateway.log)

    def teardown(self) -> None:
        if not hasattr(self, "state"):
            return
        if not self.many:
            self.gateway.change(JOBS[0], "DONE")
        for _ in range(10 * len(self.gateway.log) + 10):
            if not self.state.finished:
                self.read()
        assert self.state.finished is not self.many
        watched = JOBS if self.many else JOBS[:1]
        for event in self.gateway.log[self.begun_at :]:
            told = [old for old in self.delivered if old.job.name == event.job.name]
            if event.job.name in watched and event.revision not in {old.revision for old in told}:
                snapshots = [old.revision for old in told if old.type == job_pb2.JobEvent.TYPE_SNAPSHOT]
                assert max(snapshots, default=0) > event.revision, "lost"
                assert self.gateway.compacted, "left out though all was kept"


class WatchingMany(Watching):
    many = True


TestOneJob = Watching.TestCase
TestManyJobs = WatchingMany.TestCase
TestOneJob.settings = TestManyJobs.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_the_time_of_the_caller_counts_from_the_beginning() -> None:
    state = WatchState(OneJob("jobs/a"), "target", now=10.0, timeout=5.0)
    state.opening(14.9)
    assert state.wait_until(14.9) == 15.0
    with pytest.raises(WatchTimeout):
        state.silent(15.0)
    with pytest.raises(WatchTimeout):
        state.opening(15.0)


def test_a_wait_never_outlasts_the_time_of_the_caller() -> None:
    state = WatchState(ManyJobs(job_pb2.JobFilter()), "target", now=0.0, timeout=5.0)
    error = GatewayCallError("full", code="RESOURCE_EXHAUSTED", details=ErrorDetails(retry_after=60.0))
    assert state.interrupted(error, 4.0) == 1.0


def test_silence_is_borne_longer_and_longer_where_no_heartbeat_ever_told_the_interval() -> None:
    state = WatchState(OneJob("jobs/a"), "target", now=0.0)
    borne = []
    for _ in range(6):
        borne.append(state.wait_until(0.0))
        state.silent(0.0)
    assert borne == [30, 60, 120, 240, 480, 600]


def test_a_stream_that_breaks_after_each_heartbeat_is_not_taken_up_ever_faster() -> None:
    gateway = Gateway(many=True)
    state = WatchState(ManyJobs(job_pb2.JobFilter()), "target", now=0.0)
    longest = 0.0
    for _ in range(60):
        state.opening(0.0)
        state.received(gateway.beat(0), 0.1)
        longest = max(longest, state.interrupted(GatewayCallError("cut", code="UNAVAILABLE"), 0.2))
    assert longest > LONGEST_DELAY / 2
