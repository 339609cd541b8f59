"""Calibration: the accessors of the model that Qiskit 2 no longer has, in SI units."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime

import pytest
from qgateway import BackendProperties, BackendPropertyError
from qgateway.properties import GateProperties, Nduv
from qgateway.v1 import backend_pb2

MOMENT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


def measurement(parameter: str, unit: str, value: float) -> backend_pb2.Measurement:
    made = backend_pb2.Measurement(parameter=parameter, unit=unit, value=value)
    made.measure_time.FromDatetime(MOMENT)
    return made


@pytest.fixture
def properties() -> BackendProperties:
    message = backend_pb2.BackendProperties(
        backend_id="machine",
        backend_version="1.2.3",
        qubits=[
            backend_pb2.QubitCalibration(
                parameters=[
                    measurement("T1", "us", 120.0),
                    measurement("T2", "µs", 80.0),
                    measurement("frequency", "GHz", 5.1),
                    measurement("readout_error", "", 0.02),
                    measurement("readout_length", "ns", 700.0),
                ]
            ),
            backend_pb2.QubitCalibration(parameters=[measurement("T1", "ms", 0.1), measurement("operational", "", 0)]),
        ],
        gates=[
            backend_pb2.GateCalibration(
                gate="cx",
                gate_name="cx0_1",
                qubits=[0, 1],
                parameters=[measurement("gate_error", "", 0.01), measurement("gate_length", "ns", 300.0)],
            ),
            backend_pb2.GateCalibration(
                gate="cx", gate_name="cx1_0", qubits=[1, 0], parameters=[measurement("operational", "", 0)]
            ),
        ],
        general=[measurement("jq_01", "GHz", 0.002)],
    )
    message.last_update_time.FromDatetime(MOMENT)
    return BackendProperties.from_message(message)


def test_qubit_accessors_return_seconds_and_hertz(properties: BackendProperties) -> None:
    assert properties.t1(0) == pytest.approx(120e-6)
    assert properties.t2(0) == pytest.approx(80e-6)
    assert properties.frequency(0) == pytest.approx(5.1e9)
    assert properties.readout_error(0) == 0.02
    assert properties.readout_length(0) == pytest.approx(700e-9)
    assert properties.t1(1) == pytest.approx(100e-6)


def test_gate_accessors_take_one_qubit_or_several(properties: BackendProperties) -> None:
    assert properties.gate_error("cx", [0, 1]) == 0.01
    assert properties.gate_length("cx", (0, 1)) == pytest.approx(300e-9)


def test_a_property_comes_with_its_date(properties: BackendProperties) -> None:
    assert properties.qubit_property(0, "T1") == (pytest.approx(120e-6), MOMENT)
    everything = properties.qubit_property(0)
    assert isinstance(everything, dict)
    assert set(everything) == {"T1", "T2", "frequency", "readout_error", "readout_length"}
    assert properties.gate_property("cx", [0, 1], "gate_error") == (0.01, MOMENT)
    assert set(properties.gate_property("cx")) == {(0, 1), (1, 0)}
    assert set(properties.gate_property("cx", (1, 0))) == {"operational"}


def test_what_is_not_operational_is_faulty(properties: BackendProperties) -> None:
    assert properties.is_qubit_operational(0)
    assert not properties.is_qubit_operational(1)
    assert properties.faulty_qubits() == [1]
    assert properties.is_gate_operational("cx", [0, 1])
    assert [gate.name for gate in properties.faulty_gates()] == ["cx1_0"]


def test_the_dates_are_aware_and_local(properties: BackendProperties) -> None:
    assert properties.last_update_date == MOMENT
    assert properties.last_update_date.utcoffset() == MOMENT.astimezone().utcoffset()
    assert (properties.backend_name, properties.backend_version) == ("machine", "1.2.3")


@pytest.mark.parametrize(
    "ask",
    [
        lambda p: p.t1(2),
        lambda p: p.t1(-1),
        lambda p: p.t2(1),
        lambda p: p.qubit_property(0, "colour"),
        lambda p: p.gate_error("rz", 0),
        lambda p: p.gate_error("cx", [0, 2]),
        lambda p: p.gate_error("cx", [1, 0]),
        lambda p: p.gate_property("rz"),
        lambda p: p.gate_property("cx", name="gate_error"),
        lambda p: p.is_gate_operational("rz", 0),
        lambda p: p.is_qubit_operational(9),
    ],
)
def test_what_is_not_known_is_an_error(properties: BackendProperties, ask: object) -> None:
    with pytest.raises(BackendPropertyError):
        ask(properties)  # type: ignore[operator]


def test_a_unit_that_is_not_known_is_an_error() -> None:
    with pytest.raises(BackendPropertyError, match="furlong"):
        _ = Nduv(MOMENT, "T1", "furlong", 1.0).si
    assert Nduv(MOMENT, "f", "Hz", 3.0).si[0] == 3.0
    assert Nduv(MOMENT, "t", "s", 3.0).si[0] == 3.0


def test_a_dictionary_and_a_pickle_bring_everything_back(properties: BackendProperties) -> None:
    as_dict = properties.to_dict()
    assert as_dict["qubits"][0][0] == {"date": MOMENT, "name": "T1", "unit": "us", "value": 120.0}
    assert as_dict["gates"][0]["name"] == "cx0_1"
    assert BackendProperties.from_dict(as_dict) == properties
    assert pickle.loads(pickle.dumps(properties)).t1(0) == properties.t1(0)  # noqa: S301 - our own


def test_dates_in_a_dictionary_can_be_text() -> None:
    read = BackendProperties.from_dict(
        {
            "backend_name": "b",
            "backend_version": "",
            "last_update_date": "2024-05-06T07:08:09Z",
            "qubits": [[{"date": "2024-05-06T09:08:09+02:00", "name": "T1", "unit": "us", "value": 1}]],
            "gates": [{"qubits": [0], "gate": "x", "parameters": []}],
            "general": [],
        }
    )
    assert read.last_update_date == MOMENT
    assert read.qubit_property(0, "T1") == (1e-6, MOMENT)
    assert read.gates == [GateProperties([0], "x", [])]
