"""Sessions of callers: whose they are, and when they end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.domain.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Reason,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from gateway.domain.job import SchedulingMode
from gateway.domain.provider import Capability
from gateway.domain.session import Session, SessionState
from gateway.engine.sessions import SessionRequest
from tests.support.scripted_provider import ScriptedProvider
from tests.support.waiting import until
from tests.unit.engine.conftest import ALICE, MALLORY, Engine, running_engine

REQUEST = SessionRequest("machine", SchedulingMode.SESSION, digest="d")


async def opened(engine: Engine, **fields: object) -> Session:
    return await engine.sessions.create(ALICE, replace(REQUEST, **fields))  # type: ignore[arg-type]


async def test_another_tenants_session_is_not_found(engine: Engine) -> None:
    session = await opened(engine)
    sessions = engine.sessions
    for call in (sessions.get, sessions.close, sessions.cancel):
        with pytest.raises(NotFound) as caught:
            await call(MALLORY, session.id)
        assert caught.value.reason is Reason.SESSION_NOT_FOUND
    with pytest.raises(NotFound):
        await engine.submit(MALLORY, session=session.id)
    assert not (await sessions.list(MALLORY, "", limit=10, cursor=None)).sessions
    assert (await sessions.list(ALICE, "", limit=10, cursor=None)).sessions == (session,)
    assert (await sessions.get(ALICE, session.id)).accepting_jobs


async def test_a_job_is_sent_with_the_providers_id_of_its_session(engine: Engine) -> None:
    session = await opened(engine, mode=SchedulingMode.BATCH)
    job = await engine.submit(session=session.id)
    assert (job.session, job.scheduling_mode) == (session.name, SchedulingMode.BATCH)
    assert engine.provider.submitted[0].session == session.provider_session_id == "session-1"


async def test_the_same_request_twice_at_a_time_opens_one_session(engine: Engine) -> None:
    first, second = await asyncio.gather(opened(engine, request_id="r"), opened(engine, request_id="r"))
    assert first.id == second.id
    told = engine.provider.sessions
    assert [name for name in told if told[name].accepting_jobs] == [first.provider_session_id]


async def test_a_session_that_its_provider_ended_takes_no_jobs_and_says_so(engine: Engine) -> None:
    session = await opened(engine)
    await engine.provider.cancel_session(session.provider_session_id)
    assert (await engine.sessions.get(ALICE, session.id)).state is SessionState.CLOSED
    with pytest.raises(FailedPrecondition) as caught:
        await engine.submit(session=session.id)
    assert caught.value.reason is Reason.SESSION_CLOSED
    assert not engine.provider.submitted


async def test_a_job_refused_because_its_session_ended_meanwhile_is_told_so(tmp_path: Path) -> None:
    async with running_engine(tmp_path / "store.db", ScriptedProvider(volatile=False)) as engine:
        session = await opened(engine)
        await engine.provider.cancel_session(session.provider_session_id)
        engine.provider.refusals.append(InvalidArgument("The session does not accept jobs."))
        with pytest.raises(FailedPrecondition) as caught:
            await engine.submit(session=session.id)
        assert caught.value.reason is Reason.SESSION_CLOSED


async def test_a_session_that_its_provider_forgot_has_ended(engine: Engine) -> None:
    session = await opened(engine)
    engine.provider.sessions.clear()
    ended = await engine.sessions.get(ALICE, session.id)
    assert (ended.state, ended.accepting_jobs) == (SessionState.CLOSED, False)
    assert ended.closed_at is not None


async def test_a_session_is_closed_upstream_when_its_last_job_has_got_there(engine: Engine) -> None:
    session = await opened(engine)
    engine.provider.refusals.append(ResourceExhausted("Full.", retry_after=0.2))
    await engine.submit(session=session.id)
    closed = await engine.sessions.close(ALICE, session.id)
    assert (closed.accepting_jobs, closed.state) == (False, SessionState.OPEN)
    assert engine.provider.sessions[session.provider_session_id].accepting_jobs
    await until(lambda: not engine.provider.sessions[session.provider_session_id].accepting_jobs)
    assert [sent.session for sent in engine.provider.submitted] == [session.provider_session_id]
    assert (await engine.sessions.get(ALICE, session.id)).state is SessionState.CLOSED


async def test_a_session_that_cannot_be_closed_now_is_closed_later_even_after_a_restart(tmp_path: Path) -> None:
    provider = ScriptedProvider()
    async with running_engine(tmp_path / "store.db", provider) as engine:
        session = await opened(engine)
        provider.session_errors.append(Unavailable("Away."))
        assert not (await engine.sessions.close(ALICE, session.id)).accepting_jobs
        assert provider.sessions[session.provider_session_id].accepting_jobs
    async with running_engine(tmp_path / "store.db", provider):
        await until(lambda: not provider.sessions[session.provider_session_id].accepting_jobs)


async def test_a_listing_shows_what_is_known_while_the_provider_is_away(engine: Engine) -> None:
    session = await opened(engine)
    engine.provider.session_errors.append(Unavailable("Away."))
    assert (await engine.sessions.list(ALICE, "machine", limit=10, cursor=None)).sessions == (session,)
    engine.provider.session_errors.append(Unavailable("Away."))
    with pytest.raises(Unavailable):
        await engine.sessions.get(ALICE, session.id)


async def test_what_callers_do_to_sessions_is_audited(engine: Engine) -> None:
    session = await opened(engine)
    await engine.sessions.close(ALICE, session.id)
    await engine.sessions.cancel(ALICE, session.id)
    entries = [record.entry for record in await engine.store.audit_records(limit=10)]
    assert [entry.action for entry in entries] == ["session.create", "session.close", "session.cancel"]
    assert {(entry.resource, entry.caller) for entry in entries} == {(session.name, "alice")}


async def test_an_account_without_sessions_says_so(engine: Engine) -> None:
    engine.provider.capabilities = frozenset({Capability.PUSH, Capability.VOLATILE})
    with pytest.raises(Unimplemented) as caught:
        await opened(engine)
    assert caught.value.reason is Reason.SESSIONS_UNSUPPORTED
