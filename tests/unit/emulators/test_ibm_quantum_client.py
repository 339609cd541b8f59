"""The emulator is faithful: the real client of the service works with it, unmodified, configured by environment alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.circuit import Parameter
from qiskit.quantum_info import SparsePauliOp

from tests.emulators.ibm_quantum.process import EmulatorProcess
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.support.waiting import wait_until

# What the client says about its own future is no error of ours.
pytestmark = pytest.mark.filterwarnings("ignore:The (Sampler|Estimator)V2 class is deprecated:DeprecationWarning")


@pytest.fixture(scope="module")
def runtime() -> Any:
    """The package of the client, which takes seconds to import."""
    import qiskit_ibm_runtime

    return qiskit_ibm_runtime


@pytest.fixture
def client_environment(emulator: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the environment says where the service is."""
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def service(runtime: Any, client_environment: None) -> Any:
    """The service as a program gets it that knows nothing of the emulator."""
    return runtime.QiskitRuntimeService()


@pytest.fixture
def backend(service: Any) -> Any:
    """A backend of the service."""
    return service.backend("ibm_alder")


def isa(backend: Any, circuit: QuantumCircuit) -> QuantumCircuit:
    """Return a circuit in the backend's instruction set."""
    return generate_preset_pass_manager(optimization_level=1, backend=backend).run(circuit)


def asymmetric() -> QuantumCircuit:
    """A circuit whose registers and bits cannot be mistaken for each other."""
    circuit = QuantumCircuit(4)
    circuit.add_register(*QuantumCircuit(0, 3).cregs)
    circuit.x(1)
    circuit.h(3)
    circuit.measure([0, 1, 3], [1, 0, 2])
    circuit.metadata = {"number": 7}
    return circuit


def ghz() -> QuantumCircuit:
    """A circuit without measurements."""
    circuit = QuantumCircuit(3)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.cx(1, 2)
    return circuit


def close_to(found: Any, stds: Any, exact: list[float]) -> bool:
    """Whether values are as exact as their standard errors promise."""
    return bool(np.all(np.abs(np.asarray(found) - exact) <= 5 * np.asarray(stds) + 0.02))


def test_the_service_starts_with_two_calls(service: Any, control: EmulatorControl) -> None:
    assert control.counts() == {"POST /identity/token": 1, "GET /backends": 1}
    assert [call["scheme"] for call in control.calls("GET /backends")] == ["Bearer"]
    assert service.usage()["usage_remaining_seconds"] == 100_000


