"""A short run of `make torture`."""

from __future__ import annotations

from pathlib import Path

from tests.faults.watches.torture import Plan, Torture


async def test_a_short_torture_breaks_no_promise(tmp_path: Path) -> None:
    plan = Plan(
        seed=4,
        seconds=15,
        events=1_000,
        kills=2,
        filter_watchers=10,
        rewinders=2,
        job_watchers=8,
        aio_watchers=3,
        library_watchers=2,
        proxies=3,
        waiting_jobs=8,
        life=(2.0, 5.0),
        heartbeat=0.5,
    )
    outcome = await Torture(plan, tmp_path).run()
    assert outcome.violations == []
    assert outcome.shortcomings == []
    assert outcome.watches_of_jobs
    assert outcome.damage.cuts.total()
    assert max(outcome.damage.restarts) < 20
