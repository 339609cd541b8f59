"""The streams of `WatchJob` and `WatchJobs`.

What is equal for all watchers of an event is serialised once. Each write is awaited: only then does the hub take it that the
watcher has had its turn.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import grpc
from qgateway.v1 import job_service_pb2

from gateway.domain.access import Caller
from gateway.domain.errors import Reason
from gateway.domain.job import EventType, JobEvent
from gateway.engine.engine import Engine
from gateway.rpc import job_messages, requests
from gateway.rpc.limits import Limits
from gateway.rpc.stalled_streams import StalledStreams
from gateway.rpc.stream_limit import StreamLimit

_MAX_SENT_ALONG = 1024 * 1024
"""Largest result that is sent along with an event."""

_Context = grpc.aio.ServicerContext[Any, Any]


class WatchStreams:
    """Writes what becomes of jobs, until the caller has seen enough.

    Args:
        engine: What the watches look at.
        limits: How long a stream may be silent.
        stalled: Gives up what is not read.
    """

    def __init__(self, engine: Engine, limits: Limits, stalled: StalledStreams) -> None:
        self._watches = engine.watches
        self._results = engine.results
        self._tokens = engine.tokens
        self._heartbeat = limits.heartbeat_interval
        self._limit = StreamLimit(
            limits.max_streams_per_caller,
            Reason.TOO_MANY_STREAMS,
            "watches open",
            "End some of them, or watch many jobs with one WatchJobs.",
        )
        self._stalled = stalled

    async def watch_job(self, caller: Caller, request: job_service_pb2.WatchJobRequest, context: _Context) -> None:
        """Write what becomes of one job, to its end.

        Raises:
            GatewayError: See `Watches.watch`.
        """
        job_id = requests.resource_id("name", request.name, "jobs")
        watch = self._watches.watch(
            caller,
            job_id,
            self._after(request),
            self._heartbeat,
            known=request.known_revision,
            or_snapshot=_or_snapshot(request),
        )
        with self._limit.stream(caller):
            async with aclosing(watch) as all_news:
                async for news in all_news:
                    if not isinstance(news, JobEvent):
                        token = self._tokens.token(news.revision)
                        response = job_messages.watch_heartbeat(token, self._heartbeat, news.place)
                    else:
                        response = job_messages.watch_event(news, self._tokens.token(news.revision))
                        response += await self._sent_along(caller, news, request.max_result_bytes)
                    await self._stalled.write(context, response)

    async def watch_jobs(self, caller: Caller, request: job_service_pb2.WatchJobsRequest, context: _Context) -> None:
        """Write what becomes of all jobs that match.

        Raises:
            GatewayError: See `Watches.watch_all`.
        """
        where = requests.job_filter("filter", request.filter, caller.tenant)
        watch = self._watches.watch_all(where, self._after(request), self._heartbeat, or_snapshot=_or_snapshot(request))
        token = request.resume_token
        with self._limit.stream(caller):
            async with aclosing(watch) as all_news:
                async for news in all_news:
                    if not isinstance(news, JobEvent):
                        token = self._tokens.token(news.revision)
                        response = job_messages.watch_heartbeat(token, self._heartbeat)
                    else:
                        # Whoever resumes in the middle of a snapshot must get all of it again: it has the token before it.
                        if news.type is not EventType.SNAPSHOT:
                            token = self._tokens.token(news.revision)
                        response = job_messages.watch_event(news, token)
                    await self._stalled.write(context, response)

    def _after(self, request: job_service_pb2.WatchJobRequest | job_service_pb2.WatchJobsRequest) -> int | None:
        return self._tokens.read(request.resume_token) if request.resume_token else None

    async def _sent_along(self, caller: Caller, event: JobEvent, most: int) -> bytes:
        """Return the result that an event announces, as further fields of its message, if it has at most so many bytes."""
        stored = event.job.result
        if stored is None or stored.size_bytes > min(most, _MAX_SENT_ALONG):
            return b""
        _, result = await self._results.result(caller, event.job.id)
        return job_messages.watch_result(result) if isinstance(result, bytes) else b""


def _or_snapshot(request: job_service_pb2.WatchJobRequest | job_service_pb2.WatchJobsRequest) -> bool:
    return request.on_compacted == job_service_pb2.ON_COMPACTED_SNAPSHOT
