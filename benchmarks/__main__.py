"""`python -m benchmarks`: measure, print, and keep the figures in `benchmarks/results/latest.json`."""

from __future__ import annotations

import json
import os
import platform
import signal
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks import access, latency, parsing, processes, rates, transfers, unary, upstream, upstream_status, watches
from benchmarks.harness import Figure

_GROUPS = {
    "unary": unary.run,
    "access": access.run,
    "rates": rates.run,
    "latency": latency.run,
    "upstream": upstream.run,
    "upstream_status": upstream_status.run,
    "processes": processes.run,
    "parsing": parsing.run,
    "watches": watches.run,
    "transfers": transfers.run,
}
_RESULTS = Path(__file__).parent / "results" / "latest.json"


def main(
    groups: Annotated[
        list[str] | None, typer.Argument(help=f"Groups to run: {', '.join(_GROUPS)}. Default: all.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure against the bare building blocks. Exit code 1 if a target is missed."""
    unknown = set(groups or ()) - set(_GROUPS)
    if unknown:
        raise typer.BadParameter(f"no such group: {', '.join(sorted(unknown))}")
    console = Console(stderr=as_json)
    figures: list[Figure] = []
    with Progress(
        SpinnerColumn(), "{task.description}", "{task.completed} values", TimeElapsedColumn(), console=console
    ) as bar:
        for name in groups or _GROUPS:
            task = bar.add_task(name, total=None)
            figures += _GROUPS[name](lambda task=task: bar.advance(task))  # type: ignore[misc]
            bar.update(task, total=1, completed=1)
    document = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.system()},
        "figures": [asdict(figure) for figure in figures],
    }
    if not groups:
        _RESULTS.parent.mkdir(exist_ok=True)
        _RESULTS.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    if as_json:
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        console.print(_table(figures))
    raise typer.Exit(0 if all(figure.met for figure in figures) else 1)


def _table(figures: list[Figure]) -> Table:
    table = Table("figure", "value", "baseline", "ratio", "target", "", box=None)
    for figure in figures:
        table.add_row(
            figure.name,
            f"{figure.value:,.1f} {figure.unit}",
            "" if figure.baseline is None else f"{figure.baseline:,.1f} {figure.unit}",
            "" if figure.ratio is None else f"{figure.ratio:.3f}",
            figure.target,
            "[green]met[/]" if figure.met else "[red]missed[/]",
        )
    return table


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as with Ctrl-C: with all that was started
    typer.run(main)
