"""What the provider tells of the service's backends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateway.domain.errors import (
    InvalidArgument,
    NotFound,
    Reason,
    Unavailable,
)
from gateway.domain.job import MeasLevel, RunOptions
from gateway.domain.provider import Health
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.unit.ibm.conftest import Bench
from tests.unit.workers.make import BELL, text_program


async def test_a_backend_is_described_in_si_units_with_errors_and_durations(bench: Bench) -> None:
    backend = await bench.backend()
    assert backend.dt == pytest.approx(4e-9)
    assert backend.rep_delay_range == pytest.approx((20e-6, 500e-6))
    assert backend.default_rep_delay == pytest.approx(250e-6)
    assert (backend.account, backend.num_qubits, backend.max_shots) == ("alpha", 5, 100_000)
    assert backend.qubits[0].t1 is not None
    assert 1e-6 < backend.qubits[0].t1 < 1e-2
    assert backend.qubits[0].frequency is not None
    assert backend.qubits[0].frequency > 1e9
    instructions = {item.name: item for item in backend.instructions}
    assert {"cz", "rz", "sx", "x", "measure", "reset", "delay"} <= set(instructions)
    cz = instructions["cz"].properties[0]
    assert cz.error is not None
    assert cz.duration is not None
    assert 1e-9 < cz.duration < 1e-5
    measure = instructions["measure"].properties[0]
    assert measure.duration is not None
    assert (await bench.provider.backend_status("ibm_cedar")).operational is False
    assert backend.dynamic_circuits


async def test_fractional_gates_are_offered_only_where_they_are_wanted(new_bench: Callable[..., Bench]) -> None:
    usual, fractional = await new_bench().backend(), await new_bench(fractional_gates=True).backend()
    assert {"rx", "rzz"}.isdisjoint(usual.supported_instructions)
    assert {"rx", "rzz"}.isdisjoint(item.name for item in usual.instructions)
    assert {"rx", "rzz"} <= set(fractional.supported_instructions)


async def test_backends_are_read_once_however_many_ask(bench: Bench, control: EmulatorControl) -> None:
    listings = await asyncio.gather(*(bench.provider.backends() for _ in range(5)))
    assert {backend.name for backend in listings[0]} == {"ibm_alder", "ibm_birch", "ibm_cedar"}
    assert (await bench.provider.backend("ibm_alder")) is listings[0][0]
    counts = control.counts()
    assert counts["GET /backends"] == 1
    assert counts["GET /backends/{backend}/configuration"] == 3
    with pytest.raises(NotFound) as caught:
        await bench.provider.backend("ibm_nowhere")
    assert caught.value.reason is Reason.BACKEND_NOT_FOUND


async def test_known_backends_outlast_an_outage(new_bench: Callable[..., Bench], control: EmulatorControl) -> None:
    bench = new_bench(status_seconds=0.0, description_seconds=0.0)
    before = await bench.backend()
    control.fault("GET /backends*", "respond", status=503, times=None)
    assert await bench.backend() is before
    assert bench.provider.health().health is Health.NOT_SERVING


async def test_a_backend_that_cannot_be_read_does_not_hide_the_others(bench: Bench, control: EmulatorControl) -> None:
    control.fault("GET /api/v1/backends/ibm_birch/configuration", "garble", body="{}", times=None)
    assert {backend.name for backend in await bench.provider.backends()} == {"ibm_alder", "ibm_cedar"}


@pytest.mark.parametrize("part", ["configuration", "properties"])
async def test_a_backend_that_is_listed_and_not_found_is_not_gone(
    bench: Bench, control: EmulatorControl, part: str
) -> None:
    fault = control.fault(f"GET /backends/{{backend}}/{part}", "respond", status=404, times=None)
    with pytest.raises(Unavailable, match="lists backend 'ibm_alder'") as caught:
        await bench.backend()
    assert caught.value.retry_after
    control.clear_faults(fault)
    assert (await bench.backend()).name == "ibm_alder"


async def test_a_backend_that_leaves_the_list_is_gone_although_it_is_known(
    new_bench: Callable[..., Bench], control: EmulatorControl
) -> None:
    bench = new_bench(status_seconds=0.0, description_seconds=0.0)
    known = await bench.backend()
    control.fault("GET /backends/{backend}/configuration", "respond", status=404, times=None)
    assert await bench.backend() is known
    control.fault("GET /backends", "garble", body='{"devices": []}', times=None)
    with pytest.raises(NotFound) as caught:
        await bench.backend()
    assert caught.value.reason is Reason.BACKEND_NOT_FOUND


async def test_the_calibration_is_that_of_the_time_asked_for(bench: Bench) -> None:
    then = datetime(2026, 2, 3, 12, tzinfo=UTC)
    properties = await bench.provider.properties("ibm_alder", then)
    assert properties is not None
    assert properties.last_update == datetime(2026, 2, 3, 4, tzinfo=UTC)
    assert {measurement.parameter for measurement in properties.qubits[0]} >= {"T1", "readout_error"}
    assert await bench.provider.properties("ibm_alder", datetime(2020, 1, 1, tzinfo=UTC)) is None
    with pytest.raises(NotFound):
        await bench.provider.properties("ibm_nowhere", None)


async def test_a_circuit_that_is_not_in_the_instruction_set_is_refused_before_anything_is_sent(
    bench: Bench, control: EmulatorControl
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await bench.submit(text_program(BELL), RunOptions(shots=1))
    assert caught.value.reason is Reason.INVALID_PROGRAM
    assert "options.transpile" in caught.value.message
    assert control.jobs() == []


@pytest.mark.parametrize(
    ("options", "field", "reason"),
    [
        (RunOptions(shots=100_001), "options.shots", Reason.INVALID_FIELD),
        (RunOptions(rep_delay=1.0), "options.rep_delay", Reason.INVALID_FIELD),
        (RunOptions(seed_simulator=1), "options.seed_simulator", Reason.UNSUPPORTED_OPTION),
        (RunOptions(transpile=4), "options.transpile", Reason.INVALID_FIELD),
        (RunOptions(provider_options={"x": 1}), "options.provider_options.x", Reason.UNSUPPORTED_OPTION),
        (
            RunOptions(provider_options={"max_execution_time": 0}),
            "options.provider_options.max_execution_time",
            Reason.INVALID_FIELD,
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
async def test_options_that_the_service_does_not_take_are_named(
    bench: Bench, options: RunOptions, field: str, reason: Reason
) -> None:
    backend = await bench.backend()
    with pytest.raises(InvalidArgument) as caught:
        bench.provider.check_options(backend, options)
    assert (caught.value.violations[0].field, caught.value.reason) == (field, reason)


async def test_options_that_the_service_takes_pass(bench: Bench) -> None:
    backend = await bench.backend()
    good = {"max_execution_time": 300.0, "private": True, "log_level": "DEBUG", "experimental": {}}
    bench.provider.check_options(backend, RunOptions(rep_delay=1e-4, provider_options=good))
    bench.provider.check_options(backend, RunOptions(meas_level=MeasLevel.KERNELED))
    classified_only = replace(backend, meas_levels=(2,))
    with pytest.raises(InvalidArgument):
        bench.provider.check_options(classified_only, RunOptions(meas_level=MeasLevel.KERNELED))


async def test_a_backend_that_is_known_serves_while_the_list_cannot_be_read_anew(
    new_bench: Callable[..., Bench], control: EmulatorControl
) -> None:
    bench = new_bench(status_seconds=0.0)
    known = await bench.backend()
    control.fault("GET /backends", "hang", times=None)
    for _ in range(3):
        assert await bench.backend() is known
    assert control.faults()[0]["hits"] == 1
