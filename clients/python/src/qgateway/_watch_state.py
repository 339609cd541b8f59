"""The rules of a watch: what follows from each thing that happens to it. No I/O, no clock, no threads.

`docs/watch-protocol.md` says the same for other languages. `qgateway._watch` drives it over grpc, `qgateway._aio_watch` over
grpc.aio.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from google.protobuf.timestamp_pb2 import Timestamp

from qgateway._errors import GatewayCallError
from qgateway._resume import LONGEST_DELAY, Backoff, silent_stream
from qgateway.v1 import job_pb2, job_service_pb2, result_pb2

FINAL_STATUSES = frozenset({job_pb2.JOB_STATUS_CANCELLED, job_pb2.JOB_STATUS_DONE, job_pb2.JOB_STATUS_ERROR})
"""Statuses that a job never leaves."""

SMALL_RESULT_BYTES = 256 * 1024
"""Size up to which a result is sent along with an event, or read with one call: a download takes longer for so little."""

FIRST_SILENCE = 30.0
"""Seconds of silence that are borne before a heartbeat has told the interval. They double each time they were too few."""
LONGEST_SILENCE = 600.0
"""What they double up to: two of the longest intervals that a gateway can be set to."""
OPENING_SILENCE = 10.0
"""Seconds that a stream is given at least until its first message: a connection may have to be made before."""
LAST_SILENCE = 5.0
"""Seconds that the end of a stream may take after the final event."""

HISTORY_COMPACTED = "HISTORY_COMPACTED"
"""Reason of a refusal: the history after the token is no longer kept."""


@dataclass(frozen=True, slots=True)
class QueueUpdate:
    """Where a job stands in its queue, as a heartbeat told it."""

    position: int | None = None
    """Position, 0 for the next to run. None if not known."""
    estimated_start: datetime | None = None
    """When the run is expected to begin, aware, UTC."""
    estimated_completion: datetime | None = None
    """When the run is expected to end, aware, UTC."""


WatchItem = job_pb2.JobEvent | QueueUpdate
"""What a watch yields."""

WatchRequest = job_service_pb2.WatchJobRequest | job_service_pb2.WatchJobsRequest
WatchResponse = job_service_pb2.WatchJobResponse | job_service_pb2.WatchJobsResponse

OnResult = Callable[[result_pb2.JobResult], None]
"""Called with the result of the job, before the event that tells that it is DONE, if the gateway sends it along."""


class WatchTimeout(TimeoutError):
    """The caller's own time for a watch is over.

    Args:
        job_id: The job; empty for a watch of many.
        timeout: The time that the caller gave, in seconds.
    """

    def __init__(self, job_id: str, timeout: float) -> None:
        super().__init__(
            f"Job {job_id} was not final after {timeout:g} s." if job_id else f"The watch is over after {timeout:g} s."
        )
        self.job_id = job_id
        self.timeout = timeout

    def __reduce__(self) -> tuple[type[WatchTimeout], tuple[str, float]]:
        return type(self), (self.job_id, self.timeout)


@dataclass(frozen=True, slots=True)
class OneJob:
    """A watch of one job. It ends after the job's final event."""

    name: str
    """Resource name of the job."""
    on_result: OnResult | None = None
    """Who takes a small result that is sent along; None asks for none."""
    known_revision: int = 0
    """Revision of the record that the caller has: it is not sent again. 0: the current state is sent in any case."""

    method: ClassVar[str] = "WatchJob"

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self.name.rpartition("/")[2]

    def request(self, token: str, on_compacted: job_service_pb2.OnCompacted.ValueType) -> WatchRequest:
        """Return the request for a stream after a token."""
        return job_service_pb2.WatchJobRequest(
            name=self.name,
            resume_token=token,
            on_compacted=on_compacted,
            max_result_bytes=SMALL_RESULT_BYTES if self.on_result else 0,
            known_revision=self.known_revision,
        )

    def take_result(self, response: WatchResponse) -> None:
        """Pass on the result, if one was sent along."""
        if self.on_result and isinstance(response, job_service_pb2.WatchJobResponse) and response.HasField("result"):
            self.on_result(response.result)


