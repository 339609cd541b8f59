"""A watch: each event once and in order, through every way in which a stream can break."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from qgateway import _aio_watch, _watch
from qgateway._aio_connection import AioConnection
from qgateway._connection import Connection, ConnectionSettings, GatewayCallError
from qgateway._watch_state import QueueUpdate, WatchTimeout
from qgateway.v1 import job_pb2

from tests.support.refusals import Behaviour, refusal, refuse
from tests.support.tcp_proxy import TcpProxy
from tests.unit.client_transport.fake_gateway import JOB, FakeGateway, event, hang, heartbeat, stream

Watch = Callable[..., AsyncIterator[Any]]


@pytest.fixture(params=["grpc", "grpc.aio"])
def watch(request: pytest.FixtureRequest, connection: Connection, aio_connection: AioConnection) -> Watch:
    """Both ways to watch, as one: a function that gives an asynchronous iterator."""

    async def watch_with_threads(**options: Any) -> AsyncIterator[Any]:
        for item in _watch.watch_job(connection, JOB, **options):
            yield item

    def watch_with_asyncio(**options: Any) -> AsyncIterator[Any]:
        return _aio_watch.watch_job(aio_connection, JOB, **options)

    return watch_with_threads if request.param == "grpc" else watch_with_asyncio


@pytest.fixture(params=["grpc", "grpc.aio"])
async def watch_through(request: pytest.FixtureRequest) -> AsyncIterator[Callable[[str], Watch]]:
    """As `watch`, over a connection to an address of the test's own."""
    settings = ConnectionSettings.from_environment(api_key="canary-0123456789")
    async with AsyncExitStack() as stack:

        def watch_with_threads(target: str) -> Watch:
            connection = stack.enter_context(Connection(replace(settings, target=target)))

            async def watch(**options: Any) -> AsyncIterator[Any]:
                for item in _watch.watch_job(connection, JOB, **options):
                    yield item

            return watch

        def watch_with_asyncio(target: str) -> Watch:
            connection = AioConnection(replace(settings, target=target))
            stack.push_async_exit(connection)
            return partial(_aio_watch.watch_job, connection, JOB)

        yield watch_with_threads if request.param == "grpc" else watch_with_asyncio


def brief(item: Any) -> Any:
    """A watch item in a form that is easy to compare."""
    if isinstance(item, job_pb2.JobEvent):
        return item.revision, job_pb2.JobStatus.Name(item.job.status).removeprefix("JOB_STATUS_")
    return item


async def seen(watch: Watch, **options: Any) -> list[Any]:
    return [brief(item) async for item in watch(**options)]


def cut(code: str = "UNAVAILABLE", **details: Any) -> Callable[[Any], Any]:
    return lambda context: refuse(context, code, **details)


async def test_the_events_come_in_order_until_the_final_one(fake: FakeGateway, watch: Watch) -> None:
    fake.on("WatchJob", stream(event(3, "QUEUED", "SNAPSHOT"), event(4, "RUNNING"), event(9, "DONE")))
    assert await seen(watch) == [(3, "QUEUED"), (4, "RUNNING"), (9, "DONE")]
    assert fake.requests["WatchJob"][0].name == JOB
    assert fake.metadata["WatchJob"][0]["authorization"].startswith("Bearer ")


@pytest.mark.parametrize("code", ["UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED", "RESOURCE_EXHAUSTED"])
async def test_a_cut_stream_is_taken_up_after_the_last_token(fake: FakeGateway, watch: Watch, code: str) -> None:
    first = stream(event(1, "QUEUED", "SNAPSHOT"), heartbeat("7", 30), cut(code))
    fake.on("WatchJob", [first, stream(event(8, "RUNNING"), event(9, "DONE"))])
    assert await seen(watch) == [(1, "QUEUED"), (8, "RUNNING"), (9, "DONE")]
    assert [request.resume_token for request in fake.requests["WatchJob"]] == ["", "7"]


async def test_a_restarted_server_is_found_again(fake: FakeGateway, watch: Watch) -> None:
    fake.on("WatchJob", [stream(event(1, "QUEUED", "SNAPSHOT"), hang), stream(event(2, "DONE"))])
    items = []
    async for item in watch(timeout=30):
        items.append(brief(item))
        if len(items) == 1:
            fake.stop()
            fake.start()
    assert items == [(1, "QUEUED"), (2, "DONE")]


async def test_a_server_that_ends_the_stream_too_early_is_asked_again(fake: FakeGateway, watch: Watch) -> None:
    fake.on("WatchJob", [stream(event(1, "QUEUED", "SNAPSHOT")), stream(event(2, "DONE"))])
    assert await seen(watch) == [(1, "QUEUED"), (2, "DONE")]


