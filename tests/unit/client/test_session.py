"""Sessions: opened at once, closed on leaving the block, readable where the gateway has none."""

from __future__ import annotations

from typing import Any

import pytest
from qgateway import GatewayBackend, IBMApiError, IBMInputValueError
from qgateway._session_record import parse_max_time
from qgateway.v1 import job_pb2, session_pb2, session_service_pb2

from tests.support.refusals import refusal
from tests.unit.client.scripted_gateway import ScriptedGateway

QASM = "OPENQASM 3.0; bit c; qubit q; c = measure q;"


@pytest.fixture
def with_sessions(scripted: ScriptedGateway) -> ScriptedGateway:
    """The gateway, with sessions."""
    made: list[session_pb2.Session] = []

    def create(request: session_service_pb2.CreateSessionRequest, _: Any) -> session_service_pb2.CreateSessionResponse:
        made.append(request.session)
        request.session.name = f"sessions/s{len(made)}"
        return session_service_pb2.CreateSessionResponse(session=request.session)

    scripted.on("CreateSession", create)
    scripted.on("CloseSession", lambda *_: session_service_pb2.CloseSessionResponse())
    scripted.on("CancelSession", lambda *_: session_service_pb2.CancelSessionResponse())
    return scripted


def test_a_gateway_without_sessions_says_so(backend: GatewayBackend) -> None:
    with pytest.raises(
        IBMApiError, match="Failed to open a session: This server does not have this call yet"
    ) as caught:
        backend.open_session()
    assert caught.value.reason == "RPC_NOT_IMPLEMENTED"
    assert backend.session is None


def test_jobs_run_in_the_session_that_is_open(backend: GatewayBackend, with_sessions: ScriptedGateway) -> None:
    session = backend.open_session(max_time="1h 30m", mode="batch")
    assert (session.session_id, session.active, session.mode, session.max_time) == ("s1", True, "batch", 5400)
    assert backend.session is session
    request = with_sessions.requests["CreateSession"][-1]
    assert (request.session.backend, request.account) == ("machine", "local")
    assert request.session.mode == job_pb2.SCHEDULING_MODE_BATCH
    assert request.request_id
    assert backend.run(QASM).session_id == "s1"
    backend.close_session()
    assert backend.session is None
    assert not session.active
    assert backend.run(QASM).session_id is None
    assert with_sessions.requests["CloseSession"][-1].name == "sessions/s1"


def test_leaving_the_block_closes_the_session(backend: GatewayBackend, with_sessions: ScriptedGateway) -> None:
    with backend.open_session() as session:
        assert backend.run(QASM).session_id == "s1"
        assert with_sessions.count("CloseSession") == 0
    assert not session.active
    assert with_sessions.count("CloseSession") == 1
    assert backend.session is None
    assert backend.run(QASM).session_id is None


def test_leaving_the_block_by_an_error_closes_the_session_too(
    backend: GatewayBackend, with_sessions: ScriptedGateway
) -> None:
    with pytest.raises(KeyError), backend.open_session():
        raise KeyError
    assert with_sessions.count("CloseSession") == 1


def test_leaving_an_outer_block_leaves_the_inner_session_open(
    backend: GatewayBackend, with_sessions: ScriptedGateway
) -> None:
    with backend.open_session():
        inner = backend.open_session()
    assert backend.session is inner
    assert inner.active
    assert with_sessions.requests["CloseSession"][-1].name == "sessions/s1"


def test_cancelling_ends_the_session_at_once(backend: GatewayBackend, with_sessions: ScriptedGateway) -> None:
    session = backend.open_session()
    backend.cancel_session()
    assert not session.active
    assert backend.session is None
    assert with_sessions.requests["CancelSession"][-1].name == "sessions/s1"


def test_running_in_a_session_that_was_ended_by_its_handle_is_refused(
    backend: GatewayBackend, with_sessions: ScriptedGateway
) -> None:
    session = backend.open_session()
    session.cancel()
    session.cancel()
    session.close()
    assert with_sessions.count("CancelSession") == 1
    assert with_sessions.count("CloseSession") == 0
    with pytest.raises(RuntimeError, match="s1 is closed"):
        backend.run(QASM)


def test_ending_without_a_session_does_nothing(backend: GatewayBackend, with_sessions: ScriptedGateway) -> None:
    with_sessions.calls.clear()
    backend.close_session()
    backend.cancel_session()
    assert with_sessions.calls == []


def test_a_session_that_cannot_be_closed_stays_open(backend: GatewayBackend, with_sessions: ScriptedGateway) -> None:
    session = backend.open_session()
    with_sessions.on("CloseSession", refusal("INTERNAL", "no"))
    with pytest.raises(IBMApiError, match="Failed to close session s1: no"):
        backend.close_session()
    assert session.active
    assert backend.session is session


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(90, 90), ("90s", 90), ("1h 90m", 9000), ("25h", 90_000), ("2d", 172_800), ("1.5h", 5400), ("1H30M", 5400)],
)
def test_times_are_sums_of_days_hours_minutes_and_seconds(given: Any, seconds: float) -> None:
    assert parse_max_time(given) == seconds


@pytest.mark.parametrize("given", ["90", "", "1h30", "soon", "h", "1w", 0, -5, "0s", float("inf")])
def test_a_time_without_unit_or_length_is_refused(given: Any) -> None:
    with pytest.raises(IBMInputValueError, match="max_time"):
        parse_max_time(given)


def test_an_unknown_mode_is_refused(backend: GatewayBackend) -> None:
    with pytest.raises(IBMInputValueError, match="mode"):
        backend.open_session(mode="party")  # type: ignore[arg-type]
