"""What every benchmark needs: figures, interleaved medians, servers to measure."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure."""

    name: str
    value: float
    unit: str
    baseline: float | None
    """The same measure of the bare building block, in the same unit."""
    ratio: float | None
    """`value` ÷ `baseline`."""
    target: str
    """What the ratio, or the value, should be."""
    met: bool
    how: str
    """What was measured against what."""

    @classmethod
    def compared(
        cls,
        name: str,
        unit: str,
        value: float,
        baseline: float,
        how: str,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> Figure:
        """Return a figure that counts by its ratio to the bare building block. It may have one target, or none."""
        target, met = _judged(value / baseline, "", at_least, at_most)
        return cls(name, value, unit, baseline, value / baseline, target, met, how)

    @classmethod
    def alone(
        cls, name: str, unit: str, value: float, how: str, *, at_most: float, baseline: float | None = None
    ) -> Figure:
        """Return a figure that counts by itself. A baseline is for comparison only."""
        target, met = _judged(value, f" {unit}", None, at_most)
        return cls(name, value, unit, baseline, value / baseline if baseline else None, target, met, how)


def _judged(number: float, unit: str, at_least: float | None, at_most: float | None) -> tuple[str, bool]:
    if at_least is not None:
        return f">= {at_least:g}{unit}", number >= at_least
    if at_most is not None:
        return f"<= {at_most:g}{unit}", number <= at_most
    return "none", True


def interleaved(
    measures: dict[str, Callable[[], float]], rounds: int, progress: Callable[[], None]
) -> dict[str, list[float]]:
    """Take turns between measures, so that the machine's moods hit all of them alike.

    Args:
        measures: Each returns one measured value.
        rounds: Number of values of each.
        progress: Called after each value.

    Returns:
        The values of each, in the order in which they were measured.
    """
    values: dict[str, list[float]] = {name: [] for name in measures}
    for turn in range(rounds):
        # Every other round runs backwards: who comes first gets the colder machine.
        for name in list(measures) if turn % 2 == 0 else list(reversed(measures)):
            values[name].append(measures[name]())
            progress()
    return values


def median(values: list[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def median_time(action: Callable[[], object], repeats: int) -> float:
    """Repeat an action, and return the median of the seconds that it takes."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return median(times)


_SERVE = (sys.executable, "-m", "gateway", "serve", "--dev", "--listen", "127.0.0.1:0")


@dataclass(frozen=True, slots=True)
class Server:
    """A server that was started to be measured."""

    pid: int
    target: str
    api_key: str = ""


@contextmanager
def gateway_server(store: Path | None = None, command: Sequence[str] = _SERVE, **settings: str) -> Iterator[Server]:
    """Run a gateway.

    Args:
        store: Its database, if it is to outlive the server. Default: one of its own.
        command: What to run; it prints target and key as `gateway serve --dev` does.
        settings: Settings as environment variables, without the prefix `GATEWAY_`.
    """
    with tempfile.TemporaryDirectory(prefix="qgateway-bench-") as folder:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("GATEWAY_")}
        environment["GATEWAY_STORE__PATH"] = str(store or Path(folder) / "qgateway.db")
        environment["GATEWAY_LOG__LEVEL"] = "warning"
        # One caller makes all calls, more than any caller should.
        environment["GATEWAY_ACCESS__MAX_CALLS_PER_SECOND"] = "1000000"
        environment["GRPC_ENABLE_FORK_SUPPORT"] = "false"  # as `gateway serve` does
        environment |= {f"GATEWAY_{name}": value for name, value in settings.items()}
        with _process(command, environment) as process:
            lines = dict(_line(process).split("=", 1) for _ in range(2))
            yield Server(process.pid, lines["QGATEWAY_TARGET"], lines["QGATEWAY_API_KEY"])


@contextmanager
def bare_server(module: str = "benchmarks.bare_server", *arguments: str) -> Iterator[Server]:
    """Run a bare building block: by default a grpc.aio server that echoes bytes.

    Args:
        module: What to run; it prints the address that it listens on.
        arguments: What it is told.
    """
    command = [sys.executable, "-m", module, *arguments]
    with _process(command, dict(os.environ)) as process:
        yield Server(process.pid, _line(process))


@contextmanager
def _process(command: Sequence[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=40)
        if process.stdout is not None:
            process.stdout.close()


def _line(process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline().strip() if process.stdout is not None else ""
    if not line:
        raise RuntimeError("the server did not start")
    return line