@dataclass(frozen=True, slots=True)
class ManyJobs:
    """A watch of all jobs that match a filter. It goes on until the caller ends it."""

    conditions: job_pb2.JobFilter
    """Which jobs."""

    method: ClassVar[str] = "WatchJobs"
    job_id: ClassVar[str] = ""

    def request(self, token: str, on_compacted: job_service_pb2.OnCompacted.ValueType) -> WatchRequest:
        """Return the request for a stream after a token."""
        return job_service_pb2.WatchJobsRequest(filter=self.conditions, resume_token=token, on_compacted=on_compacted)


class WatchState:
    """What a watch knows, and what follows from each thing that happens to it.

    Whoever drives it repeats, until `finished`: `opening`, then `wait_until` and `received` for each message, then `ended` or
    `interrupted`. Each `now` is a reading of one monotonic clock, in seconds.

    Args:
        subject: What is watched.
        target: Address of the gateway, for errors.
        now: The time: `timeout` counts from here.
        resume_token: Token to begin after; empty to begin with the current state (one job), or from now on (many).
        timeout: Seconds until `WatchTimeout`; None for no limit.
    """

    def __init__(
        self,
        subject: OneJob | ManyJobs,
        target: str,
        *,
        now: float,
        resume_token: str = "",
        timeout: float | None = None,
    ) -> None:
        self.subject = subject
        self.finished = False
        """True when there is nothing left to read."""
        self.resume_token = resume_token
        """Token after which the next stream begins. Everything up to it was handed to the caller."""
        self._target = target
        self._timeout = timeout
        self._deadline = None if timeout is None else now + timeout
        self._own_token = False
        self._asks_for_states = False
        """Whether the stream was opened for the current state in place of history that is gone."""
        self._seen = _Seen()
        self._final = False
        self._knows_interval = False
        self._silence_borne = FIRST_SILENCE
        self._queue: QueueUpdate | None = None
        self._backoff = Backoff()
        self._opened_at = now
        self._is_quiet = True
        """True until the stream has brought its first message."""

    def opening(self, now: float) -> WatchRequest:
        """Begin the next stream; return its request.

        Raises:
            WatchTimeout: The caller's time is over.
        """
        self._check_deadline(now)
        self._opened_at, self._is_quiet = now, True
        # A caller who brings a token must learn of a gap. In a watch of our own the current state closes it, as SNAPSHOT.
        self._asks_for_states = self._own_token
        gap = job_service_pb2.ON_COMPACTED_SNAPSHOT if self._asks_for_states else job_service_pb2.ON_COMPACTED_ERROR
        return self.subject.request(self.resume_token, gap)

    def wait_until(self, now: float) -> float:
        """Return the moment until which to wait for the next message.

        Raises:
            WatchTimeout: The caller's time is over.
        """
        self._check_deadline(now)
        moment = now + self._silence()
        return moment if self._deadline is None else min(moment, self._deadline)

    def received(self, response: WatchResponse, now: float) -> WatchItem | None:
        """Take a message in; return what the caller is to see, if anything."""
        self._is_quiet = False
        self._backoff.heard()
        if now - self._opened_at >= LONGEST_DELAY:
            self._backoff.progress()
        if response.resume_token:
            self.resume_token, self._own_token = response.resume_token, True
        if response.HasField("event"):
            return self._event(response)
        return self._heartbeat(response.heartbeat) if response.HasField("heartbeat") else None

    def silent(self, now: float) -> GatewayCallError:
        """Return the error for a stream on which nothing came until `wait_until`: its connection is taken for dead.

        Raises:
            WatchTimeout: It is the caller's time that is over; nothing is said about the connection.
        """
        self._check_deadline(now)
        error = silent_stream(self._silence(), job_id=self.subject.job_id, target=self._target)
        if not self._knows_interval:
            self._silence_borne = min(2 * self._silence_borne, LONGEST_SILENCE)
        return error

    def ended(self) -> None:
        """Take in that the server ended the stream with OK.

        Raises:
            GatewayCallError: There is more to come, so the stream has to be taken up again.
        """
        nothing_left = self._is_quiet and bool(self.resume_token) and not self._own_token
        if not (isinstance(self.subject, OneJob) and (self._final or nothing_left)):
            raise GatewayCallError(
                "The server ended the stream before the watch was over.",
                code="UNAVAILABLE",
                job_id=self.subject.job_id or None,
                target=self._target,
            )
        self.finished = True

    def interrupted(self, error: GatewayCallError, now: float) -> float:
        """Take in that the stream broke; return the seconds to wait before the next one.

        Raises:
            WatchTimeout: The caller's time is over.
            GatewayCallError: The error itself, if a new stream does not help.
        """
        if self._final:
            self.finished = True
            return 0.0
        self._check_deadline(now)
        if self._may_go_on_with_states(error):
            if isinstance(self.subject, OneJob):
                self.resume_token, self._own_token = "", False
            delay = self._backoff.pause()
        else:
            delay = self._backoff.delay_after(error)
        return delay if self._deadline is None else min(delay, max(0.0, self._deadline - now))

    def _event(self, response: WatchResponse) -> job_pb2.JobEvent | None:
        event = response.event
        if not self._seen.is_news(event):
            return None
        self._backoff.progress()
        if isinstance(self.subject, OneJob):
            self._final = event.job.status in FINAL_STATUSES or event.type == job_pb2.JobEvent.TYPE_DELETED
            self.subject.take_result(response)
        return event

    def _heartbeat(self, heartbeat: job_service_pb2.WatchHeartbeat) -> QueueUpdate | None:
        if interval := heartbeat.interval.ToTimedelta().total_seconds():
            self._knows_interval, self._silence_borne = True, 2 * interval
        if not heartbeat.HasField("queue"):
            return None
        update = queue_update(heartbeat.queue)
        if update == self._queue:
            return None
        self._queue = update
        return update

    def _may_go_on_with_states(self, error: GatewayCallError) -> bool:
        """Return whether history went while this watch read it, and the current state can make up for it.

        For one job, that is how a stream without a token begins. Of many jobs it has to be asked for, which the first stream, begun
        before there was a token of its own, did not.
        """
        gone = error.reason == HISTORY_COMPACTED and self._own_token
        return gone and (isinstance(self.subject, OneJob) or not self._asks_for_states)

    def _silence(self) -> float:
        if self._final:
            return min(self._silence_borne, LAST_SILENCE)
        return max(self._silence_borne, OPENING_SILENCE) if self._is_quiet else self._silence_borne

    def _check_deadline(self, now: float) -> None:
        if self._deadline is not None and self._timeout is not None and now >= self._deadline:
            raise WatchTimeout(self.subject.job_id, self._timeout)


