"""Running circuits on a machine, for all kinds of programs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tests.emulators.ibm_quantum.codes import Code
from tests.emulators.ibm_quantum.execution.hardware import Machine
from tests.emulators.ibm_quantum.execution.outcome import ProgramError

if TYPE_CHECKING:
    from qiskit.circuit import QuantumCircuit

Bits = npt.NDArray[np.bool_]
Points = npt.NDArray[np.complex128]

_IQ_SPREAD = 0.2


def check(machine: Machine, circuit: QuantumCircuit, shots: int) -> None:
    """Check that a machine can run a circuit so many times.

    Raises:
        ProgramError: If it cannot.
    """
    if shots > machine.max_shots:
        message = f"{shots} shots are more than the {machine.max_shots} that {machine.name} allows."
        raise ProgramError(Code.NOT_VALID_FOR_BACKEND, message)
    if what := machine.unsupported(circuit):
        raise ProgramError(
            Code.NOT_VALID_FOR_BACKEND, f"{what[0].upper()}{what[1:]} is not supported by {machine.name}."
        )


def sample(
    machine: Machine, circuit: QuantumCircuit, values: npt.NDArray[np.float64], shots: int, seed: int
) -> dict[str, Bits]:
    """Run a circuit with every set of parameter values.

    Args:
        machine: Where.
        circuit: A circuit in the machine's instruction set.
        values: Parameter values, of shape `(*sweep, parameters)`, in the order of the circuit's parameters.
        shots: How often, for each set.
        seed: Of the simulator.

    Returns:
        The outcomes of every classical register, of shape `(*sweep, shots, bits)`; bit i is the register's clbit i.

    Raises:
        ProgramError: If the machine cannot run the circuit.
    """
    from qiskit.primitives import BackendSamplerV2
    from qiskit.primitives.containers.bindings_array import BindingsArray
    from qiskit.primitives.containers.sampler_pub import SamplerPub

    check(machine, circuit, shots)
    if values.ndim == 0 or values.shape[-1] != circuit.num_parameters:
        message = f"The circuit has {circuit.num_parameters} parameters, but the values are of shape {values.shape}."
        raise ProgramError(Code.NOT_VALID_FOR_BACKEND, message)
    if not circuit.cregs:
        return {}
    bindings = BindingsArray({tuple(circuit.parameters): values} if circuit.num_parameters else None, values.shape[:-1])
    sampler = BackendSamplerV2(backend=machine.simulator, options={"seed_simulator": seed})
    data = sampler.run([SamplerPub(circuit, bindings, shots)]).result()[0].data
    return {name: bits.to_bool_array(order="little") for name, bits in data.items()}


def points(bits: Bits, seed: int) -> Points:
    """Return IQ points of outcomes: around -1 for a 1 and +1 for a 0, of the same shape."""
    random = np.random.default_rng(seed)
    spread = random.normal(scale=_IQ_SPREAD, size=(2, *bits.shape))
    found: Points = np.where(bits, -1.0, 1.0) + spread[0] + 1j * spread[1]
    return found


def execution_time_ns(machine: Machine, rep_delay: float | None, runs: int) -> int:
    """Return for how long a machine is busy with so many runs of circuits.

    Args:
        machine: The machine.
        rep_delay: Time between two runs in seconds, or None for the machine's default.
        runs: Shots of all circuits together.

    Raises:
        ProgramError: If the machine cannot wait so long between two runs.
    """
    delay = machine.default_rep_delay if rep_delay is None else rep_delay * 1e6
    low, high = machine.rep_delay_range
    if not low <= delay <= high:
        raise ProgramError(Code.NOT_VALID_FOR_BACKEND, f"rep_delay must be {low} to {high} microseconds, not {delay}.")
    return math.ceil(runs * delay * 1000)


def size(values: npt.NDArray[Any]) -> int:
    """Return how many sets of parameter values there are in an array of shape `(*sweep, parameters)`."""
    return math.prod(values.shape[:-1])
