"""Giving values to the parameters of a circuit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from qiskit import QuantumCircuit
from qiskit.circuit import Parameter

from gateway.workers.tasks.circuits import has_infinite_angle
from gateway.workers.tasks.violations import Violations

_FEW = 5


def bind(
    circuit: QuantumCircuit,
    parameters: Iterable[Parameter],
    bindings: Sequence[Mapping[str, float]],
    field: str,
    violations: Violations,
) -> list[QuantumCircuit]:
    """Return one circuit without parameters per binding, or the circuit itself where there is nothing to bind.

    Args:
        circuit: A circuit, perhaps transpiled: some parameters may have fallen out of it.
        parameters: The parameters that it had as submitted. Each needs a value.
        bindings: Values by the names of parameters.
        field: Path of the list of bindings in the request.
        violations: Takes note of what is wrong; the result is of use only if nothing was.
    """
    names = {parameter.name for parameter in parameters}
    if not bindings:
        if names:
            violations.add(
                field, f"the circuit has parameters without values: {_listed(names)}; give at least one binding"
            )
        return [circuit]
    return [_bind_one(circuit, names, values, f"{field}[{index}]", violations) for index, values in enumerate(bindings)]


def _bind_one(
    circuit: QuantumCircuit, names: AbstractSet[str], values: Mapping[str, float], field: str, violations: Violations
) -> QuantumCircuit:
    wrong = len(violations)
    if missing := names - values.keys():
        violations.add(field, f"no value for {_listed(missing)}")
    if unknown := values.keys() - names:
        violations.add(field, f"the circuit has no parameter {_listed(unknown)}")
    if infinite := {name for name, value in values.items() if not math.isfinite(value)}:
        violations.add(field, f"the value of {_listed(infinite)} must be finite")
    if len(violations) > wrong:
        return circuit
    try:
        bound = circuit.assign_parameters({parameter: values[parameter.name] for parameter in circuit.parameters})
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever an expression makes of the values, the values are wrong
        violations.add(field, f"the circuit cannot be evaluated with these values: {error}")
        return circuit
    bound.name = circuit.name  # Qiskit gives the copy another
    if has_infinite_angle(bound):
        violations.add(field, "with these values an angle of the circuit is infinite or not a number")
    return bound


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(map(repr, names))
    return ", ".join(ordered[:_FEW]) + (f" and {len(ordered) - _FEW} more" if len(ordered) > _FEW else "")
