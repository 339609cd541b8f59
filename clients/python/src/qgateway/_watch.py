"""Following a job: one stream that resumes, notices when it is dead, and ends after the final event.

`WatchState` holds the rules and does no I/O; `watch_job` drives it over grpc, `qgateway._aio_watch.watch_job` over
grpc.aio.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from qgateway._connection import Connection
from qgateway._errors import GatewayCallError
from qgateway._resume import Backoff, Watchdog, silent_stream
from qgateway.v1 import job_pb2, job_service_pb2, result_pb2

FINAL_STATUSES = frozenset({job_pb2.JOB_STATUS_CANCELLED, job_pb2.JOB_STATUS_DONE, job_pb2.JOB_STATUS_ERROR})
"""Statuses that a job never leaves."""

_FIRST_SILENCE = 60.0
"""Seconds of silence that are borne before a heartbeat has told the interval."""
_LAST_SILENCE = 5.0
"""Seconds that the end of the stream may take after the final event."""


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

OnInterruption = Callable[[GatewayCallError, float], None]
"""Called before each new attempt with what happened, and the seconds until the attempt."""


OnResult = Callable[[result_pb2.JobResult], None]
"""Called with the result of the job, before the event that tells that it is DONE, if the gateway sends it along."""

SMALL_RESULT_BYTES = 256 * 1024
"""Size up to which a result is sent along with an event, or read with one call: a download takes longer for so little."""


class WatchTimeout(TimeoutError):
    """The caller's own time for a watch is over.

    Args:
        job_id: The job.
        timeout: The time that the caller gave, in seconds.
    """

    def __init__(self, job_id: str, timeout: float) -> None:
        super().__init__(f"Job {job_id} was not final after {timeout:g} s.")
        self.job_id = job_id
        self.timeout = timeout

    def __reduce__(self) -> tuple[type[WatchTimeout], tuple[str, float]]:
        return type(self), (self.job_id, self.timeout)


class WatchState:
    """What a watch knows, and what follows from each thing that happens to it. No I/O.

    Args:
        name: Resource name of the job.
        target: Address of the gateway, for errors.
        resume_token: Token to begin after; empty to begin with the current state.
        timeout: Seconds until `WatchTimeout`; None for no limit.
        on_result: Who takes a small result that is sent along; None asks for none.
    """

    def __init__(
        self, name: str, target: str, resume_token: str, timeout: float | None, on_result: OnResult | None = None
    ) -> None:
        self.name = name
        self.job_id = name.rpartition("/")[2]
        self.finished = False
        """True when there is nothing left to read."""
        self._target = target
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._token = resume_token
        self._on_result = on_result
        self._own_token = False
        self._revision = 0
        self._final = False
        self._interval: float | None = None
        self._queue: QueueUpdate | None = None
        self._backoff = Backoff()

    def request(self) -> job_service_pb2.WatchJobRequest:
        """Return the request for the next stream."""
        # A caller who brings a token must learn of a gap. In a watch of our own the current state closes it, as a
        # SNAPSHOT.
        gap = job_service_pb2.ON_COMPACTED_SNAPSHOT if self._own_token else job_service_pb2.ON_COMPACTED_ERROR
        return job_service_pb2.WatchJobRequest(
            name=self.name,
            resume_token=self._token,
            on_compacted=gap,
            max_result_bytes=SMALL_RESULT_BYTES if self._on_result else 0,
        )

    def read_until(self) -> float:
        """Return the moment (`time.monotonic`) until which to wait for the next message.

        Raises:
            WatchTimeout: The caller's time is over.
        """
        self._check_deadline()
        moment = time.monotonic() + self._silence()
        return moment if self._deadline is None else min(moment, self._deadline)

    def received(self, response: job_service_pb2.WatchJobResponse) -> WatchItem | None:
        """Take a message in; return what the caller is to see, if anything."""
        if response.resume_token:
            self._token, self._own_token = response.resume_token, True
        if response.HasField("heartbeat"):
            self._backoff.progress()
            return self._heartbeat(response.heartbeat)
        event = response.event
        if event.revision <= self._revision:
            return None  # the state that a new stream began with, seen before
        self._backoff.progress()
        self._revision = event.revision
        self._final = event.job.status in FINAL_STATUSES
        if self._on_result and response.HasField("result"):
            self._on_result(response.result)
        return event

    def silent(self) -> GatewayCallError:
        """Return the error for a stream on which nothing came until `read_until()`."""
        return silent_stream(self._silence(), job_id=self.job_id, target=self._target)

    def ended(self) -> None:
        """Take in that the server ended the stream with OK.

        Raises:
            GatewayCallError: The job is not final, so the stream has to be taken up again.
        """
        if not self._final:
            message = "The server ended the stream before the job was final."
            raise GatewayCallError(message, code="UNAVAILABLE", job_id=self.job_id, target=self._target)
        self.finished = True

    def interrupted(self, error: GatewayCallError) -> float:
        """Take in that the stream broke; return the seconds to wait before the next one.

        Raises:
            WatchTimeout: The caller's time is over.
            GatewayCallError: The error itself, if a new stream does not help.
        """
        if self._final:
            self.finished = True
            return 0.0
        self._check_deadline()
        delay = self._backoff.delay_after(error)
        return delay if self._deadline is None else min(delay, max(0.0, self._deadline - time.monotonic()))

    def _silence(self) -> float:
        silence = _FIRST_SILENCE if self._interval is None else 2 * self._interval
        return min(silence, _LAST_SILENCE) if self._final else silence

    def _check_deadline(self) -> None:
        if self._deadline is not None and self._timeout is not None and time.monotonic() >= self._deadline:
            raise WatchTimeout(self.job_id, self._timeout)

    def _heartbeat(self, heartbeat: job_service_pb2.WatchHeartbeat) -> QueueUpdate | None:
        if heartbeat.HasField("interval"):
            self._interval = heartbeat.interval.ToTimedelta().total_seconds() or None
        if not heartbeat.HasField("queue"):
            return None
        update = queue_update(heartbeat.queue)
        if update == self._queue:
            return None
        self._queue = update
        return update


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


def watch_job(
    connection: Connection,
    name: str,
    *,
    resume_token: str = "",
    timeout: float | None = None,
    on_interruption: OnInterruption | None = None,
    on_result: OnResult | None = None,
) -> Generator[WatchItem]:
    """Follow a job until it is final.

    Yields each event once, in order: first the current state (or every event after `resume_token`), then each change.
    Between them come `QueueUpdate`s, whenever the place in the queue changes. A stream that breaks or falls silent is
    taken up again where it stopped, for as long as the caller's time lasts. Nothing is polled.

    Args:
        connection: The connection.
        name: Resource name of the job, `jobs/{job}`.
        resume_token: Token of the last message seen in an earlier watch.
        timeout: Seconds until `WatchTimeout`, on the monotonic clock, from the first `next()`. None for no limit; 0 or
            less raises at once.
        on_interruption: Called before each new attempt.
        on_result: Called with the result, if it is small and the job is DONE, before the event that tells it.

    Raises:
        WatchTimeout: The time is over and the job is not final.
        GatewayCallError: The gateway refuses the watch, such as NOT_FOUND, or OUT_OF_RANGE with reason
            HISTORY_COMPACTED for a `resume_token` that is too old.
    """
    state = WatchState(name, connection.settings.target, resume_token, timeout, on_result)
    while not state.finished:
        try:
            yield from _read_stream(connection, state)
        except GatewayCallError as error:
            delay = state.interrupted(error)
            if delay and on_interruption:
                on_interruption(error, delay)
            time.sleep(delay)


def _read_stream(connection: Connection, state: WatchState) -> Iterator[WatchItem]:
    """Yield what one stream brings, until it ends with OK; raise `GatewayCallError` if it breaks."""
    state.read_until()
    call = connection.open_stream(connection.jobs.WatchJob, state.request())
    try:
        with Watchdog(call.cancel) as watchdog:
            while True:
                watchdog.arm(state.read_until())
                try:
                    response = next(call, None)
                except grpc.RpcError as error:
                    raise (state.silent() if watchdog.has_bitten else connection.error(error, state.job_id)) from None
                watchdog.disarm()
                if response is None:
                    state.ended()
                    return
                item = state.received(response)
                if item is not None:
                    yield item
    finally:
        call.cancel()
