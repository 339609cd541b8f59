"""Devices in the gateway's terms: what does not work is left out, what is missing is not made up."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.domain.backend import Backend
from gateway.providers.ibm import CircuitFormat, CircuitProgram, IbmSettings, wire
from gateway.providers.ibm.backends import backend_of, properties_of, status_of

CRN = "crn:v1:bluemix:public:quantum-computing:{region}:a/0123:11111111-2222::"
AT = "2026-01-02T03:04:05Z"

CONFIGURATION: dict[str, Any] = {
    "backend_name": "ibm_x",
    "n_qubits": 3,
    "basis_gates": ["cz", "sx", "rzz"],
    "gates": [
        {"name": "cz", "parameters": [], "coupling_map": [[0, 1], [1, 2]]},
        {"name": "sx", "parameters": [], "coupling_map": [[0], [1], [2]]},
        {"name": "rzz", "parameters": ["theta"], "coupling_map": [[0, 1]]},
    ],
    "supported_instructions": ["cz", "sx", "rzz", "measure", "delay", "reset"],
}


def value(name: str, number: float, unit: str = "") -> dict[str, Any]:
    return {"name": name, "unit": unit, "value": number, "date": AT}


def gate(name: str, *qubits: int, **values: float) -> dict[str, Any]:
    return {"gate": name, "qubits": qubits, "parameters": [value(key, number) for key, number in values.items()]}


def backend(changes: dict[str, Any] | None = None, properties: dict[str, Any] | None = None) -> Backend:
    known = properties and wire.Properties.model_validate({"last_update_date": AT, **properties})
    configuration = wire.Configuration.model_validate({**CONFIGURATION, **(changes or {})})
    return backend_of(configuration, known or None, account="a", fractional_gates=False)


def places(described: Backend, name: str) -> list[tuple[int, ...]]:
    return [place.qubits for item in described.instructions if item.name == name for place in item.properties]


def test_without_a_calibration_instructions_have_places_and_no_numbers() -> None:
    described = backend()
    assert places(described, "cz") == [(0, 1), (1, 2)]
    assert places(described, "measure") == [(0,), (1,), (2,)]
    assert {place.error for item in described.instructions for place in item.properties} == {None}
    assert (described.rep_delay_range, described.dt, described.meas_levels) == (None, None, (2,))


def test_a_qubit_that_does_not_work_takes_its_instructions_along() -> None:
    described = backend(properties={"qubits": [[], [value("operational", 0)], []]})
    assert places(described, "sx") == places(described, "measure") == places(described, "delay") == [(0,), (2,)]
    # Without a place left, an instruction must go as a whole: no places would mean that it acts anywhere.
    assert "cz" not in {item.name for item in described.instructions}


def test_a_gate_that_does_not_work_is_left_out_where_it_does_not() -> None:
    described = backend(
        properties={"gates": [gate("cz", 0, 1, operational=0), gate("cz", 1, 2, gate_error=0.5, operational=1)]}
    )
    assert places(described, "cz") == [(1, 2)]


@pytest.mark.parametrize(("unit", "seconds"), [("ns", 1.5e-6), ("us", 1.5e-3), ("s", 1500.0), ("parsec", None)])
def test_times_are_in_seconds_whatever_unit_they_came_in(unit: str, seconds: float | None) -> None:
    described = backend(properties={"qubits": [[value("T1", 1500, unit)], [], []]})
    assert described.qubits[0].t1 == (None if seconds is None else pytest.approx(seconds))


def test_the_delay_can_be_chosen_only_where_the_device_says_so() -> None:
    delays = {"rep_delay_range": [20.0, 500.0], "default_rep_delay": 250.0}
    assert backend(delays).rep_delay_range is None
    assert backend({**delays, "dynamic_reprate_enabled": True}).rep_delay_range == pytest.approx((20e-6, 500e-6))


def test_what_is_null_or_without_a_zone_is_read_all_the_same() -> None:
    described = backend(
        {"coupling_map": None, "rep_delay_range": [], "max_shots": None, "online_date": "2025-01-01T05:00:00"}
    )
    assert (described.coupling_map, described.max_shots) == ((), 100_000)
    assert described.online_at is not None
    assert described.online_at.tzinfo is not None


def test_a_calibration_keeps_the_units_of_the_provider() -> None:
    properties = wire.Properties.model_validate(
        {"last_update_date": AT, "qubits": [[value("T1", 100, "us")]], "gates": [gate("cz", 0, 1, gate_error=0.1)]}
    )
    told = properties_of("ibm_x", properties)
    assert (told.qubits[0][0].unit, told.qubits[0][0].value) == ("us", 100)
    assert (told.gates[0].name, told.gates[0].parameters[0].value) == ("cz0_1", 0.1)


@pytest.mark.parametrize(
    ("word", "operational", "message"), [("online", True, "active"), ("paused", True, "tea"), ("offline", False, "tea")]
)
def test_a_paused_device_takes_jobs_and_an_offline_one_does_not(word: str, operational: bool, message: str) -> None:
    device = wire.Device.model_validate({"name": "x", "status": {"name": word, "reason": "tea"}, "queue_length": -1})
    told = status_of(device)
    assert (told.operational, told.status_message, told.pending_jobs) == (operational, message, 0)


@pytest.mark.parametrize(
    ("region", "url"),
    [
        ("us-east", "https://quantum.cloud.ibm.com/api/v1"),
        ("eu-de", "https://eu-de.quantum.cloud.ibm.com/api/v1"),
    ],
)
def test_the_address_follows_from_the_region_of_the_instance(region: str, url: str) -> None:
    crn = CRN.format(region=region)
    assert IbmSettings("a", crn).url == url
    assert IbmSettings("a", crn, api_url="http://localhost:1/x/").url == "http://localhost:1/x"


def test_settings_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ValueError, match="no CRN"):
        IbmSettings("a", "my-instance")
    with pytest.raises(ValueError, match="qpy17"):
        IbmSettings(
            "a", CRN.format(region="us-east"), program=CircuitProgram.SAMPLER, circuit_format=CircuitFormat.QPY_18
        )
