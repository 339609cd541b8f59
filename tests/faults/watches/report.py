"""Prints what came of a run, for people or as JSON."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

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


def as_document(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome as JSON has it. Times are in seconds."""
    damage = outcome.damage
    return {
        "passed": outcome.passed,
        "plan": asdict(outcome.plan),
        "seconds": round(outcome.seconds, 1),
        "events_seen": outcome.seen,
        "history": {"events": outcome.history, "jobs": outcome.jobs, "acknowledged": outcome.acknowledged},
        "watches": {"all": outcome.watches, "of_one_job": outcome.watches_of_jobs, "records": dict(outcome.records)},
        "kills": {"all": damage.killed, **damage.kills},
        "stops": damage.stops,
        "connections_harmed": {"all": damage.cuts.total(), **damage.cuts},
        "seconds_to_restart": _spread(damage.restarts),
        "violations": {promise: outcome.broken(promise) for promise in _PROMISES},
        "details": [f"{each.promise}: {each.watcher}: {each.text}" for each in outcome.violations[:_MOST]],
        "shortcomings": outcome.shortcomings,
    }


def show(outcome: Outcome, console: Console) -> None:
    """Print the outcome for people."""
    damage, records = outcome.damage, outcome.records
    restart = _spread(damage.restarts)
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
        ("changes acknowledged", outcome.acknowledged),
        ("kills of the server", damage.killed),
        *((f"    {way}", count) for way, count in sorted(damage.kills.items())),
        ("orderly stops of the server", damage.stops),
        ("connections harmed", damage.cuts.total()),
        *((f"    {harm}", count) for harm, count in sorted(damage.cuts.items())),
    ):
        done.add_row(name, f"{count:,}")
    done.add_row("from a kill until it serves, median", f"{restart['median']:.2f} s")
    done.add_row("from a kill until it serves, longest", f"{restart['longest']:.2f} s")
    verdict = Table(box=None)
    verdict.add_column("promise")
    verdict.add_column("how often it was broken")
    verdict.add_column(justify="right")
    for promise, meaning in _PROMISES.items():
        broken = outcome.broken(promise)
        verdict.add_row(promise, meaning, f"[{'red' if broken else 'green'}]{broken}[/]")
    console.print(done, "", verdict, "")
    for line in as_document(outcome)["details"]:
        console.print(f"[red]{line}[/]", highlight=False)
    for line in outcome.shortcomings[:_MOST]:
        console.print(f"[red]{line}[/]", highlight=False)
    console.print("[bold green]passed[/]" if outcome.passed else "[bold red]failed[/]")


def _spread(values: list[float]) -> dict[str, float]:
    if not values:
        return {"median": 0.0, "longest": 0.0}
    return {"median": round(statistics.median(values), 3), "longest": round(max(values), 3)}
