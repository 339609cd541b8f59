"""`python -m tests.fuzzing`: try hundreds of thousands of inputs on a running server, its port, its workers and its parsers."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from functools import partial
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Protocol

import structlog
import typer
from rich.console import Console
from rich.progress import Progress

from tests.fuzzing import openqasm3
from tests.fuzzing.parsers import PARSERS, ParserFuzzer
from tests.fuzzing.port import PortFuzzer
from tests.fuzzing.programs import ProgramFuzzer, circuits, openqasm_program, qpy_program
from tests.fuzzing.rpcs import RpcFuzzer
from tests.fuzzing.tally import Tally
from tests.fuzzing.victim import Victim, running_victim

INPUTS = {
    "rpc": 90_000,
    "port": 25_000,
    "qpy": 8_000,
    "openqasm": 20_000,
    "importer": 8_000,
    "parsers": 50_000,
    "guided": 200_000,
}
"""Inputs by target, at scale 1."""
_MUTANTS = 20
_ROUND = 500
"""Inputs after which the server is asked how it is."""
_WARM_UP = 2_000
_GUIDED_SECONDS = 300


class Fuzzer(Protocol):
    """Tries inputs."""

    tally: Tally

    async def run(self, inputs: int) -> None:
        """Try some more."""


class _Importer:
    """The comparison of both importers of OpenQASM 3, which are found in `tests.fuzzing.openqasm3`."""

    def __init__(self, seed: int) -> None:
        self.tally = Tally("importer")
        self._seed = seed

    async def run(self, inputs: int) -> None:
        self._seed += 1
        with redirect_stderr(io.StringIO()):  # the reference importer's parser prints what it finds
            found = await asyncio.to_thread(openqasm3.run, self._seed, max(1, inputs // (_MUTANTS // 2)), _MUTANTS)
        self.tally.counts += found.counts
        for text in found.wrong:
            self.tally.blame(text)


class _Guided:
    """Atheris on one parser after the other, each in a process of its own."""

    def __init__(self, seed: int) -> None:
        self.tally = Tally("guided")
        self._seed = seed
        self._names = list(PARSERS)

    async def run(self, inputs: int) -> None:
        name = self._names[0]
        self._names = [*self._names[1:], name]
        command = [sys.executable, "-m", "tests.fuzzing.guided", name, str(inputs), str(self._seed % 2**31)]
        with TemporaryDirectory(prefix="qgateway-corpus-") as corpus:
            done = await asyncio.to_thread(
                subprocess.run, [*command, corpus], capture_output=True, text=True, timeout=_GUIDED_SECONDS
            )
        tried = re.search(r"number_of_executed_units:\s+(\d+)", done.stderr)
        self.tally.counts[name] += int(tried[1]) if tried else 0
        if done.returncode or not tried:
            self.tally.blame(f"{name}: exit code {done.returncode}: {done.stderr[-1500:]}")


def main(
    seed: Annotated[
        int | None, typer.Option(help="The same seed tries the same inputs. Default: drawn, and printed.")
    ] = None,
    scale: Annotated[float, typer.Option(help="Multiplies the number of inputs.")] = 1.0,
    target: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(INPUTS)}; default: all of them.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Fuzz the gateway. Exit code 1 if anything was answered or left behind as it must not be."""
    seed = secrets.randbelow(2**31) if seed is None else seed
    console = Console(file=sys.stderr)
    # Workers that reach their limits are counted, not told one by one.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    console.print(f"seed {seed}")
    begun = time.monotonic()
    tallies, victims, troubles = [], {}, []
    for name in target or INPUTS:
        with ExitStack() as stack:
            victim = stack.enter_context(running_victim()) if name in ("rpc", "port") else None
            fuzzer = _fuzzer(name, seed, victim)
            with _shown(console, name, round(INPUTS[name] * scale)) as advance:
                asyncio.run(_fuzz(fuzzer, round(INPUTS[name] * scale), victim, advance))
            tallies.append(fuzzer.tally)
            if victim is not None:
                troubles += [f"{name}: {trouble}" for trouble in victim.troubles()]
                victims[name] = victim.report()
    outcome = {
        "seed": seed,
        "seconds": round(time.monotonic() - begun),
        "inputs": sum(tally.inputs for tally in tallies),
        "targets": {
            tally.target: {
                "inputs": tally.inputs,
                "wrong": tally.wrong_count,
                "by_outcome": dict(sorted(tally.counts.items())),
            }
            for tally in tallies
        },
        "server": victims,
        "troubles": troubles + [f"{tally.target}: {wrong}" for tally in tallies for wrong in tally.wrong],
    }
    typer.echo(json.dumps(outcome, indent=2) if as_json else _in_words(outcome))
    raise typer.Exit(1 if outcome["troubles"] else 0)


def _fuzzer(name: str, seed: int, victim: Victim | None) -> Fuzzer:
    files = circuits()
    if victim is not None:
        gateway = victim.gateway
        if name == "rpc":
            return RpcFuzzer(gateway.target, gateway.api_key, seed, files)
        return PortFuzzer(gateway.target, gateway.api_key, seed)
    made: dict[str, Callable[[int], Fuzzer]] = {
        "qpy": partial(ProgramFuzzer, "qpy", partial(qpy_program, files=files)),
        "openqasm": partial(ProgramFuzzer, "openqasm", openqasm_program),
        "importer": _Importer,
        "parsers": ParserFuzzer,
        "guided": _Guided,
    }
    return made[name](seed)


async def _fuzz(fuzzer: Fuzzer, inputs: int, victim: Victim | None, advance: Callable[[int], Any]) -> None:
    """Try inputs in rounds, and see between them that the server answers."""
    size = max(_ROUND, inputs // 20)
    while (left := inputs - fuzzer.tally.inputs) > 0:
        before = fuzzer.tally.inputs
        await fuzzer.run(min(size if victim is None else _ROUND, left))
        tried = fuzzer.tally.inputs
        advance(tried - before)
        if tried == before:  # it has nothing more to try
            return
        if victim is not None:
            victim.answers()
            if before < _WARM_UP <= tried:
                victim.warmed_up()


@contextmanager
def _shown(console: Console, name: str, inputs: int) -> Iterator[Callable[[int], None]]:
    with Progress(console=console) as progress:
        task = progress.add_task(name, total=inputs)
        yield lambda count: progress.advance(task, count)


def _in_words(outcome: dict[str, Any]) -> str:
    lines = [f"{target['inputs']:9} {name}: {target['wrong']} wrong" for name, target in outcome["targets"].items()]
    lines += [f"{outcome['inputs']:9} inputs in {outcome['seconds']} s, seed {outcome['seed']}"]
    lines += [f"          {name}: {json.dumps(seen)}" for name, seen in outcome["server"].items()]
    return "\n".join([*lines, *outcome["troubles"]])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as with Ctrl-C: with all that was started
    typer.run(main)
