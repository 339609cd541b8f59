"""What is kept of runs at IBM Quantum beside their results: metrics, cost and calibration, from the store."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from qgateway import GatewayProvider
from qgateway.v1 import backend_pb2, job_pb2, job_service_pb2
from qiskit.providers import JobStatus

from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import wait_until
from tests.support.wire import BELL, Wire, connected

OPTIONS = job_pb2.RunOptions(shots=10, transpile=job_pb2.TRANSPILE_LEVEL_1)


@pytest.fixture
def wire(ibm_gateway: GatewayProcess) -> Iterator[Wire]:
    with connected(ibm_gateway) as made:
        yield made


def submit(wire: Wire) -> job_pb2.Job:
    return wire.submit(BELL, "ibm_alder", account="accounts/alpha", options=OPTIONS)


def metrics(wire: Wire, job: job_pb2.Job) -> job_service_pb2.GetJobMetricsResponse:
    request = job_service_pb2.GetJobMetricsRequest(name=job.name)
    answer: job_service_pb2.GetJobMetricsResponse = wire.jobs.GetJobMetrics(request, metadata=wire.metadata, timeout=20)
    return answer


def properties(wire: Wire, job: job_pb2.Job) -> backend_pb2.BackendProperties:
    request = job_service_pb2.GetJobBackendPropertiesRequest(name=job.name)
    answer: backend_pb2.BackendProperties = wire.jobs.GetJobBackendProperties(
        request, metadata=wire.metadata, timeout=20
    ).properties
    return answer


def rows(folder: Path, table: str) -> int:
    with closing(sqlite3.connect(f"file:{folder}/store/qgateway.db?mode=ro", uri=True)) as database:
        count: int = database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - a name of the test
        return count


def test_metrics_and_calibration_are_told_after_the_provider_forgot_the_job(
    wire: Wire, control: EmulatorControl, tmp_path: Path
) -> None:
    jobs = [submit(wire) for _ in range(5)]
    for job in jobs:
        done = wire.finish(job.name)
        assert done.usage.charged_qpu_time.seconds > 0
        assert done.usage.estimated_qpu_time.ToNanoseconds() > 0
    wait_until(lambda: rows(tmp_path, "records") == len(jobs))
    assert (rows(tmp_path, "calibrations"), rows(tmp_path, "records_due")) == (1, 0)
    for job in jobs:
        control.forget(job.provider_job_id)
    control.clear_calls()
    told = metrics(wire, jobs[0])
    assert told.provider_metrics["usage_status"] == "complete"
    assert told.provider_metrics["qiskit_version"] == "2.6.2"
    assert {step.status for step in told.steps} >= {job_pb2.JOB_STATUS_RUNNING, job_pb2.JOB_STATUS_DONE}
    kept = properties(wire, jobs[0])
    assert (kept.backend_id, len(kept.qubits) > 0, len(kept.gates) > 0) == ("ibm_alder", True, True)
    assert not control.calls("GET /jobs/{job_id}/metrics")
    assert not control.calls("GET /backends/{backend}/properties")
    for job in jobs:
        request = job_service_pb2.DeleteJobRequest(name=job.name)
        wire.jobs.DeleteJob(request, metadata=wire.metadata, timeout=10)
    assert (rows(tmp_path, "records"), rows(tmp_path, "calibrations")) == (0, 0)


def test_a_job_is_done_before_its_record_which_is_made_even_after_a_restart(
    ibm_gateway: GatewayProcess, control: EmulatorControl, tmp_path: Path
) -> None:
    control.settings(manual=True)
    with connected(ibm_gateway) as wire:
        job = submit(wire)
        control.fault("GET /backends/{backend}/properties", "respond", status=503, times=None)
        control.advance(job.provider_job_id, "Completed")
        job = wire.finish(job.name)
        assert job.status == job_pb2.JOB_STATUS_DONE
    ibm_gateway.kill()
    assert (rows(tmp_path, "records"), rows(tmp_path, "records_due")) == (0, 1)
    control.clear_faults()
    ibm_gateway.start()
    wait_until(lambda: rows(tmp_path, "records") == 1)
    with connected(ibm_gateway) as wire:
        assert metrics(wire, job).provider_metrics["usage_status"] == "complete"
        assert properties(wire, job).backend_id == "ibm_alder"


def test_a_job_that_the_provider_does_not_know_for_a_moment_has_its_whole_record_all_the_same(
    wire: Wire, control: EmulatorControl, tmp_path: Path
) -> None:
    control.settings(manual=True)
    job = submit(wire)
    control.fault(
        "GET /jobs/{job_id}/metrics", "respond", status=404, times=2
    )  # as the end is seen, and for the record
    control.fault("GET /backends/{backend}/properties", "respond", status=404)
    control.advance(job.provider_job_id, "Completed")
    wire.finish(job.name)
    wait_until(lambda: rows(tmp_path, "records") == 1)
    assert all(fault["hits"] for fault in control.faults())
    control.forget(job.provider_job_id)
    assert metrics(wire, job).provider_metrics["usage_status"] == "complete"
    assert properties(wire, job).backend_id == "ibm_alder"


def test_steps_and_cost_are_told_while_the_provider_is_away(wire: Wire, control: EmulatorControl) -> None:
    control.settings(manual=True)
    job = submit(wire)
    control.fault("*", "respond", status=503, times=None)
    told = metrics(wire, job)
    assert [step.status for step in told.steps] == [job_pb2.JOB_STATUS_INITIALIZING, job_pb2.JOB_STATUS_QUEUED]
    assert not told.provider_metrics


def test_a_cancelled_job_has_a_record_too(wire: Wire, control: EmulatorControl, tmp_path: Path) -> None:
    control.settings(manual=True)
    job = submit(wire)
    control.advance(job.provider_job_id, "Cancelled")
    wire.finish(job.name)
    wait_until(lambda: rows(tmp_path, "records") == 1)
    control.forget(job.provider_job_id)
    assert "ended_at" in metrics(wire, job).provider_metrics
    assert properties(wire, job).backend_id == "ibm_alder"


def test_the_python_client_gets_answers_for_all_that_the_provider_or_the_gateway_knows(
    ibm_gateway: GatewayProcess, control: EmulatorControl
) -> None:
    control.settings(manual=True, queue_positions=True)
    with GatewayProvider(ibm_gateway.target, ibm_gateway.api_key) as provider:
        backend = provider.get_backend("ibm_alder")
        first = backend.run(BELL, shots=10, transpile=1)
        job = backend.run(BELL, shots=10, transpile=1, job_name="second of two")
        assert job.status() == JobStatus.QUEUED
        assert job.queue_position(refresh=True) == 1
        info = job.queue_info()
        assert info is not None
        assert (info.position, info.job_id) == (1, job.job_id())
        assert info.estimated_start_time is not None
        assert info.estimated_complete_time is not None
        assert info.estimated_complete_time > info.estimated_start_time
        assert (job.name(), job.scheduling_mode()) == ("second of two", "job")
        wait_until(lambda: (job.refresh(), job.usage_estimation["quantum_seconds"])[1])
        assert job.client_version["qiskit"]
        assert job.client_version["qgateway"]
        for each in (first, job):
            upstream = provider.retrieve_job(each.job_id()).provider_job_id_
            control.advance(upstream, "Completed")
        job.wait_for_final_state(timeout=60)
        steps = job.time_per_step()
        assert steps is not None
        reached = [steps[name] for name in ("INITIALIZING", "QUEUED", "RUNNING", "DONE")]
        assert reached == sorted(reached)
        assert job.queue_info() is None
        again = provider.retrieve_job(job.job_id())
        assert (again.name(), again.usage_estimation, again.client_version) == (
            job.name(),
            job.usage_estimation,
            job.client_version,
        )
        calibration = again.properties()
        assert calibration is not None
        assert calibration.backend_name == "ibm_alder"
