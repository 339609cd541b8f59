"""Circuits that go to the service, and registers that come back: order of circuits, registers and bits."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import orjson
import pytest
from google.protobuf import json_format
from qgateway.v1 import result_pb2
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
from qiskit.circuit import Clbit

from gateway.domain.job import MeasLevel, MeasReturn, RunOptions
from gateway.providers.ibm import CircuitFormat, CircuitProgram
from gateway.workers import WorkerIbmPayloads, WorkerPool
from gateway.workers.tasks.results import count_outcomes
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.unit.ibm.conftest import Bench
from tests.unit.workers.make import ROTATION, qpy_program, text_program

WAYS = [("executor", "qpy17"), ("executor", "qpy18"), ("executor", "openqasm3"), ("sampler", "qpy17")]


def uneven() -> QuantumCircuit:
    """Register `a` of 3 bits gets 001 (bit 0), `b` of 10 bits gets bits 1 and 9; nothing is symmetric."""
    circuit = QuantumCircuit(
        QuantumRegister(5, "q"), ClassicalRegister(3, "a"), ClassicalRegister(10, "b"), name="uneven", metadata={"n": 1}
    )
    circuit.x([0, 2])
    circuit.measure([0, 1, 3], [0, 1, 2])
    circuit.measure(0, 4)
    circuit.measure(2, 12)
    return circuit


def one_of(width: int, place: int) -> QuantumCircuit:
    circuit = QuantumCircuit(width, width, name=f"one-{place}")
    circuit.x(place)
    circuit.measure(range(width), range(width))
    return circuit


@pytest.fixture(params=WAYS, ids="-".join)
async def way(request: pytest.FixtureRequest, new_bench: Callable[..., Bench]) -> Bench:
    program, circuit_format = request.param
    return new_bench(program=program, circuit_format=circuit_format)


def counts(result: result_pb2.JobResult) -> Iterator[dict[str, int]]:
    for experiment in result.experiments:
        yield dict(count_outcomes(experiment))


async def test_bits_and_registers_keep_their_places(way: Bench) -> None:
    result = await way.result(qpy_program(uneven()))
    (experiment,) = result.experiments
    assert [(register.register_name, register.size) for register in experiment.registers] == [("a", 3), ("b", 10)]
    assert [register.bits.data[:2] for register in experiment.registers] == [b"\x01\x01", b"\x02\x02"]
    assert list(counts(result)) == [{"1000000010 001": 16}]
    assert not experiment.registers[0].clbits
    assert experiment.num_clbits == 13


async def test_every_single_bit_comes_back_at_its_place_in_the_order_of_the_circuits(way: Bench) -> None:
    result = await way.result(qpy_program(*(one_of(5, place) for place in range(5))))
    assert [experiment.circuit_name for experiment in result.experiments] == [f"one-{place}" for place in range(5)]
    assert list(counts(result)) == [{f"{1 << place:05b}": 16} for place in range(5)]


async def test_bits_of_no_register_come_back_without_a_name(way: Bench) -> None:
    circuit = QuantumCircuit(QuantumRegister(3, "q"), ClassicalRegister(1, "c"), [Clbit(), Clbit()])
    circuit.x([1, 2])
    circuit.measure([0, 1, 2], [0, 1, 2])
    circuit.measure(0, 1)
    (experiment,) = (await way.result(qpy_program(circuit))).experiments
    assert [(register.register_name, register.size) for register in experiment.registers] == [("c", 1), ("", 2)]
    assert dict(count_outcomes(experiment)) == {"10 0": 16}


async def test_the_result_tells_all_that_a_caller_gave(way: Bench) -> None:
    options = RunOptions(shots=5, transpile=1, header={"for": "me", "deep": {"n": [1, None, "x"]}})
    result = await way.result(qpy_program(uneven()), options)
    assert (result.job, result.backend, result.backend_version) == ("jobs/m1", "ibm_alder", "1.0.0")
    assert (result.success, result.status) == (True, "Completed")
    assert json_format.MessageToDict(result.header) == {"for": "me", "deep": {"n": [1.0, None, "x"]}}
    (experiment,) = result.experiments
    assert experiment.metadata["n"] == 1
    assert experiment.shots == 5
    assert experiment.quantum_registers
    assert result.run_time.seconds > 0


async def test_a_sweep_makes_an_experiment_of_each_binding(way: Bench) -> None:
    bindings = [{"theta": 0.0}, {"theta": float(np.pi)}, {"theta": 0.0}]
    result = await way.result(text_program(ROTATION, bindings=bindings, name="turn"))
    assert list(counts(result)) == [{"0": 16}, {"1": 16}, {"0": 16}]


async def test_registers_that_control_flow_looks_at_come_back_too(way: Bench) -> None:
    circuit = QuantumCircuit(QuantumRegister(2, "q"), ClassicalRegister(1, "flag"), ClassicalRegister(2, "out"))
    circuit.x(0)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(1)
    circuit.measure([0, 1], [2, 1])
    (experiment,) = (await way.result(qpy_program(circuit))).experiments
    assert dict(count_outcomes(experiment)) == {"11 1": 16}


@pytest.mark.parametrize("program", ["executor", "sampler"])
@pytest.mark.parametrize("averaged", [False, True], ids=["single", "average"])
async def test_points_of_kerneled_measurements_come_back_register_by_register(
    new_bench: Callable[..., Bench], program: str, averaged: bool
) -> None:
    options = RunOptions(
        shots=200,
        transpile=1,
        meas_level=MeasLevel.KERNELED,
        meas_return=MeasReturn.AVERAGE if averaged else MeasReturn.SINGLE,
    )
    result = await new_bench(program=program).result(qpy_program(uneven()), options)
    first, second = result.experiments[0].registers
    assert [first.iq.averaged, second.iq.averaged] == [averaged] * 2
    points = np.frombuffer(first.iq.data, "<c16").reshape(-1, 3)
    assert len(points) == (1 if averaged else 200)
    # The emulator puts a 1 at about -1, and a 0 at about +1.
    assert np.sign(points.mean(axis=0).real).tolist() == [-1, 1, 1]
    others = np.frombuffer(second.iq.data, "<c16").reshape(-1, 10).mean(axis=0).real
    assert np.flatnonzero(others < 0).tolist() == [1, 9]


async def test_init_qubits_delay_and_experimental_options_reach_the_service(
    new_bench: Callable[..., Bench], control: EmulatorControl
) -> None:
    options = RunOptions(
        shots=3, transpile=1, init_qubits=False, rep_delay=100e-6, provider_options={"experimental": {"x": 1}}
    )
    for program in ("executor", "sampler"):
        job_id = await new_bench(program=program).submit(qpy_program(uneven()), options)
        params = control.job(job_id)["params"]
        sent = params["options"] if program == "executor" else params["options"]["execution"]
        assert (sent["init_qubits"], sent["rep_delay"]) == (False, pytest.approx(100e-6))
        assert params["options"]["experimental"] == {"x": 1}


async def test_circuits_are_written_in_the_format_that_the_account_accepts(
    way: Bench, control: EmulatorControl
) -> None:
    params = control.job(await way.submit(qpy_program(uneven())))["params"]
    settings = way.account.settings
    if settings.program is CircuitProgram.SAMPLER:
        data = zlib.decompress(base64.b64decode(params["pubs"][0][0]["__value__"]))
        assert (data[:6], data[6]) == (b"QISKIT", 17)
    elif settings.circuit_format is CircuitFormat.OPENQASM_3:
        assert params["quantum_program"]["circuits"]["data"][0].startswith("OPENQASM 3")
    else:
        assert f"qpy{params['quantum_program']['circuits']['qpy_version']}" == settings.circuit_format


@pytest.fixture
def payloads(pool: WorkerPool) -> WorkerIbmPayloads:
    return WorkerIbmPayloads(pool)


async def decode(payloads: WorkerIbmPayloads, results: bytes, program: str = "executor") -> Any:
    decoded = await payloads.decode(
        results, program=program, job="jobs/m1", backend="b", backend_version="1", status="Completed"
    )
    return decoded and result_pb2.JobResult.FromString(decoded)


@pytest.mark.parametrize("program", ["executor", "sampler"])
@pytest.mark.parametrize("results", [b"", b"{", b"[]", b"{}", b'{"error": {"code": 1}}', b"<html>"])
async def test_what_is_no_result_is_told_apart_from_results(
    payloads: WorkerIbmPayloads, program: str, results: bytes
) -> None:
    assert await decode(payloads, results, program) is None


async def test_results_of_other_programs_are_kept_byte_for_byte(payloads: WorkerIbmPayloads) -> None:
    results = b'{"z" : 1.50, "a": [ ]}'
    result = await decode(payloads, results, "noise-learner")
    assert (result.raw.media_type, result.raw.payload, result.job) == ("application/json", results, "jobs/m1")
    assert result.success


async def test_results_that_are_not_as_they_should_be_are_kept_and_not_lost(
    bench: Bench, payloads: WorkerIbmPayloads, control: EmulatorControl
) -> None:
    job_id = await bench.submit(qpy_program(uneven()))
    await bench.ended(job_id)
    good = orjson.loads(control.job(job_id)["results"])
    del good["data"][0]["results"]["b"]
    results = orjson.dumps(good)
    result = await decode(payloads, results)
    assert not result.success
    assert not result.experiments
    assert result.raw.payload == results
    assert "'b'" in result.metadata["unreadable"]
