"""`python -m tests.fuzzing.guided PARSER RUNS SEED FOLDER`: lets atheris look for inputs that a parser of ours does not foresee.

Unlike random inputs, these follow which branches of our code were taken. libFuzzer ends the process, with exit code 77 if it found
one; `tests.fuzzing.__main__` runs a process for each parser.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import atheris

_OURS = (
    "gateway.engine.tokens",
    "gateway.domain.wire",
    "gateway.access.api_keys",
    "gateway.workers.frames",
    "gateway.rpc.requests",
    "gateway.providers.ibm.bodies",
)

with atheris.instrument_imports(include=_OURS):
    from tests.fuzzing.parsers import PARSERS

_LONGEST = 4_096


def main(name: str, runs: int, seed: int, corpus: Path) -> None:
    """Try inputs on one parser. Does not return.

    Args:
        name: The parser.
        runs: Number of inputs.
        seed: The same seed tries the same inputs.
        corpus: An empty folder for the inputs that are worth keeping. Whoever made it removes it: this process ends at once.
    """
    parser = PARSERS[name]

    def read(data: bytes) -> None:
        with suppress(*parser.refusals):
            parser.read(data)

    for number, example in enumerate(parser.examples):
        (corpus / str(number)).write_bytes(example)
    options = [f"-runs={runs}", f"-seed={seed}", f"-max_len={_LONGEST}", "-verbosity=0", "-print_final_stats=1"]
    options.append(f"-artifact_prefix={corpus}/found-")
    atheris.Setup([sys.argv[0], *options, str(corpus)], read)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
