"""`python -m tests.fuzzing.openqasm3`: does the quick importer ever say something else than the reference importer?"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Annotated

import typer
from qiskit import QuantumCircuit, qasm3

from gateway.workers.tasks.openqasm3_flat import read_quickly
from tests.fuzzing.circuits import image
from tests.fuzzing.openqasm3_programs import mutant, program


@dataclass
class Tally:
    """What became of the texts that were tried."""

    counts: Counter[str] = field(default_factory=Counter)
    """Number of texts by what became of them."""
    wrong: list[str] = field(default_factory=list)
    """Texts of which the quick importer made something that the reference importer does not."""


def check(text: str, tally: Tally) -> bool:
    """Read a text both ways, note how that went, and return whether the quick importer reads it."""
    quick = read_quickly(text)
    if quick is None:
        tally.counts["left to the reference importer"] += 1
        return False
    try:
        reference: QuantumCircuit | None = qasm3.loads(text)
    except Exception:  # noqa: BLE001 - that is what it says of wrong programs
        reference = None
    if reference is None or image(quick) != image(reference):
        tally.counts["WRONG"] += 1
        tally.wrong.append(text)
    else:
        tally.counts["the same"] += 1
    return True


def run(seed: int, programs: int, mutants: int) -> Tally:
    """Try programs, and mutants of each.

    Args:
        seed: The same seed tries the same texts.
        programs: Number of programs.
        mutants: Number of mutants of each that the quick importer reads.
    """
    tally = Tally()
    for index in range(programs):
        random = Random(f"{seed}-{index}")
        text = program(random, random.choice([2, 4, 8]), flat=random.random() < 0.7)
        if check(text, tally):
            for _ in range(mutants):
                check(mutant(random, text), tally)
    return tally


def main(
    seed: Annotated[int, typer.Option(help="The same seed tries the same texts.")] = 1,
    programs: Annotated[int, typer.Option(help="Number of programs.")] = 1000,
    mutants: Annotated[int, typer.Option(help="Number of mutants of each.")] = 20,
) -> None:
    """Compare the quick importer of OpenQASM 3 with the reference importer. Exit code 1 if they ever differ."""
    begun = time.monotonic()
    tally = run(seed, programs, mutants)
    for what, count in sorted(tally.counts.items()):
        typer.echo(f"{count:8} {what}")
    typer.echo(f"{time.monotonic() - begun:8.0f} seconds")
    for text in tally.wrong[:5]:
        typer.echo(f"{'-' * 80}\n{text}")
    raise typer.Exit(1 if tally.wrong else 0)


if __name__ == "__main__":
    typer.run(main)
