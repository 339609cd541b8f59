"""What the policy of a tenant means for the hand-over of jobs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.domain.errors import Reason, ResourceExhausted
from gateway.domain.job import JobStatus, SubmissionState
from gateway.domain.policy import NO_LIMITS, Policy, TenantPolicy
from gateway.engine.pacing import Pacing
from tests.support.scripted_provider import ScriptedProvider
from tests.unit.engine.conftest import ALICE, MALLORY, running_engine

ONE_PENDING = Policy(tenants={ALICE.tenant: TenantPolicy(limits=replace(NO_LIMITS, pending_jobs=1))})


async def test_a_job_over_a_limit_takes_no_other_jobs_turn(tmp_path: Path) -> None:
    pacing = Pacing(submits_per_minute=2)
    async with running_engine(tmp_path / "store.db", ScriptedProvider(), pacing, ONE_PENDING) as engine:
        await engine.submit(ALICE)
        for _ in range(5):
            with pytest.raises(ResourceExhausted) as refused:
                await engine.submit(ALICE)
            assert refused.value.reason is Reason.PENDING_JOBS_EXCEEDED
        other = await engine.submit(MALLORY)
        assert other.submission.state is SubmissionState.ACCEPTED


async def test_a_job_that_ends_makes_room_for_another(tmp_path: Path) -> None:
    async with running_engine(tmp_path / "store.db", ScriptedProvider(), policy=ONE_PENDING) as engine:
        job = await engine.submit(ALICE)
        engine.provider.tell(job.id, JobStatus.DONE)
        await engine.status(job, JobStatus.DONE)
        await engine.submit(ALICE)
