"""Damaged programs for the workers that read them: each is refused with words for its sender, and none costs a worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import BytesIO
from random import Random

from qgateway.v1 import program_pb2
from qiskit import QuantumCircuit, qpy
from qiskit.circuit import Parameter

from gateway.domain.backend import Backend
from gateway.domain.errors import GatewayError, InvalidArgument, Reason, WorkerFailure
from gateway.domain.job import RunOptions
from gateway.workers import WorkerPool, WorkerProgramReader, WorkerSimulators
from tests.fuzzing.messages import mutated
from tests.fuzzing.openqasm3_programs import mutant, program
from tests.fuzzing.tally import Tally

_WORKERS = 2
_TIME_LIMIT = 5.0
_MEMORY_LIMIT = 512 * 2**20
_LIMITS = (Reason.TIME_LIMIT_EXCEEDED, Reason.MEMORY_LIMIT_EXCEEDED)

_OPENQASM2 = """OPENQASM 2.0;
include "qelib1.inc";
gate mine(a, b) x, y { rx(a / 2) x; cx x, y; rz(-b ^ 2) y; }
opaque never(a) x;
qreg q[3]; creg c[3];
h q; mine(pi, sin(0.5)) q[0], q[1];
barrier q; if (c == 5) x q[2];
reset q[0]; measure q -> c;
"""


def circuits() -> tuple[bytes, ...]:
    """Return QPY files that differ in what they hold."""
    bell = QuantumCircuit(2, 2, name="bell", metadata={"a": [1, None, {"b": "c"}]})
    bell.h(0)
    bell.cx(0, 1)
    bell.measure([0, 1], [0, 1])
    angle = Parameter("θ")
    bound = QuantumCircuit(1, 1)
    bound.rx(2 * angle + 1, 0)
    bound.measure(0, 0)
    dynamic = QuantumCircuit(2, 2)
    dynamic.measure(0, 0)
    with dynamic.if_test((dynamic.clbits[0], 1)):
        dynamic.x(1)
    with dynamic.for_loop(range(3)):
        dynamic.rz(0.5, 0)
    dynamic.measure(1, 1)
    inner = QuantumCircuit(2, name="inner")
    inner.swap(0, 1)
    nested = QuantumCircuit(3, 1)
    nested.append(inner.to_gate().control(), [0, 1, 2])
    nested.measure(0, 0)
    files = []
    for content in ([bell], [bound], [dynamic], [nested], [bell, dynamic]):
        buffer = BytesIO()
        qpy.dump(content, buffer)
        files.append(buffer.getvalue())
    return tuple(files)


def qpy_program(random: Random, files: tuple[bytes, ...]) -> program_pb2.Program:
    """Return a program of a damaged QPY file."""
    made = program_pb2.Program(qpy=program_pb2.QpyProgram(data=mutated(random, random.choice(files))))
    if random.random() < 0.1:
        entry = made.qpy.circuit_bindings.add(circuit_index=random.choice((0, 1, -1, 2**31 - 1)))
        entry.bindings.add().values["θ"] = random.choice((0.5, float("nan"), float("inf")))
    return made


def openqasm_program(random: Random) -> program_pb2.Program:
    """Return a program of a damaged OpenQASM text, of version 2 or 3."""
    if random.random() < 0.5:
        text = mutant(random, _OPENQASM2)
    else:
        text = program(random, 4, flat=random.random() < 0.5)
        text = mutant(random, text) if random.random() < 0.8 else text
    if random.random() < 0.1:
        text = mutated(random, text.encode()).decode(errors="replace")
    return program_pb2.Program(openqasm={"circuits": [{"source": text}]})


class ProgramFuzzer:
    """Lets workers read programs.

    Args:
        target: Name of the tally.
        make: Makes a program.
        seed: The same seed makes the same programs.
    """

    def __init__(self, target: str, make: Callable[[Random], program_pb2.Program], seed: int) -> None:
        self.tally = Tally(target)
        self._random = Random(f"{target}-{seed}")
        self._make = make

    async def run(self, inputs: int) -> None:
        """Read programs, a few at a time."""
        async with _reader() as (reader, backend):
            todo = iter(range(inputs))
            await asyncio.gather(*(self._work(reader, backend, todo) for _ in range(_WORKERS)))

    async def _work(self, reader: WorkerProgramReader, backend: Backend, todo: object) -> None:
        for _ in todo:  # type: ignore[attr-defined]
            program_bytes = self._make(self._random).SerializeToString()
            transpile = self._random.choice((None, None, None, 0, 1))
            try:
                await reader.prepare(program_bytes, backend, RunOptions(transpile=transpile))
                outcome = "read"
            except InvalidArgument:
                outcome = "refused"
            except WorkerFailure as error:
                outcome = error.reason.value
                if error.reason not in _LIMITS:
                    self.tally.blame(f"{error} {program_bytes.hex()}")
            except GatewayError as error:
                outcome = f"{type(error).__name__}"
                self.tally.blame(f"{error!r} {program_bytes.hex()}")
            self.tally.counts[outcome] += 1


@asynccontextmanager
async def _reader() -> AsyncIterator[tuple[WorkerProgramReader, Backend]]:
    pool = WorkerPool(size=_WORKERS, warm_up="warm_up_programs")
    try:
        backend = (await WorkerSimulators(pool).describe(_MEMORY_LIMIT))[0][0]
        yield WorkerProgramReader(pool, time_limit=_TIME_LIMIT, memory_limit=_MEMORY_LIMIT), backend
    finally:
        await pool.close()
