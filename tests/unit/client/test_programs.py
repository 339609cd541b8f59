"""What `run` takes, as a program and back."""

from __future__ import annotations

import io

import pytest
from qgateway.exceptions import IBMBackendError, IBMBackendValueError
from qgateway.programs import as_circuits, check_circuits, common_qpy_version, is_dynamic, to_circuits, to_program
from qgateway.v1 import program_pb2, server_service_pb2
from qiskit import QuantumCircuit, qpy
from qiskit.circuit import Parameter

QASM = "OPENQASM 3.0; bit c; qubit q; c = measure q;"


def bell(name: str = "bell") -> QuantumCircuit:
    circuit = QuantumCircuit(2, name=name, metadata={"k": 1})
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return circuit


def test_one_circuit_a_list_a_tuple_and_a_generator_are_accepted() -> None:
    one = bell()
    for given in (one, [one], (one,), (each for each in [one])):
        assert as_circuits(given) == [one]
    assert as_circuits(QASM) == [QASM]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "empty"),
        ((), "empty"),
        (5, "int is neither"),
        (None, "NoneType is neither"),
        ([bell(), 5], r"circuits\[1\]: a int"),
        ([bell(), QASM], "not both"),
    ],
)
def test_anything_else_is_refused_by_name(given: object, message: str) -> None:
    with pytest.raises(IBMBackendValueError, match=message):
        as_circuits(given)


def test_limits_of_the_backend_are_checked_before_sending() -> None:
    with pytest.raises(IBMBackendValueError, match="there are 3, and the backend takes 2"):
        check_circuits([bell()] * 3, max_circuits=2, num_qubits=5)
    with pytest.raises(IBMBackendValueError, match=r"circuits\[0\] \('bell'\) has 2 qubits, and the backend has 1"):
        check_circuits([bell()], max_circuits=0, num_qubits=1)
    check_circuits([QASM] * 3, max_circuits=0, num_qubits=0)


def test_unbound_parameters_are_named() -> None:
    circuit = QuantumCircuit(1)
    circuit.rz(Parameter("theta"), 0)
    with pytest.raises(IBMBackendValueError, match="unbound parameters: theta"):
        check_circuits([circuit], max_circuits=0, num_qubits=0)


def test_control_flow_makes_a_circuit_dynamic() -> None:
    circuit = QuantumCircuit(1, 1)
    assert not is_dynamic([circuit])
    with circuit.if_test((circuit.clbits[0], True)):
        circuit.x(0)
    assert is_dynamic([bell(), circuit])
    assert not is_dynamic([QASM])


def test_circuits_survive_the_way_there_and_back() -> None:
    circuits = [bell("one"), bell("two")]
    program = program_pb2.Program.FromString(to_program(circuits).SerializeToString())
    back = to_circuits(program)
    assert back == circuits
    assert [circuit.name for circuit in back] == ["one", "two"]
    assert back[0].metadata == {"k": 1}


def test_texts_travel_as_they_are() -> None:
    assert to_circuits(to_program([QASM, QASM])) == [QASM, QASM]


def test_metadata_that_is_not_json_is_refused() -> None:
    circuit = bell()
    circuit.metadata = {"thing": object()}
    with pytest.raises(IBMBackendValueError, match="cannot be serialised"):
        to_program([circuit])


def test_the_newest_version_of_qpy_that_both_know_is_used() -> None:
    def info(least: int, most: int) -> server_service_pb2.ServerInfo:
        return server_service_pb2.ServerInfo(min_qpy_version=least, max_qpy_version=most)

    assert common_qpy_version(info(13, 99)) == qpy.QPY_VERSION
    assert common_qpy_version(info(13, 14)) == 14
    assert common_qpy_version(info(0, 0)) == qpy.QPY_VERSION
    written = to_program([bell()], qpy_version=14).qpy.data
    assert qpy.get_qpy_version(io.BytesIO(written)) == 14
    for least, most in ((13, 12), (98, 99)):
        with pytest.raises(IBMBackendError, match="Install another Qiskit"):
            common_qpy_version(info(least, most))


def test_qpy_that_could_run_code_is_not_read() -> None:
    data = bytearray(to_program([bell()]).qpy.data)
    data[6] = 12
    for wrong in (bytes(data), b"", b"QISKIT", b"something else"):
        with pytest.raises(ValueError, match="version 13 or newer"):
            to_circuits(program_pb2.Program(qpy=program_pb2.QpyProgram(data=wrong)))


def test_a_provider_program_has_no_circuits() -> None:
    assert to_circuits(program_pb2.Program(raw=program_pb2.RawProgram(program_id="sampler"))) == []
