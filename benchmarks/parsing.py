"""Reading programs: what the workers make of OpenQASM 3, against Qiskit's reference importer."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random

from qiskit import qasm3

from benchmarks.harness import Figure, interleaved, median
from gateway.workers.tasks.openqasm import read_openqasm

_QUBITS = 127
_GATES = 10_000
_TARGET = 0.03
_BELL = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[2] q;\nbit[2] c;\nh q[0];\ncx q[0], q[1];\nc = measure q;\n'


def run(progress: Callable[[], None]) -> list[Figure]:
    """Measure a large flat program and the smallest one."""
    large = _flat_program()
    # The first program of a process pays for the tables of the reference parser.
    qasm3.loads(_BELL)
    values = interleaved(
        {
            "large": lambda: _seconds(lambda: read_openqasm(large)),
            "large reference": lambda: _seconds(lambda: qasm3.loads(large)),
        },
        3,
        progress,
    )
    small = interleaved(
        {
            "bell": lambda: _seconds(lambda: read_openqasm(_BELL)),
            "bell reference": lambda: _seconds(lambda: qasm3.loads(_BELL)),
        },
        201,
        lambda: None,
    )
    return [
        _figure("qasm3_parse", values["large"], values["large reference"], f"{_QUBITS} qubits, {_GATES} gates"),
        _figure("qasm3_parse_bell", small["bell"], small["bell reference"], "a Bell pair"),
    ]


def _figure(name: str, own: list[float], reference: list[float], what: str) -> Figure:
    value, baseline = median(own) * 1000, median(reference) * 1000
    how = f"flat OpenQASM 3 program, {what}: read by the worker ÷ qiskit.qasm3.loads, medians of {len(own)}"
    return Figure.compared(name, "ms", value, baseline, how, at_most=_TARGET if name == "qasm3_parse" else 0.5)


def _seconds(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def _flat_program() -> str:
    """Return a program such as exporters write for a device: every angle another, neighbours entangled, all measured."""
    random = Random(20261122)  # noqa: S311 - the same program each time
    lines = ["OPENQASM 3.0;", 'include "stdgates.inc";', f"qubit[{_QUBITS}] q;", f"bit[{_QUBITS}] c;"]
    for _ in range(_GATES):
        qubit = random.randrange(_QUBITS)
        lines.append(
            random.choice(
                [
                    f"rz({random.uniform(-3.2, 3.2)}) q[{qubit}];",
                    f"rx({random.randrange(1, 64)}*pi/32) q[{qubit}];",
                    f"sx q[{qubit}];",
                    f"u3({random.uniform(0, 3.2)}, -pi/2, {random.uniform(0, 3.2)}) q[{qubit}];",
                    f"cx q[{qubit}], q[{(qubit + random.choice([1, 14])) % _QUBITS}];",
                ]
            )
        )
    return "\n".join([*lines, "c = measure q;", ""])