def test_the_service_finds_instances_by_search(
    runtime: Any, emulator: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IAM_URL", emulator.url)
    monkeypatch.setenv("GLOBAL_SEARCH_URL", emulator.url)
    monkeypatch.setenv("GLOBAL_CATALOG_URL", f"{emulator.url}/api/v1")
    service = runtime.QiskitRuntimeService(
        token=emulator.api_key(),
        instance="alpha-premium",
        url=emulator.url,
        url_resolver=lambda url, *_: f"{url}/api/v1",
    )
    assert service.active_instance() == emulator.crn("alpha", 1)
    assert {item["name"]: item["plan"] for item in service.instances()} == {
        "alpha-open": "open",
        "alpha-premium": "premium",
    }
    assert emulator.control.counts()["POST /v3/resources/search"] == 1


def test_backends_have_targets_and_calibrations(service: Any) -> None:
    assert [backend.name for backend in service.backends()] == ["ibm_alder", "ibm_birch", "ibm_cedar"]
    assert service.least_busy(min_num_qubits=6).name == "ibm_birch"
    assert not service.backend("ibm_cedar").status().operational
    backend = service.backend("ibm_birch")
    assert backend.num_qubits == 7
    assert {"cz", "rz", "sx", "x", "measure", "reset", "delay", "if_else"} <= set(backend.target.operation_names)
    assert set(backend.target["cz"]) == {tuple(edge) for edge in backend.coupling_map.get_edges()}
    assert 0 < backend.target["cz"][0, 1].error < 0.1
    assert 1e-6 < backend.properties().t1(0) < 1e-3
    then = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert backend.properties(datetime=then).last_update_date == datetime(2026, 3, 1, 4, tzinfo=UTC)


def test_fractional_gates_are_there_for_those_who_ask(service: Any) -> None:
    assert {"rx", "rzz"} <= set(service.backend("ibm_alder", use_fractional_gates=True).target.operation_names)


def test_the_sampler_runs(runtime: Any, service: Any, backend: Any) -> None:
    circuit = isa(backend, asymmetric())
    job = runtime.SamplerV2(backend).run([(circuit, None, 200)])
    result = job.result()
    counts = result[0].data.c.get_counts()
    assert set(counts) == {"001", "101"}
    assert 60 < counts["001"] < 140
    assert result[0].metadata == {"circuit_metadata": {"number": 7}}
    assert result.metadata["execution"]["execution_spans"].pub_idxs == [0]
    assert job.status() == "DONE"
    assert job.inputs["pubs"][0][0] == circuit
    again = service.job(job.job_id())
    assert again.backend().name == "ibm_alder"
    assert again.result()[0].data.c.get_counts() == counts


def test_the_sampler_sweeps_parameters(runtime: Any, backend: Any) -> None:
    circuit = QuantumCircuit(1)
    circuit.rx(Parameter("theta"), 0)
    circuit.measure_all()
    job = runtime.SamplerV2(backend).run([(isa(backend, circuit), [[0.0], [np.pi], [0.0]])], shots=10)
    data = job.result()[0].data.meas
    assert data.shape == (3,)
    assert [data.get_int_counts(place) for place in range(3)] == [{0: 10}, {1: 10}, {0: 10}]


@pytest.mark.parametrize("twirled", [False, True])
def test_the_sampler_on_the_client_side_runs(runtime: Any, backend: Any, *, twirled: bool) -> None:
    from qiskit_ibm_runtime.executor_sampler import Sampler

    sampler = Sampler(backend)
    sampler.options.twirling.enable_gates = twirled
    sampler.options.twirling.enable_measure = twirled
    job = sampler.run([isa(backend, asymmetric())], shots=256)
    counts = job.result()[0].data.c.get_counts()
    assert set(counts) == {"001", "101"}
    assert sum(counts.values()) == 256
    assert 80 < counts["001"] < 176
    assert type(job.inputs["quantum_program"]).__name__ == "QuantumProgram"


def test_the_sampler_on_the_client_side_twirls_a_sweep(runtime: Any, backend: Any) -> None:
    from qiskit_ibm_runtime.executor_sampler import Sampler

    circuit = QuantumCircuit(2)
    circuit.rx(Parameter("theta"), 0)
    circuit.cx(0, 1)
    circuit.measure_all()
    sampler = Sampler(backend)
    sampler.options.twirling.enable_gates = True
    sampler.options.twirling.enable_measure = True
    sampler.options.twirling.num_randomizations = 4
    data = sampler.run([(isa(backend, circuit), [[0.0], [np.pi]])], shots=64).result()[0].data.meas
    assert [data.get_counts(place) for place in range(2)] == [{"00": 64}, {"11": 64}]


def test_the_estimator_runs(runtime: Any, backend: Any) -> None:
    circuit = isa(backend, ghz())
    observables = [SparsePauliOp(name).apply_layout(circuit.layout) for name in ("XXX", "ZZI", "IIZ")]
    result = runtime.EstimatorV2(backend).run([(circuit, observables)], precision=0.03).result()[0]
    assert close_to(result.data.evs, result.data.stds, [1, 1, 0])
    assert result.metadata["target_precision"] == 0.03


@pytest.mark.parametrize("mitigated", [False, True])
def test_the_estimator_on_the_client_side_runs(runtime: Any, backend: Any, *, mitigated: bool) -> None:
    from qiskit_ibm_runtime.executor_estimator import Estimator

    circuit = isa(backend, ghz())
    observables = [SparsePauliOp(name).apply_layout(circuit.layout) for name in ("XXX", "ZZI", "IIZ")]
    estimator = Estimator(backend)
    estimator.options.resilience.measure_mitigation = mitigated
    estimator.options.twirling.enable_gates = mitigated
    result = estimator.run([(circuit, observables)], precision=0.05).result()[0]
    assert close_to(result.data.evs, result.data.ensemble_standard_error, [1, 1, 0])


def test_measurement_errors_are_mitigated_on_noisy_devices(
    runtime: Any, backend: Any, control: EmulatorControl
) -> None:
    from qiskit_ibm_runtime.executor_estimator import Estimator

    control.settings(noise=True)
    circuit = isa(backend, ghz())
    observable = SparsePauliOp("ZZI").apply_layout(circuit.layout)
    result = Estimator(backend).run([(circuit, observable)], precision=0.05).result()[0]
    assert 0.8 < float(result.data.evs) < 1.1


def test_a_job_is_followed_on_its_way(runtime: Any, service: Any, backend: Any, control: EmulatorControl) -> None:
    control.settings(manual=True)
    sampler = runtime.SamplerV2(backend)
    sampler.options.environment.job_tags = ["one", "two"]
    job = sampler.run([isa(backend, asymmetric())], shots=10)
    assert job.status() == "QUEUED"
    assert job.tags == ["one", "two"]
    assert job.usage_estimation == {"quantum_seconds": 1.5}
    assert job.usage() == 0
    control.advance(job.job_id(), "Running")
    assert job.status() == "RUNNING"
    control.advance(job.job_id(), "Completed")
    job.wait_for_final_state(timeout=10)
    assert job.status() == "DONE"
    assert job.usage() == job.metrics()["usage"]["qpu_charge_time_seconds"] == 1
    assert job.metrics()["timestamps"]["finished"]
    assert "ran sampler" in job.logs()
    assert abs(job.creation_date - datetime.now(UTC)) < timedelta(minutes=5)
    assert job.properties().backend_name == "ibm_alder"
    job.update_tags(["three"])
    assert job.tags == ["three"]
    service.delete_job(job.job_id())
    with pytest.raises(runtime.RuntimeJobNotFound):
        service.job(job.job_id())


def test_a_job_is_cancelled_once(runtime: Any, backend: Any, control: EmulatorControl) -> None:
    control.settings(manual=True)
    job = runtime.SamplerV2(backend).run([isa(backend, asymmetric())])
    job.cancel()
    assert job.status() == "CANCELLED"
    with pytest.raises(runtime.RuntimeInvalidStateError):
        job.cancel()
    with pytest.raises(runtime.RuntimeInvalidStateError):
        job.result()


def test_a_job_fails_with_the_reason_of_the_service(runtime: Any, backend: Any, control: EmulatorControl) -> None:
    control.settings(manual=True)
    job = runtime.SamplerV2(backend).run([isa(backend, asymmetric())])
    control.advance(job.job_id(), "Failed", reason="It broke.", code=9999, solution="Try again.")
    assert job.status() == "ERROR"
    assert "Error code 9999; It broke." in job.error_message()
    with pytest.raises(runtime.RuntimeJobFailureError, match="It broke"):
        job.result()


def test_a_job_that_runs_too_long_is_an_error(runtime: Any, backend: Any, control: EmulatorControl) -> None:
    control.settings(run_seconds=60)
    sampler = runtime.SamplerV2(backend)
    sampler.options.max_execution_time = 1
    job = sampler.run([isa(backend, asymmetric())])
    wait_until(lambda: job.status() == "ERROR", every=0.1)
    with pytest.raises(runtime.RuntimeJobMaxTimeoutError, match="1305"):
        job.result()


def test_jobs_are_listed_by_all_filters(runtime: Any, service: Any, backend: Any, control: EmulatorControl) -> None:
    control.settings(manual=True)
    circuit = isa(backend, asymmetric())
    jobs = []
    for number in range(23):
        sampler = runtime.SamplerV2(backend)
        sampler.options.environment.job_tags = ["all", f"number {number}"]
        jobs.append(sampler.run([circuit]).job_id())
    control.advance(jobs[0], "Completed")

    def listed(**filters: Any) -> list[str]:
        return [job.job_id() for job in service.jobs(**filters)]

    assert listed() == jobs[:-11:-1]
    assert listed(limit=None) == jobs[::-1]
    assert listed(limit=5, skip=20) == jobs[2::-1]
    assert listed(limit=None, pending=True) == jobs[:0:-1]
    assert listed(pending=False) == jobs[:1]
    assert listed(job_tags=["all", "number 3"]) == [jobs[3]]
    assert listed(job_tags=["number 2", "number 3"]) == []
    assert listed(backend_name="ibm_birch") == []
    assert listed(program_id="sampler", limit=1, descending=False) == jobs[:1]
    assert listed(created_after=datetime.now(UTC) + timedelta(hours=1)) == []
    assert control.counts()["POST /jobs"] == len(control.jobs()) == 23


def test_a_session_and_a_batch_are_used_and_closed(runtime: Any, service: Any, backend: Any) -> None:
    circuit = isa(backend, asymmetric())
    for kind, mode in ((runtime.Session, "dedicated"), (runtime.Batch, "batch")):
        with kind(backend, max_time="10m") as session:
            sampler = runtime.SamplerV2(mode=session)
            job = sampler.run([circuit], shots=10)
            assert job.session_id == session.session_id
            job.result()
            assert session.details()["mode"] == mode
            assert session.details()["max_time"] == 600
        assert session.status() == "Closed"
        assert session.usage() >= 0
        assert [item.job_id() for item in service.jobs(session_id=session.session_id)] == [job.job_id()]
        again = kind.from_id(session.session_id, service)
        assert again.session_id == session.session_id


def test_cancelling_a_session_cancels_its_jobs(runtime: Any, backend: Any, control: EmulatorControl) -> None:
    control.settings(manual=True)
    session = runtime.Session(backend)
    job = runtime.SamplerV2(mode=session).run([isa(backend, asymmetric())])
    session.cancel()
    assert job.status() == "CANCELLED"
    assert session.status() == "Closed"


def test_a_private_job_gives_its_result_once(runtime: Any, backend: Any) -> None:
    sampler = runtime.SamplerV2(backend)
    sampler.options.environment.private = True
    job = sampler.run([isa(backend, asymmetric())], shots=10)
    assert job.private
    assert sum(job.result()[0].data.c.get_counts().values()) == 10
    with pytest.raises(runtime.api.exceptions.RequestsApiError, match="not found"):
        job.result()


def test_a_dry_run_goes_to_the_mock(runtime: Any, service: Any, backend: Any, control: EmulatorControl) -> None:
    from qiskit_ibm_runtime.executor_sampler import Sampler

    Sampler(backend).run([isa(backend, asymmetric())], shots=10, dry_run=True).result()
    assert [job["backend"] for job in control.jobs()] == ["mock_alder"]
    assert service.jobs() == []


def test_errors_of_the_service_reach_the_program(runtime: Any, backend: Any, control: EmulatorControl) -> None:
    sampler, circuit = runtime.SamplerV2(backend), isa(backend, asymmetric())
    control.fault("POST /jobs", "respond", status=409, code=4317, message="The usage exceeds the limit.")
    with pytest.raises(runtime.IBMRuntimeError, match="The usage exceeds the limit"):
        sampler.run([circuit])
    control.expire_tokens()
    with pytest.raises(runtime.exceptions.IBMNotAuthorizedError):
        sampler.run([circuit])


def test_a_submission_whose_answer_is_lost_is_doubled_by_this_client(
    runtime: Any, backend: Any, control: EmulatorControl
) -> None:
    control.fault("POST /jobs", "respond", status=503, when="after")
    runtime.SamplerV2(backend).run([isa(backend, asymmetric())], shots=10).result()
    assert len(control.jobs()) == 2