async def test_a_state_that_was_seen_is_not_yielded_again(fake: FakeGateway, watch: Watch) -> None:
    first = stream(event(5, "QUEUED", "SNAPSHOT"), cut())
    fake.on("WatchJob", [first, stream(event(5, "QUEUED", "SNAPSHOT"), event(6, "DONE"))])
    assert await seen(watch) == [(5, "QUEUED"), (6, "DONE")]


async def test_a_silent_stream_is_noticed_after_two_heartbeat_intervals(fake: FakeGateway, watch: Watch) -> None:
    silent = stream(event(1, "QUEUED", "SNAPSHOT"), heartbeat("1", 0.05), hang)
    fake.on("WatchJob", [silent, stream(event(2, "DONE"))])
    interruptions: list[str] = []
    items = await seen(watch, on_interruption=lambda error, _delay: interruptions.append(error.reason))
    assert items == [(1, "QUEUED"), (2, "DONE")]
    assert interruptions == ["STREAM_SILENT"]


async def test_a_connection_that_stalls_without_closing_is_left_for_a_new_one(
    fake: FakeGateway, watch_through: Callable[[str], Watch]
) -> None:
    first = stream(event(1, "QUEUED", "SNAPSHOT"), heartbeat("1", 0.1, 0), hang)
    fake.on("WatchJob", [first, stream(event(2, "RUNNING"), event(3, "DONE"))])
    items = []
    with TcpProxy(fake.target) as proxy:
        async for item in watch_through(proxy.target)(timeout=60):
            items.append(brief(item))
            if items[-1] == QueueUpdate(0):
                proxy.stall(new=False)
        assert proxy.accepted == 2
    assert items == [(1, "QUEUED"), QueueUpdate(0), (2, "RUNNING"), (3, "DONE")]


