"""The arguments of `run`: checked before anything is sent, merged in the right order."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from qgateway._run_options import DEFAULTS, build_run_options, describe_run_options
from qgateway._structs import from_struct, to_struct
from qgateway.exceptions import IBMBackendValueError
from qgateway.v1 import backend_pb2, job_pb2
from qiskit.result.models import MeasLevel, MeasReturnType
from qiskit_aer.noise import NoiseModel, depolarizing_error


def build(
    run_config: dict[str, Any] | None = None, *, dynamic_circuits: bool = False, **explicit: Any
) -> job_pb2.RunOptions:
    backend = backend_pb2.Backend(max_shots=1000)
    backend.max_rep_delay.FromMilliseconds(500)
    return build_run_options(
        {"shots": 100, **explicit}, {}, run_config or {}, backend=backend, dynamic_circuits=dynamic_circuits
    )


def merged(explicit: dict[str, Any], options: dict[str, Any]) -> job_pb2.RunOptions:
    return build_run_options(explicit, options, {}, backend=backend_pb2.Backend(), dynamic_circuits=False)


def test_the_defaults_are_those_of_the_original() -> None:
    options = merged({}, {})
    assert (options.shots, options.memory, options.init_qubits) == (4000, False, True)
    assert options.meas_level == job_pb2.MEAS_LEVEL_CLASSIFIED
    assert options.meas_return == job_pb2.MEAS_RETURN_AVERAGE
    for name in ("rep_delay", "dynamic", "seed_simulator", "header"):
        assert not options.HasField(name)


def test_explicit_comes_before_the_options_and_those_before_the_defaults() -> None:
    options = {**DEFAULTS, "shots": 7, "memory": True}
    assert merged({}, options).shots == 7
    assert merged({"shots": 9, "memory": None}, options).shots == 9
    assert merged({"shots": None, "memory": None}, options).memory


@pytest.mark.parametrize("shots", [10, np.int32(10), np.uint8(10), 10.0, np.float64(10)])
def test_whole_numbers_of_every_kind_are_shots(shots: Any) -> None:
    assert build(shots=shots).shots == 10


@pytest.mark.parametrize("shots", [0, -1, 10**9, 1001, 1.5, True, "many", [1], float("nan")])
def test_wrong_shots_are_refused_before_sending(shots: Any) -> None:
    with pytest.raises(IBMBackendValueError, match=r"^shots: "):
        build(shots=shots)


@pytest.mark.parametrize(
    ("given", "wire"),
    [
        (1, job_pb2.MEAS_LEVEL_KERNELED),
        (np.int64(2), job_pb2.MEAS_LEVEL_CLASSIFIED),
        (MeasLevel.KERNELED, job_pb2.MEAS_LEVEL_KERNELED),
        ("kerneled", job_pb2.MEAS_LEVEL_KERNELED),
    ],
)
def test_measurement_levels_come_as_numbers_members_and_names(given: Any, wire: int) -> None:
    assert build(meas_level=given).meas_level == wire


@pytest.mark.parametrize("given", ["single", MeasReturnType.SINGLE])
def test_measurement_returns_come_as_words_and_members(given: Any) -> None:
    assert build(meas_return=given).meas_return == job_pb2.MEAS_RETURN_SINGLE


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("meas_level", 0),
        ("meas_level", 3),
        ("meas_level", "raw"),
        ("meas_return", "all"),
        ("meas_return", None.__class__),
        ("memory", 1),
        ("memory", "yes"),
        ("init_qubits", 0),
        ("dynamic", "no"),
        ("seed_simulator", -1),
        ("seed_simulator", 2**64),
        ("seed_simulator", "x"),
        ("rep_delay", -0.1),
        ("rep_delay", 0.6),
        ("rep_delay", "soon"),
        ("rep_delay", float("nan")),
        ("transpile", 4),
        ("transpile", True),
        ("header", [1]),
        ("use_measure_esp", True),
    ],
)
def test_a_wrong_value_is_refused_with_the_name_of_its_argument(name: str, value: Any) -> None:
    with pytest.raises(IBMBackendValueError, match=rf"^{name}: "):
        build(**{name: value})


def test_every_option_arrives() -> None:
    options = build(
        memory=np.bool_(True), rep_delay=0.00025, dynamic=True, seed_simulator=2**64 - 1, header={"a": 1}, transpile=3
    )
    assert options.memory
    assert options.rep_delay.nanos == 250_000
    assert options.dynamic
    assert options.seed_simulator == 2**64 - 1
    assert from_struct(options.header) == {"a": 1}
    assert options.transpile == job_pb2.TRANSPILE_LEVEL_3
    assert build(transpile=0).transpile == job_pb2.TRANSPILE_LEVEL_0


def test_options_are_described_as_they_were_given() -> None:
    options = build({}, memory=True, rep_delay=0.25, seed_simulator=5, transpile=1, meas_level=1, meas_return="single")
    assert describe_run_options(options) == {
        "shots": 100,
        "memory": True,
        "meas_level": 1,
        "meas_return": "single",
        "init_qubits": True,
        "rep_delay": 0.25,
        "seed_simulator": 5,
        "transpile": 1,
    }


def test_an_unknown_name_warns_and_goes_to_the_provider() -> None:
    with pytest.warns(UserWarning, match="'flavour'"):
        options = build({"flavour": "blue", "nothing": None})
    assert from_struct(options.provider_options) == {"flavour": "blue"}


def test_known_names_that_only_providers_understand_are_passed_without_a_warning() -> None:
    options = build(init_circuit=True, init_num_resets=3)
    assert from_struct(options.provider_options) == {"init_circuit": True, "init_num_resets": 3}


def test_a_noise_model_of_aer_is_passed_as_its_dictionary() -> None:
    model = NoiseModel()
    model.add_all_qubit_quantum_error(depolarizing_error(0.25, 1), ["x"])
    sent = from_struct(build(noise_model=model).provider_options)["noise_model"]
    assert json.dumps(sent, sort_keys=True) == json.dumps(model.to_dict(serializable=True), sort_keys=True)


def test_dynamic_false_is_ignored_with_a_warning_where_circuits_have_control_flow() -> None:
    with pytest.warns(UserWarning, match="dynamic=False is ignored"):
        assert build(dynamic=False, dynamic_circuits=True).dynamic
    assert not build(dynamic=False).dynamic


def test_dictionaries_survive_the_way_there_and_back() -> None:
    values = {
        "none": None,
        "flag": True,
        "whole": 2**53,
        "real": 0.1,
        "text": "ü",
        "list": [1, [2.5, {}], []],
        "dict": {"deep": {"er": "x"}},
    }
    back = from_struct(to_struct(values))
    assert back == values
    assert type(back["whole"]) is int
    assert from_struct(to_struct({"n": np.int64(3), "a": np.array([[1, 2]]), "t": (1, 2)})) == {
        "n": 3,
        "a": [[1, 2]],
        "t": [1, 2],
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"a": {"b": [1, {1, 2}]}}, "a.b[1]: a set"),
        ({"a": 1j}, "a: a complex"),
        ({"a": 2**53 + 1}, "a: 9007199254740993 is beyond 2**53"),
        ({"a": float("inf")}, "a: inf"),
        ({"a": {1: 2}}, "a: the key 1"),
        ({1: 2}, "the dictionary: the key 1"),
        ({"a": b"x"}, "a: a bytes"),
    ],
)
def test_what_json_cannot_hold_is_refused_with_its_path(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        to_struct(values)
