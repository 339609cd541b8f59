"""What the command prints: tables and lines for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from google.protobuf.timestamp_pb2 import Timestamp
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_STATUS_STYLES = {
    "INITIALIZING": "dim",
    "QUEUED": "yellow",
    "VALIDATING": "yellow",
    "RUNNING": "cyan",
    "DONE": "green",
    "CANCELLED": "magenta",
    "ERROR": "red",
}
_PIPE_WIDTH = 10_000
"""Columns of an output that is no terminal: nothing is wrapped or cut there."""


class Output:
    """Where a command prints to.

    Args:
        as_json: Whether the result is JSON.
        color: Whether colours may be used. `NO_COLOR` in the environment turns them off too.
    """

    def __init__(self, *, as_json: bool = False, color: bool = True) -> None:
        self.as_json = as_json
        self.console = _console(sys.stdout, color=color)
        self.errors = _console(sys.stderr, color=color)

    def document(self, data: Any) -> None:
        """Print one JSON document over several lines."""
        self._write(data, indent=2)

    def record(self, data: Any) -> None:
        """Print one JSON document on one line, at once."""
        self._write(data, indent=None)

    def text(self, text: str | Text = "", style: str = "") -> None:
        """Print a line for people."""
        self.console.print(safe(text) if isinstance(text, str) else text, style=style, soft_wrap=True)

    def note(self, text: str) -> None:
        """Print a line for people beside the result: on the error stream."""
        self.errors.print(safe(text), style="dim", soft_wrap=True)

    def error(self, text: str) -> None:
        """Print what went wrong, on the error stream."""
        self.errors.print("\n".join(safe(line) for line in text.splitlines()), style="red", soft_wrap=True)

    def table(
        self, columns: Sequence[str], rows: Iterable[Sequence[str | Text]], *, folded: Sequence[str] = ()
    ) -> None:
        """Print a table; on a terminal with a rule below the head, elsewhere as aligned columns.

        Args:
            columns: Heads of the columns.
            rows: Cells of each row.
            folded: Heads of the columns that take several lines where the terminal is too narrow.
        """
        style = box.SIMPLE_HEAD if self.console.is_terminal else None
        table = Table(box=style, show_edge=False, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, no_wrap=column not in folded, overflow="fold")
        for row in rows:
            table.add_row(*(Text(safe(cell)) if isinstance(cell, str) else cell for cell in row))
        self._print_columns(table)

    def facts(self, facts: Iterable[tuple[str, str | Text]]) -> None:
        """Print names and values, one pair a line; pairs without a value are left out."""
        grid = Table.grid(padding=(0, 2))
        for name, value in facts:
            if value:
                grid.add_row(Text(name, style="bold"), Text(safe(value)) if isinstance(value, str) else value)
        self._print_columns(grid)

    def _print_columns(self, table: Table) -> None:
        """Print a table, without the blanks that fill up its lines where the output is no terminal."""
        if self.console.is_terminal:
            self.console.print(table)
            return
        with self.console.capture() as capture:
            self.console.print(table)
        for line in capture.get().splitlines():
            self.console.out(line.rstrip(), highlight=False)

    def _write(self, data: Any, indent: int | None) -> None:
        utf8 = (sys.stdout.encoding or "").lower().startswith("utf")
        sys.stdout.write(json.dumps(data, indent=indent, ensure_ascii=not utf8) + "\n")
        sys.stdout.flush()


def _console(stream: TextIO, *, color: bool) -> Console:
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(
        file=stream, width=width, no_color=None if color else True, highlight=False, markup=False, emoji=False
    )


def safe(text: str) -> str:
    """Return text without control characters: names and messages must not steer the terminal of who reads them."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def status_text(status: str) -> Text:
    """Return a status in its colour."""
    return Text(status, style=_STATUS_STYLES.get(status, ""))


def yes_no(value: bool) -> str:
    """Return a truth value for people."""
    return "yes" if value else "no"


def size_text(count: int) -> str:
    """Return a number of bytes for people."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:  # noqa: PLR2004 - that is what a KiB is
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def time_text(timestamp: Timestamp) -> str:
    """Return a time for people, in the local zone; empty if it is not set."""
    if not timestamp.ByteSize():
        return ""
    return timestamp.ToDatetime(tzinfo=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def clock_text(moment: datetime) -> str:
    """Return the time of day for people, in the local zone."""
    return moment.astimezone().strftime("%H:%M:%S")


def elapsed_text(seconds: float) -> str:
    """Return a length of time as `M:SS` or `H:MM:SS`."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
