"""`python -m tests.faults.watches`: torture the watches, print what came of it. `make torture` runs it."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tests.faults.watches.report import as_document, has_passed, show
from tests.faults.watches.restart import restart_under_watches
from tests.faults.watches.torture import Outcome, Plan, Torture, new_seed


def main(
    *,
    seed: Annotated[
        int | None, typer.Option(help="Decides what happens and in what order. Default: a new one.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="How long things break. On a slow machine half as long again.")] = 570,
    events: Annotated[int, typer.Option(help="Fewer events seen than this, and the run has failed.")] = 100_000,
    kills: Annotated[int, typer.Option(help="Fewer kills of the server than this, and the run has failed.")] = 50,
    gaps: Annotated[
        int,
        typer.Option(help="Told states in place of compacted history less often than this, and the run has failed."),
    ] = 20,
    deletions: Annotated[int, typer.Option(help="Fewer jobs deleted than this, and the run has failed.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
    keep: Annotated[Path | None, typer.Option(help="New folder to keep the server's store and log in.")] = None,
) -> None:
    """Kill the server and cut its clients, and compare what they saw with what happened. Exit code 1 if a promise was broken."""
    if keep is not None and keep.exists():
        raise typer.BadParameter(f"{keep} exists: another run's jobs could be in it")
    plan = Plan(
        seed=new_seed() if seed is None else seed,
        seconds=seconds,
        most_seconds=1.5 * seconds,
        events=events,
        kills=kills,
        gaps=gaps,
        deletions=deletions,
    )
    console = Console(stderr=as_json)
    console.print(f"seed {plan.seed}")
    with tempfile.TemporaryDirectory(prefix="qgateway-torture-") as temporary:
        folder = keep or Path(temporary)
        outcome = asyncio.run(_torture(plan, _new_folder(folder, "torture"), console))
        with console.status("Restart with a thousand live watches"):
            restart = asyncio.run(
                restart_under_watches(_new_folder(folder, "restart"), watches=1_000, jobs=20, window=10)
            )
    if as_json:
        typer.echo(json.dumps(as_document(outcome, restart), indent=2))
    else:
        show(outcome, restart, console)
    raise typer.Exit(0 if has_passed(outcome, restart) else 1)


async def _torture(plan: Plan, folder: Path, console: Console) -> Outcome:
    bar = Progress(
        SpinnerColumn(),
        BarColumn(),
        TextColumn("{task.fields[events]:,} events, {task.fields[kills]} kills"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    with bar:
        task = bar.add_task("", total=plan.seconds, events=0, kills=0)

        def show_progress(seconds: float, events: int, kills: int) -> None:
            bar.update(task, completed=min(seconds, plan.seconds), events=events, kills=kills)

        return await Torture(plan, folder, show_progress).run()


def _new_folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as with Ctrl-C: with all that was started
    typer.run(main)
