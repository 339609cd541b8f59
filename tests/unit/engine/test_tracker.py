from __future__ import annotations

import pytest

from gateway.domain import failpoints
from gateway.domain.job import JobEvent, JobStatus
from tests.unit.engine.conftest import ALICE, Engine


async def test_news_that_could_not_be_committed_is_committed_later_and_in_its_order(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await engine.submit()
    other = await engine.submit()
    monkeypatch.setitem(failpoints._ARMED, "store.before_commit", failpoints._Armed("error", 0.0, 1))
    engine.provider.tell(job.id, JobStatus.RUNNING)
    engine.provider.tell(job.id, JobStatus.DONE)
    engine.provider.tell(other.id, JobStatus.RUNNING)
    await engine.status(other, JobStatus.RUNNING)
    await engine.status(job, JobStatus.DONE)
    history = await engine.watches.events(ALICE, job.id, after=0, limit=100)
    assert [each.job.status for each in history if isinstance(each, JobEvent)][-2:] == [
        JobStatus.RUNNING,
        JobStatus.DONE,
    ]
