"""`python -m tests.faults.watches`: torture the watches, print what came of it. `make torture` runs it."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tests.faults.watches.report import as_document, show
from tests.faults.watches.torture import Plan, Torture, new_seed


def main(
    *,
    seed: Annotated[
        int | None, typer.Option(help="Decides what happens and in what order. Default: a new one.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="How long things break. On a slow machine half as long again.")] = 570,
    events: Annotated[int, typer.Option(help="Fewer events seen than this, and the run has failed.")] = 100_000,
    kills: Annotated[int, typer.Option(help="Fewer kills of the server than this, and the run has failed.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
    keep: Annotated[Path | None, typer.Option(help="New folder to keep the server's store and log in.")] = None,
) -> None:
    """Kill the server and cut its clients, and compare what they saw with what happened. Exit code 1 if a promise was broken."""
    if keep is not None and keep.exists():
        raise typer.BadParameter(f"{keep} exists: another run's jobs could be in it")
    plan = Plan(seed=new_seed() if seed is None else seed, seconds=seconds, events=events, kills=kills)
    console = Console(stderr=as_json)
    console.print(f"seed {plan.seed}")
    bar = Progress(
        SpinnerColumn(),
        BarColumn(),
        TextColumn("{task.fields[events]:,} events, {task.fields[kills]} kills"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    with tempfile.TemporaryDirectory(prefix="qgateway-torture-") as temporary, bar:
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        task = bar.add_task("", total=seconds, events=0, kills=0)
        outcome = asyncio.run(
            Torture(
                plan,
                folder,
                lambda now, seen, killed: bar.update(task, completed=min(now, seconds), events=seen, kills=killed),
            ).run()
        )
    if as_json:
        typer.echo(json.dumps(as_document(outcome), indent=2))
    else:
        show(outcome, console)
    raise typer.Exit(0 if outcome.passed else 1)


if __name__ == "__main__":
    typer.run(main)
