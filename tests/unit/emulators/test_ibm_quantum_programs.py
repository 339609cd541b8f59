"""What programs compute, and how they fail."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from ibm_quantum_schemas.common import CompressedQpyDataModel, F64CompressedTensorModel, OpenQasm3DataModel
from ibm_quantum_schemas.executor.version_2_0 import (
    CircuitItemModel,
    OptionsModel,
    ParamsModel,
    QuantumProgramModel,
    QuantumProgramResultModel,
)
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister, qpy
from qiskit.circuit import Parameter

from tests.emulators.ibm_quantum.process import EmulatorProcess
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.unit.emulators.caller import Caller, sampler_params

ASYMMETRIC = """OPENQASM 3.0;
include "stdgates.inc";
bit[2] low;
bit[9] high;
x $1;
x $3;
low[1] = measure $1;
low[0] = measure $0;
high[8] = measure $3;
high[2] = measure $2;
"""


def executor_params(
    circuits: list[QuantumCircuit], values: list[Any], *, shots: int = 16, qpy_version: int = 18, **fields: Any
) -> dict[str, Any]:
    """Return an executor program with one item per circuit."""
    items = [
        CircuitItemModel(
            circuit_arguments=F64CompressedTensorModel.from_numpy(np.asarray(value, dtype=np.float64)), shape=[]
        )
        for value in values
    ]
    data = CompressedQpyDataModel[QuantumCircuit].from_python(circuits, qpy_version=qpy_version)
    program = QuantumProgramModel(shots=shots, circuits=data, items=items, **fields)
    return dict(ParamsModel(quantum_program=program, options=OptionsModel()).model_dump(mode="json"))


def tensors(document: Any, item: int = 0) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors of an item of an executor's result."""
    result = QuantumProgramResultModel.model_validate(document)
    return {name: tensor.to_numpy() for name, tensor in result.data[item].results.items()}


def rotation() -> QuantumCircuit:
    """A circuit that measures a rotated qubit."""
    circuit = QuantumCircuit(1, 1)
    circuit.rx(Parameter("theta"), 0)
    circuit.measure(0, 0)
    return circuit


def test_the_plain_sampler_keeps_registers_and_the_order_of_bits(caller: Caller) -> None:
    document = caller.result(caller.new_job(params=sampler_params(ASYMMETRIC, shots=4)))
    assert document["results"][0]["data"] == {
        "low": {"samples": ["0x2"] * 4, "num_bits": 2},
        "high": {"samples": ["0x100"] * 4, "num_bits": 9},
    }


def test_the_tagged_sampler_packs_bits_as_big_endian_integers(caller: Caller) -> None:
    document = caller.result(caller.new_job(params=sampler_params(ASYMMETRIC, shots=4, support_qiskit=True)))
    data = document["__value__"]["pub_results"][0]["__value__"]["data"]["__value__"]
    array = np.load(
        io.BytesIO(zlib.decompress(base64.b64decode(data["fields"]["high"]["__value__"]["array"]["__value__"])))
    )
    assert (data["field_names"], data["shape"], array.dtype) == (["low", "high"], [], np.uint8)
    assert array.tolist() == [[1, 0]] * 4


@pytest.mark.parametrize("values", [{"theta": np.pi}, [np.pi]])
def test_the_sampler_takes_parameters_by_name_and_by_place(caller: Caller, values: Any) -> None:
    qasm = 'OPENQASM 3.0; include "stdgates.inc"; input float theta; bit[1] c; rx(theta) $0; c[0] = measure $0;'
    params = {"pubs": [[qasm, values, 3]], "version": 2}
    assert caller.result(caller.new_job(params=params))["results"][0]["data"]["c"]["samples"] == ["0x1"] * 3


def test_kerneled_outcomes_lie_around_two_points(caller: Caller) -> None:
    params = sampler_params(ASYMMETRIC, shots=50, options={"execution": {"meas_type": "kerneled"}})
    points = np.array(caller.result(caller.new_job(params=params))["results"][0]["data"]["low"]).reshape(50, 2, 2)
    assert np.allclose(points.mean(axis=0), [[1, 0], [-1, 0]], atol=0.2)


