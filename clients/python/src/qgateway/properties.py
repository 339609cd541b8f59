"""Calibration data of a backend, with the accessors of the model that Qiskit 2 no longer has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from qiskit.exceptions import QiskitError

from qgateway._times import local_datetime, parse_datetime
from qgateway.v1 import backend_pb2

Value: TypeAlias = tuple[float, datetime]
"""A value in SI units (seconds, hertz) or a plain number, and when it was measured."""

_PREFIXES = {"p": 1e-12, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


class BackendPropertyError(QiskitError):  # type: ignore[misc]
    """A backend has no such property."""


@dataclass(frozen=True, slots=True)
class Nduv:
    """A measured value: name, date, unit, value.

    Attributes:
        date: When it was measured: aware, local zone.
        name: Name of the parameter, such as `T1`.
        unit: Unit, such as `us`; empty for a plain number.
        value: The value in that unit.
    """

    date: datetime
    name: str
    unit: str
    value: float

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Nduv:
        """Return the value that `to_dict` made a dictionary of."""
        return cls(parse_datetime(data["date"]), data["name"], data["unit"], data["value"])

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary of plain values and a datetime."""
        return {"date": self.date, "name": self.name, "unit": self.unit, "value": self.value}

    @property
    def si(self) -> Value:
        """The value in SI units, and when it was measured.

        Raises:
            BackendPropertyError: The unit has a prefix that is not known.
        """
        if len(self.unit) < 2:  # noqa: PLR2004 - a bare unit such as `s`, or none
            return self.value, self.date
        if self.unit[0] in _PREFIXES and self.unit[1:] in ("s", "Hz"):
            return self.value * _PREFIXES[self.unit[0]], self.date
        if self.unit == "Hz":
            return self.value, self.date
        raise BackendPropertyError(f"The unit {self.unit!r} of {self.name!r} is not known.")


