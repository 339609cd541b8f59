"""Devices as the provider describes them, in the gateway's terms and in SI units."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from gateway.domain.backend import (
    Backend,
    BackendProperties,
    BackendStatus,
    GateCalibration,
    Instruction,
    InstructionProperties,
    Measurement,
    QubitProperties,
    TimingConstraints,
)
from gateway.providers.ibm import wire
from gateway.providers.ibm.options import RUN_OPTIONS

_NANO, _MICRO = 1e-9, 1e-6
_UNITS = {
    "": 1.0, "s": 1.0, "ms": 1e-3, "us": _MICRO, "µs": _MICRO, "ns": _NANO, "ps": 1e-12,
    "Hz": 1.0, "kHz": 1e3, "MHz": 1e6, "GHz": 1e9,
}  # fmt: skip
_CONTROL_FLOW = frozenset({"if_else", "for_loop", "while_loop", "switch_case", "break_loop", "continue_loop"})
_ON_EACH_QUBIT = {"measure": (), "reset": (), "delay": ("duration",)}
"""Instructions that act on every single qubit, with their parameters."""
_ANGLES_IN_SOFTWARE = frozenset({"rz", "p", "u1", "delay"})
"""Instructions with a parameter that are not fractional: they are done by the electronics' clock."""
_CLASSIFIED = 2


def backend_of(
    configuration: wire.Configuration, properties: wire.Properties | None, *, account: str, fractional_gates: bool
) -> Backend:
    """Return a backend.

    Args:
        configuration: What the device is.
        properties: Its calibration, where it has any. Qubits and gates that do not work are left out.
        account: Name of the account.
        fractional_gates: Whether gates of any angle other than `rz` are kept.
    """
    dropped = set() if fractional_gates else {gate.name for gate in configuration.gates if _is_fractional(gate)}
    gates = [gate for gate in configuration.gates if gate.name not in dropped]
    basis = tuple(name for name in configuration.basis_gates if name not in dropped)
    supported = tuple(name for name in configuration.supported_instructions if name not in dropped)
    delays = configuration.rep_delay_range if configuration.dynamic_reprate_enabled else None
    return Backend(
        name=configuration.backend_name,
        account=account,
        num_qubits=configuration.n_qubits,
        simulator=configuration.simulator,
        description=configuration.description,
        version=configuration.backend_version,
        max_shots=configuration.max_shots,
        max_circuits=configuration.max_experiments,
        basis_gates=basis,
        supported_instructions=supported or (*basis, *_ON_EACH_QUBIT),
        coupling_map=configuration.coupling_map,
        instructions=tuple(_instructions(configuration.n_qubits, gates, supported, properties)),
        qubits=tuple(_qubit(values) for values in properties.qubits) if properties is not None else (),
        dt=None if configuration.dt is None else configuration.dt * _NANO,
        timing_constraints=_timing(configuration.timing_constraints),
        meas_levels=configuration.meas_levels or (_CLASSIFIED,),
        memory=configuration.memory,
        dynamic_circuits=not _CONTROL_FLOW.isdisjoint(supported),
        raw_programs=True,
        run_options=RUN_OPTIONS,
        online_at=configuration.online_date,
        processor_type={name: str(value) for name, value in configuration.processor_type.items()},
        default_rep_delay=_scaled(configuration.default_rep_delay, _MICRO) if delays is not None else None,
        rep_delay_range=(delays[0] * _MICRO, delays[1] * _MICRO) if delays is not None else None,
    )


def status_of(device: wire.Device) -> BackendStatus:
    """Return whether a device takes jobs. One that is paused takes them, and runs them later."""
    word = device.status.name
    return BackendStatus(
        operational=word != "offline",
        status_message="active" if word == "online" else (device.status.reason or word),
        pending_jobs=max(0, device.queue_length),
    )


