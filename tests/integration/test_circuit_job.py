"""`GatewayProvider`, `GatewayBackend` and `GatewayCircuitJob` on a running gateway."""

from __future__ import annotations

import copy
import io
import pickle
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest
from qgateway import (
    GatewayBackend,
    GatewayCircuitJob,
    GatewayProvider,
    IBMBackendValueError,
    IBMJobInvalidStateError,
    IBMJobNotFoundError,
    IBMJobTimeoutError,
    IBMNotAuthorizedError,
    SamplerV2,
    job_monitor,
    least_busy,
)
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister, transpile
from qiskit.circuit import Parameter
from qiskit.circuit.library import quantum_volume
from qiskit.primitives import BackendEstimatorV2, BackendSamplerV2
from qiskit.providers import JobStatus, QiskitBackendNotFoundError
from qiskit.quantum_info import SparsePauliOp

from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import wait_until

QASM = 'OPENQASM 3.0; include "stdgates.inc"; qubit[2] q; bit[2] c; h q[0]; cx q[0], q[1]; c = measure q;'


@pytest.fixture(scope="module")
def provider(gateway: GatewayProcess) -> Iterator[GatewayProvider]:
    with GatewayProvider(gateway.target, gateway.api_key) as made:
        yield made


@pytest.fixture
def simulator(provider: GatewayProvider) -> GatewayBackend:
    return provider.get_backend("local_simulator")


@pytest.fixture
def device(provider: GatewayProvider) -> GatewayBackend:
    return provider.get_backend("local_noisy_5q")


@pytest.fixture
def tag() -> str:
    """A tag that no other test uses."""
    return uuid.uuid4().hex


def bell(name: str = "bell") -> QuantumCircuit:
    circuit = QuantumCircuit(2, name=name)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return circuit


def long_circuit() -> QuantumCircuit:
    """A circuit that takes minutes."""
    circuit = quantum_volume(22, depth=400, seed=7).decompose()
    circuit.measure_all()
    return circuit


def test_the_habit_in_five_lines(provider: GatewayProvider) -> None:
    backend = provider.get_backend("local_simulator")
    job = backend.run(transpile(bell(), backend), shots=1000, job_tags=["a"])
    counts = job.result().get_counts()
    again = provider.backend.retrieve_job(job.job_id())
    assert set(counts) == {"00", "11"}
    assert sum(counts.values()) == 1000
    assert again == job
    assert again.result().get_counts() == counts


def test_results_are_found_by_index_name_and_circuit(simulator: GatewayBackend) -> None:
    one = QuantumCircuit(
        QuantumRegister(3), ClassicalRegister(2, "a"), ClassicalRegister(1, "b"), name="one", metadata={"k": 1}
    )
    one.x([0, 2])
    one.measure([0, 1, 2], [0, 1, 2])
    zero = QuantumCircuit(1, 1, name="zero")
    zero.measure(0, 0)
    result = simulator.run((one, zero), shots=np.int32(50), memory=True).result()
    assert result.get_counts() == [{"1 01": 50}, {"0": 50}]
    for key in (0, "one", one):
        assert result.get_counts(key) == {"1 01": 50}
        assert result.get_memory(key) == ["1 01"] * 50
    header = result.results[0].header
    assert header.creg_sizes == [["a", 2], ["b", 1]]
    assert (header.memory_slots, header.metadata) == (3, {"k": 1})
    assert [each.status for each in result.results] == ["DONE", "DONE"]
    assert result.success


def test_dynamic_circuits_and_mid_circuit_measurements_run(simulator: GatewayBackend) -> None:
    circuit = QuantumCircuit(2, 2)
    circuit.x(0)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], True)):
        circuit.x(1)
    circuit.measure(1, 1)
    job = simulator.run(transpile(circuit, simulator), shots=20)
    assert job.result().get_counts() == {"11": 20}
    with pytest.warns(UserWarning, match="dynamic=False"):
        assert simulator.run(circuit, shots=20, dynamic=False).result().get_counts() == {"11": 20}


def test_a_seed_repeats_a_result(simulator: GatewayBackend) -> None:
    first, second = (simulator.run(bell(), shots=100, memory=True, seed_simulator=11).result() for _ in range(2))
    assert first.get_memory() == second.get_memory()
    assert first.results[0].seed_simulator == 11


def test_texts_run_and_come_back_as_texts(simulator: GatewayBackend) -> None:
    job = simulator.run([QASM, QASM], shots=30)
    assert all(set(counts) <= {"00", "11"} for counts in job.result().get_counts())
    assert job.circuits() == [QASM, QASM]


