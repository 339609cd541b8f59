"""Prints what came of a run, for people or as JSON."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.faults.watches.restart import Restart
from tests.faults.watches.torture import Outcome

_MOST = 20
"""Violations that are told one by one."""

_PROMISES = {
    "reliable": "events lost, or told though they never happened",
    "unique": "events told twice",
    "ordered": "events out of order",
    "resumable": "resumptions that went wrong",
    "bookmarkable": "events that came after their bookmark",
    "final": "jobs and watches without their final event",
    "kept": "changes that were acknowledged and lost",
}


MOST_SECONDS_TO_RESUME = 5.0
"""Seconds after a restart in which every watch has to be served again."""


def has_passed(outcome: Outcome, restart: Restart) -> bool:
    """Return whether every promise was kept, and the run was hard enough to say so."""
    before, after = restart.tracking
    # Chance decides about the calls at the edges of the window.
    frugal = after <= 1.1 * before + 2
    return outcome.passed and not restart.violations and frugal and restart.resumed <= MOST_SECONDS_TO_RESUME


def as_document(outcome: Outcome, restart: Restart) -> dict[str, Any]:
    """Return what came out as JSON has it. Times are in seconds."""
    damage, (before, after) = outcome.damage, restart.tracking
    return {
        "passed": has_passed(outcome, restart),
        "plan": asdict(outcome.plan),
        "seconds": round(outcome.seconds, 1),
        "events_seen": outcome.seen,
        "history": {"events": outcome.history, "jobs": outcome.jobs, "acknowledged": outcome.acknowledged},
        "gone": {
            "compacted_up_to": outcome.compacted,
            "told_by_states": outcome.gaps,
            "refused": outcome.refusals,
            "jobs_deleted": outcome.deletions,
        },
        "watches": {"all": outcome.watches, "of_one_job": outcome.watches_of_jobs, "records": dict(outcome.records)},
        "kills": {"all": damage.killed, **damage.kills},
        "stops": damage.stops,
        "connections_harmed": {"all": damage.cuts.total(), **damage.cuts},
        "seconds_to_restart": _spread(damage.restarts),
        "violations": {promise: outcome.broken(promise) for promise in _PROMISES},
        "details": _details(outcome, restart),
        "shortcomings": outcome.shortcomings,
        "restart": {
            "watches": restart.watches,
            "seconds_until_serving": round(restart.serving, 2),
            "seconds_until_all_resumed": round(restart.resumed, 2),
            "calls_to_follow_jobs": {"window": restart.window, "before": before, "after": after},
            "calls_to_start": restart.starting,
            "violations": len(restart.violations),
        },
    }


def show(outcome: Outcome, restart: Restart, console: Console) -> None:
    """Print what came out for people."""
    damage, records = outcome.damage, outcome.records
    restarts = _spread(damage.restarts)
    done = Table(title=f"Torture of the watches, seed {outcome.plan.seed}, {outcome.seconds:.0f} s", box=None)
    done.add_column("what was done")
    done.add_column(justify="right")
    for name, count in (
        ("events seen by watchers", outcome.seen),
        ("heartbeats", records["heartbeat"]),
        ("watches", outcome.watches),
        ("    of one job", outcome.watches_of_jobs),
        ("streams opened", records["opened"]),
        ("jobs", outcome.jobs),
        ("events in the history", outcome.history),
        ("events of it that were compacted, up to", outcome.compacted),
        ("states told in place of what was gone", outcome.gaps),
        ("refusals because it was gone", outcome.refusals),
        ("jobs deleted", outcome.deletions),
        ("changes acknowledged", outcome.acknowledged),
        ("kills of the server", damage.killed),
        *((f"    {way}", count) for way, count in sorted(damage.kills.items())),
        ("orderly stops of the server", damage.stops),
        ("connections harmed", damage.cuts.total()),
        *((f"    {harm}", count) for harm, count in sorted(damage.cuts.items())),
    ):
        done.add_row(name, f"{count:,}")
    done.add_row("from a kill until it serves, median", f"{restarts['median']:.2f} s")
    done.add_row("from a kill until it serves, longest", f"{restarts['longest']:.2f} s")
    verdict = Table(box=None)
    verdict.add_column("promise")
    verdict.add_column("how often it was broken")
    verdict.add_column(justify="right")
    for promise, meaning in _PROMISES.items():
        broken = outcome.broken(promise)
        verdict.add_row(promise, meaning, f"[{'red' if broken else 'green'}]{broken}[/]")
    console.print(done, "", verdict, "", _restart_table(restart), "")
    for line in [*_details(outcome, restart), *outcome.shortcomings[:_MOST]]:
        console.print(line, style="red", markup=False, highlight=False)
    console.print("[bold green]passed[/]" if has_passed(outcome, restart) else "[bold red]failed[/]")


def _restart_table(restart: Restart) -> Table:
    before, after = restart.tracking
    table = Table(title=f"A restart with {restart.watches:,} live watches", box=None, show_header=False)
    table.add_row("until it serves again", f"{restart.serving:.2f} s")
    table.add_row(
        f"from then on until all are resumed (at most {MOST_SECONDS_TO_RESUME:g} s)", f"{restart.resumed:.2f} s"
    )
    table.add_row(f"calls to the provider to follow jobs, in {restart.window:g} s before", str(before))
    table.add_row(f"calls to the provider to follow jobs, in {restart.window:g} s from the kill on", str(after))
    table.add_row("calls to the provider that every start makes", str(restart.starting))
    table.add_row("broken promises", str(len(restart.violations)))
    return table


def _details(outcome: Outcome, restart: Restart) -> list[str]:
    found = [*outcome.violations, *restart.violations]
    return [f"{each.promise}: {each.watcher}: {each.text}" for each in found[:_MOST]]


def _spread(values: list[float]) -> dict[str, float]:
    if not values:
        return {"median": 0.0, "longest": 0.0}
    return {"median": round(statistics.median(values), 3), "longest": round(max(values), 3)}