class _Seen:
    """Which events the caller has had.

    Events come in the order of their revisions, so one number tells which of them were seen. The parts of a snapshot come in
    any order, before the events that follow it, and again if the stream breaks in their midst: they are remembered by job,
    until an event has a greater revision.
    """

    def __init__(self) -> None:
        self._last = 0
        """Revision of the last event."""
        self._states: dict[str, int] = {}
        """Revision of the last SNAPSHOT by job, where it is greater."""

    def is_news(self, event: job_pb2.JobEvent) -> bool:
        """Note an event; return whether the caller has not had it yet."""
        name, revision = event.job.name, event.revision
        if revision <= max(self._last, self._states.get(name, 0)):
            return False
        if event.type == job_pb2.JobEvent.TYPE_SNAPSHOT:
            self._states[name] = revision
        else:
            self._last = revision
            if self._states:
                self._states = {job: state for job, state in self._states.items() if state > revision}
        return True


def queue_update(info: job_pb2.QueueInfo) -> QueueUpdate:
    """Return queue information as plain values."""
    return QueueUpdate(
        position=info.position if info.HasField("position") else None,
        estimated_start=_moment(info.estimated_start_time) if info.HasField("estimated_start_time") else None,
        estimated_completion=(
            _moment(info.estimated_completion_time) if info.HasField("estimated_completion_time") else None
        ),
    )


def _moment(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(tzinfo=UTC)