def test_the_gateway_transpiles_where_it_is_asked_to(device: GatewayBackend) -> None:
    circuit = QuantumCircuit(4)
    circuit.h(0)
    circuit.ccx(0, 2, 3)
    circuit.measure_all()
    job = device.run(circuit, shots=10, transpile=1)
    assert sum(job.result().get_counts().values()) == 10
    assert job.backend_options()["transpile"] == 1
    with pytest.raises(IBMBackendValueError):
        device.run(circuit, shots=10)


def test_everything_that_was_submitted_comes_back(
    provider: GatewayProvider, simulator: GatewayBackend, tag: str
) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    circuits = [bell("one"), bell("two")]
    options: dict[str, Any] = {"shots": 77, "memory": True, "seed_simulator": 5}
    header = {"mine": {"index": 3}}
    job = simulator.run(circuits, job_tags=[tag, "b"], job_name="mine", header=header, **options)
    assert (job.tags(), job.name(), job.header()) == ([tag, "b"], "mine", header)
    result = job.result()
    assert result.header.mine == {"index": 3}
    twin = provider.retrieve_job(job.job_id())
    assert twin.circuits() == circuits
    assert options.items() <= twin.backend_options().items()
    assert (twin.tags(), twin.name(), twin.header()) == ([tag, "b"], "mine", header)
    assert set(twin.client_version) == {"qgateway", "qiskit"}
    assert before <= twin.creation_date() <= datetime.now(UTC)
    assert (twin.backend().name, twin.scheduling_mode(), twin.session_id) == ("local_simulator", "job", None)
    assert twin.result().get_counts() == result.get_counts()


def test_steps_usage_events_and_metrics_are_told(simulator: GatewayBackend) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    job = simulator.run(bell(), shots=10)
    job.wait_for_final_state()
    steps = job.time_per_step()
    assert steps is not None
    assert {"created", "running", "finished", "QUEUED", "RUNNING", "DONE"} <= set(steps)
    assert all(moment is not None and before <= moment <= datetime.now(UTC) for moment in steps.values())
    assert set(job.usage_estimation) == {"quantum_seconds"}
    events = job.events()
    assert [event.revision for event in events] == sorted(event.revision for event in events)
    assert (events[0].type, events[-1].status) == ("CREATED", JobStatus.DONE)
    assert set(job.metrics()) == {"timestamps", "usage", "client_version", "provider"}
    assert job.queue_info() is None
    assert job.pending_reason is None
    assert job.submission.state == "ACCEPTED"
    assert job.error_message() is None
    assert job.logs() is not None


def test_tags_and_name_are_changed(provider: GatewayProvider, simulator: GatewayBackend, tag: str) -> None:
    job = simulator.run(bell(), shots=1, job_tags=["a"])
    assert job.update_tags([tag, "c", tag]) == [tag, "c"]
    assert job.update_name("renamed") == "renamed"
    twin = provider.retrieve_job(job.job_id())
    assert (twin.tags(), twin.name()) == ([tag, "c"], "renamed")
    assert [found.job_id() for found in provider.jobs(job_tags=[tag], name="renamed")] == [job.job_id()]
    with pytest.raises(IBMJobInvalidStateError):
        job.update_name("x" * 10_000)
    with pytest.raises(IBMJobInvalidStateError):
        job.update_tags([""])
    assert job.update_tags([]) == []


def test_protected_tags_are_never_lost_to_another_handle(provider: GatewayProvider, simulator: GatewayBackend) -> None:
    job = simulator.run(bell(), shots=1)
    twin = provider.retrieve_job(job.job_id())
    job.update_tags(["ibm_composite_job_1", "a"])
    assert twin.update_tags(["b"]) == ["ibm_composite_job_1", "b"]


def test_a_long_job_is_waited_for_in_vain_and_cancelled(provider: GatewayProvider, simulator: GatewayBackend) -> None:
    job = simulator.run(long_circuit(), shots=10)
    with pytest.raises(IBMJobTimeoutError):
        job.wait_for_final_state(timeout=0.1)
    with pytest.raises(IBMJobTimeoutError):
        job.result(timeout=0)
    assert not job.in_final_state()
    job.cancel()
    job.wait_for_final_state(timeout=30)
    assert job.cancelled()
    with pytest.raises(IBMJobInvalidStateError, match="Job was cancelled") as caught:
        job.result()
    assert caught.value.reason == "CANCELLED_BY_CALLER"
    with pytest.raises(IBMJobInvalidStateError, match="Job cannot be cancelled"):
        provider.retrieve_job(job.job_id()).cancel()


def test_cancelling_a_job_that_is_done_leaves_it_done(simulator: GatewayBackend) -> None:
    job = simulator.run(bell(), shots=1)
    job.wait_for_final_state()
    with pytest.raises(IBMJobInvalidStateError) as caught:
        job.cancel()
    assert caught.value.reason == "JOB_FINAL"
    assert job.done()
    assert job.result().success


