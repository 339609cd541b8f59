"""A progress bar for downloads that take long, on a terminal only."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from qgateway._transfer import Progress

_PATIENCE = 1.0
"""Seconds that a download may take before its bar is shown."""


@contextmanager
def download_bar(title: str) -> Iterator[Progress | None]:
    """Give a function that shows a download's progress on standard error, or None where that is no terminal.

    Args:
        title: What is downloaded.
    """
    if not sys.stderr.isatty():
        yield None
        return
    begin = time.monotonic()
    with ExitStack() as shown:
        update: Callable[[int, int], None] | None = None

        def progress(done: int, total: int) -> None:
            nonlocal update
            if update is None and done < total and time.monotonic() - begin > _PATIENCE:
                update = _show(title, shown)
            if update is not None:
                update(done, total)

        yield progress


def _show(title: str, shown: ExitStack) -> Callable[[int, int], None]:
    """Put a bar on the terminal until `shown` closes; return the function that moves it."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    bar = shown.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
    task = bar.add_task(title)
    return lambda done, total: bar.update(task, completed=done, total=total)
