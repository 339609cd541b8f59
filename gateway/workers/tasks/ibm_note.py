"""The note that travels with circuits to IBM Quantum and comes back with their results.

The service gives results by register and nothing else. All else that a result has to tell (names, order, metadata, the caller's
header) is written into a note that the service returns unread, so that a result can be put together long after, by any server.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from qiskit import QuantumCircuit
from qiskit.circuit import ClassicalRegister

from gateway.workers.tasks.results import registers_of

NOTE_KEY = "qgateway"
"""Under which the note is found in what the service returns."""
_VERSION = 1
_LOOSE = "qgateway_loose"


class RegisterNote(BaseModel):
    """A classical register."""

    model_config = ConfigDict(frozen=True)

    name: str
    """Empty for the bits that belong to no register."""
    sent_name: str
    """Under which the service knows it."""
    size: int
    clbits: tuple[int, ...] = ()
    """Index in the circuit of each bit; empty where registers follow each other without gaps."""


class CircuitNote(BaseModel):
    """A circuit."""

    model_config = ConfigDict(frozen=True)

    name: str
    registers: tuple[RegisterNote, ...]
    quantum_registers: tuple[tuple[str, int], ...]
    num_clbits: int
    global_phase: float
    metadata: dict[str, Any] = Field(default_factory=dict)


class Note(BaseModel):
    """What belongs to the results of some circuits."""

    model_config = ConfigDict(frozen=True)

    version: int = Field(default=_VERSION, ge=_VERSION, le=_VERSION)
    job: str
    """Resource name of the job."""
    shots: int
    level: str
    """`classified`, `kerneled` or `avg_kerneled`."""
    circuits: tuple[CircuitNote, ...]
    header: dict[str, Any] = Field(default_factory=dict)
    """The caller's header."""


def name_loose_bits(circuit: QuantumCircuit) -> str:
    """Put the bits of a circuit that belong to no register into one, because the service returns registers only.

    Returns:
        Name of that register; empty if all bits have one.
    """
    loose = [bit for bit in circuit.clbits if not circuit.find_bit(bit).registers]
    if not loose:
        return ""
    taken = {register.name for register in circuit.cregs}
    name = next(name for name in _names() if name not in taken)
    circuit.add_register(ClassicalRegister(name=name, bits=loose))
    return name


def describe(circuit: QuantumCircuit, loose_register: str) -> CircuitNote:
    """Return the note on a circuit.

    Args:
        circuit: A circuit whose bits all have registers.
        loose_register: Name of the register of those that had none; empty if there is no such register.
    """
    registers, gapless = registers_of(circuit)
    return CircuitNote(
        name=circuit.name,
        registers=tuple(
            RegisterNote(
                name="" if name == loose_register else name,
                sent_name=name,
                size=len(places),
                clbits=() if gapless else tuple(places),
            )
            for name, places in registers
        ),
        quantum_registers=tuple((register.name, register.size) for register in circuit.qregs),
        num_clbits=circuit.num_clbits,
        global_phase=float(circuit.global_phase),
        metadata=circuit.metadata or {},
    )


def _names() -> Iterator[str]:
    yield _LOOSE
    number = 0
    while True:
        yield f"{_LOOSE}{number}"
        number += 1
