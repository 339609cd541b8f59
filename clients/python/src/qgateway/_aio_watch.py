"""Following a job with asyncio: the twin of `qgateway._watch.watch_job`, with the same rules."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

import grpc.aio

from qgateway._aio_connection import AioConnection
from qgateway._errors import GatewayCallError
from qgateway._watch import OnInterruption, OnResult, WatchItem, WatchState


async def watch_job(
    connection: AioConnection,
    name: str,
    *,
    resume_token: str = "",
    timeout: float | None = None,  # noqa: ASYNC109 - part of the watch's contract
    on_interruption: OnInterruption | None = None,
    on_result: OnResult | None = None,
) -> AsyncGenerator[WatchItem]:
    """Follow a job until it is final; arguments, items and errors are those of `qgateway._watch.watch_job`."""
    state = WatchState(name, connection.settings.target, resume_token, timeout, on_result)
    while not state.finished:
        try:
            state.read_until()
            call = connection.open_stream(connection.jobs.WatchJob, state.request())
            try:
                while (response := await _read(connection, call, state)) is not grpc.aio.EOF:
                    item = state.received(response)
                    if item is not None:
                        yield item
                state.ended()
            finally:
                call.cancel()
        except GatewayCallError as error:
            delay = state.interrupted(error)
            if delay and on_interruption:
                on_interruption(error, delay)
            await asyncio.sleep(delay)


async def _read(connection: AioConnection, call: Any, state: WatchState) -> Any:
    """Return the next message of a stream, or `grpc.aio.EOF`; raise `GatewayCallError` if it breaks or is silent."""
    left = state.read_until() - time.monotonic()
    try:
        async with asyncio.timeout(left):
            return await call.read()
    except TimeoutError:
        raise state.silent() from None
    except grpc.RpcError as error:
        raise connection.error(error, state.job_id) from None