def properties_of(name: str, properties: wire.Properties) -> BackendProperties:
    """Return a calibration, with the provider's units."""
    return BackendProperties(
        backend=name,
        version=properties.backend_version,
        last_update=properties.last_update_date,
        qubits=tuple(_measurements(values) for values in properties.qubits),
        gates=tuple(
            GateCalibration(
                gate.gate,
                gate.name or gate.gate + "_".join(map(str, gate.qubits)),
                gate.qubits,
                _measurements(gate.parameters),
            )
            for gate in properties.gates
        ),
        general=_measurements(properties.general),
    )


def _instructions(
    num_qubits: int, gates: Iterable[wire.Gate], supported: Iterable[str], properties: wire.Properties | None
) -> Iterator[Instruction]:
    measured = _gate_places(properties)
    broken = {index for index, values in enumerate(properties.qubits) if _broken(values)} if properties else set()
    described = set()
    for gate in gates:
        if gate.name in _CONTROL_FLOW or gate.name in _ON_EACH_QUBIT:
            continue
        described.add(gate.name)
        known = measured.get(gate.name, {})
        places = list(gate.coupling_map) or sorted(known)
        usable = _usable(places, known, broken)
        if usable:
            yield Instruction(gate.name, len(usable[0].qubits), gate.parameters, usable)
    for name, parameters in _ON_EACH_QUBIT.items():
        if name in supported or not supported:
            known = _readouts(properties) if name == "measure" else measured.get(name, {})
            usable = _usable([(qubit,) for qubit in range(num_qubits)], known, broken)
            if usable:
                yield Instruction(name, 1, parameters, usable)


def _usable(
    places: Iterable[tuple[int, ...]], known: Mapping[tuple[int, ...], InstructionProperties | None], broken: set[int]
) -> tuple[InstructionProperties, ...]:
    """Return where an instruction works. `known` has None where the calibration says that it does not."""
    found = (known.get(place, InstructionProperties(place)) for place in places if broken.isdisjoint(place))
    return tuple(place for place in found if place is not None)


def _gate_places(
    properties: wire.Properties | None,
) -> dict[str, dict[tuple[int, ...], InstructionProperties | None]]:
    places: dict[str, dict[tuple[int, ...], InstructionProperties | None]] = {}
    for gate in properties.gates if properties is not None else ():
        values = _by_name(gate.parameters)
        works = not _broken(gate.parameters)
        places.setdefault(gate.gate, {})[gate.qubits] = (
            InstructionProperties(gate.qubits, _si(values.get("gate_error")), _si(values.get("gate_length")))
            if works
            else None
        )
    return places


def _readouts(properties: wire.Properties | None) -> dict[tuple[int, ...], InstructionProperties | None]:
    found: dict[tuple[int, ...], InstructionProperties | None] = {}
    for index, measured in enumerate(properties.qubits if properties is not None else ()):
        values = _by_name(measured)
        found[index,] = InstructionProperties(
            (index,), _si(values.get("readout_error")), _si(values.get("readout_length"))
        )
    return found


def _qubit(values: Iterable[wire.Value]) -> QubitProperties:
    known = _by_name(values)
    return QubitProperties(_si(known.get("T1")), _si(known.get("T2")), _si(known.get("frequency")))


def _broken(values: Iterable[wire.Value]) -> bool:
    operational = _by_name(values).get("operational")
    return operational is not None and not operational.value


def _by_name(values: Iterable[wire.Value]) -> dict[str, wire.Value]:
    return {value.name: value for value in values}


def _si(value: wire.Value | None) -> float | None:
    """Return a value in seconds, hertz or a plain number; None in a unit that is not known."""
    if value is None or value.unit not in _UNITS:
        return None
    return value.value * _UNITS[value.unit]


def _measurements(values: Iterable[wire.Value]) -> tuple[Measurement, ...]:
    return tuple(Measurement(value.name, value.unit, value.value, value.date) for value in values)


def _is_fractional(gate: wire.Gate) -> bool:
    return bool(gate.parameters) and gate.name not in _ANGLES_IN_SOFTWARE


def _timing(timing: wire.Timing | None) -> TimingConstraints | None:
    if timing is None:
        return None
    return TimingConstraints(timing.granularity, timing.min_length, timing.pulse_alignment, timing.acquire_alignment)


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value * unit