@dataclass(frozen=True, slots=True)
class GateProperties:
    """What was measured of one gate on one tuple of qubits.

    Attributes:
        qubits: The qubits.
        gate: Name of the gate, such as `cx`.
        parameters: What was measured, such as `gate_error` and `gate_length`.
        name: Name of this use of the gate, such as `cx0_1`.
    """

    qubits: list[int]
    gate: str
    parameters: list[Nduv]
    name: str = ""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GateProperties:
        """Return the gate that `to_dict` made a dictionary of."""
        parameters = [Nduv.from_dict(item) for item in data["parameters"]]
        return cls(list(data["qubits"]), data["gate"], parameters, data.get("name", ""))

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary of plain values and datetimes."""
        parameters = [item.to_dict() for item in self.parameters]
        return {"qubits": list(self.qubits), "gate": self.gate, "name": self.name, "parameters": parameters}


@dataclass
class BackendProperties:
    """Calibration data of a backend as of one time.

    Accessors return SI units: seconds and hertz; errors are probabilities.

    Attributes:
        backend_name: Name of the backend.
        backend_version: Its version; empty if the provider gives none.
        last_update_date: When anything in it was last measured: aware, local zone.
        qubits: What was measured of each qubit, in the order of the qubits.
        gates: What was measured of each gate.
        general: What was measured of the whole backend.
    """

    backend_name: str
    backend_version: str
    last_update_date: datetime
    qubits: list[list[Nduv]]
    gates: list[GateProperties]
    general: list[Nduv] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Index the values by qubit and gate."""
        self._qubit_values = [_values(parameters) for parameters in self.qubits]
        self._gate_values: dict[str, dict[tuple[int, ...], dict[str, Value]]] = {}
        for gate in self.gates:
            self._gate_values.setdefault(gate.gate, {})[tuple(gate.qubits)] = _values(gate.parameters)

    @classmethod
    def from_message(cls, message: backend_pb2.BackendProperties) -> BackendProperties:
        """Return what a `qgateway.v1.BackendProperties` tells."""
        return cls(
            backend_name=message.backend_id,
            backend_version=message.backend_version,
            last_update_date=local_datetime(message.last_update_time),
            qubits=[_measured(qubit.parameters) for qubit in message.qubits],
            gates=[
                GateProperties(list(gate.qubits), gate.gate, _measured(gate.parameters), gate.gate_name)
                for gate in message.gates
            ],
            general=_measured(message.general),
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BackendProperties:
        """Return the properties that `to_dict` made a dictionary of; dates may be text.

        Raises:
            KeyError: A field is missing.
        """
        return cls(
            backend_name=data["backend_name"],
            backend_version=data["backend_version"],
            last_update_date=parse_datetime(data["last_update_date"]),
            qubits=[[Nduv.from_dict(item) for item in qubit] for qubit in data["qubits"]],
            gates=[GateProperties.from_dict(gate) for gate in data["gates"]],
            general=[Nduv.from_dict(item) for item in data["general"]],
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary of plain values and datetimes."""
        return {
            "backend_name": self.backend_name,
            "backend_version": self.backend_version,
            "last_update_date": self.last_update_date,
            "qubits": [[item.to_dict() for item in qubit] for qubit in self.qubits],
            "gates": [gate.to_dict() for gate in self.gates],
            "general": [item.to_dict() for item in self.general],
        }

    def gate_property(
        self, gate: str, qubits: int | Iterable[int] | None = None, name: str | None = None
    ) -> dict[tuple[int, ...], dict[str, Value]] | dict[str, Value] | Value:
        """Return what was measured of a gate.

        Args:
            gate: Name of the gate.
            qubits: The qubits that it acts on. Default: all uses of the gate.
            name: Name of the parameter; needs `qubits`. Default: all parameters.

        Returns:
            With `qubits` and `name` a value and its date; with `qubits` a dictionary of those by name; else a dictionary
            of those dictionaries by tuple of qubits.

        Raises:
            BackendPropertyError: There is no such gate, use or parameter, or `name` came without `qubits`.
        """
        uses = self._gate_values.get(gate)
        if uses is None:
            raise BackendPropertyError(f"{self.backend_name} has no data of a gate {gate!r}.")
        if qubits is None:
            if name is not None:
                raise BackendPropertyError(f"Give the qubits of {gate!r} to read its {name!r}.")
            return {used: dict(values) for used, values in uses.items()}
        values = self._use(gate, qubits)
        return dict(values) if name is None else _pick(values, name, f"gate {gate!r} on {_tuple(qubits)}")

    def gate_error(self, gate: str, qubits: int | Iterable[int]) -> float:
        """Return the error probability of a gate on some qubits.

        Raises:
            BackendPropertyError: It is not known.
        """
        return self._gate_value(gate, qubits, "gate_error")[0]

    def gate_length(self, gate: str, qubits: int | Iterable[int]) -> float:
        """Return the duration of a gate on some qubits, in seconds.

        Raises:
            BackendPropertyError: It is not known.
        """
        return self._gate_value(gate, qubits, "gate_length")[0]

    def is_gate_operational(self, gate: str, qubits: int | Iterable[int]) -> bool:
        """Return whether a gate works on some qubits; true where nothing says otherwise.

        Raises:
            BackendPropertyError: There is no such gate, or not on these qubits.
        """
        return _operational(self._use(gate, qubits))

    def faulty_gates(self) -> list[GateProperties]:
        """Return the uses of gates that do not work."""
        return [gate for gate in self.gates if not self.is_gate_operational(gate.gate, gate.qubits)]

    def qubit_property(self, qubit: int, name: str | None = None) -> dict[str, Value] | Value:
        """Return what was measured of a qubit.

        Args:
            qubit: Index of the qubit.
            name: Name of the parameter, such as `T1`. Default: all parameters.

        Returns:
            With `name` a value and its date; else a dictionary of those by name.

        Raises:
            BackendPropertyError: There is no such qubit or parameter.
        """
        values = self._qubit(qubit)
        return dict(values) if name is None else _pick(values, name, f"qubit {qubit}")

    def t1(self, qubit: int) -> float:
        """Return the relaxation time of a qubit, in seconds.

        Raises:
            BackendPropertyError: It is not known.
        """
        return self._qubit_value(qubit, "T1")

    def t2(self, qubit: int) -> float:
        """Return the dephasing time of a qubit, in seconds.

        Raises:
            BackendPropertyError: It is not known.
        """
        return self._qubit_value(qubit, "T2")

    def frequency(self, qubit: int) -> float:
        """Return the frequency of a qubit, in hertz.

        Raises:
            BackendPropertyError: It is not known.
        """
        return self._qubit_value(qubit, "frequency")

    def readout_error(self, qubit: int) -> float:
        """Return the probability that a qubit is read wrongly.

        Raises:
            BackendPropertyError: It is not known.
        """
        return self._qubit_value(qubit, "readout_error")

    def readout_length(self, qubit: int) -> float:
        """Return the duration of the readout of a qubit, in seconds.

        Raises:
            BackendPropertyError: It is not known.
        """
        return self._qubit_value(qubit, "readout_length")

    def is_qubit_operational(self, qubit: int) -> bool:
        """Return whether a qubit works; true where nothing says otherwise.

        Raises:
            BackendPropertyError: There is no such qubit.
        """
        return _operational(self._qubit(qubit))

    def faulty_qubits(self) -> list[int]:
        """Return the indices of the qubits that do not work."""
        return [qubit for qubit in range(len(self.qubits)) if not self.is_qubit_operational(qubit)]

    def _qubit(self, qubit: int) -> dict[str, Value]:
        if not 0 <= qubit < len(self._qubit_values):
            raise BackendPropertyError(f"{self.backend_name} has no data of a qubit {qubit}.")
        return self._qubit_values[qubit]

    def _qubit_value(self, qubit: int, name: str) -> float:
        return _pick(self._qubit(qubit), name, f"qubit {qubit}")[0]

    def _use(self, gate: str, qubits: int | Iterable[int]) -> dict[str, Value]:
        try:
            return self._gate_values[gate][_tuple(qubits)]
        except KeyError:
            raise BackendPropertyError(
                f"{self.backend_name} has no data of a gate {gate!r} on {_tuple(qubits)}."
            ) from None

    def _gate_value(self, gate: str, qubits: int | Iterable[int], name: str) -> Value:
        return _pick(self._use(gate, qubits), name, f"gate {gate!r} on {_tuple(qubits)}")


def _tuple(qubits: int | Iterable[int]) -> tuple[int, ...]:
    return (qubits,) if isinstance(qubits, int) else tuple(qubits)


def _measured(parameters: Iterable[backend_pb2.Measurement]) -> list[Nduv]:
    return [Nduv(local_datetime(item.measure_time), item.parameter, item.unit, item.value) for item in parameters]


def _values(parameters: Iterable[Nduv]) -> dict[str, Value]:
    return {item.name: item.si for item in parameters}


def _pick(values: Mapping[str, Value], name: str, of: str) -> Value:
    if name not in values:
        raise BackendPropertyError(f"{name!r} of {of} is not known.")
    return values[name]


def _operational(values: Mapping[str, Value]) -> bool:
    return "operational" not in values or bool(values["operational"][0])