def test_a_callback_sees_the_job_through(simulator: GatewayBackend) -> None:
    seen: list[JobStatus] = []
    job = simulator.run(bell(), shots=1)
    job.wait_for_final_state(callback=lambda _id, status, _job: seen.append(status))
    assert seen[-1] is JobStatus.DONE


def test_a_waiting_job_knows_its_place(simulator: GatewayBackend) -> None:
    jobs = [simulator.run(long_circuit(), shots=1) for _ in range(6)]
    try:
        last = jobs[-1]
        position = wait_until(
            lambda: (last.queue_position(refresh=True) or 0) if last.status() is JobStatus.QUEUED else 0
        )
        info = last.queue_info()
        assert info is not None
        assert info.job_id == last.job_id()
        assert position >= 1
        assert "queue position" in info.format()
        assert last.pending_reason is not None
    finally:
        for job in reversed(jobs):
            job.cancel()
    for job in jobs:
        job.wait_for_final_state(timeout=30)


def test_the_monitor_follows_a_job(simulator: GatewayBackend) -> None:
    output = io.StringIO()
    job_monitor(simulator.run(bell(), shots=1), output=output)
    assert output.getvalue().endswith("Job Status: job has successfully run\n")


def test_jobs_are_listed_by_tags_status_dates_and_order(
    provider: GatewayProvider, simulator: GatewayBackend, tag: str
) -> None:
    begin = datetime.now().astimezone()
    jobs = [simulator.run(bell(), shots=1, job_tags=[tag, str(number)]) for number in range(7)]
    for job in jobs:
        job.wait_for_final_state(timeout=60)
    end = datetime.now()  # noqa: DTZ005 - local time on purpose

    def ids(**conditions: Any) -> list[str]:
        return [job.job_id() for job in provider.jobs(job_tags=[tag], **conditions)]

    oldest_first = [job.job_id() for job in jobs]
    assert ids() == oldest_first[::-1]
    assert ids(descending=False) == oldest_first
    for status in ("DONE", ["DONE"], JobStatus.DONE, [JobStatus.DONE], "completed", "done"):
        assert len(ids(status=status)) == 7
    assert ids(status="pending") == []
    assert ids(limit=3, skip=2, descending=False) == oldest_first[2:5]
    assert ids(limit=None, skip=6) == oldest_first[:1]
    assert len(ids(start_datetime=begin, end_datetime=end, backend_name="local_simulator")) == 7
    assert ids(start_datetime=end) == ids(end_datetime=begin) == ids(backend_name="local_noisy_5q") == []
    assert [job.job_id() for job in provider.jobs(job_tags=[tag, "3"])] == [oldest_first[3]]
    assert provider.jobs(job_tags=[tag, "nobody"]) == []


def test_many_pages_are_put_together(provider: GatewayProvider, simulator: GatewayBackend, tag: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(lambda _: simulator.run(QASM, shots=1, job_tags=[tag]), range(120)))
    found = [job.job_id() for job in provider.jobs(limit=None, job_tags=[tag])]
    assert sorted(found) == sorted(job.job_id() for job in jobs)
    assert [job.job_id() for job in provider.jobs(limit=110, skip=5, job_tags=[tag])] == found[5:115]
    for job in jobs:
        job.wait_for_final_state(timeout=60)


def test_a_job_that_is_not_there_is_not_found(provider: GatewayProvider) -> None:
    with pytest.raises(IBMJobNotFoundError):
        provider.retrieve_job("a" * 26)
    with pytest.raises(QiskitBackendNotFoundError):
        provider.get_backend("nowhere")