def test_the_estimator_gives_expectation_values(caller: Caller) -> None:
    qasm = 'OPENQASM 3.0; include "stdgates.inc"; qubit[2] q; x q[0];'
    params = {"pubs": [[qasm, [{"ZI": 1.0, "IZ": 0.5}, "ZZ"], None, 0.1]], "version": 2}
    document = caller.result(caller.new_job(program_id="estimator", params=params))
    assert document["results"][0]["data"]["evs"] == [0.5, -1.0]


@pytest.mark.parametrize("qpy_version", [17, 18])
def test_the_executor_keeps_items_sweeps_and_the_order_of_bits(caller: Caller, qpy_version: int) -> None:
    qubits, low, high = QuantumRegister(3), ClassicalRegister(1, "low"), ClassicalRegister(3, "high")
    fixed = QuantumCircuit(qubits, low, high)
    fixed.x(1)
    fixed.measure([0, 1, 2], [high[0], high[2], low[0]])
    sweep = [[[0.0], [np.pi], [0.0]], [[np.pi], [np.pi], [0.0]]]
    params = executor_params(
        [fixed, rotation()],
        [[], sweep],
        qpy_version=qpy_version,
        semantic_role="mine",
        passthrough_data={"a": [1, None, "b"]},
    )
    document = caller.result(caller.new_job(program_id="executor", params=params))
    first, second = tensors(document, 0), tensors(document, 1)
    assert first["high"].shape == (16, 3)
    assert first["high"].all(axis=0).tolist() == [False, False, True]
    assert not first["high"][:, :2].any()
    assert not first["low"].any()
    assert second["c"].shape == (2, 3, 16, 1)
    assert second["c"].all(axis=(2, 3)).tolist() == [[False, True, False], [True, True, False]]
    assert (document["semantic_role"], document["passthrough_data"]) == ("mine", {"a": [1, None, "b"]})


def test_the_executor_tells_when_the_job_ran(caller: Caller) -> None:
    params = executor_params([rotation()], [[0.5]])
    for _ in range(2):
        job = caller.new_job(program_id="executor", params=params)
        (chunk,) = caller.result(job)["metadata"]["chunk_timing"]
        stamps = caller.get(f"/jobs/{job}/metrics")["timestamps"]
        assert (chunk["start"], chunk["stop"]) == (stamps["running"], stamps["finished"])
        assert chunk["parts"] == [{"idx_item": 0, "size": 1, "permutation": [], "element_range": [0, 1, 1]}]


@pytest.mark.parametrize(
    ("level", "names"),
    [
        ("kerneled", {"c_iq": (16, 1)}),
        ("avg_kerneled", {"c_avg_iq": (1,)}),
        ("both", {"c": (16, 1), "c_iq": (16, 1)}),
    ],
)
def test_the_executor_measures_at_every_level(caller: Caller, level: str, names: dict[str, tuple[int, ...]]) -> None:
    params = executor_params([rotation()], [[np.pi]], meas_level=level)
    found = tensors(caller.result(caller.new_job(program_id="executor", params=params)))
    assert {name: tensor.shape for name, tensor in found.items()} == names
    assert all(np.isclose(found[name].mean(), -1, atol=0.3) for name in names if name.endswith("iq"))


def test_the_executor_reads_openqasm(caller: Caller) -> None:
    params = executor_params([rotation()], [[]])
    circuits = OpenQasm3DataModel[QuantumCircuit](data=[ASYMMETRIC])
    params["quantum_program"]["circuits"] = circuits.model_dump(mode="json")
    found = tensors(caller.result(caller.new_job(program_id="executor", params=params)))
    assert found["low"].all(axis=0).tolist() == [False, True]


def _too_new(control: EmulatorControl) -> dict[str, Any]:
    control.settings(max_qpy_version=17)
    return executor_params([rotation()], [[0.0]], qpy_version=18)


def _not_in_the_instruction_set(_: EmulatorControl) -> dict[str, Any]:
    circuit = QuantumCircuit(2, 1)
    circuit.h(0)
    circuit.measure(0, 0)
    return executor_params([circuit], [[]])


def _not_coupled(_: EmulatorControl) -> dict[str, Any]:
    circuit = QuantumCircuit(5, 1)
    circuit.cz(0, 4)
    circuit.measure(0, 0)
    return executor_params([circuit], [[]])


def _too_many_shots(_: EmulatorControl) -> dict[str, Any]:
    return executor_params([rotation()], [[0.0]], shots=100_001)


def _too_many_values(_: EmulatorControl) -> dict[str, Any]:
    return executor_params([rotation()], [[0.0, 1.0]])


