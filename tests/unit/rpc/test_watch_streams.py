"""The streams of watches, as any client sees them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from qgateway.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc

from gateway.access.api_keys import ApiKey, KeyRing, hash_api_key
from gateway.access.authenticator import Authenticator
from gateway.access.call_rate import CallRate
from gateway.access.certificates import ClientCertificates
from gateway.access.open_calls import OpenCalls
from gateway.access.tokens import Tokens
from gateway.config import ServerSettings
from gateway.domain.access import Role
from gateway.engine.recent_events import RecentEvents
from gateway.rpc.interceptor import CallInterceptor
from gateway.rpc.job_service import JobService
from gateway.rpc.limits import Limits
from gateway.server import _channel_options
from tests.support.scripted_provider import ScriptedProvider
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import until
from tests.unit.engine.conftest import Engine, running_engine
from tests.unit.rpc.conftest import KEYS, Wire, bearer, bell, details

HEARTBEAT = 0.1
_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    """A server with the real channel options, a short heartbeat, and room for few streams."""
    settings = ServerSettings(keepalive_interval=1, keepalive_timeout=1)
    async with running_engine(tmp_path / "store.db", ScriptedProvider()) as engine:
        keys = [ApiKey(role, "physics", role, hash_api_key(key)) for role, key in KEYS.items()]
        server = grpc.aio.server(
            interceptors=[
                CallInterceptor(
                    Authenticator(KeyRing(keys, b"unused"), Tokens(()), ClientCertificates(())),
                    engine.trail,
                    OpenCalls(),
                    CallRate(1_000_000),
                )
            ],
            options=_channel_options(settings),
        )
        limits = Limits(heartbeat_interval=HEARTBEAT, max_streams_per_caller=3)
        job_service_pb2_grpc.add_JobServiceServicer_to_server(JobService(engine, limits), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Wire(engine, channel, f"127.0.0.1:{port}")
        await server.stop(None)


def _watch_all(wire: Wire, role: Role = Role.SUBMITTER, **fields: Any) -> Any:
    return wire.jobs.WatchJobs(job_service_pb2.WatchJobsRequest(**fields), metadata=bearer(role), timeout=30)


async def _submit(wire: Wire, **fields: Any) -> job_pb2.Job:
    job: job_pb2.Job = (await wire.jobs.SubmitJob(bell(**fields), metadata=bearer())).job
    return job


async def _rename(wire: Wire, job: job_pb2.Job, name: str) -> None:
    request = job_service_pb2.UpdateJobRequest(job=job_pb2.Job(name=job.name, display_name=name))
    request.update_mask.paths.append("display_name")
    await wire.jobs.UpdateJob(request, metadata=bearer())


async def _compact(engine: Engine) -> None:
    last = engine._hub.last_revision
    await engine.store.compact_history(before=_END_OF_TIME, keep=last, limit=10_000)
    engine._hub.recent = RecentEvents(last)


async def test_heartbeats_carry_tokens_that_move_on_though_nothing_matches(wire: Wire) -> None:
    watch = _watch_all(wire, filter=job_pb2.JobFilter(backends=["none"]))
    first = await watch.read()
    job = await _submit(wire)
    async with asyncio.timeout(10):
        while (beat := await watch.read()).resume_token == first.resume_token:
            assert beat.HasField("heartbeat")
    watch.cancel()
    # What is after the later token is all that is left to tell.
    await _rename(wire, job, "new")
    resumed = _watch_all(wire, resume_token=beat.resume_token)
    assert (await resumed.read()).event.job.display_name == "new"
    resumed.cancel()


async def test_more_streams_than_allowed_are_refused_with_a_time_to_retry(wire: Wire) -> None:
    watches = [_watch_all(wire) for _ in range(3)]
    for watch in watches:
        await watch.read()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _watch_all(wire).read()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    told = details(caught.value)
    assert told["ErrorInfo"].reason == "TOO_MANY_STREAMS"
    assert told["RetryInfo"].retry_delay.ToMilliseconds() >= 1000
    other = _watch_all(wire, Role.VIEWER)
    await other.read()
    other.cancel()
    watches[0].cancel()
    await until(lambda: wire.engine._hub.watchers == 2)
    again = _watch_all(wire)
    await again.read()
    for watch in (*watches, again):
        watch.cancel()
    await until(lambda: wire.engine._hub.watchers == 0)


async def test_the_streams_of_a_client_that_vanished_without_a_word_are_freed(wire: Wire) -> None:
    proxy = TcpProxy(wire.target)
    try:
        async with grpc.aio.insecure_channel(proxy.target) as channel:
            jobs: Any = job_service_pb2_grpc.JobServiceStub(channel)
            watch = jobs.WatchJobs(job_service_pb2.WatchJobsRequest(), metadata=bearer())
            await watch.read()
            assert wire.engine._hub.watchers == 1
            proxy.stall()
            await until(lambda: wire.engine._hub.watchers == 0)
            watch.cancel()
    finally:
        await asyncio.to_thread(proxy.close)


async def test_a_token_that_is_none_of_ours_is_refused(wire: Wire) -> None:
    for token in ("AQAAAAAAAAAB", "made up"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _watch_all(wire, resume_token=token).read()
        assert details(caught.value)["ErrorInfo"].reason == "INVALID_RESUME_TOKEN"


async def test_a_token_older_than_the_history_is_out_of_range(wire: Wire) -> None:
    token = (await _watch_all(wire).read()).resume_token
    await _submit(wire)
    await _compact(wire.engine)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _watch_all(wire, resume_token=token).read()
    assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE
    assert details(caught.value)["ErrorInfo"].reason == "HISTORY_COMPACTED"


async def test_a_snapshot_that_was_cut_short_is_sent_again_in_full(wire: Wire) -> None:
    token = (await _watch_all(wire).read()).resume_token
    names = [(await _submit(wire)).name for _ in range(5)]
    await _compact(wire.engine)
    request = {"resume_token": token, "on_compacted": job_service_pb2.ON_COMPACTED_SNAPSHOT}
    cut = _watch_all(wire, **request)
    for _ in range(2):
        part = await cut.read()
    cut.cancel()
    again = _watch_all(wire, **{**request, "resume_token": part.resume_token})
    parts = [await again.read() for _ in range(5)]
    assert [each.event.job.name for each in parts] == names
    assert {each.event.type for each in parts} == {job_pb2.JobEvent.TYPE_SNAPSHOT}
    end = await again.read()
    assert end.HasField("heartbeat")
    again.cancel()
    await _submit(wire)
    rest = _watch_all(wire, resume_token=end.resume_token)
    assert (await rest.read()).event.type == job_pb2.JobEvent.TYPE_CREATED
    rest.cancel()


async def test_the_states_in_place_of_history_that_goes_while_it_is_read_never_go_back_to_an_older_token(
    wire: Wire,
) -> None:
    token = (await _watch_all(wire).read()).resume_token
    job = await _submit(wire)
    for number in range(300):
        await _rename(wire, job, f"{number} {'x' * 100}")
    wire.engine._hub.recent = RecentEvents(wire.engine._hub.last_revision)
    # Most of it waits behind a small window when the history goes.
    options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16 * 1024)]
    async with grpc.aio.insecure_channel(wire.target, options) as channel:
        request = job_service_pb2.WatchJobsRequest(
            resume_token=token, on_compacted=job_service_pb2.ON_COMPACTED_SNAPSHOT
        )
        watch: Any = job_service_pb2_grpc.JobServiceStub(channel).WatchJobs(request, metadata=bearer(), timeout=30)
        messages = [await watch.read()]
        await _compact(wire.engine)
        while not messages[-1].HasField("heartbeat"):
            messages.append(await watch.read())
        watch.cancel()
    *events, state, end = messages
    assert {each.event.type for each in events} == {job_pb2.JobEvent.TYPE_CREATED, job_pb2.JobEvent.TYPE_UPDATED}
    assert len(events) < 300
    assert (state.event.type, state.event.job.display_name[:3]) == (job_pb2.JobEvent.TYPE_SNAPSHOT, "299")
    assert state.resume_token == events[-1].resume_token
    assert wire.engine.tokens.read(end.resume_token) == wire.engine._hub.last_revision


async def test_every_watcher_of_an_event_gets_the_same_bytes(wire: Wire) -> None:
    job = await _submit(wire)
    raw = wire.channel.unary_stream("/qgateway.v1.JobService/WatchJob")
    request = job_service_pb2.WatchJobRequest(name=job.name).SerializeToString()
    watches = [raw(request, metadata=bearer()) for _ in range(2)]
    for watch in watches:
        await watch.read()
    many = wire.channel.unary_stream("/qgateway.v1.JobService/WatchJobs")(b"", metadata=bearer())
    await many.read()
    await _rename(wire, job, "new")

    async def event(watch: Any) -> bytes:
        while True:
            data: bytes = await watch.read()
            if job_service_pb2.WatchJobResponse.FromString(data).HasField("event"):
                return data

    assert len({await event(watch) for watch in (*watches, many)}) == 1
    for watch in (*watches, many):
        watch.cancel()
