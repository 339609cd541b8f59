"""Programs that are made to cost time and memory: each is refused or runs into its limits, and the next one is read."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from qgateway.v1 import program_pb2

from gateway.domain.backend import Backend
from gateway.domain.errors import InvalidArgument, Reason, WorkerFailure
from gateway.domain.job import RunOptions
from gateway.domain.program import PreparedProgram
from gateway.workers import WorkerPool, WorkerProgramReader

HEAD = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[2] q;\nbit[2] c;\n'
TAIL = "c = measure q;\n"
HEAD_2 = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\ncreg c[2];\n'


def laughs(count: int) -> str:
    """Return gates of which each calls the one before it twice."""
    gates = ["gate g0 a { x a; }", *(f"gate g{n} a {{ g{n - 1} a; g{n - 1} a; }}" for n in range(1, count))]
    return "\n".join(gates)


HOSTILE = {
    "brackets without end": HEAD + "rx(" + "(" * 100_000,
    "brackets that match": HEAD + "rx(" + "(" * 20_000 + "1" + ")" * 20_000 + ") q[0];",
    "signs without end": HEAD + "rx(" + "-" * 100_000 + "1) q[0];",
    "blocks in blocks": HEAD + "if (c[0]) {" * 5_000 + "}" * 5_000,
    "a comment that never ends": HEAD + "/*" * 200_000,
    "comments before the version": "/**/" * 100_000 + "//\n" * 100_000 + "OPENQASM",
    "stars in a comment": "/" + "*" * 500_000 + "OPENQASM 3;",
    "white space": " \t\n" * 500_000 + "OPENQASM",
    "a number of a million digits": HEAD + f"rx({'9' * 1_000_000}) q[0];",
    "a power of powers": HEAD + "rx(9**9**9**9) q[0];",
    "a name of a million letters": HEAD + "x" * 1_000_000 + " q[0];",
    "billions of qubits": "OPENQASM 3.0; qubit[4000000000] q; bit c; c = measure q[0];",
    "billions of bits": "OPENQASM 3.0; qubit q; bit[4000000000] c; c[0] = measure q;",
    "a thousand million turns": HEAD + "for int i in [0:1000000000] { x q[0]; }" + TAIL,
    "controls without end": HEAD + "ctrl(1000000) @ x q[0], q[1];",
    "powers of gates": HEAD + "pow(1000000) @ x q[0];" * 10 + TAIL,
    "gates that double": 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'
    + laughs(40)
    + "\nqubit[2] q; bit[2] c; g39 q[0]; c = measure q;",
    "gates that double, of version 2": HEAD_2.replace("qreg", laughs(40) + "\nqreg", 1) + "g39 q[0]; measure q -> c;",
    "brackets of version 2": HEAD_2 + "rx(" + "(" * 100_000 + "1" + ")" * 100_000 + ") q[0];",
    "a register of version 2": "OPENQASM 2.0; qreg q[2000000000]; creg c[1]; measure q[0] -> c[0];",
    "backslashes": HEAD + "\\" * 100_000,
    "no text at all": "\0" * 500_000,
    "letters that look like others": HEAD + "\u0430" * 200_000,
}


@pytest.fixture(scope="module")
async def reader() -> AsyncIterator[WorkerProgramReader]:
    pool = WorkerPool(size=1, warm_up="warm_up_programs")
    yield WorkerProgramReader(pool, time_limit=3, memory_limit=512 * 2**20)
    await pool.close()


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_text_is_refused_or_runs_into_its_limits(
    reader: WorkerProgramReader, ideal: Backend, name: str
) -> None:
    outcome = await read_or_refuse(reader, ideal, HOSTILE[name])
    match outcome:
        case InvalidArgument():
            assert outcome.violations
            assert len(outcome.message) < 10_000
        case WorkerFailure():
            assert outcome.reason in (Reason.TIME_LIMIT_EXCEEDED, Reason.MEMORY_LIMIT_EXCEEDED)
        case PreparedProgram():
            assert len(outcome.circuits) < 2**20  # type: ignore[arg-type]
    assert isinstance(await read_or_refuse(reader, ideal, HEAD + "h q[0];" + TAIL), PreparedProgram)


async def read_or_refuse(
    reader: WorkerProgramReader, backend: Backend, source: str
) -> PreparedProgram | InvalidArgument | WorkerFailure:
    """Let a worker read a text, and return what it says."""
    program = program_pb2.Program(openqasm={"circuits": [{"source": source}]})
    try:
        return await reader.prepare(program.SerializeToString(), backend, RunOptions())
    except (InvalidArgument, WorkerFailure) as refusal:
        return refusal