def _too_slow(_: EmulatorControl) -> dict[str, Any]:
    params = executor_params([rotation()], [[0.0]])
    params["options"]["rep_delay"] = 1.0
    return params


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (_too_new, "QPY version 18 is newer than 17"),
        (_not_in_the_instruction_set, r"instruction h on qubits \(0,\) is not supported by ibm_alder"),
        (_not_coupled, r"instruction cz on qubits \(0, 4\) is not supported"),
        (_too_many_shots, "100001 shots are more than the 100000"),
        (_too_many_values, "has 1 parameters"),
        (_too_slow, "rep_delay must be"),
    ],
)
def test_a_program_that_the_device_cannot_run_fails(
    caller: Caller, control: EmulatorControl, params: Callable[[EmulatorControl], dict[str, Any]], said: str
) -> None:
    job = caller.new_job(program_id="executor", params=params(control))
    state = caller.ended(job)
    assert (state["status"], state["reason_code"]) == ("Failed", 1002)
    with pytest.raises(AssertionError, match=said):
        assert not state["reason"]
    assert caller.call("GET", f"/jobs/{job}/results").text == state["reason"]


def test_a_program_that_makes_no_sense_fails(caller: Caller) -> None:
    for program, params in [
        ("executor", {"schema_version": "v9"}),
        ("sampler", {"pubs": []}),
        ("sampler", sampler_params("nonsense")),
        ("sampler", {"pubs": [[{"__type__": "QuantumCircuit", "__value__": "AAAA"}, None, 1]]}),
        ("estimator", {"pubs": [["OPENQASM 3.0; qubit[1] q;", {"no": 1}]]}),
    ]:
        state = caller.ended(caller.new_job(program_id=program, params=params))
        assert (state["status"], state["reason_code"]) == ("Failed", 1208), state


def test_the_sampler_reads_no_qpy_above_17(caller: Caller) -> None:
    file = io.BytesIO()
    qpy.dump(rotation(), file, version=18)
    circuit = {"__type__": "QuantumCircuit", "__value__": base64.b64encode(zlib.compress(file.getvalue())).decode()}
    state = caller.ended(caller.new_job(params={"pubs": [[circuit, [0.0], 1]]}))
    assert (state["status"], state["reason_code"]) == ("Failed", 1002)


def test_noise_makes_devices_err(caller: Caller, control: EmulatorControl) -> None:
    params = sampler_params(ASYMMETRIC, shots=10_000)
    ideal = caller.result(caller.new_job(params=params))["results"][0]["data"]["low"]["samples"]
    control.settings(noise=True)
    noisy = caller.result(caller.new_job(params=params))["results"][0]["data"]["low"]["samples"]
    assert set(ideal) == {"0x2"}
    assert 0.9 < noisy.count("0x2") / 10_000 < 1


def test_the_same_program_is_computed_once_and_is_the_same_for_all(caller: Caller) -> None:
    params = executor_params([rotation()], [[1.0]], shots=1000)
    one, other = (caller.new_job(program_id="executor", params=params) for _ in range(2))
    assert caller.result(one)["data"] == caller.result(other)["data"]


def test_the_server_answers_while_a_program_runs(caller: Caller) -> None:
    params = executor_params([rotation()], [[[0.01 * step] for step in range(6)]], shots=100_000)
    job = caller.new_job(program_id="executor", params=params)
    assert caller.state(job)["status"] in ("Queued", "Running")
    assert caller.get("/backends")["devices"]
    assert caller.state(job)["status"] == "Running"
    caller.call("POST", f"/jobs/{job}/cancel")
    assert caller.state(job)["status"] == "Cancelled"


def test_the_control_route_tells_what_was_computed(caller: Caller, control: EmulatorControl) -> None:
    job = caller.new_job()
    caller.ended(job)
    told = control.job(job)
    assert told["params"] == sampler_params()
    assert told["results"] == caller.call("GET", f"/jobs/{job}/results").text


def test_an_emulator_ends_with_the_process_that_started_it() -> None:
    process = EmulatorProcess({"manual": True, "queue_seconds": 1.5, "seed": 3}).start()
    try:
        settings = process.control.settings()
        assert (settings["manual"], settings["queue_seconds"], settings["seed"]) == (True, 1.5, 3)
        assert process.close_input() == 0
    finally:
        process.kill()
