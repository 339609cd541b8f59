"""Following jobs over grpc.aio: `qgateway._watch` for asyncio, with the same rules."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

import grpc.aio

from qgateway._aio_connection import AioConnection
from qgateway._errors import GatewayCallError
from qgateway._watch import OnInterruption
from qgateway._watch_state import OneJob, OnResult, WatchItem, WatchState


def watch_job(
    connection: AioConnection,
    name: str,
    *,
    resume_token: str = "",
    timeout: float | None = None,
    on_interruption: OnInterruption | None = None,
    on_result: OnResult | None = None,
    known_revision: int = 0,
) -> AsyncGenerator[WatchItem]:
    """Follow a job until it is final; arguments, items and errors are those of `qgateway._watch.watch_job`."""
    subject, target = OneJob(name, on_result, known_revision), connection.settings.target
    state = WatchState(subject, target, now=time.monotonic(), resume_token=resume_token, timeout=timeout)
    return watch(connection, state, on_interruption)


async def watch(
    connection: AioConnection, state: WatchState, on_interruption: OnInterruption | None = None
) -> AsyncGenerator[WatchItem]:
    """Yield what a watch brings; arguments, items and errors are those of `qgateway._watch.watch`."""
    while not state.finished:
        try:
            request = state.opening(time.monotonic())
            jobs = connection.jobs
            call = connection.open_stream(getattr(jobs, state.subject.method), request)
            try:
                while (response := await _read(connection, jobs, call, state)) is not grpc.aio.EOF:
                    item = state.received(response, time.monotonic())
                    if item is not None:
                        yield item
                state.ended()
            finally:
                call.cancel()
        except GatewayCallError as error:
            delay = state.interrupted(error, time.monotonic())
            if on_interruption and not state.finished:
                on_interruption(error, delay)
            await asyncio.sleep(delay)


async def _read(connection: AioConnection, jobs: Any, call: Any, state: WatchState) -> Any:
    """Return the next message of a stream, or `grpc.aio.EOF`; raise `GatewayCallError` if it breaks or is silent."""
    left = state.wait_until(time.monotonic()) - time.monotonic()
    try:
        async with asyncio.timeout(left):
            return await call.read()
    except TimeoutError:
        silence = state.silent(time.monotonic())
        connection.renew(jobs)
        raise silence from None
    except grpc.RpcError as error:
        raise connection.error(error, state.subject.job_id) from None
