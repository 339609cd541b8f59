"""Typed results as Qiskit's `Result`: everything as with Aer."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from qgateway.exceptions import IBMJobInvalidStateError
from qgateway.results import Header, to_result
from qgateway.v1 import result_pb2
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
from qiskit.circuit import Clbit
from qiskit.exceptions import QiskitError
from qiskit.result import Result
from qiskit.result.models import MeasLevel
from qiskit_aer import AerSimulator


def packed(outcomes: list[int], size: int) -> bytes:
    return b"".join(outcome.to_bytes(-(-size // 8), "big") for outcome in outcomes)


def register(name: str, size: int, outcomes: list[int], clbits: list[int] | None = None) -> result_pb2.RegisterResult:
    bits = result_pb2.PackedBits(data=packed(outcomes, size))
    return result_pb2.RegisterResult(register_name=name, size=size, clbits=clbits or [], bits=bits)


def experiment(registers: list[result_pb2.RegisterResult], shots: int, **fields: Any) -> result_pb2.ExperimentResult:
    return result_pb2.ExperimentResult(
        circuit_name=fields.pop("circuit_name", "circuit-0"),
        shots=shots,
        success=fields.pop("success", True),
        status="DONE",
        registers=registers,
        **fields,
    )


def result_of(*experiments: result_pb2.ExperimentResult, memory: bool = True, **fields: Any) -> Result:
    message = result_pb2.JobResult(job="jobs/abc", backend="machine", success=True, experiments=experiments, **fields)
    return to_result(message, job_id="abc", memory=memory)


def as_message(circuit: QuantumCircuit, aer: Result) -> result_pb2.ExperimentResult:
    """Return what a gateway would send of a circuit that Aer ran."""
    outcomes = [int(shot, 16) for shot in aer.results[0].data.memory]
    registers = []
    for each in circuit.cregs:
        slots = [circuit.find_bit(bit).index for bit in each]
        values = [sum((outcome >> slot & 1) << index for index, slot in enumerate(slots)) for outcome in outcomes]
        registers.append(register(each.name, each.size, values, slots))
    return experiment(
        registers,
        len(outcomes),
        circuit_name=circuit.name,
        num_clbits=circuit.num_clbits,
        global_phase=circuit.global_phase,
        quantum_registers=[
            result_pb2.QuantumRegister(register_name=each.name, size=each.size) for each in circuit.qregs
        ],
    )


def test_counts_memory_and_header_are_those_of_aer() -> None:
    circuit = QuantumCircuit(
        QuantumRegister(3, "q"), ClassicalRegister(2, "a"), ClassicalRegister(1, "b"), name="two", global_phase=0.5
    )
    circuit.h([0, 1])
    circuit.x(2)
    circuit.measure([0, 1, 2], [0, 1, 2])
    aer = AerSimulator().run(circuit, shots=200, memory=True, seed_simulator=7).result()
    ours = result_of(as_message(circuit, aer))
    for key in (None, 0, "two", circuit):
        assert ours.get_counts(key) == aer.get_counts(key)
        assert ours.get_memory(key) == aer.get_memory(key)
    assert ours.data(0)["counts"] == aer.data(0)["counts"]
    for name in ("creg_sizes", "qreg_sizes", "memory_slots", "n_qubits", "name", "global_phase", "metadata"):
        assert ours.results[0].header[name] == aer.results[0].header[name]
    assert ours.get_counts().shots() == 200


def test_every_circuit_is_found_by_index_and_name() -> None:
    ours = result_of(
        experiment([register("c", 1, [1, 1])], 2, circuit_name="one"),
        experiment([register("c", 1, [0, 0])], 2, circuit_name="zero"),
    )
    assert ours.get_counts() == [{"1": 2}, {"0": 2}]
    assert ours.get_counts("zero") == {"0": 2}
    assert ours.get_counts(0) == {"1": 2}
    assert ours.get_memory(1) == ["0", "0"]


@pytest.mark.parametrize("size", [1, 7, 8, 9, 63, 64, 65, 127])
def test_wide_registers_keep_every_bit(size: int) -> None:
    outcomes = [0, 1, (1 << size) - 1, 1 << (size - 1), 1]
    ours = result_of(experiment([register("c", size, outcomes)], len(outcomes), num_clbits=size))
    assert [int(shot, 2) for shot in ours.get_memory()] == outcomes
    assert all(len(key) == size for key in ours.get_counts())
    assert sum(ours.get_counts().values()) == 5


def test_two_wide_registers_are_put_together() -> None:
    high, low = (1 << 69) | 5, (1 << 64) | 3
    ours = result_of(experiment([register("low", 65, [low]), register("high", 70, [high])], 1, num_clbits=135))
    assert ours.get_memory() == [f"{high:070b} {low:065b}"]


def test_registers_that_share_bits_give_one_undivided_string() -> None:
    shared = [register("a", 2, [0b01], [0, 1]), register("b", 2, [0b10], [1, 2])]
    ours = result_of(experiment(shared, 1, num_clbits=3))
    assert ours.results[0].header["creg_sizes"] == []
    assert ours.get_counts() == {"101": 1}


def test_bits_without_a_register_are_not_lost() -> None:
    circuit = QuantumCircuit(QuantumRegister(2, "q"), [Clbit()])
    circuit.add_register(ClassicalRegister(1, "c"))
    loose = register("", 1, [1, 0], [0])
    ours = result_of(experiment([register("c", 1, [0, 1], [1]), loose], 2, num_clbits=2))
    assert ours.get_counts() == {"0 1": 1, "1 0": 1}
    assert ours.results[0].header["clbit_labels"] == [["", 0], ["c", 0]]


def test_memory_is_listed_only_where_it_was_asked_for() -> None:
    ours = result_of(experiment([register("c", 1, [1])], 1), memory=False)
    assert ours.get_counts() == {"1": 1}
    with pytest.raises(QiskitError, match="memory"):
        ours.get_memory()


def test_a_circuit_without_classical_bits_has_no_data() -> None:
    ours = result_of(experiment([], 10))
    assert ours.data(0) == {}
    assert ours.results[0].header["memory_slots"] == 0
    with pytest.raises(QiskitError, match="No counts"):
        ours.get_counts()


def points(name: str, values: np.ndarray[Any, Any], *, averaged: bool, clbits: list[int]) -> result_pb2.RegisterResult:
    iq = result_pb2.IqPoints(data=np.ascontiguousarray(values, dtype="<c16").tobytes(), averaged=averaged)
    return result_pb2.RegisterResult(register_name=name, size=values.shape[-1], clbits=clbits, iq=iq)


def test_single_points_have_one_row_per_shot() -> None:
    values = np.array([[1 + 2j, 3 + 4j], [5 + 6j, 7 + 8j], [9 + 0j, 1j]])
    ours = result_of(experiment([points("c", values, averaged=False, clbits=[1, 0])], 3, num_clbits=2))
    assert ours.results[0].meas_level == MeasLevel.KERNELED
    assert ours.results[0].meas_return == "single"
    np.testing.assert_array_equal(ours.get_memory(), values[:, ::-1])


def test_averaged_points_have_one_per_bit() -> None:
    a, b = np.array([1 + 2j]), np.array([3 + 4j, 5 + 6j])
    registers = [points("a", a, averaged=True, clbits=[0]), points("b", b, averaged=True, clbits=[1, 2])]
    ours = result_of(experiment(registers, 1000, num_clbits=3), memory=False)
    assert ours.results[0].meas_return == "avg"
    np.testing.assert_array_equal(ours.get_memory(), [1 + 2j, 3 + 4j, 5 + 6j])
    assert isinstance(ours.results[0].data.memory, list)


def test_facts_of_the_run_are_there() -> None:
    one = experiment([register("c", 1, [1])], 1, seed=2**64 - 1)
    one.metadata.update({"k": [1, "a", None, True, {"deep": 1.5}]})
    one.time_taken.FromMilliseconds(250)
    message = result_pb2.JobResult(
        job="jobs/abc", backend="machine", backend_version="1.0", success=True, status="COMPLETED", experiments=[one]
    )
    message.header.update({"mine": 7})
    message.run_time.GetCurrentTime()
    message.time_taken.FromMilliseconds(1500)
    ours = to_result(message, job_id="abc", memory=False)
    assert (ours.job_id, ours.backend_name, ours.backend_version) == ("abc", "machine", "1.0")
    assert (ours.success, ours.status, ours.time_taken) == (True, "COMPLETED", 1.5)
    assert ours.date.tzinfo is not None
    assert ours.header["mine"] == ours.header.mine == 7
    only = ours.results[0]
    assert only.seed == only.seed_simulator == 2**64 - 1
    assert (only.status, only.success, only.shots, only.time_taken) == ("DONE", True, 1, 0.25)
    assert only.header.metadata == {"k": [1, "a", None, True, {"deep": 1.5}]}
    assert Result.from_dict(ours.to_dict()).get_counts() == ours.get_counts()


def test_an_experiment_that_failed_is_returned_as_such() -> None:
    ours = result_of(experiment([], 0, success=False))
    assert not ours.results[0].success
    with pytest.raises(QiskitError):
        ours.get_counts(0)


def test_a_header_is_a_dictionary_and_an_object_through_copies() -> None:
    header = Header(name="a")
    for twin in (header, copy.deepcopy(header), pickle.loads(pickle.dumps(header))):  # noqa: S301 - our own
        assert twin == {"name": "a"}
        assert twin.name == "a"
    with pytest.raises(AttributeError, match="colour"):
        _ = header.colour


def test_the_result_of_a_provider_program_is_refused() -> None:
    raw = result_pb2.RawResult(media_type="application/json", payload=b"{}")
    with pytest.raises(IBMJobInvalidStateError, match="application/json") as caught:
        to_result(result_pb2.JobResult(raw=raw), job_id="abc", memory=False)
    assert caught.value.job_id == "abc"


def test_data_that_does_not_fit_its_shape_is_refused() -> None:
    wrong = register("c", 2, [1, 2, 3])
    with pytest.raises(ValueError, match="3 bytes, not 2 shots"):
        result_of(experiment([wrong], 2))
    with pytest.raises(ValueError, match="places 1 of its 2 bits"):
        result_of(experiment([register("c", 2, [1], [0])], 1))
