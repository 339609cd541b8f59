"""Short runs of what `make torture` does."""

from __future__ import annotations

from pathlib import Path

from tests.faults.watches.restart import restart_under_watches
from tests.faults.watches.torture import Plan, Torture


async def test_a_short_torture_breaks_no_promise(tmp_path: Path) -> None:
    plan = Plan(
        seed=4,
        seconds=12,
        most_seconds=70,
        events=1_000,
        kills=2,
        filter_watchers=10,
        rewinders=2,
        sleepers=6,
        gaps=1,
        deletions=1,
        history=100,
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


async def test_watches_go_on_after_a_restart_and_the_provider_is_asked_no_more_than_before(tmp_path: Path) -> None:
    restart = await restart_under_watches(tmp_path, watches=100, jobs=5, window=4)
    assert restart.violations == []
    before, after = restart.tracking
    # Chance decides about the calls at the edges of the window.
    assert 0 < after <= 1.3 * before + 2
    assert restart.starting < 20
