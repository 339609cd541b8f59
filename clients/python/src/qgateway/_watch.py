"""Following jobs over grpc: streams that resume, notice when they are dead, and bring each event once."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator

import grpc

from qgateway._connection import Connection
from qgateway._errors import GatewayCallError
from qgateway._resume import Watchdog
from qgateway._watch_state import OneJob, OnResult, WatchItem, WatchState

OnInterruption = Callable[[GatewayCallError, float], None]
"""Called before each new attempt with what happened, and the seconds until the attempt."""


def watch_job(
    connection: Connection,
    name: str,
    *,
    resume_token: str = "",
    timeout: float | None = None,
    on_interruption: OnInterruption | None = None,
    on_result: OnResult | None = None,
    known_revision: int = 0,
) -> Generator[WatchItem]:
    """Follow a job until it is final.

    Each event comes once, in order: first the current state (or every event after `resume_token`), then each change.
    Between them come `QueueUpdate`s, whenever the place in the queue changes.

    Args:
        connection: The connection.
        name: Resource name of the job, `jobs/{job}`.
        resume_token: Token of the last message seen in an earlier watch.
        timeout: Seconds until `WatchTimeout`, on the monotonic clock, from this call. None for no limit; 0 or
            less raises at once.
        on_interruption: Called before each new attempt.
        on_result: Called with the result, if it is small and the job is DONE, before the event that tells it.
        known_revision: Revision of the record that the caller has: the watch does not begin with that.

    Raises:
        WatchTimeout: The time is over and the job is not final.
        GatewayCallError: The gateway refuses the watch, such as NOT_FOUND, or OUT_OF_RANGE with reason
            HISTORY_COMPACTED for a `resume_token` that is too old.
    """
    subject, target = OneJob(name, on_result, known_revision), connection.settings.target
    state = WatchState(subject, target, now=time.monotonic(), resume_token=resume_token, timeout=timeout)
    return watch(connection, state, on_interruption)


def watch(
    connection: Connection, state: WatchState, on_interruption: OnInterruption | None = None
) -> Generator[WatchItem]:
    """Yield what a watch brings.

    A stream that breaks or falls silent is taken up again where it stopped, for as long as the caller's time lasts. Nothing is
    polled.

    Args:
        connection: The connection.
        state: The watch.
        on_interruption: Called before each new attempt.

    Raises:
        WatchTimeout: The caller's time is over.
        GatewayCallError: The gateway refuses the watch.
    """
    while not state.finished:
        try:
            yield from _read_stream(connection, state)
        except GatewayCallError as error:
            delay = state.interrupted(error, time.monotonic())
            if on_interruption and not state.finished:
                on_interruption(error, delay)
            time.sleep(delay)


def _read_stream(connection: Connection, state: WatchState) -> Iterator[WatchItem]:
    """Yield what one stream brings, until it ends with OK; raise `GatewayCallError` if it breaks."""
    request = state.opening(time.monotonic())
    jobs = connection.jobs
    call = connection.open_stream(getattr(jobs, state.subject.method), request)
    try:
        with Watchdog(call.cancel) as watchdog:
            while True:
                watchdog.arm(state.wait_until(time.monotonic()))
                try:
                    response = next(call, None)
                except grpc.RpcError as error:
                    if not watchdog.has_bitten:
                        raise connection.error(error, state.subject.job_id) from None
                    silence = state.silent(time.monotonic())
                    connection.renew(jobs)
                    raise silence from None
                watchdog.disarm()
                if response is None:
                    state.ended()
                    return
                item = state.received(response, time.monotonic())
                if item is not None:
                    yield item
    finally:
        call.cancel()
