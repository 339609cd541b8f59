"""A backend's description as Qiskit's `Target`."""

from __future__ import annotations

import pytest
from qgateway.configuration import BackendConfiguration, BackendStatus
from qgateway.target import to_target
from qgateway.v1 import backend_pb2
from qiskit import QuantumCircuit, transpile
from qiskit.circuit.controlflow import IfElseOp
from qiskit.circuit.library import MCXGate
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.transpiler import Target


def described(source: Target, **fields: object) -> backend_pb2.Backend:
    """Return the message in which a gateway would describe a target."""
    message = backend_pb2.Backend(
        backend_id="machine", num_qubits=source.num_qubits, dt_seconds=source.dt or 0, **fields
    )
    for name in source.operation_names:
        operation = source.operation_from_name(name)
        instruction = message.instructions.add(instruction_name=name)
        if isinstance(operation, type):
            continue
        instruction.num_qubits = operation.num_qubits
        for qubits, properties in (source[name] or {}).items():
            if qubits is None:
                continue
            added = instruction.properties.add(qubits=qubits)
            if properties is not None and properties.error is not None:
                added.error = properties.error
            if properties is not None and properties.duration is not None:
                added.duration_seconds = properties.duration
    for qubit in source.qubit_properties or []:
        message.qubits.add(t1_seconds=qubit.t1, t2_seconds=qubit.t2, frequency_hertz=qubit.frequency)
    return message


@pytest.fixture(scope="module")
def source() -> Target:
    return GenericBackendV2(5, coupling_map=[[0, 1], [1, 2], [2, 3], [3, 4]], control_flow=True, seed=11).target


def test_errors_durations_and_qubits_survive(source: Target) -> None:
    constraints = backend_pb2.TimingConstraints(granularity=16, min_length=64, pulse_alignment=8, acquire_alignment=4)
    target = to_target(described(source, timing_constraints=constraints))
    assert target.num_qubits == 5
    assert target.dt == source.dt
    assert (target.granularity, target.min_length) == (16, 64)
    assert (target.pulse_alignment, target.acquire_alignment) == (8, 4)
    for name in ("cx", "sx", "x", "rz", "measure", "reset", "delay", "id"):
        assert set(target[name]) == set(source[name])
        for qubits, properties in source[name].items():
            if properties is not None:
                assert target[name][qubits].error == properties.error
                assert target[name][qubits].duration == properties.duration
    assert target.qubit_properties[3].t1 == source.qubit_properties[3].t1
    assert target.build_coupling_map().get_edges() == source.build_coupling_map().get_edges()


def test_control_flow_is_in_it(source: Target) -> None:
    target = to_target(described(source))
    assert target.operation_from_name("if_else") is IfElseOp
    assert {"for_loop", "while_loop", "switch_case", "break_loop", "continue_loop"} <= set(target.operation_names)


def test_circuits_are_transpiled_for_it(source: Target) -> None:
    circuit = QuantumCircuit(3, 3)
    circuit.h(0)
    circuit.cx(0, 2)
    with circuit.if_test((circuit.clbits[0], True)):
        circuit.x(1)
    circuit.measure(range(3), range(3))
    ready = transpile(circuit, target=to_target(described(source)), seed_transpiler=1)
    assert set(ready.count_ops()) <= {"rz", "sx", "x", "cx", "measure", "if_else", "barrier"}


def test_an_ideal_simulator_runs_everything_everywhere() -> None:
    message = backend_pb2.Backend(backend_id="ideal", num_qubits=4)
    for name, width in (("h", 1), ("cx", 2), ("measure", 1), ("mcx", 0), ("if_else", 0), ("mystery", 0)):
        message.instructions.add(instruction_name=name, num_qubits=width)
    target = to_target(message)
    assert target.instruction_supported("cx", (3, 0))
    assert target.operation_from_name("mcx") is MCXGate
    assert "mystery" not in target
    assert target.dt is None
    assert target.qubit_properties is None


def test_a_gate_that_qiskit_does_not_know_has_its_name_width_and_parameters() -> None:
    message = backend_pb2.Backend(backend_id="odd", num_qubits=2)
    gate = message.instructions.add(instruction_name="fsim", num_qubits=2, parameters=["theta", "phi"])
    gate.properties.add(qubits=[0, 1], error=0.1)
    operation = to_target(message).operation_from_name("fsim")
    assert (operation.name, operation.num_qubits) == ("fsim", 2)
    assert [parameter.name for parameter in operation.params] == ["theta", "phi"]


def test_what_is_only_named_acts_anywhere_beside_what_is_described() -> None:
    message = backend_pb2.Backend(
        backend_id="mixed",
        num_qubits=2,
        basis_gates=["x"],
        supported_instructions=["x", "measure", "delay", "reset", "if_else", "unitary", "barrier"],
    )
    message.instructions.add(instruction_name="x", num_qubits=1).properties.add(qubits=[1], error=0.1)
    target = to_target(message)
    assert set(target["x"]) == {(1,)}
    assert all(target.instruction_supported(name, (0,)) for name in ("measure", "delay", "reset"))
    assert {"if_else", "unitary"} <= set(target.operation_names)
    assert "barrier" not in target


def test_names_and_a_coupling_map_are_enough() -> None:
    message = backend_pb2.Backend(
        backend_id="plain",
        num_qubits=3,
        basis_gates=["rz", "sx", "cx"],
        supported_instructions=["rz", "sx", "cx", "measure", "if_else"],
        coupling_map=[backend_pb2.QubitPair(first=0, second=1), backend_pb2.QubitPair(first=1, second=2)],
    )
    target = to_target(message)
    assert set(target["cx"]) == {(0, 1), (1, 2)}
    assert target.instruction_supported("sx", (2,))
    assert "if_else" in target


def test_configuration_and_status_tell_what_the_message_tells() -> None:
    message = backend_pb2.Backend(
        backend_id="machine",
        account="local",
        backend_version="2",
        num_qubits=3,
        simulator=True,
        max_shots=1000,
        max_circuits=5,
        basis_gates=["x"],
        coupling_map=[backend_pb2.QubitPair(first=0, second=1)],
        meas_levels=[1, 2],
        memory=True,
        dynamic_circuits=True,
        dt_seconds=1e-9,
        timing_constraints=backend_pb2.TimingConstraints(granularity=16),
        processor_type={"family": "Heron"},
        status=backend_pb2.BackendStatus(operational=True, status_message="active", pending_jobs=4),
    )
    for field, millis in (("default_rep_delay", 1), ("min_rep_delay", 0), ("max_rep_delay", 5)):
        getattr(message, field).FromMilliseconds(millis)
    configuration = BackendConfiguration.from_message(message)
    assert configuration.n_qubits == configuration.num_qubits == 3
    assert configuration.max_experiments == configuration.max_circuits == 5
    assert configuration.coupling_map == [[0, 1]]
    assert configuration.rep_delay_range == [0.0, 0.005]
    assert configuration.default_rep_delay == 0.001
    assert configuration.dynamic_reprate_enabled
    assert configuration.timing_constraints == {"granularity": 16}
    assert (configuration.local, configuration.open_pulse, configuration.conditional) == (False, False, True)
    assert configuration.to_dict()["processor_type"] == {"family": "Heron"}
    status = BackendStatus.from_message(message)
    assert status.to_dict() == {
        "backend_name": "machine",
        "backend_version": "2",
        "operational": True,
        "pending_jobs": 4,
        "status_msg": "active",
    }
