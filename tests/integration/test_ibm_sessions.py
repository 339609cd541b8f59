"""Sessions and batches at IBM Quantum: the real server process, over the emulator of the service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from qgateway import GatewayProvider, IBMBackendError
from qgateway.v1 import job_pb2, session_pb2, session_service_pb2

from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import wait_until
from tests.support.wire import BELL, Wire, connected, details

State = session_pb2.Session.State
SESSION, BATCH = job_pb2.SCHEDULING_MODE_SESSION, job_pb2.SCHEDULING_MODE_BATCH
OPTIONS = job_pb2.RunOptions(shots=10, transpile=job_pb2.TRANSPILE_LEVEL_1)


@pytest.fixture
def wire(ibm_gateway: GatewayProcess) -> Iterator[Wire]:
    with connected(ibm_gateway) as made:
        yield made


def submit(wire: Wire, session: session_pb2.Session, **fields: Any) -> job_pb2.Job:
    return wire.submit(BELL, "ibm_alder", session=session.name, options=OPTIONS, **fields)


@pytest.mark.parametrize(("mode", "upstream"), [(SESSION, "dedicated"), (BATCH, "batch")])
def test_jobs_run_in_a_session_of_the_provider(
    wire: Wire, control: EmulatorControl, mode: job_pb2.SchedulingMode.ValueType, upstream: str
) -> None:
    opened = wire.open_session("ibm_alder", mode, account="accounts/beta", max_seconds=900)
    assert (opened.mode, opened.state, opened.account) == (mode, State.STATE_OPEN, "beta")
    assert (opened.max_time.seconds, opened.interactive_timeout.seconds) == (900, 60)
    jobs = [submit(wire, opened) for _ in range(2)]
    assert {wire.finish(job.name).status for job in jobs} == {job_pb2.JOB_STATUS_DONE}
    assert {(job.account, job.session, job.scheduling_mode) for job in jobs} == {("beta", opened.name, mode)}
    (session,) = control.sessions()
    assert (session["mode"], session["id"]) == (upstream, opened.provider_session_id)
    assert {job["session_id"] for job in control.jobs()} == {opened.provider_session_id}
    used = wire.session(opened.name)
    assert (used.state, used.accepting_jobs) == (State.STATE_INACTIVE, True)
    assert used.HasField("activate_time")
    assert used.HasField("usage_time")
    assert wire.close_session(opened.name).state == State.STATE_CLOSED
    with pytest.raises(grpc.RpcError) as caught:
        submit(wire, opened)
    assert details(caught.value)["ErrorInfo"].reason == "SESSION_CLOSED"
    assert len(control.jobs()) == 2


def test_a_session_whose_time_is_over_takes_no_jobs(wire: Wire, control: EmulatorControl) -> None:
    session = wire.open_session("ibm_alder", SESSION, max_seconds=1)
    wire.finish(submit(wire, session).name)
    wait_until(lambda: wire.session(session.name).state == State.STATE_CLOSED)
    with pytest.raises(grpc.RpcError) as caught:
        submit(wire, session)
    assert details(caught.value)["ErrorInfo"].reason == "SESSION_CLOSED"
    assert len(control.jobs()) == 1


def test_a_session_that_was_closed_past_the_gateway_takes_no_jobs(wire: Wire, control: EmulatorControl) -> None:
    session = wire.open_session("ibm_alder", SESSION)
    message = "The session does not accept jobs."
    control.fault("POST /jobs", "respond", status=400, code=1208, message=message)
    control.fault("GET /sessions/{session_id}", "respond", status=404, code=1291, message="No such session.")
    with pytest.raises(grpc.RpcError) as caught:
        submit(wire, session)
    assert details(caught.value)["ErrorInfo"].reason == "SESSION_CLOSED"
    assert not wire.list()


def test_a_cancelled_session_cancels_its_jobs_upstream(wire: Wire, control: EmulatorControl) -> None:
    control.settings(manual=True)
    session = wire.open_session("ibm_alder", BATCH)
    jobs = [submit(wire, session) for _ in range(3)]
    assert wire.cancel_session(session.name).state == State.STATE_CLOSED
    for job in jobs:
        ended = wire.finish(job.name)
        assert (ended.status, ended.failure.reason) == (job_pb2.JOB_STATUS_CANCELLED, "CANCELLED_BY_CALLER")
    assert {job["state"] for job in control.jobs()} == {"Cancelled"}


def test_a_closed_session_still_gets_the_jobs_that_wait_for_their_turn(
    new_ibm_gateway: Callable[..., GatewayProcess], control: EmulatorControl
) -> None:
    with connected(new_ibm_gateway(submits_per_minute=30).start()) as wire:
        session = wire.open_session("ibm_alder", SESSION)
        jobs = [submit(wire, session)]
        while jobs[-1].status != job_pb2.JOB_STATUS_INITIALIZING:
            jobs.append(submit(wire, session))
        closed = wire.close_session(session.name)
        assert (closed.accepting_jobs, closed.state == State.STATE_CLOSED) == (False, False)
        with pytest.raises(grpc.RpcError) as caught:
            submit(wire, session)
        assert details(caught.value)["ErrorInfo"].reason == "SESSION_CLOSED"
        assert {wire.finish(job.name).status for job in jobs} == {job_pb2.JOB_STATUS_DONE}
        wait_until(lambda: [each["accepting_jobs"] for each in control.sessions()] == [False])
        assert {job["session_id"] for job in control.jobs()} == {session.provider_session_id}


def test_the_python_client_opens_sessions_at_the_provider(
    ibm_gateway: GatewayProcess, control: EmulatorControl
) -> None:
    with GatewayProvider(ibm_gateway.target, ibm_gateway.api_key) as provider:
        backend = provider.get_backend("ibm_alder")
        with backend.open_session(max_time="10m", mode="batch") as session:
            assert (session.mode, session.max_time) == ("batch", 600)
            job = backend.run(BELL, shots=10, transpile=1)
            job.wait_for_final_state(timeout=60)
        assert (job.session_id, job.scheduling_mode()) == (session.session_id, "batch")
        assert [each["accepting_jobs"] for each in control.sessions()] == [False]
        other = backend.open_session(max_time=600)
        other.cancel()
        with pytest.raises(RuntimeError):
            backend.run(BELL)
        backend.cancel_session()
        ended = backend.open_session()
        with connected(ibm_gateway) as wire:
            wire.close_session(f"sessions/{ended.session_id}")
        with pytest.raises(IBMBackendError) as caught:
            backend.run(BELL, transpile=1)
        assert caught.value.reason == "SESSION_CLOSED"
        assert "Open another one" in caught.value.diagnostics()


@pytest.mark.parametrize("fault", [{"action": "drop"}, {"action": "cut", "bytes": 40}, {"action": "garble"}])
def test_a_session_whose_opening_got_lost_is_told_as_such_and_can_be_asked_for_again(
    wire: Wire, control: EmulatorControl, fault: dict[str, Any]
) -> None:
    """The provider may have opened it: nothing tells that one from the sessions of others, so it is left to end by itself."""
    control.fault("POST /sessions", **({"when": "after"} if fault["action"] == "drop" else {}), **fault)
    with pytest.raises(grpc.RpcError) as caught:
        wire.open_session("ibm_alder", SESSION, request_id="again")
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
    assert "that session holds no jobs and costs nothing" in caught.value.details()  # type: ignore[attr-defined]
    session = wire.open_session("ibm_alder", SESSION, request_id="again")
    assert wire.finish(submit(wire, session).name).status == job_pb2.JOB_STATUS_DONE
    lost, known = control.sessions()
    assert known["id"] == session.provider_session_id
    assert (lost["state"], lost["started_at"]) == ("open", None)


def test_a_session_is_kept_although_its_caller_did_not_wait_for_it(wire: Wire, control: EmulatorControl) -> None:
    fault = control.fault("POST /sessions", "delay")
    request = session_service_pb2.CreateSessionRequest(
        session=session_pb2.Session(backend="ibm_alder", mode=SESSION), request_id="impatient"
    )
    with pytest.raises(grpc.RpcError) as caught:
        wire.sessions.CreateSession(request, metadata=wire.metadata, timeout=1)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED  # type: ignore[attr-defined]
    control.clear_faults(fault)
    listing = session_service_pb2.ListSessionsRequest()
    wait_until(lambda: wire.sessions.ListSessions(listing, metadata=wire.metadata, timeout=10).sessions)
    again = wire.sessions.CreateSession(request, metadata=wire.metadata, timeout=10).session
    assert [session["id"] for session in control.sessions()] == [again.provider_session_id]