async def test_a_silence_of_the_whole_network_is_outlasted(
    fake: FakeGateway, watch_through: Callable[[str], Watch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qgateway._watch_state.OPENING_SILENCE", 0.2)
    first = stream(event(1, "QUEUED", "SNAPSHOT"), heartbeat("1", 0.1, 0), hang)
    fake.on("WatchJob", [first, stream(event(2, "DONE"))])
    items: list[Any] = []
    interruptions: list[str] = []
    with TcpProxy(fake.target) as proxy:

        def interrupted(error: GatewayCallError, _delay: float) -> None:
            interruptions.append(error.reason)
            if len(interruptions) == 3:
                proxy.resume()

        async for item in watch_through(proxy.target)(timeout=60, on_interruption=interrupted):
            items.append(brief(item))
            if items[-1] == QueueUpdate(0):
                proxy.stall()
    assert items == [(1, "QUEUED"), QueueUpdate(0), (2, "DONE")]
    assert interruptions[:3] == ["STREAM_SILENT"] * 3


async def test_heartbeats_keep_a_quiet_stream_alive(fake: FakeGateway, watch: Watch) -> None:
    beats = [step for _ in range(5) for step in (heartbeat("1", 0.1), lambda _context: time.sleep(0.1))]
    fake.on("WatchJob", stream(event(1, "QUEUED", "SNAPSHOT"), *beats, event(2, "DONE")))
    assert await seen(watch) == [(1, "QUEUED"), (2, "DONE")]
    assert len(fake.requests["WatchJob"]) == 1


async def test_the_place_in_the_queue_is_told_when_it_changes(fake: FakeGateway, watch: Watch) -> None:
    beats = [heartbeat("1", 30, 2), heartbeat("1", 30, 2), heartbeat("1", 30), heartbeat("1", 30, 0)]
    fake.on("WatchJob", stream(event(1, "QUEUED", "SNAPSHOT"), *beats, event(2, "DONE")))
    assert await seen(watch) == [(1, "QUEUED"), QueueUpdate(2), QueueUpdate(0), (2, "DONE")]


async def test_the_wait_that_the_server_asks_for_is_kept(fake: FakeGateway, watch: Watch) -> None:
    first = stream(event(1, "QUEUED", "SNAPSHOT"), cut("RESOURCE_EXHAUSTED", retry_after=0.3))
    fake.on("WatchJob", [first, stream(event(2, "DONE"))])
    delays: list[float] = []
    await seen(watch, on_interruption=lambda _error, delay: delays.append(delay))
    assert delays[0] >= 0.3


@pytest.mark.parametrize(
    ("code", "reason"),
    [("NOT_FOUND", "JOB_NOT_FOUND"), ("UNAUTHENTICATED", "API_KEY_INVALID"), ("OUT_OF_RANGE", "HISTORY_COMPACTED")],
)
async def test_a_refusal_ends_the_watch(fake: FakeGateway, watch: Watch, code: str, reason: str) -> None:
    fake.on("WatchJob", refusal(code, reason=reason))
    with pytest.raises(GatewayCallError) as caught:
        await seen(watch, resume_token="1")
    assert (caught.value.code, caught.value.reason, caught.value.job_id) == (code, reason, "abc")


async def test_an_error_that_may_be_a_bug_is_not_retried_without_end(
    fake: FakeGateway, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qgateway._resume.LONGEST_DELAY", 0.01)
    fake.on("WatchJob", refusal("INTERNAL", reason="INTERNAL"))
    with pytest.raises(GatewayCallError):
        await seen(watch)
    assert len(fake.requests["WatchJob"]) < 20


async def test_an_own_token_asks_for_the_state_where_the_history_is_gone(fake: FakeGateway, watch: Watch) -> None:
    first = stream(event(1, "QUEUED", "SNAPSHOT"), cut())
    fake.on("WatchJob", [first, stream(event(7, "DONE", "SNAPSHOT"))])
    assert await seen(watch) == [(1, "QUEUED"), (7, "DONE")]
    gaps = [request.on_compacted for request in fake.requests["WatchJob"]]
    assert gaps == [1, 2]  # ERROR for what the caller brought, SNAPSHOT for what the watch itself had reached


async def test_a_lost_history_is_made_up_for_by_the_state_where_the_server_sends_no_snapshot(
    fake: FakeGateway, watch: Watch
) -> None:
    first = stream(event(1, "QUEUED", "SNAPSHOT"), cut())
    gone = refusal("OUT_OF_RANGE", reason="HISTORY_COMPACTED")
    fake.on("WatchJob", [first, gone, stream(event(7, "DONE", "SNAPSHOT"))])
    assert await seen(watch) == [(1, "QUEUED"), (7, "DONE")]
    assert [request.resume_token for request in fake.requests["WatchJob"]] == ["", "1", ""]


async def test_a_token_after_which_nothing_comes_any_more_ends_the_watch(fake: FakeGateway, watch: Watch) -> None:
    fake.on("WatchJob", stream())
    assert await seen(watch, resume_token="9") == []
    assert len(fake.requests["WatchJob"]) == 1


async def test_a_cut_after_the_final_event_ends_the_watch(fake: FakeGateway, watch: Watch) -> None:
    fake.on("WatchJob", stream(event(1, "DONE", "SNAPSHOT"), cut()))
    assert await seen(watch) == [(1, "DONE")]
    assert len(fake.requests["WatchJob"]) == 1


async def test_what_follows_the_final_status_in_the_history_is_told(fake: FakeGateway, watch: Watch) -> None:
    fake.on("WatchJob", stream(event(1, "DONE"), event(2, "DONE", "UPDATED")))
    assert await seen(watch, resume_token="0") == [(1, "DONE"), (2, "DONE")]


async def timed_out_after(watch: Watch, seconds: float) -> float:
    start = time.monotonic()
    with pytest.raises(WatchTimeout) as caught:
        await seen(watch, timeout=seconds)
    assert caught.value.job_id == "abc"
    assert isinstance(caught.value, TimeoutError)
    return time.monotonic() - start


QUIET: list[Behaviour] = [
    stream(event(1, "QUEUED", "SNAPSHOT"), hang),
    stream(heartbeat("1", 0.01), hang),
    refusal("UNAVAILABLE"),
    refusal("RESOURCE_EXHAUSTED", retry_after=60),
    stream(hang),
]


@pytest.mark.parametrize("behaviour", QUIET, ids=["quiet", "silent", "away", "busy", "dumb"])
async def test_the_callers_time_ends_the_watch_whatever_the_server_does(
    fake: FakeGateway, watch: Watch, behaviour: Behaviour
) -> None:
    fake.on("WatchJob", behaviour)
    elapsed = await timed_out_after(watch, 0.4)
    assert 0.4 <= elapsed < 5  # how near it comes is measured where the machine is quiet


@pytest.mark.parametrize("seconds", [0, -1])
async def test_no_time_at_all_raises_at_once(fake: FakeGateway, watch: Watch, seconds: float) -> None:
    fake.on("WatchJob", stream(event(1, "DONE", "SNAPSHOT")))
    await timed_out_after(watch, seconds)
    assert fake.requests["WatchJob"] == []


async def test_time_that_the_caller_takes_is_not_silence(fake: FakeGateway, watch: Watch) -> None:
    fake.on("WatchJob", stream(event(1, "QUEUED", "SNAPSHOT"), heartbeat("1", 0.05, 3), event(2, "DONE")))
    items = []
    async for item in watch():
        items.append(brief(item))
        time.sleep(0.2)  # noqa: ASYNC251 - the caller that is slow
    assert items == [(1, "QUEUED"), QueueUpdate(3), (2, "DONE")]
    assert len(fake.requests["WatchJob"]) == 1


def test_leaving_a_watch_ends_its_stream(fake: FakeGateway, connection: Connection) -> None:
    ended = threading.Event()
    fake.on("WatchJob", stream(lambda context: context.add_callback(ended.set), event(1, "QUEUED", "SNAPSHOT"), hang))
    for _ in _watch.watch_job(connection, JOB):
        break
    assert ended.wait(10)
