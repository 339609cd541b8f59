"""A watch of many jobs: resumed as that of one is, with snapshots where history is gone."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from qgateway import _aio_watch, _watch
from qgateway._aio_connection import AioConnection
from qgateway._connection import Connection, GatewayCallError
from qgateway._watch_state import ManyJobs, WatchState, WatchTimeout
from qgateway.v1 import job_pb2, job_service_pb2

from tests.support.refusals import refusal, refuse
from tests.unit.client_transport.fake_gateway import FakeGateway, hang, stream

CONDITIONS = job_pb2.JobFilter(all_tags=["mine"])

Watch = Callable[..., tuple[WatchState, AsyncIterator[Any]]]


@pytest.fixture(params=["grpc", "grpc.aio"])
def watch(request: pytest.FixtureRequest, connection: Connection, aio_connection: AioConnection) -> Watch:
    """Both ways to watch, as one: a function that gives the state of a watch and what it brings."""

    async def in_a_loop(items: Any) -> AsyncIterator[Any]:
        for item in items:
            yield item

    def make(**options: Any) -> tuple[WatchState, AsyncIterator[Any]]:
        state = WatchState(ManyJobs(CONDITIONS), "target", now=time.monotonic(), **options)
        if request.param == "grpc":
            return state, in_a_loop(_watch.watch(connection, state))
        return state, _aio_watch.watch(aio_connection, state)

    return make


def event(name: str, revision: int, kind: str = "STATUS_CHANGED", token: str | None = None) -> Any:
    change = job_pb2.JobEvent(
        revision=revision,
        type=job_pb2.JobEvent.Type.Value(f"TYPE_{kind}"),
        job=job_pb2.Job(name=f"jobs/{name}", revision=revision, status=job_pb2.JOB_STATUS_DONE),
    )
    return job_service_pb2.WatchJobsResponse(event=change, resume_token=str(revision) if token is None else token)


def heartbeat(token: str) -> Any:
    beat = job_service_pb2.WatchHeartbeat()
    beat.interval.FromSeconds(30)
    return job_service_pb2.WatchJobsResponse(heartbeat=beat, resume_token=token)


def cut(context: Any) -> Any:
    refuse(context, "UNAVAILABLE")


async def take(items: AsyncIterator[Any], count: int) -> list[tuple[str, int]]:
    taken = [await anext(items) for _ in range(count)]
    await items.aclose()  # type: ignore[attr-defined]
    return [(each.job.name.removeprefix("jobs/"), each.revision) for each in taken]


async def test_it_goes_on_after_final_events_and_after_the_end_of_a_stream(fake: FakeGateway, watch: Watch) -> None:
    first = stream(heartbeat("0"), event("a", 1), event("b", 2))
    fake.on("WatchJobs", [first, stream(event("a", 4), hang)])
    state, items = watch()
    assert await take(items, 3) == [("a", 1), ("b", 2), ("a", 4)]
    assert [request.resume_token for request in fake.requests["WatchJobs"]] == ["", "2"]
    assert all(request.filter == CONDITIONS for request in fake.requests["WatchJobs"])
    assert state.resume_token == "4"


async def test_heartbeats_move_it_on_where_nothing_matches(fake: FakeGateway, watch: Watch) -> None:
    fake.on("WatchJobs", [stream(heartbeat("5"), heartbeat("9"), cut), stream(event("a", 10), hang)])
    assert await take(watch()[1], 1) == [("a", 10)]
    assert [request.resume_token for request in fake.requests["WatchJobs"]] == ["", "9"]


async def test_a_snapshot_after_compaction_tells_each_state_once_though_it_is_cut(
    fake: FakeGateway, watch: Watch
) -> None:
    before = stream(event("a", 5), event("b", 6), cut)
    # A snapshot is in no order, tells nothing of where to resume, and may hold what is newer than the token at its end.
    begun = stream(event("c", 12, "SNAPSHOT", "6"), event("b", 6, "SNAPSHOT", "6"), cut)
    whole = [event("c", 12, "SNAPSHOT", "6"), event("b", 6, "SNAPSHOT", "6"), event("a", 9, "SNAPSHOT", "6")]
    rest = stream(*whole, heartbeat("10"), event("d", 11), event("c", 12), event("a", 13), hang)
    fake.on("WatchJobs", [before, begun, rest])
    seen = await take(watch()[1], 6)
    assert seen == [("a", 5), ("b", 6), ("c", 12), ("a", 9), ("d", 11), ("a", 13)]
    requests = fake.requests["WatchJobs"]
    assert [request.resume_token for request in requests] == ["", "6", "6"]
    assert [request.on_compacted for request in requests] == [1, 2, 2]


@pytest.mark.parametrize("begin", [[], [event("a", 5), cut]], ids=["of the caller", "of its own"])
async def test_history_that_is_gone_without_a_snapshot_is_an_error(
    fake: FakeGateway, watch: Watch, begin: list[Any]
) -> None:
    behaviours = [refusal("OUT_OF_RANGE", reason="HISTORY_COMPACTED")]
    fake.on("WatchJobs", [stream(*begin), *behaviours] if begin else behaviours)
    with pytest.raises(GatewayCallError) as caught:
        await take(watch(resume_token="1")[1], 2)
    assert caught.value.reason == "HISTORY_COMPACTED"


async def test_states_make_up_for_history_that_goes_while_the_first_stream_reads_it(
    fake: FakeGateway, watch: Watch
) -> None:
    def gone(context: Any) -> Any:
        refuse(context, "OUT_OF_RANGE", reason="HISTORY_COMPACTED")

    second = stream(event("b", 4, "SNAPSHOT", token="1"), heartbeat("5"), event("a", 6), hang)
    fake.on("WatchJobs", [stream(event("a", 1), gone), second])
    assert await take(watch()[1], 3) == [("a", 1), ("b", 4), ("a", 6)]
    assert [(each.resume_token, each.on_compacted) for each in fake.requests["WatchJobs"]] == [("", 1), ("1", 2)]


async def test_it_ends_with_the_callers_time(fake: FakeGateway, watch: Watch) -> None:
    fake.on("WatchJobs", stream(event("a", 1), hang))
    _, items = watch(timeout=0.3)
    with pytest.raises(WatchTimeout, match=r"over after 0\.3 s"):
        await take(items, 2)