def test_a_wrong_key_is_not_authorized(gateway: GatewayProcess) -> None:
    with GatewayProvider(gateway.target, "wrong-key-0123456789") as provider:
        for call in (provider.jobs, provider.backends):
            with pytest.raises(IBMNotAuthorizedError):
                call()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"meas_level": 1}, "meas_level"),
        ({"rep_delay": 0.001}, "rep_delay"),
        ({"init_circuit": True}, "init_circuit"),
        ({"shots": 10**9}, "shots"),
    ],
)
def test_what_the_backend_cannot_do_is_refused_by_name(
    simulator: GatewayBackend, arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(IBMBackendValueError, match=named):
        simulator.run(bell(), **arguments)


def test_an_option_that_nobody_knows_is_refused_by_name(simulator: GatewayBackend) -> None:
    with pytest.warns(UserWarning, match="flavour"), pytest.raises(IBMBackendValueError, match="flavour"):
        simulator.run(bell(), flavour="blue")


def test_broken_text_is_an_error_of_run_that_names_the_line(simulator: GatewayBackend) -> None:
    with pytest.raises(IBMBackendValueError, match="line 2") as caught:
        simulator.run("OPENQASM 3.0;\nqubit[2 q;\n")
    assert "program.openqasm.circuits[0].source" in caught.value.diagnostics()


def test_the_same_request_id_gives_the_same_job(simulator: GatewayBackend) -> None:
    identifier = str(uuid.uuid4())
    assert simulator.run(QASM, shots=5, request_id=identifier) == simulator.run(QASM, shots=5, request_id=identifier)


def test_handles_are_equal_copied_and_used_in_other_processes(
    gateway: GatewayProcess, provider: GatewayProvider, simulator: GatewayBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = simulator.run(bell(), shots=10)
    assert {job, provider.retrieve_job(job.job_id()), copy.deepcopy(job)} == {job}
    monkeypatch.setenv("QGATEWAY_API_KEY", gateway.api_key)
    assert gateway.api_key.encode() not in pickle.dumps(job)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(counts_of, job).result(timeout=60) == job.result().get_counts()


def counts_of(job: GatewayCircuitJob) -> dict[str, int]:
    return dict(job.result().get_counts())


def test_backends_describe_themselves(provider: GatewayProvider, device: GatewayBackend) -> None:
    assert {"local_simulator", "local_noisy_5q", "local_noisy_27q"} <= {each.name for each in provider.backends()}
    wide = provider.backends(min_num_qubits=6, filters=lambda each: each.name.startswith("local_noisy"))
    assert [each.name for each in wide] == ["local_noisy_27q"]
    assert device.num_qubits == device.target.num_qubits == device.configuration().n_qubits == 5
    assert device.target.dt == device.configuration().dt
    assert len(device.coupling_map.get_edges()) == 8
    assert {"if_else", "measure", "reset", "delay"} <= set(device.operation_names)
    assert device.status().operational
    assert least_busy(provider.backends()).status().operational
    properties = device.properties()
    assert properties is not None
    assert 0 < properties.t1(0) < 1
    assert 1e9 < properties.frequency(0) < 1e10
    assert 0 < properties.readout_error(4) < 1
    assert properties.faulty_qubits() == []
    gate = next(each for each in properties.gates if len(each.qubits) == 2)
    assert device.target[gate.gate][tuple(gate.qubits)].error == properties.gate_error(gate.gate, gate.qubits)


def test_a_job_knows_the_calibration_of_its_run(device: GatewayBackend, simulator: GatewayBackend) -> None:
    job = device.run(transpile(bell(), device), shots=10)
    job.wait_for_final_state()
    properties = job.properties()
    assert properties is not None
    assert properties is job.properties()
    assert properties.backend_name == "local_noisy_5q"
    assert simulator.run(bell(), shots=1).properties() is None


def test_the_samplers_work_on_the_backend(simulator: GatewayBackend) -> None:
    theta = Parameter("theta")
    rotation = QuantumCircuit(2, 1)
    rotation.rx(theta, 0)
    rotation.measure(0, 0)
    values = [[0.0], [np.pi]]
    for sampler in (BackendSamplerV2(backend=simulator, options={"seed_simulator": 3}), SamplerV2(simulator)):
        first, second = sampler.run([(rotation, values), bell()], shots=200).result()
        assert first.data.c.get_counts(0) == {"0": 200}
        assert first.data.c.get_counts(1) == {"1": 200}
        assert set(second.data.meas.get_counts()) <= {"00", "11"}
    simulator.set_options(shots=33)
    assert SamplerV2(simulator).run([bell()]).result()[0].data.meas.num_shots == 33


def test_the_estimator_works_on_the_backend(simulator: GatewayBackend, device: GatewayBackend) -> None:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    observable = SparsePauliOp(["ZZ", "XX", "ZI"])
    for backend, tolerance in ((simulator, 0.2), (device, 0.6)):
        ready = transpile(circuit, backend, initial_layout=[0, 1], seed_transpiler=1)
        mapped = observable.apply_layout(ready.layout)
        estimator = BackendEstimatorV2(backend=backend, options={"seed_simulator": 3})
        value = estimator.run([(ready, mapped)], precision=0.05).result()[0].data.evs
        assert value == pytest.approx(2.0, abs=tolerance)


def test_twenty_bound_circuits_run_in_one_job(simulator: GatewayBackend) -> None:
    theta = Parameter("theta")
    rotation = QuantumCircuit(1, 1)
    rotation.rx(theta, 0)
    rotation.measure(0, 0)
    circuits = [rotation.assign_parameters({theta: np.pi * (number % 2)}) for number in range(20)]
    counts = simulator.run(circuits, shots=10).result().get_counts()
    assert counts == [{str(number % 2): 10} for number in range(20)]
