"""Sessions on the gateway's own simulators: opened, filled, closed and cancelled through the real server."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator

import grpc
import pytest
from qgateway import GatewayProvider, IBMBackendError
from qgateway import aio as qgateway_aio
from qgateway.v1 import job_pb2, session_pb2, session_service_pb2

from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import wait_until
from tests.support.wire import BELL, LONG, Wire, connected, details, violations

State = session_pb2.Session.State


@pytest.fixture(scope="module")
def wire(gateway: GatewayProcess) -> Iterator[Wire]:
    with connected(gateway) as made:
        yield made


@pytest.fixture
def narrow_gateway(new_gateway: Callable[..., GatewayProcess]) -> GatewayProcess:
    """A gateway that runs one job at a time."""
    return new_gateway({"ACCOUNTS": json.dumps({"local": {"provider": "local", "parallel_jobs": 1}})}).start()


def test_a_session_takes_jobs_until_it_is_closed(wire: Wire) -> None:
    session = wire.open_session(max_seconds=600)
    assert (session.state, session.accepting_jobs) == (State.STATE_OPEN, True)
    assert session.max_time.seconds == 600
    job = wire.submit(session=session.name)
    assert (job.session, job.scheduling_mode) == (session.name, job_pb2.SCHEDULING_MODE_SESSION)
    assert wire.finish(job.name).status == job_pb2.JOB_STATUS_DONE
    used = wire.session(session.name)
    assert used.state == State.STATE_INACTIVE
    assert used.HasField("activate_time")
    assert used.usage_time.ToNanoseconds() > 0
    closed = wire.close_session(session.name)
    assert (closed.state, closed.accepting_jobs) == (State.STATE_CLOSED, False)
    assert closed.HasField("close_time")
    assert wire.close_session(session.name) == closed
    with pytest.raises(grpc.RpcError) as caught:
        wire.submit(session=session.name)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION  # type: ignore[attr-defined]
    assert details(caught.value)["ErrorInfo"].reason == "SESSION_CLOSED"
    assert [each.name for each in wire.list(session=session.name)] == [job.name]


def test_jobs_of_a_closed_session_still_run(narrow_gateway: GatewayProcess) -> None:
    with connected(narrow_gateway) as wire:
        session = wire.open_session(mode=job_pb2.SCHEDULING_MODE_BATCH)
        jobs = [wire.submit(session=session.name) for _ in range(5)]
        assert not wire.close_session(session.name).accepting_jobs
        assert {wire.finish(job.name).status for job in jobs} == {job_pb2.JOB_STATUS_DONE}
        assert wire.session(session.name).state == State.STATE_CLOSED


def test_a_cancelled_session_ends_and_its_waiting_jobs_with_it(narrow_gateway: GatewayProcess) -> None:
    with connected(narrow_gateway) as wire:
        session = wire.open_session()
        running = wire.submit(LONG, session=session.name)
        wire.reach(running.name, job_pb2.JOB_STATUS_RUNNING)
        waiting = [wire.submit(session=session.name) for _ in range(3)]
        other = wire.submit()
        cancelled = wire.cancel_session(session.name)
        assert (cancelled.state, cancelled.accepting_jobs) == (State.STATE_CLOSED, False)
        for job in waiting:
            ended = wire.finish(job.name)
            assert (ended.status, ended.failure.reason) == (job_pb2.JOB_STATUS_CANCELLED, "CANCELLED_BY_CALLER")
        assert wire.finish(running.name).status == job_pb2.JOB_STATUS_DONE
        assert wire.finish(other.name).status == job_pb2.JOB_STATUS_DONE
        assert wire.cancel_session(session.name).state == State.STATE_CLOSED


def test_a_session_ends_when_its_time_is_over(narrow_gateway: GatewayProcess) -> None:
    with connected(narrow_gateway) as wire:
        session = wire.open_session(max_seconds=1)
        wire.submit(LONG)  # the time of the session begins with its first job, which waits for this one
        first, second = wire.submit(LONG, session=session.name), wire.submit(session=session.name)
        wait_until(lambda: wire.session(session.name).state == State.STATE_CLOSED)
        with pytest.raises(grpc.RpcError) as caught:
            wire.submit(session=session.name)
        assert details(caught.value)["ErrorInfo"].reason == "SESSION_CLOSED"
        assert wire.finish(first.name).status == job_pb2.JOB_STATUS_DONE
        ended = wire.finish(second.name)
        assert (ended.status, ended.failure.reason) == (job_pb2.JOB_STATUS_CANCELLED, "SESSION_CLOSED")


def test_a_local_session_ends_with_the_gateway_and_its_jobs_run_again(narrow_gateway: GatewayProcess) -> None:
    with connected(narrow_gateway) as wire:
        session = wire.open_session()
        jobs = [wire.submit(LONG, session=session.name), wire.submit(session=session.name)]
    narrow_gateway.kill()
    narrow_gateway.start()
    with connected(narrow_gateway) as wire:
        assert {wire.finish(job.name).status for job in jobs} == {job_pb2.JOB_STATUS_DONE}
        assert wire.session(session.name).state == State.STATE_CLOSED


def test_the_same_request_id_opens_one_session(wire: Wire) -> None:
    request_id = uuid.uuid4().hex
    first = wire.open_session(request_id=request_id)
    assert wire.open_session(request_id=request_id).name == first.name
    with pytest.raises(grpc.RpcError) as caught:
        wire.open_session(mode=job_pb2.SCHEDULING_MODE_BATCH, request_id=request_id)
    assert details(caught.value)["ErrorInfo"].reason == "REQUEST_ID_REUSED"


def test_sessions_are_listed_by_backend_in_pages_newest_first(wire: Wire) -> None:
    names = [wire.open_session("local_noisy_27q").name for _ in range(3)]
    request = session_service_pb2.ListSessionsRequest(backend="local_noisy_27q", page_size=2)
    page = wire.sessions.ListSessions(request, metadata=wire.metadata, timeout=10)
    request.page_token = page.next_page_token
    rest = wire.sessions.ListSessions(request, metadata=wire.metadata, timeout=10)
    assert [session.name for session in (*page.sessions, *rest.sessions)] == names[::-1]
    request.backend = "local_simulator"
    with pytest.raises(grpc.RpcError) as caught:
        wire.sessions.ListSessions(request, metadata=wire.metadata, timeout=10)
    assert "page_token" in violations(caught.value)


def test_what_fits_no_session_is_refused_by_the_name_of_its_field(wire: Wire) -> None:
    session = wire.open_session("local_noisy_5q")
    wrong = {
        "session.mode": lambda: wire.open_session(mode=job_pb2.SCHEDULING_MODE_JOB),
        "session.max_time": lambda: wire.open_session(max_seconds=0),
        "session.backend": lambda: wire.open_session(""),
        "name": lambda: wire.session("jobs/1"),
        "session": lambda: wire.submit(session=session.name),
    }
    for field, call in wrong.items():
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert field in violations(caught.value)


def test_a_session_that_is_not_there_is_not_found(wire: Wire) -> None:
    for call in (wire.session, wire.close_session, wire.cancel_session, lambda name: wire.submit(session=name)):
        with pytest.raises(grpc.RpcError) as caught:
            call("sessions/none")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]
        assert details(caught.value)["ErrorInfo"].reason == "SESSION_NOT_FOUND"
        assert details(caught.value)["ResourceInfo"].resource_name == "none"


def test_the_python_client_runs_jobs_in_a_session(gateway: GatewayProcess) -> None:
    with GatewayProvider(gateway.target, gateway.api_key) as provider:
        backend = provider.get_backend("local_simulator")
        with backend.open_session(max_time="1h") as session:
            job = backend.run(BELL, shots=10)
            assert (job.session_id, job.scheduling_mode()) == (session.session_id, "session")
            assert [each.job_id() for each in provider.jobs(session_id=session.session_id)] == [job.job_id()]
        assert sum(job.result(timeout=60).get_counts().values()) == 10
        assert backend.session is None
        ended = backend.open_session(mode="batch")
        with connected(gateway) as wire:
            wire.close_session(f"sessions/{ended.session_id}")
        with pytest.raises(IBMBackendError) as caught:
            backend.run(BELL)
        assert caught.value.reason == "SESSION_CLOSED"
        backend.cancel_session()
        assert backend.run(BELL).session_id is None


async def test_the_client_for_asyncio_runs_jobs_in_a_session(gateway: GatewayProcess) -> None:
    async with qgateway_aio.GatewayProvider(gateway.target, gateway.api_key) as provider:
        backend = await provider.get_backend("local_simulator")
        async with await backend.open_session(mode="batch") as session:
            job = await backend.run(BELL, shots=10)
            assert (job.session_id, job.scheduling_mode()) == (session.session_id, "batch")
        assert sum((await job.result(timeout=60)).get_counts().values()) == 10
