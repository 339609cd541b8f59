"""Jobs on their way to a provider that takes its time, and what is left of that when something else fails meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.domain import failpoints
from gateway.domain.errors import GatewayError, InvalidArgument, Reason, Unavailable
from gateway.domain.job import JobStatus, PendingKind, SubmissionState
from gateway.engine.pacing import Pacing
from tests.support.polled_provider import PolledProvider
from tests.support.waiting import until
from tests.unit.engine.conftest import ALICE, Engine, running_engine

FAST = Pacing(shortest_poll=0.01, longest_poll=0.05, settle_seconds=0.3, inline_seconds=0.05)


@pytest.fixture
def provider() -> PolledProvider:
    provider = PolledProvider()
    provider.answering.clear()
    return provider


@pytest.fixture
async def engine(tmp_path: Path, provider: PolledProvider) -> AsyncIterator[Engine]:
    async with running_engine(tmp_path / "store.db", provider, FAST) as engine:
        yield engine


async def test_a_provider_that_takes_long_does_not_keep_the_caller(engine: Engine, provider: PolledProvider) -> None:
    job = await engine.submit()
    assert (job.status, job.submission.state) == (JobStatus.INITIALIZING, SubmissionState.SENT)
    assert job.pending_reason is not None
    assert job.pending_reason.kind is PendingKind.SUBMITTING
    assert "has not answered yet" in job.pending_reason.message
    provider.answering.set()
    queued = await engine.status(job, JobStatus.QUEUED)
    assert queued.submission.state is SubmissionState.ACCEPTED
    assert len(provider.submitted) == 1


async def test_a_job_that_is_refused_after_the_caller_was_answered_ends_in_error(
    engine: Engine, provider: PolledProvider
) -> None:
    provider.refusals = [InvalidArgument("No such gate.", reason=Reason.PROVIDER_REJECTED)]
    job = await engine.submit()
    provider.answering.set()
    failed = await engine.status(job, JobStatus.ERROR)
    assert failed.submission.state is SubmissionState.REFUSED
    assert failed.failure is not None
    assert (failed.failure.reason, failed.failure.message) == (Reason.PROVIDER_REJECTED, "No such gate.")


async def test_a_job_that_is_refused_in_time_is_an_error_at_the_caller(
    engine: Engine, provider: PolledProvider
) -> None:
    provider.answering.set()
    provider.refusals = [InvalidArgument("No such gate.", reason=Reason.PROVIDER_REJECTED)]
    with pytest.raises(InvalidArgument):
        await engine.submit()


async def test_a_job_that_is_not_taken_after_the_caller_was_answered_waits(
    engine: Engine, provider: PolledProvider
) -> None:
    provider.refusals = [Unavailable("Down.", retry_after=0.1)]
    job = await engine.submit()
    provider.answering.set()
    await engine.status(job, JobStatus.QUEUED)
    assert len(provider.submitted) == 1


async def test_an_answer_that_is_lost_after_the_caller_was_answered_is_a_doubt(
    engine: Engine, provider: PolledProvider
) -> None:
    provider.lost_replies = [True]
    job = await engine.submit()
    provider.answering.set()
    await engine.status(job, JobStatus.QUEUED)
    assert len(provider.submitted) == 1


async def test_what_is_under_way_when_the_gateway_stops_is_looked_up_at_the_next_start(
    tmp_path: Path, provider: PolledProvider
) -> None:
    async with running_engine(tmp_path / "store.db", provider, FAST) as engine:
        job = await engine.submit()
    taken = provider.take(job.id)
    async with running_engine(tmp_path / "store.db", provider, FAST) as engine:
        found = await engine.status(job, JobStatus.QUEUED)
    assert found.provider_job_id == taken
    assert provider.submitted == []


@pytest.mark.parametrize("waits", [False, True])
async def test_a_job_whose_acceptance_could_not_be_committed_is_found_and_not_sent_again(
    engine: Engine, provider: PolledProvider, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    """Whether it was sent at once, or after a wait."""
    provider.answering.set()
    if waits:
        provider.refusals = [Unavailable("Down.", retry_after=0.1)]
    # Commits: created as sent; [waits, sent again,] accepted.
    commit = 4 if waits else 2
    monkeypatch.setitem(failpoints._ARMED, "store.before_commit", failpoints._Armed("error", 0.0, commit))
    submitting = asyncio.gather(engine.submit(request_id="r"), return_exceptions=True)
    await until(lambda: provider.submitted)
    (outcome,) = await submitting
    assert waits != isinstance(outcome, GatewayError)
    job = await engine.store.get_job_by_request_id(ALICE.tenant, "r")
    assert job is not None
    await engine.status(job, JobStatus.QUEUED)
    assert len(provider.submitted) == 1


async def test_a_job_whose_refusal_for_now_could_not_be_committed_is_looked_up_and_sent_again(
    engine: Engine, provider: PolledProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.answering.set()
    provider.refusals = [Unavailable("Down.", retry_after=0.1)]
    # Commits: created as sent; waits.
    monkeypatch.setitem(failpoints._ARMED, "store.before_commit", failpoints._Armed("error", 0.0, 2))
    with pytest.raises(Unavailable):
        await engine.submit(request_id="r")
    job = await engine.store.get_job_by_request_id(ALICE.tenant, "r")
    assert job is not None
    await engine.status(job, JobStatus.QUEUED)
    assert len(provider.submitted) == 1


@pytest.mark.parametrize("late", [False, True])
async def test_a_job_whose_refusal_could_not_be_committed_is_looked_up_and_sent_again(
    engine: Engine, provider: PolledProvider, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """Whether its caller still waited for it, or not."""
    if not late:
        provider.answering.set()
    provider.refusals = [InvalidArgument("No such gate.", reason=Reason.PROVIDER_REJECTED)]
    # Commits: created as sent; [not answered yet;] refused.
    commit = 3 if late else 2
    monkeypatch.setitem(failpoints._ARMED, "store.before_commit", failpoints._Armed("error", 0.0, commit))
    (outcome,) = await asyncio.gather(engine.submit(request_id="r"), return_exceptions=True)
    assert late != isinstance(outcome, GatewayError)
    provider.answering.set()
    job = await engine.store.get_job_by_request_id(ALICE.tenant, "r")
    assert job is not None
    await engine.status(job, JobStatus.QUEUED)
    assert len(provider.submitted) == 1
