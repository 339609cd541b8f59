"""Circuits and programs of the provider's own, over a gateway whose accounts send them in every way there is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from qgateway import GatewayBackend, GatewayProvider
from qgateway.v1 import job_pb2, program_pb2, result_pb2
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister, qasm3, transpile
from qiskit.circuit import Parameter

from tests.emulators.ibm_quantum.process import EmulatorProcess
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.support.gateway_process import GatewayProcess
from tests.support.ibm_accounts import ibm_account
from tests.support.wire import Wire, connected, submission, violations

WAYS: dict[str, dict[str, str]] = {
    "executor-qpy17": {"program": "executor", "circuit_format": "qpy17"},
    "executor-qpy18": {"program": "executor", "circuit_format": "qpy18"},
    "executor-openqasm3": {"program": "executor", "circuit_format": "openqasm3"},
    "sampler": {"program": "sampler"},
}
"""An account for each way in which circuits go to the provider."""

UNEVEN = "1000000010 001"
"""The one outcome of `uneven`: nothing of it is symmetric, and its registers are of different sizes."""


def uneven() -> QuantumCircuit:
    """Return a circuit whose register `a` of 3 bits is 001, and whose register `b` of 10 bits has its bits 1 and 9 set."""
    circuit = QuantumCircuit(
        QuantumRegister(5, "q"), ClassicalRegister(3, "a"), ClassicalRegister(10, "b"), name="uneven"
    )
    circuit.x([0, 2])
    circuit.measure([0, 1, 3], [0, 1, 2])
    circuit.measure(0, 4)
    circuit.measure(2, 12)
    return circuit


@pytest.fixture(scope="module")
def shared_gateway(
    running_emulator: EmulatorProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    key_file = tmp_path_factory.mktemp("keys") / "alpha.key"
    key_file.write_text(running_emulator.api_key("alpha"))
    accounts = {
        name: ibm_account(running_emulator, "alpha", key_file=str(key_file), **way) for name, way in WAYS.items()
    }
    gateway = GatewayProcess(tmp_path_factory.mktemp("gateway"), {"ACCOUNTS": json.dumps(accounts)}).start()
    yield gateway
    assert gateway.stop() == 0


@pytest.fixture
def wire(shared_gateway: GatewayProcess, control: EmulatorControl) -> Iterator[Wire]:
    with connected(shared_gateway) as made:
        yield made


@pytest.fixture
def provider(shared_gateway: GatewayProcess, control: EmulatorControl) -> Iterator[GatewayProvider]:
    with GatewayProvider(target=shared_gateway.target, api_key=shared_gateway.api_key) as made:
        yield made


@pytest.fixture(params=WAYS)
def backend(provider: GatewayProvider, request: pytest.FixtureRequest) -> GatewayBackend:
    return provider.get_backend("ibm_alder", instance=request.param)


def sent_as(control: EmulatorControl) -> str:
    """Return how the circuits of the only job upstream were sent, by the name of an account."""
    (job,) = control.jobs()
    if job["program"] == "sampler":
        return "sampler"
    circuits = control.job(job["id"])["params"]["quantum_program"]["circuits"]
    return "executor-" + (f"qpy{circuits['qpy_version']}" if "qpy_version" in circuits else "openqasm3")


def test_qpy_from_python_keeps_every_bit_at_its_place(backend: GatewayBackend, control: EmulatorControl) -> None:
    result = backend.run(transpile(uneven(), backend, seed_transpiler=1), shots=20, memory=True).result()
    assert result.get_counts() == {UNEVEN: 20}
    assert result.get_memory() == [UNEVEN] * 20
    header = result.results[0].header
    assert header["creg_sizes"] == [["a", 3], ["b", 10]]
    assert sent_as(control) == backend.account


@pytest.mark.parametrize("account", WAYS)
def test_openqasm_3_text_keeps_every_bit_at_its_place(wire: Wire, control: EmulatorControl, account: str) -> None:
    options = job_pb2.RunOptions(shots=20, memory=True, transpile=job_pb2.TRANSPILE_LEVEL_1)
    job = wire.submit(qasm3.dumps(uneven()), "ibm_alder", account=f"accounts/{account}", options=options)
    assert wire.finish(job.name).status == job_pb2.JOB_STATUS_DONE
    assert wire.counts(job.name) == [{UNEVEN: 20}]
    (experiment,) = wire.result(job.name).experiments
    assert [(register.register_name, register.size) for register in experiment.registers] == [("a", 3), ("b", 10)]
    assert sent_as(control) == account


def test_many_circuits_with_parameters_come_back_in_their_order(backend: GatewayBackend) -> None:
    turn = Parameter("turn")
    circuit = QuantumCircuit(3, 3)
    circuit.rx(turn, 0)
    circuit.x(2)
    circuit.measure(range(3), range(3))
    bound = [circuit.assign_parameters({turn: value}) for value in (0.0, np.pi, 0.0, 3 * np.pi)]
    result = backend.run(bound, shots=10, transpile=1).result()
    assert [result.get_counts(index) for index in range(4)] == [{"100": 10}, {"101": 10}, {"100": 10}, {"101": 10}]


@pytest.mark.parametrize("meas_return", ["single", "avg"])
def test_points_of_measurements_keep_their_places(backend: GatewayBackend, meas_return: str) -> None:
    circuit = transpile(uneven(), backend, seed_transpiler=1)
    result = backend.run(circuit, shots=100, meas_level=1, meas_return=meas_return).result()
    points = np.asarray(result.get_memory())
    assert points.shape == ((100, 13) if meas_return == "single" else (13,))
    # The emulator puts a 1 at about -1, and a 0 at about +1.
    ones = np.flatnonzero((points.mean(axis=0) if points.ndim == 2 else points).real < 0)
    assert ones.tolist() == [0, 4, 12]


@pytest.mark.parametrize("program_id", ["sampler", "executor"])
@pytest.mark.parametrize("account", ["executor-qpy17", "sampler"])
def test_a_raw_program_and_its_result_pass_untouched(
    wire: Wire, provider: GatewayProvider, control: EmulatorControl, account: str, program_id: str
) -> None:
    parameters = parameters_of(provider, control, program_id)
    raw = program_pb2.RawProgram(program_id=program_id, parameters=json.dumps(parameters).encode())
    program = program_pb2.Program(raw=raw)
    job = wire.submit(backend="ibm_alder", account=f"accounts/{account}", program=program, tags=["raw"])
    assert wire.finish(job.name).status == job_pb2.JOB_STATUS_DONE
    (upstream,) = [control.job(each["id"]) for each in control.jobs() if "raw" in each["tags"]]
    assert (upstream["program"], upstream["params"]) == (program_id, parameters)
    result: result_pb2.JobResult = wire.result(job.name)
    assert result.raw.payload.decode() == upstream["results"]


def test_a_raw_program_that_is_no_object_is_refused_by_its_name(wire: Wire, control: EmulatorControl) -> None:
    program = program_pb2.Program(raw=program_pb2.RawProgram(program_id="sampler", parameters=b"[]"))
    request = submission(backend="ibm_alder", program=program)
    with pytest.raises(grpc.RpcError) as caught:
        wire.jobs.SubmitJob(request, metadata=wire.metadata, timeout=60)
    assert "program.raw.parameters" in violations(caught.value)
    assert not control.jobs()


def parameters_of(provider: GatewayProvider, control: EmulatorControl, program_id: str) -> dict[str, Any]:
    """Return parameters of a program as the gateway writes them for circuits."""
    account = next(name for name, way in WAYS.items() if way["program"] == program_id)
    backend = provider.get_backend("ibm_alder", instance=account)
    job = backend.run(transpile(uneven(), backend, seed_transpiler=1), shots=5)
    job.result()
    parameters: dict[str, Any] = control.job(job.provider_job_id_)["params"]
    return parameters
